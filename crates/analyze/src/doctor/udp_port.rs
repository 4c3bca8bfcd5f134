//! Who has the UDP port of a tunnel that cannot be set up.

use std::net::IpAddr;

use model::{Link, Socket, Vxlan};

use super::vxlan::tunnels;
use super::{Check, Findings, Ground, Severity};

pub(super) const CHECKS: &[Check] = &[Check {
    id: "vxlan-port",
    title: "the UDP ports of tunnels that are down are free",
    severity: Severity::Error,
    why: "A VXLAN device takes its UDP port when it is set up, at all addresses of its family. That fails with `address already in use` where a socket has the port: over IPv4, one of any IPv4 address, or of [::] if it takes IPv4 as well; over IPv6, any IPv6 one. Two VXLAN devices share a port only if they read what they receive alike: one that is external (Cilium, Open vSwitch and others) and one for a single identifier (flannel) do not.",
    see: "ss -ulnp sport = :PORT; ip -d link show type vxlan; ip link set VXLAN up",
    fix: "stop the program, or give one of them another port (4789 is VXLAN's own, 8472 Linux's and flannel's); then set the device up, or restart the overlay's agent",
    source: "https://docs.kernel.org/networking/vxlan.html",
    run: vxlan_port,
}];

/// Who keeps a tunnel from its port.
enum Taker<'a> {
    /// A socket.
    Socket(&'a Socket),
    /// A tunnel that is up and reads what it receives in another way.
    Tunnel(&'a Link),
}

/// Whether a device takes its port for IPv6, and whether for IPv4 (`vxlan_sock_add`). An external one takes both.
fn families(vxlan: &Vxlan) -> [bool; 2] {
    let v6 = vxlan.local.or(vxlan.group).is_some_and(|address| address.is_ipv6());
    [v6 || vxlan.modes.external, !v6 || vxlan.modes.external]
}

/// Whether a socket keeps a device from its port. Each case was tried (Linux 6.18).
fn collides(socket: &Socket, vxlan: &Vxlan) -> bool {
    let Some(local) = socket.local.filter(|local| local.port() == vxlan.port) else { return false };
    let [v6, v4] = families(vxlan);
    match local.ip() {
        IpAddr::V4(_) => v4,
        IpAddr::V6(address) => v6 || v4 && address.is_unspecified() && !socket.v6_only,
    }
}

fn taker<'a>(ground: &Ground<'a>, tunnel: &Link) -> Option<Taker<'a>> {
    let own = tunnel.vxlan.filter(|_| !tunnel.up)?;
    let mut sockets = ground.snapshot.stack.vxlan_sockets.iter().flatten();
    let of_process = sockets.clone().find(|socket| !socket.owners.is_empty() && collides(socket, &own));
    if let Some(socket) = of_process {
        return Some(Taker::Socket(socket));
    }
    let is_beside = |other: &Vxlan| {
        let (theirs, ours) = (families(other), families(&own));
        other.port == own.port && (theirs[0] && ours[0] || theirs[1] && ours[1])
    };
    let mut up = tunnels(ground).into_iter().filter(|other| other.up);
    let beside: Vec<(&Link, Vxlan)> = up
        .by_ref()
        .filter_map(|other| Some((other, other.vxlan?)))
        .filter(|(_, other)| is_beside(other))
        .collect();
    if let Some((other, _)) = beside.iter().find(|(_, other)| other.modes != own.modes) {
        return Some(Taker::Tunnel(other));
    }
    // The kernel's socket of a device with which it could share.
    if !beside.is_empty() {
        return None;
    }
    sockets.find(|socket| collides(socket, &own)).map(Taker::Socket)
}

/// Whether a tunnel is down and somebody has its port.
pub(super) fn is_taken(ground: &Ground<'_>, tunnel: &Link) -> bool {
    taker(ground, tunnel).is_some()
}

fn words(vxlan: &Vxlan) -> String {
    match vxlan.modes.words().join(" ") {
        usual if usual.is_empty() => "neither external nor gbp nor gpe".to_owned(),
        words => words,
    }
}

