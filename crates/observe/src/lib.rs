//! Looking at a node. All input and output of an observation is here; what it means is not.
//!
//! [`observe`] asks the kernel (processes, mounts, rtnetlink, nftables), the container runtimes and CNI's state on disk, and
//! returns a [`Snapshot`]. What could not be read becomes part of it as a [`model::Gap`]: an observation fails only when the host
//! itself cannot be read.

mod capacity;
mod cni;
mod descriptors;
mod dhcp;
mod flows;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod glimpse;
mod handles;
mod ipvs;
mod kernel;
mod listing;
mod logs;
mod mounts;
mod namespaces;
mod netavark;
mod occupants;
mod opened;
mod peers;
mod plugins;
mod processes;
pub mod runtimes;
mod socket_table;
mod sockets;
mod stack;
mod walk;
pub mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use model::{AttachmentKey, Gap, Node, Snapshot, Source, Timestamp};

pub use crate::cni::CniPaths;
pub use crate::logs::excerpt;
pub use crate::occupants::occupants;
pub use crate::runtimes::RuntimeSources;
pub use crate::socket_table::{SocketTable, socket_table};

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Runtimes.
    pub runtimes: RuntimeSources,
    /// CNI's state on disk.
    pub cni: CniPaths,
    /// Look also at where packets go in each namespace (routes, rules, neighbours, settings, packet filter). It has to be entered for that: 0.2 ms each.
    pub stacks: bool,
}

