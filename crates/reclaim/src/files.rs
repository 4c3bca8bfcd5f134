//! Cache entries and the quarantine: files that are copied, removed and put back.
//!
//! All paths come from disk, so no symlink is followed and nothing but a regular file is read. A file's content is compared
//! with the plan's each time it is touched.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

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

/// Copies a file to the quarantine, if `is_expected` says that it is the plan's; the copy is to be synced.
pub fn save(
    path: &Path,
    quarantine: &Path,
    is_expected: impl Fn(&[u8]) -> bool,
    unsynced: &mut Unsynced,
) -> Outcome {
    outcome(path, || {
        let Some(content) = read(path)? else { return Ok(Outcome::AlreadyGone) };
        if !is_expected(&content) {
            return Ok(Outcome::Changed { why: format!("{} has another content by now", path.display()) });
        }
        keep(path, quarantine, &content, unsynced)?;
        Ok(Outcome::Done)
    })
}

/// Writes a copy of `path`'s content into the quarantine.
pub fn keep(path: &Path, quarantine: &Path, content: &[u8], unsynced: &mut Unsynced) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    std::fs::create_dir_all(quarantine)?;
    let copy = quarantine.join(name);
    unsynced.add(write_unsynced(&copy, content)?);
    unsynced.add(File::open(quarantine)?);
    if let Some(parent) = quarantine.parent() {
        unsynced.directory(parent);
    }
    Ok(())
}

/// What was changed and may not be on disk yet. Many are waited for at once, so that the file system commits them together: one fsync
/// takes 4 ms on a virtual disk, 400 one after the other take more than a second.
#[derive(Debug, Default)]
pub struct Unsynced {
    files: Vec<File>,
    directories: BTreeSet<PathBuf>,
}

/// Below this, threads cost more than they save.
const FEW: usize = 8;

impl Unsynced {
    fn add(&mut self, file: File) {
        self.files.push(file);
    }

    /// A directory in which something was made or removed.
    pub fn directory(&mut self, path: &Path) {
        self.directories.insert(path.to_owned());
    }

    /// Waits until all of it is on disk.
    pub fn sync(&mut self) -> io::Result<()> {
        let mut files = std::mem::take(&mut self.files);
        for path in std::mem::take(&mut self.directories) {
            match File::open(path) {
                Ok(directory) => files.push(directory),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let all = |files: &[File]| files.iter().try_for_each(File::sync_all);
        if files.len() <= FEW {
            return all(&files);
        }
        std::thread::scope(|scope| {
            let parts: Vec<_> =
                files.chunks(files.len().div_ceil(FEW)).map(|part| scope.spawn(move || all(part))).collect();
            let results: Vec<_> = parts
                .into_iter()
                .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            results.into_iter().collect()
        })
    }
}

/// Removes a file, if `is_expected` says that it is the plan's; its directory is to be synced.
pub fn remove(path: &Path, is_expected: impl Fn(&[u8]) -> bool, unsynced: &mut Unsynced) -> Outcome {
    outcome(path, || {
        let Some(content) = read(path)? else { return Ok(Outcome::AlreadyGone) };
        if !is_expected(&content) {
            return Ok(Outcome::Changed { why: format!("{} has another content by now", path.display()) });
        }
        std::fs::remove_file(path)?;
        if let Some(directory) = path.parent() {
            unsynced.directory(directory);
        }
        Ok(Outcome::Done)
    })
}

/// Writes a file that must not exist yet, whole or not at all, and waits until it is on disk.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    write_unsynced(path, content)?.sync_all()?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// A crash leaves the whole file or nothing, under no other name either: what is in libcni's cache is read by others. A file that
/// appeared meanwhile is not replaced.
fn write_unsynced(path: &Path, content: &[u8]) -> io::Result<File> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let file = sys::UnnamedFile::new(directory.as_fd(), content)?;
    file.link(name)?;
    Ok(File::from(file.as_fd().try_clone_to_owned()?))
}

fn outcome(path: &Path, work: impl FnOnce() -> io::Result<Outcome>) -> Outcome {
    work().unwrap_or_else(|error| failed(path, error))
}

/// What could not be done to a file.
pub(crate) fn failed(path: &Path, error: io::Error) -> Outcome {
    Outcome::Failed { why: format!("{}: {error}", path.display()) }
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
        assert!(matches!(remove(&entry, |_| true, &mut Unsynced::default()), Outcome::Failed { .. }));
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
