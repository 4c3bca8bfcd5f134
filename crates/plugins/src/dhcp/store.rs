//! Leases on disk, so that they outlive the daemon: a file each, next to its socket, complete before it has a name.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use model::{AttachmentKey, BootId, IfIndex, MacAddr, NetworkName, NsId, NsInode};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::UnnamedFile;

use super::frame::End;
use super::lease::Lease;
use super::settings::Identity;

/// Of the files.
const VERSION: u32 = 1;

/// What is known about an attachment's lease, from before the first packet to after the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    boot_id: BootId,
    pub(super) key: AttachmentKey,
    /// The namespace, as the runtime names it.
    pub(super) netns: PathBuf,
    /// The namespace itself: at the path there may be another one by now.
    pub(super) ns_id: Option<NsId>,
    pub(super) ns_inode: NsInode,
    /// The interface, which may be renamed.
    pub(super) interface: IfIndex,
    /// Its address when the lease began; servers know the client by it even if it changes.
    pub(super) mac: MacAddr,
    pub(super) identity: Identity,
    pub(super) phase: Phase,
}

/// How far an attachment has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Phase {
    /// Looking for a server; nothing is leased.
    Selecting,
    /// This address was asked for: the server may have given it, whether or not anybody noted the answer.
    Requesting { address: Ipv4Addr, server: Server },
    /// Leased.
    Bound(Lease),
    /// The lease ended while the container had the address; its interface was set down.
    Lost(Lease),
}

/// Where a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) address: Ipv4Addr,
    pub(super) mac: MacAddr,
}

impl From<Server> for End {
    fn from(server: Server) -> End {
        End { mac: server.mac, address: server.address }
    }
}

/// The directory of the leases of one daemon.
#[derive(Debug)]
pub(super) struct Store {
    directory: OwnedFd,
    boot_id: BootId,
    /// Where files cannot be without a name, those of one process share a temporary one.
    writing: Mutex<()>,
}

/// The directory that belongs to a socket: `/run/cni/dhcp-leases` to `/run/cni/dhcp.sock`.
pub(super) fn directory(socket: &Path) -> PathBuf {
    let mut name = socket.file_stem().unwrap_or_default().to_owned();
    name.push("-leases");
    socket.with_file_name(name)
}

/// The attachments of a network that have a file there, for a plugin that finds no daemon.
pub(super) fn recorded(directory: &Path, network: &NetworkName) -> io::Result<Vec<AttachmentKey>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names.collect::<io::Result<_>>()?;
    let keys = names.iter().filter_map(|name| AttachmentKey::from_file_name(name.to_str()?));
    Ok(keys.filter(|key| key.network == *network).collect())
}

impl Store {
    /// Opens the directory, which is made if need be, for this process alone.
    ///
    /// # Errors
    /// `ResourceBusy` when another daemon has it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another daemon keeps leases there"));
            }
            locked => locked?,
        }
        Ok(Self { directory, boot_id: sys::boot_id()?, writing: Mutex::default() })
    }

    /// A record of an attachment that has nothing yet.
    pub(super) fn begin(&self, key: AttachmentKey, netns: PathBuf, identity: Identity) -> Record {
        Record {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            key,
            netns,
            ns_id: None,
            ns_inode: NsInode(0),
            interface: IfIndex(0),
            mac: MacAddr([0; 6]),
            identity,
            phase: Phase::Selecting,
        }
    }

    /// Writes a record, in place of the one before.
    pub(super) fn save(&self, record: &Record) -> io::Result<()> {
        let name = record.key.file_name();
        let temporary = format!(".{name}");
        let content = serde_json::to_vec(record)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let file = UnnamedFile::new(self.directory.as_fd(), &content)?;
        // A crash between the next two steps leaves it.
        match rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        file.link(&temporary)?;
        Ok(rustix::fs::renameat(&self.directory, &temporary, &self.directory, &name)?)
    }

    /// Removes a record; one that is not there is removed.
    pub(super) fn remove(&self, key: &AttachmentKey) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, key.file_name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// All records of this boot. What is of another one, or not to be understood, is removed: nobody could renew it.
    pub(super) fn load(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Some(key) = AttachmentKey::from_file_name(name) else { continue };
            match self.read(name) {
                Ok(record)
                    if record.key == key && record.version == VERSION && record.boot_id == self.boot_id =>
                {
                    records.push(record);
                }
                Ok(_) => {
                    eprintln!("dhcp: {key}: the lease is of another boot or version; forgotten");
                    self.remove(&key)?;
                }
                Err(error) => {
                    eprintln!("dhcp: {key}: the lease cannot be read, and is forgotten: {error}");
                    self.remove(&key)?;
                }
            }
        }
        Ok(records)
    }

    fn read(&self, name: &str) -> io::Result<Record> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
        Ok(serde_json::from_reader(io::BufReader::new(std::fs::File::from(file)))?)
    }
}