fn vxlan_port(ground: &Ground<'_>, findings: &mut Findings) {
    for tunnel in tunnels(ground).into_iter().filter(|tunnel| !tunnel.up) {
        if ground.snapshot.stack.vxlan_sockets.is_none() {
            findings.blind("the snapshot does not have the sockets at the ports of tunnels: take it again");
        }
        let (Some(own), Some(taker)) = (tunnel.vxlan, taker(ground, tunnel)) else { continue };
        let port = own.port;
        let (found, fix) = match taker {
            Taker::Socket(socket) => {
                let local = socket.local.map(|local| local.to_string()).unwrap_or_default();
                match socket.owners.first() {
                    Some(owner) => (
                        format!("cannot be up: {} has its UDP port, {local}", owner.task),
                        format!("stop {}, or give one of them another port", owner.task),
                    ),
                    None => (
                        format!(
                            "cannot be up: a socket has its UDP port, {local}, and its process was not found: it may be the kernel's own"
                        ),
                        "find what has it (other tunnels; ss -ulnpe), or give the tunnel another port"
                            .to_owned(),
                    ),
                }
            }
            Taker::Tunnel(other) => {
                let theirs = other.vxlan.map(|other| words(&other)).unwrap_or_default();
                (
                    format!(
                        "cannot be up: {} has UDP port {port} and is {theirs}, and this one is {}",
                        other.name,
                        words(&own)
                    ),
                    format!("remove the one that is left over, or give one another port than {port}"),
                )
            }
        };
        findings.add(tunnel.name.clone(), found, fix);
    }
}

#[cfg(test)]
mod tests {
    use model::{IfIndex, Keeper, Snapshot, Socket, Task};

    use super::super::testing::*;

    /// The tunnel is down, and these sockets have its port.
    fn down(s: &mut Snapshot, sockets: &[(&str, bool, &str)]) {
        of_host(s, TUNNEL).up = false;
        let socket = |(local, v6_only, owner): &(&str, bool, &str)| -> Socket {
            let mut socket: Socket = serde_json::from_str(
                r#"{"protocol": "udp", "state": "unconnected", "receive_queue": 0, "send_queue": 0, "uid": 0, "inode": 7, "cookie": 7}"#,
            )
            .unwrap();
            (socket.local, socket.v6_only) = (Some(local.parse().unwrap()), *v6_only);
            let task = Task { pid: 12, tid: None, command: (*owner).to_owned() };
            socket.owners.extend((!owner.is_empty()).then_some(Keeper { task, container: None }));
            socket
        };
        s.stack.vxlan_sockets = Some(sockets.iter().map(socket).collect());
    }

    #[test]
    fn a_process_that_has_the_port_is_named() {
        only(&["vxlan-port"], |s| down(s, &[("192.0.2.10:8472", false, "syncd")]));
        let text =
            diagnosis("vxlan-port", |s| down(s, &[("[::]:8472", false, "syncd")])).findings[0].found.clone();
        assert_eq!(text, "cannot be up: syncd (pid 12) has its UDP port, [::]:8472");
        let text =
            diagnosis("vxlan-port", |s| down(s, &[("0.0.0.0:8472", false, "")])).findings[0].found.clone();
        assert!(text.ends_with("its process was not found: it may be the kernel's own"), "{text}");
        // It is only down.
        for free in ["[::]:8472", "[2001:db8::1]:8472"] {
            only(&["vxlan-down"], |s| down(s, &[(free, true, "syncd")]));
        }
        only(&["vxlan-down"], |s| down(s, &[]));
        assert!(is_blind("vxlan-port", |s| of_host(s, TUNNEL).up = false));
        assert!(!is_blind("vxlan-port", |_| {}), "a tunnel that is up has its port");
    }

    #[test]
    fn a_tunnel_over_ipv6_collides_with_ipv6_only() {
        let v6 = |s: &mut Snapshot, socket| {
            down(s, &[(socket, true, "syncd")]);
            of_host(s, TUNNEL).vxlan.as_mut().unwrap().local = Some(ip("2001:db8::1"));
        };
        assert_eq!(found("vxlan-port", |s| v6(s, "0.0.0.0:8472")), [""; 0]);
        for taken in ["[::]:8472", "[2001:db8::7]:8472"] {
            assert_eq!(found("vxlan-port", |s| v6(s, taken)), ["vxlan1"]);
        }
    }

    #[test]
    fn tunnels_share_a_port_if_they_are_alike() {
        let beside = |s: &mut Snapshot, external| {
            down(s, &[("0.0.0.0:8472", false, "")]);
            let mut other = of_host(s, TUNNEL).clone();
            (other.index, other.name, other.up) = (IfIndex(50), "cilium_vxlan".into(), true);
            other.addresses.clear();
            let vxlan = other.vxlan.as_mut().unwrap();
            (vxlan.id, vxlan.local, vxlan.modes.external) = (9, None, external);
            s.namespaces[0].links.push(other);
        };
        only(&["vxlan-down"], |s| beside(s, false));
        only(&["vxlan-port"], |s| beside(s, true));
        let text = diagnosis("vxlan-port", |s| beside(s, true)).findings[0].found.clone();
        assert_eq!(
            text,
            "cannot be up: cilium_vxlan has UDP port 8472 and is external, and this one is neither external nor gbp nor gpe"
        );
    }
}
