//! A routing domain of its own for a container's interface.

use cni::{Call, Code, Config, Error, Result};
use model::{AttachmentRecord, IfName, Link};
use netlink::device::{self, Kind};
use netlink::link::{self, Change};
use netlink::{Socket, addr, route};
use serde::Deserialize;

use crate::chained::{Addition, Work};
use crate::host::kernel;
use crate::{
    lower,
    netns::{self, Container},
};

const RT_TABLE_MAIN: u32 = 254;

/// The addition.
pub(crate) struct Vrf {
    name: IfName,
    table: Option<u32>,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    vrfname: String,
    table: u32,
}

impl Addition for Vrf {
    const TYPE: &'static str = "vrf";

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        let name = written
            .vrfname
            .parse()
            .map_err(|error| Error::new(Code::InvalidConfig, "vrfname is not valid").details(error))?;
        Ok(Self { name, table: Some(written.table).filter(|table| *table != 0) })
    }

    fn plan(&self, _: &mut Work<'_>) -> Result<()> {
        Ok(())
    }

    fn make(&self, work: &mut Work<'_>) -> Result<()> {
        let ifname = work.record.key.ifname.clone();
        let _entered = netns::enter(&work.netns)?;
        let mut socket = Socket::route().map_err(kernel)?;
        let vrf = self.find_or_make(&mut socket)?;
        let own = link::by_name(&mut socket, ifname.as_str()).map_err(kernel)?;
        if let Some(master) = own.master.filter(|master| *master != vrf.index) {
            return Err(Error::new(Code::Internal, format!("{ifname} has a master already"))
                .details(format!("the interface with index {master}")));
        }
        let addresses = |socket: &mut Socket| -> Result<Vec<ipnet::IpNet>> {
            let all = addr::list(socket, None).map_err(kernel)?;
            Ok(all.into_iter().filter(|(of, _)| *of == own.index).map(|(_, net)| net).collect())
        };
        let before = addresses(&mut socket)?;
        let mut routes = route::made_for(&mut socket, own.index).map_err(kernel)?;
        let join = Change { master: Some(vrf.index), ..Change::default() };
        socket.ack(link::change(own.index, &join)).map_err(|error| kernel(error.on(&ifname)))?;
        // The kernel takes the interface down and up (`cycle_netdev` in drivers/net/vrf.c). With that go its routes, of whatever
        // table, but for those of its addresses; and IPv6 addresses unless net.ipv6.conf.all.keep_addr_on_down is set.
        let after = addresses(&mut socket)?;
        let lost = before.iter().filter(|net| !after.contains(net));
        let lost =
            lost.filter(|net| !matches!(net, ipnet::IpNet::V6(v6) if v6.addr().is_unicast_link_local()));
        let mut requests: Vec<_> =
            lost.map(|net| addr::add(own.index, *net, addr::Flags::default())).collect();
        // Gateways are reached by routes without one.
        routes.sort_by_key(|saved| saved.route.gateway.is_some());
        requests.extend(routes.iter().map(|saved| match (saved.route.table, vrf.vrf_table) {
            (RT_TABLE_MAIN, Some(table)) => saved.restore(table),
            (table, _) => saved.restore(table),
        }));
        socket.batch(requests).map_err(kernel)?.all().map_err(|error| kernel(error.on(&ifname)))
    }

    /// Takes the interface out of its VRF, and removes that if it was the last.
    fn unmake(call: &Call, container: Option<&Container>, _: Option<&AttachmentRecord>) -> Result<()> {
        let name = call.config.raw.get("vrfname").and_then(|name| name.as_str()).unwrap_or_default();
        let (Some(container), false) = (container, name.is_empty()) else { return Ok(()) };
        let _entered = netns::enter(container)?;
        let mut socket = Socket::route().map_err(kernel)?;
        let all = link::list(&mut socket, None).map_err(kernel)?;
        let Some(vrf) = all.iter().find(|link| link.name == name && link.kind == "vrf") else {
            return Ok(());
        };
        let members: Vec<_> = all.iter().filter(|link| link.master == Some(vrf.index)).collect();
        let is_own = |link: &&&model::Link| link.name == call.invocation.ifname.as_str();
        if let Some(own) = members.iter().find(is_own) {
            let leave = Change { no_master: true, ..Change::default() };
            socket.ack(link::change(own.index, &leave)).map_err(|error| kernel(error.on(&own.name)))?;
        }
        if members.iter().any(|link| !is_own(&link)) {
            return Ok(());
        }
        match socket.ack(link::delete(vrf.index)) {
            Err(error) if !error.is_gone() => Err(kernel(error.on(name))),
            _ => Ok(()),
        }
    }

    fn check(&self, work: &Work<'_>) -> Result<()> {
        let failed = |text: String| Error::new(Code::CheckFailed, text);
        let ifname = &work.record.key.ifname;
        let _entered = netns::enter(&work.netns)?;
        let mut socket = Socket::route().map_err(kernel)?;
        let vrf = link::by_name(&mut socket, self.name.as_str())
            .map_err(|error| failed(format!("there is no VRF {}", self.name)).details(error))?;
        let own = link::by_name(&mut socket, ifname.as_str())
            .map_err(|error| failed(format!("the container has no interface {ifname}")).details(error))?;
        match own.master == Some(vrf.index) {
            true => Ok(()),
            false => Err(failed(format!("{ifname} is not in VRF {}", self.name))),
        }
    }
}

impl Vrf {
    fn find_or_make(&self, socket: &mut Socket) -> Result<Link> {
        match link::by_name(socket, self.name.as_str()) {
            Ok(found) if found.kind != "vrf" => {
                return Err(Error::new(Code::InvalidConfig, format!("{} exists and is no VRF", self.name)));
            }
            Ok(found) => {
                let table = found.vrf_table;
                if self.table.is_some() && self.table != table {
                    let table = table.unwrap_or_default();
                    return Err(Error::new(
                        Code::InvalidConfig,
                        format!("VRF {} exists with table {table}", self.name),
                    ));
                }
                return Ok(found);
            }
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(kernel(error)),
        }
        let table = match self.table {
            Some(table) => table,
            None => {
                let all = link::list(socket, None).map_err(kernel)?;
                let is_taken = |table: u32| all.iter().any(|link| link.vrf_table == Some(table));
                (1..).find(|table| !is_taken(*table)).unwrap_or(1)
            }
        };
        let device = device::Device {
            name: &self.name,
            kind: Kind::Vrf { table },
            mac: None,
            mtu_bytes: None,
            netns: None,
            up: true,
            index: None,
        };
        lower::make(socket, &device)?;
        link::by_name(socket, self.name.as_str()).map_err(kernel)
    }
}
