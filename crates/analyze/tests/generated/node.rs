//! A node of which everything is known, and what an observer with weak eyes writes down of it.
//!
//! The observer is honest: what he does not see he either says (a gap, a silent runtime, an unreadable namespace) or cannot
//! be asked for. That is the contract of a [`Snapshot`], and all that a verdict may rely on.

use std::collections::BTreeSet;

use model::attachment::RecordSeen;
use model::reference::chain_name;
use model::{
    AttachmentKey, AttachmentRecord, CacheEntry, Flavour, FlowId, Gap, IfIndex, Lease, Link, MacAddr,
    Namespace, Node, NsId, NsInode, Nsid, OwnedElement, Peer, Pin, PluginRules, Runtime, RuntimeKind,
    RuntimeObject, RuntimeObjectKind, RuntimeStatus, Snapshot, Sockets, Source, Task, Timestamp,
    TranslatedFlow,
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const LONG_AGO: Timestamp = Timestamp(1_799_999_000_000);
const LONGER_AGO: Timestamp = Timestamp(1_799_998_000_000);
const JUST_NOW: Timestamp = Timestamp(1_799_999_999_000);

/// What somebody does in a pod's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Dead,
    Task,
    Socket,
    Tun,
    Sends,
}

/// What keeps the namespace besides whoever lives in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// Nothing.
    Bare,
    /// A pin of a name that only runtimes give.
    Runtime,
    /// A pin at one of few names, which somebody else had before or has now.
    Named(u8),
    /// A pin in another mount namespace only.
    Elsewhere,
}

/// How the pod is wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Bridged,
    Routed,
    /// By something that leaves nothing on the host.
    Without,
}

/// A pod, and what there is of it outside.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) life: Life,
    pub(crate) home: Home,
    pub(crate) wire: Wire,
    /// Its runtime has it: one of two.
    pub(crate) listed: Option<usize>,
    pub(crate) young: bool,
    pub(crate) locked: bool,
    /// The last part of its address: few, so that pods have those of others.
    pub(crate) address: u8,
    /// Which of two networks.
    pub(crate) network: u8,
    pub(crate) lease: bool,
    pub(crate) cache: bool,
    pub(crate) record: bool,
    pub(crate) record_of_last_boot: bool,
    pub(crate) stamp: bool,
    pub(crate) element: bool,
    /// The observer cannot enter its namespace.
    pub(crate) unreadable: bool,
    /// What a gap of the node hides, it hides of this pod.
    pub(crate) overlooked: bool,
}

/// What the observer does not see of the whole node.
#[derive(Debug, Clone)]
pub(crate) struct Eyes {
    pub(crate) gaps: Vec<Source>,
    pub(crate) silent: [bool; 2],
    /// Of leases, cache and records a gap is about single files, not about their directory.
    pub(crate) by_file: bool,
    /// A kernel without ids of namespaces.
    pub(crate) old_kernel: bool,
    /// The kernel's own list of namespaces can be read.
    pub(crate) walks: bool,
    /// The order in which things are found.
    pub(crate) backwards: bool,
}

impl Eyes {
    pub(crate) const SHARP: Self = Self {
        gaps: Vec::new(),
        silent: [false; 2],
        by_file: false,
        old_kernel: false,
        walks: true,
        backwards: false,
    };

    fn miss(&self, source: Source, pod: &Pod) -> bool {
        pod.overlooked && self.gaps.contains(&source)
    }
}

pub(crate) fn pod() -> impl Strategy<Value = Pod> {
    let life = prop_oneof![
        4 => Just(Life::Dead),
        1 => prop::sample::select(vec![Life::Task, Life::Socket, Life::Tun, Life::Sends]),
    ];
    let home = prop_oneof![
        2 => Just(Home::Bare),
        3 => Just(Home::Runtime),
        3 => (0..3u8).prop_map(Home::Named),
        1 => Just(Home::Elsewhere),
    ];
    let wire = prop::sample::select(vec![Wire::Bridged, Wire::Routed, Wire::Without]);
    let listed = prop_oneof![3 => Just(None), 1 => (0..2usize).prop_map(Some)];
    let rarely = || prop::bool::weighted(0.1);
    let often = || prop::bool::weighted(0.6);
    let outside = (often(), often(), often(), rarely(), any::<bool>(), any::<bool>());
    (life, home, wire, listed, (rarely(), rarely()), (2..5u8, 0..2u8), outside, (rarely(), any::<bool>()))
        .prop_map(
            |(
                life,
                home,
                wire,
                listed,
                (young, locked),
                (address, network),
                outside,
                (unreadable, overlooked),
            )| {
                let (lease, cache, record, record_of_last_boot, stamp, element) = outside;
                Pod {
                    life,
                    home,
                    wire,
                    listed,
                    young,
                    locked,
                    address,
                    network,
                    lease,
                    cache,
                    record,
                    record_of_last_boot,
                    stamp,
                    element,
                    unreadable,
                    overlooked,
                }
            },
        )
}

