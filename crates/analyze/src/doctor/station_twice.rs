//! MACs that are at two places of one bridge, where tunnels are its ports.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use model::{FdbEntry, IfIndex, Link, MacAddr};

use super::{Check, Findings, Ground, Severity};

/// What somebody set, and what is not learned anew (`NUD_NOARP`, `NUD_PERMANENT`).
const SET: u16 = 0x40 | 0x80;
/// A bridge's entries for its ports' own addresses.
const NUD_PERMANENT: u16 = 0x80;

pub(super) const CHECKS: &[Check] = &[Check {
    id: "station-twice",
    title: "no MAC is both behind a tunnel and somewhere else on its bridge",
    severity: Severity::Warning,
    why: "A VXLAN device that is a port of a bridge says of a MAC that it is at another node, and a pod of this node has it, or the bridge has it at another port, or another tunnel at another node. Frames go to one place or the other, as the bridge has just learned, and to both when it has forgotten. An overlay's agent left the entry of a pod that moved, or two nodes gave the same MAC. What the tunnel has only learned is told, and forgotten after five minutes.",
    see: "bridge fdb show dev VXLAN | grep MAC; bridge fdb show br BRIDGE | grep MAC; podplumb who MAC",
    fix: "bridge fdb del MAC dev VXLAN dst NODE, or restart the overlay's agent; where both have the MAC, give one pod another",
    source: "https://man7.org/linux/man-pages/man8/bridge.8.html",
    run: station_twice,
}];

/// What a tunnel on a bridge says of a MAC.
struct Remote<'a> {
    tunnel: &'a Link,
    bridge: IfIndex,
    entry: &'a FdbEntry,
    node: IpAddr,
}

/// What the tunnels that are ports of bridges have at other nodes.
fn remotes<'a>(ground: &Ground<'a>) -> Vec<Remote<'a>> {
    let tunnels: HashMap<IfIndex, (&Link, IfIndex)> = ground
        .links()
        .filter(|link| link.vxlan.is_some() && link.up)
        .filter_map(|link| Some((link.index, (link, ground.bridge_of(link)?.index))))
        .collect();
    let entries = ground.snapshot.stack.fdb.iter();
    // The entry of all zeros is for what is not known, and groups have members at many nodes.
    let of_one = entries.filter(|entry| entry.mac.0 != [0; 6] && entry.mac.0[0] & 1 == 0);
    let remote = |entry: &'a FdbEntry| {
        let (tunnel, bridge) = *tunnels.get(&entry.device)?;
        Some(Remote { tunnel, bridge, entry, node: entry.remote? })
    };
    of_one.filter_map(remote).collect()
}

fn station_twice(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    let Some(stack) = ground.stack(findings) else { return };
    let remotes = remotes(ground);
    if remotes.is_empty() {
        return;
    }
    // Where else each bridge has a MAC.
    let mut local: HashMap<(IfIndex, MacAddr), String> = HashMap::new();
    let mut led_away = BTreeSet::new();
    for entry in stack.fdb.iter().filter(|entry| entry.remote.is_none()) {
        let Some(bridge) = entry.master.filter(|_| entry.state & NUD_PERMANENT == 0) else { continue };
        if ground.link(entry.device).is_some_and(|port| port.vxlan.is_none()) {
            local.insert((bridge, entry.mac), format!("the bridge has it at {}", ground.name(entry.device)));
        } else if entry.state & SET != 0 {
            led_away.insert((bridge.0, entry.mac.0));
        }
    }
    for (pod, wire) in ground.wires() {
        if let (Some(bridge), Some(mac)) = (wire.bridge, wire.inside.mac) {
            let words = format!("{} has it, behind {}", pod.label, wire.outside.name);
            local.insert((bridge.index, mac), words);
        }
    }
    let mut first: HashMap<(IfIndex, MacAddr), &Remote<'_>> = HashMap::new();
    for remote in &remotes {
        let Remote { tunnel, bridge, entry, node } = remote;
        let at = (*bridge, entry.mac);
        let before = *first.entry(at).or_insert(remote);
        let elsewhere = match local.get(&at) {
            // A pod's MAC that the bridge itself leads into the tunnel for good is `station-elsewhere`'s.
            Some(_) if led_away.contains(&(bridge.0, entry.mac.0)) => continue,
            Some(words) => words.clone(),
            None if before.node != *node => format!("{} has it at {}", before.tunnel.name, before.node),
            None => continue,
        };
        let severity = if entry.state & SET == 0 { Severity::Notice } else { Severity::Warning };
        findings.add_as(
            severity,
            format!("{} of {}", entry.mac, tunnel.name),
            format!("the tunnel has it at {node}, and {elsewhere}"),
            format!("bridge fdb del {} dev {} dst {node}, if it is not there", entry.mac, tunnel.name),
        );
    }
}

