//! Attachments as they come and go: events joined to lines.
//!
//! A link appears before the files that say whose it is, and may vanish before or after them. So a line waits until it can say
//! all, but not longer than [`PATIENCE`]. Nothing here reads a clock: the caller says what time it is.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use model::{
    AttachmentKey, Call, Caller, Claim, ClaimKind, Event, IfIndex, Link, MacAddr, PodName, Timestamp,
};
use serde::Serialize;

/// How long a line waits for what belongs to it. An ADD or DEL takes milliseconds; chains with many plugins, or a busy node, take
/// longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A moment, by the wall clock and by one that nobody sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// For people.
    pub wall: Timestamp,
    /// Since boot.
    pub clock: Duration,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: Happening,
    /// The interface on the host; an attachment by macvlan or the like has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// Network, container and interface; absent when no lease, cache entry, record or stamp tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment: Option<AttachmentKey>,
    /// Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// Who made or removed the interface; `None`: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Caller>,
    /// For what vanished: whether a DEL cleaned up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub del: Option<Del>,
    /// For the beginning and a resync: what there is, and why it was read again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// From now on, changes are told.
    Began,
    /// Something was missed, and everything was read again; when what follows happened is not known exactly.
    Resync,
    /// An attachment is there.
    Appeared,
    /// It is not there any more.
    Vanished,
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Index.
    pub index: IfIndex,
    /// `veth`, `ifb`, …
    pub kind: String,
    /// Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

/// Whether a DEL cleaned up after an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Del {
    /// Its leases, cache entries and records were removed, too.
    Seen,
    /// Some of them were, others are still there.
    Incomplete,
    /// All of them are still there: they leak.
    NotSeen,
    /// There were none that podplumb knows.
    Unknown,
}

#[derive(Debug)]
struct Tracked {
    link: Link,
    since: Moment,
    told: bool,
    key: Option<AttachmentKey>,
    pod: Option<PodName>,
}

#[derive(Debug)]
struct Leaving {
    tracked: Tracked,
    since: Moment,
}

/// An attachment of which only files are known.
#[derive(Debug)]
struct Bare {
    pod: Option<PodName>,
    since: Moment,
    told: bool,
}

/// What is known while watching.
#[derive(Debug, Default)]
pub struct Watch {
    links: BTreeMap<IfIndex, Tracked>,
    leaving: Vec<Leaving>,
    bare: BTreeMap<AttachmentKey, Bare>,
    claims: BTreeMap<PathBuf, Claim>,
    /// Plugins that were at work lately.
    calls: VecDeque<(Duration, Call)>,
    /// What was removed lately.
    released: VecDeque<(Duration, Claim)>,
}

impl Watch {
    /// Takes in an event, and returns the lines that can be told now.
    pub fn hear(&mut self, event: Event, now: Moment) -> Vec<Line> {
        let mut lines = Vec::new();
        match event {
            Event::Everything { links, claims, missed } => {
                lines.push(self.everything(links, claims, missed, now))
            }
            Event::Link { link } => self.link(*link, now),
            Event::Calls(calls) => self.calls.extend(calls.into_iter().map(|call| (now.clock, call))),
            Event::LinkGone { index, moved: true } => drop(self.links.remove(&index)),
            Event::LinkGone { index, moved: false } => {
                if let Some(tracked) = self.links.remove(&index) {
                    self.leaving.push(Leaving { tracked, since: now });
                }
            }
            Event::Claimed(claim) => self.claimed(claim, now),
            Event::Released(path) => {
                if let Some(claim) = self.claims.remove(&path) {
                    self.released.push_back((now.clock, claim));
                }
            }
        }
        lines.extend(self.due(now));
        lines
    }

