//! One attempt at a check.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use analyze::render::printable;
use probe::capture::{Capture, Settings};
use probe::http::{self, Get};
use probe::matcher::{Matcher, Protocol as PacketProtocol};
use probe::path_mtu::{PathMtu, path_mtu};
use probe::ping::{Ping, ping};
use probe::throughput::throughput;
use probe::{Failure, Notice, route, tcp, udp};

use super::bench::{Bench, Transport};
use crate::expect::{Check, Compare, Family, Pattern, Protocol, Target, Way};

/// How long a throughput is measured.
const MEASURED: Duration = Duration::from_secs(1);

/// A reply after a longer time is asked for once more.
const PROMPT: Duration = Duration::from_millis(5);

/// What an attempt saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is as the sentence says.
    Works(String),
    /// Nothing came back in the time that it was given.
    Silence,
    /// It is not; whether something or somebody said so.
    Fails { what: String, definite: bool },
    /// It cannot be checked.
    Unknown(String),
}

/// A check of one address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leg<'c> {
    pub(super) check: &'c Check,
    pub(super) to: IpAddr,
}

/// The addresses that a check is about.
pub(super) fn legs<'c>(bench: &Bench<'_>, check: &'c Check) -> Result<Vec<Leg<'c>>, String> {
    let (way, family) = match check {
        Check::Ping { way, family, .. } => (way, *family),
        Check::Captured { during, pattern, .. } => {
            let all: Vec<_> = legs(bench, during)?.iter().map(|leg| Leg { check, to: leg.to }).collect();
            // Packets of a host are of its family, unless a tunnel carries the other one's.
            let family = match pattern.host {
                Some(Target::Address(address)) => Some(Family::of(address)),
                _ => None,
            };
            let fit = |leg: &Leg<'_>| family.is_none_or(|family| Family::of(leg.to) == family);
            return Ok(if all.iter().any(fit) { all.into_iter().filter(fit).collect() } else { all });
        }
        Check::Tcp { way, .. }
        | Check::Udp { way, .. }
        | Check::Http { way, .. }
        | Check::Mtu { way, .. }
        | Check::Throughput { way, .. }
        | Check::Route { way, .. } => (way, None),
    };
    let found = bench.destinations(way, family);
    if found.is_empty() {
        return Err(format!(
            "{} has no address{}",
            way.to,
            if family.is_some() { " of that family" } else { "" }
        ));
    }
    Ok(found.into_iter().map(|to| Leg { check, to }).collect())
}

