//! How much, and by how many at the same time.

use std::process::{Command, Stdio};

use podplumb_tests::{binaries, output, require, wait_until};

use crate::leak::{journal, pinned, podplumb};

const NEEDS: [&str; 1] = ["ip"];

#[test]
fn above_the_limit_nothing_at_all_is_done() {
    if !require(&NEEDS) {
        return;
    }
    let _world = crate::leak::alone();
    let leaked: Vec<_> = (0..3).map(pinned).collect();
    let podplumb = podplumb();
    let dry = podplumb.run(&["reclaim", "--grace", "0s", "--max", "2"]);
    assert_eq!(dry.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&dry.stderr).contains("--apply will refuse"), "{dry:?}");
    // It would have to wait a minute before it finds out, if it did not find out at once.
    let refused = podplumb.run(&["reclaim", "--apply", "--grace", "0s", "--max", "2"]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    // Other tests' namespaces are on this machine as well.
    for part in
        ["remove 3 of ", " namespaces (limit 2)", "3 of 3 veths (limit 2)", "nothing was changed", "--max N"]
    {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert!(leaked.iter().all(|leaked| leaked.is_whole()) && journal().is_empty());
    podplumb.expect(0, &["reclaim", "--apply", "--grace", "0s", "--max", "3"]);
    assert!(leaked.iter().all(|leaked| leaked.is_gone()));
}

#[test]
fn a_second_reclaim_and_an_undo_refuse_while_one_waits_and_name_it() {
    if !require(&NEEDS) {
        return;
    }
    let _world = crate::leak::alone();
    let leaked = pinned(0);
    std::thread::sleep(std::time::Duration::from_millis(6100));
    let mut first = Command::new(binaries().join("podplumb"))
        .args(["reclaim", "--apply", "--grace", "6s", "--runtime", "none"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("podplumb");
    let lock = std::path::Path::new("/var/lib/podplumb/journal");
    wait_until("the first has the lock", || sys::line_writer(lock) == Some(first.id()));
    for command in [&["reclaim", "--apply", "--grace", "0s", "--runtime", "none"][..], &["undo", "x.1"]] {
        let refused = output(binaries().join("podplumb"), command);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        let names_it = stderr.contains(&format!("(pid {})", first.id()));
        assert!(names_it && stderr.contains("hint: wait until it ends"), "{stderr}");
    }
    assert!(leaked.is_whole(), "the second did nothing");
    assert!(first.wait().expect("it ends").success());
    assert!(leaked.is_gone(), "and the first was not disturbed");
}
