//! Which attachments are valid: what CNI's GC has to be told, since it removes everything else.
//!
//! A runtime knows its own containers only, and the cache only what came through it. So everything that anybody names is valid, but for
//! what two looks called orphans; and where what runtimes say contradicts the kernel, there is no answer at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{AttachmentKey, ContainerId, IfName, NetworkName, Snapshot, Source};

use crate::verdict::{self, Court, Verdict};
use crate::wiring::{Wiring, wirings};

/// The attachments of a node.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attachments {
    /// Valid ones by network: those that something names, and those that a container which a runtime lists may have.
    pub valid: BTreeMap<NetworkName, BTreeSet<(ContainerId, IfName)>>,
    /// Those of orphans.
    pub stale: BTreeSet<AttachmentKey>,
}

/// Why the attachments that are valid cannot be told.
pub fn objections(snapshot: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    if snapshot.runtimes.is_empty() && !snapshot.runtime_none {
        found.push("no runtime is known on this node (say --runtime none if there is none)".to_owned());
    }
    let silent = snapshot.runtimes.iter().filter(|runtime| !runtime.answered());
    found.extend(silent.map(|one| format!("{} at {} does not answer", one.kind, one.endpoint.display())));
    let missing = snapshot.coverage.iter().filter(|gap| {
        // What is no lease is nobody's attachment.
        let names = matches!(gap.source, Source::Cache | Source::Records | Source::Leases);
        gap.source.hides_holders() || (names && gap.why != "is no lease")
    });
    found.extend(missing.map(|gap| format!("{} could not be read: {}", gap.object, gap.why)));
    let broken = snapshot.cache.iter().filter(|entry| entry.key.is_none());
    found.extend(
        broken.map(|entry| format!("nobody knows whose the cache entry {} is", entry.path.display())),
    );
    found.extend(wirings(snapshot).iter().filter_map(|wiring| contradiction(wiring, snapshot)));
    found
}

/// Somebody lives with an attachment, and no runtime knows of it: a runtime that has lost its state would make us collect the others.
fn contradiction(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Option<String> {
    let attached = !wiring.cache.is_empty() || !wiring.records.is_empty() || !wiring.leases.is_empty();
    if snapshot.runtime_none || !wiring.objects.is_empty() || !attached {
        return None;
    }
    let inhabited = |namespace: &&&model::Namespace| {
        namespace.has_tasks() || namespace.sockets.is_some_and(|sockets| sockets.held() > 0)
    };
    let namespace = wiring.namespaces.iter().find(inhabited)?;
    let label = wiring.label();
    Some(format!("no runtime lists {label}, but somebody lives in its namespace {}", namespace.label()))
}

/// The attachments, as two looks agree on them. `networks` are those that are configured.
pub fn attachments(
    first: &Snapshot,
    second: &Snapshot,
    grace: Duration,
    networks: &BTreeSet<NetworkName>,
) -> Attachments {
    let before = orphaned(first, None, grace);
    let now = orphaned(second, Some(first), grace);
    let stale: BTreeSet<AttachmentKey> = before.intersection(&now).cloned().collect();
    let mut named: BTreeSet<AttachmentKey> = BTreeSet::new();
    for snapshot in [first, second] {
        wirings(snapshot).iter().for_each(|wiring| named.extend(keys(wiring)));
        named.extend(listed(snapshot, networks));
    }
    let mut valid: BTreeMap<NetworkName, BTreeSet<(ContainerId, IfName)>> = BTreeMap::new();
    for key in named.into_iter().filter(|key| !stale.contains(key)) {
        valid.entry(key.network).or_default().insert((key.container, key.ifname));
    }
    Attachments { valid, stale }
}

/// The attachments of wirings that are orphans.
fn orphaned(snapshot: &Snapshot, earlier: Option<&Snapshot>, grace: Duration) -> BTreeSet<AttachmentKey> {
    let court = Court { snapshot, earlier, grace };
    let orphans = wirings(snapshot);
    let orphans = orphans.iter().filter(|wiring| verdict::rule(wiring, court).verdict == Verdict::Orphan);
    orphans.flat_map(keys).collect()
}

/// The attachments that anything of a wiring names.
fn keys(wiring: &Wiring<'_>) -> Vec<AttachmentKey> {
    let mut keys: Vec<AttachmentKey> = wiring.stamps.clone();
    keys.extend(wiring.cache.iter().filter_map(|entry| entry.key.clone()));
    keys.extend(wiring.records.iter().map(|record| record.key.clone()));
    let leased = wiring.leases.iter().filter_map(|lease| {
        Some(AttachmentKey {
            network: lease.network.clone(),
            container: lease.container.clone()?,
            ifname: lease.ifname.clone().unwrap_or_else(first_interface),
        })
    });
    keys.extend(leased);
    keys
}

/// What containers that runtimes list may have: in each network an interface of each name that occurs. nerdctl calls its containers
/// by containerd's namespace and id.
fn listed(snapshot: &Snapshot, networks: &BTreeSet<NetworkName>) -> Vec<AttachmentKey> {
    let mut ifnames: BTreeSet<IfName> = BTreeSet::from([first_interface()]);
    ifnames.extend(wirings(snapshot).iter().flat_map(|wiring| keys(wiring)).map(|key| key.ifname));
    let mut all = Vec::new();
    for (_, object) in snapshot.runtime_objects() {
        let prefixed =
            object.partition.as_ref().and_then(|name| format!("{name}-{}", object.id).parse().ok());
        for container in std::iter::once(object.id.clone()).chain(prefixed) {
            for (network, ifname) in networks.iter().flat_map(|n| ifnames.iter().map(move |i| (n, i))) {
                let (network, container, ifname) = (network.clone(), container.clone(), ifname.clone());
                all.push(AttachmentKey { network, container, ifname });
            }
        }
    }
    all
}

fn first_interface() -> IfName {
    "eth0".parse().expect("a name")
}