pub(crate) fn eyes() -> impl Strategy<Value = Eyes> {
    let sources = vec![
        Source::Processes,
        Source::Mounts,
        Source::Links,
        Source::Leases,
        Source::Cache,
        Source::Records,
        Source::Rules,
    ];
    let gaps = prop_oneof![
        2 => Just(Vec::new()),
        3 => proptest::sample::subsequence(sources, 0..=3),
    ];
    let rarely = || prop::bool::weighted(0.15);
    (gaps, [rarely(), rarely()], any::<bool>(), any::<[bool; 2]>(), any::<bool>()).prop_map(
        |(gaps, silent, by_file, [old_kernel, walks], backwards)| Eyes {
            gaps,
            silent,
            by_file,
            old_kernel,
            walks,
            backwards,
        },
    )
}

/// A node as it is: each pod with its number, as nodes can be. A path pins one namespace, a lease has one owner.
pub(crate) fn possible(mut pods: Vec<Pod>) -> Vec<Pod> {
    let (mut paths, mut leases) = (Vec::new(), Vec::new());
    for pod in &mut pods {
        // Whoever came later has the path; the cache of the one before still names it.
        if let Home::Named(path) = pod.home {
            if paths.contains(&path) {
                pod.home = Home::Bare;
            }
            paths.push(path);
        }
        if leases.contains(&(pod.network, pod.address)) {
            pod.lease = false;
        }
        if pod.lease {
            leases.push((pod.network, pod.address));
        }
        // What neither a pin nor an interface leads to is in nobody's sight, unless a task is in it.
        if pod.life != Life::Dead && pod.life != Life::Task && pod.home == Home::Bare {
            pod.wire = Wire::Bridged;
        }
        // No namespace outlives its boot.
        pod.record_of_last_boot &= !pod.exists();
        // A lock is held on something.
        pod.locked &= pod.record || pod.lease;
        pod.young &= pod.record || pod.lease || pod.cache || pod.exists() && pod.home != Home::Bare;
    }
    pods
}

impl Pod {
    /// Whether its namespace is there.
    pub(crate) fn exists(&self) -> bool {
        self.life != Life::Dead || self.home != Home::Bare
    }

    /// Whether nothing of it may be touched: somebody has it, or it may be somebody's router.
    pub(crate) fn is_live(&self) -> bool {
        let by_hand = matches!(self.home, Home::Named(_)) && !self.is_named();
        self.life != Life::Dead || self.listed.is_some() || self.young || self.locked || by_hand
    }

    /// Whether something besides its rules names its container.
    pub(crate) fn is_named(&self) -> bool {
        let stamped = self.stamp && self.exists() && self.wire != Wire::Without;
        self.lease || self.cache || self.record || stamped
    }

    fn since(&self) -> Timestamp {
        match () {
            () if self.young => JUST_NOW,
            // Before whoever has its path now.
            () if !self.exists() => LONGER_AGO,
            () => LONG_AGO,
        }
    }

    fn key(&self, number: usize) -> AttachmentKey {
        AttachmentKey::from_file_name(&format!("net{}:{}:eth0", self.network, id(number))).expect("a key")
    }

