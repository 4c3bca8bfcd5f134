//! Handles on network namespaces.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use model::{NsId, NsInode, Timestamp};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// `NSFS_MAGIC` (include/uapi/linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// `_IO(NSIO, 0x3)`: the `CLONE_NEW*` flag of a namespace descriptor (Linux 4.11).
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
/// `_IOR(NSIO, 13, __u64)`: the namespace's id, never reused within a boot (Linux 6.18).
const NS_GET_ID: libc::c_ulong = 0x8008_b70d;

/// include/uapi/linux/sockios.h: the namespace of a socket.
const SIOCGSKNS: libc::c_ulong = 0x894c;
/// `_IO('T', 227)` of include/uapi/linux/if_tun.h.
const TUNGETDEVNETNS: libc::c_ulong = 0x54e3;
/// include/uapi/linux/fcntl.h: handles of nsfs need no mount to be opened on.
const FD_NSFS_ROOT: libc::c_int = -10003;
/// `FILEID_NSFS` (include/linux/exportfs.h).
const FILEID_NSFS: libc::c_int = 0xf1;

/// `struct file_handle` with nsfs's `struct nsfs_file_handle` (include/uapi/linux/nsfs.h).
#[repr(C)]
struct NsfsHandle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    // Bytes: a u64 would want to be aligned, and there is no room between.
    id: [u8; 8],
    namespace: u32,
    inode: u32,
}

/// An open network namespace. While it is open the namespace lives, and its inode is not reused.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
}

impl NetNs {
    /// Opens the namespace that `path` leads to.
    ///
    /// # Errors
    /// The errno of `open`; `InvalidInput` when the file is not a network namespace, for instance a plain file that
    /// a runtime left behind when it unmounted the namespace.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        // O_NONBLOCK: a FIFO in its place must not make us wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Self::checked(rustix::fs::open(path.as_ref(), flags, Mode::empty())?)
    }

    fn checked(fd: OwnedFd) -> io::Result<Self> {
        let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        #[allow(clippy::unnecessary_cast, reason = "f_type is 32 bits wide on some architectures")]
        if rustix::fs::fstatfs(&fd)?.f_type as i64 != NSFS_MAGIC {
            return refuse("is not a namespace (not on nsfs)");
        }
        // SAFETY: NS_GET_NSTYPE takes no argument and only reads.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) };
        if kind >= 0 && kind != libc::CLONE_NEWNET {
            return refuse("is a namespace of another kind, not a network namespace");
        }
        Ok(Self { fd })
    }

    /// The namespace that a socket was made in, wherever its owner is now; also that in which a tun device's descriptor was
    /// opened (Linux 4.10; 4.20 for tun).
    pub fn of_socket(socket: impl AsFd) -> io::Result<Self> {
        Self::related(socket.as_fd(), SIOCGSKNS)
    }

    /// The namespace that a tun device is in, by its descriptor (Linux 5.2).
    pub fn of_tun(tun: impl AsFd) -> io::Result<Self> {
        Self::related(tun.as_fd(), TUNGETDEVNETNS)
    }

    fn related(fd: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<Self> {
        // SAFETY: both requests take no argument and return a new descriptor.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, with O_CLOEXEC (open_related_ns in fs/nsfs.c).
        Self::checked(unsafe { OwnedFd::from_raw_fd(result) })
    }

    /// The namespace that has this id and this inode, whoever holds it; `NotFound` when it is gone (nsfs file handles, Linux 6.18).
    ///
    /// The kernel looks it up by its id and compares the inode: one that took over the inode is not taken for it.
    pub fn by_id(id: NsId, inode: NsInode) -> io::Result<Self> {
        let inode = u32::try_from(inode.0).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut handle = NsfsHandle {
            bytes: 16,
            kind: FILEID_NSFS,
            id: id.0.to_ne_bytes(),
            namespace: libc::CLONE_NEWNET.cast_unsigned(),
            inode,
        };
        // SAFETY: the pointer is to a struct file_handle that is as long as it says it is, and outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                FD_NSFS_ROOT,
                &raw mut handle,
                libc::O_RDONLY | libc::O_CLOEXEC,
            )
        };
        match libc::c_int::try_from(result) {
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(fd) if fd >= 0 => Self::checked(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(match io::Error::last_os_error() {
                stale if stale.raw_os_error() == Some(libc::ESTALE) => io::ErrorKind::NotFound.into(),
                error => error,
            }),
        }
    }

    /// A new, empty namespace. It lives as long as the handle, unless someone else enters or pins it.
    pub fn create() -> io::Result<Self> {
        std::thread::scope(|scope| {
            let maker = scope.spawn(Self::move_into_new);
            maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into a new, empty namespace for good, and returns it. For threads that make many of them, and for
    /// work that has to be done inside anyway.
    pub fn move_into_new() -> io::Result<Self> {
        unshare(UnshareFlags::NEWNET)?;
        Self::current()
    }

    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        // What procfs has there is a network namespace: nothing to check.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())? })
    }

    /// Another handle on it.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// The namespace's nsfs inode.
    pub fn inode(&self) -> io::Result<NsInode> {
        Ok(NsInode(rustix::fs::fstat(&self.fd)?.st_ino))
    }

    /// When the nsfs inode was made. Means "pinned since" only for a handle opened through a bind mount; procfs
    /// always shows "now".
    pub fn pinned_since(&self) -> io::Result<Timestamp> {
        let stat = rustix::fs::fstat(&self.fd)?;
        #[allow(clippy::unnecessary_cast, reason = "the width differs between architectures")]
        Ok(Timestamp::from_stat(stat.st_ctime as i64, stat.st_ctime_nsec as i64))
    }

    /// The namespace's id; `None` on kernels without `NS_GET_ID` (before 6.18).
    pub fn id(&self) -> Option<NsId> {
        let mut id = 0u64;
        // SAFETY: NS_GET_ID writes one u64 to the pointer, which is valid for that.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), NS_GET_ID as _, &raw mut id) };
        (result == 0).then_some(NsId(id))
    }

    /// Moves the calling thread into the namespace until the guard is dropped.
    ///
    /// Only for threads that are their caller's own: never on an async worker, never while another thread relies on
    /// this one's namespace.
    pub fn enter(&self) -> io::Result<Entered<'static>> {
        let home = Home::Own(Self::current()?);
        self.enter_with(home)
    }

    /// Like [`NetNs::enter`], for callers that have their own namespace open already.
    pub fn enter_from<'a>(&self, home: &'a NetNs) -> io::Result<Entered<'a>> {
        self.enter_with(Home::Given(home))
    }

    fn enter_with<'a>(&self, home: Home<'a>) -> io::Result<Entered<'a>> {
        move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(Entered { home, _not_send: PhantomData })
    }

    /// Runs `work` inside the namespace, on a thread made for it, and returns what it returned.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| -> io::Result<T> {
                move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<NetNs> for File {
    fn from(netns: NetNs) -> File {
        netns.fd.into()
    }
}

