//! The bridge, and the veth's end that is a port of it.

use cni::{Code, Error, Outcome, Result};
use ipnet::IpNet;
use model::Vlans;
use model::{IfName, Link};
use netlink::bridge_vlan;
use netlink::device::{self, Device, Kind};
use netlink::link::{self, Change, Veth};
use netlink::{Socket, addr};

use super::settings::Settings;
use crate::host::{kernel, new_mac};

/// The VLAN that every port is in unless it is taken out.
const DEFAULT_VLAN: u16 = 1;

/// The bridge, made if need be, up.
pub(super) fn bridge(socket: &mut Socket, settings: &Settings) -> Result<Link> {
    let name = settings.bridge.as_str();
    let found = match link::by_name(socket, name) {
        Err(error) if error.is_gone() => {
            let kind = Kind::Bridge { vlans: settings.has_vlans(), stp: false };
            let create = device::create(&Device {
                name: &settings.bridge,
                kind,
                mac: Some(new_mac()?),
                mtu_bytes: settings.mtu_bytes,
                netns: None,
                up: true,
                index: None,
            });
            match socket.ack(create) {
                Err(error) if error.is_unsupported() => return Err(unsupported(kind, error)),
                // Another ADD was faster.
                Err(error) if !error.exists() => return Err(kernel(error.on(name))),
                _ => link::by_name(socket, name).map_err(kernel)?,
            }
        }
        found => found.map_err(kernel)?,
    };
    if found.kind != "bridge" {
        return Err(Error::new(Code::InvalidConfig, format!("{name} exists and is no bridge"))
            .details(format!("it is of kind {:?}", found.kind)));
    }
    let up = (!found.up).then_some(true);
    let promisc = (settings.promiscuous && !found.promiscuous).then_some(true);
    if up.is_some() || promisc.is_some() {
        let change = Change { up, promisc, ..Change::default() };
        socket.ack(link::change(found.index, &change)).map_err(|error| kernel(error.on(name)))?;
    }
    Ok(found)
}

/// A kernel that was built without something.
fn unsupported(kind: Kind, error: netlink::Error) -> Error {
    let message = format!("this kernel cannot make a {} like that", kind.name());
    Error::new(Code::Internal, message).details(format!("it needs {} ({error})", kind.kernel_option()))
}

/// The interface that has the gateway's address: the bridge, or with a VLAN one that is a port of the bridge in that VLAN.
pub(super) fn gateway_interface(socket: &mut Socket, settings: &Settings, bridge: Link) -> Result<Link> {
    let Some(vlan) = settings.vlan else { return Ok(bridge) };
    let name: IfName = format!("{}.{vlan}", bridge.name).parse().map_err(|error| {
        Error::new(Code::InvalidConfig, format!("bridge {} has too long a name for a VLAN", bridge.name))
            .details(error)
    })?;
    let port: IfName = crate::host::veth_name()?;
    match link::by_name(socket, name.as_str()) {
        Ok(found) => return Ok(found),
        Err(error) if !error.is_gone() => return Err(kernel(error)),
        Err(_) => {}
    }
    let veth = Veth {
        name: &port,
        mac: None,
        master: Some(bridge.index),
        mtu_bytes: settings.mtu_bytes,
        peer_name: &name,
        peer_mac: None,
        peer_netns: None,
        indices: None,
    };
    match socket.ack(link::create_veth(&veth)) {
        // Another ADD was faster.
        Err(error) if error.exists() => return link::by_name(socket, name.as_str()).map_err(kernel),
        made => made.map_err(|error| kernel(error.on(&name)))?,
    }
    enter_vlans(socket, settings, &port)?;
    let found = link::by_name(socket, name.as_str()).map_err(kernel)?;
    let up = Change { up: Some(true), ..Change::default() };
    socket.ack(link::change(found.index, &up)).map_err(|error| kernel(error.on(&name)))?;
    Ok(found)
}

/// Sets the port up as the configuration says: hairpin mode, isolation, VLANs.
pub(super) fn configure(socket: &mut Socket, settings: &Settings, port: Option<&IfName>) -> Result<()> {
    let Some(name) = port else { return Ok(()) };
    if settings.hairpin || settings.isolated {
        let port = link::by_name(socket, name.as_str()).map_err(kernel)?;
        let flag = |on: bool| on.then_some(true);
        let change = link::change_port(port.index, flag(settings.hairpin), flag(settings.isolated));
        socket.ack(change).map_err(|error| kernel(error.on(name)))?;
    }
    if settings.has_vlans() { enter_vlans(socket, settings, name) } else { Ok(()) }
}

