//! A network's directory of leases: `<dataDir>/<network>/<address>`, `last_reserved_ip.<n>` and `lock`.
//!
//! All access is relative to the directory's descriptor and follows no symlink, so that whoever may write there cannot
//! make a root process read, write or remove anything elsewhere. What is no lease is left alone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{ContainerId, IfName, NetworkName, Timestamp};
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sys::UnnamedFile;

/// Where host-local keeps its leases, unless the configuration has a `dataDir`.
pub const DATA_DIR: &str = "/var/lib/cni/networks";
/// A lease is an id (at most 200 bytes), a line end and an interface name.
const LARGEST_LEASE_BYTES: u64 = 4096;
/// How the names of our temporary files begin: [`UnnamedFile`]'s where there is no `O_TMPFILE`, and [`REPLACEMENT`].
const TEMPORARY: &str = ".podplumb-";
/// A lease that is about to replace another. There is one at a time, that of whoever has the lock.
const REPLACEMENT: &str = ".podplumb-replacement";

/// A network's leases, locked.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    directory: OwnedFd,
    lock: Option<OwnedFd>,
}

/// Something about a lease directory that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {error}", path.display())]
pub struct StoreError {
    what: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl StoreError {
    /// The errno, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.error.raw_os_error()
    }

    /// Whether the directory, or the file, does not exist.
    pub fn is_missing(&self) -> bool {
        self.error.kind() == io::ErrorKind::NotFound
    }
}

/// What is in a lease file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseFile {
    /// The address: the file's name.
    pub address: IpAddr,
    /// The whole content; not UTF-8 is replaced.
    pub content: String,
    /// When it was written.
    pub changed: Timestamp,
}

impl LeaseFile {
    /// The owner, if the content names one: `<container>\r\n<ifname>`, or the id alone (host-local before 0.8).
    pub fn owner(&self) -> Option<(ContainerId, Option<IfName>)> {
        let mut lines = self.content.trim().splitn(2, "\r\n");
        let container = lines.next()?.trim().parse().ok()?;
        match lines.next() {
            Some(ifname) => Some((container, Some(ifname.trim().parse().ok()?))),
            None => Some((container, None)),
        }
    }

    /// Whether the lease is this attachment's, by host-local's rule.
    pub fn belongs_to(&self, container: &ContainerId, ifname: &IfName) -> bool {
        self.owner()
            .is_some_and(|(owner, name)| owner == *container && name.is_none_or(|name| name == *ifname))
    }
}

/// What a new lease contains.
pub fn content(container: &ContainerId, ifname: &IfName) -> String {
    format!("{container}\r\n{ifname}")
}

/// The address of which a file of this name is the lease. `FD00::2` and `fd00:0::2` are names of no lease: that of their address
/// is called `fd00::2`, and one lease must not be taken for two.
fn address_of(name: &str) -> Option<IpAddr> {
    name.parse().ok().filter(|address: &IpAddr| address.to_string() == name)
}