/// Moves the calling thread for good into new network and mount namespaces whose mounts do not propagate back: a world of
/// its own, in which it may change links and mount over directories without anyone else noticing.
pub fn isolate_thread() -> io::Result<()> {
    unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", private)?)
}

pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: only CLONE_FILES is dangerous (descriptors of other threads would not be ours any more), and no caller
    // in this module passes it.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// What a process does that cannot leave another namespace.
type LastWords = Box<dyn Fn(&io::Error) + Send + Sync>;
static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();

/// Has a process that cannot return to its own namespace say so before it is aborted, or end otherwise. The first caller decides.
pub fn when_stranded(last_words: impl Fn(&io::Error) + Send + Sync + 'static) {
    let _ = LAST_WORDS.set(Box::new(last_words));
}

/// The calling thread is in another namespace; dropping this takes it home.
#[derive(Debug)]
pub struct Entered<'a> {
    home: Home<'a>,
    // A namespace belongs to a thread, so the guard may not leave it.
    _not_send: PhantomData<*const ()>,
}

/// The namespace to return to.
#[derive(Debug)]
enum Home<'a> {
    Own(NetNs),
    Given(&'a NetNs),
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let home = match &self.home {
            Home::Own(home) => home,
            Home::Given(home) => home,
        };
        if let Err(error) = move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)) {
            // Going on would change links of the wrong namespace, and so would a panic's unwinding.
            if let Some(last_words) = LAST_WORDS.get() {
                last_words(&error.into());
            }
            eprintln!("podplumb: cannot return to the own network namespace: {error}");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctls_id_is_the_cookie_of_a_socket_inside() {
        let here = NetNs::current().unwrap();
        let Some(id) = here.id() else { return eprintln!("skipped: this kernel has no NS_GET_ID") };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(crate::netns_cookie(&socket).unwrap(), id);
    }

    #[test]
    fn a_namespace_is_found_by_id_and_inode_while_it_lives_and_not_after() {
        let netns = NetNs::create().unwrap();
        let (Some(id), inode) = (netns.id(), netns.inode().unwrap()) else {
            return eprintln!("skipped: this kernel has no NS_GET_ID");
        };
        assert_eq!(NetNs::by_id(id, inode).unwrap().inode().unwrap(), inode);
        assert!(NetNs::by_id(NsId(id.0 + 1), inode).is_err(), "another one that took over the inode");
        drop(netns);
        let start = std::time::Instant::now();
        while NetNs::by_id(id, inode).is_ok() && start.elapsed() < std::time::Duration::from_secs(5) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(NetNs::by_id(id, inode).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_socket_tells_where_it_was_made() {
        let netns = NetNs::create().unwrap();
        let socket = netns.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        assert_eq!(NetNs::of_socket(&socket).unwrap().inode().unwrap(), netns.inode().unwrap());
        assert!(NetNs::of_tun(&socket).is_err());
    }

    #[test]
    fn files_that_are_not_network_namespaces_are_refused() {
        for path in ["/etc/passwd", "/proc/self/ns/uts", "/", "/nowhere"] {
            assert!(NetNs::open(path).is_err(), "{path}");
        }
    }
}
