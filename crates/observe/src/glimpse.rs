//! Finding one thing without looking at the whole node: what a command needs that enters a namespace, and judges nothing.

use std::collections::HashMap;
use std::path::PathBuf;

use model::{Gap, IfIndex, Namespace, Node, NsInode, Pin, Snapshot, Source, Task, Timestamp};
use netlink::{Socket, link};
use sys::NetNs;

use crate::opened::Opened;
use crate::{Error, Sources, cni, mounts, processes, runtimes};

/// Where processes are, for the note that nobody looked there.
const PROC: &str = "/proc";

/// What has a name: runtimes' containers, those of CNI's state on disk, and the namespaces that these, and the mount table, lead to.
/// Enough to find a pod by its name; for verdicts it has a gap, since nobody looked who else is in a namespace.
///
/// What does not go by `name` may be known less well.
pub fn names(sources: &Sources, name: &str) -> Result<Snapshot, Error> {
    let taken_at = Timestamp::now();
    let host = |what| move |source| Error::Host { what, source };
    let node = Node {
        hostname: sys::hostname(),
        kernel: sys::kernel_release(),
        boot_id: sys::boot_id().map_err(host("boot id"))?,
        booted_at: sys::booted_at().map_err(host("boot time"))?,
    };
    // What is on disk is read while the runtimes think.
    let (asked, disk) = std::thread::scope(|scope| {
        let disk = scope.spawn(|| cni::read_but_leases(&sources.cni));
        let asked = runtimes::named(&sources.runtimes, name);
        (asked, disk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let mut asked = asked?;
    let answered = sys::since_boot();
    let here = NetNs::current().and_then(|netns| netns.inode()).map_err(host("own network namespace"))?;
    let mut opened = Opened::default();
    let pins = mounts::pins(&[], &[], &mut opened);
    let mut found: HashMap<NsInode, Namespace> = HashMap::new();
    for (inode, pins) in pins.by_inode {
        let Ok(netns) = open_pin(inode, &pins) else { continue };
        let id = netns.id();
        found.insert(inode, Namespace { inode: Some(inode), ns_id: id, pins, ..Namespace::default() });
    }
    for pid in asked.runtimes.iter().flat_map(|runtime| &runtime.objects).filter_map(|object| object.pid) {
        let Some((inode, task)) = processes::leader(pid) else { continue };
        let namespace = found.entry(inode).or_default();
        namespace.inode = Some(inode);
        if !namespace.tasks.contains(&task) {
            namespace.tasks.push(task);
        }
    }
    let mut host = found.remove(&here).unwrap_or_default();
    host.host = true;
    host.inode = Some(here);
    let mut namespaces = vec![host];
    namespaces.extend(found.into_values());
    namespaces[1..].sort_by_key(|namespace| namespace.inode);
    runtimes::claims::compare(&mut asked.runtimes, &namespaces, node.booted_at, answered);
    let mut coverage = asked.gaps;
    coverage.extend(pins.gaps);
    coverage.extend(disk.gaps);
    let why = "only those that runtimes name were looked at";
    coverage.push(Gap { source: Source::Processes, object: PROC.into(), why: why.into() });
    Ok(Snapshot {
        namespaces,
        runtimes: asked.runtimes,
        runtime_none: sources.runtimes.none,
        cache: disk.cache,
        configs: disk.configs,
        records: disk.records,
        coverage,
        ..Snapshot::empty(taken_at, node)
    })
}

fn open_pin(inode: NsInode, pins: &[Pin]) -> std::io::Result<NetNs> {
    let is_it = |netns: &NetNs| netns.inode().is_ok_and(|now| now == inode);
    let mut own = pins.iter().filter(|pin| pin.seen_by.is_none());
    let netns = own.find_map(|pin| NetNs::open(&pin.path).ok().filter(is_it));
    netns.ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// Where a namespace, which the caller keeps open, is mounted in the mount namespace of the caller.
pub fn pin_of(netns: &NetNs) -> Option<PathBuf> {
    let mut pins = mounts::pins(&[], &[], &mut Opened::default()).by_inode.remove(&netns.inode().ok()?)?;
    // Shown twice where /run/netns is bound onto itself: the shorter path is the one that people know.
    pins.sort_by_key(|pin| pin.path.as_os_str().len());
    pins.into_iter().map(|pin| pin.path).next()
}

/// The namespace that has this inode, if it is pinned in the mount namespace of the caller or a process is in it.
pub fn by_inode(inode: NsInode) -> Option<NetNs> {
    let pins = mounts::pins(&[], &[], &mut Opened::default());
    let pinned = pins.by_inode.get(&inode).and_then(|pins| open_pin(inode, pins).ok());
    pinned.or_else(|| {
        let is_it = |netns: &NetNs| netns.inode().is_ok_and(|now| now == inode);
        let there = |pid: &u32| processes::leader(*pid).is_some_and(|(at, _)| at == inode);
        let path = |pid: u32| PathBuf::from(format!("{PROC}/{pid}/ns/net"));
        processes::numbers(PROC).filter(there).find_map(|pid| NetNs::open(path(pid)).ok().filter(is_it))
    })
}

/// Whether the host has an interface of this name, or, if that is a number, of this index.
pub fn has_interface(name: &str) -> bool {
    let Ok(mut socket) = Socket::route() else { return false };
    let index = name.parse().ok().filter(|index| *index > 0).map(IfIndex);
    index.is_some_and(|index| link::by_index(&mut socket, index, None).is_ok())
        || name.len() < 16 && link::by_name(&mut socket, name).is_ok()
}

/// The processes in a namespace, which the caller keeps open: those with a thread in it as well.
pub fn inhabitants(netns: &NetNs) -> std::io::Result<(Vec<Task>, Vec<Gap>)> {
    let inode = netns.inode()?;
    let (mut tasks, mut unreadable) = (Vec::new(), Vec::new());
    for pid in processes::numbers(PROC) {
        match processes::task_in(pid, inode) {
            Ok(task) => tasks.extend(task),
            Err(error) if processes::is_gone(&error) => {}
            Err(_) => unreadable.push(pid),
        }
    }
    let mut gaps = Vec::new();
    if !unreadable.is_empty() {
        let here = netns.run(|| processes::net_dev(&format!("{PROC}/thread-self")))??;
        for pid in unreadable {
            match processes::net_dev(&format!("{PROC}/{pid}")) {
                Ok(there) if there == here => tasks.push(processes::task(pid)),
                Ok(_) => {}
                Err(error) if processes::is_gone(&error) => {}
                Err(error) => {
                    let object = format!("{PROC}/{pid}/ns/net");
                    gaps.push(Gap { source: Source::Processes, object, why: error.to_string() });
                }
            }
        }
    }
    Ok((tasks, gaps))
}
