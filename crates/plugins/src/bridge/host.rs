//! The host's side: the bridge, and the veth's end that is a port of it.

use std::os::fd::AsFd;

use cni::{Code, Error, Result};
use ipnet::IpNet;
use model::{AttachmentKey, IfName, Link, MacAddr};
use netlink::link::{self, Change, Veth};
use netlink::{Socket, addr};
use sys::NetNs;

use super::settings::Settings;

/// A failed request, as CNI has it.
pub(super) fn kernel(error: netlink::Error) -> Error {
    Error::new(Code::Internal, error.to_string())
}

/// A MAC that nobody else has.
pub(super) fn new_mac() -> Result<MacAddr> {
    let random = sys::random().map_err(|error| Error::new(Code::Io, "no random numbers").details(error))?;
    Ok(MacAddr::local(random))
}

/// The bridge, made if need be, up.
pub(super) fn bridge(socket: &mut Socket, settings: &Settings) -> Result<Link> {
    let name = settings.bridge.as_str();
    let found = match link::by_name(socket, name) {
        Err(error) if error.is_gone() => {
            let create = link::create_bridge(&settings.bridge, Some(new_mac()?), settings.mtu_bytes);
            match socket.ack(create) {
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
    let change = Change {
        up: (!found.up).then_some(true),
        // The flag is not in the dump of an interface that is promiscuous for other reasons; setting it twice does no harm.
        promisc: settings.promiscuous.then_some(true),
        ..Change::default()
    };
    if change != Change::default() {
        socket.ack(link::change(found.index, &change)).map_err(|error| kernel(error.on(name)))?;
    }
    Ok(found)
}

/// Makes the veth: the host's end up, stamped and in the bridge, the other one in the container's namespace.
pub(super) fn veth(
    socket: &mut Socket,
    settings: &Settings,
    bridge: &Link,
    key: &AttachmentKey,
    host: (&IfName, MacAddr),
    container: (MacAddr, &NetNs),
) -> Result<()> {
    let (name, mac) = host;
    let (peer_mac, netns) = container;
    let veth = Veth {
        name,
        mac: Some(mac),
        master: Some(bridge.index),
        mtu_bytes: settings.mtu_bytes,
        peer_name: &key.ifname,
        peer_mac: Some(peer_mac),
        peer_netns: Some(netns.as_fd()),
    };
    let alias = key.alias();
    let stamp = Change { alias: Some(&alias), ..Change::default() };
    let mut answers = socket
        .batch(vec![link::create_veth(&veth), link::change_by_name(name, &stamp)])
        .map_err(kernel)?
        .each()
        .into_iter();
    match answers.next().flatten() {
        Some(error) if error.exists() => {
            return Err(Error::new(
                Code::Internal,
                format!("the container has an interface {} already", key.ifname),
            )
            .details(error));
        }
        Some(error) => return Err(kernel(error.on(name))),
        None => {}
    }
    if let Some(error) = answers.next().flatten() {
        return Err(kernel(error.on(name)));
    }
    if settings.hairpin || settings.isolated {
        let port = link::by_name(socket, name.as_str()).map_err(kernel)?;
        let flag = |on: bool| on.then_some(true);
        let change = link::change_port(port.index, flag(settings.hairpin), flag(settings.isolated));
        socket.ack(change).map_err(|error| kernel(error.on(name)))?;
    }
    Ok(())
}

/// Gives the bridge a gateway's address.
///
/// Nearly always it has it: so it is added first, and only when that succeeds are the others looked at. Another IPv4 address, or
/// an overlapping IPv6 subnet, is an error unless `forceAddress` allows to replace it, as with the reference plugin.
pub(super) fn gateway(socket: &mut Socket, settings: &Settings, bridge: &Link, address: IpNet) -> Result<()> {
    match socket.ack(addr::add(bridge.index, address, settings.detect_duplicates)) {
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
    for other in clashes {
        socket.ack(addr::delete(bridge.index, other)).map_err(kernel)?;
    }
    Ok(())
}

/// Lets the host forward for containers of this family, if it does not yet.
pub(super) fn forward(is_ipv4: bool) -> Result<()> {
    let name = if is_ipv4 { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" };
    let fail =
        |error: std::io::Error| Error::new(Code::Io, format!("cannot set sysctl {name}")).details(error);
    if sys::read_sysctl(name).map_err(fail)? != "1" {
        sys::write_sysctl(name, "1").map_err(fail)?;
    }
    Ok(())
}
