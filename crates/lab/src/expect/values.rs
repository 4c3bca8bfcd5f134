//! Numbers with units, ports, URLs.

use std::net::IpAddr;
use std::time::Duration;

use super::words::Word;
use super::{ExpectError, Target};
use crate::wiring::Wiring;

/// A number with one of these units behind it.
fn measured(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    Some(number.parse::<f64>().ok()? * factor)
}

/// `5s`, `300ms`, `2m`.
pub(super) fn time(word: Word<'_>) -> Result<Duration, ExpectError> {
    let seconds = measured(word.text, &[("ms", 1e-3), ("s", 1.0), ("m", 60.0)]);
    let seconds = seconds.filter(|seconds| (0.001..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        word.wrong(format!("{} is not a time", word.shown()), "write `5s` or `300ms`; an hour at most")
    })
}

/// `90mbit`.
pub(super) fn rate(word: Word<'_>) -> Result<u64, ExpectError> {
    let bits = measured(word.text, &[("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)]);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be within the limits"
    )]
    let bits = bits.filter(|bits| (1.0..=1e15).contains(bits)).map(|bits| bits.round() as u64);
    bits.ok_or_else(|| word.wrong(format!("{} is not a rate", word.shown()), "write `90mbit`"))
}

/// A number of bytes from `least` to 65,535.
pub(super) fn size(word: Word<'_>, least: u32) -> Result<u32, ExpectError> {
    let bytes = word.text.parse::<u32>().ok().filter(|bytes| (least..=65_535).contains(bytes));
    bytes.ok_or_else(|| {
        let hint = format!("the whole packet in bytes, IP header included: {least} to 65535");
        word.wrong(format!("{} is not a packet's size", word.shown()), hint)
    })
}

/// A port number.
pub(super) fn port(text: &str, word: Word<'_>) -> Result<u16, ExpectError> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        word.wrong(format!("{} has no port", word.shown()), "a port is a number from 1 to 65535")
    })
}

/// A machine's name or an address.
pub(super) fn target(text: &str, word: Word<'_>, wiring: &Wiring) -> Result<Target, ExpectError> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if is_link_local {
            let hint = "such an address means nothing without an interface: use another one";
            return Err(word.wrong(format!("{} is link-local", word.shown()), hint));
        }
        return Ok(Target::Address(address));
    }
    machine(text, word, wiring).map(Target::Machine)
}

/// A machine's name.
pub(super) fn machine(text: &str, word: Word<'_>, wiring: &Wiring) -> Result<String, ExpectError> {
    match wiring.machine(text) {
        Some(machine) if !machine.is_there() => {
            let name = Word { text, ..word };
            Err(word.wrong(format!("{} has ended", name.shown()), "its namespace is gone"))
        }
        Some(machine) => Ok(machine.name.clone()),
        None => {
            let name = Word { text, ..word };
            let hint = name.suggest(wiring.machines.iter().map(|machine| machine.name.as_str()));
            Err(word.wrong(format!("there is no {} in this lab", name.shown()), hint))
        }
    }
}

/// `b:80`, `10.0.0.2:80`, `[fd00::2]:80`: what is before the port, and the port.
pub(super) fn with_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        // The colons of an address that has no port.
        Some(_) if text.parse::<IpAddr>().is_ok() => (text, None),
        Some(_) if text.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}

/// The parts of `http://b:8080/path`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) host: &'a str,
    pub(super) port: Option<&'a str>,
    /// From its `/` on; empty where there is none.
    pub(super) path: &'a str,
}

/// Reads a URL. What follows a `#` is never sent.
pub(super) fn url<'a>(word: Word<'a>) -> Result<Url<'a>, ExpectError> {
    let Some(rest) = word.text.strip_prefix("http://") else {
        let hint = match word.text.starts_with("https://") {
            true => "without TLS: `http://b:8080/`",
            false => "write `http a -> http://b:8080/path`",
        };
        return Err(word.wrong(format!("{} is not a URL of http", word.shown()), hint));
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = with_port(authority);
    Ok(Url { host, port, path })
}
