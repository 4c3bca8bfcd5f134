//! What the file says in the words of `ip`: routes, neighbours, entries of forwarding databases, rates.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::{IfName, MacAddr, Vlans};

use super::draft::{Draft, interface_name, mac, named, parse_at};
use super::{Result, fault};
use crate::topology::{self, Fault, LinkSettings, OneOrMany, Step, VlanWords, printable};
use crate::wiring::{
    Device, DeviceKind, End, FdbEntry, Forward, Machine, Masquerade, Neighbour, Route, Shape,
};

/// Adds what the file says of machines that needs their interfaces.
pub(super) fn apply(draft: &mut Draft<'_>) -> Result<()> {
    for machine in 0..draft.machines.len() {
        let at = draft.said[machine].at.clone();
        let switch = draft.said[machine].switch;
        let sysctls = switch.map(|switch| &switch.sysctls);
        let sysctls = sysctls.or_else(|| draft.said[machine].machine.map(|said| &said.sysctls));
        let mut keys = sysctls.into_iter().flat_map(BTreeMap::keys);
        if let Some(key) = keys.find(|key| !key.starts_with("net.") && !key.starts_with("net/")) {
            let place = at.iter().cloned().chain([Step::from("sysctls"), key.as_str().into()]);
            let what = format!("`{}` is not a namespace's own", printable(key));
            return Err(fault(place, what).hint("only sysctls below `net` are"));
        }
        if let Some(switch) = switch {
            let fdb = each(&switch.fdb, &at, "fdb", |words| fdb(&draft.machines[machine], words))?;
            draft.machines[machine].fdb = fdb;
        }
        let Some(said) = draft.said[machine].machine else { continue };
        let macvlans = macvlans(draft, machine, said, &at)?;
        let spec = &mut draft.machines[machine];
        spec.devices.extend(macvlans);
        // Neighbours and entries of pods' ports may be said too, so all interfaces have to be there.
        let spec = &*spec;
        let mut routes: Vec<Route> = Vec::new();
        for gateway in &said.gateway.0 {
            let everywhere = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            let place: Vec<Step> = at.iter().cloned().chain([Step::from("gateway")]).collect();
            let words = format!("{everywhere} via {gateway}");
            routes.push(route(spec, &words).map_err(|what| Fault { at: place, ..what })?);
        }
        routes.extend(each(&said.routes, &at, "routes", |words| route(spec, words))?);
        let neighbours = each(&said.neighbours, &at, "neighbours", |words| neighbour(spec, words))?;
        let fdb = each(&said.fdb, &at, "fdb", |words| fdb(spec, words))?;
        let masquerade = each(&said.masquerade.0, &at, "masquerade", |words| masquerade(spec, words))?;
        let forward = each(&said.forward.0, &at, "forward", forward)?;
        let run = commands(&said.run, &at)?;
        let spec = &mut draft.machines[machine];
        (spec.routes, spec.neighbours, spec.fdb, spec.run) = (routes, neighbours, fdb, run);
        (spec.nat.masquerade, spec.nat.forward) = (masquerade, forward);
    }
    Ok(())
}

/// Commands as their arguments.
pub(super) fn commands(run: &OneOrMany<String>, at: &[Step]) -> Result<Vec<Vec<String>>> {
    each(&run.0, at, "run", command)
}

/// Reads each line of a list; an error gets the line's place.
fn each<T>(
    lines: &[String],
    at: &[Step],
    key: &'static str,
    read: impl Fn(&str) -> Result<T>,
) -> Result<Vec<T>> {
    let place = |number: usize| at.iter().cloned().chain([Step::from(key), Step::from(number)]).collect();
    let lines = lines.iter().enumerate();
    lines.map(|(number, line)| read(line).map_err(|fault| Fault { at: place(number), ..fault })).collect()
}

/// An error whose place is not known yet.
fn wrong(what: String) -> Fault {
    fault(Vec::<Step>::new(), what)
}

/// The words of a line, a key and its value after the other.
struct Pairs<'a> {
    words: std::str::SplitWhitespace<'a>,
    known: &'static [&'static str],
}

