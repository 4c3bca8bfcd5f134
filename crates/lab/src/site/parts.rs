//! What is in a machine besides its devices: sysctls, entries, address translation.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use nft::gateway;
use sys::NetNs;

use super::{Site, on_all_processors, stranger};
use crate::error::{Error, Result};
use crate::plan::{Part, Piece};
use crate::wiring::{Device, DeviceKind, Nat};

impl Site {
    /// Makes everything but namespaces, devices, attachments and processes.
    pub(super) fn make_parts(&mut self, pieces: &[Piece]) -> Result<()> {
        let mut inside: BTreeMap<&str, Vec<&Piece>> = BTreeMap::new();
        let is_bridge = |device: &Device| matches!(device.kind, DeviceKind::Bridge { .. });
        let is_inside = |piece: &&Piece| match &piece.part {
            Part::Sysctl(..) | Part::Nat(_) => true,
            Part::Device(device) => is_bridge(device),
            _ => false,
        };
        for piece in pieces.iter().filter(is_inside) {
            inside.entry(&piece.machine).or_default().push(piece);
        }
        let place = |(machine, pieces)| {
            let netns = self.netns(machine).ok_or_else(|| stranger(&self.lab, machine))?;
            Ok((netns, pieces))
        };
        let places: Vec<(&NetNs, Vec<&Piece>)> = inside.into_iter().map(place).collect::<Result<_>>()?;
        // The more namespaces there are, the longer the kernel looks for the own among the sysctls of one name.
        on_all_processors(&places, |(netns, pieces)| {
            let entered = netns.enter();
            let _entered = entered.map_err(Error::io(format!("namespace {}", pieces[0].machine)))?;
            pieces.iter().try_for_each(|piece| make_inside(piece))
        })?;
        self.make_entries(pieces)
    }

    pub(super) fn remove(&mut self, piece: &Piece) -> Result<()> {
        match &piece.part {
            Part::Namespace => {
                self.rooms.remove(&piece.machine);
                self.unpin(&piece.machine).map_err(Error::io(piece.to_string()))
            }
            Part::Remains { .. } => self.clear_remains(piece),
            Part::Sysctl(key, _) => {
                let value = default_of(key).map_err(Error::io(piece.to_string()))?;
                let back = Piece { part: Part::Sysctl(key.clone(), value), ..piece.clone() };
                self.make_parts(std::slice::from_ref(&back))
            }
            Part::Nat(_) => {
                let none = Piece { part: Part::Nat(Nat::default()), ..piece.clone() };
                self.make_parts(std::slice::from_ref(&none))
            }
            _ => self.remove_from_kernel(piece),
        }
    }
}

/// Bridges pass frames on as they are, on every kernel. One with br_netfilter hands them to the rules of IP unless told otherwise, which has
/// them cut where a switch drops what does not fit into the next port's MTU (`br_nf_dev_queue_xmit`, net/bridge/br_netfilter_hooks.c).
fn leave_frames_alone() {
    for family in ["iptables", "ip6tables", "arptables"] {
        // Most kernels have it as a module, which may be loaded later, or never.
        let _ = sys::write_sysctl(&format!("net/bridge/bridge-nf-call-{family}"), "0");
    }
}

/// For a thread that is in the machine.
fn make_inside(piece: &Piece) -> Result<()> {
    match &piece.part {
        Part::Device(_) => {
            leave_frames_alone();
            Ok(())
        }
        Part::Sysctl(key, value) => {
            sys::write_sysctl(&slashed(key), value).map_err(Error::io(piece.to_string()))
        }
        Part::Nat(nat) => {
            let masquerade: Vec<_> = nat
                .masquerade
                .iter()
                .map(|rule| gateway::Masquerade { source: rule.source, out: rule.out.clone() })
                .collect();
            let forward: Vec<_> = nat
                .forward
                .iter()
                .map(|rule| gateway::Forward {
                    protocol: if rule.udp { 17 } else { 6 },
                    port: rule.port,
                    to: SocketAddr::new(rule.to, rule.to_port),
                })
                .collect();
            gateway::set(&masquerade, &forward)
                .map_err(|source| Error::Kernel { piece: piece.to_string(), source })
        }
        _ => Ok(()),
    }
}

fn slashed(key: &str) -> String {
    if key.contains('/') { key.to_owned() } else { key.replace('.', "/") }
}

/// What a namespace has that nobody changed: of an interface's sysctl, what new interfaces get.
fn default_of(key: &str) -> std::io::Result<String> {
    let mut parts: Vec<String> = slashed(key).split('/').map(str::to_owned).collect();
    let of_an_interface = parts.iter().position(|part| part == "conf" || part == "neigh");
    let interface =
        of_an_interface.and_then(|at| parts.get_mut(at + 1)).filter(|name| name.as_str() != "all");
    if let Some(interface) = interface {
        *interface = "default".to_owned();
    }
    sys::NetNs::create()?.run(|| sys::read_sysctl(&parts.join("/")))?
}
