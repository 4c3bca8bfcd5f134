//! Where packets can be seen: the interface that a name means, and the names of those who have addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{IfIndex, Link, Namespace, Snapshot};

use crate::who::{Chain, Found, chains, who};

/// One interface of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// `web-1/eth0`; of the host's own interfaces, just their name.
    pub name: String,
    /// Whose it is: `shop/web-1`.
    pub owner: Option<String>,
    /// The container's id.
    pub container: Option<String>,
    /// Which end it is.
    pub side: Side,
    /// The interface's name.
    pub interface: String,
    /// Its index in there.
    pub index: IfIndex,
    /// The namespace.
    pub namespace: &'a Namespace,
}

/// Which end of a pod's wiring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the pod.
    Inside,
    /// The host's end of it.
    HostEnd,
    /// The host's own: a bridge, an uplink.
    Host,
}

/// Why a name means no interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unclear {
    /// Nothing goes by it.
    Nothing,
    /// These do.
    Several(Vec<String>),
    /// Its namespace is gone, or could not be found.
    NoNamespace {
        /// Whose.
        label: String,
    },
    /// It has no such interface.
    NoInterface {
        /// Who.
        label: String,
        /// Those that it has.
        has: Vec<String>,
    },
    /// A process of the host's own namespace.
    HostProcess,
}

/// The interfaces that `question` means: whatever [`who`] understands. A host's interface is that; of a pod or anything in it, it is `eth0`,
/// or all that it has besides loopback where it has none of that name. `web-1%net1` is another one of it. With `both_ends`, the
/// host's end of what is inside comes too.
pub fn places<'a>(
    snapshot: &'a Snapshot,
    question: &str,
    both_ends: bool,
) -> Result<Vec<Place<'a>>, Unclear> {
    let mut found = who(snapshot, question);
    let mut interface = None;
    if found.is_empty()
        && let Some((owner, name)) = question.rsplit_once('%')
    {
        interface = Some(name);
        found = who(snapshot, owner);
    }
    match found.as_slice() {
        [] => Err(Unclear::Nothing),
        [Found::HostProcess { .. }] => Err(Unclear::HostProcess),
        [Found::HostLink { link, .. }] => {
            let host = snapshot.host().ok_or(Unclear::Nothing)?;
            Ok(vec![of_host(host, link, Side::Host, None)])
        }
        [Found::Chain { by, chain }] => of_chain(snapshot, by, chain, question, interface, both_ends),
        several => Err(Unclear::Several(several.iter().map(called).collect())),
    }
}

fn called(found: &Found) -> String {
    match found {
        Found::Chain { by, chain } => format!("{} (by its {by})", chain.label),
        Found::HostLink { by, link } => format!("{} (by its {by})", link.name),
        Found::HostProcess { task } => task.to_string(),
    }
}

fn of_chain<'a>(
    snapshot: &'a Snapshot,
    by: &str,
    chain: &Chain,
    question: &str,
    interface: Option<&str>,
    both_ends: bool,
) -> Result<Vec<Place<'a>>, Unclear> {
    let label = short_label(chain, &chains(snapshot));
    // The host's end by its own name, index or MAC is that end.
    if by.contains("host interface") && interface.is_none() {
        let host = snapshot.host().ok_or(Unclear::Nothing)?;
        let is_meant = |link: &&Link| {
            link.name == question
                || link.mac.is_some_and(|mac| Ok(mac) == question.parse())
                || question.trim_start_matches("ifindex:") == link.index.to_string()
        };
        let mut ends = chain.interfaces.iter().filter_map(|line| line.host.as_ref()).filter(is_meant);
        let end = ends.next().ok_or(Unclear::Nothing)?;
        let mut places = vec![of_host(host, end, Side::HostEnd, Some(chain))];
        if both_ends {
            let line = chain.interfaces.iter().find(|line| line.host.as_ref() == Some(end));
            let inside = line.and_then(|line| line.inside.as_ref()).zip(namespace(snapshot, chain));
            places.extend(inside.map(|(link, namespace)| inner(namespace, link, &label, chain)));
        }
        return Ok(places);
    }
    let gone = || Unclear::NoNamespace { label: chain.label.clone() };
    let namespace = namespace(snapshot, chain).ok_or_else(gone)?;
    let all = || namespace.links.iter();
    let wanted: Vec<&Link> = match interface {
        Some(name) => all().filter(|link| link.name == name).collect(),
        None => {
            let others = || all().filter(|link| !link.loopback).collect();
            namespace.link_named("eth0").map_or_else(others, |link| vec![link])
        }
    };
    if wanted.is_empty() {
        let has = all().map(|link| link.name.clone()).collect();
        return Err(Unclear::NoInterface { label: chain.label.clone(), has });
    }
    let mut places = Vec::new();
    for link in wanted {
        places.push(inner(namespace, link, &label, chain));
        let is_it = |inside: &Link| inside.index == link.index;
        let line = chain.interfaces.iter().find(|line| line.inside.as_ref().is_some_and(is_it));
        if let (true, Some(end), Some(host)) =
            (both_ends, line.and_then(|line| line.host.as_ref()), snapshot.host())
        {
            places.push(of_host(host, end, Side::HostEnd, Some(chain)));
        }
    }
    Ok(places)
}

