//! What to do about orphans: a list of operations that carry the identity of what they are about.
//!
//! An operation names not just an object but which one: the veth with this index, name and MAC; the namespace with this id; the
//! lease with this content. So that two plans agree on an operation means that it is still about the same thing, and whoever
//! carries it out can compare once more at that moment.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::{
    AttachmentKey, BootId, CacheEntry, Flavour, FlowId, IfIndex, MacAddr, NsId, NsInode, PluginRules,
    Snapshot, StaleFile,
};
use serde::{Deserialize, Serialize};

use crate::leaks::{Finding, Leaks};
use crate::verdict::Verdict;
use crate::wiring::{Wiring, short_id};

/// One change of a node, with the identity of what it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "operation")]
pub enum Operation {
    /// Copy a lease to the quarantine, under the lock of its directory.
    SaveLease {
        /// The lease file.
        path: PathBuf,
        /// Its whole content.
        content: String,
    },
    /// Copy an entry of libcni's cache to the quarantine.
    SaveCache {
        /// The cache file.
        path: PathBuf,
        /// Digest of its content.
        digest: u64,
    },
    /// Copy an attachment record of an earlier boot to the quarantine.
    SaveRecord {
        /// The record file.
        path: PathBuf,
        /// Whose record it is.
        key: AttachmentKey,
    },
    /// Call DEL of every plugin of the cached chain, last first.
    ReplayDel {
        /// The cache file that has the chain.
        cache: PathBuf,
        /// Digest of its content.
        digest: u64,
        /// The attachment.
        key: AttachmentKey,
        /// Where its namespace is pinned, and which it is; `None`: it is gone.
        netns: Option<PinIdentity>,
        /// Only the plugins know what they made: unless they succeed, what is needed to call them again stays.
        essential: bool,
        /// The chain's plugins, in order.
        plugins: Vec<String>,
    },
    /// Delete a host interface; the other end of a veth goes with it.
    RemoveLink(LinkIdentity),
    /// Unmount a pin and remove its file.
    Unpin {
        /// Mount point.
        path: PathBuf,
        /// The namespace's inode.
        inode: NsInode,
        /// The namespace's id, on kernels that have it.
        ns_id: Option<NsId>,
    },
    /// Remove a lease, under the lock of its directory.
    RemoveLease {
        /// The lease file.
        path: PathBuf,
        /// Its whole content.
        content: String,
    },
    /// Remove an entry of libcni's cache.
    RemoveCache {
        /// The cache file.
        path: PathBuf,
        /// Digest of its content.
        digest: u64,
    },
    /// Remove an attachment's elements from podplumb's nftables sets and maps.
    RemoveElements {
        /// Whose: each element says it in its comment, which is compared again.
        owner: String,
        /// The elements, as nft writes them.
        elements: Vec<String>,
    },
    /// Remove what the reference plugins made in iptables, if it is exactly that still.
    RemoveRules {
        /// Chain, rules, handles and contents.
        rules: PluginRules,
    },
    /// Forget connections that are led to an address which nobody has.
    ForgetFlows {
        /// The address.
        address: IpAddr,
        /// Which connections.
        flows: Vec<FlowId>,
    },
    /// Remove a podplumb attachment record.
    RemoveRecord {
        /// The record file.
        path: PathBuf,
        /// Whose record it is.
        key: AttachmentKey,
    },
    /// Remove an empty file that pins nothing.
    RemoveStaleFile {
        /// The file.
        path: PathBuf,
        /// Its inode.
        inode: u64,
    },
}

/// The order in which the operations of all orphans are carried out, from what can be undone and what the plugins themselves do
/// to what is final. Those of a phase go together, so that the kernel's grace periods and the disk are waited for once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Copies to the quarantine: they change nothing.
    Copies,
    /// DEL of the plugins, who know best what they made.
    Plugins,
    /// Interfaces.
    Links,
    /// What keeps namespaces alive.
    Pins,
    /// What names the orphan: as long as it is there, whoever comes after an interrupted run finds everything again.
    Traces,
}

/// Which namespace is pinned where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinIdentity {
    /// Mount point.
    pub path: PathBuf,
    /// The namespace's inode.
    pub inode: NsInode,
    /// The namespace's id, on kernels that have it.
    pub ns_id: Option<NsId>,
}

