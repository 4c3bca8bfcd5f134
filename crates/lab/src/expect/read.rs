//! From words to checks.

use model::IfName;

use super::values::{machine, port, rate, size, target, time, url, with_port};
use super::words::{Word, Words};
use super::{
    Check, Compare, ExpectError, Expectation, Family, Pattern, Protocol, Target, Way, is_wired_by_plugins,
};
use crate::wiring::Wiring;

type Result<T> = std::result::Result<T, ExpectError>;

/// Each check's word and an example.
pub const FORMS: [(&str, &str); 10] = [
    ("ping", "ping a -> b"),
    ("ping4", "ping4 a -> b"),
    ("ping6", "ping6 a -> b"),
    ("tcp", "tcp a -> b:80"),
    ("udp", "udp a -> b:53"),
    ("http", "http a -> http://b:8080/path"),
    ("mtu", "mtu a -> b = 1450"),
    ("throughput", "throughput a -> b >= 90mbit"),
    ("route", "route a -> b via r1"),
    ("captured", "captured r1:eth0 icmp while ping a -> b"),
];

/// Reads a sentence about a lab.
///
/// # Errors
/// What is not understood, or names what the lab does not have, and where in the sentence.
pub fn parse(text: &str, wiring: &Wiring) -> Result<Expectation> {
    let mut words = Words::of(text);
    let no = words.take("no");
    let nothing = if no.is_none() { words.take("nothing") } else { None };
    let negated = no.is_some() || nothing.is_some();
    let mut reader = Reader { words, wiring };
    let word = reader.words.need("what to check", FORMS[0].1)?;
    let check = reader.check(word)?;
    match (&check, no, nothing) {
        (Check::Captured { .. }, Some(no), _) => {
            return Err(no.wrong("`no captured`", "write `nothing captured …`"));
        }
        (Check::Mtu { .. } | Check::Throughput { .. }, Some(no), _) => {
            return Err(no.wrong(format!("`no {}`", word.text), "compare with `<=` or `>=` instead"));
        }
        (check, _, Some(nothing)) if !matches!(check, Check::Captured { .. }) => {
            return Err(
                nothing.wrong("`nothing` goes with `captured`", format!("write `no {} …`", word.text))
            );
        }
        _ => {}
    }
    let within = match reader.words.take("within") {
        Some(_) => Some(time(reader.words.need("the time", "within 5s")?)?),
        None => None,
    };
    if let Some(more) = reader.words.next() {
        let hint = match more.text {
            "via" | "dev" | "size" | "=" | ">=" | "<=" => {
                format!("`{}` does not go with `{}`", more.text, word.text)
            }
            _ => "only `within 5s` can follow".to_owned(),
        };
        return Err(more.wrong(format!("{} is too much", more.shown()), hint));
    }
    Ok(Expectation { text: text.to_owned(), negated, check, within })
}

struct Reader<'a> {
    words: Words<'a>,
    wiring: &'a Wiring,
}

impl<'a> Reader<'a> {
    fn check(&mut self, word: Word<'a>) -> Result<Check> {
        let Some((_, form)) = FORMS.into_iter().find(|(name, _)| *name == word.text) else {
            let hint = word.suggest(FORMS.iter().map(|(name, _)| *name));
            return Err(word.wrong(format!("{} is not a check", word.shown()), hint));
        };
        match word.text {
            "ping" => self.ping(None, form),
            "ping4" => self.ping(Some(Family::V4), form),
            "ping6" => self.ping(Some(Family::V6), form),
            "tcp" => self.way_to_port(form).map(|(way, port)| Check::Tcp { way, port }),
            "udp" => self.way_to_port(form).map(|(way, port)| Check::Udp { way, port }),
            "http" => self.http(form),
            "mtu" => self.mtu(form),
            "throughput" => self.throughput(form),
            "route" => self.route(form),
            _ => self.captured(form),
        }
    }