fn namespace<'a>(snapshot: &'a Snapshot, chain: &Chain) -> Option<&'a Namespace> {
    let line = chain.namespace.as_ref()?;
    let is_it = |namespace: &&Namespace| {
        !namespace.host && (namespace.inode, namespace.nsid) == (line.inode, line.nsid)
    };
    snapshot.namespaces.iter().find(is_it)
}

fn inner<'a>(namespace: &'a Namespace, link: &Link, label: &str, chain: &Chain) -> Place<'a> {
    Place {
        name: format!("{label}/{}", link.name),
        owner: Some(chain.label.clone()),
        container: chain.sandbox.clone(),
        side: Side::Inside,
        interface: link.name.clone(),
        index: link.index,
        namespace,
    }
}

fn of_host<'a>(host: &'a Namespace, link: &Link, side: Side, chain: Option<&Chain>) -> Place<'a> {
    Place {
        name: link.name.clone(),
        owner: chain.map(|chain| chain.label.clone()),
        container: chain.and_then(|chain| chain.sandbox.clone()),
        side,
        interface: link.name.clone(),
        index: link.index,
        namespace: host,
    }
}

/// The pod's name without its namespace, where that says which one; the last part of a path.
fn short_label(chain: &Chain, all: &[Chain]) -> String {
    if let Some(pod) = &chain.pod {
        let same = all.iter().filter_map(|chain| chain.pod.as_ref()).filter(|other| other.name == pod.name);
        let namespaces: BTreeSet<&str> = same.map(|pod| pod.namespace.as_str()).collect();
        return if namespaces.len() == 1 { pod.name.clone() } else { pod.to_string() };
    }
    chain.label.rsplit('/').next().unwrap_or_default().to_owned()
}

/// What to call those who have an address on an interface of theirs. An address that several have is nobody's, and one of the host's
/// own is the host's.
pub fn names(snapshot: &Snapshot) -> BTreeMap<IpAddr, String> {
    let all = chains(snapshot);
    let host = snapshot.host().into_iter().flat_map(|host| &host.links);
    let own: BTreeSet<IpAddr> =
        host.flat_map(|link| link.addresses.iter().map(|address| address.addr())).collect();
    let mut names: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
    for chain in all.iter().filter(|chain| is_named(chain)) {
        for address in addresses(chain).filter(|address| !own.contains(address)) {
            names.entry(address).or_default().insert(short_label(chain, &all));
        }
    }
    let only = |names: BTreeSet<String>| if names.len() == 1 { names.into_iter().next() } else { None };
    names.into_iter().filter_map(|(address, names)| Some((address, only(names)?))).collect()
}

/// Whether there is more to call it by than a number.
fn is_named(chain: &Chain) -> bool {
    let path = chain.namespace.as_ref().and_then(|namespace| namespace.path.as_ref());
    chain.pod.is_some() || !chain.containers.is_empty() || path.is_some_and(|path| !path.starts_with("/proc"))
}

/// The addresses of a pod or container, by its name; none where the name fits none, or several.
pub fn addresses_of(snapshot: &Snapshot, name: &str) -> Vec<IpAddr> {
    let all = chains(snapshot);
    let is_it = |chain: &&Chain| match &chain.pod {
        Some(pod) => pod.name == name || pod.to_string() == name,
        None => chain.label == name,
    };
    let mut fitting = all.iter().filter(is_it).filter(|chain| chain.namespace.is_some());
    match (fitting.next(), fitting.next()) {
        (Some(chain), None) => addresses(chain).collect(),
        _ => Vec::new(),
    }
}

/// Those on interfaces. A lease alone says who had an address, and link-local ones are everybody's.
fn addresses(chain: &Chain) -> impl Iterator<Item = IpAddr> {
    let inside = chain.interfaces.iter().filter_map(|line| line.inside.as_ref());
    let all = inside.flat_map(|link| link.addresses.iter().map(|address| address.addr()));
    all.filter(|address| match address {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 != 0xfe80,
    })
}

/// The ports at which this node has VXLAN.
pub fn vxlan_ports(snapshot: &Snapshot) -> Vec<u16> {
    let links = snapshot.namespaces.iter().flat_map(|namespace| &namespace.links);
    let ports: BTreeSet<u16> = links.filter_map(|link| Some(link.vxlan?.port)).collect();
    ports.into_iter().collect()
}
