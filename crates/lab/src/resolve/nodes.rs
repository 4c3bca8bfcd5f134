//! Nodes: a bridge, and pods at it.

use ipnet::IpNet;
use model::IfName;

use super::addresses::usable;
use super::draft::{Draft, Joined, Joint, NODE_BRIDGE, Said, interface_name};
use super::words::commands;
use super::{Result, fault};
use crate::topology::{Pod, Pods, Step};
use crate::wiring::{Device, DeviceKind, End, Machine, MachineKind, Port};

/// Gives each node its bridge and its pods.
pub(super) fn add_pods(draft: &mut Draft<'_>, read: &dyn Fn(&str) -> std::io::Result<String>) -> Result<()> {
    let nodes: Vec<usize> =
        (0..draft.machines.len()).filter(|i| draft.machines[*i].kind == MachineKind::Node).collect();
    for (number, node) in nodes.into_iter().enumerate() {
        let Some(said) = draft.said[node].machine else { continue };
        let at = draft.said[node].at.clone();
        let key = |key: &str| -> Vec<Step> { at.iter().cloned().chain([key.into()]).collect() };
        let subnets = match said.subnet.0.as_slice() {
            [] => default_subnets(draft, number, &at)?,
            given if said.count.is_none_or(|count| count == 1) => given.to_vec(),
            _ => {
                let what = "one subnet for several nodes".to_owned();
                return Err(fault(key("subnet"), what).hint("leave it out, or name the nodes one by one"));
            }
        };
        let pods: Vec<(String, Pod)> = match &said.pods {
            None => Vec::new(),
            Some(Pods::Number(count)) => {
                (1..=*count).map(|number| (format!("pod{number}"), Pod::default())).collect()
            }
            Some(Pods::Named(pods)) => pods.0.clone(),
        };
        let conflist = match &said.cni {
            None => None,
            Some(file) => Some(read(file).map_err(|error| {
                fault(key("cni"), format!("cannot read `{}`: {error}", crate::topology::printable(file)))
            })?),
        };
        if conflist.is_some() && said.hairpin {
            let what = "the plugins of its `cni` make the pods' ports";
            return Err(fault(key("hairpin"), what).hint("say `hairpinMode` in there"));
        }
        if conflist.is_none() {
            let bridge = Device {
                mtu_bytes: said.pod_mtu,
                addresses: subnets.iter().filter_map(first_of).collect(),
                ..Device::new(
                    interface_name(NODE_BRIDGE),
                    DeviceKind::Bridge { stp: false, vlan_filtering: false },
                )
            };
            draft.machines[node].devices.push(bridge);
        }
        for (number, (name, pod)) in pods.iter().enumerate() {
            let added = add_pod(draft, node, name, number + 1, conflist.as_deref(), &subnets, key("pods"))?;
            let at: Vec<Step> = key("pods").into_iter().chain([name.as_str().into()]).collect();
            let of_pod = |key: &str| -> Vec<Step> { at.iter().cloned().chain([key.into()]).collect() };
            if pod.ended.is_some() && conflist.is_none() {
                let what = "only what CNI plugins wired is left of a pod";
                return Err(fault(of_pod("ended"), what).hint("give its node a `cni`"));
            }
            if pod.ended.is_some() && !pod.run.is_empty() {
                return Err(fault(of_pod("run"), "nothing runs in a pod that ended"));
            }
            let machine = &mut draft.machines[added];
            (machine.run, machine.ended) = (commands(&pod.run, &at)?, pod.ended);
        }
    }
    Ok(())
}

fn add_pod(
    draft: &mut Draft<'_>,
    node: usize,
    name: &str,
    number: usize,
    conflist: Option<&str>,
    subnets: &[IpNet],
    at: Vec<Step>,
) -> Result<usize> {
    let node_name = draft.machines[node].name.clone();
    let name = format!("{node_name}-{name}");
    let (inside, outside) = (interface_name("eth0"), interface_name(&format!("veth{number}")));
    let mut pod = Machine::new(name.clone(), MachineKind::Pod);
    pod.node = Some(node_name.clone());
    pod.cni = conflist.map(str::to_owned);
    let said = draft.said[node].machine;
    let (mtu_bytes, hairpin) = (said.and_then(|said| said.pod_mtu), said.is_some_and(|said| said.hairpin));
    let veth = |own: &IfName, machine: &str, device: &IfName, first| Device {
        mtu_bytes,
        ..Device::new(
            own.clone(),
            DeviceKind::Veth { peer: End { machine: machine.to_owned(), device: device.clone() }, first },
        )
    };
    if conflist.is_none() {
        pod.devices.push(veth(&inside, &node_name, &outside, false));
        let bridge = interface_name(NODE_BRIDGE);
        let port = Some(Port { bridge: bridge.clone(), hairpin, isolated: false });
        draft.machines[node].devices.push(Device { port, ..veth(&outside, &name, &inside, true) });
    }
    let wired_by_us = conflist.is_none();
    let pod = draft.push(pod, Said { at: at.clone(), machine: None, switch: None })?;
    if wired_by_us {
        let bridge = Some(interface_name(NODE_BRIDGE));
        let ends = [
            Joint { machine: node, device: outside, bridge, addresses: None },
            Joint { machine: pod, device: inside, bridge: None, addresses: None },
        ];
        draft.links.push(Joined { at, ends, subnets: subnets.to_vec() });
    }
    Ok(pod)
}

/// The first address of a subnet, with its length.
fn first_of(subnet: &IpNet) -> Option<IpNet> {
    IpNet::new(usable(*subnet).next()?, subnet.prefix_len()).ok()
}

/// 10.244.N.0/24 and, where the lab has IPv6, fd00:10:244:N::/64, as clusters have them.
fn default_subnets(draft: &Draft<'_>, number: usize, at: &[Step]) -> Result<Vec<IpNet>> {
    let Ok(number) = u8::try_from(number) else {
        let what = "more than 256 nodes without a `subnet`";
        return Err(fault(at.iter().cloned(), what).hint("give them subnets"));
    };
    let pool = draft.topology.pool.as_ref();
    let has = |v6: bool| match pool {
        None => !v6,
        Some(pool) => pool.0.iter().any(|net| net.addr().is_ipv6() == v6),
    };
    let families = [(false, format!("10.244.{number}.0/24")), (true, format!("fd00:10:244:{number:x}::/64"))];
    let wanted = families.into_iter().filter(|(v6, _)| has(*v6));
    Ok(wanted.map(|(_, text)| text.parse().expect("a subnet")).collect())
}