    fn mac(number: usize) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, number as u8])
    }

    fn veth(&self, number: usize) -> String {
        // A dead one's name may be another's by now.
        if self.exists() { format!("veth{number}") } else { format!("veth{}", self.address) }
    }

    fn path(&self, number: usize) -> String {
        match self.home {
            Home::Named(path) => format!("/run/netns/pod{path}"),
            // It was pinned once: at a path that is somebody else's by now.
            Home::Bare if !self.exists() && !self.young => format!("/run/netns/pod{}", self.address % 3),
            Home::Bare => format!("/proc/{}/ns/net", 1_000 + number),
            // Docker, the second runtime, pins in a directory of its own and nowhere else.
            Home::Runtime | Home::Elsewhere if self.listed == Some(1) => {
                format!("/run/docker/netns/{number:012}")
            }
            Home::Runtime | Home::Elsewhere => {
                format!("/run/netns/cni-00000000-0000-0000-0000-00000000000{number}")
            }
        }
    }

    /// Its namespace, as the observer sees it.
    pub(crate) fn namespace(&self, number: usize, eyes: &Eyes) -> Option<Namespace> {
        if !self.exists() {
            return None;
        }
        let mut namespace = Namespace { readable: !self.unreadable, ..Namespace::default() };
        let task = |pid| Task { pid, tid: None, command: "sleep".into() };
        if self.life == Life::Task && !eyes.miss(Source::Processes, self) {
            namespace.tasks.push(task(1_000 + number as u32));
        }
        if self.home != Home::Bare && !eyes.miss(Source::Mounts, self) {
            let seen_by = (self.home == Home::Elsewhere).then(|| task(900));
            namespace.pins.push(Pin { path: self.path(number).into(), seen_by, since: Some(self.since()) });
        }
        let has_link = self.wire != Wire::Without && !eyes.miss(Source::Links, self);
        namespace.nsid = has_link.then_some(Nsid(number as i32));
        // The list has it, and where the kernel opens it by its id, it is read like any other.
        let is_opened = eyes.walks && !eyes.old_kernel;
        if namespace.tasks.is_empty() && namespace.pins.is_empty() && !is_opened {
            // The host's interface alone leads to it, and that is no way in.
            namespace.readable = false;
            return has_link.then_some(namespace);
        }
        namespace.inode = Some(NsInode(4_026_532_000 + number as u64));
        namespace.ns_id = (!eyes.old_kernel).then_some(NsId(100 + number as u64));
        if namespace.readable {
            let total = u32::from(self.life == Life::Socket);
            namespace.sockets = Some(Sockets { total, tcp_orphans: 0 });
            namespace.housekeeping_packets = Some(2);
            namespace.links.push(self.eth0(number));
            if self.life == Life::Tun {
                let (name, kind) = ("tun0".into(), "tun".into());
                namespace.links.push(Link {
                    index: IfIndex(9),
                    name,
                    kind,
                    carrier: true,
                    ..Link::default()
                });
            }
        }
        Some(namespace)
    }

    fn eth0(&self, number: usize) -> Link {
        let (kind, peer) = match self.wire {
            Wire::Without => ("macvlan", None),
            _ => ("veth", Some(Peer { index: IfIndex(100 + number as u32), nsid: Some(Nsid(0)) })),
        };
        Link {
            index: IfIndex(2),
            name: "eth0".into(),
            kind: kind.into(),
            mtu_bytes: 1500,
            up: true,
            carrier: true,
            peer,
            tx_packets: if self.life == Life::Sends { 1_000 } else { 10 },
            addresses: vec![format!("10.0.0.{}/24", self.address).parse().expect("an address")],
            ..Link::default()
        }
    }

    fn host_link(&self, number: usize) -> Link {
        Link {
            index: IfIndex(100 + number as u32),
            name: self.veth(number),
            kind: "veth".into(),
            mac: Some(Self::mac(number)),
            mtu_bytes: 1500,
            up: number.is_multiple_of(2),
            carrier: true,
            master: (self.wire == Wire::Bridged).then_some(IfIndex(2)),
            peer: Some(Peer { index: IfIndex(2), nsid: Some(Nsid(number as i32)) }),
            alias: self.stamp.then(|| self.key(number).alias()),
            ..Link::default()
        }
    }

    fn lease(&self, number: usize) -> Lease {
        let address = format!("10.0.0.{}", self.address);
        Lease {
            path: format!("/var/lib/cni/networks/net{}/{address}", self.network).into(),
            network: self.key(number).network,
            address: address.parse().expect("an address"),
            container: Some(self.key(number).container),
            ifname: Some("eth0".parse().expect("a name")),
            content: format!("{}\r\neth0", id(number)),
            since: self.since(),
            locked: self.locked,
        }
    }

    fn cache(&self, number: usize) -> CacheEntry {
        CacheEntry {
            path: format!("/var/lib/cni/results/net{}-{}-eth0", self.network, id(number)).into(),
            key: Some(self.key(number)),
            netns: Some(self.path(number).into()),
            pod: None,
            addresses: vec![format!("10.0.0.{}", self.address).parse().expect("an address")],
            host_interfaces: vec![(self.veth(number), Some(Self::mac(number)))],
            container_interfaces: Vec::new(),
            plugins: vec!["bridge".into()],
            ipam: vec!["host-local".into()],
            data_dirs: Vec::new(),
            problem: None,
            digest: number as u64,
            since: self.since(),
        }
    }

    fn record(&self, number: usize, eyes: &Eyes) -> AttachmentRecord {
        let key = self.key(number);
        let path = format!("/run/podplumb/attachments/{}", key.file_name()).into();
        let boot = if self.record_of_last_boot { "before" } else { "boot" };
        AttachmentRecord {
            version: AttachmentRecord::VERSION,
            key,
            plugin: "bridge".into(),
            chained: false,
            boot_id: boot.parse().expect("a boot"),
            netns: self.path(number).into(),
            ns_id: (!eyes.old_kernel).then_some(NsId(100 + number as u64)),
            ns_inode: Some(NsInode(4_026_532_000 + number as u64)),
            host_interface: Some(self.veth(number).parse().expect("a name")),
            host_mac: Some(Self::mac(number)),
            kind: Some("veth".into()),
            mac: None,
            bridge: None,
            lease_dir: None,
            addresses: Some(vec![format!("10.0.0.{}", self.address).parse().expect("an address")]),
            rules: Vec::new(),
            before: None,
            pod: None,
            created: self.since(),
            seen: Some(RecordSeen { path, locked: self.locked }),
        }
    }

    fn object(&self, number: usize) -> RuntimeObject {
        RuntimeObject {
            id: self.key(number).container,
            kind: RuntimeObjectKind::Sandbox,
            partition: None,
            name: None,
            pod: None,
            sandbox: None,
            state: "Ready".into(),
            doubt: None,
            pid: (self.life == Life::Task).then_some(1_000 + number as u32),
            netns: (self.home != Home::Bare).then(|| self.path(number).into()),
            addresses: Vec::new(),
            created: None,
        }
    }
}

