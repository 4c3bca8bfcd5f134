//! Leases: copied to the quarantine, released, put back, always under the lock of their directory.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipam::{Store, StoreError};

use crate::files::{self, Unsynced};
use crate::journal::Outcome;

/// How long an ADD or DEL may hold a network's lock before we leave its leases alone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a lease could not be touched.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The path is not `<directory>/<address>`.
    #[error("{0} is not a lease")]
    NoLease(String),
    /// The directory or a file in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The quarantine.
    #[error("cannot write the copy: {0}")]
    Quarantine(#[from] std::io::Error),
}

/// What there is where a lease is to be put back.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// It was free, and has the lease now.
    Restored,
    /// It has the same lease.
    Same,
    /// It has another one, with this content.
    Taken(String),
}

/// The directory of a lease, locked, and its address.
fn open(path: &Path) -> Result<(Store, IpAddr), LeaseError> {
    let address = path.file_name().and_then(|name| name.to_str()?.parse().ok());
    match (path.parent(), address) {
        (Some(directory), Some(address)) => Ok((Store::within(directory, PATIENCE)?, address)),
        _ => Err(LeaseError::NoLease(path.display().to_string())),
    }
}

/// Copies a lease to the quarantine, if it has this content; the copy is to be synced.
pub fn save(path: &Path, content: &str, quarantine: &Path, unsynced: &mut Unsynced) -> Outcome {
    outcome(path, || {
        let (store, address) = open(path)?;
        match store.lease(address)? {
            None => Ok(Outcome::AlreadyGone),
            Some(lease) if lease.content == content => {
                files::keep(path, quarantine, content.as_bytes(), unsynced)?;
                Ok(Outcome::Done)
            }
            Some(lease) => Ok(changed(path, &lease.content)),
        }
    })
}

/// Releases a lease, if it has this content; its directory is to be synced.
pub fn release(path: &Path, content: &str, unsynced: &mut Unsynced) -> Outcome {
    outcome(path, || {
        let (store, address) = open(path)?;
        match store.lease(address)? {
            None => Ok(Outcome::AlreadyGone),
            Some(_) if store.remove(address, content)? => {
                unsynced.directory(store.path());
                Ok(Outcome::Done)
            }
            Some(lease) => Ok(changed(path, &lease.content)),
        }
    })
}

/// Puts a lease back where it was, unless the address was given to somebody else.
pub fn restore(path: &Path, content: &[u8]) -> Result<Place, LeaseError> {
    let (store, address) = open(path)?;
    if store.put(address, content)? {
        store.sync()?;
        return Ok(Place::Restored);
    }
    let found = store.lease(address)?.map(|lease| lease.content).unwrap_or_default();
    Ok(if found.as_bytes() == content { Place::Same } else { Place::Taken(found) })
}

fn changed(path: &Path, content: &str) -> Outcome {
    let owner: String = content.lines().next().unwrap_or_default().chars().take(64).collect();
    Outcome::Changed { why: format!("{} belongs to {owner:?} by now", path.display()) }
}

fn outcome(path: &Path, work: impl FnOnce() -> Result<Outcome, LeaseError>) -> Outcome {
    match work() {
        Ok(outcome) => outcome,
        Err(LeaseError::Store(error)) if error.is_missing() => Outcome::AlreadyGone,
        Err(error) => Outcome::Failed { why: format!("{}: {error}", path.display()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(content: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("10.0.0.2");
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    fn let_go(path: &Path) -> Outcome {
        release(path, "mine\r\neth0", &mut Unsynced::default())
    }

    #[test]
    fn a_lease_goes_to_the_quarantine_and_back() {
        let (dir, path) = lease("mine\r\neth0");
        let quarantine = dir.path().join("quarantine");
        assert_eq!(save(&path, "mine\r\neth0", &quarantine, &mut Unsynced::default()), Outcome::Done);
        assert_eq!(let_go(&path), Outcome::Done);
        assert_eq!(let_go(&path), Outcome::AlreadyGone);
        let copy = std::fs::read(quarantine.join("10.0.0.2")).unwrap();
        assert_eq!(restore(&path, &copy).unwrap(), Place::Restored);
        assert_eq!(restore(&path, &copy).unwrap(), Place::Same);
        assert_eq!(std::fs::read(&path).unwrap(), b"mine\r\neth0");
    }

    #[test]
    fn a_lease_that_was_given_to_another_container_stays() {
        let (dir, path) = lease("other\r\neth0");
        assert!(matches!(
            save(&path, "mine\r\neth0", dir.path(), &mut Unsynced::default()),
            Outcome::Changed { .. }
        ));
        assert!(matches!(let_go(&path), Outcome::Changed { .. }));
        assert_eq!(restore(&path, b"mine\r\neth0").unwrap(), Place::Taken("other\r\neth0".into()));
        assert_eq!(std::fs::read(&path).unwrap(), b"other\r\neth0");
    }

    #[test]
    fn while_an_add_holds_the_lock_nothing_is_touched() {
        let (dir, path) = lease("mine\r\neth0");
        let add = Store::within(dir.path(), Duration::ZERO).unwrap();
        let outcome = let_go(&path);
        assert!(matches!(&outcome, Outcome::Failed { why } if why.contains("lock")), "{outcome:?}");
        drop(add);
        assert_eq!(let_go(&path), Outcome::Done);
    }

    #[test]
    fn a_symlink_in_place_of_a_lease_or_its_directory_is_not_followed() {
        let (dir, precious) = lease("mine\r\neth0");
        let link = dir.path().join("10.0.0.3");
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        assert_eq!(let_go(&link), Outcome::AlreadyGone);
        let elsewhere = tempfile::tempdir().unwrap();
        let linked = elsewhere.path().join("net");
        std::os::unix::fs::symlink(dir.path(), &linked).unwrap();
        assert!(matches!(let_go(&linked.join("10.0.0.2")), Outcome::Failed { .. }));
        assert!(precious.exists() && link.is_symlink());
    }
}
