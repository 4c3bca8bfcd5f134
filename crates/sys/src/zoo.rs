//! Ways to hold a namespace that only tests need: each leaves a process in a state that programs do not get into on purpose.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `sizeof(struct io_uring_params)` (include/uapi/linux/io_uring.h).
const RING_PARAMETERS_BYTES: usize = 120;
const IORING_REGISTER_FILES: libc::c_uint = 2;

/// A new io_uring with one registered file. The ring has it from then on, whether or not the descriptor is closed.
pub fn ring_with(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut parameters = [0u64; RING_PARAMETERS_BYTES / size_of::<u64>()];
    // SAFETY: the kernel reads and writes one struct io_uring_params, which `parameters` is as long as.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4u32, parameters.as_mut_ptr()) };
    let ring = libc::c_int::try_from(ring).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let ring = unsafe { OwnedFd::from_raw_fd(ring) };
    let files = [file.as_raw_fd()];
    // SAFETY: the kernel reads one descriptor from `files`.
    let registered = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            IORING_REGISTER_FILES,
            files.as_ptr(),
            1u32,
        )
    };
    if registered < 0 { Err(io::Error::last_os_error()) } else { Ok(ring) }
}

/// Makes a child and waits for it in state D, as `vfork()` does: no signal but a fatal one is heard until the child ends. The child
/// leaves the caller's namespace for that of `elsewhere` and sleeps until it is killed.
pub fn wait_in_the_kernel(elsewhere: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: without CLONE_VM this is a fork(): the child has its own copy of everything.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_VFORK | libc::SIGCHLD, 0, 0, 0, 0) };
    match child {
        0 => {
            // SAFETY: plain system calls, and no return: the child of a process that may have threads does nothing else.
            unsafe {
                libc::setns(elsewhere.as_raw_fd(), libc::CLONE_NEWNET);
                loop {
                    libc::pause();
                }
            }
        }
        n if n < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends the calling thread alone, be it the main one: the process then looks like a zombie while its other threads run.
pub fn end_this_thread() -> ! {
    // SAFETY: exit(2) ends this thread only; its stack is not used any more, and not freed either.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("exit(2) does not return")
}
