//! Persistent tap devices (tun(4), Documentation/networking/tuntap.rst).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `ioctl` requests of drivers/net/tun.c, and flags of `TUNSETIFF`.
const TUNSETIFF: u64 = 0x4004_54ca;
const TUNSETPERSIST: u64 = 0x4004_54cb;
const TUNSETOWNER: u64 = 0x4004_54cc;
const TUNSETGROUP: u64 = 0x4004_54ce;
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// A tap device that ends with this value, until it is made to [`persist`](Tap::persist).
#[derive(Debug)]
pub struct Tap(File);

impl Tap {
    /// Makes a tap device in the calling thread's namespace.
    pub fn new(name: &str, multi_queue: bool) -> io::Result<Self> {
        if name.is_empty() || name.len() > 15 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface's name has 1 to 15 bytes"));
        }
        let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
        let mut flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        if multi_queue {
            flags |= IFF_MULTI_QUEUE;
        }
        // struct ifreq: the name in 16 bytes, and a union of 24.
        let mut request = [0u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes one struct ifreq, which `request` is as long as.
        check(unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF as _, request.as_mut_ptr()) })?;
        Ok(Self(tun))
    }

    /// Who may open it (0: root only), by user and by group.
    pub fn give(&self, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
        let numbers = [(TUNSETOWNER, owner), (TUNSETGROUP, group)];
        numbers.into_iter().try_for_each(|(number, id)| id.map_or(Ok(()), |id| self.set(number, id)))
    }

    /// Has the device stay when nobody has it open.
    pub fn persist(self) -> io::Result<()> {
        self.set(TUNSETPERSIST, 1)
    }

    fn set(&self, number: u64, value: u32) -> io::Result<()> {
        // SAFETY: these requests take a number, not a pointer.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), number as _, libc::c_ulong::from(value)) })
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
