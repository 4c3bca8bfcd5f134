//! Going on where a run was killed.
//!
//! Nearly everything is found again by looking, since what names an orphan is removed last. What is not is finished here: a pin
//! that was unmounted and whose file is still there looks like anybody's empty file.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use analyze::plan::Operation;
use model::Timestamp;

use crate::files;
use crate::journal::{Entry, Event, Journal, Outcome};
use crate::{Applied, Error};

/// Finishes what killed runs of this boot began and cannot be found by looking.
pub fn resume(journal: &mut Journal) -> Result<Vec<Applied>, Error> {
    let entries = journal.store().read()?;
    let ended: HashSet<&str> = entries.iter().filter(|entry| is_end(entry)).map(|entry| &*entry.id).collect();
    let mut finished = Vec::new();
    for entry in entries.iter().filter(|entry| entry.boot_id == *journal.boot_id()) {
        let Event::Begun { step } = &entry.event else { continue };
        let Operation::Unpin { path, .. } = &step.operation else { continue };
        if ended.contains(entry.id.as_str()) || !is_left(path, entry.at) {
            continue;
        }
        let outcome = match std::fs::remove_file(path) {
            Ok(()) => Outcome::Done,
            Err(error) => files::failed(path, error),
        };
        finished.push(Applied { id: entry.id.clone(), step: (**step).clone(), outcome });
    }
    for applied in &finished {
        journal.write(&applied.id, Event::Ended { outcome: applied.outcome.clone() })?;
    }
    Ok(finished)
}

fn is_end(entry: &Entry) -> bool {
    matches!(entry.event, Event::Ended { .. })
}

/// Whether this is the empty file on which the pin was mounted, and not one that was made since, for another.
fn is_left(path: &Path, begun: Timestamp) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(stat) = std::fs::symlink_metadata(path) else { return false };
    let on_directory = || -> io::Result<bool> {
        let directory = path.parent().ok_or(io::ErrorKind::NotFound)?;
        Ok(std::fs::metadata(directory)?.dev() == stat.dev())
    };
    let is_older = Timestamp::from_stat(stat.ctime(), stat.ctime_nsec()) < begun;
    stat.is_file() && stat.len() == 0 && is_older && on_directory().unwrap_or(false)
}
