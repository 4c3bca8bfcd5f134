//! What a bridge does with a frame: up to the node, out by the port behind which its receiver is, or out by all.

use model::filter::Hook;
use model::{FdbEntry, Link, MacAddr};

use super::hooks::{self, Seen};
use super::packet::{Frame, Packet};
use super::segment::{self, forwards, isolated};
use super::unknown;
use super::view::Place;
use super::walk::{Next, Step, Walk, ends, ends_with};
use crate::filter::Layer;

/// `NUD_PERMANENT`: the bridge's own, as its ports' addresses are.
const LOCAL: u16 = 0x80;

/// Where a frame goes.
enum Exit<'a> {
    Up(String),
    Port(&'a Link, String),
}

/// A frame comes to a bridge: by a port, or from the node itself.
pub(super) fn forward<'a>(
    walk: &mut Walk<'_, 'a>,
    at: Place,
    bridge: &'a Link,
    came_by: Option<&'a Link>,
    frame: Frame,
    mut packet: Packet,
) -> Step<'a> {
    walk.usable(at, bridge)?;
    if bridge.bridge.is_some_and(|settings| settings.vlan_filtering) {
        walk.doubt(format!("{} tells VLANs apart, which is not looked at here", bridge.name));
    }
    let exit = exit(walk, at, bridge, came_by, frame)?;
    match exit {
        Exit::Up(fact) => {
            walk.fact("fdb", fact);
            unknown::programs(walk, at, bridge, true);
            Ok(Next::Receive { at, link: bridge, packet })
        }
        Exit::Port(port, fact) => {
            walk.fact("fdb", fact);
            if let Some(came) = came_by {
                if came.index == port.index && !came.port.is_some_and(|port| port.hairpin) {
                    let why =
                        format!("it would have to leave {} by {}, by which it came", bridge.name, port.name);
                    return ends_with(why, format!("bridge link set dev {} hairpin on", port.name));
                }
                if isolated(came) && isolated(port) {
                    let why = format!(
                        "{} and {} are both isolated: {} lets nothing pass between them",
                        came.name, port.name, bridge.name
                    );
                    return ends_with(why, format!("bridge link set dev {} isolated off", port.name));
                }
            }
            if came_by.is_some() {
                filter(walk, at, bridge, (came_by, port), &mut packet)?;
            }
            walk.hop(super::Step::Out, at, port, &packet);
            walk.usable(at, port)?;
            if !forwards(port) {
                return ends(not_forwarding(port, bridge));
            }
            Ok(Next::Emit { at, link: port, frame, packet })
        }
    }
}

/// The rules that look at a frame which a bridge forwards: those for bridges, and with br_netfilter those for IP as well.
fn filter(
    walk: &mut Walk<'_, '_>,
    at: Place,
    bridge: &Link,
    (came_by, port): (Option<&Link>, &Link),
    packet: &mut Packet,
) -> Result<(), Box<super::Outcome>> {
    let v6 = packet.destination.is_ipv6();
    let sysctl = match v6 {
        false => "net.bridge.bridge-nf-call-iptables",
        true => "net.bridge.bridge-nf-call-ip6tables",
    };
    let everywhere = walk.view.stack(at).and_then(|stack| stack.number(sysctl)) == Some(1);
    let here = bridge.bridge.is_some_and(|own| if v6 { own.call_ip6tables } else { own.call_iptables });
    let shows = everywhere || here;
    if shows {
        walk.push(super::Fact {
            about: "br_netfilter",
            text: "shows it to the rules for IP".into(),
            usual: true,
        });
    }
    let destination = packet.destination;
    for hook in [Hook::Prerouting, Hook::Forward, Hook::Postrouting] {
        for layer in [Layer::Bridge, Layer::BridgeNetfilter] {
            let (input, output) = match layer {
                Layer::Bridge => (came_by, Some(port)),
                _ if !shows => continue,
                _ => (Some(bridge), Some(bridge)),
            };
            let ports = (came_by, (hook != Hook::Prerouting).then_some(port));
            let seen = Seen {
                at,
                hook,
                layer,
                input: input.filter(|_| hook != Hook::Postrouting),
                output: output.filter(|_| hook != Hook::Prerouting),
                ports,
            };
            hooks::filter(walk, seen, packet)?;
        }
    }
    if packet.destination != destination {
        walk.doubt(format!("{} hands it on to {}, which may be elsewhere", bridge.name, packet.destination));
    }
    Ok(())
}

