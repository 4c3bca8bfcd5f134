//! Sockets that a service manager opened for its service (sd_listen_fds(3)).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::fs::FileType;
use rustix::io::FdFlags;

/// `SD_LISTEN_FDS_START`.
const FIRST: i32 = 3;

/// The listening unix socket that this process was started with, if it was. Only for the start of a process, once: the
/// descriptor is taken.
///
/// # Errors
/// `InvalidInput` when there are several, or when it is not a socket.
pub fn inherited_listener() -> io::Result<Option<UnixListener>> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    match number("LISTEN_FDS") {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(_) => return refuse("more than one socket was passed (LISTEN_FDS)"),
    }
    // SAFETY: the service manager passed this descriptor to this process, by its pid, and nothing else owns it; that it is
    // open is checked first.
    let fd = unsafe {
        if libc::fcntl(FIRST, libc::F_GETFD) < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(FIRST)
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::Socket {
        return refuse("descriptor 3 is not a socket");
    }
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(Some(fd.into()))
}
