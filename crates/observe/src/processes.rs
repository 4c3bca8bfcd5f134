//! /proc: which task is in which network namespace, and who has one open.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use model::{Descriptor, Gap, NsInode, Source, Task};

/// What all readable processes say about network namespaces.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// Tasks by namespace.
    pub(crate) tasks: HashMap<NsInode, Vec<Task>>,
    /// Open namespace descriptors by namespace.
    pub(crate) descriptors: HashMap<NsInode, Vec<Descriptor>>,
    /// One task of each mount namespace.
    pub(crate) mount_namespaces: Vec<Task>,
    /// What could not be read.
    pub(crate) gaps: Vec<Gap>,
}

/// The inode of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Walks /proc once.
pub(crate) fn scan() -> Processes {
    let mut scan = Scan::default();
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(ns) if ns.as_os_str() == INITIAL_PID_NAMESPACE => {}
        Ok(_) => scan.gap(
            "/proc",
            "podplumb runs in a pid namespace of its own: processes outside it are not visible",
        ),
        Err(error) => scan.gap("/proc/self/ns/pid", error),
    }
    match std::fs::read_dir("/proc") {
        Ok(entries) => {
            let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            pids.for_each(|pid| scan.process(pid));
        }
        Err(error) => scan.gap("/proc", error),
    }
    scan.resolve_unreadable();
    scan.found
}

#[derive(Default)]
struct Scan {
    found: Processes,
    seen_mount_namespaces: HashSet<u64>,
    /// Tasks whose namespace link may not be read.
    unreadable: Vec<Task>,
}

impl Scan {
    fn gap(&mut self, object: impl Into<String>, why: impl ToString) {
        self.found.gaps.push(Gap { source: Source::Processes, object: object.into(), why: why.to_string() });
    }

    fn process(&mut self, pid: u32) {
        let base = format!("/proc/{pid}");
        let leader = Task { pid, tid: None, command: command(&base) };
        let own = match namespace_link(&format!("{base}/ns/net")) {
            Ok(inode) => {
                self.found.tasks.entry(inode).or_default().push(leader.clone());
                Some(inode)
            }
            // Gone meanwhile, or a zombie: it holds nothing, but threads of it may still run.
            Err(error) if is_gone(&error) => None,
            Err(_) => {
                self.unreadable.push(leader.clone());
                None
            }
        };
        self.threads(&base, &leader, own);
        self.mount_namespace(&base, &leader);
        self.descriptors(&base, &leader);
    }

    /// Threads that are not in their leader's namespace: one setns() in one thread is enough to keep one alive.
    fn threads(&mut self, base: &str, leader: &Task, own: Option<NsInode>) {
        let tasks = format!("{base}/task");
        // Two links and one for each thread.
        if own.is_some() && std::fs::metadata(&tasks).is_ok_and(|stat| stat.nlink() <= 3) {
            return;
        }
        for tid in numbers(&tasks).filter(|tid| *tid != leader.pid) {
            match namespace_link(&format!("{tasks}/{tid}/ns/net")) {
                Ok(inode) if Some(inode) != own => {
                    let thread = Task { tid: Some(tid), ..leader.clone() };
                    self.found.tasks.entry(inode).or_default().push(thread);
                }
                _ => {}
            }
        }
    }

    fn mount_namespace(&mut self, base: &str, leader: &Task) {
        match std::fs::metadata(format!("{base}/ns/mnt")) {
            Ok(stat) if !self.seen_mount_namespaces.insert(stat.ino()) => {}
            Err(error) if is_gone(&error) => {}
            // The mount table can be read even where the link cannot: it asks for no ptrace permission.
            Ok(_) | Err(_) => self.found.mount_namespaces.push(leader.clone()),
        }
    }

    fn descriptors(&mut self, base: &str, leader: &Task) {
        let directory = format!("{base}/fd");
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return,
            Err(error) => {
                let why = error.to_string();
                return self.found.gaps.push(Gap { source: Source::Descriptors, object: directory, why });
            }
        };
        let mut denied = false;
        for entry in entries.flatten() {
            let target = match std::fs::read_link(entry.path()) {
                Ok(target) => target,
                Err(error) => {
                    denied |= error.kind() == io::ErrorKind::PermissionDenied;
                    continue;
                }
            };
            let Some(inode) = target.to_str().and_then(net_inode) else { continue };
            let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            self.found.descriptors.entry(inode).or_default().push(Descriptor { task: leader.clone(), fd });
        }
        if denied {
            let why = io::Error::from(io::ErrorKind::PermissionDenied).to_string();
            self.found.gaps.push(Gap { source: Source::Descriptors, object: directory, why });
        }
    }

    /// A task's `ns/net` link asks for ptrace permission (seen for pid 1 in restricted machines), its `net/dev` file does
    /// not, and has one inode in each network namespace. So such a task can be placed by comparing with one whose
    /// namespace is known.
    fn resolve_unreadable(&mut self) {
        if self.unreadable.is_empty() {
            return;
        }
        let net_dev = |pid: u32| std::fs::metadata(format!("/proc/{pid}/net/dev")).map(|stat| stat.ino());
        let known: HashMap<u64, NsInode> = self
            .found
            .tasks
            .iter()
            .filter_map(|(inode, tasks)| {
                let ino =
                    tasks.iter().filter(|task| task.tid.is_none()).find_map(|task| net_dev(task.pid).ok())?;
                Some((ino, *inode))
            })
            .collect();
        for task in std::mem::take(&mut self.unreadable) {
            match net_dev(task.pid).map(|ino| known.get(&ino)) {
                Ok(Some(inode)) => self.found.tasks.entry(*inode).or_default().push(task),
                Ok(None) => self
                    .gap(task.netns_path().display().to_string(), "may not be read: some namespace has it"),
                Err(error) if is_gone(&error) => {}
                Err(error) => self.gap(task.netns_path().display().to_string(), error),
            }
        }
    }
}

/// `net:[4026531840]` as an inode.
pub(crate) fn net_inode(text: &str) -> Option<NsInode> {
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok().map(NsInode)
}

/// The network namespace that a link of procfs leads to.
pub(crate) fn namespace_at(path: &Path) -> Option<NsInode> {
    net_inode(std::fs::read_link(path).ok()?.to_str()?)
}

fn namespace_link(path: &str) -> io::Result<NsInode> {
    let target = std::fs::read_link(path)?;
    let inode = target.to_str().and_then(net_inode);
    inode.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "is not a network namespace"))
}

fn command(base: &str) -> String {
    std::fs::read_to_string(format!("{base}/comm")).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

fn numbers(directory: impl AsRef<Path>) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process ended while we looked (ENOENT from procfs, ESRCH from a file of a dead task).
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}
