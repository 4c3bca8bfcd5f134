//! Where veths lead that do not lead to the host: to a namespace beside the pod, as those of service meshes, virtual routers and labs do.
//!
//! A veth's other end is told by an index and the number of a namespace, and each namespace numbers the others in its own way. So
//! those that may be meant, by their indices, are asked after from inside.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;

use model::{Gap, IfIndex, Link, Namespace, NsInode, Nsid, Peer, Source};
use netlink::{Socket, link, nsid};
use sys::NetNs;

use crate::opened::Opened;

/// Fills in [`Namespace::peers`].
pub(crate) fn find(host: &Namespace, others: &mut [Namespace], opened: &Opened, gaps: &mut Vec<Gap>) {
    let known = veths_of_host(host);
    // By the indices of both ends, as the other end sees them.
    let mut ends: HashMap<(IfIndex, IfIndex), Vec<NsInode>> = HashMap::new();
    let mut asked: Vec<usize> = Vec::new();
    for (at, namespace) in others.iter().enumerate() {
        let mut leads_elsewhere = false;
        for (own, peer) in veths(&namespace.links) {
            if !namespace.nsid.is_some_and(|nsid| known.contains(&(peer.index, own, nsid))) {
                leads_elsewhere = true;
                ends.entry((own, peer.index)).or_default().extend(namespace.inode);
            }
        }
        if leads_elsewhere {
            asked.push(at);
        }
    }
    // Pins alone are not kept open throughout a look.
    let mut handles: HashMap<NsInode, NetNs> = HashMap::new();
    for namespace in asked.iter().map(|at| &others[*at]) {
        let Some(inode) = namespace.inode else { continue };
        let handle = match opened.get(inode) {
            Some(kept) => kept.try_clone().map_err(|error| error.to_string()),
            None => crate::namespaces::open(namespace),
        };
        match handle {
            Ok(handle) => drop(handles.insert(inode, handle)),
            Err(why) => gaps.push(gap(namespace, why)),
        }
    }
    for at in asked {
        let namespace = &mut others[at];
        let Some((own, inside)) = namespace.inode.and_then(|inode| handles.get_key_value(&inode)) else {
            continue;
        };
        match inside.run(|| ask(*own, &ends, &handles)) {
            Ok(Ok(peers)) => namespace.peers = peers,
            Ok(Err(error)) => gaps.push(gap(namespace, error.to_string())),
            Err(error) => gaps.push(gap(namespace, error.to_string())),
        }
    }
}

fn gap(namespace: &Namespace, why: String) -> Gap {
    Gap { source: Source::Namespace, object: format!("{}: where its veths lead", namespace.label()), why }
}

fn veths(links: &[Link]) -> impl Iterator<Item = (IfIndex, Peer)> {
    let veths = links.iter().filter(|link| link.kind == "veth");
    veths.filter_map(|link| Some((link.index, link.peer.filter(|peer| peer.nsid.is_some())?)))
}

/// The host's veths that lead to other namespaces: their own index, the other end's, and the host's number of its namespace.
fn veths_of_host(host: &Namespace) -> std::collections::HashSet<(IfIndex, IfIndex, Nsid)> {
    veths(&host.links).filter_map(|(own, peer)| Some((own, peer.index, peer.nsid?))).collect()
}

/// Asks, from inside, which of the namespaces that may be meant is the one that is.
fn ask(
    own: NsInode,
    ends: &HashMap<(IfIndex, IfIndex), Vec<NsInode>>,
    handles: &HashMap<NsInode, NetNs>,
) -> netlink::Result<BTreeMap<IfIndex, NsInode>> {
    let mut socket = Socket::route()?;
    let mut numbers: HashMap<NsInode, Option<Nsid>> = HashMap::new();
    let mut found = BTreeMap::new();
    // Listed again: what was read from outside has the host's numbers.
    for (index, peer) in veths(&link::list(&mut socket, None)?) {
        for candidate in ends.get(&(peer.index, index)).into_iter().flatten() {
            let Some(netns) = handles.get(candidate).filter(|_| *candidate != own) else { continue };
            let number = match numbers.get(candidate) {
                Some(number) => *number,
                None => {
                    let number = nsid::of(&mut socket, netns.as_fd())?;
                    numbers.insert(*candidate, number);
                    number
                }
            };
            if number.is_some() && number == peer.nsid {
                found.insert(index, *candidate);
                break;
            }
        }
    }
    Ok(found)
}
