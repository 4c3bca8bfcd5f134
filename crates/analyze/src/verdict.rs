//! Whether a wiring is in use: the table that decides what may ever be touched.
//!
//! The rows are tried in order and the first that fits decides. Everything that can move a verdict away from `Orphan`
//! comes before the two rows that reach it, so what is not understood is never removed.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use model::{
    AttachmentRecord, ContainerId, Gap, Namespace, RuntimeKind, RuntimeStatus, Snapshot, Source, Timestamp,
};
use serde::Serialize;

use crate::wiring::{Wiring, is_runtime_name};

/// What a wiring is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nobody has it any more, and it is proven.
    Orphan,
    /// Something that would have to be known is not.
    Unknown,
    /// Somebody has it.
    InUse,
}

/// One fact about a wiring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// A stable name for programs.
    pub code: &'static str,
    /// The fact in words.
    pub text: String,
}

impl Evidence {
    fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// A verdict with all that speaks for and against the wiring being an orphan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ruling {
    /// The verdict.
    pub verdict: Verdict,
    /// The fact that decided: the first row of the table that fits.
    pub because: Evidence,
    /// Facts that speak for an orphan.
    pub evidence_for: Vec<Evidence>,
    /// Facts that speak against it, the decisive one included.
    pub evidence_against: Vec<Evidence>,
}

/// What a ruling needs to know besides the wiring.
#[derive(Debug, Clone, Copy)]
pub struct Court<'a> {
    /// The observation that is judged.
    pub snapshot: &'a Snapshot,
    /// An earlier one, to see whether counters move.
    pub earlier: Option<&'a Snapshot>,
    /// What is younger may be in the middle of an ADD.
    pub grace: Duration,
}

/// Rules on one wiring.
pub fn rule(wiring: &Wiring<'_>, court: Court<'_>) -> Ruling {
    let mut against: Vec<(Verdict, Evidence)> = Vec::new();
    let in_use = |evidence| (Verdict::InUse, evidence);
    against.extend(listed(wiring).map(in_use));
    against.extend(in_flight(wiring, court).map(in_use));
    against.extend(alive(wiring, court).into_iter().map(in_use));
    let unknown = |evidence| (Verdict::Unknown, evidence);
    against.extend(silent_runtimes(wiring, court.snapshot).into_iter().map(unknown));
    against.extend(doubted(wiring, court.snapshot).map(unknown));
    against.extend(of_podman(wiring).map(unknown));
    against.extend(unread(wiring, court.snapshot).into_iter().map(unknown));
    against.extend(used_here(wiring, court.snapshot).map(unknown));
    against.extend(doubtful_address(wiring, court.snapshot).map(unknown));
    against.extend(untied(wiring).map(unknown));
    against.extend(out_of_reach(wiring).map(unknown));
    against.extend(no_runtime(court.snapshot).map(unknown));

    let evidence_for = for_an_orphan(wiring, court.snapshot);
    let because = match (against.first(), wiring.namespace()) {
        (Some((_, evidence)), _) => evidence.clone(),
        (None, Some(_)) => {
            Evidence::new("pinned-only", "its namespace lives only by a pin, and no runtime knows it")
        }
        (None, None) if is_unwritten(wiring) => Evidence::new(
            "never-given",
            "an empty lease: host-local writes the owner before it answers, so nobody was given the address",
        ),
        (None, None) => Evidence::new("namespace-gone", "its namespace is gone, and no runtime knows it"),
    };
    Ruling {
        verdict: against.first().map_or(Verdict::Orphan, |(verdict, _)| *verdict),
        because,
        evidence_for,
        evidence_against: against.into_iter().map(|(_, evidence)| evidence).collect(),
    }
}

/// Row 1: some runtime lists the container or sandbox, in whatever state. Its runtime will call DEL.
fn listed(wiring: &Wiring<'_>) -> Option<Evidence> {
    let (runtime, object) = wiring.objects.first()?;
    let id = crate::wiring::short_id(object.id.as_str());
    let text = format!("{} lists it: {id}, {}", runtime.kind, object.state);
    Some(Evidence::new("runtime-lists", text))
}

