//! Snapshots, with what is looked up in them over and over.

use std::collections::HashMap;
use std::net::IpAddr;

use model::{IfIndex, Link, Namespace, NsInode, Nsid, Peer, Snapshot, Stack};

use crate::wiring::{is_link_local, wirings};

/// A namespace of one of several snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Place {
    /// Which snapshot.
    pub snapshot: usize,
    /// Which of its namespaces.
    pub namespace: usize,
}

/// Snapshots, looked at together.
pub(super) struct View<'a> {
    pub(super) snapshots: &'a [Snapshot],
    nodes: Vec<Node<'a>>,
}

struct Node<'a> {
    by_nsid: HashMap<Nsid, usize>,
    by_inode: HashMap<NsInode, usize>,
    labels: HashMap<usize, String>,
    wirings: Vec<crate::Wiring<'a>>,
}

/// Where a veth leads.
pub(super) enum Across<'a> {
    /// To this interface.
    To(Place, &'a Link),
    /// Out of what the snapshot shows: it is no veth.
    Out,
    /// To somewhere that could not be read.
    Unknown,
}

impl<'a> View<'a> {
    pub(super) fn new(snapshots: &'a [Snapshot]) -> Self {
        Self { snapshots, nodes: snapshots.iter().map(Node::new).collect() }
    }

