//! Why a namespace, or the host's end of a veth, is still alive.
//!
//! A pure join: what an observation saw of each namespace, and which container and pod the holders themselves are of.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use model::namespace::run_path;
use model::{
    Holder, Keeper, Namespace, PodName, RuntimeObject, Snapshot, Task, TcpConnection, TcpState, TcpTimer,
};
use serde::Serialize;

use crate::who::{NamespaceLine, Query};
use crate::wiring::{Wiring, short_id, wirings};

/// One thing that was asked about, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// What to call it.
    pub label: String,
    /// As what the question was understood.
    pub by: &'static str,
    /// The namespace, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceLine>,
    /// The host's ends of its veths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// The runtime that lists its container, and so takes care of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed: Option<String>,
    /// Who holds it.
    pub holders: Vec<Held>,
    /// Who may: something unseen holds it, and these hold something unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub may_be: Vec<Held>,
    /// Where nothing holds it: what that means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A holder with whose it is and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The holder.
    #[serde(flatten)]
    pub holder: Holder,
    /// The same in words.
    pub text: String,
    /// The holder's own container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_container: Option<String>,
    /// The holder's own pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_pod: Option<PodName>,
    /// For a TCP connection: the milliseconds after which it is gone, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
    /// The least destructive thing to do about it.
    pub remedy: String,
}

/// Everything that `question` may mean (as for [`crate::who::who`]; also a file in /run/netns), each with its holders.
pub fn holders(snapshot: &Snapshot, question: &str) -> Vec<Subject> {
    let query = Query::new(question);
    let all = wirings(snapshot);
    let owners = Owners::new(snapshot, &all);
    let mut subjects = Vec::new();
    for wiring in &all {
        if let Some(by) = query.matches(wiring) {
            subjects.extend(of_wiring(wiring, by, snapshot, &owners));
        }
    }
    let path = run_path(Path::new(question));
    if let Some(file) = snapshot.stale_files.iter().find(|file| run_path(&file.path) == path) {
        let holder = Holder::StaleFile { path: file.path.clone() };
        subjects.push(alone(question, "path", owners.held(holder, None)));
    }
    for holder in &snapshot.unplaced {
        if let Holder::Zombie { task } = holder
            && query.pid == Some(task.pid)
        {
            subjects.push(alone(&task.to_string(), "pid", owners.held(holder.clone(), None)));
        }
    }
    let host = snapshot.host().into_iter().flat_map(|host| &host.tasks);
    for task in host.filter(|task| query.pid == Some(task.pid)) {
        let note = "it lives in the host's own namespace, which lives as long as the machine runs";
        let subject = Subject { note: Some(note.into()), ..empty(task.to_string(), "pid") };
        subjects.push(subject);
    }
    subjects
}

fn empty(label: String, by: &'static str) -> Subject {
    Subject {
        label,
        by,
        namespace: None,
        links: Vec::new(),
        listed: None,
        holders: Vec::new(),
        may_be: Vec::new(),
        note: None,
    }
}

fn alone(label: &str, by: &'static str, held: Held) -> Subject {
    Subject { holders: vec![held], ..empty(label.to_owned(), by) }
}

