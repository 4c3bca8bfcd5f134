//! The lab while it is verified: its namespaces, who has which address, and our listeners.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use probe::{Echo, Failure, Listener, tcp};
use sys::NetNs;

use crate::expect::{Family, Target, Way, is_wired_by_plugins};
use crate::wiring::{Device, DeviceKind, Machine, Shape, Wiring};

/// How long a process that the lab runs may take until it listens. Then we do.
const PROCESS_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Bench<'a> {
    wiring: &'a Wiring,
    /// What the lab's lines may add to the time that an answer takes. A ping that comes back after the time of an attempt would else be
    /// one that does not, and `no ping` would hold.
    pub(super) delays: Duration,
    open: &'a (dyn Fn(&str) -> io::Result<NetNs> + Sync),
    since: Instant,
    /// Of machines that plugins wired.
    found: Mutex<BTreeMap<String, Vec<IpNet>>>,
    /// One each, kept to the end: were one to go while another sentence needs it, that would see a refusal that is none.
    listeners: Mutex<BTreeMap<(Transport, SocketAddr, String), Held>>,
}

/// What a listener of ours answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// A listener, while somebody holds it.
enum Held {
    /// Somebody else listens there.
    Theirs,
    #[expect(dead_code, reason = "it listens until it is dropped")]
    Tcp(Listener),
    #[expect(dead_code, reason = "it listens until it is dropped")]
    Udp(Echo),
}

/// All delays of a lab, as of a way there and back over each of its lines; and as much again, since neighbours are asked for first.
fn delays(wiring: &Wiring) -> Duration {
    let devices = wiring.machines.iter().flat_map(|machine| &machine.devices);
    let delay = |device: &Device| match device.shape {
        Some(Shape::Impaired { delay_us, .. }) => Duration::from_micros(delay_us.into()),
        _ => Duration::ZERO,
    };
    devices.map(delay).sum::<Duration>() * 2
}

impl<'a> Bench<'a> {
    pub(super) fn new(wiring: &'a Wiring, open: &'a (dyn Fn(&str) -> io::Result<NetNs> + Sync)) -> Self {
        let (found, listeners) = (Mutex::default(), Mutex::default());
        Self { wiring, delays: delays(wiring), open, since: Instant::now(), found, listeners }
    }

    /// A machine's namespace. Not kept open: of a thousand, that would be a thousand descriptors.
    pub(super) fn namespace(&self, machine: &str) -> Result<NetNs, Failure> {
        (self.open)(machine).map_err(Failure::setup("open the namespace"))
    }

