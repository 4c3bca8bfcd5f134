//! Netlink sockets and the socket options that safe crates lack.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use model::NsId;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType};

/// A netlink socket of the calling thread's namespace, with strict checking of requests (4.20), extended
/// acknowledgements (4.12) and without the request echoed in each acknowledgement (4.3). On kernels without an
/// option the socket works without it.
pub fn netlink_socket(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let fd =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK] {
        let on: libc::c_int = 1;
        // SAFETY: the pointer and the length describe `on`, which outlives the call.
        unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
    Ok(fd)
}

/// include/uapi/linux/netlink.h; libc has no name for it on musl.
const NETLINK_GET_STRICT_CHK: libc::c_int = 12;
/// include/uapi/asm-generic/socket.h (5.14).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The id of the network namespace that a socket belongs to.
pub fn netns_cookie(socket: impl AsFd) -> io::Result<NsId> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers are valid for a write of `length` bytes and of the length itself.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(NsId(cookie)) } else { Err(io::Error::last_os_error()) }
}
