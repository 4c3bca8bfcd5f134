//! /proc: which task is in which network namespace, and who has one open.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::{Descriptor, Gap, Holder, NsInode, Source, Task};
use sys::{Process, ProcessStat};

use crate::Depth;
use crate::descriptors::{self, OpenMounts, Owner, ProcFile};
use crate::opened::Opened;

/// What all readable processes say about network namespaces.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// Tasks by namespace.
    pub(crate) tasks: HashMap<NsInode, Vec<Task>>,
    /// Open namespace descriptors by namespace.
    pub(crate) descriptors: HashMap<NsInode, Vec<Descriptor>>,
    /// Other holders by namespace.
    pub(crate) holders: HashMap<NsInode, Vec<Holder>>,
    /// Those of which it is not known what they hold.
    pub(crate) unplaced: Vec<Holder>,
    /// Open files of /proc/PID/net that are not of their owner's namespace.
    pub(crate) proc_files: Vec<ProcFile>,
    /// Namespaces of which only the inode is known, and by whom.
    pub(crate) registered: Vec<(NsInode, Holder)>,
    /// One task of each mount namespace.
    pub(crate) mount_namespaces: Vec<Task>,
    /// Mount namespaces in which nobody lives.
    pub(crate) open_mounts: Vec<OpenMounts>,
    /// Every namespace above.
    pub(crate) opened: Opened,
    /// What could not be read.
    pub(crate) gaps: Vec<Gap>,
}

/// The inode of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
const OWN_PID_NAMESPACE: &str = "/proc/self/ns/pid";

/// Whether podplumb is in the machine's own pid namespace.
pub(crate) fn sees_all_processes() -> io::Result<bool> {
    Ok(fs::read_link(OWN_PID_NAMESPACE)?.as_os_str() == INITIAL_PID_NAMESPACE)
}

/// Walks /proc once.
pub(crate) fn scan(depth: Depth) -> Processes {
    let mut scan = Scan::new(depth);
    match sees_all_processes() {
        Ok(true) => {}
        Ok(false) => scan.gap(
            "/proc",
            "podplumb runs in a pid namespace of its own: processes outside it are not visible",
        ),
        Err(error) => scan.gap(OWN_PID_NAMESPACE, error),
    }
    match fs::read_dir("/proc") {
        Ok(entries) => {
            let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            pids.for_each(|pid| scan.process(pid));
        }
        Err(error) => scan.gap("/proc", error),
    }
    scan.resolve_unreadable();
    let seen = &scan.seen_mount_namespaces;
    let mut kept: HashSet<u64> = HashSet::new();
    scan.found.open_mounts.retain(|open| !seen.contains(&open.inode) && kept.insert(open.inode));
    scan.found
}

struct Scan {
    found: Processes,
    seen_mount_namespaces: HashSet<u64>,
    /// Tasks whose namespace link may not be read.
    unreadable: Vec<Task>,
    depth: Depth,
    /// The device number of nsfs.
    nsfs: u64,
    /// Those whose descriptors need not be read, where the kernel tells.
    bystanders: HashSet<u32>,
    /// podplumb's own file.
    own_program: Option<(u64, u64)>,
}

impl Scan {
    fn new(depth: Depth) -> Self {
        Self {
            found: Processes::default(),
            seen_mount_namespaces: HashSet::new(),
            unreadable: Vec::new(),
            depth,
            nsfs: fs::metadata("/proc/thread-self/ns/net").map(|stat| stat.dev()).unwrap_or_default(),
            // Sockets, which a close look wants to know of, are not among what it looks at.
            bystanders: match depth {
                Depth::Usual => crate::walk::bystanders().unwrap_or_default(),
                Depth::Close => HashSet::new(),
            },
            own_program: program("/proc/self"),
        }
    }

    fn gap(&mut self, object: impl Into<String>, why: impl ToString) {
        self.found.gaps.push(Gap { source: Source::Processes, object: object.into(), why: why.to_string() });
    }

    fn process(&mut self, pid: u32) {
        let base = format!("/proc/{pid}");
        // On kernels without pidfds (before 5.3) a reused number is not told.
        let process = Process::open(pid).ok();
        let leader = Task { pid, tid: None, command: command(&base) };
        let own = match self.namespace_of(&base) {
            Ok(inode) => {
                self.task(inode, leader.clone(), &base);
                Some(inode)
            }
            // Gone meanwhile, or a zombie: it holds nothing, but threads of it may still run.
            Err(error) if is_gone(&error) => None,
            Err(_) => {
                self.unreadable.push(leader.clone());
                None
            }
        };
        let thread = self.threads(&base, &leader, own);
        self.mount_namespace(&base, &leader);
        // A zombie has no descriptors any more, its threads have.
        let owner = Task { tid: thread.filter(|_| own.is_none()), ..leader };
        self.descriptors(&owner, process.as_ref(), own);
        self.compare(pid, process.as_ref());
    }

