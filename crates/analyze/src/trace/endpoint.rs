//! Which place a name means.

use std::net::IpAddr;

use model::IfIndex;

use super::view::{Place, View};
use super::{End, Question};
use crate::who::Query;
use crate::wiring::is_link_local;

/// Why there is nothing to trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing goes by the name.
    Nobody {
        /// The name.
        name: String,
    },
    /// More than one thing goes by the name.
    Several {
        /// The name.
        name: String,
        /// What does: its label, its node, and something that means it alone.
        found: Vec<(String, String, String)>,
    },
    /// It has no address of the family that is asked for, or none at all.
    NoAddress {
        /// Whose.
        label: String,
        /// Of which family; `None` for both.
        v6: Option<bool>,
    },
    /// The two ends have no family in common.
    Families {
        /// The start.
        from: String,
        /// The end.
        to: String,
    },
    /// The sender has no interface of this name, for a link-local address.
    NoInterface {
        /// The sender.
        label: String,
        /// The name.
        name: String,
        /// What it has.
        has: Vec<String>,
    },
    /// A link-local address is on every link.
    NoScope {
        /// The address.
        address: IpAddr,
    },
}

/// Both ends, resolved.
pub(super) struct Ends {
    pub(super) from: End,
    pub(super) to: End,
    pub(super) place: Place,
    pub(super) source: Option<IpAddr>,
    pub(super) destination: IpAddr,
    pub(super) device: Option<IfIndex>,
}

/// What a name was found to mean.
struct Found {
    place: Option<Place>,
    /// The address, where the name is one.
    address: Option<IpAddr>,
    /// The interface that a link-local address is meant on.
    scope: Option<String>,
    label: String,
}

pub(super) fn resolve(view: &View<'_>, question: &Question) -> Result<Ends, Refusal> {
    let from = start(view, &question.from)?;
    let to = one(view, &question.to)?;
    let place = from.place.ok_or_else(|| Refusal::Nobody { name: question.from.clone() })?;
    let v6 = family(view, &from, &to, question.v6)?;
    let destination = match (to.address, to.place) {
        (Some(address), _) => address,
        (None, Some(there)) => view
            .address(there, v6, Some(place))
            .ok_or_else(|| Refusal::NoAddress { label: to.label.clone(), v6: Some(v6) })?,
        (None, None) => return Err(Refusal::Nobody { name: question.to.clone() }),
    };
    let device = scope(view, place, &from, &to, destination)?;
    let end = |found: &Found, address| End {
        label: found.label.clone(),
        node: found.place.map(|place| view.node(place).to_owned()),
        address,
        is_bound: found.address.is_some() && found.scope.is_none(),
        place: found.place,
    };
    Ok(Ends {
        from: end(&from, from.address),
        to: end(&to, Some(destination)),
        place,
        source: from.address.filter(|_| from.scope.is_none()),
        destination,
        device,
    })
}

/// The interface that a packet for a link-local address has to leave by.
fn scope(
    view: &View<'_>,
    place: Place,
    from: &Found,
    to: &Found,
    destination: IpAddr,
) -> Result<Option<IfIndex>, Refusal> {
    if !(destination.is_ipv6() && is_link_local(destination)) {
        return Ok(None);
    }
    let links = &view.namespace(place).links;
    match &to.scope {
        Some(name) => match links.iter().find(|link| link.name == *name) {
            Some(link) => Ok(Some(link.index)),
            None => Err(Refusal::NoInterface {
                label: from.label.clone(),
                name: name.clone(),
                has: links.iter().filter(|link| !link.loopback).map(|link| link.name.clone()).collect(),
            }),
        },
        None => Err(Refusal::NoScope { address: destination }),
    }
}

