//! Connections that are led to addresses which nobody has.

use std::collections::HashSet;
use std::net::IpAddr;

use model::{Gap, Namespace, TranslatedFlow};
use netlink::{Socket, conntrack};

use crate::stack::of_host;

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
    flows.unwrap_or_else(|error| {
        gaps.push(of_host("connections", error.to_string()));
        Vec::new()
    })
}
