//! Attachment records, on tmpfs, so that they end with the boot that they describe: what there is to undo, written before it is
//! done.
//!
//! A record is locked for as long as an ADD or DEL is at work on it. Whoever looks at the node can tell by trying the lock.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cni::{Call, Code, Error, Result};
use model::{AttachmentKey, AttachmentRecord, NetworkName, Timestamp};
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sys::UnnamedFile;

use crate::netns::Container;

/// Where records are.
pub const DIRECTORY: &str = "/run/podplumb/attachments";
/// A record is a line or two of less than two kilobytes.
const LARGEST_BYTES: u64 = 64 << 10;

/// A record that this process holds the lock of.
#[derive(Debug)]
pub struct Held {
    /// What the record says; `None` when the file is damaged.
    pub record: Option<AttachmentRecord>,
    name: String,
    directory: OwnedFd,
    file: OwnedFd,
}

fn fail(what: &str, name: &str, errno: Errno) -> Error {
    Error::new(Code::Io, format!("cannot {what} attachment record {DIRECTORY}/{name}"))
        .details(std::io::Error::from(errno))
}

fn directory() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(DIRECTORY, flags, Mode::empty())
}

/// The attachment that a call is about.
pub(crate) fn key(call: &Call) -> AttachmentKey {
    AttachmentKey {
        network: call.config.network.clone(),
        container: call.invocation.container.clone(),
        ifname: call.invocation.ifname.clone(),
    }
}

/// What every record of an attachment says, before anything is done.
pub(crate) fn new(
    call: &Call,
    plugin: &str,
    chained: bool,
    netns: Option<&Container>,
) -> Result<AttachmentRecord> {
    Ok(AttachmentRecord {
        version: AttachmentRecord::VERSION,
        key: key(call),
        plugin: plugin.to_owned(),
        chained,
        boot_id: sys::boot_id().map_err(|error| Error::new(Code::Io, "no boot id").details(error))?,
        netns: call.invocation.netns.clone().unwrap_or_default(),
        ns_id: netns.and_then(|netns| netns.id()),
        ns_inode: netns.and_then(|netns| netns.inode().ok()),
        host_interface: None,
        host_mac: None,
        kind: None,
        mac: None,
        bridge: None,
        lease_dir: None,
        addresses: None,
        rules: Vec::new(),
        before: None,
        pod: call.invocation.args.pod(),
        created: Timestamp::now(),
        seen: None,
    })
}

fn line(record: &AttachmentRecord) -> rustix::io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(record).map_err(|_| Errno::INVAL)?;
    text.push(b'\n');
    Ok(text)
}

/// Writes the record of something that begins; fails if there is one.
pub(crate) fn begin(record: &AttachmentRecord) -> Result<Held> {
    let name = record.file_name();
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
    let unnamed = UnnamedFile::new(directory.as_fd(), &line(record).map_err(failed)?).map_err(failed)?;
    let file = rustix::io::fcntl_dupfd_cloexec(&unnamed, 0).map_err(failed)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(failed)?;
    match unnamed.link(&name) {
        Ok(()) => Ok(Held { record: Some(record.clone()), name, directory, file }),
        Err(Errno::EXIST) => {
            Err(Error::new(Code::Internal, format!("{} of {} is done already", record.plugin, record.key))
                .details(format!("its record is {DIRECTORY}/{name}; call DEL first")))
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// The record of the plugin that made the interface, or of the `chained` one, once no other ADD or DEL works on it.
pub(crate) fn open(key: &AttachmentKey, chained: Option<&str>) -> Result<Option<Held>> {
    open_by_name(&AttachmentRecord::name_of(key, chained))
}

fn open_by_name(name: &str) -> Result<Option<Held>> {
    let failed = |errno| fail("read", name, errno);
    let directory = match directory() {
        Err(Errno::NOENT) => return Ok(None),
        found => found.map_err(failed)?,
    };
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    loop {
        let file = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            // A name that is too long for a file never had a record.
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .map_err(failed)?;
        // Whoever had the lock may have removed the record while we waited.
        if rustix::fs::fstat(&file).map_err(failed)?.st_nlink > 0 {
            let record = read(&file).map_err(failed)?;
            return Ok(Some(Held { record, name: name.to_owned(), directory, file }));
        }
    }
}

fn read(file: &OwnedFd) -> rustix::io::Result<Option<AttachmentRecord>> {
    let mut text = Vec::new();
    let file = File::from(rustix::io::fcntl_dupfd_cloexec(file, 0)?);
    let read = file.take(LARGEST_BYTES).read_to_end(&mut text);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(AttachmentRecord::parse(&text).ok())
}

impl Held {
    /// Writes what is known by now. What the record said before stays readable until this is whole.
    pub(crate) fn note(&mut self, record: &AttachmentRecord) -> Result<()> {
        let failed = |errno| fail("write", &self.name, errno);
        let text = line(record).map_err(failed)?;
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let written =
                rustix::io::retry_on_intr(|| rustix::io::write(&self.file, rest)).map_err(failed)?;
            rest = &rest[written..];
        }
        self.record = Some(record.clone());
        Ok(())
    }

    /// Removes the record: the last thing that a DEL does.
    pub(crate) fn end(self) -> Result<()> {
        match rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fail("remove", &self.name, errno)),
        }
    }
}

/// The names of all records, with the attachment and the chained plugin that each is about.
pub(crate) fn all() -> Result<Vec<(AttachmentKey, Option<String>)>> {
    let directory = match directory() {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        found => found.map_err(|errno| fail("list", "", errno))?,
    };
    let entries = Dir::read_from(&directory).map_err(|errno| fail("list", "", errno))?;
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|errno| fail("list", "", errno))?;
        let known = entry.file_name().to_str().ok().and_then(AttachmentRecord::from_file_name);
        all.extend(known.map(|(key, plugin)| (key, plugin.map(str::to_owned))));
    }
    Ok(all)
}

/// The attachments of a network that have a record of the `chained` plugin, or of the one that makes interfaces.
pub(crate) fn of_network(network: &NetworkName, chained: Option<&str>) -> Result<Vec<AttachmentKey>> {
    let all = all()?.into_iter();
    let own = all.filter(|(key, plugin)| key.network == *network && plugin.as_deref() == chained);
    Ok(own.map(|(key, _)| key).collect())
}

/// Reads a record without its lock.
pub(crate) fn look(key: &AttachmentKey, chained: Option<&str>) -> Option<AttachmentRecord> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path(key, chained), flags, Mode::empty()).ok()?;
    read(&file).ok()?
}

/// The path of a record.
pub(crate) fn path(key: &AttachmentKey, chained: Option<&str>) -> PathBuf {
    Path::new(DIRECTORY).join(AttachmentRecord::name_of(key, chained))
}