    /// `a ->`, and the word behind it.
    fn from(&mut self, form: &str) -> Result<(String, Word<'a>)> {
        let word = self.words.need("who sends", form)?;
        let from = machine(word.text, word, self.wiring)?;
        self.words.expect("->", form)?;
        Ok((from, self.words.need("the destination", form)?))
    }

    fn way(&mut self, form: &str) -> Result<Way> {
        self.way_and_word(form).map(|(way, _)| way)
    }

    /// Also the word that says where to.
    fn way_and_word(&mut self, form: &str) -> Result<(Way, Word<'a>)> {
        let (from, word) = self.from(form)?;
        if let (host, Some(_)) = with_port(word.text)
            && self.wiring.machine(host).is_some()
        {
            return Err(word.wrong(format!("{} has a port", word.shown()), format!("write `{form}`")));
        }
        Ok((Way { from, to: target(word.text, word, self.wiring)? }, word))
    }

    fn way_to_port(&mut self, form: &str) -> Result<(Way, u16)> {
        let (from, word) = self.from(form)?;
        let (host, number) = with_port(word.text);
        let to = target(host, word, self.wiring)?;
        Ok((Way { from, to }, port(number.unwrap_or_default(), word)?))
    }

    fn ping(&mut self, family: Option<Family>, form: &str) -> Result<Check> {
        let (way, word) = self.way_and_word(form)?;
        if let (Some(family), Target::Address(address)) = (family, &way.to)
            && Family::of(*address) != family
        {
            return Err(word.wrong(format!("{address} is of the other family"), "write `ping`"));
        }
        let v6 = family == Some(Family::V6) || matches!(way.to, Target::Address(a) if a.is_ipv6());
        let bytes = match self.words.take("size") {
            Some(_) => {
                Some(size(self.words.need("the size", "ping a -> b size 1400")?, if v6 { 48 } else { 28 })?)
            }
            None => None,
        };
        Ok(Check::Ping { way, family, bytes })
    }

    fn http(&mut self, form: &str) -> Result<Check> {
        let (from, word) = self.from(form)?;
        let url = url(word)?;
        let to = target(url.host, word, self.wiring)?;
        let port = url.port.map_or(Ok(80), |number| port(number, word))?;
        let path = if url.path.is_empty() { "/" } else { url.path }.to_owned();
        let status = match self.words.take("=") {
            Some(_) => {
                let word = self.words.need("the status", "http a -> http://b/ = 200")?;
                let status = word.text.parse().ok().filter(|status| (100..600).contains(status));
                let wrong = || word.wrong(format!("{} is not a status", word.shown()), "write `= 200`");
                Some(status.ok_or_else(wrong)?)
            }
            None => None,
        };
        Ok(Check::Http { way: Way { from, to }, port, host: url.host.to_owned(), path, status })
    }

    fn compare(&mut self, allowed: &[Compare], form: &str) -> Result<Compare> {
        let word = self.words.need("what to compare with", form)?;
        let compare = match word.text {
            "=" => Compare::Equal,
            ">=" => Compare::AtLeast,
            "<=" => Compare::AtMost,
            _ => {
                let what = format!("{} does not compare", word.shown());
                return Err(word.wrong(what, format!("write `{form}`, with blanks between the words")));
            }
        };
        match allowed.contains(&compare) {
            true => Ok(compare),
            false => Err(word.wrong("no two measurements are equal", "compare with `>=` or `<=`")),
        }
    }

    fn mtu(&mut self, form: &str) -> Result<Check> {
        let way = self.way(form)?;
        let compare = self.compare(&[Compare::Equal, Compare::AtLeast, Compare::AtMost], form)?;
        let bytes = size(self.words.need("the MTU", form)?, 28)?;
        Ok(Check::Mtu { way, compare, bytes })
    }

