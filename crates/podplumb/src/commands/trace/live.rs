//! `podplumb trace --live`: real packets, watched in every namespace on their way.
//!
//! Each namespace gets a packet socket that keeps our packets only, and a table of rules that has nftables tell what it does with them. Both
//! belong to sockets, and are gone with them, however this ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use analyze::trace::live::{Drop as Dropped, Probe, Seen, Sighting, compare};
use analyze::trace::{Place, Protocol, Trace};
use model::{Namespace, Snapshot};
use nft::watch::{Marked, Watch};
use probe::capture::{Capture, Settings};
use probe::marked::{Kind, LINGER, Mark, Sender};
use sys::NetNs;

use crate::output::{hinted, note};

/// How much of each packet is looked at: the headers of two packets in one another, and the mark.
const SNAP_BYTES: u32 = 256;
/// The first socket that wants packets' times has the kernel begin to note them, which it does a moment later (net_enable_timestamp in
/// net/core/dev.c); until then packets get the time at which they are read.
const UNTIL_TIMES_ARE_NOTED: Duration = Duration::from_millis(5);
/// Between looks at all sockets.
const PAUSE: Duration = Duration::from_micros(200);

/// Sends a small packet, and one as large as the sender's interface takes, and compares where they were seen with the computed way.
pub(super) fn send(snapshots: &[Snapshot], trace: &Trace, patience: Duration) -> anyhow::Result<Vec<Seen>> {
    let Some(home) = trace.from.place else { return Ok(Vec::new()) };
    let from = open(&snapshots[home.snapshot].namespaces[home.namespace]).map_err(|why| {
        hinted(
            format!("{} cannot be entered: {why}", trace.from.label),
            "it may be gone: look again without --live",
        )
    })?;
    let kind = match (trace.packet.protocol, trace.packet.port) {
        (Protocol::Tcp, Some(port)) => Kind::Tcp(port),
        (Protocol::Udp, Some(port)) => Kind::Udp(port),
        _ => Kind::Icmp,
    };
    let first = trace.there.hops.first();
    let to = trace.packet.destination;
    let is_on_link = to.is_ipv6() && analyze::wiring::is_link_local(to);
    let scope = first.and_then(|hop| hop.index).filter(|_| is_on_link).map_or(0, |index| index.0);
    let source = (trace.packet.source, trace.from.is_bound);
    let sender = Sender::open(&from, kind, source, to, scope);
    let mut sender = match sender {
        Ok(sender) => sender,
        Err(failure) => {
            let failed = failure.tell(&trace.from.label, |by| by.to_string());
            return Ok(vec![compare(
                snapshots,
                trace,
                &BTreeSet::new(),
                &Probe { failed: Some(failed), ..Probe::default() },
            )]);
        }
    };
    let ways = std::iter::once(&trace.there).chain(&trace.back);
    let mut places: BTreeSet<Place> = ways.flat_map(|way| &way.hops).map(|hop| hop.place).collect();
    places.insert(home);
    let mut posts = posts(snapshots, &places, sender.mark());
    let watched: BTreeSet<Place> = posts.iter().map(|post| post.place).collect();
    let mut sizes = vec![sender.smallest()];
    // A connection's first segment has one size.
    let largest = first.and_then(|hop| hop.mtu_bytes).map(|mtu| mtu.min(65_535));
    sizes.extend(largest.filter(|bytes| *bytes > sizes[0] && !matches!(kind, Kind::Tcp(_))));
    std::thread::sleep(UNTIL_TIMES_ARE_NOTED);
    let mut seen = Vec::new();
    for bytes in sizes {
        let mut probe = Probe { bytes, ..Probe::default() };
        let goal = |probe: &Probe| compare(snapshots, trace, &watched, probe).arrived;
        watch(&mut sender, &mut posts, &mut probe, patience, goal);
        let mut compared = compare(snapshots, trace, &watched, &probe);
        if !compared.arrived && compared.failed.is_none() {
            compared.failed = gone(snapshots, trace, &mut posts);
        }
        let goes_on = compared.arrived;
        seen.push(compared);
        // What loses small packets says nothing about large ones.
        if !goes_on {
            break;
        }
    }
    close(posts, sender);
    Ok(seen)
}

/// Closes all at once: the kernel waits at each packet socket and each table until nobody looks at it any more, 10 to 20 ms.
fn close(posts: Vec<Post>, sender: Sender) {
    std::thread::scope(|scope| {
        scope.spawn(|| drop(sender));
        for Post { capture, rules, .. } in posts {
            scope.spawn(|| drop(capture));
            scope.spawn(|| drop(rules));
        }
    });
}

/// Where somebody watches.
struct Post {
    place: Place,
    mark: Mark,
    capture: Capture,
    rules: Option<Watch>,
}