    /// Whether all that was read under a number is about one process.
    fn compare(&mut self, pid: u32, process: Option<&Process>) {
        let ended = process.is_some_and(|process| !process.is_alive());
        if ended && Process::open(pid).is_ok_and(|now| now.is_alive()) {
            self.gap(
                format!("/proc/{pid}"),
                "its process ended while it was looked at, and another has its number",
            );
        }
    }

    /// Reads which namespace a task is in, and opens that, if it is the first.
    fn namespace_of(&mut self, base: &str) -> io::Result<NsInode> {
        let path = format!("{base}/ns/net");
        let inode = namespace_link(&path)?;
        match self.found.opened.at(inode, Path::new(&path)) {
            Ok(now) => Ok(now),
            Err(error) if is_gone(&error) => Err(error),
            Err(error) => {
                // Out of descriptors, say: then a later namespace of this inode is taken for this one.
                self.gap(path, format!("cannot be kept open: {error}"));
                Ok(inode)
            }
        }
    }

    fn task(&mut self, inode: NsInode, task: Task, base: &str) {
        if self.depth == Depth::Close && state(base) == Some('D') {
            let holder = Holder::Uninterruptible { task: task.clone() };
            self.found.holders.entry(inode).or_default().push(holder);
        }
        self.found.tasks.entry(inode).or_default().push(task);
    }

    /// Threads that are not in their leader's namespace: one setns() in one thread is enough to keep one alive. Returns a thread
    /// of it that runs.
    fn threads(&mut self, base: &str, leader: &Task, own: Option<NsInode>) -> Option<u32> {
        let tasks = format!("{base}/task");
        // Two links and one for each thread.
        if own.is_some() && fs::metadata(&tasks).is_ok_and(|stat| stat.nlink() <= 3) {
            return None;
        }
        let zombie = self.depth == Depth::Close && own.is_none() && state(base) == Some('Z');
        let mut runs = None;
        for tid in numbers(&tasks).filter(|tid| *tid != leader.pid) {
            match self.namespace_of(&format!("{tasks}/{tid}")) {
                Ok(inode) if Some(inode) != own => {
                    runs = Some(tid);
                    let task = Task { tid: Some(tid), ..leader.clone() };
                    if zombie {
                        let holder = Holder::LastThread { task: task.clone() };
                        self.found.holders.entry(inode).or_default().push(holder);
                    }
                    self.found.tasks.entry(inode).or_default().push(task);
                }
                _ => {}
            }
        }
        if zombie && runs.is_none() {
            self.found.unplaced.push(Holder::Zombie { task: leader.clone() });
        }
        runs
    }

    fn mount_namespace(&mut self, base: &str, leader: &Task) {
        match fs::metadata(format!("{base}/ns/mnt")) {
            Ok(stat) if !self.seen_mount_namespaces.insert(stat.ino()) => {}
            Err(error) if is_gone(&error) => {}
            // The mount table can be read even where the link cannot: it asks for no ptrace permission.
            Ok(_) | Err(_) => self.found.mount_namespaces.push(leader.clone()),
        }
    }

    fn descriptors(&mut self, task: &Task, process: Option<&Process>, own: Option<NsInode>) {
        if task.pid == std::process::id() || self.bystanders.contains(&task.pid) {
            return;
        }
        let base = &base_of(task);
        let owner = Owner { base, task, process, own, nsfs: self.nsfs, depth: self.depth };
        let mut found = descriptors::look(&owner, &mut self.found.opened);
        self.found.gaps.append(&mut found.gaps);
        let nothing = found.descriptors.is_empty() && found.holders.is_empty() && found.registered.is_empty();
        // Another podplumb that looks at the same moment, or a reclaim between its two looks, keeps namespaces open and uses none.
        if !nothing && self.own_program.is_some() && program(base) == self.own_program {
            return;
        }
        for (inode, descriptor) in found.descriptors {
            self.found.descriptors.entry(inode).or_default().push(descriptor);
        }
        for (inode, holder) in found.holders {
            self.found.holders.entry(inode).or_default().push(holder);
        }
        self.found.unplaced.append(&mut found.unplaced);
        self.found.open_mounts.append(&mut found.mounts);
        self.found.proc_files.append(&mut found.proc_files);
        self.found.registered.append(&mut found.registered);
    }