impl Store {
    /// Opens the directory of a network, making it if need be, and waits for its lock.
    pub fn create(data_dir: &Path, network: &NetworkName) -> Result<Self, StoreError> {
        let path = data_dir.join(network.as_str());
        let fail = |error| StoreError { what: "make lease directory", path: path.clone(), error };
        std::fs::create_dir_all(data_dir).map_err(fail)?;
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno.into())),
        }
        Self::at(path)?.locked()
    }

    /// Opens the directory of a network that exists, and waits for its lock.
    pub fn open(data_dir: &Path, network: &NetworkName) -> Result<Self, StoreError> {
        Self::at(data_dir.join(network.as_str()))?.locked()
    }

    /// Opens the directory that a lease is in, and waits for its lock, but not for ever: whoever is not an ADD or DEL had better
    /// leave a directory alone in which one hangs.
    pub fn within(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        let store = Self::at(path.to_owned())?;
        let lock = store.lock_file().map_err(|errno| store.fail("lock", "lock", errno))?;
        let start = Instant::now();
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { lock: Some(lock), ..store }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(errno) => return Err(store.fail("lock", "lock", errno)),
            }
        }
    }

    /// Opens a directory to look only, without its lock.
    pub fn look(path: &Path) -> Result<Self, StoreError> {
        Self::at(path.to_owned())
    }

    fn at(path: PathBuf) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { path, directory, lock: None }),
            Err(errno) => Err(StoreError { what: "open lease directory", path, error: errno.into() }),
        }
    }

    fn locked(self) -> Result<Self, StoreError> {
        let lock = self.lock_file().and_then(|lock| {
            rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))?;
            Ok(lock)
        });
        match lock {
            Ok(lock) => Ok(Self { lock: Some(lock), ..self }),
            Err(errno) => Err(self.fail("lock", "lock", errno)),
        }
    }

    fn lock_file(&self) -> rustix::io::Result<OwnedFd> {
        // NONBLOCK: a FIFO of that name must not make us wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&self.directory, "lock", flags, Mode::from_raw_mode(0o750))
    }

    /// Whether an ADD or DEL holds the lock at this moment. Tried without waiting, and given back at once.
    pub fn is_locked(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Ok(lock) = rustix::fs::openat(&self.directory, "lock", flags, Mode::empty()) else {
            return false;
        };
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    fn fail(&self, what: &'static str, name: &str, errno: Errno) -> StoreError {
        StoreError { what, path: self.path.join(name), error: errno.into() }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leases the first address of `candidates` that is free.
    ///
    /// The content is complete before the name exists: an unnamed file (`O_TMPFILE`) is written once and then linked to
    /// one name after the other until one is free. So a crash leaves no empty lease, and the cost does not depend on
    /// how many leases there are.
    pub fn claim<T>(
        &self,
        container: &ContainerId,
        ifname: &IfName,
        candidates: impl Iterator<Item = (IpAddr, T)>,
    ) -> Result<Option<(IpAddr, T)>, StoreError> {
        let text = content(container, ifname);
        let source = UnnamedFile::new(self.directory.as_fd(), text.as_bytes())
            .map_err(|errno| self.fail("write lease in", "", errno))?;
        for (address, rest) in candidates {
            let name = address.to_string();
            match source.link(&name) {
                Ok(()) => return Ok(Some((address, rest))),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.fail("write lease", &name, errno)),
            }
        }
        Ok(None)
    }

    /// The address that was given last from range set `set`, if the file says one.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let (text, _) = self.read(&format!("last_reserved_ip.{set}")).ok()??;
        String::from_utf8(text).ok()?.trim().parse().ok()
    }

    /// Notes the address that was given last. It is a hint: when it cannot be written, allocation begins elsewhere.
    pub fn set_last_reserved(&self, set: usize, address: IpAddr) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = format!("last_reserved_ip.{set}");
        if let Ok(fd) = rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(0o600)) {
            let _ = File::from(fd).write_all(address.to_string().as_bytes());
        }
    }

    /// One lease; `None` when there is none, or when what is there is no regular small file.
    pub fn lease(&self, address: IpAddr) -> Result<Option<LeaseFile>, StoreError> {
        let name = address.to_string();
        let read = self.read(&name).map_err(|errno| self.fail("read lease", &name, errno))?;
        Ok(read.map(|(content, changed)| LeaseFile {
            address,
            content: String::from_utf8_lossy(&content).into_owned(),
            changed,
        }))
    }

    /// All leases, and the names of files that are none.
    pub fn leases(&self) -> Result<(Vec<LeaseFile>, Vec<String>), StoreError> {
        let (mut leases, mut foreign) = (Vec::new(), Vec::new());
        for name in self.names()? {
            match address_of(&name).map(|address| self.lease(address)) {
                Some(Ok(Some(lease))) => leases.push(lease),
                Some(Ok(None)) => foreign.push(name),
                Some(Err(error)) => return Err(error),
                None if name == "lock" || name.starts_with("last_reserved_ip.") => {}
                None => foreign.push(name),
            }
        }
        Ok((leases, foreign))
    }

    /// The addresses of all lease files, without reading them.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, StoreError> {
        Ok(self.names()?.iter().filter_map(|name| address_of(name)).collect())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let fail = |errno| self.fail("list", "", errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            // A name that is no UTF-8 is no lease.
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Releases the address if it is this attachment's; says whether it was.
    pub fn release(
        &self,
        address: IpAddr,
        container: &ContainerId,
        ifname: &IfName,
    ) -> Result<bool, StoreError> {
        match self.lease(address)? {
            Some(lease) if lease.belongs_to(container, ifname) => self.unlink(address).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Releases every lease of the attachment by reading all of them; for attachments whose addresses nobody remembers.
    pub fn release_all(&self, container: &ContainerId, ifname: &IfName) -> Result<usize, StoreError> {
        self.release_where(|lease| lease.belongs_to(container, ifname))
    }

    /// Releases every lease that `is_meant` names.
    pub fn release_where(&self, is_meant: impl Fn(&LeaseFile) -> bool) -> Result<usize, StoreError> {
        let (leases, foreign) = self.leases()?;
        // While we have the lock nobody writes one: a plugin that was killed left it.
        for name in foreign.iter().filter(|name| self.lock.is_some() && name.starts_with(TEMPORARY)) {
            self.unlink_name(name).map_err(|errno| self.fail("remove", name, errno))?;
        }
        let mut released = 0;
        for lease in leases.iter().filter(|lease| is_meant(lease)) {
            self.unlink(lease.address)?;
            released += 1;
        }
        Ok(released)
    }

    /// Removes the lease if it has exactly this content; says whether it had.
    pub fn remove(&self, address: IpAddr, content: &str) -> Result<bool, StoreError> {
        match self.lease(address)? {
            Some(lease) if lease.content == content => self.unlink(address).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Gives a lease to somebody else, if it is still the one that was looked at; says whether it was. At any moment the file is the old
    /// lease or the new one, after a power failure as well.
    pub fn replace(
        &self,
        old: &LeaseFile,
        container: &ContainerId,
        ifname: &IfName,
    ) -> Result<bool, StoreError> {
        if self.lease(old.address)?.as_ref() != Some(old) {
            return Ok(false);
        }
        let (name, directory) = (old.address.to_string(), &self.directory);
        let replace = || {
            let new = UnnamedFile::new(directory.as_fd(), content(container, ifname).as_bytes())?;
            // A rename may reach the disk before what the file contains.
            rustix::fs::fsync(&new)?;
            self.unlink_name(REPLACEMENT)?;
            new.link(REPLACEMENT)?;
            let renamed = rustix::fs::renameat(directory, REPLACEMENT, directory, &name);
            if renamed.is_err() {
                let _ = self.unlink_name(REPLACEMENT);
            }
            renamed
        };
        replace().map(|()| true).map_err(|errno| self.fail("replace lease", &name, errno))
    }

    /// Writes a lease with this content; says whether the address was free.
    pub fn put(&self, address: IpAddr, content: &[u8]) -> Result<bool, StoreError> {
        let name = address.to_string();
        let linked = UnnamedFile::new(self.directory.as_fd(), content).and_then(|file| file.link(&name));
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(self.fail("write lease", &name, errno)),
        }
    }

    /// Waits until what was changed is on disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        rustix::fs::fsync(&self.directory).map_err(|errno| self.fail("sync", "", errno))
    }

    fn unlink(&self, address: IpAddr) -> Result<(), StoreError> {
        let name = address.to_string();
        self.unlink_name(&name).map_err(|errno| self.fail("release lease", &name, errno))
    }

    fn unlink_name(&self, name: &str) -> rustix::io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// The content and ctime of a small regular file; `None` when it does not exist or is something else.
    fn read(&self, name: &str) -> rustix::io::Result<Option<(Vec<u8>, Timestamp)>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            // Gone meanwhile; a symlink (ELOOP); a socket or device (ENXIO).
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let stat = rustix::fs::fstat(&fd)?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(None);
        }
        // One more than it has: the end is found without growing.
        let most = usize::try_from(stat.st_size).unwrap_or(0).min(LARGEST_LEASE_BYTES as usize);
        let mut content = Vec::with_capacity(most + 1);
        let read = File::from(fd).take(LARGEST_LEASE_BYTES).read_to_end(&mut content);
        read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        #[allow(clippy::unnecessary_cast, reason = "the width differs between architectures")]
        Ok(Some((content, Timestamp::from_stat(stat.st_ctime as i64, stat.st_ctime_nsec as i64))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ContainerId {
        text.parse().unwrap()
    }

    fn eth0() -> IfName {
        "eth0".parse().unwrap()
    }

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::create(dir.path(), &"net".parse().unwrap()).unwrap()
    }

    fn one(address: &str) -> impl Iterator<Item = (IpAddr, ())> {
        std::iter::once((address.parse().unwrap(), ()))
    }

    #[test]
    fn an_address_that_is_spelled_otherwise_is_no_lease() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        for name in ["fd00::2", "fd00:0::2", "FD00::2"] {
            std::fs::write(store.path().join(name), "a\r\neth0").unwrap();
        }
        let (leases, mut foreign) = store.leases().unwrap();
        foreign.sort();
        assert_eq!((leases.len(), foreign), (1, vec!["FD00::2".to_owned(), "fd00:0::2".to_owned()]));
        assert_eq!(store.addresses().unwrap().len(), 1);
        assert_eq!(store.release_all(&id("a"), &eth0()).unwrap(), 1);
        assert!(store.path().join("fd00:0::2").exists());
    }

    #[test]
    fn a_lease_has_host_locals_bytes_and_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        assert!(store.claim(&id("c1"), &eth0(), one("10.0.0.2")).unwrap().is_some());
        assert!(store.claim(&id("c2"), &eth0(), one("10.0.0.2")).unwrap().is_none(), "taken");
        let path = dir.path().join("net/10.0.0.2");
        assert_eq!(std::fs::read(&path).unwrap(), b"c1\r\neth0");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path().join("net")).unwrap().count(), 2, "lease and lock");
    }

    #[test]
    fn only_the_owner_releases() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        store.claim(&id("c1"), &eth0(), one("10.0.0.2")).unwrap();
        let address = "10.0.0.2".parse().unwrap();
        assert!(!store.release(address, &id("c2"), &eth0()).unwrap());
        assert!(!store.release(address, &id("c1"), &"net1".parse().unwrap()).unwrap());
        assert!(store.release(address, &id("c1"), &eth0()).unwrap());
        assert!(store.addresses().unwrap().is_empty());
    }

    #[test]
    fn foreign_corrupt_and_linked_files_are_neither_read_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let net = dir.path().join("net");
        std::fs::write(net.join("README"), "hands off").unwrap();
        std::fs::write(net.join("10.0.0.3"), "").unwrap();
        std::fs::write(net.join("10.0.0.4"), b"\xff\xfe\0").unwrap();
        std::fs::create_dir(net.join("10.0.0.5")).unwrap();
        std::fs::write(dir.path().join("precious"), "c1\r\neth0").unwrap();
        std::os::unix::fs::symlink(dir.path().join("precious"), net.join("10.0.0.6")).unwrap();
        assert_eq!(store.release_all(&id("c1"), &eth0()).unwrap(), 0);
        let (leases, mut foreign) = store.leases().unwrap();
        foreign.sort();
        assert_eq!(foreign, ["10.0.0.5", "10.0.0.6", "README"]);
        assert_eq!(leases.len(), 2);
        assert!(leases.iter().all(|lease| lease.owner().is_none()));
        for name in ["README", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"] {
            assert!(net.join(name).symlink_metadata().is_ok(), "{name}");
        }
    }

    #[test]
    fn a_directory_that_is_a_symlink_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("net")).unwrap();
        let error = Store::create(dir.path(), &"net".parse().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("open lease directory"), "{error}");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_old_form_of_a_lease_belongs_to_every_interface_of_its_container() {
        let lease =
            LeaseFile { address: "10.0.0.2".parse().unwrap(), content: "c1\n".into(), changed: Timestamp(0) };
        assert!(lease.belongs_to(&id("c1"), &eth0()));
        assert!(!lease.belongs_to(&id("c2"), &eth0()));
    }
}
