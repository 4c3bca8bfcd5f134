//! A journal that was cut at any byte, as a crash or a full disk leaves it.

use std::path::Path;

use analyze::plan::{Operation, Plan, Step};
use podplumb_reclaim::undo::Reversal;
use podplumb_reclaim::{Error, Outcome, Store, Surroundings, apply, undo};

const LEASE: &str = "mine\r\neth0";

/// Reclaims a lease, and returns the run's id.
fn reclaim(store: &Store, lease: &Path) -> String {
    let (path, content) = (lease.to_owned(), LEASE.to_owned());
    let operations = [
        Operation::SaveLease { path: path.clone(), content: content.clone() },
        Operation::RemoveLease { path, content },
    ];
    let steps = operations.map(|operation| Step { target: "mine".into(), operation }).to_vec();
    let plan = Plan { boot_id: sys::boot_id().unwrap(), steps };
    let mut journal = store.open().unwrap();
    let run = journal.run().to_owned();
    let applied = apply(&plan, &mut journal, &Surroundings { plugin_dirs: Vec::new() }, |_| {}).unwrap();
    assert!(applied.iter().all(|applied| applied.outcome == Outcome::Done), "{applied:?}");
    run
}

#[test]
fn what_is_whole_of_it_can_be_read_undone_and_continued() {
    let directory = tempfile::tempdir().unwrap();
    let (state, leases) = (directory.path().join("state"), directory.path().join("leases"));
    std::fs::create_dir(&leases).unwrap();
    let (lease, store) = (leases.join("10.0.0.2"), Store::at(&state));
    std::fs::write(&lease, LEASE).unwrap();
    let run = reclaim(&store, &lease);
    assert!(!lease.exists());
    let whole = std::fs::read(state.join("journal")).unwrap();
    assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 4);
    let copy_is_begun = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in 0..=whole.len() {
        std::fs::write(state.join("journal"), &whole[..length]).unwrap();
        let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(store.read().unwrap().len(), lines, "{length}");
        // The rest waits for the disk.
        if !length.is_multiple_of(29) && whole[..length].last() != Some(&b'\n') {
            continue;
        }
        match undo(&store, &run) {
            Ok(undone) => {
                assert!(
                    length >= copy_is_begun && undone[0].result == Reversal::Restored,
                    "{length}: {undone:?}"
                );
                assert_eq!(std::fs::read(&lease).unwrap(), LEASE.as_bytes());
            }
            Err(Error::NoSuchId { .. }) => assert!(length < copy_is_begun, "{length}"),
            Err(error) => panic!("{length}: {error}"),
        }
        // The next run goes on in a new line.
        std::fs::write(&lease, LEASE).unwrap();
        reclaim(&store, &lease);
        assert!(store.read().unwrap().len() >= lines + 4, "{length}");
    }
}

#[test]
fn a_line_in_the_middle_that_cannot_be_read_stops_it_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::at(directory.path());
    std::fs::write(directory.path().join("journal"), "{\"id\":\n\0\0\0\0\n").unwrap();
    let mut journal = store.open().unwrap();
    let error = podplumb_reclaim::resume(&mut journal).unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
}