/// The container of the pod with this number.
pub(crate) fn id(number: usize) -> String {
    format!("c0ffee{number:010}")
}

/// What the observer writes down.
pub(crate) fn observe(pods: &[Pod], eyes: &Eyes) -> Snapshot {
    let seen = |source: Source, has: fn(&Pod) -> bool| {
        let mut seen: Vec<(usize, &Pod)> =
            pods.iter().enumerate().filter(|(_, pod)| has(pod) && !eyes.miss(source, pod)).collect();
        if eyes.backwards {
            seen.reverse();
        }
        seen
    };
    let bridge = Link {
        index: IfIndex(2),
        name: "cni0".into(),
        kind: "bridge".into(),
        up: true,
        addresses: vec!["10.0.0.254/24".parse().expect("an address")],
        ..Link::default()
    };
    let wired = seen(Source::Links, |pod| pod.exists() && pod.wire != Wire::Without);
    let links = wired.iter().map(|(number, pod)| pod.host_link(*number));
    let host = Namespace {
        host: true,
        inode: Some(NsInode(4_026_531_840)),
        links: std::iter::once(bridge).chain(links).collect(),
        readable: true,
        ..Namespace::default()
    };
    let others = seen(Source::Namespace, |_| true);
    let others = others.iter().filter_map(|(number, pod)| pod.namespace(*number, eyes));
    let runtime = |(at, kind): (usize, RuntimeKind)| {
        let objects = pods.iter().enumerate().filter(|(_, pod)| pod.listed == Some(at));
        let objects: Vec<_> = objects.map(|(number, pod)| pod.object(number)).collect();
        let answer = RuntimeStatus::Answered { version: "1".into() };
        let silence = RuntimeStatus::Silent { why: "connection refused".into() };
        let (status, objects) = if eyes.silent[at] { (silence, Vec::new()) } else { (answer, objects) };
        Runtime { kind, endpoint: format!("/run/{kind}.sock").into(), status, foreign: false, objects }
    };
    let leases = seen(Source::Leases, |pod| pod.lease);
    let cache = seen(Source::Cache, |pod| pod.cache);
    let records = seen(Source::Records, |pod| pod.record);
    let elements = seen(Source::Rules, |pod| pod.element);
    Snapshot {
        version: Snapshot::VERSION,
        taken_at: NOW,
        node: Node {
            hostname: "node".into(),
            kernel: "6.1".into(),
            boot_id: "boot".parse().expect("a boot"),
            booted_at: Timestamp(1_700_000_000_000),
        },
        namespaces: std::iter::once(host).chain(others).collect(),
        enumeration: None,
        unplaced: Vec::new(),
        podman_leases: Vec::new(),
        dhcp_leases: Vec::new(),
        heard: std::collections::BTreeMap::new(),
        log: None,
        kubelet_pods: None,
        runtimes: [RuntimeKind::Containerd, RuntimeKind::Docker]
            .into_iter()
            .enumerate()
            .map(runtime)
            .collect(),
        runtime_none: false,
        leases: leases.iter().map(|(number, pod)| pod.lease(*number)).collect(),
        cache: cache.iter().map(|(number, pod)| pod.cache(*number)).collect(),
        configs: Vec::new(),
        plugins: Vec::new(),
        records: records.iter().map(|(number, pod)| pod.record(*number, eyes)).collect(),
        stale_files: Vec::new(),
        elements: elements.iter().map(|(number, pod)| element(pod, *number)).collect(),
        plugin_rules: plugin_rules(&elements),
        nft_tables: Vec::new(),
        kernel_options: Default::default(),
        stack: model::Stack::default(),
        neighbour_tables: Vec::new(),
        flows: flows(pods),
        conntrack: None,
        coverage: eyes
            .gaps
            .iter()
            .flat_map(|source| gaps(*source, pods, eyes))
            .chain(hidden(pods, eyes))
            .collect(),
    }
}

