//! The way back: leases and cache entries from the quarantine. What the kernel had is gone for good, and said to be.

use std::collections::HashSet;
use std::path::Path;

use analyze::plan::Operation;
use model::TakeoverEvent;
use serde::Serialize;

use crate::Error;
use crate::files;
use crate::journal::{Entry, Event, Journal, Outcome, Store};
use crate::leases::{self, Place};

/// What `undo` did about one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undone {
    /// The operation's id.
    pub id: String,
    /// What the operation was about.
    pub object: String,
    /// What became of it.
    #[serde(flatten)]
    pub result: Reversal,
}

/// Whether an operation could be reversed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Reversal {
    /// It is as it was.
    Restored,
    /// It was as it had been already.
    NothingToDo {
        /// Why.
        why: String,
    },
    /// It cannot be put back, now or ever.
    Impossible {
        /// Why.
        why: String,
    },
}

/// Reverses one operation or takeover (`RUN.N`), or all of a run (`RUN`), the last first.
pub fn undo(store: &Store, id: &str) -> Result<Vec<Undone>, Error> {
    let mut journal = store.open()?;
    let entries = store.read()?;
    let is_meant = |entry: &&Entry| {
        entry.id == id || entry.id.strip_prefix(id).is_some_and(|rest| rest.starts_with('.'))
    };
    let begun: Vec<(&str, &Operation)> = entries
        .iter()
        .filter(is_meant)
        .filter_map(|entry| match &entry.event {
            Event::Begun { step } => Some((entry.id.as_str(), &step.operation)),
            _ => None,
        })
        .collect();
    if begun.is_empty() {
        let undone = undo_takeovers(store, &mut journal, id)?;
        let found = !undone.is_empty();
        return if found { Ok(undone) } else { Err(Error::NoSuchId { id: id.to_owned() }) };
    }
    let whole_run = !begun.iter().any(|(begun, _)| *begun == id);
    let copied: HashSet<&Path> = begun.iter().filter_map(|(_, operation)| operation.copied()).collect();
    let mut undone = Vec::new();
    for (id, operation) in begun.into_iter().rev() {
        // A copy restores what the removal of the same run took; of a whole run, once is enough.
        if whole_run && is_restored_by_copy(operation, &copied) {
            continue;
        }
        let outcome = entries.iter().find_map(|entry| match &entry.event {
            Event::Ended { outcome } if entry.id == id => Some(outcome),
            _ => None,
        });
        let result = reverse(&mut journal, &entries, id, operation, outcome)?;
        undone.push(Undone { id: id.to_owned(), object: operation.object(), result });
    }
    Ok(undone)
}

/// Whether it removed a file of which the same run has made a copy.
fn is_restored_by_copy(operation: &Operation, copied: &HashSet<&Path>) -> bool {
    let path = match operation {
        Operation::RemoveLease { path, .. }
        | Operation::RemoveCache { path, .. }
        | Operation::RemoveRecord { path, .. } => path,
        _ => return false,
    };
    copied.contains(path.as_path())
}

fn reverse(
    journal: &mut Journal,
    entries: &[Entry],
    id: &str,
    operation: &Operation,
    outcome: Option<&Outcome>,
) -> Result<Reversal, Error> {
    let impossible = |why: &str| Ok(Reversal::Impossible { why: why.to_owned() });
    match operation {
        Operation::SaveLease { path, .. } | Operation::RemoveLease { path, .. } => {
            let Some(copy) = copy_of(journal.store(), entries, id, path) else {
                return impossible("the quarantine has no copy of it");
            };
            restore_lease(journal, id, path, &copy)
        }
        Operation::SaveRecord { path, .. }
        | Operation::SaveCache { path, .. }
        | Operation::RemoveCache { path, .. } => match copy_of(journal.store(), entries, id, path) {
            Some(copy) => restore(journal, id, path, &copy),
            None => impossible("the quarantine has no copy of it"),
        },
        Operation::RemoveRecord { path, .. } if copy_of(journal.store(), entries, id, path).is_some() => {
            let copy = copy_of(journal.store(), entries, id, path).unwrap_or_default();
            restore(journal, id, path, &copy)
        }
        _ if !matches!(outcome, Some(Outcome::Done)) => {
            Ok(Reversal::NothingToDo { why: "it changed nothing".to_owned() })
        }
        Operation::ReplayDel { .. } => impossible("what the plugins removed from the kernel ended with it"),
        Operation::RemoveLink(link) => {
            impossible(&format!("{} and its other end are gone; only a new ADD makes new ones", link.name))
        }
        Operation::Unpin { .. } => impossible("the namespace ended when its last pin went"),
        Operation::RemoveElements { .. } => impossible("the next ADD of these addresses makes them again"),
        Operation::RemoveRules { rules } => {
            journal.write(id, Event::Undone { path: rules.to_string().into() })?;
            Ok(crate::rules::restore(rules))
        }
        Operation::ForgetFlows { .. } => impossible("what its client sends next is a new connection"),
        Operation::RemoveRecord { .. } => {
            impossible("the record described a namespace and a veth that are gone")
        }
        Operation::RemoveStaleFile { path, .. } => restore(journal, id, path, b""),
    }
}