impl<'a> Pairs<'a> {
    fn of(line: &'a str, known: &'static [&'static str]) -> Self {
        Pairs { words: line.split_whitespace(), known }
    }

    fn next(&mut self) -> Result<Option<(&'a str, &'a str)>> {
        let Some(key) = self.words.next() else { return Ok(None) };
        if !self.known.contains(&key) {
            let hint = match topology::nearest(key, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", self.known.join(", ")),
            };
            return Err(wrong(format!("`{}` is not a word here", printable(key))).hint(hint));
        }
        if key == "onlink" {
            return Ok(Some((key, "")));
        }
        let value = self.words.next().ok_or_else(|| wrong(format!("nothing behind `{key}`")))?;
        Ok(Some((key, value)))
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T> {
    parse_at(text, &[])
}

/// An interface's address with the length of its subnet.
pub(super) fn interface_address(text: &str, at: &[Step]) -> Result<IpNet> {
    if !text.contains('/') {
        let what = format!("`{}` has no length", printable(text));
        return Err(
            fault(at.iter().cloned(), what).hint("write the subnet's length behind it: `10.0.0.1/24`")
        );
    }
    parse_at(text, at)
}

fn network(text: &str) -> Result<IpNet> {
    match text {
        "default" => Ok("0.0.0.0/0".parse().expect("a network")),
        text if text.contains('/') => Ok(parse::<IpNet>(text)?.trunc()),
        text => Ok(IpNet::from(parse::<IpAddr>(text)?)),
    }
}

fn route(machine: &Machine, line: &str) -> Result<Route> {
    let mut pairs = Pairs::of(line, &["via", "dev", "mtu", "src", "metric", "onlink"]);
    let Some(destination) = pairs.words.next() else { return Err(wrong("an empty route".to_owned())) };
    let is_default = destination == "default";
    let mut destination = network(destination)?;
    let (mut gateway, mut device, mut onlink) = (None::<IpAddr>, None::<IfName>, false);
    let (mut mtu_bytes, mut source, mut metric) = (None, None, None);
    while let Some((key, value)) = pairs.next()? {
        match key {
            "via" => gateway = Some(parse(value)?),
            "dev" => device = Some(parse(value)?),
            "mtu" => mtu_bytes = Some(parse(value)?),
            "src" => source = Some(parse(value)?),
            "metric" => metric = Some(parse(value)?),
            _ => onlink = true,
        }
    }
    if is_default && gateway.is_some_and(|gateway| gateway.is_ipv6()) {
        destination = "::/0".parse().expect("a network");
    }
    if let Some(gateway) = gateway.filter(|gateway| gateway.is_ipv4() != destination.addr().is_ipv4()) {
        return Err(wrong(format!("{destination} through {gateway}: two families")));
    }
    let device = match (device, gateway) {
        (Some(device), _) => present(machine, device)?,
        (None, Some(gateway)) => on_link(machine, gateway)?,
        (None, None) => {
            return Err(wrong(format!("`{}` leads nowhere", printable(line)))
                .hint("say `via ADDRESS` or `dev INTERFACE`"));
        }
    };
    Ok(Route { destination, gateway, device, onlink, mtu_bytes, source, metric })
}

/// The interface on whose subnet the gateway is.
fn on_link(machine: &Machine, gateway: IpAddr) -> Result<IfName> {
    let on = |device: &&Device| device.addresses.iter().any(|net| net.contains(&gateway));
    match machine.devices.iter().find(on) {
        Some(device) => Ok(device.name.clone()),
        None => {
            let has: Vec<String> = machine.addresses().map(|net| net.to_string()).collect();
            let has = if has.is_empty() { "no address".to_owned() } else { has.join(", ") };
            Err(wrong(format!("`{}` cannot reach the gateway {gateway}: it has {has}", machine.name))
                .hint("choose a gateway on one of its subnets, or say `dev INTERFACE onlink`"))
        }
    }
}

fn present(machine: &Machine, device: IfName) -> Result<IfName> {
    if machine.device(device.as_str()).is_some() || device.as_str() == "lo" || machine.cni.is_some() {
        return Ok(device);
    }
    let names = || machine.devices.iter().map(|device| device.name.as_str());
    let hint = match topology::nearest(device.as_str(), names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err(wrong(format!("`{}` has no interface `{device}`", machine.name)).hint(hint))
}

fn neighbour(machine: &Machine, line: &str) -> Result<Neighbour> {
    let mut pairs = Pairs::of(line, &["lladdr", "dev"]);
    let address: IpAddr = parse(pairs.words.next().unwrap_or_default())?;
    let (mut mac, mut device) = (None::<MacAddr>, None::<IfName>);
    while let Some((key, value)) = pairs.next()? {
        match key {
            "lladdr" => mac = Some(parse(value)?),
            _ => device = Some(present(machine, parse(value)?)?),
        }
    }
    let mac = mac.ok_or_else(|| wrong(format!("{address} has no `lladdr`")))?;
    let device = device.map_or_else(|| on_link(machine, address), Ok)?;
    Ok(Neighbour { address, mac, device })
}

fn fdb(machine: &Machine, line: &str) -> Result<FdbEntry> {
    let mut pairs = Pairs::of(line, &["dev", "dst"]);
    let mac: MacAddr = parse(pairs.words.next().unwrap_or_default())?;
    let (mut device, mut destination) = (None::<IfName>, None::<IpAddr>);
    while let Some((key, value)) = pairs.next()? {
        match key {
            "dev" => device = Some(present(machine, parse(value)?)?),
            _ => destination = Some(parse(value)?),
        }
    }
    let device = device.ok_or_else(|| wrong(format!("{mac} is on no `dev`")))?;
    let is_vxlan =
        matches!(machine.device(device.as_str()).map(|device| &device.kind), Some(DeviceKind::Vxlan { .. }));
    match (is_vxlan, destination) {
        (true, None) => Err(wrong(format!("{mac} on {device} has no `dst`"))),
        (false, Some(_)) => Err(wrong(format!("{device} is no VXLAN device: {mac} has no `dst` there"))),
        _ => Ok(FdbEntry { mac, device, destination }),
    }
}

fn masquerade(machine: &Machine, line: &str) -> Result<Masquerade> {
    let mut words = line.split_whitespace().peekable();
    let source = words.next_if(|word| *word != "out").map(network).transpose()?;
    let out = match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some("out"), Some(device), None) => Some(present(machine, parse(device)?)?),
        _ => {
            let hint = "write `10.1.0.0/24`, `10.1.0.0/24 out eth1` or `out eth1`";
            return Err(wrong(format!("`{}` does not say what to masquerade", printable(line))).hint(hint));
        }
    };
    Ok(Masquerade { source, out })
}

fn forward(line: &str) -> Result<Forward> {
    let read = || {
        let (from, to) = line.split_once("->")?;
        let (protocol, port) = from.trim().split_once('/')?;
        let udp = match protocol {
            "tcp" => false,
            "udp" => true,
            _ => return None,
        };
        let to: std::net::SocketAddr = to.trim().parse().ok()?;
        Some(Forward { udp, port: port.parse().ok()?, to: to.ip(), to_port: to.port() })
    };
    read().ok_or_else(|| {
        wrong(format!("`{}` is not a port that leads elsewhere", printable(line)))
            .hint("write `tcp/8080 -> 10.1.0.2:80`")
    })
}

/// Splits a command into its arguments. Quotes keep blanks together; there is nothing else that a shell does.
fn command(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(wrong(format!("a {open} without its end")));
    }
    words.extend(word);
    if words.first().is_none_or(String::is_empty) {
        return Err(wrong("an empty command".to_owned()));
    }
    Ok(words)
}

fn macvlans(draft: &Draft<'_>, machine: usize, said: &topology::Machine, at: &[Step]) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    for (name, at, macvlan) in named(&said.macvlans, at, "macvlans") {
        let on = macvlan.on.as_deref().unwrap_or("eth0");
        let (owner, device) = on.split_once(':').unwrap_or((&draft.machines[machine].name, on));
        let lower = draft.find(owner).ok_or_else(|| draft.unknown(&at, owner))?;
        let device = present(&draft.machines[lower], parse_at(device, &at)?)
            .map_err(|fault| Fault { at: at.clone(), ..fault })?;
        let kind = DeviceKind::Macvlan {
            on: End { machine: owner.to_owned(), device },
            mode: macvlan.mode.unwrap_or_default(),
        };
        devices.push(Device {
            mac: mac(macvlan.mac.as_deref(), &at)?,
            mtu_bytes: macvlan.mtu,
            addresses: macvlan.addresses.0.clone(),
            ..Device::new(parse_at(name, &at)?, kind)
        });
    }
    Ok(devices)
}