/// What he says where the list has more namespaces than he could open.
fn hidden(pods: &[Pod], eyes: &Eyes) -> Option<Gap> {
    let mut pods = pods.iter().enumerate();
    let is_missed = |(number, pod): (usize, &Pod)| pod.exists() && pod.namespace(number, eyes).is_none();
    let why = "could not be opened".to_owned();
    (eyes.walks && pods.any(is_missed)).then(|| Gap {
        source: Source::Enumeration,
        object: "list".into(),
        why,
    })
}

/// What he says of a source that he could not read, or not all of it.
fn gaps(source: Source, pods: &[Pod], eyes: &Eyes) -> Vec<Gap> {
    let overlooked = || pods.iter().enumerate().filter(|(_, pod)| pod.overlooked);
    let files: Vec<_> = match source {
        Source::Leases if eyes.by_file => {
            overlooked().filter(|(_, pod)| pod.lease).map(|(n, pod)| pod.lease(n).path).collect()
        }
        Source::Cache if eyes.by_file => {
            overlooked().filter(|(_, pod)| pod.cache).map(|(n, pod)| pod.cache(n).path).collect()
        }
        Source::Records if eyes.by_file => {
            let records = overlooked().filter(|(_, pod)| pod.record);
            records.filter_map(|(n, pod)| Some(pod.record(n, eyes).seen?.path)).collect()
        }
        Source::Leases => vec!["/var/lib/cni/networks".into()],
        Source::Cache => vec!["/var/lib/cni/results".into()],
        Source::Records => vec!["/run/podplumb/attachments".into()],
        other => vec![other.to_string().into()],
    };
    let gap = |object: std::path::PathBuf| Gap {
        source,
        object: object.display().to_string(),
        why: "permission denied".into(),
    };
    files.into_iter().map(gap).collect()
}

/// What the reference plugins made for the same pods: ipMasq's chain, and firewall's rules for each address.
fn plugin_rules(pods: &[(usize, &Pod)]) -> Vec<PluginRules> {
    let group = |chain: Option<String>, owner, address: u8| PluginRules {
        flavour: Flavour::Nft,
        v6: false,
        table: if chain.is_some() { "nat" } else { "filter" }.into(),
        chain,
        owner,
        addresses: vec![format!("10.0.0.{address}").parse().expect("an address")],
        rules: Vec::new(),
    };
    let chains = pods.iter().map(|(number, pod)| {
        let key = pod.key(*number);
        let chain = chain_name("", key.network.as_str(), key.container.as_str());
        // Every other one says whose it is by its name alone.
        group(Some(chain), (number % 2 == 0).then_some((key.network, key.container)), pod.address)
    });
    let addresses: BTreeSet<u8> = pods.iter().map(|(_, pod)| pod.address).collect();
    chains.chain(addresses.into_iter().map(|address| group(None, None, address))).collect()
}

/// A connection to the address of each pod.
fn flows(pods: &[Pod]) -> Vec<TranslatedFlow> {
    let flow = |pod: &Pod| TranslatedFlow {
        address: format!("10.0.0.{}", pod.address).parse().expect("an address"),
        id: FlowId { tuple: String::new(), id: u32::from(pod.address) },
    };
    pods.iter().map(flow).collect()
}

fn element(pod: &Pod, number: usize) -> OwnedElement {
    let address = format!("10.0.0.{}", pod.address);
    OwnedElement {
        text: format!("inet podplumb masquerade4 {{ {address} }}"),
        owner: pod.key(number).file_name(),
        addresses: vec![address.parse().expect("an address")],
    }
}
