//! What is remembered of a lab while it is there: in a file system of its own, so that all of it goes in one step.
//!
//! `/run/podplumb/labs/NAME` is a tmpfs. In it are `lab.json`, the pinned namespaces in `ns/`, and the output of processes in `log/`.
//! `/run/podplumb/labs/NAME.lock` belongs to whoever works on the lab.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use model::{NsId, NsInode, Timestamp};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use serde::{Deserialize, Serialize};
use sys::Locked;

use crate::error::{Error, Result};
use crate::name::LabName;
use crate::site::Started;
use crate::wiring::Wiring;

/// Where labs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labs {
    base: PathBuf,
}

impl Default for Labs {
    fn default() -> Self {
        Labs { base: "/run/podplumb/labs".into() }
    }
}

/// A lab's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format: [`Record::VERSION`].
    pub version: u32,
    /// How far it is.
    pub state: State,
    /// The topology's file, if it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// When it was made.
    pub made_at: Timestamp,
    /// What is there, or shall be.
    pub wiring: Wiring,
    /// While it is changed: what was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Wiring>,
    /// Its namespaces' identities.
    #[serde(default)]
    pub namespaces: BTreeMap<String, Identity>,
    /// The processes that it started.
    #[serde(default)]
    pub processes: Vec<Started>,
}

/// How far a lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Being made, changed or removed; if nobody has the lock, whoever did that was killed.
    Unfinished,
    /// There.
    Up,
}

/// Which namespace a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Never reused within a boot (Linux 6.18).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_id: Option<NsId>,
    /// Reused once the namespace is gone.
    pub inode: NsInode,
}

impl Record {
    /// The format that this code writes, and the only one that it reads.
    pub const VERSION: u32 = 1;
}

/// A lab that nobody else works on.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) name: LabName,
    pub(crate) directory: PathBuf,
    lock_path: PathBuf,
    _lock: Locked,
}

impl Labs {
    /// Labs below another directory.
    pub fn below(base: impl Into<PathBuf>) -> Self {
        Labs { base: base.into() }
    }

    /// The names of all labs.
    pub fn names(&self) -> Result<Vec<LabName>> {
        let entries = match std::fs::read_dir(&self.base) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io(self.base.display().to_string()))?,
        };
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<LabName> =
            directories.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    pub(crate) fn directory(&self, name: &LabName) -> PathBuf {
        self.base.join(name.as_str())
    }

    /// The record of a lab; `None` when there is none, or nothing of it was written yet.
    pub fn record(&self, name: &LabName) -> Result<Option<Record>> {
        let path = self.directory(name).join("lab.json");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::io(path.display().to_string()))?,
        };
        let bad = |why: String| Error::Record { path: path.clone(), why };
        let record: Record = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if record.version != Record::VERSION {
            return Err(bad(format!("version {} of another podplumb", record.version)));
        }
        Ok(Some(record))
    }

    /// Takes the lab for whoever calls.
    pub(crate) fn claim(&self, name: &LabName) -> Result<Claim> {
        let lock_path = self.base.join(format!("{name}.lock"));
        let what = || lock_path.display().to_string();
        std::fs::create_dir_all(&self.base).map_err(Error::io(self.base.display().to_string()))?;
        loop {
            let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
            let lock = lock.and_then(Locked::try_exclusive).map_err(Error::io(what()))?;
            let lock = lock.ok_or_else(|| Error::Busy(name.to_string()))?;
            // Whoever had it may have removed it with the lab.
            if same_file(&lock, &lock_path) {
                let directory = self.directory(name);
                return Ok(Claim { name: name.clone(), directory, lock_path, _lock: lock });
            }
        }
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let key = |stat: &std::fs::Metadata| (stat.dev(), stat.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(a), Ok(b)) if key(&a) == key(&b))
}

impl Claim {
    /// Makes the lab's file system.
    pub(crate) fn make(&self) -> Result<()> {
        let what = || self.directory.display().to_string();
        let errno = |errno: rustix::io::Errno| Error::io(what())(errno.into());
        match std::fs::create_dir(&self.directory) {
            // Left by one that was killed before it could mount.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(Error::io(what()))?,
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("podplumb-lab", &self.directory, "tmpfs", flags, Some(c"mode=0700"))
            .map_err(errno)?;
        // What is mounted in there is nobody else's business: a copy in another mount namespace would keep it alive.
        rustix::mount::mount_change(&self.directory, MountPropagationFlags::PRIVATE).map_err(errno)?;
        for name in ["ns", "log"] {
            std::fs::create_dir(self.directory.join(name)).map_err(Error::io(what()))?;
        }
        Ok(())
    }

    /// Writes the record, all of it or nothing.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let path = self.directory.join("lab.json");
        let what = || path.display().to_string();
        let text = serde_json::to_vec(record).expect("a record has string keys only");
        let next = self.directory.join("lab.json.next");
        let written = File::create(&next).and_then(|mut file| file.write_all(&text));
        written.and_then(|()| std::fs::rename(&next, &path)).map_err(Error::io(what()))
    }

    /// Takes the lab's file system away, with everything that is pinned in it.
    pub(crate) fn unmake(&self) -> Result<()> {
        let what = || self.directory.display().to_string();
        match rustix::mount::unmount(&self.directory, UnmountFlags::DETACH) {
            // Nothing is mounted.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(Error::io(what())(errno.into())),
        }
        match std::fs::remove_dir(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(what())(error)),
            _ => Ok(()),
        }
    }

    /// Gives the name free, when nothing of the lab is left.
    pub(crate) fn forget(self) {
        // Only the lock's owner removes it; who waits for it looks whether it is still the same.
        let _ = std::fs::remove_file(&self.lock_path);
    }
}
