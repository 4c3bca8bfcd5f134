//! Ending the TCP connections of a namespace that no process has any more.
//!
//! The kernel keeps such a connection, and with it the namespace and its veth, until the other end has acknowledged everything or some
//! minutes have gone: 107 s when nothing answers, 343 s when the other end's window stays shut.

use std::os::fd::AsFd;
use std::path::PathBuf;

use model::{Namespace, Nsid};
use netlink::{Socket, diag, link};
use serde::Serialize;
use sys::{NetNs, Tap};

/// Why no connection was touched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing leads into the namespace.
    #[error("cannot be entered: {0}")]
    Closed(String),
    /// The kernel has no way to end a connection from outside.
    #[error("this kernel cannot end connections (needs CONFIG_INET_DIAG_DESTROY)")]
    Unsupported,
    /// They could not be listed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

/// A connection that was ended, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Its own end.
    pub local: std::net::SocketAddr,
    /// The other end.
    pub remote: std::net::SocketAddr,
    /// Why it was not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Ends (`SOCK_DESTROY`) every TCP connection of the namespace that was closed by all who had it.
///
/// They are listed inside, at this moment, and each is ended by its cookie; nobody can take a closed connection up again. So a
/// connection that somebody has cannot be meant.
pub fn end_tcp_orphans(namespace: &Namespace) -> Result<Vec<Ended>, Error> {
    let netns = enter(namespace)?;
    netns.run(end_all).map_err(|error| Error::Closed(error.to_string()))?
}

fn end_all() -> Result<Vec<Ended>, Error> {
    let mut socket = Socket::diag()?;
    let mut all = Vec::new();
    for connection in diag::tcp_orphans(&mut socket)? {
        let error = match socket.ack(diag::destroy(&connection)) {
            Ok(()) => None,
            // It ended by itself meanwhile.
            Err(error) if error.is_gone() => None,
            Err(error) if error.is_unsupported() => return Err(Error::Unsupported),
            Err(error) => Some(error.to_string()),
        };
        all.push(Ended { local: connection.local, remote: connection.remote, error });
    }
    Ok(all)
}

/// Opens the namespace by whatever leads to it: a path, its identity, and, where only its number is known, a device.
fn enter(namespace: &Namespace) -> Result<NetNs, Error> {
    let pins = namespace.own_pins().map(|pin| pin.path.clone());
    let tasks = namespace.tasks.iter().map(|task| task.netns_path());
    let of_process = |pid: u32, fd: u32| PathBuf::from(format!("/proc/{pid}/fd/{fd}"));
    let descriptors = namespace.descriptors.iter().map(|d| of_process(d.task.pid, d.fd));
    let is_it = |netns: &NetNs| match (namespace.ns_id, netns.id()) {
        (Some(wanted), Some(is)) => wanted == is,
        _ => netns.inode().ok() == namespace.inode,
    };
    if let Some(netns) =
        pins.chain(tasks).chain(descriptors).filter_map(|path| NetNs::open(path).ok()).find(is_it)
    {
        return Ok(netns);
    }
    if let (Some(id), Some(inode)) = (namespace.ns_id, namespace.inode)
        && let Ok(netns) = NetNs::by_id(id, inode)
    {
        return Ok(netns);
    }
    let nsid = namespace.nsid.ok_or_else(|| Error::Closed("nothing leads to it".into()))?;
    let netns = by_device(nsid).map_err(Error::Closed)?;
    // A number is given again. What is in the namespace tells whether it is the one that was seen.
    let now = netns.run(|| link::list(&mut Socket::route()?, None));
    let now = now.map_err(|error| Error::Closed(error.to_string()))??;
    let identity = |link: &model::Link| (link.index, link.name.clone(), link.mac);
    let is_there = |link: &model::Link| now.iter().any(|other| identity(other) == identity(link));
    let differs = namespace.inode.is_some() && !is_it(&netns);
    if differs || !namespace.links.iter().all(is_there) {
        return Err(Error::Closed("its number is another namespace's by now".into()));
    }
    Ok(netns)
}

/// A namespace of which only the host's number is known, and that nobody seen has open: a tap device of ours is moved there, and the
/// kernel says where it is (`TUNGETDEVNETNS`). The device is down, has no address, and ends with its descriptor.
fn by_device(nsid: Nsid) -> Result<NetNs, String> {
    let name = format!("pplumb{}", std::process::id() % 1_000_000);
    let tap = Tap::new(&name, false).map_err(|error| format!("/dev/net/tun: {error}"))?;
    let mut socket = Socket::route().map_err(|error| error.to_string())?;
    let index = link::by_name(&mut socket, &name).map_err(|error| error.to_string())?.index;
    socket.ack(link::move_to_number(index, nsid)).map_err(|error| error.to_string())?;
    NetNs::of_tun(tap.as_fd()).map_err(|error| error.to_string())
}
