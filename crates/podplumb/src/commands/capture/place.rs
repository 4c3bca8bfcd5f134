//! From what the user names to interfaces that are listened to.

use std::time::Instant;

use analyze::places::{Place, Side, Unclear, places};
use analyze::render::printable;
use model::{Namespace, Snapshot};
use probe::capture::{Counts, LinkType};
use probe::filter::Filter;
use probe::listening::Listening;
use sys::NetNs;

use crate::output::hinted;

/// What the kernel keeps of packets until they are read, of all interfaces together, and of each.
const BUFFER_BYTES: usize = 64 << 20;
const MOST_BYTES: usize = 32 << 20;
const LEAST_BYTES: usize = 4 << 20;

/// An interface that is listened to, until it is gone.
pub(super) struct Open {
    /// `web-1/eth0`. Not fit for a terminal yet.
    pub(super) name: String,
    pub(super) description: String,
    pub(super) link: LinkType,
    pub(super) listening: Option<Listening>,
    pub(super) is_down: bool,
    pub(super) gone_since: Option<Instant>,
    /// As they were when they were told.
    pub(super) counts: Counts,
}

pub(super) fn resolve<'a>(
    snapshot: &'a Snapshot,
    questions: &[String],
    both_ends: bool,
) -> anyhow::Result<Vec<Place<'a>>> {
    let mut all: Vec<Place<'a>> = Vec::new();
    for question in questions {
        for place in places(snapshot, question, both_ends).map_err(|unclear| refuse(question, &unclear))? {
            let is_it = |other: &Place<'_>| {
                other.index == place.index && std::ptr::eq(other.namespace, place.namespace)
            };
            if !all.iter().any(is_it) {
                all.push(place);
            }
        }
    }
    Ok(all)
}

fn refuse(question: &str, unclear: &Unclear) -> anyhow::Error {
    let list =
        |names: &[String]| names.iter().map(|name| format!("\n  {}", printable(name))).collect::<String>();
    match unclear {
        Unclear::Nothing => hinted(
            format!("nothing on this node goes by {question:?}"),
            "give a pod, container, pid, address, veth, bridge or uplink; `podplumb map` shows what is here",
        ),
        Unclear::Several(names) => hinted(
            format!("{question:?} fits {}, and nothing was captured:{}", names.len(), list(names)),
            "say which: NAMESPACE/NAME of a pod, a container's id, pid:N, ifindex:N",
        ),
        Unclear::NoNamespace { label } => hinted(
            format!("{} has no namespace of its own any more", printable(label)),
            "`podplumb pods` lists what lives here",
        ),
        Unclear::NoInterface { label, has } => {
            let has = if has.is_empty() { "\n  none".to_owned() } else { list(has) };
            let what = format!("{question:?}: {} has no such interface, but these:{has}", printable(label));
            hinted(what, "POD%NAME means the interface NAME of a pod")
        }
        Unclear::HostProcess => hinted(
            format!("{question:?} is a process in the host's own network"),
            "name an interface of the host: `podplumb map` shows them",
        ),
    }
}

pub(super) fn open(
    wanted: &[Place<'_>],
    filter: Option<&Filter>,
    snap_bytes: u32,
) -> anyhow::Result<Vec<Open>> {
    let buffer_bytes = (BUFFER_BYTES / wanted.len().max(1)).clamp(LEAST_BYTES, MOST_BYTES);
    let mut all = Vec::new();
    for place in wanted {
        let name = printable(&place.name);
        let netns = enter(place.namespace).ok_or_else(|| {
            let hint = "it may have ended: `podplumb pods` lists what is here";
            hinted(format!("the namespace of {name} cannot be opened"), hint)
        })?;
        let listening = Listening::open(&netns, place.index, filter, snap_bytes, buffer_bytes);
        let listening = listening.map_err(|failure| {
            let hint = "it may be gone: `podplumb map` shows what is here";
            hinted(format!("{name}: {failure}"), hint)
        })?;
        all.push(Open {
            name: place.name.clone(),
            description: describe(place),
            link: listening.link(),
            listening: Some(listening),
            is_down: false,
            gone_since: None,
            counts: Counts::default(),
        });
    }
    Ok(all)
}

/// Opens a namespace by whatever leads to it, and makes sure that it is the one that was seen.
fn enter(namespace: &Namespace) -> Option<NetNs> {
    if namespace.host {
        return NetNs::current().ok();
    }
    let is_it = |netns: &NetNs| match (namespace.ns_id, netns.id()) {
        (Some(wanted), Some(is)) => wanted == is,
        _ => netns.inode().ok() == namespace.inode,
    };
    let by_id = namespace.ns_id.zip(namespace.inode).and_then(|(id, inode)| NetNs::by_id(id, inode).ok());
    let pins = namespace.own_pins().map(|pin| pin.path.clone());
    let tasks = namespace.tasks.iter().map(|task| task.netns_path());
    let descriptors =
        namespace.descriptors.iter().map(|d| format!("/proc/{}/fd/{}", d.task.pid, d.fd).into());
    let paths = pins.chain(tasks).chain(descriptors);
    by_id.or_else(|| paths.filter_map(|path| NetNs::open(path).ok()).find(is_it))
}

/// For the file: whose interface it is.
fn describe(place: &Place<'_>) -> String {
    let container = place.container.as_ref().map(|id| format!(", container {id}")).unwrap_or_default();
    let (interface, owner) = (&place.interface, place.owner.as_deref().unwrap_or_default());
    match place.side {
        Side::Inside => format!("{interface} inside {owner}{container}"),
        Side::HostEnd => format!("{interface}, the host's end of {owner}{container}"),
        Side::Host => format!("{interface} of the host"),
    }
}
