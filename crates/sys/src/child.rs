//! A child process that is left to wait alone.

use std::io;
use std::os::fd::RawFd;

/// A thread that was joined has woken who waits for it before the kernel takes it off the list.
const LOOKS_AT_THREADS: u32 = 20;

/// Before a fork, after which locks of other threads would stay locked for ever in the child; and before setns into user and mount
/// namespaces, which the kernel refuses to several.
///
/// # Errors
/// `ResourceBusy` when the process has more than one.
pub(crate) fn require_one_thread() -> io::Result<()> {
    for _ in 0..LOOKS_AT_THREADS {
        // A directory has two links and one more for each subdirectory, here for each thread.
        if rustix::fs::stat("/proc/self/task")?.st_nlink <= 3 {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the process has several threads"))
}

/// Forks a child that has only the descriptors in `keep`, runs `work` and exits; returns in the parent at once.
///
/// `RTM_DELLINK` returns 18 ms after the link is gone, because the caller waits for RCU grace periods so that memory can
/// be freed. A child that owns none of the parent's descriptors (a container runtime waits for its plugin's stdout
/// to close) can do that waiting while the parent answers. The parent must exit soon and not wait for it: the child
/// then belongs to init, which reaps it.
///
/// # Errors
/// `ResourceBusy` when the process has more than one thread (after a fork, locks of the other threads would stay
/// locked for ever in the child), and the errno of `fork`.
pub fn fork_detached(keep: &[RawFd], work: impl FnOnce()) -> io::Result<()> {
    require_one_thread()?;
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    // SAFETY: the process has a single thread, checked above, so the child may allocate and lock as it likes.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let mut next = 0;
            for fd in keep.into_iter().chain([u32::MAX]) {
                if fd > next {
                    let last = if fd == u32::MAX { fd } else { fd - 1 };
                    // SAFETY: closes descriptors that nothing in the child refers to: it leaves by _exit below,
                    // so no destructor of the parent's values runs here.
                    unsafe { libc::syscall(libc::SYS_close_range, next, last, 0) };
                }
                next = fd.saturating_add(1);
            }
            // A session of its own: a signal to the runtime's process group must not end the removal half-way.
            let _ = rustix::process::setsid();
            work();
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        _ => Ok(()),
    }
}