/// One subject for each namespace of a wiring; one for a wiring that has none.
fn of_wiring(
    wiring: &Wiring<'_>,
    by: &'static str,
    snapshot: &Snapshot,
    owners: &Owners<'_>,
) -> Vec<Subject> {
    let listed = wiring.objects.first().map(|(runtime, object)| {
        format!("{} lists {}, {}", runtime.kind, short_id(object.id.as_str()), object.state)
    });
    let stop = wiring.objects.first().map(|(runtime, _)| runtime.kind.to_string());
    let subject = |namespace: Option<&Namespace>, links: Vec<String>, seen: Vec<Holder>| {
        let unseen = seen.iter().any(|holder| matches!(holder, Holder::Unseen { .. }));
        let suspects = snapshot.unplaced.iter().filter(|holder| !matches!(holder, Holder::Zombie { .. }));
        let may_be = suspects.filter(|_| unseen).map(|holder| owners.held(holder.clone(), None)).collect();
        let note = seen.is_empty().then(|| "its namespace is gone: nothing keeps it alive".to_owned());
        Subject {
            namespace: namespace.map(NamespaceLine::of),
            links,
            listed: listed.clone(),
            holders: seen.into_iter().map(|holder| owners.held(holder, stop.as_deref())).collect(),
            may_be,
            note,
            ..empty(namespace.map_or_else(|| wiring.label(), |_| wiring.label()), by)
        }
    };
    let pairs = pairs(wiring, snapshot);
    if wiring.namespaces.is_empty() {
        let links = wiring.links.iter().map(|host| host.link.name.clone()).collect();
        return vec![subject(None, links, pairs)];
    }
    let of_namespace = |namespace: &&Namespace| {
        let links = snapshot.host_veths_into(namespace).map(|link| link.name.clone()).collect();
        let mut seen = elsewhere(wiring, namespace, snapshot);
        seen.extend(of_namespace(namespace));
        seen.extend(pairs.iter().cloned());
        subject(Some(namespace), links, seen)
    };
    wiring.namespaces.iter().map(of_namespace).collect()
}

/// Veths of which both ends are on the host, each once.
fn pairs(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Vec<Holder> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for host in &wiring.links {
        let Some(peer) = host.link.peer.filter(|peer| peer.nsid.is_none()) else { continue };
        let Some(other) = snapshot.host_link(peer.index) else { continue };
        let (a, b) = (host.link.name.clone(), other.name.clone());
        if !pairs.contains(&(b.clone(), a.clone())) {
            pairs.push((a, b));
        }
    }
    pairs.into_iter().map(|(link, peer)| Holder::HostPair { link, peer }).collect()
}

/// Ends of veths that are in this namespace, though the record of their making names another.
fn elsewhere(wiring: &Wiring<'_>, namespace: &Namespace, snapshot: &Snapshot) -> Vec<Holder> {
    let records = wiring.records.iter().filter(|record| record.boot_id == snapshot.node.boot_id);
    let moved = records.filter_map(|record| {
        let name = record.host_interface.as_ref()?;
        snapshot.host_veths_into(namespace).find(|link| link.name == name.as_str())?;
        let differs = record.ns_id.zip(namespace.ns_id).is_some_and(|(made, now)| made != now);
        differs.then(|| Holder::PeerElsewhere {
            link: name.to_string(),
            found: namespace.label(),
            made: record.netns.display().to_string(),
        })
    });
    moved.collect()
}

/// All that holds a namespace, what is alive in it first.
pub fn of_namespace(namespace: &Namespace) -> Vec<Holder> {
    let mut all: Vec<Holder> = Vec::new();
    let is_told = |task: &Task| {
        namespace.holders.iter().any(|holder| {
            let by_task = matches!(holder, Holder::Uninterruptible { .. } | Holder::LastThread { .. });
            by_task && holder.task() == Some(task)
        })
    };
    all.extend(namespace.tasks.iter().filter(|task| !is_told(task)).map(|task| match task.tid {
        None => Holder::Process { task: task.clone() },
        Some(_) => Holder::Thread { task: task.clone() },
    }));
    all.extend(namespace.holders.iter().cloned());
    let open: Vec<(u32, u32)> =
        namespace.holders.iter().filter_map(Holder::descriptor).map(|(by, fd)| (by.task.pid, fd)).collect();
    let others = namespace.descriptors.iter().filter(|d| !open.contains(&(d.task.pid, d.fd)));
    all.extend(others.map(|descriptor| Holder::NamespaceFd {
        keeper: Keeper { task: descriptor.task.clone(), container: None },
        fd: descriptor.fd,
    }));
    all.extend(namespace.pins.iter().map(|pin| match &pin.seen_by {
        None => Holder::Pin { path: pin.path.clone(), since: pin.since },
        Some(task) => Holder::PinElsewhere { path: pin.path.clone(), seen_by: task.clone() },
    }));
    all.extend(unseen(namespace, &all));
    all
}

