//! The kernel's own lists, of network namespaces and of processes.
//!
//! No file lists namespaces. A BPF program can: it runs once, in this thread's own context, is attached to nothing and leaves nothing.
//! The list has every namespace, also those that only a socket, a message or an io_uring holds: against it, all other ways to find them
//! are held. Another goes through everybody's descriptors, of which procfs would have to be asked one by one.

mod assembly;
mod descriptors;
mod namespaces;
mod types;

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use model::{NsId, NsInode};
use sys::{BpfArray, BpfProgram, BpfRefusal};

/// A machine with more is not walked to the end. The kernel itself allows 8,388,608 steps (`BPF_MAX_LOOPS`).
const MOST_STEPS: u32 = 65_536;
/// What a program returns when it did not come back to where it began.
const LOST: u32 = u32::MAX;
/// The kernel's type information (CONFIG_DEBUG_INFO_BTF).
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// A namespace on the list.
pub(crate) type Listed = (NsInode, NsId);

/// Every namespace that somebody holds at this moment, in no order; or why that cannot be told.
pub(crate) fn walk() -> Result<Vec<Listed>, String> {
    let entries = written(namespaces::ENTRY_BYTES, namespaces::load)?;
    Ok(entries.chunks_exact(namespaces::ENTRY_BYTES as usize).filter_map(entry).collect())
}

/// The processes of which no descriptor leads to a network or mount namespace, is a file of procfs, a tun device or an io_uring; or why
/// that cannot be told. Sockets are not looked at.
pub(crate) fn bystanders() -> Result<HashSet<u32>, String> {
    // Open for as long as it takes: who has that is no bystander.
    let open = File::open("/proc/thread-self/ns/net").map_err(|error| format!("own namespace: {error}"))?;
    let entries = written(descriptors::ENTRY_BYTES, descriptors::load)?;
    drop(open);
    let clear = entries.chunks_exact(descriptors::ENTRY_BYTES as usize).filter_map(clear);
    let bystanders: HashSet<u32> = clear.collect();
    if bystanders.contains(&std::process::id()) {
        return Err("the program does not understand this kernel's descriptors".into());
    }
    Ok(bystanders)
}

/// Loads a program, runs it, and returns what it wrote, an entry for each of its steps.
fn written(
    entry_bytes: u32,
    load: impl FnOnce(&BpfArray, u32) -> Result<BpfProgram, BpfRefusal>,
) -> Result<Vec<u8>, String> {
    // In a container that is a node of its own, most of what it finds is none of that node's.
    let sees_all = crate::processes::sees_all_processes();
    if !sees_all.map_err(|error| format!("/proc/self/ns/pid: {error}"))? {
        return Err("podplumb runs in a pid namespace of its own, the list is the whole machine's".into());
    }
    // Without, the kernel's refusal would not say why.
    if !Path::new(KERNEL_TYPES).exists() {
        return Err(format!("there is no {KERNEL_TYPES} (CONFIG_DEBUG_INFO_BTF)"));
    }
    let array = BpfArray::new(MOST_STEPS, entry_bytes).map_err(|error| told(error.into()))?;
    let program = load(&array, MOST_STEPS).map_err(told)?;
    let steps = program.run().map_err(|error| told(error.into()))?;
    if steps == LOST {
        return Err(format!("the list does not end, or is longer than {MOST_STEPS}"));
    }
    array.values(steps).map_err(|error| told(error.into()))
}

/// One namespace. What was skipped is zero.
fn entry(bytes: &[u8]) -> Option<Listed> {
    let id = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
    let inode = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    (inode != 0).then_some((NsInode(inode.into()), NsId(id)))
}

/// One process, if it is clear.
fn clear(bytes: &[u8]) -> Option<u32> {
    let pid = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let state = u32::from_ne_bytes(bytes.get(4..8)?.try_into().ok()?);
    (state == descriptors::CLEAR).then_some(pid)
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
    use std::io::Read;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::process::{Child, Command, Stdio};

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
            assert!(start.elapsed().as_secs() < 60, "they are gone");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// A process that has this as its standard input, and no others that matter.
    #[expect(clippy::disallowed_methods, reason = "processes with descriptors")]
    fn with(input: impl Into<Stdio>, shell: &str) -> Child {
        let mut command = Command::new("bash");
        command.args(["-c", shell]).stdin(input).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // It says when it is there.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn only_who_has_nothing_open_that_could_lead_to_a_namespace_is_a_bystander() {
        if !sys::is_root() {
            return eprintln!("skipped: only root may run BPF programs");
        }
        const STAY: &str = "echo; exec sleep 60";
        let file =
            |path: &str| Stdio::from(File::open(path).unwrap_or_else(|error| panic!("{path}: {error}")));
        let ring = sys::zoo::ring_with(File::open("/dev/null").unwrap().as_fd()).unwrap();
        // A table that has grown, and in it one that matters, alone and far behind.
        let far = format!("ulimit -n 5000; exec 4000</proc/self/ns/net; {STAY}");
        let many = format!("for fd in {{20..300}}; do eval \"exec $fd</dev/null\"; done; {STAY}");
        let matters = [
            with(file("/proc/self/ns/net"), STAY),
            with(file("/proc/self/ns/mnt"), STAY),
            with(file("/proc/self/net/dev"), STAY),
            with(file("/dev/net/tun"), STAY),
            with(ring, STAY),
            with(Stdio::null(), &far),
        ];
        let (socket, other_end) = UnixStream::pair().unwrap();
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        let clear = [
            with(Stdio::null(), STAY),
            with(file("/etc/passwd"), STAY),
            with(OwnedFd::from(socket), STAY),
            with(event, STAY),
            with(Stdio::null(), &many),
        ];
        let found = bystanders().unwrap();
        let is_found = |child: &Child| found.contains(&child.id());
        let (wrong, right) = (matters.each_ref().map(is_found), clear.each_ref().map(is_found));
        drop(other_end);
        for mut child in matters.into_iter().chain(clear) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(wrong, [false; 6], "these have one that matters");
        assert_eq!(right, [true; 5], "these have none");
        assert!(!found.contains(&std::process::id()), "we had one ourselves");
    }

    #[test]
    fn entries_that_were_skipped_are_no_namespaces() {
        let mut bytes = [0u8; namespaces::ENTRY_BYTES as usize];
        assert_eq!(entry(&bytes), None);
        bytes[..8].copy_from_slice(&7u64.to_ne_bytes());
        bytes[8..12].copy_from_slice(&4_026_531_840u32.to_ne_bytes());
        assert_eq!(entry(&bytes), Some((NsInode(4_026_531_840), NsId(7))));
    }
}
