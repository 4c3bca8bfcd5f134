//! The legacy iptables (x_tables), which nf_tables does not see.

use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// include/uapi/linux/netfilter_ipv4/ip_tables.h; the same numbers in ip6_tables.h
const SO_GET_INFO: libc::c_int = 64;
const SO_GET_ENTRIES: libc::c_int = 65;
/// NF_INET_FORWARD
const FORWARD: usize = 2;
/// More than this is no ruleset that we want to read: kube-proxy's 20,000 rules have 10 MiB.
const LARGEST_BYTES: usize = 64 << 20;

/// `struct ipt_getinfo`, which is `struct ip6t_getinfo`
#[repr(C)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

/// A table of x_tables as the kernel has it.
#[derive(Debug, Clone)]
pub struct LegacyTable {
    /// Which chains are called by the kernel, by bit (`NF_INET_*`).
    pub valid_hooks: u32,
    /// Where they begin in `entries`.
    pub hook_entry: [u32; 5],
    /// Where their policies are.
    pub underflow: [u32; 5],
    /// `struct ipt_entry` or `ip6t_entry`, one after the other, each with its matches and its target.
    pub entries: Vec<u8>,
}

/// Whether the legacy iptables of the calling thread's namespace drops what is forwarded, by the policy of its chain FORWARD. Nobody who
/// uses iptables-nft only has such tables, and then nothing is asked.
pub fn legacy_forward_drops() -> bool {
    const DROP: i32 = -1;
    let policy = |table: LegacyTable| verdict(&table.entries, table.underflow[FORWARD] as usize);
    legacy_table(false, "filter").is_ok_and(|table| table.and_then(policy) == Some(DROP))
}

/// A table of the legacy iptables of the calling thread's namespace; `None` when it has none of that name. To ask the kernel for one
/// that is not there would make it.
pub fn legacy_table(v6: bool, name: &str) -> io::Result<Option<LegacyTable>> {
    let names = if v6 { "ip6_tables_names" } else { "ip_tables_names" };
    let names = match std::fs::read_to_string(format!("/proc/thread-self/net/{names}")) {
        Ok(names) => names,
        // A kernel without x_tables.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !names.lines().any(|line| line == name) {
        return Ok(None);
    }
    // Between the two questions somebody may change the table, which then has another size.
    for _ in 0..3 {
        match read(v6, name) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            table => return table.map(Some),
        }
    }
    read(v6, name).map(Some)
}

fn read(v6: bool, name: &str) -> io::Result<LegacyTable> {
    let (family, level) =
        if v6 { (AddressFamily::INET6, libc::SOL_IPV6) } else { (AddressFamily::INET, libc::SOL_IP) };
    let raw = rustix::net::socket_with(
        family,
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
    info.name[..name.len().min(31)].copy_from_slice(&name.as_bytes()[..name.len().min(31)]);
    let mut length = size_of::<Info>() as libc::socklen_t;
    // SAFETY: the kernel reads the name and writes at most `length` bytes into `info`.
    let result = unsafe {
        libc::getsockopt(raw.as_raw_fd(), level, SO_GET_INFO, (&raw mut info).cast(), &raw mut length)
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
        libc::getsockopt(raw.as_raw_fd(), level, SO_GET_ENTRIES, entries.as_mut_ptr().cast(), &raw mut length)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    entries.drain(..HEADER);
    let Info { valid_hooks, hook_entry, underflow, .. } = info;
    Ok(LegacyTable { valid_hooks, hook_entry, underflow, entries })
}

/// `struct ipt_entry` has the offset of its target after 88 bytes; a standard target has its verdict after 32.
fn verdict(entries: &[u8], at: usize) -> Option<i32> {
    let entry = entries.get(at..)?;
    let target = usize::from(u16::from_ne_bytes(entry.get(88..90)?.try_into().ok()?));
    Some(i32::from_ne_bytes(entry.get(target + 32..target + 36)?.try_into().ok()?))
}