/// Puts a port into its VLANs.
fn enter_vlans(socket: &mut Socket, settings: &Settings, name: &IfName) -> Result<()> {
    let port = link::by_name(socket, name.as_str()).map_err(kernel)?.index;
    let mut requests = Vec::new();
    if !settings.keeps_default_vlan {
        let default = Vlans { first: DEFAULT_VLAN, last: DEFAULT_VLAN, pvid: false, untagged: false };
        requests.push(bridge_vlan::delete(port, default, false));
    }
    let own = settings.vlan.map(|id| Vlans { first: id, last: id, pvid: true, untagged: true });
    let all = own.into_iter().chain(settings.trunk.iter().copied());
    requests.extend(all.map(|vlans| bridge_vlan::add(port, vlans, false)));
    let answers = socket.batch(requests).map_err(kernel)?;
    answers.all().map_err(|error| match error.is_unsupported() {
        true => unsupported(Kind::Bridge { vlans: true, stp: false }, error.on(name)),
        false => kernel(error.on(name)),
    })
}

/// Gives the bridge, or its interface in the VLAN, a gateway's address.
///
/// Nearly always it has it: so it is added first, and only when that succeeds are the others looked at. Another IPv4 address, or
/// an overlapping IPv6 subnet, is an error unless `forceAddress` allows to replace it, as with the reference plugin.
pub(super) fn give_address(
    socket: &mut Socket,
    settings: &Settings,
    bridge: &Link,
    address: IpNet,
) -> Result<()> {
    let flags = addr::Flags { detect_duplicates: settings.detect_duplicates, no_route: false };
    match socket.ack(addr::add(bridge.index, address, flags)) {
        Ok(()) => {}
        Err(error) if error.exists() => return Ok(()),
        Err(error) => return Err(kernel(error.on(format_args!("{address} to {}", bridge.name)))),
    }
    let all = addr::list(socket, None).map_err(kernel)?;
    let clashes: Vec<IpNet> = all
        .into_iter()
        .filter(|(index, other)| *index == bridge.index && *other != address)
        .map(|(_, other)| other)
        .filter(|other| match (other, address) {
            (IpNet::V4(_), IpNet::V4(_)) => true,
            (IpNet::V6(_), IpNet::V6(_)) => {
                other.contains(&address.network()) || address.contains(&other.network())
            }
            _ => false,
        })
        .collect();
    if let Some(other) = clashes.first().filter(|_| !settings.force_address) {
        let _ = socket.ack(addr::delete(bridge.index, address));
        return Err(Error::new(
            Code::InvalidConfig,
            format!("bridge {} has the address {other}, which is not {address}", bridge.name),
        )
        .details("set forceAddress to have it replaced, or use another bridge"));
    }
    if clashes.is_empty() {
        return Ok(());
    }
    for other in clashes {
        socket.ack(addr::delete(bridge.index, other)).map_err(kernel)?;
    }
    // With an address of the same subnet went those that were added after it.
    match socket.ack(addr::add(bridge.index, address, flags)) {
        Err(error) if !error.exists() => Err(kernel(error.on(format_args!("{address} to {}", bridge.name)))),
        _ => Ok(()),
    }
}

/// Compares bridge and host end with a result.
pub(super) fn check(settings: &Settings, previous: &Outcome) -> Result<()> {
    let failed = |text: String| Error::new(Code::CheckFailed, text);
    let mut socket = Socket::route().map_err(kernel)?;
    let bridge = link::by_name(&mut socket, settings.bridge.as_str())
        .map_err(|error| failed(format!("there is no bridge {}", settings.bridge)).details(error))?;
    // Chained plugins add interfaces of their own to the host, after the veth's end.
    let ends = previous.interfaces.iter().filter(|end| end.sandbox.is_empty() && end.name != bridge.name);
    for end in ends.take(1) {
        let link = link::by_name(&mut socket, &end.name)
            .map_err(|error| failed(format!("the host has no interface {}", end.name)).details(error))?;
        if link.master != Some(bridge.index) {
            return Err(failed(format!("{} is not a port of {}", end.name, bridge.name)));
        }
        if end.mac.is_some() && link.mac != end.mac {
            return Err(failed(format!("{} has another MAC than the result says", end.name)));
        }
    }
    Ok(())
}
