//! Packets that the kernel writes into memory which it shares with us: no call and no copy for each of them
//! (Documentation/networking/packet_mmap.rst, TPACKET_V3).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use model::IfIndex;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::capture::Captured;
use crate::packet::{FilterStep, attach_filter, bind};

/// The kernel hands memory over in blocks of this size. A packet that is longer is cut.
const BLOCK_BYTES: usize = 256 << 10;
/// A block that is not full is handed over after this time.
const PATIENCE_MS: libc::c_uint = 40;

// linux/if_packet.h; the places of what is read are those of its structures.
const PACKET_RX_RING: libc::c_int = 5;
const PACKET_STATISTICS: libc::c_int = 6;
const PACKET_VERSION: libc::c_int = 10;
const TPACKET_V3: libc::c_int = 2;
const TP_STATUS_KERNEL: u32 = 0;
const TP_STATUS_USER: u32 = 1;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
/// `struct tpacket_block_desc`.
const BLOCK_STATUS: usize = 8;
const BLOCK_PACKETS: usize = 12;
const BLOCK_FIRST: usize = 16;
/// `struct tpacket3_hdr`, behind which a `struct sockaddr_ll` is.
const NEXT: usize = 0;
const SECONDS: usize = 4;
const NANOSECONDS: usize = 8;
const KEPT_BYTES: usize = 12;
const BYTES: usize = 16;
const STATUS: usize = 20;
const DATA: usize = 24;
const VLAN_TAG: usize = 32;
const VLAN_PROTOCOL: usize = 36;
const ADDRESS: usize = 48;
const ADDRESS_INTERFACE: usize = ADDRESS + 4;
const ADDRESS_HARDWARE: usize = ADDRESS + 8;
const ADDRESS_DIRECTION: usize = ADDRESS + 10;
const ETH_P_8021Q: u16 = 0x8100;

/// `struct tpacket_req3`.
#[repr(C)]
struct Request {
    block_bytes: libc::c_uint,
    blocks: libc::c_uint,
    frame_bytes: libc::c_uint,
    frames: libc::c_uint,
    patience_ms: libc::c_uint,
    private_bytes: libc::c_uint,
    features: libc::c_uint,
}

/// Listens to one interface.
#[derive(Debug)]
pub struct CaptureRing {
    fd: OwnedFd,
    memory: Memory,
    /// The block that the kernel hands over next.
    next: usize,
    interface: IfIndex,
    hardware: u16,
}

/// Memory that is shared with the kernel, until it is dropped.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is this process's, not a thread's, and is used through &mut only.
unsafe impl Send for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is what mmap returned, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

impl CaptureRing {
    /// Prepares it in the calling thread's namespace, with about so much memory. It works on from any other namespace, and keeps its own
    /// alive. Nothing is kept before [`start`](CaptureRing::start).
    ///
    /// The interface is not made promiscuous: a veth shows all frames anyway.
    ///
    /// # Errors
    /// The errno of `socket`, `setsockopt`, `mmap` or `bind`; `ENODEV` when there is no such interface.
    pub fn open(interface: IfIndex, buffer_bytes: usize) -> io::Result<Self> {
        // Protocol 0 receives nothing, before bind and after.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        set(&fd, PACKET_VERSION, &TPACKET_V3)?;
        let mut blocks = (buffer_bytes / BLOCK_BYTES).max(4);
        loop {
            let request = Request {
                block_bytes: BLOCK_BYTES as libc::c_uint,
                blocks: blocks as libc::c_uint,
                // Frames are of no size of their own in this version, but the numbers have to add up.
                frame_bytes: BLOCK_BYTES as libc::c_uint,
                frames: blocks as libc::c_uint,
                patience_ms: PATIENCE_MS,
                private_bytes: 0,
                features: 0,
            };
            match set(&fd, PACKET_RX_RING, &request) {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && blocks > 4 => blocks /= 2,
                done => break done?,
            }
        }
        let memory = map(&fd, blocks * BLOCK_BYTES)?;
        bind(&fd, interface, 0)?;
        let hardware = hardware(&fd)?;
        Ok(Self { fd, memory, next: 0, interface, hardware })
    }

    /// The interface's kind of link (`ARPHRD_*`).
    pub fn hardware(&self) -> u16 {
        self.hardware
    }

    /// Keeps from now on what the program says, and as much of each packet.
    pub fn start(&self, program: &[FilterStep]) -> io::Result<()> {
        attach_filter(&self.fd, program)?;
        bind(&self.fd, self.interface, libc::ETH_P_ALL as u16)
    }