/// What has to be there, besides what was seen.
fn unseen(namespace: &Namespace, seen: &[Holder]) -> Option<Holder> {
    if namespace.host || namespace.has_tasks() {
        return None;
    }
    let of_socket = |holder: &&Holder| match holder {
        Holder::SocketFd { .. } | Holder::TunFd { .. } | Holder::Packets { .. } => true,
        Holder::Message { carries, .. } => carries.starts_with("a socket"),
        _ => false,
    };
    let with_socket = seen.iter().filter(of_socket).count();
    let held = namespace.sockets.map_or(0, |sockets| sockets.held() as usize);
    let why = match (held.saturating_sub(with_socket), namespace.sockets) {
        (0, Some(_)) if !seen.is_empty() => return None,
        (0, Some(_)) => "nobody that was seen has it, and it lives".into(),
        (n, Some(_)) if with_socket == 0 || n > 0 => {
            let sockets = if n == 1 { "a socket".to_owned() } else { format!("{n} sockets") };
            format!("{sockets} in it that nobody seen has: in a message, with io_uring, or the kernel's own")
        }
        (_, None) if seen.is_empty() && namespace.inode.is_none() => {
            "nobody that was seen has it; TCP connections of processes that ended may hold it for minutes \
             (--kill-orphans goes in and looks)"
                .into()
        }
        _ if !namespace.readable => "it could not be read".into(),
        _ => return None,
    };
    Some(Holder::Unseen { why })
}

/// Whose a process is.
struct Owners<'a> {
    snapshot: &'a Snapshot,
    by_id: HashMap<&'a str, &'a RuntimeObject>,
    by_pid: HashMap<u32, (Option<String>, Option<PodName>)>,
}

impl<'a> Owners<'a> {
    fn new(snapshot: &'a Snapshot, all: &[Wiring<'a>]) -> Self {
        let mut by_pid = HashMap::new();
        for wiring in all {
            let whose =
                (wiring.container().map(|id| id.as_str().to_owned()), wiring.pod_or_logged().cloned());
            let tasks = wiring.namespaces.iter().flat_map(|namespace| &namespace.tasks);
            for task in tasks.filter(|task| task.tid.is_none()) {
                by_pid.insert(task.pid, whose.clone());
            }
        }
        let by_id = snapshot.runtime_objects().map(|(_, object)| (object.id.as_str(), object)).collect();
        Self { snapshot, by_id, by_pid }
    }

    fn of(&self, holder: &Holder) -> (Option<String>, Option<PodName>) {
        let container = holder.descriptor().and_then(|(keeper, _)| keeper.container.as_ref());
        let Some(task) = holder.task() else { return (None, None) };
        let by_pid = || {
            let object = |(_, object): &(_, &RuntimeObject)| object.pid == Some(task.pid);
            self.snapshot.runtime_objects().find(object).map(|(_, object)| object)
        };
        let object = container.and_then(|id| self.by_id.get(id.as_str()).copied()).or_else(by_pid);
        match (object, container) {
            (Some(object), _) => (Some(object.id.as_str().to_owned()), self.pod_of(object)),
            // Its cgroup names one that no runtime lists.
            (None, Some(id)) => (Some(id.as_str().to_owned()), None),
            (None, None) => self.by_pid.get(&task.pid).cloned().unwrap_or_default(),
        }
    }

    fn pod_of(&self, object: &RuntimeObject) -> Option<PodName> {
        let sandbox = object.sandbox.as_ref().and_then(|id| self.by_id.get(id.as_str()));
        object.pod.clone().or_else(|| sandbox?.pod.clone())
    }

    fn held(&self, holder: Holder, listed_by: Option<&str>) -> Held {
        let (of_container, of_pod) = self.of(&holder);
        let left_ms = match &holder {
            Holder::TcpOrphan { connection } => {
                left(connection).map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
            }
            _ => None,
        };
        let (text, remedy) = (text(&holder), remedy(&holder, listed_by));
        Held { holder, text, of_container, of_pod, left_ms, remedy }
    }
}

