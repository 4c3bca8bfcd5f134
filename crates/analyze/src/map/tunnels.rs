//! VXLAN devices, and who is at the other end.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{Link, MacAddr, Snapshot, Vxlan};
use serde::Serialize;

use super::{Rate, Remark};

/// A VXLAN device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tunnel {
    /// The device.
    pub link: Link,
    /// What it is.
    pub vxlan: Vxlan,
    /// The interface that it sends by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower: Option<String>,
    /// Who is at the other end.
    pub peers: Vec<TunnelPeer>,
    /// What passes, before encapsulation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
}

/// One other end of a tunnel (VTEP).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelPeer {
    /// Where the tunnel's packets go; `None` for a next hop of which no forwarding entry says where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// Its MAC inside the tunnel; zeros for one that gets what is for nobody in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// What routes lead there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<IpNet>,
}

/// The tunnel that an interface of the host is.
pub(super) fn tunnel(snapshot: &Snapshot, link: &Link) -> Option<Tunnel> {
    let vxlan = link.vxlan?;
    let lower = vxlan.lower.and_then(|lower| snapshot.host_link(lower));
    let mut peers: Vec<TunnelPeer> = Vec::new();
    for entry in snapshot.stack.fdb.iter().filter(|entry| entry.device == link.index) {
        let Some(remote) = entry.remote else { continue };
        if !peers.iter().any(|peer| peer.remote == Some(remote) && peer.mac == Some(entry.mac)) {
            peers.push(TunnelPeer { remote: Some(remote), mac: Some(entry.mac), subnets: Vec::new() });
        }
    }
    for route in snapshot.stack.routes.iter().filter(|route| route.device == Some(link.index)) {
        let Some(gateway) = route.gateway else { continue };
        let neighbour = snapshot
            .stack
            .neighbours
            .iter()
            .find(|neighbour| neighbour.device == link.index && neighbour.address == gateway);
        let mac = neighbour.and_then(|neighbour| neighbour.mac);
        match peers.iter_mut().find(|peer| mac.is_some() && peer.mac == mac) {
            Some(peer) => peer.subnets.push(route.destination),
            None => peers.push(TunnelPeer { remote: None, mac, subnets: vec![route.destination] }),
        }
    }
    peers.sort_by_key(|peer| (peer.remote, peer.mac));
    Some(Tunnel {
        lower: lower.map(|lower| lower.name.clone()),
        peers,
        rate: None,
        remarks: Vec::new(),
        vxlan,
        link: link.clone(),
    })
}
