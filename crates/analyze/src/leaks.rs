//! Every wiring of a node with its verdict.

use std::path::PathBuf;
use std::time::Duration;

use model::{ContainerId, Holder, NsId, NsInode, PodName, Snapshot, StaleFile, Timestamp};
use serde::Serialize;

use crate::hazards::{Hazard, hazards};
use crate::plan::{self, Step};
use crate::verdict::{self, Court, Evidence, Ruling, Verdict};
use crate::wiring::{Wiring, wirings};

/// What `podplumb leaks` finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaks {
    /// When the node was looked at.
    pub taken_at: Timestamp,
    /// Orphans first, then unknown, then in use; the oldest first in each.
    pub findings: Vec<Finding>,
    /// What is wrong without being a leak: told, never touched.
    pub hazards: Vec<Hazard>,
}

impl Leaks {
    /// Those with this verdict.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.ruling.verdict == verdict)
    }

    /// How many there are with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.with(verdict).count()
    }
}

/// One wiring, or one stale file, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What to call it: pod, container name, short id, namespace or veth.
    pub label: String,
    /// Container or sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerId>,
    /// Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// Identity of its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_id: Option<NsId>,
    /// Inode of its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_inode: Option<NsInode>,
    /// Since when it exists: the oldest of its pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The verdict and its reasons.
    #[serde(flatten)]
    pub ruling: Ruling,
    /// The last that a log says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard: Option<model::Heard>,
    /// What it consists of.
    pub pieces: Vec<Piece>,
    /// What reclaim would do; empty unless it is an orphan.
    pub steps: Vec<Step>,
}

impl Finding {
    /// Nobody is known to use it: it leaks, or is not known, or may be in the middle of an ADD or DEL, which may have got stuck.
    pub fn is_suspect(&self) -> bool {
        let is_in_flight = matches!(self.ruling.because.code, "young" | "in-flight");
        self.ruling.verdict != Verdict::InUse || is_in_flight
    }
}

/// Kinds of things that leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PieceKind {
    /// A network namespace, pinned or inhabited.
    Namespace,
    /// The host's end of a veth.
    Veth,
    /// Another host interface: an ifb that limits what a container sends.
    Link,
    /// A host-local lease.
    Lease,
    /// An entry of libcni's cache.
    Cache,
    /// A podplumb attachment record.
    Record,
    /// Elements of podplumb's nftables sets.
    Element,
    /// What the reference plugins made in iptables.
    Rules,
    /// Entries of the connection tracking table.
    Flow,
    /// A file that pins nothing.
    StaleFile,
}

impl PieceKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Namespace,
        Self::Veth,
        Self::Link,
        Self::Lease,
        Self::Cache,
        Self::Record,
        Self::Element,
        Self::Rules,
        Self::Flow,
        Self::StaleFile,
    ];

    /// What to call several of them.
    pub fn many(self) -> String {
        match self {
            PieceKind::Cache => "cache entries".to_owned(),
            PieceKind::StaleFile => "stale files".to_owned(),
            PieceKind::Rules => "groups of rules".to_owned(),
            PieceKind::Flow => "addresses with connections".to_owned(),
            one => format!("{one}s"),
        }
    }
}

impl std::fmt::Display for PieceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            PieceKind::Namespace => "namespace",
            PieceKind::Veth => "veth",
            PieceKind::Link => "link",
            PieceKind::Lease => "lease",
            PieceKind::Cache => "cache",
            PieceKind::Record => "record",
            PieceKind::Element => "element",
            PieceKind::Rules => "rules",
            PieceKind::Flow => "flow",
            PieceKind::StaleFile => "file",
        })
    }
}

/// One thing of a wiring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// Its kind.
    pub kind: PieceKind,
    /// Its name: a path, an address, an interface.
    pub object: String,
    /// More about it, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// Judges everything in the snapshot. `earlier` is a previous observation, whose counters are compared.