/// A holder in words.
pub fn text(holder: &Holder) -> String {
    match holder {
        Holder::Process { task } => format!("{task} lives in it"),
        Holder::Uninterruptible { task } => {
            format!("{task} lives in it, and waits in the kernel (state D)")
        }
        Holder::Thread { task } => format!("one thread of {task} is in it, by setns()"),
        Holder::LastThread { task } => {
            format!("a thread of {task} is in it; the process looks like a zombie")
        }
        Holder::Zombie { task } => format!("{task} is a zombie, which holds no namespace"),
        Holder::NamespaceFd { keeper, fd } => format!("{} has it open as fd {fd}", keeper.task),
        Holder::PathFd { keeper, fd } => format!("{} has it open as fd {fd} (O_PATH)", keeper.task),
        Holder::DetachedMount { keeper, fd } => {
            format!("a mount that is attached nowhere, fd {fd} of {}", keeper.task)
        }
        Holder::SocketFd { keeper, fd, what } => {
            format!("{} has a socket of it open as fd {fd} ({what})", keeper.task)
        }
        Holder::TunFd { keeper, fd } => format!("{} has a tun device of it open as fd {fd}", keeper.task),
        Holder::ProcFile { keeper, fd, path } => {
            format!("{} has {} open as fd {fd}", keeper.task, path.display())
        }
        Holder::IoUring { keeper, fd, file } => {
            format!("{file}, registered with the io_uring that {} has as fd {fd}", keeper.task)
        }
        Holder::Message { keeper, fd, carries } => {
            format!("a message that waits in fd {fd} of {} carries {carries}", keeper.task)
        }
        Holder::Pin { path, .. } => format!("the mount {}", path.display()),
        Holder::PinElsewhere { path, seen_by } => {
            format!("the mount {} in the mount namespace of {seen_by}", path.display())
        }
        Holder::PinInFd { path, keeper, fd } => {
            format!(
                "the mount {} in a mount namespace that only fd {fd} of {} holds",
                path.display(),
                keeper.task
            )
        }
        Holder::TcpOrphan { connection } => tcp_text(connection),
        Holder::Packets { link, packets } => {
            let plural = if *packets == 1 { "packet waits" } else { "packets wait" };
            format!("{packets} {plural} in the queue of {link}, of sockets that were closed")
        }
        Holder::HostPair { link, peer } => {
            format!("nobody: {link} and its other end {peer} are both on the host")
        }
        Holder::PeerElsewhere { link, found, made } => {
            format!("the other end of {link} is in {found}; it was made in {made}")
        }
        Holder::StaleFile { path } => {
            format!("nothing: {} is a plain file, and pins no namespace", path.display())
        }
        Holder::Unseen { why } => why.clone(),
    }
}

fn tcp_text(connection: &TcpConnection) -> String {
    let TcpConnection { local, remote, state, .. } = connection;
    let left = match left(connection) {
        Some(left) => format!(", gone in {} at most", model::time::short(left)),
        None => String::new(),
    };
    format!("a TCP connection that nobody has any more: {local} to {remote}, {state}{left}")
}