    /// Keeps nothing from now on. What was kept is there within some tens of milliseconds.
    pub fn stop(&self) -> io::Result<()> {
        attach_filter(&self.fd, &[FilterStep { code: 0x06, jt: 0, jf: 0, k: 0 }])
    }

    /// Hands out what is there, and returns how many packets that was.
    pub fn read(&mut self, mut each: impl FnMut(Captured<'_>)) -> usize {
        let blocks = self.memory.bytes / BLOCK_BYTES;
        let mut count = 0;
        // Each block once: who reads as fast as the kernel writes gets to look at other things, too.
        for _ in 0..blocks {
            // SAFETY: next is below the number of blocks, all of which are mapped.
            let block = unsafe { self.memory.start.as_ptr().add(self.next * BLOCK_BYTES) };
            // SAFETY: the word is inside of the block and aligned, and whoever else writes it, the kernel, does so atomically.
            let status = unsafe { AtomicU32::from_ptr(block.add(BLOCK_STATUS).cast()) };
            if status.load(Ordering::Acquire) & TP_STATUS_USER == 0 {
                break;
            }
            // SAFETY: the block is mapped, and ours until its status says otherwise: the kernel does not write to it.
            let bytes = unsafe { std::slice::from_raw_parts(block, BLOCK_BYTES) };
            count += packets(bytes, &mut each);
            status.store(TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % blocks;
        }
        count
    }

    /// What befell the socket since the last call: `ENETDOWN`, its interface went down or away.
    pub fn take_error(&self) -> Option<io::Error> {
        rustix::net::sockopt::socket_error(&self.fd).ok()?.err().map(io::Error::from)
    }

    /// How many packets passed the filter since the last call, and how many of them were lost because they were not read fast enough.
    pub fn counts(&self) -> io::Result<(u32, u32)> {
        // tp_packets, tp_drops, tp_freeze_q_cnt. The first counts the lost ones too (net/packet/af_packet.c).
        let mut counts = [0u32; 3];
        let mut length = size_of::<[u32; 3]>() as libc::socklen_t;
        // SAFETY: the pointers are valid for a write of `length` bytes and of the length itself.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result == 0 { Ok((counts[0], counts[1])) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for CaptureRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Walks over the packets of a block.
fn packets(block: &[u8], each: &mut impl FnMut(Captured<'_>)) -> usize {
    let word = |at: usize| u32::from_ne_bytes(block[at..at + 4].try_into().expect("four bytes"));
    let half = |at: usize| u16::from_ne_bytes(block[at..at + 2].try_into().expect("two bytes"));
    let count = word(BLOCK_PACKETS) as usize;
    let mut at = word(BLOCK_FIRST) as usize;
    for n in 0..count {
        // The kernel keeps to this; whoever relies on it for memory's sake had better look.
        if at + ADDRESS + size_of::<libc::sockaddr_ll>() > block.len() {
            return n;
        }
        let start = at + usize::from(half(at + DATA));
        let Some(data) = block.get(start..start + word(at + KEPT_BYTES) as usize) else { return n };
        let status = word(at + STATUS);
        let protocol = match status & TP_STATUS_VLAN_TPID_VALID != 0 {
            true => half(at + VLAN_PROTOCOL),
            false => ETH_P_8021Q,
        };
        each(Captured {
            data,
            original_bytes: word(at + BYTES),
            at_ns: u64::from(word(at + SECONDS)) * 1_000_000_000 + u64::from(word(at + NANOSECONDS)),
            interface: IfIndex(word(at + ADDRESS_INTERFACE)),
            hardware: half(at + ADDRESS_HARDWARE),
            outgoing: block[at + ADDRESS_DIRECTION] == libc::PACKET_OUTGOING,
            vlan: (status & TP_STATUS_VLAN_VALID != 0).then_some((protocol, word(at + VLAN_TAG) as u16)),
        });
        at += word(at + NEXT) as usize;
    }
    count
}

fn map(fd: &OwnedFd, bytes: usize) -> io::Result<Memory> {
    // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    Ok(Memory { start, bytes })
}

/// `sll_hatype` of the interface that the socket is bound to.
fn hardware(fd: &OwnedFd) -> io::Result<u16> {
    // SAFETY: a plain C structure, of which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointers are valid for a write of `length` bytes and of the length itself.
    let result = unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
    if result == 0 { Ok(address.sll_hatype) } else { Err(io::Error::last_os_error()) }
}

fn set<T>(fd: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, a plain structure of integers that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
