//! What an interface leaves to hardware (ethtool, include/uapi/linux/ethtool.h). Only asked, never set.

use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// include/uapi/linux/sockios.h.
const SIOCETHTOOL: u64 = 0x8946;
/// One that everybody may ask, and every kernel answers: of any feature among `NETIF_F_CSUM_MASK`.
const ETHTOOL_GTXCSUM: u32 = 0x0000_0016;

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ifreq`, of which this request has a pointer in the union of 24 bytes.
#[repr(C)]
struct Request {
    name: [u8; 16],
    data: *mut EthtoolValue,
    rest: [u8; 24 - size_of::<*mut EthtoolValue>()],
}

/// Whether an interface of the calling thread's namespace says that it computes checksums of what it sends
/// (`ethtool -k`: tx-checksumming), so that the kernel leaves them out.
pub fn tx_checksum(interface: &str) -> io::Result<bool> {
    if interface.is_empty() || interface.len() > 15 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface's name has 1 to 15 bytes"));
    }
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut value = EthtoolValue { command: ETHTOOL_GTXCSUM, data: 0 };
    let mut request =
        Request { name: [0; 16], data: &raw mut value, rest: [0; 24 - size_of::<*mut EthtoolValue>()] };
    request.name[..interface.len()].copy_from_slice(interface.as_bytes());
    // SAFETY: SIOCETHTOOL reads one struct ifreq and follows its pointer; for ETHTOOL_GTXCSUM it reads and writes one
    // struct ethtool_value there. Both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data != 0)
}