    /// The lines whose time has come.
    pub fn due(&mut self, now: Moment) -> Vec<Line> {
        let late = |since: Moment| now.clock.saturating_sub(since.clock) >= PATIENCE;
        let mut lines = Vec::new();
        let claims = &self.claims;
        for tracked in self.links.values_mut().filter(|tracked| !tracked.told) {
            // The cache entry is what a runtime writes last, and the pod stands in it.
            let is_last = |claim: &Claim, key| claim.kind == ClaimKind::Cache && claim.is_about(key);
            let whole = |key| tracked.pod.is_some() || claims.values().any(|claim| is_last(claim, key));
            let joined = tracked.key.as_ref().is_some_and(whole);
            if joined || late(tracked.since) {
                tracked.told = true;
                lines.push(appeared(tracked, &self.calls));
            }
        }
        for (key, bare) in self.bare.iter_mut().filter(|(_, bare)| !bare.told && late(bare.since)) {
            bare.told = true;
            lines.push(Line {
                attachment: Some(key.clone()),
                pod: bare.pod.clone(),
                ..line(bare.since, Happening::Appeared)
            });
        }
        self.released.retain(|(at, _)| now.clock.saturating_sub(*at) < 2 * PATIENCE);
        self.calls.retain(|(at, _)| now.clock.saturating_sub(*at) < 2 * PATIENCE);
        let (claims, released, calls) = (&self.claims, &self.released, &self.calls);
        self.leaving.retain(|leaving| {
            let del = del(leaving.tracked.key.as_ref(), claims, released);
            let is_final = matches!(del, Del::Seen) || late(leaving.since);
            if is_final {
                if !leaving.tracked.told {
                    lines.push(appeared(&leaving.tracked, calls));
                }
                lines.push(vanished(leaving, del, calls));
            }
            !is_final
        });
        self.bare.retain(|key, bare| {
            let is_there = claims.values().any(|claim| claim.kind != ClaimKind::Lease && claim.is_about(key));
            if !is_there && bare.told {
                let del = Some(del(Some(key), claims, released));
                let (attachment, pod) = (Some(key.clone()), bare.pod.clone());
                lines.push(Line { attachment, pod, del, ..line(now, Happening::Vanished) });
            }
            is_there
        });
        lines
    }

    /// When [`Watch::due`] may have something to tell even if nothing happens; by the clock that nobody sets.
    pub fn deadline(&self) -> Option<Duration> {
        let links = self.links.values().filter(|tracked| !tracked.told).map(|tracked| tracked.since);
        let bare = self.bare.values().filter(|bare| !bare.told).map(|bare| bare.since);
        let leaving = self.leaving.iter().map(|leaving| leaving.since);
        links.chain(bare).chain(leaving).map(|since| since.clock + PATIENCE).min()
    }

    /// The lines that wait, as far as they are known: nobody will ask again.
    pub fn end(&mut self, now: Moment) -> Vec<Line> {
        self.due(Moment { clock: now.clock + PATIENCE, ..now })
    }

    fn everything(
        &mut self,
        links: Vec<Link>,
        claims: Vec<Claim>,
        missed: Option<String>,
        now: Moment,
    ) -> Line {
        let begins = missed.is_none();
        let gone: Vec<PathBuf> = self
            .claims
            .keys()
            .filter(|path| !claims.iter().any(|claim| claim.path == **path))
            .cloned()
            .collect();
        for path in gone {
            self.released.extend(self.claims.remove(&path).map(|claim| (now.clock, claim)));
        }
        for claim in claims {
            self.claimed(claim, now);
        }
        let indexes: Vec<IfIndex> = links.iter().map(|link| link.index).collect();
        for link in links {
            self.link(link, now);
        }
        let lost: Vec<IfIndex> =
            self.links.keys().filter(|index| !indexes.contains(index)).copied().collect();
        for index in lost {
            let tracked = self.links.remove(&index).expect("it was just listed");
            self.leaving.push(Leaving { tracked, since: now });
        }
        if begins {
            self.links.values_mut().for_each(|tracked| tracked.told = true);
            self.bare.values_mut().for_each(|bare| bare.told = true);
        }
        let count = self.links.len() + self.bare.len();
        let note = match missed {
            Some(why) => format!("{why}; {count} attachments are there now"),
            None => format!("{count} attachments are there"),
        };
        Line { note: Some(note), ..line(now, if begins { Happening::Began } else { Happening::Resync }) }
    }

    fn link(&mut self, link: Link, now: Moment) {
        let stamp = link.alias.as_deref().and_then(AttachmentKey::from_alias);
        // Whatever else is on a host (hardware, bridges, tunnels) is no container's.
        if link.kind != "veth" && stamp.is_none() && !self.claims.values().any(|claim| names(claim, &link)) {
            return;
        }
        let index = link.index;
        let tracked = self.links.entry(index).or_insert_with(|| Tracked {
            link: link.clone(),
            since: now,
            told: false,
            key: None,
            pod: None,
        });
        tracked.link = link;
        tracked.key = tracked.key.take().or(stamp);
        self.join(index);
    }

