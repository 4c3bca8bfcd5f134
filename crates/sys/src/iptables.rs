//! The legacy iptables (x_tables), which nf_tables does not see.

use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// include/uapi/linux/netfilter_ipv4/ip_tables.h
const IPT_SO_GET_INFO: libc::c_int = 64;
const IPT_SO_GET_ENTRIES: libc::c_int = 65;
const FORWARD: usize = 2;
/// More than this is no ruleset that we want to read on a plugin's way.
const LARGEST_BYTES: usize = 8 << 20;

/// `struct ipt_getinfo`
#[repr(C)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

/// Whether the legacy iptables of the calling thread's namespace drops what is forwarded, by the policy of its chain FORWARD. Nobody who
/// uses iptables-nft only has such tables, and then nothing is asked.
pub fn legacy_forward_drops() -> bool {
    let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    names.lines().any(|name| name == "filter") && forward_policy().is_ok_and(|verdict| verdict == -1)
}

/// The verdict of the chain's last rule, which is its policy: -1 drops, -2 accepts.
fn forward_policy() -> io::Result<i32> {
    let raw = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(rustix::net::ipproto::RAW),
    )?;
    let mut info = Info {
        name: [0; 32],
        valid_hooks: 0,
        hook_entry: [0; 5],
        underflow: [0; 5],
        num_entries: 0,
        size: 0,
    };
    info.name[..6].copy_from_slice(b"filter");
    let mut length = size_of::<Info>() as libc::socklen_t;
    // SAFETY: the kernel reads the name and writes at most `length` bytes into `info`.
    let result = unsafe {
        libc::getsockopt(
            raw.as_raw_fd(),
            libc::SOL_IP,
            IPT_SO_GET_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // struct ipt_get_entries: the name, the size, padding to 8, the entries.
    const HEADER: usize = 40;
    let size = info.size as usize;
    if size > LARGEST_BYTES {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut entries = vec![0u8; HEADER + size];
    entries[..32].copy_from_slice(&info.name);
    entries[32..36].copy_from_slice(&info.size.to_ne_bytes());
    let mut length = entries.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is how long `entries` is.
    let result = unsafe {
        libc::getsockopt(
            raw.as_raw_fd(),
            libc::SOL_IP,
            IPT_SO_GET_ENTRIES,
            entries.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    verdict(&entries[HEADER..], info.underflow[FORWARD] as usize)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// `struct ipt_entry` has the offset of its target after 88 bytes; a standard target has its verdict after 32.
fn verdict(entries: &[u8], at: usize) -> Option<i32> {
    let entry = entries.get(at..)?;
    let target = usize::from(u16::from_ne_bytes(entry.get(88..90)?.try_into().ok()?));
    Some(i32::from_ne_bytes(entry.get(target + 32..target + 36)?.try_into().ok()?))
}
