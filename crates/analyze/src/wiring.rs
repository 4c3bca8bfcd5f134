//! Joining: which namespace, veth, lease, cache entry, record and runtime object belong together.
//!
//! No single source knows. A runtime knows containers and, sometimes, a namespace's path; the cache and our records
//! know container and path; a lease knows a container and an address; rtnetlink knows which veth leads into which
//! namespace. Each such fact is an edge between a container and a namespace, and a wiring is what is connected.

mod links;
mod traces;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::namespace::run_path;
use model::{
    AttachmentKey, AttachmentRecord, CacheEntry, ContainerId, Heard, IfIndex, Lease, Link, Namespace, NsId,
    NsInode, Nsid, OwnedElement, PluginRules, PodName, Runtime, RuntimeObject, Snapshot, Timestamp,
};

/// A host interface of a wiring, and its other end where it could be seen.
#[derive(Debug, Clone, Copy)]
pub struct HostLink<'a> {
    /// The host's end.
    pub link: &'a Link,
    /// The other end.
    pub inside: Option<&'a Link>,
}

/// Somebody else who has an address that a wiring's rules are about.
#[derive(Debug, Clone, Copy)]
pub struct RuleUser<'a> {
    /// Where.
    pub namespace: &'a Namespace,
    /// The interface.
    pub link: &'a Link,
    /// A runtime lists the container whose namespace that is: rules that say whose they are are not his.
    pub is_listed: bool,
}

/// Everything that wires one container (or one namespace that no container is known for).
#[derive(Debug, Default)]
pub struct Wiring<'a> {
    /// The container or sandbox ids that lease, cache, record, stamp or runtime name. One, as a rule; a pod's containers
    /// share their sandbox's wiring.
    pub containers: Vec<&'a ContainerId>,
    /// What runtimes list of it.
    pub objects: Vec<(&'a Runtime, &'a RuntimeObject)>,
    /// Its namespace, if that exists and could be found. More than one only when sources contradict each other; then each
    /// of them has to be dead for the wiring to be.
    pub namespaces: Vec<&'a Namespace>,
    /// Host ends of its veths.
    pub links: Vec<HostLink<'a>>,
    /// Its leases.
    pub leases: Vec<&'a Lease>,
    /// Its entries in libcni's cache.
    pub cache: Vec<&'a CacheEntry>,
    /// podplumb's records of it.
    pub records: Vec<&'a AttachmentRecord>,
    /// Attachments named by the stamps of its host interfaces.
    pub stamps: Vec<AttachmentKey>,
    /// Elements of podplumb's nftables sets that say they are its.
    pub elements: Vec<&'a OwnedElement>,
    /// Attachments that those elements name. They tie nothing to a namespace.
    pub owners: Vec<AttachmentKey>,
    /// What the reference plugins made for it in iptables.
    pub rules: Vec<&'a PluginRules>,
    /// Nothing but an address that a lease names ties its namespace to its container.
    pub by_address_only: bool,
    /// Interfaces outside of it with an address that it leases, where nobody else leases it to them.
    pub claims: Vec<(&'a Namespace, &'a Link)>,
    /// Interfaces outside of it with an address that its rules or elements are about.
    pub users: Vec<RuleUser<'a>>,
    /// Something was not read that may give such an address to somebody else.
    pub may_have_users: bool,
    /// The last that a log says of it.
    pub heard: Option<&'a Heard>,
}