/// Opens what watches, in each namespace that can be entered. Whatever cannot be watched is told, and is a hop that is not seen.
fn posts(snapshots: &[Snapshot], places: &BTreeSet<Place>, mark: Mark) -> Vec<Post> {
    let namespaces = || places.iter().map(|place| &snapshots[place.snapshot].namespaces[place.namespace]);
    let links = namespaces().flat_map(|namespace| &namespace.links);
    let ports: BTreeSet<u16> = links.filter_map(|link| Some(link.vxlan?.port)).collect();
    let ports: Vec<u16> = ports.into_iter().collect();
    let filter = mark.filter(&ports);
    let mut posts = Vec::new();
    for place in places {
        let namespace = &snapshots[place.snapshot].namespaces[place.namespace];
        let inside = match open(namespace) {
            Ok(inside) => inside,
            Err(why) => {
                note(format!("{} is not watched: {}", namespace.label(), analyze::render::printable(&why)));
                continue;
            }
        };
        let settings = Settings { interface: None, snap_bytes: SNAP_BYTES, filter: filter.clone() };
        let capture = match Capture::open(&inside, &settings) {
            Ok(capture) => capture,
            Err(failure) => {
                note(format!("{} is not watched: {failure}", namespace.label()));
                continue;
            }
        };
        let marked =
            Marked { protocol: mark.protocol, number: mark.number, offset: mark.offset, vxlan_ports: &ports };
        let rules = match inside.run(|| Watch::open(&marked)) {
            Ok(Ok(rules)) => Some(rules),
            Ok(Err(error)) => {
                note(format!("which rules of {} drop it is not watched: {error}", namespace.label()));
                None
            }
            Err(_) => None,
        };
        posts.push(Post { place: *place, mark, capture, rules });
    }
    posts
}

fn open(namespace: &Namespace) -> Result<NetNs, String> {
    let opened = if namespace.host { NetNs::current() } else { by_path(namespace)? };
    let opened = opened.map_err(|error| error.to_string())?;
    match opened.inode() {
        Ok(inode) if Some(inode) == namespace.inode => Ok(opened),
        Ok(_) => Err("what it was is gone".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn by_path(namespace: &Namespace) -> Result<std::io::Result<NetNs>, String> {
    let by_id = || namespace.ns_id.zip(namespace.inode).map(|(id, inode)| NetNs::by_id(id, inode));
    match namespace.path() {
        Some(path) => Ok(NetNs::open(&path)),
        None => by_id().ok_or_else(|| "nothing leads to it".to_owned()),
    }
}

/// Sends one packet, and collects what is seen of it until `goal` holds or the time is over.
fn watch(
    sender: &mut Sender,
    posts: &mut [Post],
    probe: &mut Probe,
    patience: Duration,
    goal: impl Fn(&Probe) -> bool,
) {
    if let Err(failure) = sender.send(probe.bytes) {
        probe.failed = Some(failure.tell("the sender", |by| by.to_string()));
    }
    let failed = probe.failed.is_some();
    let deadline = Instant::now() + if failed { LINGER } else { patience };
    let mut end = deadline;
    let mut is_over = false;
    loop {
        collect(posts, probe);
        for (by, notice) in sender.told() {
            probe.told.push(format!("{by} says: {notice}"));
        }
        // Something has decided: what else was on the way by then is still waited for.
        if !is_over && (goal(probe) || !probe.told.is_empty() || !probe.drops.is_empty()) {
            is_over = true;
            end = deadline.min(Instant::now() + LINGER);
        }
        if Instant::now() >= end {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

fn collect(posts: &mut [Post], probe: &mut Probe) {
    for post in posts {
        let (place, mark, bytes) = (post.place, post.mark, probe.bytes);
        let (sightings, told) = (&mut probe.sightings, &mut probe.told);
        // An interface that goes away is told once; what is missing then shows in what is not seen.
        let _ = post.capture.read(Instant::now(), |packet| {
            let Some(found) = mark.find(&packet) else { return };
            // That of another size is another probe's; an answer to a connection's first segment has its own.
            if found.bytes == bytes || mark.protocol == 6 {
                if found.is_refusal && told.is_empty() {
                    told.push(
                        "the connection is refused: nobody listens there, or a rule says so".to_owned(),
                    );
                }
                sightings.push(Sighting {
                    place,
                    index: packet.interface,
                    outgoing: packet.outgoing,
                    is_answer: found.is_answer,
                    at_ns: packet.at_ns,
                });
            }
        });
        let dropped = post.rules.as_mut().and_then(|rules| rules.dropped().ok()).unwrap_or_default();
        for drop in dropped.into_iter().filter(|drop| is_ours(mark, &drop.transport)) {
            probe.drops.push(Dropped {
                place,
                family: drop.family,
                table: drop.table,
                chain: drop.chain,
                handle: drop.handle,
            });
        }
    }
}

/// Others may trace as well. What is in a tunnel does not show in the headers that the kernel tells, so it passes here.
fn is_ours(mark: Mark, transport: &[u8]) -> bool {
    let at = mark.offset as usize;
    transport.get(at..at + 4).is_none_or(|number| mark.protocol != 6 || number == mark.number.to_be_bytes())
}

/// What of the way went away while it was watched.
fn gone(snapshots: &[Snapshot], trace: &Trace, posts: &mut [Post]) -> Option<String> {
    let mut by_place: BTreeMap<Place, &mut Post> = posts.iter_mut().map(|post| (post.place, post)).collect();
    trace.there.hops.iter().find_map(|hop| {
        let post = by_place.get_mut(&hop.place)?;
        let index = hop.index?;
        let was_there = snapshots[hop.place.snapshot].namespaces[hop.place.namespace]
            .links
            .iter()
            .any(|link| link.index == index);
        let is_gone = was_there && post.capture.interface_name(index).is_none();
        let name = hop.interface.as_deref().unwrap_or("?");
        is_gone.then(|| format!("{name} of {} went away meanwhile", hop.namespace))
    })
}