    fn throughput(&mut self, form: &str) -> Result<Check> {
        let (from, word) = self.from(form)?;
        let (host, number) = with_port(word.text);
        let to = target(host, word, self.wiring)?;
        let port = number.map(|number| port(number, word)).transpose()?;
        let compare = self.compare(&[Compare::AtLeast, Compare::AtMost], form)?;
        let bits_per_second = rate(self.words.need("the rate", form)?)?;
        Ok(Check::Throughput { way: Way { from, to }, port, compare, bits_per_second })
    }

    fn route(&mut self, form: &str) -> Result<Check> {
        let way = self.way(form)?;
        let (mut via, mut device) = (None, None);
        loop {
            if via.is_none() && self.words.take("via").is_some() {
                let word = self.words.need("the next hop", form)?;
                via = Some(target(word.text, word, self.wiring)?);
            } else if device.is_none() && self.words.take("dev").is_some() {
                let word = self.words.need("the interface", "route a -> b dev eth0")?;
                device = Some(self.interface(&way.from, word.text, word)?);
            } else {
                return Ok(Check::Route { way, via, device });
            }
        }
    }

    /// An interface of a machine. Which ones plugins make is not known before they have.
    fn interface(&self, machine: &str, name: &str, word: Word<'_>) -> Result<IfName> {
        let owner = self.wiring.machine(machine);
        let is_there = owner
            .is_some_and(|owner| owner.device(name).is_some() || is_wired_by_plugins(self.wiring, owner));
        match name.parse() {
            Ok(device) if is_there || name == "lo" => Ok(device),
            _ => {
                let names =
                    owner.into_iter().flat_map(|owner| &owner.devices).map(|device| device.name.as_str());
                let name = Word { text: name, ..word };
                let what = format!("`{machine}` has no interface {}", name.shown());
                Err(word.wrong(what, name.suggest(names.clone())))
            }
        }
    }

    fn captured(&mut self, form: &str) -> Result<Check> {
        let word = self.words.need("where", form)?;
        let (name, device) = match word.text.split_once(':') {
            Some((name, device)) => (name, Some(device)),
            None => (word.text, None),
        };
        let name = machine(name, word, self.wiring)?;
        let device = device.map(|device| self.interface(&name, device, word)).transpose()?;
        let pattern = self.pattern(form)?;
        let word = self.words.need("what sends the packets", form)?;
        if word.text == "captured" {
            return Err(word.wrong("`captured` sends nothing", format!("write `{form}`")));
        }
        let during = Box::new(self.check(word)?);
        if matches!(*during, Check::Route { .. }) {
            return Err(word.wrong("`route` sends nothing", format!("write `{form}`")));
        }
        Ok(Check::Captured { machine: name, device, pattern, during })
    }

    /// Everything up to `while`.
    fn pattern(&mut self, form: &str) -> Result<Pattern> {
        let mut pattern = Pattern::default();
        loop {
            let word = self.words.need("`while`", form)?;
            let protocol = match word.text {
                "while" if pattern == Pattern::default() => {
                    return Err(word.wrong("nothing says which packets", format!("write `{form}`")));
                }
                "while" => return Ok(pattern),
                "port" if pattern.port.is_none() => {
                    let word = self.words.need("the port", "udp port 8472")?;
                    pattern.port = Some(port(word.text, word)?);
                    continue;
                }
                "host" if pattern.host.is_none() => {
                    let word = self.words.need("the host", "host 10.0.0.1")?;
                    pattern.host = Some(target(word.text, word, self.wiring)?);
                    continue;
                }
                "arp" => Protocol::Arp,
                "icmp" => Protocol::Icmp,
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => {
                    let hint =
                        word.suggest(["arp", "icmp", "tcp", "udp", "port", "host", "while"].into_iter());
                    return Err(word.wrong(format!("{} does not say which packets", word.shown()), hint));
                }
            };
            if pattern.protocol.replace(protocol).is_some() {
                return Err(word.wrong("two protocols at once", "write a sentence for each"));
            }
        }
    }
}
