//! Every network namespace that can be reached, and what is in it.
//!
//! A namespace that is linked to the host by a veth has a number there, by which its links and addresses are listed
//! from outside. Entered, on a thread made for that, are only those without such a number, those in which no task
//! lives, because only from inside can their sockets be counted, and all where it is to be told where packets go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use model::{
    AttachmentRecord, BootId, Enumeration, Gap, Holder, IfIndex, Link, Namespace, NsInode, Nsid, Pin, Source,
    Vlans,
};
use netlink::{Socket, addr, link, nsid};
use sys::NetNs;

use crate::Depth;
use crate::descriptors::ProcFile;
use crate::listing::Listing;
use crate::mounts::Pins;
use crate::opened::Opened;
use crate::processes::{Processes, descriptor_path};

/// Below this, a second thread costs more than it saves.
const SPLIT_ABOVE: usize = 32;

/// A grace period takes up to 30 ms.
const SETTLING_LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// What is known before the first namespace is read.
pub(crate) struct Known<'a> {
    pub(crate) processes: Processes,
    pub(crate) pins: Pins,
    /// The kernel's own list.
    pub(crate) listed: Result<Vec<crate::walk::Listed>, String>,
    /// podplumb's records: they name namespaces by what finds them, whoever holds them.
    pub(crate) records: &'a [AttachmentRecord],
    pub(crate) boot_id: &'a BootId,
    pub(crate) depth: Depth,
    /// Ask each for its routes, rules and settings.
    pub(crate) stacks: bool,
}

/// What is found.
pub(crate) struct Found {
    /// All namespaces, the host's first.
    pub(crate) namespaces: Vec<Namespace>,
    /// Whether these are all.
    pub(crate) enumeration: Enumeration,
    /// Holders of which it is not known what they hold.
    pub(crate) unplaced: Vec<Holder>,
}

