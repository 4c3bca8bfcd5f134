//! Mount namespaces in which nobody lives.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::netns::{NetNs, unshare};

/// An open mount namespace.
#[derive(Debug)]
pub struct MountNs {
    fd: OwnedFd,
}

impl MountNs {
    /// Opens the namespace that `path` (`/proc/PID/fd/N`, `/proc/PID/ns/mnt`) leads to.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(Self { fd: rustix::fs::open(path.as_ref(), flags, Mode::empty())? })
    }

    /// Its mount table, in the form of `mountinfo`.
    pub fn table(&self) -> io::Result<Vec<u8>> {
        // In there, /proc may be another one or none: ours is opened before, and each thread finds itself in it.
        let proc = File::open("/proc")?;
        self.run(|| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let mut file: File =
                rustix::fs::openat(proc, "thread-self/mountinfo", flags, Mode::empty())?.into();
            let mut table = Vec::new();
            file.read_to_end(&mut table)?;
            Ok(table)
        })
    }

    /// Opens the network namespace that is mounted at `path` in it.
    pub fn netns(&self, path: &Path) -> io::Result<NetNs> {
        self.run(|| NetNs::open(path))
    }

    /// Moves the calling thread into a new mount namespace, for good. What is mounted there is seen nowhere else.
    pub fn move_into_new() -> io::Result<()> {
        unshare(UnshareFlags::FS | UnshareFlags::NEWNS)?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        Ok(rustix::mount::mount_change("/", private)?)
    }

    /// Runs `work` in a new mount namespace, on a thread made for it. What is mounted there is seen nowhere else, and gone at the end.
    pub fn run_in_new<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                Self::move_into_new()?;
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `work` in it, on a thread made for it.
    fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                // The kernel refuses threads that share their root directory with others.
                unshare(UnshareFlags::FS)?;
                move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Mount))?;
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
