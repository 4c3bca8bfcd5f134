//! Who is on a link: all interfaces with a network stack behind them that a broadcast from one would reach, through veths, bridges and
//! tunnels.

use std::collections::HashSet;

use model::{IfIndex, Link};

use super::view::{Across, Place, View};

/// STP's state of a port that forwards.
pub(super) const FORWARDING: u8 = 3;

/// What a broadcast reaches.
#[derive(Default)]
pub(super) struct Segment<'a> {
    /// Interfaces.
    pub(super) ends: Vec<(Place, &'a Link)>,
    /// Interfaces behind which it goes on, out of sight.
    pub(super) open: Vec<(Place, &'a Link)>,
}

/// What a broadcast reaches that leaves by `link`.
pub(super) fn behind<'a>(view: &View<'a>, at: Place, link: &'a Link) -> Segment<'a> {
    let mut search = Search { view, seen: HashSet::new(), found: Segment::default(), queue: Vec::new() };
    search.leave(at, link);
    while let Some((at, link)) = search.queue.pop() {
        search.arrive(at, link);
    }
    search.found
}

struct Search<'v, 'a> {
    view: &'v View<'a>,
    seen: HashSet<(Place, IfIndex)>,
    found: Segment<'a>,
    /// Interfaces at which it arrives.
    queue: Vec<(Place, &'a Link)>,
}

impl<'a> Search<'_, 'a> {
    fn leave(&mut self, at: Place, link: &'a Link) {
        if !link.up || link.loopback {
            return;
        }
        match link.kind.as_str() {
            "veth" => match self.view.across(at, link) {
                Across::To(there, end) => self.queue.push((there, end)),
                Across::Out | Across::Unknown => self.found.open.push((at, link)),
            },
            "bridge" => self.flood(at, link, None),
            "vxlan" => {
                for remote in super::tunnel::flooded(self.view, at, link) {
                    match super::tunnel::far_end(self.view, at, link, remote) {
                        Some((there, end)) => self.queue.push((there, end)),
                        None => self.found.open.push((at, link)),
                    }
                }
            }
            _ => self.found.open.push((at, link)),
        }
    }

    fn arrive(&mut self, at: Place, link: &'a Link) {
        if !link.up || !self.seen.insert((at, link.index)) {
            return;
        }
        let master = link.master.and_then(|master| self.view.link(at, master));
        match master.filter(|master| master.kind == "bridge") {
            Some(bridge) => {
                if !forwards(link) || !bridge.up {
                    return;
                }
                if self.seen.insert((at, bridge.index)) {
                    self.found.ends.push((at, bridge));
                }
                self.flood(at, bridge, Some(link));
            }
            None => self.found.ends.push((at, link)),
        }
    }

    /// Through all ports of a bridge but the one that it came by.
    fn flood(&mut self, at: Place, bridge: &Link, came_by: Option<&Link>) {
        for port in ports(self.view, at, bridge) {
            let is_back = came_by.is_some_and(|came| came.index == port.index);
            let is_isolated = came_by.is_some_and(|came| isolated(came) && isolated(port));
            // No kernel has a bridge that is a port, but a file may.
            if forwards(port) && !is_isolated && !is_back && port.kind != "bridge" {
                self.leave(at, port);
            }
        }
    }
}

/// Ports of a bridge.
pub(super) fn ports<'a>(view: &View<'a>, at: Place, bridge: &Link) -> impl Iterator<Item = &'a Link> {
    let index = bridge.index;
    view.namespace(at).links.iter().filter(move |link| link.master == Some(index))
}

/// Whether it does, or does in a moment.
pub(super) fn forwards(port: &Link) -> bool {
    port.settling || port.port.is_none_or(|port| port.state == FORWARDING)
}

pub(super) fn isolated(port: &Link) -> bool {
    port.port.is_some_and(|port| port.isolated)
}
