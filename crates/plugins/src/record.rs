//! Attachment records: `/run/podplumb/attachments/<network>:<container>:<ifname>`, on tmpfs, so that they end with the boot that
//! they describe.
//!
//! A record is locked for as long as an ADD or DEL is at work on it. Whoever looks at the node can tell by trying the lock.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cni::{Code, Error, Result};
use model::{AttachmentKey, AttachmentRecord, NetworkName};
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sys::UnnamedFile;

/// Where records are.
pub const DIRECTORY: &str = "/run/podplumb/attachments";
/// A record is less than a kilobyte.
const LARGEST_BYTES: u64 = 64 << 10;

/// A record that this process holds the lock of.
#[derive(Debug)]
pub struct Held {
    /// What the record says; `None` when the file is damaged.
    pub record: Option<AttachmentRecord>,
    name: String,
    directory: OwnedFd,
    _lock: OwnedFd,
}

fn fail(what: &str, name: &str, errno: Errno) -> Error {
    Error::new(Code::Io, format!("cannot {what} attachment record {DIRECTORY}/{name}"))
        .details(std::io::Error::from(errno))
}

fn directory() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(DIRECTORY, flags, Mode::empty())
}

/// Writes the record of an attachment that begins; fails if there is one.
pub fn begin(record: &AttachmentRecord) -> Result<Held> {
    let name = record.key.file_name();
    let failed = |errno| fail("write", &name, errno);
    let directory = match directory() {
        Err(Errno::NOENT) => {
            let made = std::fs::create_dir_all(DIRECTORY);
            made.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
            directory()
        }
        found => found,
    }
    .map_err(failed)?;
    let text = serde_json::to_vec(record).map_err(|_| failed(Errno::INVAL))?;
    let file = UnnamedFile::new(directory.as_fd(), &text).map_err(failed)?;
    let lock = rustix::io::fcntl_dupfd_cloexec(&file, 0).map_err(failed)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(failed)?;
    match file.link(&name) {
        Ok(()) => Ok(Held { record: Some(record.clone()), name, directory, _lock: lock }),
        Err(Errno::EXIST) => Err(Error::new(Code::Internal, format!("{} is attached already", record.key))
            .details(format!("its record is {DIRECTORY}/{name}; call DEL first"))),
        Err(errno) => Err(failed(errno)),
    }
}

/// The record of an attachment, if there is one, once no other ADD or DEL works on it.
pub fn open(key: &AttachmentKey) -> Result<Option<Held>> {
    let name = key.file_name();
    let failed = |errno| fail("read", &name, errno);
    let directory = match directory() {
        Err(Errno::NOENT) => return Ok(None),
        found => found.map_err(failed)?,
    };
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    loop {
        let lock = match rustix::fs::openat(&directory, &name, flags, Mode::empty()) {
            Ok(lock) => lock,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
            .map_err(failed)?;
        // Whoever had the lock may have removed the record while we waited.
        if rustix::fs::fstat(&lock).map_err(failed)?.st_nlink > 0 {
            let record = read(&lock).map_err(failed)?;
            return Ok(Some(Held { record, name, directory, _lock: lock }));
        }
    }
}

fn read(file: &OwnedFd) -> rustix::io::Result<Option<AttachmentRecord>> {
    let mut text = Vec::new();
    let file = File::from(rustix::io::fcntl_dupfd_cloexec(file, 0)?);
    let read = file.take(LARGEST_BYTES).read_to_end(&mut text);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let record: Option<AttachmentRecord> = serde_json::from_slice(&text).ok();
    Ok(record.filter(|record| record.version == AttachmentRecord::VERSION))
}

impl Held {
    /// Removes the record: the last thing that a DEL does.
    pub fn end(self) -> Result<()> {
        match rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fail("remove", &self.name, errno)),
        }
    }
}

/// The attachments of a network that have a record.
pub fn of_network(network: &NetworkName) -> Result<Vec<AttachmentKey>> {
    let directory = match directory() {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        found => found.map_err(|errno| fail("list", "", errno))?,
    };
    let entries = Dir::read_from(&directory).map_err(|errno| fail("list", "", errno))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    Ok(names
        .filter_map(|name| AttachmentKey::from_file_name(&name))
        .filter(|key| key.network == *network)
        .collect())
}

/// The path of an attachment's record.
pub fn path(key: &AttachmentKey) -> PathBuf {
    Path::new(DIRECTORY).join(key.file_name())
}