    /// A task's `ns/net` link asks for ptrace permission (seen for pid 1 in restricted machines), its `net/dev` file does
    /// not, and has one inode in each network namespace. So such a task can be placed by comparing with one whose
    /// namespace is known.
    fn resolve_unreadable(&mut self) {
        if self.unreadable.is_empty() {
            return;
        }
        let net_dev = |pid: u32| net_dev(&format!("/proc/{pid}"));
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

/// The namespace that a link of procfs leads to, whatever name it was opened by.
pub(crate) fn namespace_at(path: &Path) -> Option<NsInode> {
    fs::metadata(path).ok().map(|stat| NsInode(stat.ino()))
}

/// Where procfs has a task.
pub(crate) fn base_of(task: &Task) -> String {
    match task.tid {
        Some(tid) => format!("/proc/{}/task/{tid}", task.pid),
        None => format!("/proc/{}", task.pid),
    }
}

/// Where procfs has a descriptor of a task.
pub(crate) fn descriptor_path(task: &Task, fd: u32) -> PathBuf {
    format!("{}/fd/{fd}", base_of(task)).into()
}

/// The state of a process or thread.
fn state(base: &str) -> Option<char> {
    ProcessStat::read_below(base).ok().map(|stat| stat.state)
}

/// The file that a process runs.
fn program(base: &str) -> Option<(u64, u64)> {
    fs::metadata(format!("{base}/exe")).ok().map(|stat| (stat.dev(), stat.ino()))
}

fn namespace_link(path: &str) -> io::Result<NsInode> {
    let target = fs::read_link(path)?;
    let inode = target.to_str().and_then(net_inode);
    inode.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "is not a network namespace"))
}

fn command(base: &str) -> String {
    comm(base).unwrap_or_default()
}

/// The name of a process's program, by the process's directory in procfs: the kernel's 15 bytes, in one read.
pub(crate) fn comm(base: impl AsRef<Path>) -> Option<String> {
    let mut text = [0; 64];
    let length = fs::File::open(base.as_ref().join("comm")).ok()?.read(&mut text).ok()?;
    Some(std::str::from_utf8(&text[..length]).ok()?.trim_end().to_owned())
}

/// The inode of a file that procfs has once for each network namespace.
pub(crate) fn net_dev(base: &str) -> io::Result<u64> {
    fs::metadata(format!("{base}/net/dev")).map(|stat| stat.ino())
}

/// The first thread of a process.
pub(crate) fn task(pid: u32) -> Task {
    Task { pid, tid: None, command: command(&format!("/proc/{pid}")) }
}

/// The namespace of a process's first thread, and that thread.
pub(crate) fn leader(pid: u32) -> Option<(NsInode, Task)> {
    let inode = namespace_link(&format!("/proc/{pid}/ns/net")).ok()?;
    Some((inode, task(pid)))
}

/// A process, or a thread of one that is elsewhere, that is in a namespace.
pub(crate) fn task_in(pid: u32, inode: NsInode) -> io::Result<Option<Task>> {
    let base = format!("/proc/{pid}");
    let own = namespace_link(&format!("{base}/ns/net"));
    let task = |tid| Ok(Some(Task { pid, tid, command: command(&base) }));
    if own.as_ref().is_ok_and(|own| *own == inode) {
        return task(None);
    }
    let tasks = format!("{base}/task");
    // Two links and one for each thread.
    if fs::metadata(&tasks)?.nlink() > 3 {
        let is_in = |tid: &u32| namespace_link(&format!("{tasks}/{tid}/ns/net")).is_ok_and(|at| at == inode);
        if let Some(tid) = numbers(&tasks).find(is_in) {
            return task(Some(tid));
        }
    }
    own.map(|_| None)
}

pub(crate) fn numbers(directory: impl AsRef<Path>) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process ended while we looked (ENOENT from procfs, ESRCH from a file of a dead task).
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "processes whose number is given again")]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleep() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A new process that has this number, as the kernel can be told to give it (CONFIG_CHECKPOINT_RESTORE).
    fn again(pid: u32) -> Option<Child> {
        const ATTEMPTS: usize = 200;
        for _ in 0..ATTEMPTS {
            fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
            let child = sleep();
            if child.id() == pid {
                return Some(child);
            }
            end(child);
        }
        None
    }

    #[test]
    fn a_number_that_was_given_to_another_process_meanwhile_is_a_gap_that_hides_holders() {
        if !sys::is_root() {
            return eprintln!("skipped: only root has numbers given again");
        }
        let first = sleep();
        let pid = first.id();
        let process = Process::open(pid).unwrap();
        let mut scan = Scan::new(Depth::Usual);
        scan.compare(pid, Some(&process));
        assert!(scan.found.gaps.is_empty(), "it lives");
        end(first);
        let Some(second) = again(pid) else {
            return eprintln!("skipped: this kernel does not let numbers be chosen");
        };
        scan.compare(pid, Some(&process));
        end(second);
        assert!(scan.found.gaps.iter().all(|gap| gap.source.hides_holders()), "{:?}", scan.found.gaps);
        assert_eq!(scan.found.gaps.len(), 1);
    }
}