/// Why a node could not be observed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of the host that every observation needs.
    #[error("cannot read the {what}: {source}")]
    Host {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// rtnetlink of the host's namespace.
    #[error("cannot read the host's network: {0}")]
    Netlink(#[from] netlink::Error),
    /// What the user said about runtimes contradicts what is there.
    #[error(transparent)]
    Runtimes(#[from] runtimes::Contradiction),
}

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What verdicts need.
    Usual,
    /// Also at every socket of every process, and into every namespace in which no process lives.
    Close,
}

/// Looks at the node.
pub fn observe(sources: &Sources) -> Result<Snapshot, Error> {
    look(sources, Depth::Usual)
}

/// Looks at the node, and at everything that could hold a namespace. Takes longer: each socket of each process is asked.
pub fn observe_closely(sources: &Sources) -> Result<Snapshot, Error> {
    look(sources, Depth::Close)
}

fn look(sources: &Sources, depth: Depth) -> Result<Snapshot, Error> {
    sys::raise_file_limit();
    let taken_at = Timestamp::now();
    let host = |what| move |source| Error::Host { what, source };
    let node = Node {
        hostname: sys::hostname(),
        kernel: sys::kernel_release(),
        boot_id: sys::boot_id().map_err(host("boot id"))?,
        booted_at: sys::booted_at().map_err(host("boot time"))?,
    };
    let walk = std::thread::spawn(walk::walk);
    // A container is in Podman's store before an address is leased to it, and until that is given back. So those that are leased
    // before the store is read, and still are after it, have to be in there.
    let mut podman_leases = netavark::leases(&mut Vec::new());
    // Runtimes are asked first. A container that goes away meanwhile is then still listed; one that comes meanwhile is young. The
    // other way round, the first would look like an orphan.
    let mut asked = runtimes::observe(&sources.runtimes)?;
    let answered = sys::since_boot();
    // An ADD writes its record or its lease before its rules, and a DEL removes them after those. So rules are read first: those
    // whose owner has nothing else are not in the middle of an ADD.
    let mut gaps: Vec<Gap> = std::mem::take(&mut asked.gaps);
    let still_leased = netavark::leases(&mut gaps);
    podman_leases.retain(|lease| still_leased.binary_search(lease).is_ok());
    let nft_tables = rules("nftables tables", nft::table_names(), &mut gaps);
    let elements = rules("elements of podplumb's tables", nft::list(), &mut gaps);
    let mut plugin_rules = rules("rules of iptables-nft", nft::traces::list(), &mut gaps);
    plugin_rules.extend(rules("rules of iptables-legacy", nft::legacy::list(), &mut gaps));
    let mut dhcp_leases = dhcp::leases(&node.boot_id, &mut Vec::new());
    // Before anything else leads to namespaces: one that comes later is young, and found by who made it.
    let listed = walk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let disk = std::thread::scope(|scope| {
        let disk = scope.spawn(|| (cni::read(&sources.cni), stack::of_node(sources.stacks)));
        let mut processes = processes::scan(depth);
        let mut opened = std::mem::take(&mut processes.opened);
        let pins = mounts::pins(&processes.mount_namespaces, &processes.open_mounts, &mut opened);
        processes.opened = opened;
        (processes, pins, disk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (mut processes, mut pins, (disk, (mut stack, unread))) = disk;
    gaps.extend(unread.into_iter().map(|(what, why)| stack::of_host(what, why)));
    gaps.extend(stack.ruleset.iter().flat_map(|ruleset| ruleset.gaps.clone()));
    gaps.append(&mut processes.gaps);
    gaps.append(&mut pins.gaps);
    let stale_files = mounts::stale_files(&pin_directories(), &mut gaps);
    let known = namespaces::Known {
        processes,
        pins,
        listed,
        records: &disk.records,
        boot_id: &node.boot_id,
        depth,
        stacks: sources.stacks,
    };
    // Logs are long, and their disk may be slow.
    let (inside, heard) = std::thread::scope(|scope| {
        let heard = scope.spawn(|| logs::heard(&disk));
        let inside = namespaces::observe(known, &mut gaps);
        (inside, heard.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let namespaces::Found { mut namespaces, enumeration, unplaced } = inside?;
    // Those before and after the namespaces were looked at: a container that comes has no lease before, one that goes has none after.
    let still_kept = dhcp::leases(&node.boot_id, &mut gaps);
    dhcp_leases.retain(|lease| still_kept.binary_search(lease).is_ok());
    runtimes::claims::compare(&mut asked.runtimes, &namespaces, node.booted_at, answered);
    let plugins = plugins::installed(&disk.configs);
    gaps.extend(disk.gaps);
    let kernel_options = match sources.stacks && !disk.configs.is_empty() {
        true => kernel::options(&node.kernel),
        false => BTreeMap::new(),
    };
    if sources.stacks {
        stack.vxlan_sockets = stack::vxlan_sockets(&namespaces, &mut gaps);
        stack.traffic_filters = stack::host_filters(&namespaces, &mut gaps);
        stack::vxlan_checksums(&mut namespaces);
    }
    let flows = flows::flows(&namespaces, &mut gaps);
    let neighbour_tables = stack::neighbour_tables(&mut gaps);
    let conntrack = stack::conntrack(&mut gaps);
    Ok(Snapshot {
        version: Snapshot::VERSION,
        taken_at,
        node,
        namespaces,
        enumeration: Some(enumeration),
        unplaced,
        runtimes: asked.runtimes,
        runtime_none: sources.runtimes.none,
        leases: disk.leases,
        podman_leases,
        dhcp_leases,
        cache: disk.cache,
        configs: disk.configs,
        plugins,
        kernel_options,
        records: disk.records,
        stale_files,
        elements,
        plugin_rules,
        nft_tables,
        stack,
        neighbour_tables,
        flows,
        conntrack,
        heard,
        log: None,
        kubelet_pods: logs::kubelet_pods(),
        coverage: gaps,
    })
}

/// The attachments that CNI's state on disk names at this moment.
pub fn attachments(paths: &CniPaths) -> Vec<AttachmentKey> {
    let state = cni::read(paths);
    let leased = state.leases.iter().filter_map(|lease| {
        let ifname = lease.ifname.clone().or_else(|| "eth0".parse().ok())?;
        Some(AttachmentKey { network: lease.network.clone(), container: lease.container.clone()?, ifname })
    });
    let cached = state.cache.iter().filter_map(|entry| entry.key.clone());
    let recorded = state.records.iter().map(|record| record.key.clone());
    leased.chain(cached).chain(recorded).collect()
}

/// Where runtimes and `ip netns` pin namespaces.
fn pin_directories() -> Vec<PathBuf> {
    vec!["/run/netns".into(), "/run/docker/netns".into()]
}

fn rules<T, E: std::fmt::Display>(what: &str, result: Result<Vec<T>, E>, gaps: &mut Vec<Gap>) -> Vec<T> {
    result.unwrap_or_else(|error| {
        gaps.push(Gap { source: Source::Rules, object: what.into(), why: error.to_string() });
        Vec::new()
    })
}