/// Row 2: younger than the grace period, or an ADD or DEL is at work on it.
fn in_flight(wiring: &Wiring<'_>, court: Court<'_>) -> Option<Evidence> {
    if let Some(record) =
        wiring.records.iter().find(|record| record.seen.as_ref().is_some_and(|seen| seen.locked))
    {
        let text = format!("an ADD or DEL holds the lock of its record {}", record.key.file_name());
        return Some(Evidence::new("in-flight", text));
    }
    if let Some(lease) = wiring.leases.iter().find(|lease| lease.locked) {
        let text = format!("an ADD or DEL holds the lock of network {}", lease.network);
        return Some(Evidence::new("in-flight", text));
    }
    let youngest = times(wiring).max()?;
    match youngest.age_at(court.snapshot.taken_at) {
        Some(age) if age >= court.grace => None,
        Some(age) => {
            let (age, grace) = (model::time::short(age), model::time::short(court.grace));
            Some(Evidence::new("young", format!("made {age} ago, within the grace period of {grace}")))
        }
        None => Some(Evidence::new("young", format!("made at {youngest}, after the node's clock of now"))),
    }
}

/// When its pieces were made.
pub(crate) fn times(wiring: &Wiring<'_>) -> impl Iterator<Item = Timestamp> {
    let pins = wiring.namespaces.iter().flat_map(|namespace| &namespace.pins).filter_map(|pin| pin.since);
    let leases = wiring.leases.iter().map(|lease| lease.since);
    let cache = wiring.cache.iter().map(|entry| entry.since);
    let records = wiring.records.iter().map(|record| record.created);
    pins.chain(leases).chain(cache).chain(records)
}

/// Row 3: its namespace has a task, a socket, a tun holder, or it sends packets.
fn alive(wiring: &Wiring<'_>, court: Court<'_>) -> Vec<Evidence> {
    let mut facts: Vec<Evidence> =
        wiring.namespaces.iter().flat_map(|namespace| life(namespace, court)).collect();
    facts.extend(answers_arp(wiring, court.snapshot));
    facts.extend(address_in_use(wiring, court));
    facts.extend(rules_in_use(wiring));
    facts
}

/// Kinds of interfaces whose frames go to whoever has their device file open.
const TAPS: [&str; 3] = ["tun", "macvtap", "ipvtap"];

/// What somebody does in a namespace.
fn life(namespace: &Namespace, court: Court<'_>) -> Vec<Evidence> {
    let mut facts = Vec::new();
    if let Some(task) = namespace.tasks.first() {
        let more = match namespace.tasks.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        facts.push(Evidence::new("task", format!("in its namespace runs {task}{more}")));
    }
    if let Some(sockets) = namespace.sockets.filter(|sockets| sockets.held() > 0) {
        let text = match sockets.held() {
            1 => "somebody has a socket in its namespace".to_owned(),
            n => format!("somebody has {n} sockets in its namespace"),
        };
        facts.push(Evidence::new("socket", text));
    }
    let is_tap = |link: &&model::Link| TAPS.contains(&link.kind.as_str());
    if let Some(tun) = namespace.links.iter().filter(is_tap).find(|link| link.carrier) {
        facts.push(Evidence::new("tun", format!("somebody has its tun device {} open", tun.name)));
    }
    if let Some(text) = court.earlier.and_then(|earlier| sends(namespace, earlier)) {
        facts.push(Evidence::new("counters", text));
    }
    facts
}

/// Packets that the namespace sent between the two observations, besides what its kernel sends of itself.
///
/// Received ones prove nothing: a bridge floods broadcasts to every port, abandoned or not. Nor do router solicitations: an
/// abandoned namespace goes on sending them (seen in every run of the demo).
fn sends(namespace: &Namespace, earlier: &Snapshot) -> Option<String> {
    let before = earlier.namespaces.iter().find(|other| is_same(other, namespace))?;
    let sent = |link: &model::Link| {
        let old = before.links.iter().find(|old| old.index == link.index)?;
        link.tx_packets.checked_sub(old.tx_packets)
    };
    let all: u64 = namespace.links.iter().filter(|link| !link.loopback).filter_map(sent).sum();
    let own = namespace.housekeeping_packets.zip(before.housekeeping_packets);
    let own = own.and_then(|(now, before)| now.checked_sub(before)).unwrap_or(0);
    let packets = all.checked_sub(own).filter(|packets| *packets > 0)?;
    Some(format!("it sent {packets} packets between the two observations"))
}