/// The least destructive thing to do about it. `listed_by`: the runtime that lists the container whose it is.
fn remedy(holder: &Holder, listed_by: Option<&str>) -> String {
    let close = |keeper: &Keeper, fd: u32| {
        format!("have {} close fd {fd}: restart it if it cannot be told to", keeper.task.command)
    };
    match holder {
        Holder::Process { task } | Holder::Thread { task } => match (listed_by, task.tid) {
            (Some(runtime), None) => format!("it is in use: {runtime} stops it"),
            (_, None) => format!("end it: kill {}", task.pid),
            (_, Some(tid)) => format!("end that thread ({tid}) by restarting process {}", task.pid),
        },
        Holder::Uninterruptible { task } => format!(
            "it ends when what it waits for does: see /proc/{0}/stack and /proc/{0}/wchan; signals wait until then",
            task.pid
        ),
        Holder::LastThread { task } => format!("kill {}: the signal reaches its threads", task.pid),
        Holder::Zombie { .. } => "none is needed: its parent has to wait for it".into(),
        Holder::NamespaceFd { keeper, fd }
        | Holder::PathFd { keeper, fd }
        | Holder::DetachedMount { keeper, fd }
        | Holder::SocketFd { keeper, fd, .. }
        | Holder::TunFd { keeper, fd }
        | Holder::ProcFile { keeper, fd, .. }
        | Holder::PinInFd { keeper, fd, .. } => close(keeper, *fd),
        Holder::IoUring { keeper, fd, .. } => {
            format!("have {} unregister it, or close fd {fd}", keeper.task.command)
        }
        Holder::Message { keeper, fd, .. } => {
            format!("have {} receive the message, or close fd {fd}", keeper.task.command)
        }
        Holder::Pin { path, .. } => match listed_by {
            Some(runtime) => format!("it is in use: {runtime} unmounts it"),
            None => format!("umount {0} && rm {0} (reclaim does it for an orphan)", path.display()),
        },
        Holder::PinElsewhere { path, seen_by } => {
            format!("nsenter -t {} -m umount {}", seen_by.pid, path.display())
        }
        Holder::TcpOrphan { .. } => "wait, or end it: podplumb holders X --kill-orphans".into(),
        Holder::Packets { link, .. } => {
            format!("wait until they are sent, or drop them: in the namespace, tc qdisc del dev {link} root")
        }
        Holder::HostPair { link, .. } => format!("ip link del {link} (reclaim does it for an orphan)"),
        Holder::PeerElsewhere { link, .. } => {
            format!("end whoever holds that namespace, or, for the veth alone: ip link del {link}")
        }
        Holder::StaleFile { path } => format!("rm {} (reclaim does it for an orphan)", path.display()),
        Holder::Unseen { .. } => {
            "none that is known to be safe: what could not be read is listed below".into()
        }
    }
}

/// The kernel gives up a closed connection after so many repetitions (`tcp_orphan_retries` of 0 means 8), and a window that stays
/// shut after ten probes (measured: 107 s and 343 s; `tcp_write_timeout`, `tcp_probe_timer` of net/ipv4/tcp_timer.c).
const RETRIES: u32 = 8;
const PROBES: u32 = 10;
/// `TCP_RTO_MAX`.
const LONGEST_WAIT_MS: u64 = 120_000;

/// After what time the kernel has given up the connection, at most.
pub fn left(connection: &TcpConnection) -> Option<Duration> {
    let next = u64::from(connection.expires_ms);
    let rto = u64::from(connection.rto_ms.max(1));
    let tried = u32::from(connection.retransmits);
    let waits =
        |from: u32, to: u32| (from..=to).map(|n| (rto << n.min(20)).min(LONGEST_WAIT_MS)).sum::<u64>();
    let after = match (connection.timer, connection.state) {
        // A FIN-WAIT-2 goes over to TIME-WAIT, which holds nothing.
        (TcpTimer::Ending, _) => 0,
        // The wait doubles each time; `rto_ms` is the present one.
        (TcpTimer::Retransmit, _) => waits(1, RETRIES.saturating_sub(tried)),
        // Here it is the first one.
        (TcpTimer::WindowProbe, _) => waits(tried + 1, PROBES),
        (TcpTimer::Off, TcpState::FinWait2) => LONGEST_WAIT_MS / 2,
        (TcpTimer::Off, _) => return None,
    };
    Some(Duration::from_millis(next + after))
}