/// What an end's queue does.
pub(super) fn shape(
    settings: &LinkSettings,
    end: &topology::End,
    at: &[Step],
    side: &'static str,
) -> Result<Option<Shape>> {
    let key = |keys: &[&str]| -> Vec<Step> {
        at.iter().cloned().chain(keys.iter().map(|key| Step::from(*key))).collect()
    };
    let rate = match (&end.rate, &settings.rate) {
        (Some(rate), _) => Some(rate_of(rate, key(&[side, "rate"]))?),
        (None, Some(rate)) => Some(rate_of(rate, key(&["rate"]))?),
        (None, None) => None,
    };
    let delay_us = settings.delay.as_deref().map(|delay| duration_us(delay, key(&["delay"]))).transpose()?;
    let loss_ppm = settings.loss.as_deref().map(|loss| per_million(loss, key(&["loss"]))).transpose()?;
    Ok(match (rate, delay_us, loss_ppm) {
        (None, None, None) => None,
        (Some(bits_per_second), None, None) => Some(Shape::Rate { bits_per_second }),
        (rate, delay_us, loss_ppm) => Some(Shape::Impaired {
            delay_us: delay_us.unwrap_or(0),
            loss_ppm: loss_ppm.unwrap_or(0),
            bits_per_second: rate.unwrap_or(0),
        }),
    })
}