/// Which interface: an index is not reused within a boot, but a name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkIdentity {
    /// Index in the host's namespace.
    pub index: IfIndex,
    /// Name.
    pub name: String,
    /// Ethernet address.
    pub mac: Option<MacAddr>,
}

impl Operation {
    /// When it is its turn.
    pub fn phase(&self) -> Phase {
        match self {
            Operation::SaveLease { .. } | Operation::SaveCache { .. } | Operation::SaveRecord { .. } => {
                Phase::Copies
            }
            Operation::ReplayDel { .. } => Phase::Plugins,
            Operation::RemoveLink(_) => Phase::Links,
            Operation::Unpin { .. } => Phase::Pins,
            _ => Phase::Traces,
        }
    }

    /// The file of which it makes a copy.
    pub fn copied(&self) -> Option<&Path> {
        match self {
            Operation::SaveLease { path, .. }
            | Operation::SaveCache { path, .. }
            | Operation::SaveRecord { path, .. } => Some(path),
            _ => None,
        }
    }

    /// What it is about, without what is done to it.
    pub fn object(&self) -> String {
        match self {
            Operation::SaveLease { path, .. } | Operation::RemoveLease { path, .. } => {
                format!("lease {}", path.display())
            }
            Operation::SaveCache { path, .. } | Operation::RemoveCache { path, .. } => {
                format!("cache entry {}", path.display())
            }
            Operation::ReplayDel { key, .. } => format!("attachment {}", key.file_name()),
            Operation::RemoveLink(link) => link.name.clone(),
            Operation::Unpin { path, .. } => format!("namespace {}", path.display()),
            Operation::RemoveElements { owner, .. } => format!("nftables elements of {owner}"),
            Operation::RemoveRules { rules } => format!("iptables rules {rules}"),
            Operation::ForgetFlows { address, .. } => format!("connections to {address}"),
            Operation::SaveRecord { path, .. } | Operation::RemoveRecord { path, .. } => {
                format!("record {}", path.display())
            }
            Operation::RemoveStaleFile { path, .. } => format!("file {}", path.display()),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::SaveLease { path, .. } => write!(f, "copy lease {} to the quarantine", path.display()),
            Operation::SaveCache { path, .. } => {
                write!(f, "copy cache entry {} to the quarantine", path.display())
            }
            Operation::SaveRecord { path, .. } => {
                write!(f, "copy record {} to the quarantine", path.display())
            }
            Operation::ReplayDel { key, plugins, .. } => {
                let chain: Vec<&str> = plugins.iter().rev().map(String::as_str).collect();
                let (id, ifname) = (short_id(key.container.as_str()), &key.ifname);
                write!(f, "call CNI DEL of {} for {id} {ifname}", chain.join(", "))
            }
            Operation::RemoveLink(link) => write!(f, "delete {} (index {})", link.name, link.index),
            Operation::Unpin { path, .. } => write!(f, "unmount {}", path.display()),
            Operation::RemoveLease { path, .. } => write!(f, "release lease {}", path.display()),
            Operation::RemoveCache { path, .. } => write!(f, "remove cache entry {}", path.display()),
            Operation::RemoveElements { elements, .. } => match elements.as_slice() {
                [one] => write!(f, "remove nftables element {one}"),
                many => {
                    // `inet podplumb pods4 { 10.0.0.2 }`
                    let sets: BTreeSet<&str> =
                        many.iter().filter_map(|text| text.split(' ').nth(2)).collect();
                    let sets: Vec<&str> = sets.into_iter().collect();
                    write!(f, "remove {} nftables elements ({})", many.len(), sets.join(", "))
                }
            },
            Operation::RemoveRules { rules } => {
                let count = rules.rules.len();
                let count = if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") };
                match (&rules.chain, rules.addresses.first()) {
                    (Some(chain), _) => write!(f, "remove chain {chain} of {} ({count})", rules.table()),
                    (None, Some(ip)) => write!(f, "remove {count} for {ip} of {}", rules.table()),
                    (None, None) => write!(f, "remove {count} of {}", rules.table()),
                }
            }
            Operation::ForgetFlows { address, flows } => match flows.len() {
                1 => write!(f, "forget 1 connection to {address}"),
                count => write!(f, "forget {count} connections to {address}"),
            },
            Operation::RemoveRecord { path, .. } => write!(f, "remove record {}", path.display()),
            Operation::RemoveStaleFile { path, .. } => write!(f, "remove empty file {}", path.display()),
        }
    }
}