impl<'a> Wiring<'a> {
    /// Its namespace.
    pub fn namespace(&self) -> Option<&'a Namespace> {
        self.namespaces.first().copied()
    }

    /// The pod, from whoever knows it.
    pub fn pod(&self) -> Option<&'a PodName> {
        let of_objects = self.objects.iter().find_map(|(_, object)| object.pod.as_ref());
        let of_cache = || self.cache.iter().find_map(|entry| entry.pod.as_ref());
        let of_records = || self.records.iter().find_map(|record| record.pod.as_ref());
        of_objects.or_else(of_cache).or_else(of_records)
    }

    /// The same, or else the pod that logs give it. Not to tell one thing from another by: how far back logs are read depends on
    /// how long that takes, so the next look may not find it.
    pub fn pod_or_logged(&self) -> Option<&'a PodName> {
        self.pod().or_else(|| self.heard.and_then(|heard| heard.pod.as_ref()))
    }

    /// The id to call it by: the sandbox's, else the first.
    pub fn container(&self) -> Option<&'a ContainerId> {
        let is_member =
            |id: &ContainerId| self.objects.iter().any(|(_, o)| o.id == *id && o.sandbox.is_some());
        let by_cni = self.cache.iter().find_map(|entry| entry.key.as_ref().map(|key| &key.container));
        let by_record = || self.records.first().map(|record| &record.key.container);
        let by_lease = || self.leases.iter().find_map(|lease| lease.container.as_ref());
        let owner = || self.containers.iter().find(|id| !is_member(id)).copied();
        by_cni
            .or_else(by_record)
            .or_else(by_lease)
            .or_else(owner)
            .or_else(|| self.containers.first().copied())
    }

    /// What to call it where there is room for one name: pod, container name, short id, namespace or veth.
    pub fn label(&self) -> String {
        if let Some(pod) = self.pod() {
            return pod.to_string();
        }
        if let Some(name) = self.objects.iter().find_map(|(_, object)| object.name.as_ref()) {
            return name.clone();
        }
        if let Some(id) = self.container() {
            return short_id(id.as_str()).to_owned();
        }
        match (self.namespace(), self.links.first(), self.leases.first()) {
            (Some(namespace), _, _) => namespace.label(),
            (None, Some(host), _) => host.link.name.clone(),
            (None, None, Some(lease)) => format!("lease {}", lease.address),
            (None, None, None) => match (self.stamps.iter().chain(&self.owners).next(), self.rules.first()) {
                (Some(key), _) => short_id(key.container.as_str()).to_owned(),
                (None, Some(rules)) => rules.to_string(),
                (None, None) => "nothing".into(),
            },
        }
    }

    /// Addresses of the inside interfaces, and those leased or cached where there is no inside to be seen.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut seen = Vec::new();
        let mut add = |address| {
            if !seen.contains(&address) {
                seen.push(address);
            }
        };
        let inside = self.namespaces.iter().flat_map(|namespace| &namespace.links);
        let usable = inside.filter(|link| !link.loopback).flat_map(|link| &link.addresses);
        usable.map(|net| net.addr()).filter(|ip| !is_link_local(*ip)).for_each(&mut add);
        self.leases.iter().map(|lease| lease.address).for_each(&mut add);
        self.records.iter().flat_map(|record| &record.addresses).flatten().copied().for_each(&mut add);
        self.cache.iter().flat_map(|entry| &entry.addresses).copied().for_each(&mut add);
        seen
    }

    /// The pin by which a runtime names namespaces that it made, if this namespace has one here. One that exists only in another
    /// mount namespace is the work of a runtime in there (a node in a container, say), which we cannot ask.
    pub fn runtime_pin(&self) -> Option<&'a Path> {
        let pins = self.namespaces.iter().flat_map(|namespace| namespace.own_pins());
        pins.map(|pin| pin.path.as_path()).find(|path| is_runtime_name(path))
    }

    /// Who may need its rules about these addresses; `by_address`: they do not say whose they are.
    pub fn user_of(&self, addresses: &[IpAddr], by_address: bool) -> Option<RuleUser<'a>> {
        let has =
            |link: &Link| link.addresses.iter().map(|net| net.addr()).any(|own| addresses.contains(&own));
        let mut users = self.users.iter().filter(|user| by_address || !user.is_listed);
        users.find(|user| has(user.link)).copied()
    }

    /// Whether nothing is known of it but rules and elements.
    pub fn is_rules_only(&self) -> bool {
        let is_nothing_else = self.namespaces.is_empty()
            && self.links.is_empty()
            && self.leases.is_empty()
            && self.cache.is_empty()
            && self.records.is_empty();
        is_nothing_else && !(self.rules.is_empty() && self.elements.is_empty())
    }

    /// Its rules that nobody else may need. Those of the firewall plugin say nothing but an address.
    pub fn own_rules(&self) -> impl Iterator<Item = &'a PluginRules> {
        let is_own = |rules: &&&PluginRules| match rules.chain {
            Some(_) => self.user_of(&rules.addresses, false).is_none(),
            None => !self.may_have_users && self.user_of(&rules.addresses, true).is_none(),
        };
        self.rules.iter().filter(is_own).copied()
    }

    /// Its elements that nobody else may need: of one owner all or none.
    pub fn own_elements(&self) -> impl Iterator<Item = &'a OwnedElement> {
        let is_used = |owner: &str| {
            let mut same = self.elements.iter().filter(|element| element.owner == owner);
            same.any(|element| self.user_of(&element.addresses, false).is_some())
        };
        self.elements.iter().filter(move |element| !is_used(&element.owner)).copied()
    }

    /// Whether something other than its links says that a container runtime or a CNI plugin made it.
    pub fn is_tied(&self) -> bool {
        !self.containers.is_empty()
            || !self.stamps.is_empty()
            || !self.owners.is_empty()
            || self.runtime_pin().is_some()
    }
}