    fn claimed(&mut self, claim: Claim, now: Moment) {
        let (key, pod, kind) = (claim.key(), claim.pod.clone(), claim.kind);
        let named: Vec<IfIndex> = self
            .links
            .values()
            .filter(|tracked| names(&claim, &tracked.link) || key.is_some() && tracked.key == key)
            .map(|tracked| tracked.link.index)
            .collect();
        let is_new = self.claims.insert(claim.path.clone(), claim).is_none();
        for index in &named {
            self.join(*index);
        }
        let Some(key) = key.filter(|key| kind != ClaimKind::Lease && key.ifname.as_str() != "lo") else {
            return;
        };
        let leaves = self.leaving.iter().any(|leaving| leaving.tracked.key.as_ref() == Some(&key));
        if is_new && named.is_empty() && !leaves {
            let bare = self.bare.entry(key).or_insert(Bare { pod: None, since: now, told: false });
            bare.pod = bare.pod.take().or(pod);
        }
    }

    /// Finds out whose a link is, from what is known by now.
    fn join(&mut self, index: IfIndex) {
        let Some(tracked) = self.links.get_mut(&index) else { return };
        if tracked.key.is_none() {
            tracked.key = self.claims.values().find(|claim| names(claim, &tracked.link)).and_then(Claim::key);
        }
        let Some(key) = &tracked.key else { return };
        if tracked.pod.is_none() {
            let own = self.claims.values().filter(|claim| claim.is_about(key));
            tracked.pod = own.filter_map(|claim| claim.pod.clone()).next();
        }
        if self.bare.get(key).is_some_and(|bare| !bare.told) {
            self.bare.remove(key);
        }
    }
}

/// Whether a file names this interface of the host.
fn names(claim: &Claim, link: &Link) -> bool {
    let mut named = claim.host_interfaces.iter();
    link.kind != "bridge"
        && named.any(|(name, mac)| {
            *name == link.name && mac.is_none_or(|mac| link.mac.is_none_or(|own| own == mac))
        })
}

fn del(
    key: Option<&AttachmentKey>,
    claims: &BTreeMap<PathBuf, Claim>,
    released: &VecDeque<(Duration, Claim)>,
) -> Del {
    let Some(key) = key else { return Del::Unknown };
    let remains = claims.values().any(|claim| claim.is_about(key));
    let went = released.iter().any(|(_, claim)| claim.is_about(key));
    match (remains, went) {
        (false, true) => Del::Seen,
        (true, true) => Del::Incomplete,
        (true, false) => Del::NotSeen,
        (false, false) => Del::Unknown,
    }
}

fn line(at: Moment, event: Happening) -> Line {
    Line { at: at.wall, event, interface: None, attachment: None, pod: None, by: None, del: None, note: None }
}

fn appeared(tracked: &Tracked, calls: &VecDeque<(Duration, Call)>) -> Line {
    let by = caller(tracked, "ADD", calls);
    Line { by, ..about(tracked, tracked.since, Happening::Appeared) }
}

fn vanished(leaving: &Leaving, del: Del, calls: &VecDeque<(Duration, Call)>) -> Line {
    let by = caller(&leaving.tracked, "DEL", calls);
    Line { by, del: Some(del), ..about(&leaving.tracked, leaving.since, Happening::Vanished) }
}

/// The plugin that was at work for its container. That some plugin was at work at that moment proves nothing about a link of
/// which it is not known whose it is.
fn caller(tracked: &Tracked, command: &str, calls: &VecDeque<(Duration, Call)>) -> Option<Caller> {
    let key = tracked.key.as_ref()?;
    let own = |call: &&(Duration, Call)| call.1.command == command && call.1.container == key.container;
    calls.iter().find(own).map(|(_, call)| call.by.clone())
}

fn about(tracked: &Tracked, at: Moment, event: Happening) -> Line {
    let Link { name, index, kind, mac, .. } = tracked.link.clone();
    let (attachment, pod) = (tracked.key.clone(), tracked.pod.clone());
    Line { interface: Some(Interface { name, index, kind, mac }), attachment, pod, ..line(at, event) }
}