/// One orphan and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The orphan's label.
    pub target: String,
    /// What to do.
    #[serde(flatten)]
    pub operation: Operation,
}

/// What reclaim does, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The boot for which it was made; under another one it means nothing.
    pub boot_id: BootId,
    /// The operations.
    pub steps: Vec<Step>,
}

/// A plan that a second observation confirmed, and what it did not confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confirmed {
    /// What may be done.
    pub plan: Plan,
    /// The orphans that it is about, as the second observation found them.
    pub orphans: Vec<Finding>,
    /// Orphans of the first observation that are left alone, and why.
    pub dropped: Vec<(String, String)>,
}

impl Plan {
    /// The plan for all orphans.
    pub fn new(snapshot: &Snapshot, leaks: &Leaks) -> Self {
        Self::of(snapshot, leaks.with(Verdict::Orphan))
    }

    /// The plan for those orphans of which two observations, a grace period apart, say exactly the same: same namespace id,
    /// same index, name and MAC, same content.
    pub fn confirmed(first: (&Snapshot, &Leaks), second: (&Snapshot, &Leaks)) -> Confirmed {
        let mut dropped = Vec::new();
        let mut kept: Vec<&Finding> = Vec::new();
        for before in first.1.with(Verdict::Orphan) {
            let now = second.1.findings.iter().find(|now| is_same_target(before, now));
            let why = match now {
                _ if first.0.node.boot_id != second.0.node.boot_id => "the node was restarted".to_owned(),
                None => "it is gone by now".to_owned(),
                Some(now) if now.ruling.verdict != Verdict::Orphan => now.ruling.because.text.clone(),
                Some(now) if !agree(&before.steps, &now.steps) => {
                    "it changed between the two observations".to_owned()
                }
                Some(now) => {
                    kept.push(now);
                    continue;
                }
            };
            dropped.push((before.label.clone(), why));
        }
        let plan = Self::of(second.0, kept.iter().copied());
        Confirmed { plan, orphans: kept.into_iter().cloned().collect(), dropped }
    }