/// Looks at all namespaces.
pub(crate) fn observe(known: Known<'_>, gaps: &mut Vec<Gap>) -> Result<Found, crate::Error> {
    let Known { mut processes, pins, listed, records, boot_id, depth, stacks } = known;
    let here =
        NetNs::current().map_err(|source| crate::Error::Host { what: "own network namespace", source })?;
    let here_inode =
        here.inode().map_err(|source| crate::Error::Host { what: "own network namespace", source })?;

    let mut opened = std::mem::take(&mut processes.opened);
    let mut unplaced = std::mem::take(&mut processes.unplaced);
    let proc_files = std::mem::take(&mut processes.proc_files);
    let registered = std::mem::take(&mut processes.registered);
    let mut merged = merge(processes, pins);
    by_handle(records.iter().filter(|record| record.boot_id == *boot_id), &mut merged, &mut opened);
    merged.entry(here_inode).or_default();
    let listing = Listing::add(listed, &mut merged, &mut opened);
    by_inode(registered, &mut merged, &mut opened, &mut unplaced, depth);
    let mut host = merged.remove(&here_inode).unwrap_or_default();
    host.host = true;
    // Its descriptors and sockets are everybody's; it does not go away.
    host.holders.clear();
    host.inode = Some(here_inode);
    host.ns_id = here.id();
    let mut socket = Socket::route()?;
    host.links = with_addresses(link::list(&mut socket, None)?, addr::list(&mut socket, None)?);
    with_vlans(&mut socket, &mut host.links);
    host.readable = true;
    if stacks && let Err(error) = crate::stack::settle(&mut socket, &mut host.links) {
        gaps.push(crate::stack::of_host("settings of interfaces", error.to_string()));
    }

    let mut others: Vec<Namespace> = merged.into_values().collect();
    let half = if others.len() > SPLIT_ABOVE { others.len() / 2 } else { 0 };
    let (first, second) = others.split_at_mut(half);
    let second_gaps = std::thread::scope(|scope| {
        let look = Look { home: &here, opened: &opened, proc_files: &proc_files, depth, stacks };
        let worker = scope.spawn(move || read_all(look, first));
        // Not on the caller's thread either: they are entered.
        let other = scope.spawn(move || read_all(look, second));
        gaps.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    gaps.extend(second_gaps);
    let placed = |file: &ProcFile| others.iter().any(|namespace| namespace.holders.contains(&file.holder));
    unplaced.extend(proc_files.iter().filter(|file| !placed(file)).map(|file| file.holder.clone()));
    if stacks {
        crate::peers::find(&host, &mut others, &opened, gaps);
    }
    // Others look too, and what we keep open they take for a holder.
    drop(opened);
    settle(&mut others);
    let missing = listing.compare(&mut others);

    let mut all = vec![host];
    all.append(&mut others);
    let numbered = unheld(&mut socket, &mut all, gaps);
    let enumeration = listing.tell(missing, numbered, &all, gaps);
    Ok(Found { namespaces: all, enumeration, unplaced })
}

/// Namespaces that records name and that nobody was seen to hold: the kernel finds them by id and inode (nsfs file handles).
fn by_handle<'a>(
    records: impl Iterator<Item = &'a AttachmentRecord>,
    merged: &mut BTreeMap<NsInode, Namespace>,
    opened: &mut Opened,
) {
    for record in records {
        let (Some(id), Some(inode)) = (record.ns_id, record.ns_inode) else { continue };
        if merged.contains_key(&inode) {
            continue;
        }
        if let Some(inode) = NetNs::by_id(id, inode).ok().and_then(|netns| opened.keep(netns).ok()) {
            merged.insert(inode, Namespace { inode: Some(inode), ..Namespace::default() });
        }
    }
}

/// Namespaces of which io_uring tells the inode only. Their id is looked for among all that were given: a close look has the time.
fn by_inode(
    registered: Vec<(NsInode, Holder)>,
    merged: &mut BTreeMap<NsInode, Namespace>,
    opened: &mut Opened,
    unplaced: &mut Vec<Holder>,
    depth: Depth,
) {
    for (inode, holder) in registered {
        let is_known = merged.contains_key(&inode) || opened.get(inode).is_some();
        let found = is_known
            || depth == Depth::Close
                && crate::handles::by_inode(inode).is_some_and(|netns| opened.keep(netns).is_ok());
        if found {
            let namespace = merged.entry(inode);
            let namespace =
                namespace.or_insert_with(|| Namespace { inode: Some(inode), ..Namespace::default() });
            namespace.holders.push(holder);
        } else {
            unplaced.push(holder);
        }
    }
}

/// Joins what processes and mount tables know about the same namespace.
fn merge(processes: Processes, pins: Pins) -> BTreeMap<NsInode, Namespace> {
    fn at(all: &mut BTreeMap<NsInode, Namespace>, inode: NsInode) -> &mut Namespace {
        all.entry(inode).or_insert_with(|| Namespace { inode: Some(inode), ..Namespace::default() })
    }
    let mut all = BTreeMap::new();
    for (inode, tasks) in processes.tasks {
        at(&mut all, inode).tasks = tasks;
    }
    for (inode, descriptors) in processes.descriptors {
        at(&mut all, inode).descriptors = descriptors;
    }
    for (inode, holders) in processes.holders {
        at(&mut all, inode).holders = holders;
    }
    for (inode, pins) in pins.by_inode {
        at(&mut all, inode).pins = pins;
    }
    for (inode, holder) in pins.in_descriptors {
        at(&mut all, inode).holders.push(holder);
    }
    for namespace in all.values_mut() {
        namespace.tasks.sort_by_key(|task| (task.pid, task.tid));
    }
    all
}

/// What a reader of namespaces needs to know.
#[derive(Clone, Copy)]
struct Look<'a> {
    /// The host.
    home: &'a NetNs,
    opened: &'a Opened,
    proc_files: &'a [ProcFile],
    depth: Depth,
    stacks: bool,
}

/// Reads namespaces, on a thread of the caller's own: it enters them.
fn read_all(look: Look<'_>, namespaces: &mut [Namespace]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut socket = match Socket::route() {
        Ok(socket) => socket,
        Err(error) => {
            gaps.push(Gap { source: Source::Links, object: "rtnetlink".into(), why: error.to_string() });
            return gaps;
        }
    };
    for namespace in namespaces {
        if let Err(why) = read(look, &mut socket, namespace, &mut gaps) {
            gaps.push(Gap { source: Source::Namespace, object: namespace.label(), why });
        }
    }
    gaps
}

/// Looks again, a little later, at namespaces in which no process lives, but that a descriptor, a single thread or a socket seemed
/// to hold.
///
/// Such holders may be passing: another podplumb that looks at the same moment, or our own previous observation, whose sockets
/// the kernel frees only after an RCU grace period. What lasts is somebody's.
fn settle(namespaces: &mut [Namespace]) {
    for _ in 0..SETTLING_LOOKS {
        let mut doubtful: Vec<&mut Namespace> =
            namespaces.iter_mut().filter(|namespace| is_doubtful(namespace)).collect();
        if doubtful.is_empty() {
            return;
        }
        std::thread::sleep(BETWEEN_LOOKS);
        for namespace in &mut doubtful {
            let inode = namespace.inode;
            let still_there =
                |path: PathBuf| crate::processes::namespace_at(&path).is_some_and(|at| Some(at) == inode);
            namespace.descriptors.retain(|d| still_there(descriptor_path(&d.task, d.fd)));
            namespace.tasks.retain(|task| still_there(task.netns_path()));
            let tasks = &namespace.tasks;
            namespace.holders.retain(|holder| match (holder.descriptor(), holder) {
                (Some((keeper, fd)), _) => descriptor_path(&keeper.task, fd).is_symlink(),
                (None, Holder::LastThread { task } | Holder::Uninterruptible { task }) => {
                    tasks.contains(task)
                }
                (None, _) => true,
            });
            if namespace.has_tasks() {
                continue;
            }
            // Opened anew, so it has to be shown that it is the same; one of another id tells nothing about this one.
            let same = |netns: &NetNs| netns.id() == namespace.ns_id;
            let again = open(namespace).ok().filter(same).map(|netns| netns.run(crate::sockets::count));
            if let Some(Ok(Ok(sockets))) = again {
                namespace.sockets = Some(sockets);
            }
        }
    }
}