impl Leg<'_> {
    /// Tries once.
    pub(super) fn attempt(&self, bench: &Bench<'_>, patience: Duration) -> Seen {
        let way = match self.check {
            Check::Captured { .. } => return self.captured(bench, patience),
            Check::Ping { way, .. }
            | Check::Tcp { way, .. }
            | Check::Udp { way, .. }
            | Check::Http { way, .. }
            | Check::Mtu { way, .. }
            | Check::Throughput { way, .. }
            | Check::Route { way, .. } => way,
        };
        match self.probe(bench, way, patience) {
            Ok(seen) => seen,
            Err(Failure::Silence { .. }) => Seen::Silence,
            Err(failure) => {
                let what = match failure {
                    // The sender's own kernel, which has asked for the neighbour three times.
                    Failure::Told { by, notice: Notice::HostUnreachable } if bench.name(by) == way.from => {
                        format!("nobody on {}'s link answers for the next hop", way.from)
                    }
                    _ => failure.tell(&way.from, |by| bench.name(by)),
                };
                match failure {
                    Failure::Setup { .. } => Seen::Unknown(what),
                    failure => Seen::Fails { what, definite: failure.is_definite() },
                }
            }
        }
    }

    fn probe(&self, bench: &Bench<'_>, way: &Way, patience: Duration) -> Result<Seen, Failure> {
        let netns = bench.namespace(&way.from)?;
        let after = |time: Duration| format!("after {}", milliseconds(time));
        Ok(match self.check {
            Check::Ping { bytes, .. } => {
                let first = ping(&netns, &Ping { to: self.to, bytes: *bytes, patience })?.after;
                // On a line with a delay the first one also waits for who asks for neighbours, a way there and back at each hop.
                let is_late = first > PROMPT && first * 2 < patience;
                let second = || ping(&netns, &Ping { to: self.to, bytes: *bytes, patience: first });
                let second = is_late.then(second).and_then(Result::ok);
                Seen::Works(format!("reply {}", after(second.map_or(first, |pong| pong.after.min(first)))))
            }
            Check::Tcp { port, .. } => {
                let to = SocketAddr::new(self.to, *port);
                bench.listen(Transport::Tcp, &way.to, to)?;
                Seen::Works(format!("connected {}", after(tcp::connect(&netns, to, patience)?.after)))
            }
            Check::Udp { port, .. } => {
                let to = SocketAddr::new(self.to, *port);
                bench.listen(Transport::Udp, &way.to, to)?;
                Seen::Works(format!("reply {}", after(udp::ask(&netns, to, patience)?.after)))
            }
            Check::Http { port, host, path, status, .. } => {
                let get = Get { to: SocketAddr::new(self.to, *port), host, path };
                let response = http::get(&netns, &get, patience)?;
                let what = format!("status {}, {} bytes", response.status, response.bytes);
                wanted(status.is_none_or(|status| status == response.status), what)
            }
            Check::Mtu { compare, bytes, .. } => {
                let found = path_mtu(&netns, self.to, patience)?;
                wanted(compare.holds(found.bytes, *bytes), path_words(&found, |by| bench.name(by)))
            }
            Check::Throughput { port, compare, bits_per_second, .. } => {
                return self.measure(bench, way, *port, *compare, *bits_per_second, patience);
            }
            Check::Route { via, device, .. } => {
                let way = route::route(&netns, self.to)?;
                let gateway = way.gateway.map(|gateway| (gateway, bench.name(gateway)));
                let through = match &gateway {
                    _ if way.local => "it is its own address".to_owned(),
                    Some((gateway, name)) if *name != gateway.to_string() => {
                        format!("via {name} ({gateway})")
                    }
                    Some((gateway, _)) => format!("via {gateway}"),
                    None => "on the link".to_owned(),
                };
                let holds_via = via.as_ref().is_none_or(|via| {
                    way.gateway.is_some_and(|gateway| bench.addresses_of(via).contains(&gateway))
                });
                let holds_device = device.as_ref().is_none_or(|device| device.as_str() == way.device);
                wanted(holds_via && holds_device, format!("{through} dev {}", printable(&way.device)))
            }
            // Tried elsewhere: it is two things at once.
            Check::Captured { .. } => Seen::Silence,
        })
    }

    fn measure(
        &self,
        bench: &Bench<'_>,
        way: &Way,
        port: Option<u16>,
        compare: Compare,
        wanted_rate: u64,
        patience: Duration,
    ) -> Result<Seen, Failure> {
        let Some(owner) = bench.machine(&way.to) else {
            return Ok(Seen::Unknown(format!("nobody in the lab has {}", self.to)));
        };
        let (from, into) = (bench.namespace(&way.from)?, bench.namespace(&owner.name)?);
        let to = SocketAddr::new(self.to, port.unwrap_or(0));
        let found = throughput(&from, &into, to, MEASURED, patience)?.bits_per_second();
        Ok(wanted(compare.holds(found, wanted_rate), rate(found)))
    }

    fn captured(&self, bench: &Bench<'_>, patience: Duration) -> Seen {
        let Check::Captured { machine, device, pattern, during } = self.check else { return Seen::Silence };
        let matcher = matcher(bench, pattern);
        let interface = device.as_ref().map(ToString::to_string);
        let opened = bench.namespace(machine).and_then(|netns| {
            // Headers are all that is looked at.
            Capture::open(&netns, &Settings { interface, snap_bytes: 256, ..Settings::default() })
        });
        let mut capture = match opened {
            Ok(capture) => capture,
            Err(failure) => return Seen::Unknown(failure.tell(machine, |by| bench.name(by))),
        };
        let sent = Leg { check: during, to: self.to }.attempt(bench, patience);
        if let Seen::Unknown(why) = sent {
            return Seen::Unknown(why);
        }
        let (mut matching, mut other) = (0u64, 0u64);
        let read = capture.read(Instant::now(), |packet| {
            *(if matcher.matches(&packet) { &mut matching } else { &mut other }) += 1;
        });
        if let Err(error) = read {
            return Seen::Unknown(Failure::setup("capture")(error).to_string());
        }
        let dropped = capture.counts().map_or(0, |counts| counts.dropped);
        match matching {
            0 if dropped > 0 => Seen::Unknown(format!("{dropped} packets were too many to look at")),
            0 => {
                let outcome = match sent {
                    Seen::Works(what) | Seen::Fails { what, .. } | Seen::Unknown(what) => what,
                    Seen::Silence => "no answer".to_owned(),
                };
                let what = format!("none, but {other} other packets; what was to send them: {outcome}");
                Seen::Fails { what, definite: false }
            }
            1 => Seen::Works("1 packet".to_owned()),
            more => Seen::Works(format!("{more} packets")),
        }
    }
}

fn wanted(holds: bool, what: String) -> Seen {
    if holds { Seen::Works(what) } else { Seen::Fails { what, definite: true } }
}

fn matcher(bench: &Bench<'_>, pattern: &Pattern) -> Matcher {
    let protocol = pattern.protocol.map(|protocol| match protocol {
        Protocol::Arp => PacketProtocol::Arp,
        Protocol::Icmp => PacketProtocol::Icmp,
        Protocol::Tcp => PacketProtocol::Tcp,
        Protocol::Udp => PacketProtocol::Udp,
    });
    let hosts = pattern.host.iter().flat_map(|host: &Target| bench.addresses_of(host)).collect();
    Matcher { protocol, port: pattern.port, hosts }
}

fn path_words(found: &PathMtu, name: impl Fn(IpAddr) -> String) -> String {
    let mut words = format!("{} bytes", found.bytes);
    if found.bytes == found.device_bytes {
        words.push_str(", the MTU of its interface");
    }
    for (by, mtu) in &found.told {
        words.push_str(&format!("; {} takes {mtu}", name(*by)));
    }
    if let Some(bytes) = found.vanishes_from {
        words.push_str(&format!("; {bytes} vanish without a word"));
    }
    words
}

/// `94.1 mbit`.
fn rate(bits: u64) -> String {
    let units = [(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1000, "kbit")];
    match units.into_iter().find(|(unit, _)| bits >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bits / unit, bits % unit * 10 / unit),
        None => format!("{bits} bit"),
    }
}

/// `0.08 ms`, `12 ms`.
pub(super) fn milliseconds(time: Duration) -> String {
    match time.as_micros() {
        us @ 0..10_000 => format!("{}.{:02} ms", us / 1000, us % 1000 / 10),
        us => format!("{} ms", us / 1000),
    }
}
