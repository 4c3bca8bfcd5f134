//! The sockets of one namespace, with the processes that have them.

use std::collections::{HashMap, HashSet};
use std::io;

use model::{Gap, Keeper, Socket, SocketProtocol, SocketState, Source, Task, UnixSocket};
use netlink::{diag, link};
use sys::NetNs;

use crate::{descriptors, glimpse, processes};

/// What was found.
#[derive(Debug, Default)]
pub struct SocketTable {
    /// The sockets, in the order of their protocols.
    pub sockets: Vec<Socket>,
    /// What could not be read.
    pub gaps: Vec<Gap>,
}

/// What carries packets, and what only leads from process to process.
const PROTOCOLS: [SocketProtocol; 5] = [
    SocketProtocol::Tcp,
    SocketProtocol::Udp,
    SocketProtocol::Raw,
    SocketProtocol::Packet,
    SocketProtocol::Unix,
];

/// Lists the sockets of a namespace, unix sockets if they are wanted. Those who have them are looked for among the processes that are in there.
pub fn socket_table(netns: &NetNs, unix: bool) -> io::Result<SocketTable> {
    let mut table = netns.run(move || list(unix))??;
    let (tasks, gaps) = glimpse::inhabitants(netns)?;
    table.gaps.extend(gaps);
    let owners = owners(&table.sockets, &tasks, &mut table.gaps);
    let unowned = |socket: &Socket| socket.inode > 0 && !owners.contains_key(&socket.inode);
    // One that was closed before its owner was looked for is nobody's by now, and not somebody's elsewhere.
    if table.sockets.iter().any(unowned) {
        let now: HashSet<u64> =
            netns.run(move || list(unix))??.sockets.iter().map(|socket| socket.cookie).collect();
        table.sockets.retain(|socket| !unowned(socket) || now.contains(&socket.cookie));
    }
    for socket in &mut table.sockets {
        socket.owners = owners.get(&socket.inode).cloned().unwrap_or_default();
    }
    introduce(&mut table.sockets);
    Ok(table)
}

/// Who of the tasks has which socket, by its inode.
fn owners(sockets: &[Socket], tasks: &[Task], gaps: &mut Vec<Gap>) -> HashMap<u64, Vec<Keeper>> {
    let wanted: HashSet<u64> = sockets.iter().map(|socket| socket.inode).filter(|inode| *inode > 0).collect();
    let mut owners: HashMap<u64, Vec<Keeper>> = HashMap::new();
    for task in tasks {
        let held = match descriptors::socket_inodes(task) {
            Ok(held) => held,
            Err(error) if processes::is_gone(&error) => continue,
            Err(error) => {
                let object = format!("/proc/{}/fd", task.pid);
                gaps.push(Gap { source: Source::Descriptors, object, why: error.to_string() });
                continue;
            }
        };
        let held: Vec<u64> = held.into_iter().filter(|inode| wanted.contains(inode)).collect();
        if held.is_empty() {
            continue;
        }
        let keeper = descriptors::keeper_of(task);
        for inode in held {
            owners.entry(inode).or_default().push(keeper.clone());
        }
    }
    owners
}

/// The UDP sockets of the calling thread's namespace that have one of these ports, with those of the tasks that have them.
pub(crate) fn at_ports(ports: &[u16], tasks: &[Task]) -> netlink::Result<Vec<Socket>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let mut sockets = diag::sockets(&mut netlink::Socket::diag()?, SocketProtocol::Udp)?;
    sockets.retain(|socket| socket.local.is_some_and(|local| ports.contains(&local.port())));
    if !sockets.is_empty() {
        // Whose descriptors may not be read is a gap of the look already: here, the socket's process is then not named.
        let owners = owners(&sockets, tasks, &mut Vec::new());
        for socket in &mut sockets {
            socket.owners = owners.get(&socket.inode).cloned().unwrap_or_default();
        }
    }
    Ok(sockets)
}

/// Tells each unix socket who is at its other end.
fn introduce(sockets: &mut [Socket]) {
    let of_unix =
        sockets.iter().filter_map(|socket| Some((socket.inode, socket.unix.as_ref()?, &socket.owners)));
    let known: HashMap<u64, _> =
        of_unix.map(|(inode, unix, owners)| (inode, (unix.name.clone(), owners.clone()))).collect();
    for peer in sockets.iter_mut().filter_map(|socket| socket.unix.as_mut()?.peer.as_mut()) {
        if let Some((name, owners)) = known.get(&peer.inode) {
            (peer.name, peer.owners) = (name.clone(), owners.clone());
        }
    }
}

/// The sockets of the calling thread's namespace.
fn list(unix: bool) -> io::Result<SocketTable> {
    let mut table = SocketTable::default();
    let mut socket = netlink::Socket::diag().map_err(io::Error::other)?;
    for protocol in PROTOCOLS.into_iter().filter(|protocol| unix || *protocol != SocketProtocol::Unix) {
        match diag::sockets(&mut socket, protocol) {
            Ok(sockets) => table.sockets.extend(sockets.into_iter().filter(says_something)),
            // Nothing is missed where there are none: raw sockets are rare, and so are kernels that list them.
            Err(error) if error.is_gone() && count(protocol) == 0 => {}
            Err(error) => {
                let why = match error.is_gone() {
                    true => format!("this kernel cannot list them (needs {})", option(protocol)),
                    false => error.to_string(),
                };
                let object = format!("{protocol} sockets");
                table.gaps.push(Gap { source: Source::Namespace, object, why });
            }
        }
    }
    if table.sockets.iter().any(|socket| socket.interface.is_some()) {
        let links = netlink::Socket::route().and_then(|mut socket| link::list(&mut socket, None));
        let names: HashMap<_, _> =
            links.unwrap_or_default().into_iter().map(|link| (link.index, link.name)).collect();
        for socket in &mut table.sockets {
            socket.interface_name = socket.interface.and_then(|index| names.get(&index).cloned());
        }
    }
    Ok(table)
}

/// A unix socket that is bound to nothing and connected with nobody is one that somebody has yet to use.
fn says_something(socket: &Socket) -> bool {
    let is_loose = |unix: &UnixSocket| unix.name.is_none() && unix.peer.is_none();
    socket.state != SocketState::Unconnected || !socket.unix.as_ref().is_some_and(is_loose)
}

/// How many there are, by the calling thread's /proc/net, whose tables have one line of headings.
fn count(protocol: SocketProtocol) -> usize {
    let lines = |file: &str| match std::fs::read(format!("/proc/thread-self/net/{file}")) {
        Ok(table) => table.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1),
        // A kernel without IPv6, or without the protocol.
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(_) => 1,
    };
    match protocol {
        SocketProtocol::Packet => lines("packet"),
        SocketProtocol::Unix => lines("unix"),
        protocol => lines(&protocol.to_string()) + lines(&format!("{protocol}6")),
    }
}

/// What a kernel is built with that can list them.
fn option(protocol: SocketProtocol) -> &'static str {
    match protocol {
        SocketProtocol::Tcp => "CONFIG_INET_TCP_DIAG",
        SocketProtocol::Udp => "CONFIG_INET_UDP_DIAG",
        SocketProtocol::Raw => "CONFIG_INET_RAW_DIAG",
        SocketProtocol::Packet => "CONFIG_PACKET_DIAG",
        SocketProtocol::Unix => "CONFIG_UNIX_DIAG",
    }
}