/// The VLANs of a port, or of a bridge itself.
pub(super) fn vlans(said: Option<&OneOrMany<VlanWords>>, at: &[Step]) -> Result<Option<Vec<Vlans>>> {
    let Some(said) = said else { return Ok(None) };
    let at = || at.iter().cloned().chain([Step::from("vlans")]);
    let mut all: Vec<Vlans> = Vec::new();
    for words in &said.0 {
        let Some(vlans) = words.read() else {
            let what = format!("`{}` is no VLAN", printable(&words.0));
            return Err(fault(at(), what).hint("write `10`, `20-30` or `10 pvid untagged`; 1 to 4094"));
        };
        if let Some(twice) = all.iter().find(|other| other.first <= vlans.last && vlans.first <= other.last) {
            return Err(fault(at(), format!("`{twice}` and `{vlans}` overlap")).hint("say each VLAN once"));
        }
        if vlans.pvid && all.iter().any(|other| other.pvid) {
            let hint = "frames without a tag are of one VLAN: leave `pvid` out of the others";
            return Err(fault(at(), "two VLANs are `pvid`").hint(hint));
        }
        all.push(vlans);
    }
    Ok(Some(all))
}

/// A number with one of these units behind it.
fn measured(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    Some(number.parse::<f64>().ok()? * factor)
}

fn whole(value: Option<f64>, least: f64, most: f64) -> Option<u64> {
    // Within 2^53, so nothing is cut.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be within the limits"
    )]
    value.filter(|value| (least..=most).contains(value)).map(|value| value.round() as u64)
}

fn rate_of(text: &str, at: Vec<Step>) -> Result<u64> {
    let bits = measured(text, &[("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)]);
    whole(bits, 8e3, 1e12).ok_or_else(|| {
        fault(at, format!("`{}` is not a rate", printable(text))).hint("write `10mbit`; 8kbit to 1000gbit")
    })
}

fn duration_us(text: &str, at: Vec<Step>) -> Result<u32> {
    let micros = measured(text, &[("us", 1.0), ("ms", 1e3), ("s", 1e6)]);
    whole(micros, 1.0, 60e6).and_then(|us| us.try_into().ok()).ok_or_else(|| {
        fault(at, format!("`{}` is not a delay", printable(text))).hint("write `20ms`; 1us to 60s")
    })
}

fn per_million(text: &str, at: Vec<Step>) -> Result<u32> {
    let parts = measured(text, &[("%", 1e4)]);
    whole(parts, 1.0, 1e6).and_then(|ppm| ppm.try_into().ok()).ok_or_else(|| {
        fault(at, format!("`{}` is not a loss", printable(text))).hint("write `0.5%`; 0.0001% to 100%")
    })
}

/// A name of ours for an interface, for those who come after this module.
pub(super) fn vxlan_name(id: u32) -> IfName {
    interface_name(&format!("vxlan{id}"))
}