#[cfg(test)]
mod tests {
    use model::{FdbEntry, IfIndex, MacAddr, Snapshot};

    use super::super::testing::*;

    const REMOTE: MacAddr = MacAddr([2, 0, 0, 0, 0, 88]);

    /// A tunnel that is a port of the pods' bridge, and what it has at other nodes.
    fn stretched(s: &mut Snapshot, index: u32, entries: &[(MacAddr, &str, u16)]) {
        let mut tunnel = of_host(s, TUNNEL).clone();
        (tunnel.index, tunnel.name, tunnel.master) =
            (IfIndex(index), format!("stretch{index}"), Some(IfIndex(3)));
        tunnel.mac = Some(MacAddr([2, 0, 0, 0, 1, index as u8]));
        tunnel.vxlan.as_mut().unwrap().id = index;
        tunnel.addresses.clear();
        s.namespaces[0].links.push(tunnel);
        for (mac, node, state) in entries {
            let (device, remote) = (IfIndex(index), Some(ip(node)));
            s.stack.fdb.push(FdbEntry { mac: *mac, device, master: None, remote, state: *state });
        }
    }

    #[test]
    fn a_pods_mac_that_a_tunnel_has_at_another_node() {
        let of_red = |s: &mut Snapshot, state| {
            let mac = eth0(s, RED).mac.unwrap();
            stretched(s, 80, &[(mac, "192.0.2.11", state)]);
        };
        only(&["station-twice"], |s| of_red(s, 0x80));
        let diagnosed = diagnosis("station-twice", |s| of_red(s, 0x80));
        let text = &diagnosed.findings[0].found;
        assert!(
            text.starts_with("the tunnel has it at 192.0.2.11, and ") && text.ends_with(", behind veth-red"),
            "{text}"
        );
        // What it has learned it forgets.
        assert!(!diagnosis("station-twice", |s| of_red(s, 0x02)).is_ill());
        only(&[], |s| stretched(s, 80, &[(REMOTE, "192.0.2.11", 0x80)]));
        // A tunnel that is no port of the bridge is another network.
        let apart = |s: &mut Snapshot| {
            of_red(s, 0x80);
            s.namespaces[0].links.last_mut().unwrap().master = None;
        };
        assert_eq!(found("station-twice", apart), [""; 0]);
        let for_good = |s: &mut Snapshot| {
            of_red(s, 0x80);
            let mac = eth0(s, RED).mac.unwrap();
            let master = Some(IfIndex(3));
            s.stack.fdb.push(FdbEntry { mac, device: IfIndex(80), master, remote: None, state: 0x40 });
        };
        only(&["station-elsewhere"], for_good);
        assert!(is_blind("station-twice", |s| s.stack.sysctls.clear()));
    }

    #[test]
    fn a_mac_at_another_port_or_by_another_tunnel() {
        let learned = |s: &mut Snapshot, state| {
            stretched(s, 80, &[(REMOTE, "192.0.2.11", 0x80)]);
            let (device, master) = (of_host(s, BLUE).index, Some(IfIndex(3)));
            s.stack.fdb.push(FdbEntry { mac: REMOTE, device, master, remote: None, state });
        };
        assert_eq!(found("station-twice", |s| learned(s, 0x02)), ["02:00:00:00:00:58 of stretch80"]);
        assert_eq!(found("station-twice", |s| learned(s, 0x80)), [""; 0], "a port's own address");
        let two = |s: &mut Snapshot, node| {
            stretched(s, 80, &[(REMOTE, "192.0.2.11", 0x80)]);
            stretched(s, 81, &[(REMOTE, node, 0x80)]);
        };
        only(&["station-twice"], |s| two(s, "192.0.2.12"));
        only(&[], |s| two(s, "192.0.2.11"));
        let group = MacAddr([1, 0, 0x5e, 0, 0, 1]);
        only(&[], |s| stretched(s, 80, &[(group, "192.0.2.11", 0x80), (group, "192.0.2.12", 0x80)]));
    }
}
