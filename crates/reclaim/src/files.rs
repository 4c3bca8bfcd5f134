//! Cache entries and the quarantine: files that are copied, removed and put back.
//!
//! All paths come from disk, so no symlink is followed and nothing but a regular file is read. A file's content is compared
//! with the plan's each time it is touched.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::journal::Outcome;

/// Cache entries are a few kilobytes.
const LARGEST_BYTES: u64 = 1 << 20;

/// Reads a regular file without following a symlink; `None` when it does not exist.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let file = File::from(fd);
    let stat = file.metadata()?;
    if !stat.is_file() || stat.len() > LARGEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "is not a small regular file"));
    }
    let mut content = Vec::new();
    file.take(LARGEST_BYTES).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Copies a file to the quarantine, if `is_expected` says that it is the plan's.
pub fn save(path: &Path, quarantine: &Path, is_expected: impl Fn(&[u8]) -> bool) -> Outcome {
    outcome(path, || {
        let Some(content) = read(path)? else { return Ok(Outcome::AlreadyGone) };
        if !is_expected(&content) {
            return Ok(Outcome::Changed { why: format!("{} has another content by now", path.display()) });
        }
        keep(path, quarantine, &content)?;
        Ok(Outcome::Done)
    })
}

/// Writes a copy of `path`'s content into the quarantine.
pub fn keep(path: &Path, quarantine: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    std::fs::create_dir_all(quarantine)?;
    write_new(&quarantine.join(name), content)
}

/// Removes a file, if `is_expected` says that it is the plan's.
pub fn remove(path: &Path, is_expected: impl Fn(&[u8]) -> bool) -> Outcome {
    outcome(path, || {
        let Some(content) = read(path)? else { return Ok(Outcome::AlreadyGone) };
        if !is_expected(&content) {
            return Ok(Outcome::Changed { why: format!("{} has another content by now", path.display()) });
        }
        std::fs::remove_file(path)?;
        sync_directory(path)?;
        Ok(Outcome::Done)
    })
}

/// Writes a file that must not exist yet, whole or not at all, and waits until it is on disk.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    // host-local ignores what is no address, so a dotted name in a lease directory disturbs nobody.
    let temporary = directory.join(format!(".{name}.podplumb-{}", std::process::id()));
    let written = (|| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(content)?;
        file.sync_all()?;
        // A link, not a rename: a file that appeared meanwhile must not be replaced.
        std::fs::hard_link(&temporary, path)
    })();
    let _ = std::fs::remove_file(&temporary);
    written?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn outcome(path: &Path, work: impl FnOnce() -> io::Result<Outcome>) -> Outcome {
    work().unwrap_or_else(|error| Outcome::Failed { why: format!("{}: {error}", path.display()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_in_place_of_a_cache_entry_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, entry) = (dir.path().join("precious"), dir.path().join("pods-a-eth0"));
        std::fs::write(&target, "{}").unwrap();
        std::os::unix::fs::symlink(&target, &entry).unwrap();
        assert!(matches!(remove(&entry, |_| true), Outcome::Failed { .. }));
        assert!(target.exists() && entry.is_symlink());
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let lease = dir.path().join("10.0.0.2");
        std::fs::write(&lease, "other").unwrap();
        assert_eq!(write_new(&lease, b"mine").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&lease).unwrap(), b"other");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