pub fn leaks(snapshot: &Snapshot, earlier: Option<&Snapshot>, grace: Duration) -> Leaks {
    let court = Court { snapshot, earlier, grace };
    let wirings = wirings(snapshot);
    let wired = wirings.iter().map(|wiring| finding(wiring, court));
    let stale = snapshot.stale_files.iter().map(|file| stale_finding(file, court));
    let broken = snapshot.cache.iter().filter(|entry| entry.key.is_none()).map(|entry| {
        let piece = Piece {
            kind: PieceKind::Cache,
            object: entry.path.display().to_string(),
            detail: entry.problem.clone().unwrap_or_default(),
            since: Some(entry.since),
        };
        let text = "this cache entry cannot be understood, so nobody knows whose it is";
        alone(piece, Verdict::Unknown, Evidence { code: "unreadable-entry", text: text.into() })
    });
    let mut findings: Vec<Finding> =
        wired.chain(stale).chain(broken).chain(crate::flows::findings(court)).collect();
    findings.sort_by(|a, b| {
        (a.ruling.verdict, a.since.is_none(), a.since, &a.label).cmp(&(
            b.ruling.verdict,
            b.since.is_none(),
            b.since,
            &b.label,
        ))
    });
    let hazards = hazards(snapshot, &wirings);
    Leaks { taken_at: snapshot.taken_at, findings, hazards }
}

fn finding(wiring: &Wiring<'_>, court: Court<'_>) -> Finding {
    let ruling = verdict::rule(wiring, court);
    let steps = match ruling.verdict {
        Verdict::Orphan => plan::steps(wiring),
        Verdict::Unknown | Verdict::InUse => Vec::new(),
    };
    let container = wiring
        .container()
        .or_else(|| wiring.stamps.iter().chain(&wiring.owners).next().map(|key| &key.container));
    Finding {
        label: wiring.label(),
        container: container.cloned(),
        pod: wiring.pod_or_logged().cloned(),
        ns_id: wiring.namespace().and_then(|namespace| namespace.ns_id),
        ns_inode: wiring.namespace().and_then(|namespace| namespace.inode),
        since: verdict::times(wiring).min(),
        ruling,
        heard: wiring.heard.cloned(),
        pieces: pieces(wiring, court.snapshot),
        steps,
    }
}

fn pieces(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for namespace in &wiring.namespaces {
        let mut detail = Vec::new();
        detail.extend(namespace.inode.map(|inode| format!("net:[{inode}]")));
        detail.extend(namespace.ns_id.map(|id| format!("ns_id {id}")));
        let since = namespace.pins.iter().find_map(|pin| pin.since);
        let object = namespace.label();
        pieces.push(Piece { kind: PieceKind::Namespace, object, detail: detail.join(", "), since });
    }
    for host in &wiring.links {
        let state = if host.link.up { "UP" } else { "DOWN" };
        let master = host.link.master.and_then(|master| snapshot.host_link(master));
        let master = master.map(|master| format!(", port of {}", master.name)).unwrap_or_default();
        let peer = host.inside.map(|inside| format!(", peer {}", inside.name)).unwrap_or_default();
        let detail = format!("{state}{master}{peer}");
        let kind = if host.link.kind == "veth" { PieceKind::Veth } else { PieceKind::Link };
        pieces.push(Piece { kind, object: host.link.name.clone(), detail, since: None });
    }
    pieces.extend(wiring.leases.iter().map(|lease| Piece {
        kind: PieceKind::Lease,
        object: lease.address.to_string(),
        detail: format!("network {}", lease.network),
        since: Some(lease.since),
    }));
    pieces.extend(wiring.cache.iter().map(|entry| Piece {
        kind: PieceKind::Cache,
        object: entry.path.display().to_string(),
        detail: String::new(),
        since: Some(entry.since),
    }));
    pieces.extend(wiring.records.iter().map(|record| Piece {
        kind: PieceKind::Record,
        object:
            record.seen.as_ref().map_or_else(PathBuf::new, |seen| seen.path.clone()).display().to_string(),
        detail: String::new(),
        since: Some(record.created),
    }));
    pieces.extend(wiring.elements.iter().map(|element| Piece {
        kind: PieceKind::Element,
        object: element.text.clone(),
        detail: String::new(),
        since: None,
    }));
    pieces.extend(wiring.rules.iter().map(|rules| Piece {
        kind: PieceKind::Rules,
        object: rules.to_string(),
        detail: match rules.flavour {
            model::Flavour::Nft => String::new(),
            model::Flavour::Legacy => format!("{}, which is only reported", rules.flavour),
        },
        since: None,
    }));
    pieces
}