fn has_process(namespace: &Namespace) -> bool {
    namespace.tasks.iter().any(|task| task.tid.is_none())
}

fn is_doubtful(namespace: &Namespace) -> bool {
    let has_socket = namespace.sockets.is_some_and(|sockets| sockets.held() > 0);
    let is_open = !namespace.descriptors.is_empty() || !namespace.holders.is_empty();
    !has_process(namespace) && (has_socket || namespace.has_tasks() || is_open || is_unexplained(namespace))
}

/// It lives, and nothing that was seen says why.
pub(crate) fn is_unexplained(namespace: &Namespace) -> bool {
    let is_open = !namespace.descriptors.is_empty() || !namespace.holders.is_empty();
    !namespace.has_tasks() && namespace.pins.is_empty() && !is_open
}

/// Fills in identity, links and, where no task is, sockets.
fn read(
    look: Look<'_>,
    socket: &mut Socket,
    namespace: &mut Namespace,
    gaps: &mut Vec<Gap>,
) -> Result<(), String> {
    let kept = namespace.inode.and_then(|inode| look.opened.get(inode));
    let by_path;
    let netns = match kept {
        Some(netns) => netns,
        None => {
            by_path = open(namespace)?;
            &by_path
        }
    };
    namespace.ns_id = netns.id();
    namespace.nsid = nsid::of(socket, netns.as_fd()).map_err(|error| error.to_string())?;
    let from_outside = match namespace.nsid {
        Some(nsid) => contents(socket, Some(nsid)).ok(),
        None => None,
    };
    // A single thread in it may be passing (see `settle`): only a process makes it unnecessary to look inside.
    let count = !has_process(namespace);
    match from_outside {
        Some(links) if !count && !look.stacks => namespace.links = links,
        seen => {
            // Not numbered, or nobody lives there: only from inside.
            let closely = count && look.depth == Depth::Close;
            let entered = netns.enter_from(look.home);
            let entered = entered.map_err(|error| format!("cannot be entered: {error}"))?;
            // Counted before we open a socket of our own in there, which the kernel frees only after a grace period.
            let sockets = count.then(crate::sockets::count);
            let housekeeping = (count || seen.is_none()).then(crate::sockets::housekeeping);
            let links = match seen {
                Some(links) => Ok(links),
                None => Socket::route().and_then(|mut inside| contents(&mut inside, None)),
            };
            let inside = closely.then(|| crate::sockets::inside(look.proc_files));
            let mut links = links.map_err(|error| error.to_string());
            let stack = match &mut links {
                Ok(links) => look.stacks.then(|| crate::stack::read(links)),
                Err(_) => None,
            };
            drop(entered);
            namespace.housekeeping_packets = housekeeping;
            if let Some((stack, unread)) = stack {
                let object = |what: &str| format!("{}: {what}", namespace.label());
                gaps.extend(unread.into_iter().map(|(what, why)| Gap {
                    source: Source::Namespace,
                    object: object(what),
                    why,
                }));
                gaps.extend(
                    stack
                        .ruleset
                        .iter()
                        .flat_map(|ruleset| &ruleset.gaps)
                        .map(|gap| Gap { object: object(&gap.object), ..gap.clone() }),
                );
                namespace.stack = Some(Box::new(stack));
            }
            namespace.sockets = match sockets {
                Some(Ok(sockets)) => Some(sockets),
                Some(Err(error)) => return Err(format!("sockets cannot be counted: {error}")),
                None => None,
            };
            namespace.links = links?;
            if let Some(inside) = inside {
                let inside = inside.map_err(|error| format!("connections cannot be listed: {error}"))?;
                place(inside, namespace);
            }
        }
    }
    namespace.readable = true;
    Ok(())
}

