//! A packet socket that listens to everything: many packets a call, each with its time, direction and original length.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use model::IfIndex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::packet::{FilterStep, attach_filter, bind};

/// Packets that one call takes at most.
const BATCH: usize = 32;
/// Room for what the kernel says about a packet: its time (32 bytes) and `struct tpacket_auxdata` (40).
const CONTROL_BYTES: usize = 128;
/// What may wait until it is read. 4,000 full-size packets take about 10 MiB with their overhead.
const BUFFER_BYTES: usize = 16 << 20;

/// A packet as the kernel hands it out.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    /// Its bytes, from its link-layer header on, as far as they were asked for.
    pub data: &'a [u8],
    /// How long it is.
    pub original_bytes: u32,
    /// When it was seen, in nanoseconds since 1970.
    pub at_ns: u64,
    /// The interface.
    pub interface: IfIndex,
    /// The interface's kind of link (`ARPHRD_*`).
    pub hardware: u16,
    /// It leaves here; else it arrives.
    pub outgoing: bool,
    /// The outer VLAN tag, which the kernel has taken out of the frame: protocol and tag.
    pub vlan: Option<(u16, u16)>,
}

/// Listens to one interface, or to all of a namespace.
#[derive(Debug)]
pub struct CaptureSocket {
    fd: OwnedFd,
    snap_bytes: usize,
    buffers: Vec<u8>,
}

impl CaptureSocket {
    /// Opens it in the calling thread's namespace: what passes from now on is kept until it is received. It works on from any other namespace,
    /// and keeps its own alive.
    ///
    /// `snap_bytes` of each packet are kept; `program` says which packets are kept at all, and an empty one that all are. The interface is not
    /// made promiscuous: a veth shows all frames anyway.
    ///
    /// # Errors
    /// The errno of `socket`, `setsockopt` or `bind`; `EINVAL` for a program that the kernel refuses.
    pub fn open(interface: Option<IfIndex>, snap_bytes: u32, program: &[FilterStep]) -> io::Result<Self> {
        // Protocol 0 receives nothing before bind: no packet of another interface or past the filter.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        // Without CAP_NET_ADMIN the system's limit holds.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER_BYTES).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&fd, BUFFER_BYTES)?;
        }
        set(&fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA)?;
        if !program.is_empty() {
            attach_filter(&fd, program)?;
        }
        bind(&fd, interface.unwrap_or(IfIndex(0)), libc::ETH_P_ALL as u16)?;
        let snap_bytes = snap_bytes.clamp(64, 256 * 1024) as usize;
        Ok(Self { fd, snap_bytes, buffers: vec![0; BATCH * snap_bytes] })
    }

    /// Waits for packets and hands out those that are there, at most a few dozen; returns how many. 0: none came in time.
    pub fn receive(&mut self, patience: Duration, mut each: impl FnMut(Captured<'_>)) -> io::Result<usize> {
        let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        match rustix::event::poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(0),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut controls = [[0u64; CONTROL_BYTES / 8]; BATCH];
        // SAFETY: all of these are plain C structures, of which zero is a value.
        let mut from: [libc::sockaddr_ll; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut parts: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (n, buffer) in self.buffers.chunks_exact_mut(self.snap_bytes).enumerate() {
            parts[n] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut messages[n].msg_hdr;
            header.msg_name = (&raw mut from[n]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            header.msg_iov = &raw mut parts[n];
            header.msg_iovlen = 1;
            header.msg_control = controls[n].as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        let mut take = || {
            // SAFETY: each header describes memory of this frame or of self.buffers, none of it twice, that outlives the call; MSG_DONTWAIT
            // needs no timeout.
            let count = unsafe {
                libc::recvmmsg(
                    self.fd.as_raw_fd(),
                    messages.as_mut_ptr(),
                    BATCH as _,
                    (libc::MSG_DONTWAIT | libc::MSG_TRUNC) as _,
                    std::ptr::null_mut(),
                )
            };
            usize::try_from(count).map_err(|_| io::Error::last_os_error())
        };
        let mut taken = take();
        // Said once when the interface goes down or away. What was seen before is still to be had.
        if matches!(&taken, Err(error) if error.raw_os_error() == Some(libc::ENETDOWN)) {
            taken = take();
        }
        let count = match taken {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        for (n, message) in messages[..count].iter().enumerate() {
            let whole = message.msg_len as usize;
            let start = n * self.snap_bytes;
            let said = Said::of(&message.msg_hdr);
            each(Captured {
                data: &self.buffers[start..start + whole.min(self.snap_bytes)],
                original_bytes: said.original_bytes.unwrap_or(message.msg_len),
                at_ns: said.at_ns.unwrap_or_else(now_ns),
                interface: IfIndex(from[n].sll_ifindex.cast_unsigned()),
                hardware: from[n].sll_hatype,
                outgoing: from[n].sll_pkttype == libc::PACKET_OUTGOING,
                vlan: said.vlan,
            });
        }
        Ok(count)
    }

    /// How many packets passed the filter since the last call, and how many of them were lost because they were not received fast enough.
    pub fn counts(&self) -> io::Result<(u32, u32)> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the pointers are valid for a write of `length` bytes and of the length itself.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        // tp_packets counts the lost ones too (net/packet/af_packet.c).
        if result == 0 { Ok((stats.tp_packets, stats.tp_drops)) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for CaptureSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the kernel says beside a packet's bytes.
#[derive(Default)]
struct Said {
    at_ns: Option<u64>,
    original_bytes: Option<u32>,
    vlan: Option<(u16, u16)>,
}

/// linux/if_packet.h: the tag, and its protocol, are valid.
const VLAN_VALID: u32 = 1 << 4;
const VLAN_TPID_VALID: u32 = 1 << 6;
const ETH_P_8021Q: u16 = 0x8100;

impl Said {
    fn of(header: &libc::msghdr) -> Self {
        let mut said = Said::default();
        // SAFETY: the kernel has filled the control buffer that `header` describes and set its length.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
        // SAFETY: the macros return null or a pointer to a whole header inside the buffer, which is aligned for it.
        while let Some(message) = unsafe { next.as_ref() } {
            // SAFETY: the data begins behind the header.
            let data = unsafe { libc::CMSG_DATA(next) };
            #[allow(clippy::unnecessary_cast, reason = "the width differs between C libraries")]
            let length = message.cmsg_len as usize - (data as usize - next as usize);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if length >= size_of::<libc::timespec>() => {
                    // SAFETY: there are so many bytes, and any are a timespec.
                    let at = unsafe { data.cast::<libc::timespec>().read_unaligned() };
                    #[allow(clippy::unnecessary_cast, reason = "the width differs between architectures")]
                    let ns =
                        (at.tv_sec as i64).saturating_mul(1_000_000_000).saturating_add(at.tv_nsec as i64);
                    said.at_ns = u64::try_from(ns).ok();
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) if length >= size_of::<libc::tpacket_auxdata>() => {
                    // SAFETY: there are so many bytes, and any are a tpacket_auxdata.
                    let aux = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
                    said.original_bytes = Some(aux.tp_len);
                    let protocol = match aux.tp_status & VLAN_TPID_VALID != 0 {
                        true => aux.tp_vlan_tpid,
                        false => ETH_P_8021Q,
                    };
                    said.vlan = (aux.tp_status & VLAN_VALID != 0).then_some((protocol, aux.tp_vlan_tci));
                }
                _ => {}
            }
            // SAFETY: as for the first one.
            next = unsafe { libc::CMSG_NXTHDR(header, next) };
        }
        said
    }
}

fn now_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

fn set(fd: &OwnedFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
