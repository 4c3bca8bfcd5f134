//! Source based routing: what a container sends from this interface's addresses leaves by this interface, by a routing table of its own.

use std::net::IpAddr;

use cni::{Call, Code, Config, Error, Result};
use ipnet::IpNet;
use model::{AttachmentRecord, IfIndex, IfName, PolicyRule};
use netlink::route::{self, NewRoute};
use netlink::{Socket, addr, link, rule};
use serde::Deserialize;

use crate::chained::{Addition, Work};
use crate::host::kernel;
use crate::netns::{self, Container};

/// Tables that nobody uses are looked for from here on; those below 253 that have names are 0 and 253 to 255.
const FIRST_TABLE: u32 = 100;
const RT_TABLE_MAIN: u32 = 254;

/// The addition.
pub(crate) struct SourceRouting {
    table: Option<u32>,
    /// Instead of those of the addresses.
    gateways: Vec<IpAddr>,
    /// The main table keeps a route to each subnet, with the address as its source.
    source_hints: bool,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    table: Option<i64>,
    gateways: Vec<String>,
    add_source_hints: bool,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, message)
}

impl Addition for SourceRouting {
    const TYPE: &'static str = "sbr";

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        let table = match written.table {
            None => None,
            Some(table) => {
                let number = u32::try_from(table).ok().filter(|n| *n != 0 && !(253..=255).contains(n));
                let number = number.ok_or_else(|| {
                    invalid(format!("table {table} is not valid"))
                        .details("253, 254 and 255 are the kernel's")
                });
                Some(number?)
            }
        };
        let parse = |text: &String| {
            text.parse::<IpAddr>()
                .map_err(|error| invalid(format!("gateway {text:?} is not an address")).details(error))
        };
        let gateways = written.gateways.iter().map(parse).collect::<Result<Vec<_>>>()?;
        for v4 in [true, false] {
            if gateways.iter().filter(|ip| ip.is_ipv4() == v4).count() > 1 {
                return Err(invalid("gateways has two of one family"));
            }
        }
        Ok(Self { table, gateways, source_hints: written.add_source_hints })
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        match work.addresses().next() {
            Some(_) => Ok(()),
            None => Err(invalid(format!("{} has no addresses to route by", work.record.key.ifname))),
        }
    }

    fn make(&self, work: &mut Work<'_>) -> Result<()> {
        let ifname = work.record.key.ifname.clone();
        let addresses: Vec<(IpNet, Option<IpAddr>)> =
            work.addresses().map(|net| (net, self.gateway(work, net))).collect();
        let _entered = netns::enter(&work.netns)?;
        let mut socket = Socket::route().map_err(kernel)?;
        let index = link::by_name(&mut socket, ifname.as_str()).map_err(kernel)?.index;
        let all = route::list(&mut socket).map_err(kernel)?;
        let table = match self.table {
            Some(table) => table,
            None => {
                let rules = rule::list(&mut socket).map_err(kernel)?;
                let is_used = |table: u32| {
                    rules.iter().any(|rule| rule.table() == Some(table))
                        || all.iter().any(|route| route.table == table)
                };
                (FIRST_TABLE..).find(|table| !is_used(*table)).unwrap_or(FIRST_TABLE)
            }
        };
        let mut requests = Vec::new();
        // Routes of the interface move over: first copied, then removed where they were.
        let own = all.iter().filter(|route| route.device == Some(index) && route.table == RT_TABLE_MAIN);
        let own = own.filter(|route| !is_link_local(route.destination));
        let moved: Vec<NewRoute> = own.map(of).collect();
        let gateways_last = |route: &&NewRoute| route.gateway.is_some();
        let (by_gateway, on_link): (Vec<&NewRoute>, Vec<&NewRoute>) = moved.iter().partition(gateways_last);
        for route in on_link.iter().chain(&by_gateway) {
            requests.push(route::replace(&NewRoute { table: Some(table), ..(*route).clone() }));
        }
        for (net, gateway) in &addresses {
            let everywhere = if net.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            if let (Some(gateway), Ok(everywhere)) = (gateway, everywhere.parse()) {
                let default = NewRoute::new(everywhere, Some(*gateway), index);
                requests.push(route::replace(&NewRoute { table: Some(table), ..default }));
            }
            requests.push(rule::add(net.addr(), table));
        }
        for route in by_gateway.iter().chain(&on_link) {
            requests.push(route::delete(route));
        }
        if self.source_hints {
            requests.extend(addresses.iter().map(|(net, _)| {
                let source = Some(net.addr());
                route::add(&NewRoute { source, ..NewRoute::new(net.trunc(), None, index) })
            }));
        }
        let answers = socket.batch(requests).map_err(kernel)?;
        answers.all().map_err(|error| kernel(error.on(&ifname)))
    }

    /// Routes end with the interface; rules do not.
    fn unmake(call: &Call, container: Option<&Container>, _: Option<&AttachmentRecord>) -> Result<()> {
        let Some(container) = container else { return Ok(()) };
        let previous = call.config.previous.iter().flat_map(|previous| &previous.ips);
        let mut addresses: Vec<IpAddr> = previous.map(|ip| ip.address.addr()).collect();
        let _entered = netns::enter(container)?;
        let mut socket = Socket::route().map_err(kernel)?;
        addresses.extend(own_addresses(&mut socket, &call.invocation.ifname)?);
        for found in rule::list(&mut socket).map_err(kernel)? {
            let own = source_host(&found).filter(|source| addresses.contains(source));
            let Some((source, table)) = own.zip(found.table()) else { continue };
            match socket.ack(rule::delete(source, table)) {
                Err(error) if !error.is_gone() => return Err(kernel(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self, work: &Work<'_>) -> Result<()> {
        let addresses: Vec<IpAddr> = work.addresses().map(|net| net.addr()).collect();
        let _entered = netns::enter(&work.netns)?;
        let mut socket = Socket::route().map_err(kernel)?;
        let rules = rule::list(&mut socket).map_err(kernel)?;
        match addresses.iter().find(|address| rules.iter().all(|rule| source_host(rule) != Some(**address))) {
            None => Ok(()),
            Some(address) => {
                Err(Error::new(Code::CheckFailed, format!("no routing rule leads packets from {address}")))
            }
        }
    }
}

impl SourceRouting {
    fn gateway(&self, work: &Work<'_>, net: IpNet) -> Option<IpAddr> {
        let given = self.gateways.iter().find(|ip| ip.is_ipv4() == net.addr().is_ipv4());
        let own = || work.outcome.ips.iter().find(|ip| ip.address == net).and_then(|ip| ip.gateway);
        given.copied().or_else(own)
    }
}

/// The one address that a rule is about.
fn source_host(rule: &PolicyRule) -> Option<IpAddr> {
    let whole = rule.source.filter(|net| net.prefix_len() == net.max_prefix_len());
    whole.map(|net| net.addr())
}

fn is_link_local(destination: IpNet) -> bool {
    matches!(destination, IpNet::V6(net) if net.addr().segments()[0] & 0xffc0 == 0xfe80)
}

/// A route that exists, to be made again.
fn of(route: &model::Route) -> NewRoute {
    let v4 = route.destination.addr().is_ipv4();
    NewRoute {
        priority: Some(route.priority).filter(|priority| *priority != 0 && *priority != 1024 || v4),
        scope: Some(route.scope).filter(|_| v4),
        source: route.source,
        mtu_bytes: route.mtu_bytes,
        onlink: route.onlink,
        ..NewRoute::new(route.destination, route.gateway, route.device.unwrap_or(IfIndex(0)))
    }
}

fn own_addresses(socket: &mut Socket, ifname: &IfName) -> Result<Vec<IpAddr>> {
    let index = match link::by_name(socket, ifname.as_str()) {
        Ok(link) => link.index,
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        Err(error) => return Err(kernel(error)),
    };
    let all = addr::list(socket, None).map_err(kernel)?;
    Ok(all.into_iter().filter(|(of, _)| *of == index).map(|(_, net)| net.addr()).collect())
}