/// Adds what was found inside.
fn place(inside: crate::sockets::Inside, namespace: &mut Namespace) {
    let orphans = inside.tcp_orphans.into_iter().map(|connection| Holder::TcpOrphan { connection });
    namespace.holders.extend(orphans);
    namespace.holders.extend(inside.proc_files);
    if namespace.sockets.is_some_and(|sockets| sockets.held() > 0) {
        let name =
            |index| namespace.links.iter().find(|link| link.index == index).map(|link| link.name.clone());
        let waiting = inside
            .waiting
            .into_iter()
            .filter_map(|(index, packets)| Some(Holder::Packets { link: name(index)?, packets }));
        let waiting: Vec<Holder> = waiting.collect();
        namespace.holders.extend(waiting);
    }
}

/// Opens the namespace by whatever leads to it, and makes sure that it is still the one that was seen.
pub(crate) fn open(namespace: &Namespace) -> Result<NetNs, String> {
    let through = |pin: &Pin| match &pin.seen_by {
        None => pin.path.clone(),
        Some(task) => {
            let below = pin.path.strip_prefix("/").unwrap_or(&pin.path);
            Path::new("/proc").join(task.pid.to_string()).join("root").join(below)
        }
    };
    let pins = namespace.pins.iter().map(|pin| (through(pin), pin.since));
    let tasks = namespace.tasks.iter().map(|task| (task.netns_path(), None));
    let fds = namespace.descriptors.iter().map(|d| (descriptor_path(&d.task, d.fd), None));
    let mut last = "nothing leads to it".to_owned();
    for (path, since) in pins.chain(tasks).chain(fds) {
        match NetNs::open(&path).and_then(|netns| Ok((netns.inode()?, netns))) {
            Ok((inode, netns)) if Some(inode) == namespace.inode => {
                // A namespace that took over the inode was pinned later.
                if since.is_none() || since == netns.pinned_since().ok() {
                    return Ok(netns);
                }
                last = format!("{} was pinned anew meanwhile", path.display());
            }
            Ok(_) => last = format!("{} leads to another namespace by now", path.display()),
            Err(error) => last = format!("{}: {error}", path.display()),
        }
    }
    let by_id = namespace.inode.zip(namespace.ns_id).and_then(|(inode, id)| NetNs::by_id(id, inode).ok());
    by_id.ok_or(last)
}

fn contents(socket: &mut Socket, target: Option<Nsid>) -> netlink::Result<Vec<Link>> {
    Ok(with_addresses(link::list(socket, target)?, addr::list(socket, target)?))
}

/// Adds the VLANs of bridges that look at tags, and of their ports. Where the kernel does not tell, they are not known.
fn with_vlans(socket: &mut Socket, links: &mut [Link]) {
    let filters = |link: &Link| link.bridge.is_some_and(|bridge| bridge.vlan_filtering);
    let bridges: Vec<IfIndex> = links.iter().filter(|link| filters(link)).map(|link| link.index).collect();
    if bridges.is_empty() {
        return;
    }
    let Ok(listed) = netlink::bridge_vlan::list(socket) else { return };
    let mut listed: HashMap<IfIndex, Vec<Vlans>> = listed.into_iter().collect();
    let is_in =
        |link: &Link| bridges.contains(&link.index) || link.master.is_some_and(|m| bridges.contains(&m));
    for link in links.iter_mut().filter(|link| is_in(link)) {
        // A port of none has none to tell of.
        link.vlans = Some(listed.remove(&link.index).unwrap_or_default());
    }
}

fn with_addresses(mut links: Vec<Link>, addresses: Vec<(IfIndex, IpNet)>) -> Vec<Link> {
    let place: HashMap<IfIndex, usize> =
        links.iter().enumerate().map(|(at, link)| (link.index, at)).collect();
    for (index, address) in addresses {
        if let Some(at) = place.get(&index) {
            links[*at].addresses.push(address);
        }
    }
    links
}

/// Namespaces that a veth of the host leads into, although nothing that we see has them. Says how many.
fn unheld(socket: &mut Socket, all: &mut Vec<Namespace>, gaps: &mut Vec<Gap>) -> usize {
    let known: BTreeSet<Nsid> = all.iter().filter_map(|namespace| namespace.nsid).collect();
    let links = &all[0].links;
    let linked: BTreeSet<Nsid> = links.iter().filter_map(|link| link.peer?.nsid).collect();
    let unknown: Vec<Nsid> =
        linked.difference(&known).copied().filter(|nsid| *nsid != Nsid::NOT_ASSIGNED).collect();
    for nsid in &unknown {
        let nsid = *nsid;
        let mut namespace = Namespace { nsid: Some(nsid), ..Namespace::default() };
        match contents(socket, Some(nsid)) {
            Ok(links) => {
                namespace.links = links;
                namespace.readable = true;
            }
            Err(error) => {
                let object = namespace.label();
                gaps.push(Gap { source: Source::Namespace, object, why: error.to_string() });
            }
        }
        all.push(namespace);
    }
    unknown.len()
}