    /// A machine's addresses with their subnets, those of its loopback interface last, and what plugins gave it.
    fn addresses(&self, machine: &Machine) -> Vec<IpNet> {
        let (own, on_loopback): (Vec<_>, Vec<_>) =
            machine.devices.iter().partition(|device| device.kind != DeviceKind::Loopback);
        let known: Vec<IpNet> =
            own.into_iter().chain(on_loopback).flat_map(|device| device.addresses.iter().copied()).collect();
        if !is_wired_by_plugins(self.wiring, machine) {
            return known;
        }
        let cached = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&machine.name).cloned();
        if let Some(found) = cached {
            return found;
        }
        let Ok(netns) = self.namespace(&machine.name) else { return known };
        let listed = netns.run(|| netlink::addr::list(&mut netlink::Socket::route()?, None));
        let listed = listed.ok().and_then(Result::ok).unwrap_or_default();
        let is_ordinary = |net: &IpNet| match net.addr() {
            IpAddr::V4(v4) => !v4.is_loopback(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        let mut found = known;
        let others: Vec<IpNet> = listed.into_iter().map(|(_, net)| net).filter(is_ordinary).collect();
        found.extend(others.into_iter().filter(|net| !found.contains(net)).collect::<Vec<_>>());
        if !found.is_empty() {
            let mut cache = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            cache.insert(machine.name.clone(), found.clone());
        }
        found
    }

    /// All addresses of somebody.
    pub(super) fn addresses_of(&self, target: &Target) -> Vec<IpAddr> {
        match target {
            Target::Address(address) => vec![*address],
            Target::Machine(name) => {
                let machine = self.wiring.machine(name);
                machine
                    .map(|machine| self.addresses(machine))
                    .unwrap_or_default()
                    .iter()
                    .map(IpNet::addr)
                    .collect()
            }
        }
    }

    /// Which addresses a sentence is about: of each family that both have, the one on a subnet that both are on, or else the first.
    pub(super) fn destinations(&self, way: &Way, family: Option<Family>) -> Vec<IpAddr> {
        let to = match &way.to {
            Target::Address(address) => return vec![*address],
            Target::Machine(name) => self.wiring.machine(name),
        };
        let addresses = |machine: Option<&Machine>| machine.map(|m| self.addresses(m)).unwrap_or_default();
        let (from, to) = (addresses(self.wiring.machine(&way.from)), addresses(to));
        let of = |nets: &[IpNet], family| -> Vec<IpNet> {
            nets.iter().copied().filter(|net| Family::of(net.addr()) == family).collect()
        };
        let mut both = Vec::new();
        let mut only_theirs = Vec::new();
        for wanted in [Family::V4, Family::V6] {
            if family.is_some_and(|family| family != wanted) {
                continue;
            }
            let (ours, theirs) = (of(&from, wanted), of(&to, wanted));
            let near = theirs.iter().find(|their| ours.iter().any(|our| our.contains(&their.addr())));
            if let Some(chosen) = near.or(theirs.first()) {
                let list = if ours.is_empty() { &mut only_theirs } else { &mut both };
                list.push(chosen.addr());
            }
        }
        // Where they have no family in common there is nothing that could work; the sender's kernel says why.
        if both.is_empty() { only_theirs } else { both }
    }

    /// Who has an address.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&'a Machine> {
        let has = |machine: &&Machine| self.addresses(machine).iter().any(|net| net.addr() == address);
        self.wiring.machines.iter().find(has)
    }

    /// The machine that is to be reached, if it is one of the lab's. Two may have the same address, in networks apart: one that is named is meant.
    pub(super) fn machine(&self, target: &Target) -> Option<&'a Machine> {
        match target {
            Target::Machine(name) => self.wiring.machine(name),
            Target::Address(address) => self.owner(*address),
        }
    }

    /// An address as people know it.
    pub(super) fn name(&self, address: IpAddr) -> String {
        self.owner(address).map_or_else(|| address.to_string(), |machine| machine.name.clone())
    }

    /// Sees to it that somebody answers at an address of the lab, also where a port there leads elsewhere: if nobody does, we do.
    pub(super) fn listen(
        &self,
        transport: Transport,
        target: &Target,
        asked: SocketAddr,
    ) -> Result<(), Failure> {
        let udp = transport == Transport::Udp;
        let Some(first) = self.machine(target) else { return Ok(()) };
        let leads =
            first.nat.forward.iter().find(|forward| forward.udp == udp && forward.port == asked.port());
        let (machine, at) = match leads {
            Some(forward) => (self.owner(forward.to), SocketAddr::new(forward.to, forward.to_port)),
            None => (Some(first), asked),
        };
        let Some(machine) = machine else { return Ok(()) };
        let netns = self.namespace(&machine.name)?;
        if !machine.run.is_empty() {
            self.wait_for_process(transport, &netns, at);
        }
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (transport, at, machine.name.clone());
        if listeners.contains_key(&key) {
            return Ok(());
        }
        let held = match transport {
            Transport::Tcp => Listener::open(&netns, at).map(|ours| ours.map_or(Held::Theirs, Held::Tcp)),
            Transport::Udp => Echo::open(&netns, at).map(|ours| ours.map_or(Held::Theirs, Held::Udp)),
        };
        listeners.insert(key, held.map_err(Failure::setup("listen there"))?);
        Ok(())
    }

    /// A process of the lab's is to have its port before we take it.
    fn wait_for_process(&self, transport: Transport, netns: &NetNs, at: SocketAddr) {
        let pause = Duration::from_millis(50);
        while self.since.elapsed() < PROCESS_PATIENCE {
            // Of UDP nobody can tell whether somebody listens.
            if transport == Transport::Tcp && tcp::connect(netns, at, pause).is_ok() {
                return;
            }
            std::thread::sleep(pause);
        }
    }
}