    pub(super) fn namespace(&self, place: Place) -> &'a Namespace {
        &self.snapshots[place.snapshot].namespaces[place.namespace]
    }

    /// What its network stack does; `None` where that was not read.
    pub(super) fn stack(&self, place: Place) -> Option<&'a Stack> {
        self.snapshots[place.snapshot].stack_of(self.namespace(place))
    }

    pub(super) fn node(&self, place: Place) -> &'a str {
        &self.snapshots[place.snapshot].node.hostname
    }

    /// The name that people have for a namespace: the pod's, or its pin's.
    pub(super) fn label(&self, place: Place) -> String {
        if let Some(label) = self.nodes[place.snapshot].labels.get(&place.namespace) {
            return label.clone();
        }
        let namespace = self.namespace(place);
        if namespace.host {
            return self.node(place).to_owned();
        }
        match namespace.own_pins().next().and_then(|pin| pin.path.file_name()) {
            Some(name) => name.to_string_lossy().into_owned(),
            None => namespace.label(),
        }
    }

    pub(super) fn wirings(&self, snapshot: usize) -> &[crate::Wiring<'a>] {
        &self.nodes[snapshot].wirings
    }

    /// All namespaces.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.snapshots.iter().enumerate().flat_map(|(snapshot, all)| {
            (0..all.namespaces.len()).map(move |namespace| Place { snapshot, namespace })
        })
    }

    /// The namespace of one that was found by reference.
    pub(super) fn place_of(&self, snapshot: usize, namespace: &Namespace) -> Option<Place> {
        let all = &self.snapshots[snapshot].namespaces;
        let at = all.iter().position(|other| std::ptr::eq(other, namespace))?;
        Some(Place { snapshot, namespace: at })
    }

    pub(super) fn link(&self, place: Place, index: IfIndex) -> Option<&'a Link> {
        self.namespace(place).links.iter().find(|link| link.index == index)
    }

    /// The name of an interface, or its number where it is gone.
    pub(super) fn name(&self, place: Place, index: IfIndex) -> String {
        self.link(place, index).map_or_else(|| format!("if{index}"), |link| link.name.clone())
    }

    /// The other end of a veth.
    pub(super) fn across(&self, place: Place, link: &Link) -> Across<'a> {
        let (Some(peer), "veth") = (link.peer, link.kind.as_str()) else { return Across::Out };
        match self.lead(place, link, peer) {
            Some(other) => match self.link(other, peer.index) {
                Some(end) => Across::To(other, end),
                None => Across::Unknown,
            },
            None => Across::Unknown,
        }
    }

    /// The namespace in which the interface is that `link` is on (of a macvlan, VLAN, …), and that interface.
    pub(super) fn lower(&self, place: Place, link: &Link) -> Option<(Place, &'a Link)> {
        let lower = link.lower?;
        let at = match lower.nsid {
            None => place,
            Some(nsid) if self.namespace(place).host => self.by_nsid(place.snapshot, nsid)?,
            // Numbers are another namespace's own, or the host's: a macvlan's lower device is the host's in all that CNI plugins make.
            Some(_) => Place { namespace: self.host(place.snapshot)?, ..place },
        };
        Some((at, self.link(at, lower.index)?))
    }

    fn by_nsid(&self, snapshot: usize, nsid: Nsid) -> Option<Place> {
        Some(Place { snapshot, namespace: *self.nodes[snapshot].by_nsid.get(&nsid)? })
    }

    pub(super) fn host(&self, snapshot: usize) -> Option<usize> {
        self.snapshots[snapshot].namespaces.iter().position(|namespace| namespace.host)
    }

    fn lead(&self, place: Place, link: &Link, peer: Peer) -> Option<Place> {
        let Some(nsid) = peer.nsid else { return Some(place) };
        let namespace = self.namespace(place);
        if namespace.host {
            return self.by_nsid(place.snapshot, nsid);
        }
        if let Some(inode) = namespace.peers.get(&link.index) {
            let namespace = *self.nodes[place.snapshot].by_inode.get(inode)?;
            return Some(Place { namespace, ..place });
        }
        // The host numbers this namespace, and has a veth whose two ends are these: theirs is not to be mistaken.
        let own = namespace.nsid?;
        let host = Place { namespace: self.host(place.snapshot)?, ..place };
        let end = self.link(host, peer.index)?;
        let is_it = end.kind == "veth" && end.peer == Some(Peer { index: link.index, nsid: Some(own) });
        is_it.then_some(host)
    }

    /// Whether the namespace takes packets for the address: it is on one of its interfaces that are up.
    pub(super) fn has(&self, place: Place, address: IpAddr) -> Option<&'a Link> {
        let links = &self.namespace(place).links;
        if address.is_loopback() {
            return links.iter().find(|link| link.loopback && link.up);
        }
        links.iter().find(|link| link.up && link.addresses.iter().any(|net| net.addr() == address))
    }

    /// An address of a namespace that is neither link-local nor its loopback's: one that is next to `near`, or else the first.
    pub(super) fn address(&self, place: Place, v6: bool, near: Option<Place>) -> Option<IpAddr> {
        let nets = |place: Place| {
            let links = self.namespace(place).links.iter().filter(|link| !link.loopback && link.up);
            let nets = links.flat_map(|link| link.addresses.iter().copied());
            nets.filter(move |net| net.addr().is_ipv6() == v6 && !is_link_local(net.addr()))
        };
        let is_next_to = |net: &ipnet::IpNet| {
            near.is_some_and(|near| {
                nets(near).any(|own| own.addr() != net.addr() && own.contains(&net.addr()))
            })
        };
        let next_to = nets(place).find(is_next_to);
        next_to.or_else(|| nets(place).next()).map(|net| net.addr())
    }
}

impl<'a> Node<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let all = || snapshot.namespaces.iter().enumerate();
        let wirings = wirings(snapshot);
        let places: HashMap<*const Namespace, usize> =
            all().map(|(at, namespace)| (std::ptr::from_ref(namespace), at)).collect();
        let mut labels = HashMap::new();
        for wiring in &wirings {
            if wiring.pod().is_none() && wiring.objects.is_empty() && wiring.container().is_none() {
                continue;
            }
            for namespace in &wiring.namespaces {
                if let Some(at) = places.get(&std::ptr::from_ref(*namespace)) {
                    labels.entry(*at).or_insert_with(|| wiring.label());
                }
            }
        }
        Self {
            by_nsid: all().filter_map(|(at, namespace)| Some((namespace.nsid?, at))).collect(),
            by_inode: all().filter_map(|(at, namespace)| Some((namespace.inode?, at))).collect(),
            labels,
            wirings,
        }
    }
}
