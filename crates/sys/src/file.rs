//! Files that are complete before they have a name.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// A file with its content that nobody can find yet. [`link`](UnnamedFile::link) gives it a name, if that is free: so a crash leaves
/// either nothing or the whole file, and a name that somebody else took meanwhile is not overwritten.
#[derive(Debug)]
pub struct UnnamedFile {
    directory: OwnedFd,
    file: OwnedFd,
    /// Its name where the file system has no `O_TMPFILE`.
    temporary: Option<String>,
}

impl UnnamedFile {
    /// Writes `content` to a new file (mode 0600) on the file system of `directory`.
    pub fn new(directory: BorrowedFd<'_>, content: &[u8]) -> rustix::io::Result<Self> {
        let mode = Mode::from_raw_mode(0o600);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let unnamed = rustix::fs::openat(directory, ".", flags | OFlags::TMPFILE, mode);
        let (file, temporary) = match unnamed {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                // Of this process and this call: threads write at the same time.
                static COUNT: AtomicU64 = AtomicU64::new(0);
                let (pid, count) = (rustix::process::getpid().as_raw_nonzero(), COUNT.fetch_add(1, Relaxed));
                let name = format!(".podplumb-{pid}-{count}");
                // What a crashed process of this pid left may be the same file as a lease by now: a new one, never that.
                let _ = rustix::fs::unlinkat(directory, &name, AtFlags::empty());
                let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (rustix::fs::openat(directory, &name, flags | new, mode)?, Some(name))
            }
            Err(errno) => return Err(errno),
        };
        let directory = rustix::io::fcntl_dupfd_cloexec(directory, 0)?;
        let unnamed = Self { directory, file, temporary };
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&unnamed.file, rest))?;
            rest = &rest[written..];
        }
        Ok(unnamed)
    }

    /// Gives the file a name in its directory; fails with `EXIST` if that is taken.
    pub fn link(&self, name: &str) -> rustix::io::Result<()> {
        let directory = &self.directory;
        if let Some(temporary) = &self.temporary {
            return rustix::fs::linkat(directory, temporary, directory, name, AtFlags::empty());
        }
        match rustix::fs::linkat(&self.file, c"", directory, name, AtFlags::EMPTY_PATH) {
            // Without CAP_DAC_READ_SEARCH the descriptor has to be named by its path in /proc.
            Err(Errno::NOENT) => {
                let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(rustix::fs::CWD, path, directory, name, AtFlags::SYMLINK_FOLLOW)
            }
            result => result,
        }
    }
}

impl AsFd for UnnamedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for UnnamedFile {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
        }
    }
}
