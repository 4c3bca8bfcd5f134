//! The kernel's own list of network namespaces: against it, all other ways to find them are held.
//!
//! No file lists them. A BPF program can: it runs once, in this thread's own context, is attached to nothing and leaves nothing. The
//! list has every namespace, also those that only a socket, a message or an io_uring holds.

mod program;
mod types;

use std::path::Path;

use model::{NsId, NsInode};
use sys::{BpfArray, BpfRefusal};

/// A machine with more is not walked to the end. The kernel itself allows 8,388,608 steps (`BPF_MAX_LOOPS`).
const MOST_STEPS: u32 = 65_536;
/// The kernel's type information (CONFIG_DEBUG_INFO_BTF).
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// A namespace on the list.
pub(crate) type Listed = (NsInode, NsId);

/// Every namespace that somebody holds at this moment, in no order; or why that cannot be told.
pub(crate) fn walk() -> Result<Vec<Listed>, String> {
    // In a container that is a node of its own, most of them are none of that node's.
    let sees_all = crate::processes::sees_all_processes();
    if !sees_all.map_err(|error| format!("/proc/self/ns/pid: {error}"))? {
        return Err("podplumb runs in a pid namespace of its own, the list is the whole machine's".into());
    }
    // Without, the kernel's refusal would not say why.
    if !Path::new(KERNEL_TYPES).exists() {
        return Err(format!("there is no {KERNEL_TYPES} (CONFIG_DEBUG_INFO_BTF)"));
    }
    let array = BpfArray::new(MOST_STEPS, program::ENTRY_BYTES).map_err(|error| told(error.into()))?;
    let program = program::load(&array, MOST_STEPS).map_err(told)?;
    let steps = program.run().map_err(|error| told(error.into()))?;
    if steps == program::LOST {
        return Err(format!("the list does not end, or is longer than {MOST_STEPS}"));
    }
    let entries = array.values(steps).map_err(|error| told(error.into()))?;
    Ok(entries.chunks_exact(program::ENTRY_BYTES as usize).filter_map(entry).collect())
}

/// One namespace. What was skipped is zero.
fn entry(bytes: &[u8]) -> Option<Listed> {
    let id = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
    let inode = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    (inode != 0).then_some((NsInode(inode.into()), NsId(id)))
}

/// Why, and what would be needed.
fn told(refusal: BpfRefusal) -> String {
    use rustix::io::Errno;
    let errno = refusal.error.raw_os_error();
    if errno == Some(Errno::PERM.raw_os_error()) {
        return "bpf() is not permitted (CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON)".into();
    }
    if errno == Some(Errno::NOSYS.raw_os_error()) {
        return "this kernel has no bpf() (CONFIG_BPF_SYSCALL)".into();
    }
    match refusal.said {
        Some(said) => format!("this kernel refuses the program: {said}"),
        None => format!("bpf(): {}", refusal.error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use sys::NetNs;

    use super::*;

    #[test]
    fn all_namespaces_are_listed_whoever_holds_them_and_none_that_is_gone() {
        if !sys::is_root() {
            return eprintln!("skipped: only root may run BPF programs");
        }
        let netns: Vec<NetNs> = (0..5).map(|_| NetNs::create().unwrap()).collect();
        let inodes: Vec<NsInode> = netns.iter().map(|netns| netns.inode().unwrap()).collect();
        // By the cookie of a socket inside, as kernels without ids of namespaces tell it, too.
        let cookie = || sys::netns_cookie(std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let ids: Vec<NsId> = netns.iter().map(|netns| netns.run(cookie).unwrap()).collect();
        let listed = walk().unwrap();
        for (inode, id) in inodes.iter().zip(&ids) {
            let found: Vec<_> = listed.iter().filter(|(listed, _)| listed == inode).collect();
            assert!(found.len() == 1 && found[0].1 == *id, "{inode}: {listed:?}");
        }
        let here = NetNs::current().unwrap().inode().unwrap();
        let all: HashSet<NsInode> = listed.iter().map(|(inode, _)| *inode).collect();
        assert!(all.len() == listed.len() && all.contains(&here), "{listed:?}");
        let from_there = netns[0].run(walk).unwrap().unwrap();
        assert!(from_there.iter().any(|(inode, _)| *inode == here), "wherever it begins: {from_there:?}");

        // Only a socket has it.
        let mut netns = netns.into_iter();
        let socket = netns.next().unwrap().run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        drop(netns);
        let is_listed = |inode| walk().unwrap().iter().any(|(listed, _)| *listed == inode);
        assert!(is_listed(inodes[0]));
        drop(socket);
        let start = std::time::Instant::now();
        while inodes.iter().any(|inode| is_listed(*inode)) {
            assert!(start.elapsed().as_secs() < 10, "they are gone");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    #[test]
    fn entries_that_were_skipped_are_no_namespaces() {
        let mut bytes = [0u8; program::ENTRY_BYTES as usize];
        assert_eq!(entry(&bytes), None);
        bytes[..8].copy_from_slice(&7u64.to_ne_bytes());
        bytes[8..12].copy_from_slice(&4_026_531_840u32.to_ne_bytes());
        assert_eq!(entry(&bytes), Some((NsInode(4_026_531_840), NsId(7))));
    }
}