/// Link-local addresses say nothing about who someone is.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The first 12 characters, by which runtimes' tools show an id.
pub fn short_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Names that only runtimes give: `cni-<uuid>` by containerd and CRI-O (containernetworking/plugins' `ns` package and
/// its copies), `/run/docker/netns/<12 hex digits>` by Docker. Docker's own namespaces there (`default`, `ingress_sbox`,
/// `lb_…`, `1-…`) are not a container's.
pub fn is_runtime_name(path: &Path) -> bool {
    let path = path.to_string_lossy();
    let path = path.strip_prefix("/var").unwrap_or(&path);
    if let Some(name) = path.strip_prefix("/run/netns/cni-") {
        return is_uuid(name);
    }
    match path.strip_prefix("/run/docker/netns/") {
        Some(name) => name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit()),
        None => false,
    }
}

/// Names that only Podman (4 and later) and Buildah give: `netns-<uuid>` (containers/common's `netns` package).
pub fn is_podman_name(path: &Path) -> bool {
    let path = path.to_string_lossy();
    path.strip_prefix("/var").unwrap_or(&path).strip_prefix("/run/netns/netns-").is_some_and(is_uuid)
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// All wirings of a node: one for each container and each namespace but the host's.
pub fn wirings(snapshot: &Snapshot) -> Vec<Wiring<'_>> {
    let mut join = Join::new(snapshot);
    join.runtimes();
    join.cache_and_records();
    join.leases();
    join.plugin_rules();
    join.prefixed();
    join.elements();
    join.host_links();
    join.by_address();
    join.finish()
}

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Node<'a> {
    Namespace(usize),
    Container(&'a ContainerId),
    /// A lease whose owner is not known.
    Lease(usize),
    /// A veth that leads nowhere we can see: both ends on the host, or the other end not readable.
    Link(IfIndex),
    /// An element of our ruleset.
    Element(usize),
    /// A container that only elements name.
    Owner(String),
    /// Rules of the reference plugins.
    Rules(usize),
}

struct Join<'a> {
    snapshot: &'a Snapshot,
    places: HashMap<Node<'a>, usize>,
    nodes: Vec<Node<'a>>,
    parents: Vec<usize>,
    /// Namespaces by every path that leads to them, `/var/run` written as `/run`.
    by_path: HashMap<PathBuf, usize>,
    by_pid: HashMap<u32, usize>,
    by_ns_id: HashMap<NsId, usize>,
    by_inode: HashMap<NsInode, usize>,
    by_nsid: HashMap<Nsid, usize>,
    /// Host links by the attachment or container that claims them.
    claimed: Vec<(Node<'a>, &'a Link)>,
    /// Namespaces that only an address ties to a container.
    by_address_only: HashSet<usize>,
}

