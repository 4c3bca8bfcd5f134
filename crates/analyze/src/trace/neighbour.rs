//! Who has an address on a link: what the namespace knows already, or who would answer when it asks.

use std::net::IpAddr;

use model::{Link, MacAddr, Neighbour};

use super::segment;
use super::view::{Place, View};
use crate::route::{self, Query, Routed};

const NUD_INCOMPLETE: u16 = 0x01;
const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_DELAY: u16 = 0x08;
const NUD_PROBE: u16 = 0x10;
const NUD_FAILED: u16 = 0x20;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// What is known of a neighbour.
pub(super) enum Found {
    /// Its Ethernet address, and why; with what is doubtful about that.
    At { mac: Option<MacAddr>, fact: String, doubt: Option<String> },
    /// Nobody on the link would answer.
    Nobody { asked_before: bool },
    /// Whether somebody answers is not to be seen: the link goes on out of sight.
    Unseen { fact: String },
}

/// Who has `address` on the link.
pub(super) fn resolve(view: &View<'_>, at: Place, link: &Link, address: IpAddr) -> Found {
    if link.loopback || link.mac.is_none() {
        return Found::At { mac: None, fact: "none: the link has no addresses".into(), doubt: None };
    }
    let known = view.stack(at).into_iter().flat_map(|stack| &stack.neighbours);
    let entry = known.into_iter().find(|entry| entry.device == link.index && entry.address == address);
    if let Some((entry, mac)) = entry.and_then(|entry| Some((entry, entry.mac?)))
        && entry.state & (NUD_INCOMPLETE | NUD_FAILED) == 0
    {
        let fact = format!("{address} is {mac} ({})", state(entry));
        return Found::At { mac: Some(mac), fact, doubt: None };
    }
    let Some(own) = view.link(at, link.index) else { return Found::Nobody { asked_before: false } };
    let segment = segment::behind(view, at, own);
    let mut answers = segment.ends.iter().filter(|(there, end)| answers(view, *there, end, address));
    match (answers.next(), answers.next()) {
        (Some(first), second) => {
            let who = |(there, end): &(Place, &Link)| format!("{} of {}", end.name, view.label(*there));
            let doubt =
                second.map(|second| format!("two answer for {address}: {} and {}", who(first), who(second)));
            let (there, end) = *first;
            let how = if route::is_own(view.namespace(there), address) { "" } else { " for others" };
            let mac = end.mac.map(|mac| mac.to_string()).unwrap_or_default();
            let fact = format!("{address} is asked for; {} answers{how}: {mac}", who(first));
            Found::At { mac: end.mac, fact, doubt }
        }
        (None, _) if segment.open.is_empty() => Found::Nobody { asked_before: entry.is_some() },
        (None, _) => Found::Unseen { fact: format!("{address} is asked for") },
    }
}

/// Whether the network stack behind an interface answers when it is asked for an address.
fn answers(view: &View<'_>, at: Place, link: &Link, address: IpAddr) -> bool {
    if address.is_ipv6() {
        return link.addresses.iter().any(|net| net.addr() == address);
    }
    // With arp_ignore 0, an address of any interface will do.
    let namespace = view.namespace(at);
    if route::is_own(namespace, address) {
        return true;
    }
    let proxies = link.ipv4.is_some_and(|settings| settings.proxy && settings.forwarding);
    let Some(stack) = view.stack(at).filter(|_| proxies) else { return false };
    let query = Query {
        source: None,
        destination: address,
        input: Some(&link.name),
        mark: 0,
        device: None,
        vrf: None,
        of_anybody: false,
    };
    // net/ipv4/arp.c, arp_fwd_proxy: not for what is on the same side.
    matches!(route::look_up(namespace, stack, &query).routed, Routed::Way(way) if way.device != link.index)
}

fn state(entry: &Neighbour) -> &'static str {
    match entry.state {
        state if state & NUD_PERMANENT != 0 => "permanent",
        state if state & NUD_NOARP != 0 => "noarp",
        state if state & NUD_REACHABLE != 0 => "reachable",
        state if state & NUD_STALE != 0 => "stale",
        state if state & NUD_DELAY != 0 => "delay",
        state if state & NUD_PROBE != 0 => "probe",
        _ => "none",
    }
}
