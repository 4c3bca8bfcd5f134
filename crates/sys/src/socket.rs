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

/// include/uapi/linux/in.h and in6.h: don't fragment, whatever the path MTU was the last time; only the interface's own counts.
const PMTUDISC_PROBE: libc::c_int = 3;

/// Has a socket send every packet in one piece, also where an earlier answer says that it is too large for the way: a probe wants to
/// know how the way is now. What the interface cannot take is refused with `EMSGSIZE`.
pub fn never_fragment(socket: impl AsFd, v6: bool) -> io::Result<()> {
    let options: &[(libc::c_int, libc::c_int, libc::c_int)] = match v6 {
        false => &[(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, PMTUDISC_PROBE)],
        // Without IPV6_DONTFRAG the kernel cuts what is too large for the interface into fragments.
        true => &[
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, PMTUDISC_PROBE),
            (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1),
        ],
    };
    for (level, option, value) in options {
        // SAFETY: the pointer and the length describe `value`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                *level,
                *option,
                std::ptr::from_ref(value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

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
