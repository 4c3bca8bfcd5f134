//! What a namespace's network stack does with packets, asked from inside; and what the whole machine has of that.

use std::io::ErrorKind::PermissionDenied;

use model::{
    Conntrack, Gap, InterfaceSettings, Link, Namespace, NeighbourTable, Source, Stack, TrafficFilter,
};
use netlink::{Socket, conntrack, neigh, netconf, qdisc, route, rule};

use crate::{ipvs, socket_table};

/// Sysctls that decide whether packets pass, by slashed name, of namespaces that forward.
const SYSCTLS: [&str; 12] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_no_pmtu_disc",
    "net/ipv4/tcp_mtu_probing",
    "net/ipv4/fib_multipath_hash_policy",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/all/disable_ipv6",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
];

/// What could not be read, and why.
pub(crate) type Unread = Vec<(&'static str, String)>;

/// Reads the stack of the host, whose links are read elsewhere, with its packet filter if that is wanted.
pub(crate) fn of_node(with_filter: bool) -> (Stack, Unread) {
    let mut unread = Unread::new();
    let mut stack = Stack::default();
    match Socket::route() {
        Ok(mut socket) => {
            tables(&mut socket, &mut stack, &mut unread);
            stack.fdb = told(neigh::fdb(&mut socket), "forwarding database", &mut unread);
        }
        Err(error) => unread.push(("rtnetlink", error.to_string())),
    }
    sysctls(&mut stack);
    if with_filter {
        virtual_services(&mut stack, &mut unread);
        stack.ruleset = Some(nft::ruleset_of_here());
    }
    (stack, unread)
}

/// Reads the stack of the calling thread's namespace, which has these links, and adds to each how it treats IPv4 and IPv6.
pub(crate) fn read(links: &mut [Link]) -> (Stack, Unread) {
    let mut unread = Unread::new();
    let mut stack = Stack::default();
    match Socket::route() {
        Ok(mut socket) => {
            tables(&mut socket, &mut stack, &mut unread);
            if links.iter().any(|link| link.bridge.is_some() || link.vxlan.is_some()) {
                stack.fdb = told(neigh::fdb(&mut socket), "forwarding database", &mut unread);
            }
            match settle(&mut socket, links) {
                Ok(settings) => all_of(&settings, &mut stack),
                Err(error) => unread.push(("settings of interfaces", error.to_string())),
            }
            stack.traffic_filters = traffic_filters(&mut socket, links, &mut unread);
        }
        Err(error) => unread.push(("rtnetlink", error.to_string())),
    }
    // Each costs 0.1 ms, and more the more namespaces there are: all have entries of the same names in one directory, among which the kernel
    // looks for the own. What can only send and receive needs no more than `settle` has told.
    if links.iter().filter(|link| !link.loopback).count() > 1 {
        sysctls(&mut stack);
    }
    virtual_services(&mut stack, &mut unread);
    stack.ruleset = Some(nft::ruleset_of_here());
    (stack, unread)
}

fn tables(socket: &mut Socket, stack: &mut Stack, unread: &mut Unread) {
    stack.routes = told(route::list_all(socket), "routes", unread);
    stack.rules = told(rule::list(socket), "routing rules", unread);
    stack.neighbours = told(neigh::neighbours(socket), "neighbours", unread);
}

fn virtual_services(stack: &mut Stack, unread: &mut Unread) {
    match ipvs::services() {
        Ok(services) => stack.virtual_services = services,
        Err(error) => unread.push(("services of IPVS", error.to_string())),
    }
}

fn sysctls(stack: &mut Stack) {
    for name in SYSCTLS {
        // A sysctl whose module is not loaded does not exist: that is an answer too.
        if let Ok(value) = sys::read_sysctl(name) {
            stack.sysctls.insert(name.replace('/', "."), value);
        }
    }
}

/// The sysctls that settings of `all` and `default` are, of IPv4 and IPv6.
fn all_of([v4, v6]: &[netconf::Settings; 2], stack: &mut Stack) {
    let forwards = |all: &netconf::Settings| all.all.map(|all| u8::from(all.forwarding));
    let filters = |settings: Option<InterfaceSettings>| settings.map(|settings| settings.rp_filter);
    for (name, value) in [
        ("net.ipv4.ip_forward", forwards(v4)),
        ("net.ipv4.conf.all.rp_filter", filters(v4.all)),
        ("net.ipv4.conf.default.rp_filter", filters(v4.default)),
        ("net.ipv6.conf.all.forwarding", forwards(v6)),
    ] {
        stack.sysctls.extend(value.map(|value| (name.to_owned(), value.to_string())));
    }
}

/// Adds to each link of the socket's namespace how it treats IPv4 and IPv6, and returns the settings of both.
pub(crate) fn settle(socket: &mut Socket, links: &mut [Link]) -> netlink::Result<[netconf::Settings; 2]> {
    let mut both = [netconf::list(socket, false)?, netconf::list(socket, true)?];
    for (settings, v6) in both.iter_mut().zip([false, true]) {
        // By index, as links are: the kernel lists them in another order.
        settings.each.sort_by_key(|(index, _)| *index);
        for link in &mut *links {
            let found = settings.each.binary_search_by_key(&link.index, |(index, _)| *index).ok();
            let found = found.map(|at| settings.each[at].1);
            *(if v6 { &mut link.ipv6 } else { &mut link.ipv4 }) = found;
        }
    }
    Ok(both)
}

/// What else sees packets at these links of the socket's namespace, which is the calling thread's.
fn traffic_filters(socket: &mut Socket, links: &[Link], unread: &mut Unread) -> Option<Vec<TrafficFilter>> {
    let mut found = qdisc::filters(socket)
        .map_err(|error| unread.push(("filters of traffic control", error.to_string())))
        .ok()?;
    for device in links.iter().map(|link| link.index) {
        for ingress in [true, false] {
            match sys::tcx_programs(device.0, ingress) {
                Ok(programs) => found.extend(programs.into_iter().map(|program| TrafficFilter {
                    device,
                    ingress,
                    kind: "tcx".to_owned(),
                    name: String::new(),
                    program: Some(program),
                    redirect: None,
                })),
                // Whoever may not ask in a user namespace of its own may not attach any there either.
                Err(error) if error.kind() == PermissionDenied && !sys::is_initial_user_namespace() => {
                    return Some(found);
                }
                Err(error) => {
                    unread.push(("programs at interfaces", error.to_string()));
                    return None;
                }
            }
        }
    }
    Some(found)
}

/// The machine's tables of neighbours.
pub(crate) fn neighbour_tables(gaps: &mut Vec<Gap>) -> Vec<NeighbourTable> {
    let tables = Socket::route().and_then(|mut socket| neigh::tables(&mut socket));
    tables.unwrap_or_else(|error| {
        gaps.push(of_host("neighbour tables", error.to_string()));
        Vec::new()
    })
}

/// The UDP sockets that have the port of a VXLAN device of the host that is down; `None` where they could not be listed.
pub(crate) fn vxlan_sockets(namespaces: &[Namespace], gaps: &mut Vec<Gap>) -> Option<Vec<model::Socket>> {
    let host = namespaces.iter().find(|namespace| namespace.host)?;
    let down = host.links.iter().filter(|link| !link.up).filter_map(|link| link.vxlan);
    let ports: Vec<u16> = down.map(|vxlan| vxlan.port).collect();
    let found = socket_table::at_ports(&ports, &host.tasks);
    found.map_err(|error| gaps.push(of_host("UDP sockets", error.to_string()))).ok()
}

/// What else sees packets at the host's interfaces.
pub(crate) fn host_filters(namespaces: &[Namespace], gaps: &mut Vec<Gap>) -> Option<Vec<TrafficFilter>> {
    let host = namespaces.iter().find(|namespace| namespace.host)?;
    let mut unread = Unread::new();
    let socket = Socket::route().map_err(|error| unread.push(("rtnetlink", error.to_string()))).ok();
    let found = socket.and_then(|mut socket| traffic_filters(&mut socket, &host.links, &mut unread));
    gaps.extend(unread.into_iter().map(|(what, why)| of_host(what, why)));
    found
}

/// Adds to each VXLAN device of the host whether it leaves checksums to hardware. Where that cannot be read, it is not known.
pub(crate) fn vxlan_checksums(namespaces: &mut [Namespace]) {
    let links = namespaces.iter_mut().filter(|namespace| namespace.host).flat_map(|host| &mut host.links);
    for link in links {
        if let Some(vxlan) = &mut link.vxlan {
            vxlan.tx_checksum = sys::tx_checksum(&link.name).ok();
        }
    }
}

/// Use of the host's connection tracking; `None` where there is none.
pub(crate) fn conntrack(gaps: &mut Vec<Gap>) -> Option<Conntrack> {
    let number = |name| sys::read_sysctl(name).ok()?.parse().ok();
    let count = number("net/netfilter/nf_conntrack_count")?;
    let max = number("net/netfilter/nf_conntrack_max")?;
    let misses = Socket::netfilter().and_then(|mut socket| conntrack::misses(&mut socket));
    let misses = misses.unwrap_or_else(|error| {
        gaps.push(of_host("connection tracking", error.to_string()));
        conntrack::Misses::default()
    });
    Some(Conntrack { count, max, insert_failed: misses.insert_failed, dropped: misses.dropped })
}

/// Something of the host that could not be read. It holds nothing alive, so it is not one of [`Source::Links`].
pub(crate) fn of_host(what: &str, why: String) -> Gap {
    Gap { source: Source::Namespace, object: format!("host: {what}"), why }
}

fn told<T: Default>(result: netlink::Result<T>, what: &'static str, unread: &mut Unread) -> T {
    result.unwrap_or_else(|error| {
        unread.push((what, error.to_string()));
        T::default()
    })
}
