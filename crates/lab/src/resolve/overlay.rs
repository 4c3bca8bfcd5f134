//! How the pods of one node reach those of another.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{IfName, MacAddr};

use super::addresses::Segment;
use super::draft::{Draft, NODE_BRIDGE};
use super::{Result, fault, words};
use crate::topology::OverlayKind;
use crate::wiring::{Device, DeviceKind, FdbEntry, MachineKind, Neighbour, Route};

/// The kernel's and flannel's UDP port for VXLAN.
pub(super) const DEFAULT_PORT: u16 = 8472;
/// MTU of a link that says nothing, in bytes.
pub(super) const DEFAULT_MTU: u32 = 1500;

/// What VXLAN costs, in bytes: the outer IP header, UDP (8), VXLAN (8) and the inner Ethernet header (14).
pub(crate) fn cost(outer: IpAddr) -> u32 {
    if outer.is_ipv4() { 50 } else { 70 }
}

/// A node's end of the overlay.
struct Vtep {
    machine: usize,
    /// Its address between the nodes, and the device that has it.
    outer: IpAddr,
    device: IfName,
    mac: MacAddr,
    /// Its pods' subnets.
    subnets: Vec<IpNet>,
}

/// Adds the devices and routes of the overlay, each node's VXLAN device with a route, a neighbour and an entry of the forwarding
/// database for each other, as flannel makes them.
pub(super) fn add(draft: &mut Draft<'_>, segments: &[Segment]) -> Result<()> {
    fill_in(draft);
    let Some(overlay) = &draft.topology.overlay else { return Ok(()) };
    if overlay.kind == OverlayKind::HostRoutes {
        if overlay.id.or(overlay.mtu).is_some() || overlay.port.is_some() {
            return Err(
                fault(["overlay"], "host routes have no `id`, `port` or `mtu`").hint("leave them out")
            );
        }
        // Routes to pods are among those that everybody gets.
        return Ok(());
    }
    let id = overlay.id.unwrap_or(1);
    if !(1..=0xff_ffff).contains(&id) {
        return Err(fault(["overlay", "id"], format!("a VXLAN identifier of {id}")).hint("1 to 16777215"));
    }
    let vteps = vteps(draft, segments)?;
    let name = words::vxlan_name(id);
    for own in &vteps {
        let under =
            draft.machines[own.machine].device(own.device.as_str()).and_then(|device| device.mtu_bytes);
        let fits = under.unwrap_or(DEFAULT_MTU).saturating_sub(cost(own.outer));
        let mtu = overlay.mtu.unwrap_or(fits);
        let kind = DeviceKind::Vxlan {
            id,
            port: overlay.port.unwrap_or(DEFAULT_PORT),
            local: Some(own.outer),
            on: Some(own.device.clone()),
            peers: Vec::new(),
            learning: false,
        };
        let addresses = own.subnets.iter().map(|subnet| IpNet::from(subnet.network())).collect();
        let vxlan =
            Device { mac: Some(own.mac), mtu_bytes: Some(mtu), addresses, ..Device::new(name.clone(), kind) };
        let machine = &mut draft.machines[own.machine];
        machine.devices.push(vxlan);
        for peer in vteps.iter().filter(|peer| peer.machine != own.machine) {
            for subnet in &peer.subnets {
                let base = subnet.network();
                machine.routes.push(Route {
                    destination: *subnet,
                    gateway: Some(base),
                    device: name.clone(),
                    onlink: true,
                    mtu_bytes: None,
                    source: None,
                    metric: None,
                });
                machine.neighbours.push(Neighbour { address: base, mac: peer.mac, device: name.clone() });
            }
            machine.fdb.push(FdbEntry { mac: peer.mac, device: name.clone(), destination: Some(peer.outer) });
        }
        set_pods_mtu(draft, own.machine, mtu);
    }
    Ok(())
}

fn vteps(draft: &Draft<'_>, segments: &[Segment]) -> Result<Vec<Vtep>> {
    let nodes = (0..draft.machines.len()).filter(|i| draft.machines[*i].kind == MachineKind::Node);
    nodes
        .enumerate()
        .map(|(number, machine)| {
            let spec = &draft.machines[machine];
            let uplink = spec.devices.iter().find_map(|device| match device.kind {
                DeviceKind::Veth { .. } if device.port.is_none() => {
                    Some((device.addresses.first()?.addr(), device))
                }
                _ => None,
            });
            let Some((outer, device)) = uplink else {
                let what = format!("`{}` has no address between the nodes", spec.name);
                return Err(fault(draft.said[machine].at.iter().cloned(), what)
                    .hint("link the nodes: `switches: [net]` and `links: [NODE -- net]`"));
            };
            let pods = segments.iter().find(|segment| segment.pods_of == Some(machine));
            let bridge =
                spec.device(NODE_BRIDGE).map(|bridge| bridge.addresses.iter().map(IpNet::trunc).collect());
            let subnets = pods.map(|segment| segment.subnets.clone()).or(bridge).unwrap_or_default();
            let number = u16::try_from(number + 1).unwrap_or(u16::MAX).to_be_bytes();
            // Locally administered: "vtep" and the node's number.
            let mac = MacAddr([0x0e, b'v', b't', b'e', number[0], number[1]]);
            Ok(Vtep { machine, outer, device: device.name.clone(), mac, subnets })
        })
        .collect()
}

/// Pods that do not say otherwise send what fits into the tunnel.
fn set_pods_mtu(draft: &mut Draft<'_>, node: usize, mtu: u32) {
    if draft.said[node].machine.is_some_and(|said| said.pod_mtu.is_some()) {
        return;
    }
    let name = draft.machines[node].name.clone();
    let is_pods = |device: &Device| {
        device.name.as_str() == NODE_BRIDGE
            || device.port.as_ref().is_some_and(|port| port.bridge.as_str() == NODE_BRIDGE)
    };
    for device in draft.machines[node].devices.iter_mut().filter(|device| is_pods(device)) {
        device.mtu_bytes = Some(mtu);
    }
    for pod in draft.machines.iter_mut().filter(|pod| pod.node.as_ref() == Some(&name)) {
        for device in &mut pod.devices {
            device.mtu_bytes = Some(mtu);
        }
    }
}

/// VXLAN devices of which the file does not say everything: the address that they send from, and what fits through.
fn fill_in(draft: &mut Draft<'_>) {
    for machine in &mut draft.machines {
        let below: Vec<(IfName, Option<IpAddr>, u32)> = machine
            .devices
            .iter()
            .map(|device| {
                let address = device.addresses.first().map(IpNet::addr);
                (device.name.clone(), address, device.mtu_bytes.unwrap_or(DEFAULT_MTU))
            })
            .collect();
        for device in &mut machine.devices {
            let DeviceKind::Vxlan { local, on: Some(on), .. } = &mut device.kind else { continue };
            let Some((_, address, mtu)) = below.iter().find(|(name, ..)| name == on) else { continue };
            *local = local.or(*address);
            if let Some(local) = local {
                device.mtu_bytes = device.mtu_bytes.or(Some(mtu.saturating_sub(cost(*local))));
            }
        }
    }
}