impl<'a> Join<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let mut join = Self {
            snapshot,
            places: HashMap::new(),
            nodes: Vec::new(),
            parents: Vec::new(),
            by_path: HashMap::new(),
            by_pid: HashMap::new(),
            by_ns_id: HashMap::new(),
            by_inode: HashMap::new(),
            by_nsid: HashMap::new(),
            claimed: Vec::new(),
            by_address_only: HashSet::new(),
        };
        for (at, namespace) in snapshot.namespaces.iter().enumerate().filter(|(_, namespace)| !namespace.host)
        {
            join.place(Node::Namespace(at));
            // A pin of our own mount namespace counts before one of another, where the same path may lead elsewhere.
            for pin in namespace.pins.iter().filter(|pin| pin.seen_by.is_some()) {
                join.by_path.entry(run_path(&pin.path)).or_insert(at);
            }
            join.by_path.extend(namespace.own_pins().map(|pin| (run_path(&pin.path), at)));
            join.by_pid.extend(namespace.tasks.iter().map(|task| (task.pid, at)));
            join.by_ns_id.extend(namespace.ns_id.map(|id| (id, at)));
            join.by_inode.extend(namespace.inode.map(|inode| (inode, at)));
            join.by_nsid.extend(namespace.nsid.map(|nsid| (nsid, at)));
        }
        join
    }

    fn place(&mut self, node: Node<'a>) -> usize {
        if let Some(place) = self.places.get(&node) {
            return *place;
        }
        let place = self.nodes.len();
        self.nodes.push(node.clone());
        self.parents.push(place);
        self.places.insert(node, place);
        place
    }

    fn root(&mut self, mut place: usize) -> usize {
        while self.parents[place] != place {
            self.parents[place] = self.parents[self.parents[place]];
            place = self.parents[place];
        }
        place
    }

    fn tie(&mut self, a: Node<'a>, b: Node<'a>) {
        let (a, b) = (self.place(a), self.place(b));
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }

    fn runtimes(&mut self) {
        for (_, object) in self.snapshot.runtime_objects() {
            let container = Node::Container(&object.id);
            self.place(container.clone());
            if let Some(sandbox) = &object.sandbox {
                self.tie(container.clone(), Node::Container(sandbox));
            }
            let by_path = object.netns.as_ref().and_then(|path| self.by_path.get(&run_path(path)));
            let by_pid = object.pid.and_then(|pid| self.by_pid.get(&pid));
            if let Some(at) = by_path.or(by_pid).copied() {
                self.tie(container, Node::Namespace(at));
            }
        }
    }

    fn cache_and_records(&mut self) {
        let mut identified: HashSet<&AttachmentKey> = HashSet::new();
        for record in &self.snapshot.records {
            let container = Node::Container(&record.key.container);
            self.place(container.clone());
            if let Some(at) = self.recorded(record) {
                self.tie(container, Node::Namespace(at));
            }
            if record.ns_id.is_some() && record.boot_id == self.snapshot.node.boot_id {
                identified.insert(&record.key);
            }
        }
        for entry in &self.snapshot.cache {
            let Some(key) = &entry.key else { continue };
            let container = Node::Container(&key.container);
            self.place(container.clone());
            if identified.contains(key) {
                continue;
            }
            let Some(path) = &entry.netns else { continue };
            let by_path = self.by_path.get(&run_path(path)).copied();
            let by_path = by_path.filter(|at| self.was_there(*at, path, entry.since));
            // A pid is reused sooner than a path: believe it only where the address agrees.
            let by_pid = || {
                let pid = path.to_str()?.strip_prefix("/proc/")?.split('/').next()?.parse().ok()?;
                let at = *self.by_pid.get(&pid)?;
                has_any_address(&self.snapshot.namespaces[at], &entry.addresses).then_some(at)
            };
            if let Some(at) = by_path.or_else(by_pid) {
                self.tie(container, Node::Namespace(at));
            }
        }
    }

    /// The namespace that a record is about. Within this boot its id settles the matter: at its path there may be another
    /// one by now. On kernels without ids another inode is another namespace, but the same inode may be as well.
    fn recorded(&self, record: &AttachmentRecord) -> Option<usize> {
        let same_boot = record.boot_id == self.snapshot.node.boot_id;
        let at = match (record.ns_id, record.ns_inode) {
            (Some(id), _) if same_boot => return self.by_ns_id.get(&id).copied(),
            (None, Some(inode)) if same_boot => self.by_inode.get(&inode),
            _ => self.by_path.get(&run_path(&record.netns)),
        };
        at.copied().filter(|at| self.was_there(*at, &record.netns, record.created))
    }

    /// All containers that somebody named so far.
    fn containers(&self) -> HashMap<String, &'a ContainerId> {
        let containers = self.nodes.iter().filter_map(|node| match node {
            Node::Container(id) => Some((id.as_str().to_owned(), *id)),
            _ => None,
        });
        containers.collect()
    }

    /// Whether what was written at `since` about `path` can mean this namespace: a name that only runtimes give is not given
    /// twice, but behind any other there may be a namespace that was made later, by hand.
    fn was_there(&self, at: usize, path: &Path, since: Timestamp) -> bool {
        let path = run_path(path);
        let pin = self.snapshot.namespaces[at].pins.iter().find(|pin| run_path(&pin.path) == path);
        is_runtime_name(&path) || pin.is_none_or(|pin| pin.since.is_none_or(|pinned| pinned <= since))
    }

    fn leases(&mut self) {
        for (at, lease) in self.snapshot.leases.iter().enumerate() {
            match &lease.container {
                Some(container) => {
                    self.place(Node::Container(container));
                }
                None => {
                    self.place(Node::Lease(at));
                    if let [owner] = self.given_to(lease).as_slice() {
                        self.tie(Node::Lease(at), Node::Container(owner));
                    }
                }
            }
        }
    }

    /// Containers to which a cached result or a record of the same network gives the address of a lease that lost its content.
    fn given_to(&self, lease: &Lease) -> Vec<&'a ContainerId> {
        let cache = self.snapshot.cache.iter().filter(|entry| entry.addresses.contains(&lease.address));
        let has = |record: &&AttachmentRecord| record.addresses.iter().flatten().any(|a| *a == lease.address);
        let cached = cache.filter_map(|entry| entry.key.as_ref());
        let keys = cached.chain(self.snapshot.records.iter().filter(has).map(|record| &record.key));
        let mut owners: Vec<&ContainerId> =
            keys.filter(|key| key.network == lease.network).map(|key| &key.container).collect();
        owners.sort();
        owners.dedup();
        owners
    }

    /// nerdctl calls CNI with `<containerd namespace>-<container id>`: such a name is the container's.
    fn prefixed(&mut self) {
        let named = self.containers();
        for (_, object) in self.snapshot.runtime_objects() {
            let Some(partition) = &object.partition else { continue };
            if let Some(other) = named.get(&format!("{partition}-{}", object.id)) {
                self.tie(Node::Container(&object.id), Node::Container(other));
            }
        }
    }

    /// A lease alone names no namespace: look for its address where nobody else was tied.
    fn by_address(&mut self) {
        let mut holders: HashMap<IpAddr, Vec<(usize, &str)>> = HashMap::new();
        for (at, namespace) in
            self.snapshot.namespaces.iter().enumerate().filter(|(_, namespace)| !namespace.host)
        {
            for link in &namespace.links {
                for address in &link.addresses {
                    holders.entry(address.addr()).or_default().push((at, &link.name));
                }
            }
        }
        let mut settled: HashSet<usize> = HashSet::new();
        let mut owned: HashSet<usize> = HashSet::new();
        for at in 0..self.nodes.len() {
            let root = self.root(at);
            match self.nodes[at] {
                Node::Namespace(_) => settled.insert(root),
                Node::Container(_) => owned.insert(root),
                _ => false,
            };
        }
        // A stamp names an owner, even if nothing else is known of that one.
        for (node, link) in self.claimed.clone() {
            if link.alias.as_deref().and_then(AttachmentKey::from_alias).is_some() {
                let place = self.place(node);
                owned.insert(self.root(place));
            }
        }
        for lease in &self.snapshot.leases {
            let Some(container) = &lease.container else { continue };
            let container = self.place(Node::Container(container));
            let container = self.root(container);
            if settled.contains(&container) {
                continue;
            }
            // More than one may have it. Whose the lease is nobody can say then, so each of them has to be dead.
            for (at, ifname) in holders.get(&lease.address).into_iter().flatten() {
                let namespace = self.place(Node::Namespace(*at));
                let namespace = self.root(namespace);
                let same_name = lease.ifname.as_ref().is_none_or(|name| name.as_str() == *ifname);
                if same_name && !owned.contains(&namespace) {
                    self.by_address_only.insert(*at);
                    let container = self.root(container);
                    self.parents[namespace.max(container)] = namespace.min(container);
                }
            }
        }
    }

    fn finish(mut self) -> Vec<Wiring<'a>> {
        let roots: Vec<usize> = (0..self.nodes.len()).map(|at| self.root(at)).collect();
        let mut groups: BTreeMap<usize, Wiring<'a>> = BTreeMap::new();
        for (node, root) in self.nodes.iter().zip(&roots) {
            let wiring = groups.entry(*root).or_default();
            match node {
                Node::Namespace(at) => {
                    wiring.by_address_only |= self.by_address_only.contains(at);
                    wiring.namespaces.push(&self.snapshot.namespaces[*at]);
                }
                Node::Container(id) => {
                    wiring.containers.push(id);
                    wiring.heard = wiring.heard.or_else(|| self.snapshot.heard.get(id.as_str()));
                }
                Node::Lease(at) => wiring.leases.push(&self.snapshot.leases[*at]),
                Node::Element(at) => {
                    let element = &self.snapshot.elements[*at];
                    wiring.owners.extend(AttachmentKey::from_file_name(&element.owner));
                    wiring.elements.push(element);
                }
                Node::Rules(at) => wiring.rules.push(&self.snapshot.plugin_rules[*at]),
                Node::Link(_) | Node::Owner(_) => {}
            }
        }
        let mut with = |node: Node<'a>, add: &mut dyn FnMut(&mut Wiring<'a>)| {
            let root = self.places.get(&node).map(|place| roots[*place]);
            if let Some(wiring) = root.and_then(|root| groups.get_mut(&root)) {
                add(wiring);
            }
        };
        for (runtime, object) in self.snapshot.runtime_objects() {
            with(Node::Container(&object.id), &mut |wiring| wiring.objects.push((runtime, object)));
        }
        for lease in &self.snapshot.leases {
            if let Some(container) = &lease.container {
                with(Node::Container(container), &mut |wiring| wiring.leases.push(lease));
            }
        }
        for entry in &self.snapshot.cache {
            if let Some(key) = &entry.key {
                with(Node::Container(&key.container), &mut |wiring| wiring.cache.push(entry));
            }
        }
        for record in &self.snapshot.records {
            with(Node::Container(&record.key.container), &mut |wiring| wiring.records.push(record));
        }
        for (node, link) in &self.claimed {
            with(node.clone(), &mut |wiring| {
                let inside = self.snapshot.peer(link).map(|(_, inside)| inside);
                wiring.links.push(HostLink { link, inside });
                wiring.stamps.extend(link.alias.as_deref().and_then(AttachmentKey::from_alias));
            });
        }
        let mut wirings: Vec<Wiring<'a>> =
            groups.into_values().filter(|wiring| !is_host_network(wiring)).collect();
        self.claims(&mut wirings);
        traces::users(&mut wirings, self.snapshot);
        wirings
    }

    /// Finds who uses an address that another one leases.
    fn claims(&self, wirings: &mut [Wiring<'a>]) {
        let mut lessees: HashMap<IpAddr, Vec<usize>> = HashMap::new();
        for (at, wiring) in wirings.iter().enumerate() {
            for lease in &wiring.leases {
                lessees.entry(lease.address).or_default().push(at);
            }
        }
        let mut claims = Vec::new();
        for (own, wiring) in wirings.iter().enumerate() {
            for namespace in &wiring.namespaces {
                for (link, net) in
                    namespace.links.iter().flat_map(|l| l.addresses.iter().map(move |n| (l, n)))
                {
                    let lessees = lessees.get(&net.addr()).map_or(&[][..], Vec::as_slice);
                    // A lease that an address alone tied to it may be somebody else's.
                    if !lessees.contains(&own) || wiring.by_address_only {
                        let others = lessees.iter().filter(|lessee| **lessee != own);
                        claims.extend(others.map(|lessee| (*lessee, (*namespace, link))));
                    }
                }
            }
        }
        for (lessee, claim) in claims {
            wirings[lessee].claims.push(claim);
        }
    }
}

/// A container in the host's own namespace has no wiring.
fn is_host_network(wiring: &Wiring<'_>) -> bool {
    wiring.namespaces.is_empty()
        && wiring.links.is_empty()
        && wiring.leases.is_empty()
        && wiring.cache.is_empty()
        && wiring.records.is_empty()
        && wiring.elements.is_empty()
        && wiring.rules.is_empty()
}

fn has_any_address(namespace: &Namespace, wanted: &[IpAddr]) -> bool {
    let mut all = namespace.links.iter().flat_map(|link| &link.addresses);
    all.any(|address| wanted.contains(&address.addr()))
}
