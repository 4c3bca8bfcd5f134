//! What the host's own namespace says: routes, neighbours, forwarding databases, sysctls, conntrack.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use model::{Conntrack, FdbEntry, Gap, Namespace, Neighbour, Route, Source, TranslatedFlow};
use netlink::{Socket, conntrack, neigh, route};

/// Sysctls that decide whether container traffic passes, by slashed name.
const SYSCTLS: [&str; 9] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/all/disable_ipv6",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/ipv4/neigh/default/gc_thresh3",
];

#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) routes: Vec<Route>,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) fdb: Vec<FdbEntry>,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) conntrack: Option<Conntrack>,
    pub(crate) gaps: Vec<Gap>,
}

pub(crate) fn read() -> Host {
    let mut host = Host::default();
    match Socket::route() {
        Ok(mut socket) => {
            host.routes = or_gap(route::list(&mut socket), "routes", &mut host.gaps);
            host.neighbours = or_gap(neigh::neighbours(&mut socket), "neighbours", &mut host.gaps);
            host.fdb = or_gap(neigh::fdb(&mut socket), "forwarding database", &mut host.gaps);
        }
        Err(error) => or_gap(Err(error), "rtnetlink", &mut host.gaps),
    }
    for name in SYSCTLS {
        // A sysctl whose module is not loaded does not exist: that is an answer too.
        if let Ok(value) = sys::read_sysctl(name) {
            host.sysctls.insert(name.replace('/', "."), value);
        }
    }
    let number = |name| sys::read_sysctl(name).ok()?.parse().ok();
    host.conntrack = number("net/netfilter/nf_conntrack_count")
        .zip(number("net/netfilter/nf_conntrack_max"))
        .map(|(count, max)| Conntrack { count, max });
    host
}

/// Connections that are led to an address which none of these namespaces has on an interface. Those of the living are not listed: there may be a
/// hundred thousand of them.
pub(crate) fn flows(namespaces: &[Namespace], gaps: &mut Vec<Gap>) -> Vec<TranslatedFlow> {
    // To list none the kernel goes through the table of the whole machine: 9 ms.
    let count = sys::read_sysctl("net/netfilter/nf_conntrack_count");
    if count.is_err() || count.is_ok_and(|count| count == "0") {
        return Vec::new();
    }
    let links = namespaces.iter().flat_map(|namespace| &namespace.links);
    let own: HashSet<IpAddr> = links.flat_map(|link| &link.addresses).map(|net| net.addr()).collect();
    let flows = Socket::netfilter()
        .and_then(|mut socket| conntrack::translated(&mut socket, |address| !own.contains(&address)));
    or_gap(flows, "connections", gaps)
}

fn or_gap<T: Default>(result: netlink::Result<T>, object: &str, gaps: &mut Vec<Gap>) -> T {
    result.unwrap_or_else(|error| {
        // Routes and neighbours hold nothing alive, so this gap is not one of `Source::Links`.
        gaps.push(Gap {
            source: Source::Namespace,
            object: format!("host: {object}"),
            why: error.to_string(),
        });
        T::default()
    })
}