/// Whether two observations of a namespace are of the same one.
pub(crate) fn is_same(a: &Namespace, b: &Namespace) -> bool {
    match (a.ns_id, b.ns_id) {
        (Some(a), Some(b)) => a == b,
        _ => a.inode.is_some() && a.inode == b.inode,
    }
}

/// A lease that nothing else is known about may belong to something that is no container, such as a virtual machine
/// behind a tap device. If the host's neighbour table says that the address answered within the last half minute
/// (`NUD_REACHABLE`), it is in use.
fn answers_arp(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Option<Evidence> {
    const NUD_REACHABLE: u16 = 0x02;
    if !wiring.namespaces.is_empty() || !wiring.cache.is_empty() || !wiring.records.is_empty() {
        return None;
    }
    let entry = snapshot.stack.neighbours.iter().find(|entry| {
        entry.state & NUD_REACHABLE != 0 && wiring.leases.iter().any(|lease| lease.address == entry.address)
    })?;
    Some(Evidence::new("neighbour", format!("{} answers on the link", entry.address)))
}

/// Somebody has its address who has no lease of it: a container that calls itself otherwise than its runtime does. One that is
/// evidently dead has it only until it is removed.
fn address_in_use(wiring: &Wiring<'_>, court: Court<'_>) -> Option<Evidence> {
    let is_dead = |namespace: &Namespace| {
        let sees = namespace.readable && (namespace.has_tasks() || namespace.sockets.is_some());
        let tap = namespace.links.iter().any(|link| TAPS.contains(&link.kind.as_str()));
        sees && !tap && life(namespace, court).is_empty()
    };
    // The other end of whose veth is not on the host is wired elsewhere: a node in a container, or a lab, may have the same subnet.
    let is_here = |namespace: &Namespace, link: &model::Link| {
        link.kind != "veth" || court.snapshot.host_veths_into(namespace).next().is_some()
    };
    let may_be_its_own = |(namespace, link): &(&Namespace, &model::Link)| {
        wiring.namespaces.is_empty() || is_here(namespace, link) && !is_dead(namespace)
    };
    let claim = wiring.claims.iter().copied().find(may_be_its_own);
    let leased = |link: &&model::Link| {
        link.addresses.iter().any(|net| wiring.leases.iter().any(|lease| lease.address == net.addr()))
    };
    let on_host = || {
        let host = court.snapshot.host()?;
        Some((host, host.links.iter().find(leased)?))
    };
    let (namespace, link) = claim.or_else(on_host)?;
    let text = format!("{} in {} has its leased address", link.name, namespace.label());
    Some(Evidence::new("address-in-use", text))
}

/// Of nothing but rules and elements: somebody outside of the wiring, who may be their owner under another name, has the addresses
/// that all of them are about on an interface. (Where there is more than rules, such rules are left and the rest goes.)
fn rules_in_use(wiring: &Wiring<'_>) -> Option<Evidence> {
    if !wiring.is_rules_only()
        || wiring.own_rules().next().is_some()
        || wiring.own_elements().next().is_some()
    {
        return None;
    }
    let user = wiring.users.first()?;
    let text = format!("{} in {} has the address of its rules", user.link.name, user.namespace.label());
    Some(Evidence::new("address-in-use", text))
}

/// Nothing is left of it but rules that only iptables-legacy can remove.
fn out_of_reach(wiring: &Wiring<'_>) -> Option<Evidence> {
    let is_legacy = |rules: &model::PluginRules| rules.flavour == model::Flavour::Legacy;
    let all = wiring.elements.is_empty() && wiring.rules.iter().all(|rules| is_legacy(rules));
    let text = "its rules are iptables-legacy's, which can replace a table as a whole only: left to iptables";
    (wiring.is_rules_only() && all).then(|| Evidence::new("legacy-rules", text))
}

/// Row 4, first half: a runtime that is configured, or whose socket exists, does not answer, and it could be the one.
pub(crate) fn silent_runtimes(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Vec<Evidence> {
    // `--runtime none` says that what traces are left are old.
    if snapshot.runtime_none {
        return Vec::new();
    }
    let pins = wiring.namespaces.iter().flat_map(|namespace| namespace.own_pins()).map(|pin| &*pin.path);
    let told = wiring.cache.iter().filter_map(|entry| entry.netns.as_deref());
    let told = told.chain(wiring.records.iter().map(|record| &*record.netns));
    let paths: Vec<&Path> = pins.chain(told).collect();
    let silent = snapshot.runtimes.iter().filter_map(|runtime| match &runtime.status {
        RuntimeStatus::Silent { why } => Some((runtime, why)),
        RuntimeStatus::Answered { .. } => None,
    });
    // Where no runtime answers at all, there is none that disowns it.
    let answers = snapshot.runtimes.iter().any(|runtime| runtime.answered() && !runtime.foreign);
    // A namespace that only an address ties to it may not be its own.
    let is_anywhere = paths.is_empty() || wiring.by_address_only;
    let could = |kind| is_anywhere || paths.iter().any(|path| may_have_made(kind, path));
    let silent = silent.filter(|(runtime, _)| !answers || could(runtime.kind));
    let text = |(runtime, why): (&model::Runtime, &String)| {
        format!("{} at {} does not answer: {why}", runtime.kind, runtime.endpoint.display())
    };
    silent.map(|silent| Evidence::new("runtime-silent", text(silent))).collect()
}

/// Whether a runtime of this kind may have made the namespace at `path`. Docker pins its own below /run/docker/netns and nowhere else,
/// and hands CNI (by cri-dockerd) a process's; nobody else pins there.
pub(crate) fn may_have_made(kind: RuntimeKind, path: &Path) -> bool {
    let of_docker = model::namespace::run_path(path).starts_with("/run/docker/netns");
    match kind {
        RuntimeKind::Docker => of_docker || !is_runtime_name(path),
        RuntimeKind::Containerd | RuntimeKind::CriO | RuntimeKind::Podman => !of_docker,
        // cri-dockerd is among them.
        RuntimeKind::Cri | RuntimeKind::Other => true,
    }
}

/// Row 4, between: a namespace of which only its name says that a runtime made it may be that of a container about whose process its
/// runtime is wrong.
fn doubted(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Option<Evidence> {
    if !wiring.containers.is_empty() || !wiring.stamps.is_empty() || wiring.namespaces.is_empty() {
        return None;
    }
    let (runtime, object, doubt) = snapshot
        .runtime_objects()
        .find_map(|(runtime, object)| Some((runtime, object, object.doubt.as_ref()?)))?;
    let id = crate::wiring::short_id(object.id.as_str());
    let text = format!("it may be that of {id}, about which {} is wrong: {doubt}", runtime.kind);
    Some(Evidence::new("runtime-doubted", text))
}

/// Row 4, between: Podman and Buildah have no daemon to ask, and each may be told to keep its containers elsewhere. A namespace that has
/// their kind of name and that no store lists may be in one that podplumb does not know.
fn of_podman(wiring: &Wiring<'_>) -> Option<Evidence> {
    let mut pins = wiring.namespaces.iter().flat_map(|namespace| namespace.own_pins());
    let pin = pins.find(|pin| crate::wiring::is_podman_name(&pin.path))?;
    let text = format!("Podman or Buildah made {}, and may keep a store elsewhere", pin.path.display());
    Some(Evidence::new("store-unknown", text))
}

/// Row 4, second half: something that could hold it could not be read.
fn unread(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Vec<Evidence> {
    let missing = |text: String| Evidence::new("unread", text);
    let hiding = snapshot.coverage.iter().filter(|gap| may_hide(gap, wiring));
    let mut facts: Vec<Evidence> =
        hiding.map(|gap| missing(format!("{} could not be read: {}", gap.object, gap.why))).collect();
    // A cut entry, or one that is being written.
    let cut = snapshot.cache.iter().filter(|entry| entry.key.is_none()).filter(|entry| {
        let name = entry.path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| is_named_in(wiring, name))
    });
    facts.extend(cut.map(|entry| missing(format!("{} cannot be understood", entry.path.display()))));
    for namespace in &wiring.namespaces {
        if !namespace.readable {
            facts.push(missing(format!("its namespace {} could not be read", namespace.label())));
        } else if !namespace.has_tasks() && namespace.sockets.is_none() {
            facts.push(missing(format!(
                "something that we cannot see holds its namespace ({})",
                namespace.label()
            )));
        }
        // It lives, and nothing that was seen explains why.
        if namespace.readable && !namespace.has_tasks() && namespace.pins.is_empty() {
            let (label, sockets) = (namespace.label(), namespace.sockets);
            let is_open = namespace.holders.iter().any(|holder| holder.descriptor().is_some());
            facts.extend(match sockets {
                Some(sockets) if sockets.total > 0 && sockets.held() == 0 => Some(Evidence::new(
                    "tcp-orphan",
                    format!(
                        "TCP connections that nobody has any more hold its namespace {label} for a while"
                    ),
                )),
                Some(_) if namespace.descriptors.is_empty() && !is_open => {
                    Some(missing(format!("nobody that was seen holds its namespace {label}, and it lives")))
                }
                _ => None,
            });
        }
        if let (None, Some(pin)) = (namespace.own_pins().next(), namespace.pins.first()) {
            // Another runtime's, which has a mount namespace of its own and cannot be asked from here.
            let whose = pin.seen_by.as_ref().map(ToString::to_string).unwrap_or_default();
            let text = format!("its namespace is pinned only where {whose} lives, at {}", pin.path.display());
            facts.push(Evidence::new("pinned-elsewhere", text));
        }
        // Whether somebody has such a device open is seen only while it is up.
        let is_tap = |link: &&model::Link| TAPS.contains(&link.kind.as_str());
        if let Some(tap) = namespace.links.iter().filter(is_tap).find(|link| !link.carrier) {
            facts.push(Evidence::new(
                "tap",
                format!("somebody may have its {} device {} open", tap.kind, tap.name),
            ));
        }
        if let Some(descriptor) = namespace.descriptors.first() {
            let text = format!("{} has its namespace open as fd {}", descriptor.task, descriptor.fd);
            facts.push(Evidence::new("descriptor", text));
        }
        if let Some(holder) = namespace.holders.iter().find(|holder| holder.descriptor().is_some()) {
            facts.push(Evidence::new("holder", format!("it is held: {}", crate::holders::text(holder))));
        }
    }
    // Where only an address tied it to a namespace, that may have been the wrong one.
    if wiring.namespaces.is_empty() || wiring.by_address_only {
        let hidden = snapshot.namespaces.iter().filter(|namespace| !namespace.readable);
        facts.extend(
            hidden.map(|ns| missing(format!("it could live in {}, which could not be read", ns.label()))),
        );
        // The other end of a veth that no namespace was found for.
        let blind = wiring.links.iter().find(|host| host.link.kind == "veth" && host.inside.is_none());
        facts.extend(
            blind.map(|host| missing(format!("the other end of {} could not be seen", host.link.name))),
        );
    }
    facts
}

/// Whether a gap could hide somebody who uses the wiring, or an ADD or DEL at work on it.
fn may_hide(gap: &Gap, wiring: &Wiring<'_>) -> bool {
    let name = Path::new(&gap.object).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // Whose it is was guessed, or nobody said, or its namespace is at a path that others may name: then anybody may have said it there.
    let is_unique = |ns: &&Namespace| ns.own_pins().any(|pin| is_runtime_name(&pin.path));
    let is_nobodys =
        wiring.containers.is_empty() || wiring.by_address_only || !wiring.namespaces.iter().all(is_unique);
    let is_named = |container: &ContainerId| is_nobodys || wiring.containers.contains(&container);
    match gap.source {
        // One file tells by its name whom it is about; a directory may have been about anybody.
        Source::Leases => name.parse().map_or(true, |address: IpAddr| {
            let addresses = wiring.addresses();
            is_nobodys || addresses.is_empty() || addresses.contains(&address)
        }),
        Source::Records => {
            AttachmentRecord::from_file_name(name).is_none_or(|(key, _)| is_named(&key.container))
        }
        // One of those that could not be opened may be the one that seems to be gone.
        Source::Enumeration => wiring.namespaces.is_empty() || wiring.by_address_only,
        Source::Cache if name == "results" => true,
        Source::Cache => is_nobodys || is_named_in(wiring, name),
        source => source.hides_holders(),
    }
}

/// Whether the name of a file of libcni's cache, `<network>-<container>-<ifname>`, may be about the wiring.
fn is_named_in(wiring: &Wiring<'_>, name: &str) -> bool {
    wiring.containers.iter().any(|id| name.contains(id.as_str()))
}

/// Leases without content, and nothing else: their ADD was killed between making the file and writing into it, or the node crashed
/// before the content was on disk.
fn is_unwritten(wiring: &Wiring<'_>) -> bool {
    let is_empty = |lease: &&model::Lease| lease.container.is_none() && lease.content.trim().is_empty();
    !wiring.is_tied()
        && !wiring.leases.is_empty()
        && wiring.leases.iter().all(is_empty)
        && wiring.namespaces.is_empty()
        && wiring.links.is_empty()
        && wiring.rules.is_empty()
}

/// Whether somebody might have the address of an empty lease after all: whoever answered for it in the neighbour table, however long ago, or
/// a container of a runtime that says so; and whether all that could name an owner was read.
fn doubtful_address(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Option<Evidence> {
    if !is_unwritten(wiring) {
        return None;
    }
    let is_leased = |address: &IpAddr| wiring.leases.iter().any(|lease| lease.address == *address);
    if let Some(entry) =
        snapshot.stack.neighbours.iter().find(|entry| entry.mac.is_some() && is_leased(&entry.address))
    {
        let text = format!("somebody answered for {} once", entry.address);
        return Some(Evidence::new("neighbour", text));
    }
    let mut objects = snapshot.runtime_objects();
    if let Some((runtime, object)) = objects.find(|(_, object)| object.addresses.iter().any(is_leased)) {
        let id = crate::wiring::short_id(object.id.as_str());
        return Some(Evidence::new(
            "runtime-lists",
            format!("{} says that {id} has its address", runtime.kind),
        ));
    }
    let mut named = snapshot.cache.iter().flat_map(|entry| &entry.addresses);
    if named.any(is_leased) {
        return Some(Evidence::new("contradiction", "more than one cached result has its address"));
    }
    None
}

/// An interface that came back from a container to the host, and that somebody uses here: as a port, or with an address.
fn used_here(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Option<Evidence> {
    let is_cached = |link: &model::Link| {
        let mut on_host = wiring.cache.iter().flat_map(|entry| &entry.host_interfaces);
        let mut records = wiring.records.iter().filter_map(|record| record.host_interface.as_ref());
        on_host.any(|(name, _)| *name == link.name) || records.any(|name| name.as_str() == link.name)
    };
    let came_back = wiring.links.iter().map(|host| host.link).filter(|link| {
        let both_here = link.kind == "veth" && link.peer.is_some_and(|peer| peer.nsid.is_none());
        let is_stamped = link.alias.is_some();
        (both_here && !is_cached(link) && !is_stamped) || link.kind.starts_with("macv")
    });
    for link in came_back {
        if let Some(master) = link.master.and_then(|master| snapshot.host_link(master)) {
            return Some(Evidence::new(
                "used-here",
                format!("{} is a port of {} here", link.name, master.name),
            ));
        }
        let own = link.addresses.iter().map(|net| net.addr());
        if let Some(address) = own.into_iter().find(|address| !crate::wiring::is_link_local(*address)) {
            return Some(Evidence::new("used-here", format!("{} has {address} here", link.name)));
        }
    }
    None
}

/// Row 5: nothing ties it to a container. A namespace made by hand may be a router.
fn untied(wiring: &Wiring<'_>) -> Option<Evidence> {
    let is_pinned_or_stamped = wiring.runtime_pin().is_some() || !wiring.stamps.is_empty();
    let weakly = wiring.by_address_only && (wiring.namespaces.len() > 1 || !is_pinned_or_stamped);
    if (wiring.is_tied() && !weakly) || is_unwritten(wiring) {
        return None;
    }
    let text = if wiring.by_address_only {
        "nothing but an address ties this namespace to a container: it may have been made by hand"
    } else if !wiring.rules.is_empty() {
        "nothing says whose these rules are"
    } else if wiring.leases.is_empty() {
        "nothing ties it to a container: it may have been made by hand"
    } else {
        "its lease does not say whose it is"
    };
    Some(Evidence::new("untied", text))
}

/// Row 6: no runtime is known on this node at all.
pub(crate) fn no_runtime(snapshot: &Snapshot) -> Option<Evidence> {
    let known = snapshot.runtimes.iter().any(|runtime| !runtime.foreign);
    let none = !known && !snapshot.runtime_none;
    none.then(|| {
        Evidence::new(
            "no-runtime",
            "no runtime is known on this node (say `--runtime none` if there is none)",
        )
    })
}

/// Rows 7 and 8: what is left to say for an orphan.
fn for_an_orphan(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Vec<Evidence> {
    let mut facts = Vec::new();
    if wiring.objects.is_empty() {
        let answered = snapshot.runtimes.iter().filter(|runtime| runtime.answered() && !runtime.foreign);
        facts.extend(answered.map(|runtime| {
            let text =
                format!("{} answered and does not list it ({} listed)", runtime.kind, runtime.objects.len());
            Evidence::new("disowned", text)
        }));
        if snapshot.runtime_none {
            facts.push(Evidence::new("disowned", "you said that no runtime works here (--runtime none)"));
        }
    }
    let uid = wiring.pod_or_logged().and_then(|pod| pod.uid.as_ref());
    if let Some((uid, pods)) = uid.zip(snapshot.kubelet_pods.as_ref())
        && !pods.contains(uid)
    {
        facts.push(Evidence::new("kubelet-forgot", "kubelet keeps nothing of its pod any more"));
    }
    let booted = snapshot.node.booted_at;
    if wiring.leases.iter().any(|lease| lease.since < booted) {
        let text = format!("its lease was written before this boot ({booted})");
        facts.push(Evidence::new("earlier-boot", text));
    }
    for namespace in &wiring.namespaces {
        if !namespace.has_tasks() {
            facts.push(Evidence::new("no-task", "no process or thread is in its namespace"));
        }
        if let Some(sockets) = namespace.sockets.filter(|sockets| sockets.held() == 0) {
            let text = match sockets.tcp_orphans {
                0 => "no socket is in its namespace".to_owned(),
                n => format!("no socket is in its namespace but {n} TCP connections that nobody has"),
            };
            facts.push(Evidence::new("no-socket", text));
        }
        facts.extend(namespace.pins.iter().map(|pin| match &pin.seen_by {
            None => Evidence::new("pin", format!("pinned by the mount {}", pin.path.display())),
            Some(task) => {
                let text = format!("pinned by the mount {} where {task} lives", pin.path.display());
                Evidence::new("pin", text)
            }
        }));
    }
    if wiring.namespaces.is_empty() {
        let was = wiring.cache.iter().find_map(|entry| entry.netns.as_ref());
        let was = was.or_else(|| wiring.records.first().map(|record| &record.netns));
        facts.push(match was {
            Some(path) => {
                Evidence::new("namespace-gone", format!("its namespace {} is gone", path.display()))
            }
            None => Evidence::new("namespace-gone", "no namespace has its address"),
        });
    }
    facts
}
