//! Packet sockets: whole Ethernet frames, for a protocol that has to work before the interface has an address.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use model::IfIndex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// A socket that sends frames from one interface and receives those with UDP over IPv4 for one port.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket in the calling thread's namespace. It works on from any other namespace, and keeps its own alive.
    ///
    /// # Errors
    /// The errno of `socket`, `setsockopt` or `bind`; `ENODEV` when there is no such interface.
    pub fn open(interface: IfIndex, udp_port: u16) -> io::Result<Self> {
        // Protocol 0 receives nothing before bind: no frame gets in ahead of the filter.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        attach(fd.as_fd(), &udp_filter(udp_port))?;
        bind(&fd, interface, libc::ETH_P_IP as u16)?;
        Ok(Self { fd })
    }

    /// Sends a frame, from its Ethernet header on.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, frame, SendFlags::empty()))?;
        Ok(())
    }

    /// Receives a frame and returns its length; `None` when none came in time. A frame that does not fit is cut.
    pub fn receive(&self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<usize>> {
        let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match rustix::net::recv(&self.fd, buffer, RecvFlags::empty()) {
            Ok((_, length)) => Ok(Some(length)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Sends frames, from their Ethernet headers on, out of an interface of the calling thread's namespace.
///
/// # Errors
/// The errno of `socket` or `sendto`; `ENODEV` when there is no such interface. What was sent before stays sent.
pub fn send_frames<'a>(interface: IfIndex, frames: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    // Protocol 0: it receives nothing.
    let fd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let address = link_address(interface, 0)?;
    for frame in frames {
        // SAFETY: pointers and lengths describe `frame` and `address`, which outlive the call.
        let sent = unsafe {
            libc::sendto(
                fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A step of a classic BPF program (linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterStep {
    /// The operation.
    pub code: u16,
    /// How many steps are skipped if it is true.
    pub jt: u8,
    /// And if it is false.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

/// Has a socket drop what the program does not let pass, in place of the program that it had.
///
/// # Errors
/// `EINVAL` for a program that the kernel refuses.
pub fn attach_filter(socket: impl AsFd, program: &[FilterStep]) -> io::Result<()> {
    let step = |step: &FilterStep| libc::sock_filter { code: step.code, jt: step.jt, jf: step.jf, k: step.k };
    attach(socket.as_fd(), &program.iter().map(step).collect::<Vec<_>>())
}

fn attach(fd: BorrowedFd<'_>, filter: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the pointer and the length describe `program`, which points to `filter`; the kernel copies both.
    let attached = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    check(attached)
}

/// Has a socket receive an interface's packets of a protocol.
pub(crate) fn bind(fd: &OwnedFd, interface: IfIndex, protocol: u16) -> io::Result<()> {
    let address = link_address(interface, protocol)?;
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    let bound = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    check(bound)
}

fn link_address(interface: IfIndex, protocol: u16) -> io::Result<libc::sockaddr_ll> {
    let index = i32::try_from(interface.0).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    Ok(libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    })
}

/// A pod may receive a million packets a second; only those that are wanted wake the reader.
///
/// linux/filter.h; offsets are those of an Ethernet frame: the type at 12, the IP header at 14.
fn udp_filter(port: u16) -> [libc::sock_filter; 11] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF_AFTER_X: u16 = 0x48;
    const X_IS_IP_HEADER_LENGTH: u16 = 0xb1;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    [
        step(LOAD_HALF, 12, 0, 0),
        step(JUMP_IF_EQUAL, libc::ETH_P_IP as u32, 0, 8),
        step(LOAD_BYTE, 23, 0, 0),
        step(JUMP_IF_EQUAL, libc::IPPROTO_UDP as u32, 0, 6),
        step(LOAD_HALF, 20, 0, 0),
        // A fragment but the first has no ports.
        step(JUMP_IF_ANY_BIT, 0x1fff, 4, 0),
        step(X_IS_IP_HEADER_LENGTH, 14, 0, 0),
        step(LOAD_HALF_AFTER_X, 16, 0, 0),
        step(JUMP_IF_EQUAL, u32::from(port), 0, 1),
        step(RETURN, u32::MAX, 0, 0),
        step(RETURN, 0, 0, 0),
    ]
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
