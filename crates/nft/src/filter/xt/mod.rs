//! x_tables' matches and targets: structures of the kernel's headers, the same in iptables-nft's rules and in iptables-legacy's.

mod matches;
mod targets;

pub(super) use matches::{Asked, interface, read_match};
pub(super) use targets::read_target;

/// Reads numbers and addresses out of a structure.
#[derive(Debug, Clone, Copy)]
struct Structure<'a>(&'a [u8]);

impl Structure<'_> {
    fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(self, at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(self.0.get(at..at + 2)?.try_into().ok()?))
    }

    /// A port in network byte order.
    fn port(self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.0.get(at..at + 2)?.try_into().ok()?))
    }

    fn u32(self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.0.get(at..at + 4)?.try_into().ok()?))
    }

    /// An address of `union nf_inet_addr`.
    fn ip(self, at: usize, v6: bool) -> Option<std::net::IpAddr> {
        crate::traces::address(self.0.get(at..at + if v6 { 16 } else { 4 })?)
    }
}