/// A file in /run/netns that pins nothing. Runtimes leave empty ones behind when they unmount but do not unlink; the
/// same file exists for a moment in every `ip netns add`.
fn stale_finding(file: &StaleFile, court: Court<'_>) -> Finding {
    let piece = Piece {
        kind: PieceKind::StaleFile,
        object: file.path.display().to_string(),
        detail: "pins nothing".into(),
        since: Some(file.since),
    };
    let age = file.since.age_at(court.snapshot.taken_at);
    let wanted = |path: &PathBuf| model::namespace::run_path(path) == model::namespace::run_path(&file.path);
    let object =
        court.snapshot.runtime_objects().find(|(_, object)| object.netns.as_ref().is_some_and(wanted));
    let mut silent = court.snapshot.runtimes.iter().filter(|runtime| !runtime.answered());
    let answers = court.snapshot.runtimes.iter().any(|runtime| runtime.answered() && !runtime.foreign);
    let silent = silent.find(|runtime| !answers || verdict::may_have_made(runtime.kind, &file.path));
    let evidence = |code, text: String| Evidence { code, text };
    // The mount point of a pin that only another mount namespace has: removing it here would unmount it there.
    let mut pins = court.snapshot.namespaces.iter().flat_map(|namespace| &namespace.pins);
    let mut holders = court.snapshot.namespaces.iter().flat_map(|namespace| &namespace.holders);
    let in_fd = |holder: &Holder| matches!(holder, Holder::PinInFd { path, .. } if wanted(path));
    if pins.any(|pin| wanted(&pin.path)) || holders.any(in_fd) {
        let text = "in another mount namespace it pins a namespace".to_owned();
        return alone(piece, Verdict::InUse, evidence("pinned-elsewhere", text));
    }
    if let Some((runtime, object)) = object {
        let id = crate::wiring::short_id(object.id.as_str());
        let text = format!("{} lists it: {id}, {}", runtime.kind, object.state);
        return alone(piece, Verdict::InUse, evidence("runtime-lists", text));
    }
    if age.is_none_or(|age| age < court.grace) {
        let text = "made within the grace period: it may be about to be mounted over".to_owned();
        return alone(piece, Verdict::InUse, evidence("young", text));
    }
    if file.size_bytes > 0 {
        return alone(
            piece,
            Verdict::Unknown,
            evidence("untied", "it has content: no runtime made it".into()),
        );
    }
    if let Some(runtime) = silent.filter(|_| !court.snapshot.runtime_none) {
        let text = format!("{} at {} does not answer", runtime.kind, runtime.endpoint.display());
        return alone(piece, Verdict::Unknown, evidence("runtime-silent", text));
    }
    if court.snapshot.runtimes.iter().all(|runtime| runtime.foreign) && !court.snapshot.runtime_none {
        return alone(
            piece,
            Verdict::Unknown,
            evidence("no-runtime", "no runtime is known on this node".into()),
        );
    }
    let gap = court.snapshot.coverage.iter().find(|gap| gap.source == model::Source::Mounts);
    if let Some(gap) = gap {
        let text = format!("{} could not be read: {}", gap.object, gap.why);
        return alone(piece, Verdict::Unknown, evidence("unread", text));
    }
    if !crate::wiring::is_runtime_name(&file.path) {
        let text = "nothing ties it to a container: it may have been made by hand".to_owned();
        return alone(piece, Verdict::Unknown, evidence("untied", text));
    }
    let mut finding =
        alone(piece, Verdict::Orphan, evidence("pins-nothing", "an empty file that pins nothing".into()));
    finding.steps = plan::stale_file_steps(file);
    finding
}

pub(crate) fn alone(piece: Piece, verdict: Verdict, because: Evidence) -> Finding {
    let for_orphan = verdict == Verdict::Orphan;
    Finding {
        label: piece.object.clone(),
        container: None,
        pod: None,
        ns_id: None,
        ns_inode: None,
        since: piece.since,
        ruling: Ruling {
            verdict,
            evidence_for: if for_orphan { vec![because.clone()] } else { Vec::new() },
            evidence_against: if for_orphan { Vec::new() } else { vec![because.clone()] },
            because,
        },
        heard: None,
        pieces: vec![piece],
        steps: Vec::new(),
    }
}
