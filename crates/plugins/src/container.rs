//! An interface in a container: up, with addresses and routes.

use std::time::{Duration, Instant};

use cni::{Code, Error, Outcome, Result};
use model::{IfName, Link};
use netlink::link::{self, Change};
use netlink::route::{self, NewRoute};
use netlink::{Request, Socket, addr};

use crate::host::kernel;

/// Duplicate address detection takes a second or two (RFC 4862); the reference plugin waits ten.
const DAD_PATIENCE: Duration = Duration::from_secs(10);

/// How an interface in a container is set up.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Setup {
    /// It stays down, without addresses and routes.
    pub(crate) down: bool,
    /// Duplicate address detection is waited for.
    pub(crate) detect_duplicates: bool,
    /// Everything goes by the gateway, even what is for the interface's own subnet.
    pub(crate) by_gateway: bool,
}

/// Sets the interface up. The calling thread is in the container's namespace.
pub(crate) fn configure(ifname: &IfName, setup: Setup, outcome: &Outcome) -> Result<Link> {
    let mut socket = Socket::route().map_err(kernel)?;
    let link = link::by_name(&mut socket, ifname.as_str()).map_err(kernel)?;
    if setup.down {
        return Ok(link);
    }
    if !outcome.ips.is_empty() {
        // Neighbours learn the addresses when the interface comes up; without, a reused one keeps its predecessor's MAC in their
        // tables.
        set(&format!("net/ipv4/conf/{ifname}/arp_notify"), "1")?;
    }
    if outcome.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        set(&format!("net/ipv6/conf/{ifname}/disable_ipv6"), "0")?;
        set(&format!("net/ipv6/conf/{ifname}/ndisc_notify"), "1")?;
        if !setup.detect_duplicates {
            // The link-local address, which the kernel adds itself.
            set(&format!("net/ipv6/conf/{ifname}/accept_dad"), "0")?;
        }
    }
    let flags = addr::Flags { detect_duplicates: setup.detect_duplicates, no_route: setup.by_gateway };
    let addresses = outcome.ips.iter().map(|ip| ip.address);
    let mut names: Vec<String> = addresses.clone().map(|address| format!("{address} to {ifname}")).collect();
    let mut requests: Vec<Request> = addresses.map(|address| addr::add(link.index, address, flags)).collect();
    names.push(ifname.to_string());
    requests.push(link::change(link.index, &Change { up: Some(true), ..Change::default() }));
    for ip in outcome.ips.iter().filter(|_| setup.by_gateway) {
        for route in by_gateway(ip, &link).into_iter().flatten() {
            names.push(format!("to {}", route.destination));
            requests.push(route::add(&route));
        }
    }
    for route in &outcome.routes {
        requests.push(request(route, outcome, &link));
        names.push(format!("to {}", route.dst));
    }
    let answers = socket.batch(requests).map_err(kernel)?.each();
    if let Some((error, name)) =
        answers.into_iter().zip(names).find_map(|(answer, name)| Some((answer?, name)))
    {
        return Err(kernel(error.on(name)));
    }
    if setup.detect_duplicates {
        wait_for_detection(ifname)?;
    }
    Ok(link)
}

/// The gateway on the link, and the address's subnet by the gateway.
fn by_gateway(ip: &cni::Ip, link: &Link) -> Option<[NewRoute; 2]> {
    let (gateway, source) = (ip.gateway?, Some(ip.address.addr()));
    let neighbour = NewRoute { source, ..NewRoute::new(gateway.into(), None, link.index) };
    let subnet = NewRoute { source, ..NewRoute::new(ip.address.trunc(), Some(gateway), link.index) };
    Some([neighbour, subnet])
}

/// A result's route, with the address's gateway where it has none of its own.
fn request(route: &cni::Route, outcome: &Outcome, link: &Link) -> Request {
    let is_v4 = route.dst.addr().is_ipv4();
    let of_family = outcome.ips.iter().filter(|ip| ip.address.addr().is_ipv4() == is_v4);
    let gateway = route.gw.or_else(|| of_family.filter_map(|ip| ip.gateway).next());
    // Scope 253 and above means "on the link": such a route has no gateway.
    let gateway = gateway.filter(|_| route.gw.is_some() || route.scope.is_none_or(|scope| scope < 253));
    route::add(&NewRoute {
        mtu_bytes: route.mtu,
        advmss_bytes: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
        ..NewRoute::new(route.dst, gateway, link.index)
    })
}

fn set(name: &str, value: &str) -> Result<()> {
    match sys::write_sysctl(name, value) {
        // A kernel, or a namespace, without IPv6.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::new(Code::Io, format!("cannot set sysctl {name}")).details(error)),
        Ok(()) => Ok(()),
    }
}

/// Waits until no address of the interface is tentative (flag 0x40 of /proc/net/if_inet6), as `enabledad` asks for.
fn wait_for_detection(ifname: &IfName) -> Result<()> {
    let start = Instant::now();
    loop {
        let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
        let flags = table.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let flags = u32::from_str_radix(fields.nth(4)?, 16).ok()?;
            (fields.next()? == ifname.as_str()).then_some(flags)
        });
        let all: Vec<u32> = flags.collect();
        if all.iter().any(|flags| flags & 0x08 != 0) {
            return Err(Error::new(Code::Internal, format!("an IPv6 address of {ifname} is a duplicate")));
        }
        if all.iter().all(|flags| flags & 0x40 == 0) {
            return Ok(());
        }
        if start.elapsed() > DAD_PATIENCE {
            return Err(Error::new(
                Code::Internal,
                format!("duplicate address detection of {ifname} does not end"),
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Compares the interface with a result. The calling thread is in the container's namespace.
pub(crate) fn check(ifname: &IfName, setup: Setup, kind: Option<&str>, previous: &Outcome) -> Result<()> {
    let failed = |text: String| Error::new(Code::CheckFailed, text);
    let mut socket = Socket::route().map_err(kernel)?;
    let link = link::by_name(&mut socket, ifname.as_str())
        .map_err(|error| failed(format!("the container has no interface {ifname}")).details(error))?;
    if let Some(kind) = kind.filter(|kind| *kind != link.kind) {
        return Err(failed(format!("{ifname} is of kind {:?}, not {kind:?}", link.kind)));
    }
    if !link.up && !setup.down {
        return Err(failed(format!("{ifname} is down")));
    }
    let expected = previous
        .interfaces
        .iter()
        .find(|interface| interface.name == ifname.as_str() && !interface.sandbox.is_empty());
    if let Some(mac) = expected.and_then(|interface| interface.mac).filter(|mac| Some(*mac) != link.mac) {
        return Err(failed(format!("{ifname} does not have the MAC {mac}")));
    }
    let own = previous.ips.iter().filter(|ip| {
        let interface = ip.interface.and_then(|at| previous.interfaces.get(at));
        interface.is_none_or(|interface| interface.name == ifname.as_str())
    });
    let addresses = addr::list(&mut socket, None).map_err(kernel)?;
    if let Some(ip) = own.into_iter().find(|ip| !addresses.contains(&(link.index, ip.address))) {
        return Err(failed(format!("{ifname} does not have the address {}", ip.address)));
    }
    let routes = route::list(&mut socket).map_err(kernel)?;
    let missing = previous.routes.iter().find(|wanted| {
        !routes.iter().any(|route| {
            route.destination == wanted.dst.trunc()
                && (wanted.gw.is_none() || route.gateway == wanted.gw)
                && wanted.table.is_none_or(|table| route.table == table)
        })
    });
    match missing {
        Some(route) => Err(failed(format!("the container has no route to {}", route.dst))),
        None => Ok(()),
    }
}