    fn of<'a>(snapshot: &Snapshot, findings: impl Iterator<Item = &'a Finding>) -> Self {
        let mut steps: Vec<Step> = findings.flat_map(|finding| finding.steps.iter().cloned()).collect();
        // Stable: within a phase, the order of the orphans and of their operations stays.
        steps.sort_by_key(|step| step.operation.phase());
        Self { boot_id: snapshot.node.boot_id.clone(), steps }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

fn is_same_target(a: &Finding, b: &Finding) -> bool {
    a.label == b.label && a.container == b.container && a.ns_id == b.ns_id && a.ns_inode == b.ns_inode
}

/// Whether two observations want the same done. Of connections to an address some end and others begin all the time: the second
/// observation lists those that the first saw too.
fn agree(before: &[Step], now: &[Step]) -> bool {
    let is_same = |(before, now): (&Step, &Step)| match (&before.operation, &now.operation) {
        (Operation::ForgetFlows { address: a, .. }, Operation::ForgetFlows { address: b, .. }) => a == b,
        _ => before == now,
    };
    before.len() == now.len() && before.iter().zip(now).all(is_same)
}

/// The operation that forgets connections.
pub(crate) fn flow_steps(target: &str, address: IpAddr, flows: Vec<FlowId>) -> Vec<Step> {
    named(target, vec![Operation::ForgetFlows { address, flows }])
}

/// The operations that remove a wiring.
pub(crate) fn steps(wiring: &Wiring<'_>) -> Vec<Step> {
    let mut operations = Vec::new();
    for lease in &wiring.leases {
        operations.push(Operation::SaveLease { path: lease.path.clone(), content: lease.content.clone() });
    }
    for entry in &wiring.cache {
        operations.push(Operation::SaveCache { path: entry.path.clone(), digest: entry.digest });
    }
    let pins: Vec<_> = wiring
        .namespaces
        .iter()
        .flat_map(|namespace| namespace.own_pins().map(move |pin| (*namespace, pin)))
        .collect();
    for entry in &wiring.cache {
        if let Some(key) = entry.key.clone().filter(|_| !entry.plugins.is_empty()) {
            operations.push(Operation::ReplayDel {
                cache: entry.path.clone(),
                digest: entry.digest,
                key,
                netns: pins.first().and_then(|(namespace, pin)| {
                    let (path, ns_id) = (pin.path.clone(), namespace.ns_id);
                    Some(PinIdentity { path, inode: namespace.inode?, ns_id })
                }),
                essential: !is_ours_to_remove(entry, wiring),
                plugins: entry.plugins.clone(),
            });
        }
    }
    for host in &wiring.links {
        let (index, name, mac) = (host.link.index, host.link.name.clone(), host.link.mac);
        operations.push(Operation::RemoveLink(LinkIdentity { index, name, mac }));
    }
    for (namespace, pin) in &pins {
        if let Some(inode) = namespace.inode {
            operations.push(Operation::Unpin { path: pin.path.clone(), inode, ns_id: namespace.ns_id });
        }
    }
    operations.extend(elements(wiring));
    operations.extend(rules(wiring));
    for lease in &wiring.leases {
        operations.push(Operation::RemoveLease { path: lease.path.clone(), content: lease.content.clone() });
    }
    // Last: as long as these are there, whoever comes after an interrupted run finds everything again.
    for entry in &wiring.cache {
        operations.push(Operation::RemoveCache { path: entry.path.clone(), digest: entry.digest });
    }
    for record in &wiring.records {
        if let Some(seen) = &record.seen {
            operations.push(Operation::RemoveRecord { path: seen.path.clone(), key: record.key.clone() });
        }
    }
    named(&wiring.label(), operations)
}

/// The nftables elements that name one of the wiring's attachments as their owner.
fn elements(wiring: &Wiring<'_>) -> Vec<Operation> {
    let owners: BTreeSet<&str> = wiring.own_elements().map(|element| element.owner.as_str()).collect();
    // In an order of ours: the kernel's is that of a hash table, which grows, and a list made meanwhile may name one twice.
    let of = |owner: &str| {
        let own = wiring.own_elements().filter(|element| element.owner == owner);
        let texts: BTreeSet<&String> = own.map(|element| &element.text).collect();
        texts.into_iter().cloned().collect()
    };
    owners
        .into_iter()
        .map(|owner| Operation::RemoveElements { owner: owner.to_owned(), elements: of(owner) })
        .collect()
}

/// The reference plugins' rules. Those of iptables-legacy are replaced as a whole table only, which is left to iptables.
fn rules(wiring: &Wiring<'_>) -> impl Iterator<Item = Operation> {
    let removable = wiring.own_rules().filter(|rules| rules.flavour == Flavour::Nft);
    removable.map(|rules| Operation::RemoveRules { rules: rules.clone() })
}

/// Whether our own removal leaves nothing of what the chain made: links, host-local's leases, and what plugins of ours have
/// a record of. Whatever else plugins make (iptables rules of portmap, addresses at somebody else's IPAM) only they can remove.
fn is_ours_to_remove(entry: &CacheEntry, wiring: &Wiring<'_>) -> bool {
    let has_record = |kind: &str| {
        wiring.records.iter().any(|record| record.plugin == kind && Some(&record.key) == entry.key.as_ref())
    };
    let own = |kind: &String| matches!(kind.as_str(), "bridge" | "loopback") || has_record(kind);
    entry.plugins.iter().all(own) && entry.ipam.iter().all(|kind| kind == "host-local")
}

/// The operation that removes a stale file.
pub(crate) fn stale_file_steps(file: &StaleFile) -> Vec<Step> {
    let operation = Operation::RemoveStaleFile { path: file.path.clone(), inode: file.inode };
    named(&file.path.display().to_string(), vec![operation])
}

fn named(target: &str, operations: Vec<Operation>) -> Vec<Step> {
    operations.into_iter().map(|operation| Step { target: target.to_owned(), operation }).collect()
}