fn family(view: &View<'_>, from: &Found, to: &Found, wanted: Option<bool>) -> Result<bool, Refusal> {
    let has = |found: &Found, v6: bool| match (found.address, found.place) {
        (Some(address), _) => address.is_ipv6() == v6,
        (None, Some(place)) => view.address(place, v6, None).is_some(),
        (None, None) => false,
    };
    // Who sends needs no address of its own to be asked about: that is an end of the way, and told as such.
    let fits = |v6: bool| has(to, v6) && from.address.is_none_or(|address| address.is_ipv6() == v6);
    let both = |v6: bool| fits(v6) && has(from, v6);
    match wanted {
        Some(v6) if fits(v6) => Ok(v6),
        Some(v6) => Err(Refusal::NoAddress { label: to.label.clone(), v6: Some(v6) }),
        None => {
            let choice = [false, true].into_iter().find(|v6| both(*v6));
            let choice = choice.or_else(|| [false, true].into_iter().find(|v6| fits(*v6)));
            choice.ok_or_else(|| match (has(to, false), has(to, true)) {
                (false, false) => Refusal::NoAddress { label: to.label.clone(), v6: None },
                _ => Refusal::Families { from: from.label.clone(), to: to.label.clone() },
            })
        }
    }
}

/// Where a packet starts: exactly one place.
fn start(view: &View<'_>, name: &str) -> Result<Found, Refusal> {
    let found = one(view, name)?;
    if found.place.is_some() {
        return Ok(found);
    }
    let Some(address) = found.address else { return Ok(found) };
    match having(view, address).as_slice() {
        [] => Err(Refusal::Nobody { name: name.to_owned() }),
        several => Err(several_of(view, name, several)),
    }
}

/// Everybody who has an address.
fn having(view: &View<'_>, address: IpAddr) -> Vec<Place> {
    let mut places: Vec<Place> =
        view.places().filter(|place| !address.is_loopback() && has(view, *place, address)).collect();
    places.dedup();
    places
}

fn several_of(view: &View<'_>, name: &str, places: &[Place]) -> Refusal {
    let found = places
        .iter()
        .map(|place| (view.label(*place), view.node(*place).to_owned(), unique(view, *place)))
        .collect();
    Refusal::Several { name: name.to_owned(), found }
}

/// The one thing that a name means. An address that several have, or nobody, is just an address: where it leads, the way shows.
fn one(view: &View<'_>, name: &str) -> Result<Found, Refusal> {
    let (plain, scope) = match name.split_once('%') {
        Some((address, scope)) => (address, Some(scope.to_owned())),
        None => (name, None),
    };
    if let Ok(address) = plain.parse::<IpAddr>() {
        let place = match having(view, address).as_slice() {
            [place] => Some(*place),
            _ => None,
        };
        let label = match place {
            Some(place) => view.label(place),
            None => address.to_string(),
        };
        return Ok(Found { place, address: Some(address), scope, label });
    }
    let places = named(view, name);
    match places.as_slice() {
        [] => Err(Refusal::Nobody { name: name.to_owned() }),
        [place] => Ok(Found { place: Some(*place), address: None, scope: None, label: view.label(*place) }),
        several => Err(several_of(view, name, several)),
    }
}

fn has(view: &View<'_>, place: Place, address: IpAddr) -> bool {
    let links = view.namespace(place).links.iter().filter(|link| !link.loopback);
    links.flat_map(|link| &link.addresses).any(|net| net.addr() == address)
}

/// A name that means this place alone.
fn unique(view: &View<'_>, place: Place) -> String {
    let namespace = view.namespace(place);
    namespace.path().map_or_else(|| namespace.label(), |path| path.display().to_string())
}

/// All namespaces that go by a name.
fn named(view: &View<'_>, name: &str) -> Vec<Place> {
    let hosts = view.places().filter(|place| view.namespace(*place).host);
    let nodes: Vec<Place> = hosts.filter(|place| name == "host" || view.node(*place) == name).collect();
    if !nodes.is_empty() {
        return nodes;
    }
    let pinned = |place: &Place| {
        let mut pins = view.namespace(*place).own_pins();
        pins.any(|pin| pin.path.file_name().is_some_and(|file| file == name))
    };
    let pinned: Vec<Place> = view.places().filter(pinned).collect();
    if !pinned.is_empty() {
        return pinned;
    }
    let query = Query::new(name);
    let mut found: Vec<Place> = Vec::new();
    for snapshot in 0..view.snapshots.len() {
        let wirings = view.wirings(snapshot).iter().filter(|wiring| query.matches(wiring).is_some());
        for namespace in wirings.flat_map(|wiring| wiring.namespace()) {
            found.extend(view.place_of(snapshot, namespace));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