/// Puts back leases of an earlier boot that plugins gave to somebody else, where these have them no more.
fn undo_takeovers(store: &Store, journal: &mut Journal, id: &str) -> Result<Vec<Undone>, Error> {
    let mut undone = Vec::new();
    for takeover in store.takeovers()?.iter().rev() {
        let is_meant =
            takeover.id == id || takeover.id.strip_prefix(id).is_some_and(|rest| rest.starts_with('.'));
        let TakeoverEvent::TakeoverBegun { lease_dir, address, content, .. } = &takeover.event else {
            continue;
        };
        if is_meant {
            let path = lease_dir.join(address.to_string());
            let result = restore_lease(journal, &takeover.id, &path, content.as_bytes())?;
            undone.push(Undone { id: takeover.id.clone(), object: path.display().to_string(), result });
        }
    }
    Ok(undone)
}

fn restore_lease(journal: &mut Journal, id: &str, path: &Path, copy: &[u8]) -> Result<Reversal, Error> {
    // In the journal first: undone twice does no harm, undone unknown does.
    journal.write(id, Event::Undone { path: path.to_owned() })?;
    Ok(match leases::restore(path, copy) {
        Ok(Place::Restored) => Reversal::Restored,
        Ok(Place::Same) => same(),
        Ok(Place::Taken(content)) => {
            let owner: String = content.lines().next().unwrap_or_default().chars().take(64).collect();
            Reversal::Impossible { why: format!("the address belongs to {owner:?} by now") }
        }
        Err(error) => Reversal::Impossible { why: error.to_string() },
    })
}

/// The copy that the operation's run made of `path`.
fn copy_of(store: &Store, entries: &[Entry], id: &str, path: &Path) -> Option<Vec<u8>> {
    let run = id.rsplit_once('.')?.0;
    let saved = entries.iter().find(|entry| {
        let of_run = entry.id.rsplit_once('.').is_some_and(|(other, _)| other == run);
        let of_path = match &entry.event {
            Event::Begun { step } => step.operation.copied() == Some(path),
            _ => false,
        };
        of_run && of_path
    })?;
    files::read(&store.quarantine(&saved.id).join(path.file_name()?)).ok()?
}

fn same() -> Reversal {
    Reversal::NothingToDo { why: "it is there, with the same content".to_owned() }
}

fn restore(journal: &mut Journal, id: &str, path: &Path, copy: &[u8]) -> Result<Reversal, Error> {
    match files::read(path) {
        Ok(Some(found)) if found == copy => return Ok(same()),
        Ok(Some(_)) => return Ok(Reversal::Impossible { why: "there is another one by now".to_owned() }),
        Ok(None) => {}
        Err(error) => return Ok(Reversal::Impossible { why: format!("{}: {error}", path.display()) }),
    }
    journal.write(id, Event::Undone { path: path.to_owned() })?;
    match files::write_new(path, copy) {
        Ok(()) => Ok(Reversal::Restored),
        Err(error) => Ok(Reversal::Impossible { why: format!("{}: {error}", path.display()) }),
    }
}