pub(super) fn not_forwarding(port: &Link, bridge: &Link) -> String {
    let state = match port.port.map(|port| port.state) {
        Some(1) => "listening",
        Some(2) => "learning",
        Some(4) => "blocking",
        _ => "disabled",
    };
    format!("{} is {state} as a port of {}", port.name, bridge.name)
}

fn exit<'a>(
    walk: &mut Walk<'_, 'a>,
    at: Place,
    bridge: &'a Link,
    came_by: Option<&'a Link>,
    frame: Frame,
) -> Result<Exit<'a>, Box<super::Outcome>> {
    let view = walk.view;
    let ports: Vec<&Link> = segment::ports(view, at, bridge).collect();
    let Some(mac) = frame.to else {
        // The sender's neighbour is out of sight, and so is its address.
        return flooded(walk, at, bridge, came_by, &ports, None);
    };
    if came_by.is_some() && (bridge.mac == Some(mac) || ports.iter().any(|port| port.mac == Some(mac))) {
        return Ok(Exit::Up(format!("{mac} is the bridge's own")));
    }
    let entry = entry(walk, at, bridge, mac);
    match entry {
        Some(entry) if entry.state & LOCAL != 0 && came_by.is_some() => {
            Ok(Exit::Up(format!("{mac} is the bridge's own")))
        }
        Some(entry) => match ports.iter().find(|port| port.index == entry.device) {
            Some(port) => Ok(Exit::Port(port, format!("{mac} dev {}", port.name))),
            None => flooded(walk, at, bridge, came_by, &ports, Some(mac)),
        },
        None => flooded(walk, at, bridge, came_by, &ports, Some(mac)),
    }
}

fn entry<'a>(walk: &Walk<'_, 'a>, at: Place, bridge: &Link, mac: MacAddr) -> Option<&'a FdbEntry> {
    let fdb = walk.view.stack(at).into_iter().flat_map(|stack| &stack.fdb);
    fdb.into_iter().find(|entry| entry.mac == mac && entry.master == Some(bridge.index))
}

/// Nobody has learnt where the receiver is: the frame leaves by every port, and what counts is the one behind which it is.
fn flooded<'a>(
    walk: &mut Walk<'_, 'a>,
    at: Place,
    bridge: &'a Link,
    came_by: Option<&'a Link>,
    ports: &[&'a Link],
    mac: Option<MacAddr>,
) -> Result<Exit<'a>, Box<super::Outcome>> {
    let view = walk.view;
    let others = ports.iter().filter(|port| came_by.is_none_or(|came| came.index != port.index));
    let mut open = Vec::new();
    for port in others {
        let behind = segment::behind(view, at, port);
        if mac.is_some() && behind.ends.iter().any(|(_, end)| end.mac == mac) {
            let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
            return Ok(Exit::Port(
                port,
                format!("{mac} is not learnt yet, so it goes to all ports; it is behind {}", port.name),
            ));
        }
        if !behind.open.is_empty() {
            open.push(*port);
        }
    }
    // Its own port, where the receiver is behind the same one.
    if let Some(came) = came_by
        && mac.is_some()
        && segment::behind(view, at, came).ends.iter().any(|(_, end)| end.mac == mac)
    {
        return Ok(Exit::Port(came, format!("the receiver is behind {} as well", came.name)));
    }
    let who = mac.map_or_else(|| "the receiver".to_owned(), |mac| mac.to_string());
    match open.as_slice() {
        [] => Err(Box::new(super::Outcome::Ends {
            why: format!("behind no port of {} is anybody with {who}", bridge.name),
            fix: None,
        })),
        [port, rest @ ..] => {
            if !rest.is_empty() {
                walk.doubt(format!("behind which port of {} {who} is, is not to be seen", bridge.name));
            }
            Ok(Exit::Port(port, format!("{who} is not learnt yet, so it goes to all ports")))
        }
    }
}
