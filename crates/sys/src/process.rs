//! Another process, its descriptors, and what those lead to.

use std::io;
use std::io::IoSliceMut;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Gid, Pid, PidfdFlags, PidfdGetfdFlags, Uid};
use rustix::thread::{
    ThreadNameSpaceType, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::child::require_one_thread;

/// The kernel puts at most so many descriptors into one message (`SCM_MAX_FD`, include/net/scm.h).
const MOST_IN_A_MESSAGE: usize = 253;

/// A process that cannot be mistaken for a later one of the same number (pidfd, Linux 5.3).
///
/// What procfs says under the number is about this process if it [is alive](Process::is_alive) afterwards: while it lives nobody
/// else gets its number.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
}

impl Process {
    /// The process that has the number now.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self { pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Whether a thread of it still runs.
    pub fn is_alive(&self) -> bool {
        let mut poll = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut poll, Some(&now)), Ok(0))
    }

    /// Moves this process, which has one thread, into some of its namespaces, all at once or none (setns with a pidfd, Linux 5.8).
    /// Into a pid namespace come only children that are made afterwards. In a user namespace it becomes root, if that has one.
    ///
    /// # Errors
    /// `NotFound` when the process has ended, and what setns says.
    pub fn join(&self, kinds: &[NamespaceKind]) -> io::Result<()> {
        require_one_thread()?;
        let wanted = kinds.iter().fold(ThreadNameSpaceType::empty(), |all, kind| {
            all | match kind {
                NamespaceKind::Net => ThreadNameSpaceType::NETWORK,
                NamespaceKind::Mount => ThreadNameSpaceType::MOUNT,
                NamespaceKind::Pid => ThreadNameSpaceType::PROCESS_ID,
                NamespaceKind::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
                NamespaceKind::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
                NamespaceKind::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
                NamespaceKind::User => ThreadNameSpaceType::USER,
            }
        });
        move_into_thread_name_spaces(self.pidfd.as_fd(), wanted).map_err(|error| match error {
            rustix::io::Errno::SRCH => io::ErrorKind::NotFound.into(),
            error => io::Error::from(error),
        })?;
        if kinds.contains(&NamespaceKind::User) {
            // All capabilities are there, but exec leaves them only to root. A namespace without a root (EINVAL) is entered as nobody.
            let _ = set_thread_groups(&[]);
            let _ = set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT);
            let _ = set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT);
        }
        Ok(())
    }

    /// A duplicate of one of its descriptors (Linux 5.6; asks for ptrace permission).
    pub fn descriptor(&self, fd: u32) -> io::Result<OwnedFd> {
        let fd = i32::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(rustix::process::pidfd_getfd(&self.pidfd, fd, PidfdGetfdFlags::empty())?)
    }
}

/// To poll: readable once it has ended.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Kinds of namespaces that a process can join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the kernel's")]
pub enum NamespaceKind {
    Net,
    Mount,
    Pid,
    Uts,
    Ipc,
    Cgroup,
    User,
}

impl NamespaceKind {
    /// Its name in /proc/PID/ns.
    pub fn file(self) -> &'static str {
        match self {
            NamespaceKind::Net => "net",
            NamespaceKind::Mount => "mnt",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::User => "user",
        }
    }
}

/// Duplicates of the descriptors that the first message waiting in a Unix socket carries. The message stays where it is, for whom
/// it is meant.
///
/// # Errors
/// `Unsupported` for a socket whose owner has set `SO_PEEK_OFF`: looking would move his place.
pub fn descriptors_in_flight(socket: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    if peek_offset(&socket)? >= 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "its owner peeks too (SO_PEEK_OFF)"));
    }
    let mut byte = [0u8; 1];
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_IN_A_MESSAGE), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
    let messages = ancillary.drain();
    let rights = messages.filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

/// `SO_PEEK_OFF`: -1 when peeking always begins at the first byte.
fn peek_offset(socket: impl AsFd) -> io::Result<i32> {
    let mut offset: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointers are valid for a write of `length` bytes and of the length itself.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw mut offset).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(offset) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read};
    use std::os::unix::net::UnixStream;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    use super::*;

    #[test]
    fn a_look_at_a_message_leaves_it_to_whom_it_is_meant() {
        let (sender, mut receiver) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/proc/self/ns/net").unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [file.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        rustix::net::sendmsg(&sender, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();
        for _ in 0..2 {
            let seen = descriptors_in_flight(&receiver).unwrap();
            let same =
                rustix::fs::fstat(&seen[0]).unwrap().st_ino == rustix::fs::fstat(&file).unwrap().st_ino;
            assert!(seen.len() == 1 && same);
        }
        let mut byte = [0];
        receiver.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        receiver.set_nonblocking(true).unwrap();
        assert!(descriptors_in_flight(&receiver).is_err(), "nothing waits any more");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process that ends")]
    fn a_process_that_ended_is_not_taken_for_the_next_of_its_number() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert!(process.is_alive() && process.descriptor(0).is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive() && process.descriptor(0).is_err());
    }
}
