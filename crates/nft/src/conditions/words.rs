//! Words of iptables and of nft.

use super::{Condition, values};
use crate::language::{End, Field, Match};
use crate::ruleset::IPS;

/// The words of a list, which has one in each of its texts (as a program's arguments) or several.
pub(super) struct Words<'a> {
    texts: std::slice::Iter<'a, String>,
    /// What is left of the last text.
    rest: &'a str,
}

/// What a word is about, which says how to read the value after it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Subnet(Field),
    Interface(Field),
    Protocol,
    /// A port, or several with commas.
    Ports(Field, bool),
    Mark,
    State,
    AddressType(End),
}

/// Extensions of iptables whose words are understood.
const EXTENSIONS: [&str; 9] =
    ["tcp", "udp", "sctp", "multiport", "mark", "conntrack", "state", "addrtype", "comment"];

/// An option of iptables.
fn of_iptables(word: &str, v6: bool) -> Option<About> {
    let ip = IPS[usize::from(v6)];
    Some(match word {
        "-s" | "--source" | "--src" => About::Subnet(ip.source()),
        "-d" | "--destination" | "--dst" => About::Subnet(ip.destination()),
        "-i" | "--in-interface" => About::Interface(Field::InInterface),
        "-o" | "--out-interface" => About::Interface(Field::OutInterface),
        "-p" | "--proto" | "--protocol" => About::Protocol,
        "--sport" | "--source-port" => About::Ports(Field::SourcePort, false),
        "--dport" | "--destination-port" => About::Ports(Field::DestinationPort, false),
        "--sports" | "--source-ports" => About::Ports(Field::SourcePort, true),
        "--dports" | "--destination-ports" => About::Ports(Field::DestinationPort, true),
        "--mark" => About::Mark,
        "--ctstate" | "--state" => About::State,
        "--src-type" => About::AddressType(End::Source),
        "--dst-type" => About::AddressType(End::Destination),
        _ => return None,
    })
}

impl<'a> Words<'a> {
    pub(super) fn new(list: &'a [String]) -> Self {
        Self { texts: list.iter(), rest: "" }
    }

    /// The next word if it is one of these.
    fn take(&mut self, any: &[&str]) -> bool {
        let before = (self.texts.clone(), self.rest);
        let is_one = self.next().is_some_and(|word| any.contains(&word));
        if !is_one {
            (self.texts, self.rest) = before;
        }
        is_one
    }

    /// What the next words say: nothing, or a condition, or, of several values of which none is meant, one for each.
    pub(super) fn conditions(&mut self, v6: bool) -> Result<Option<Vec<Condition>>, String> {
        let Some(mut word) = self.next() else { return Ok(None) };
        let mut is_meant = true;
        if word == "!" {
            is_meant = false;
            word = self.next().ok_or("\"!\" is not followed by a condition")?;
        }
        match word {
            "-m" | "--match" => {
                let name = self.after(word)?;
                let is_known = EXTENSIONS.contains(&name);
                let unknown = || format!("{:?} is not understood", format!("{word} {name}"));
                return if is_known { Ok(Some(Vec::new())) } else { Err(unknown()) };
            }
            "--comment" | "comment" => return self.comment(word).map(|()| Some(Vec::new())),
            _ => {}
        }
        let mut all = Vec::new();
        let about = match of_iptables(word, v6) {
            Some(about) => about,
            None => {
                let (about, protocol) = self.of_nft(word, v6)?;
                // `tcp dport != 80` is about TCP, too.
                all.extend(protocol.map(|number| vec![Match::Protocol(number, true)]));
                about
            }
        };
        let bits = match about == About::Mark && self.take(&["&", "and"]) {
            true => Some(self.after("and")?),
            false => None,
        };
        if self.take(&["!", "!="]) {
            is_meant = !is_meant;
        } else {
            self.take(&["=="]);
        }
        let values = self.values(word)?;
        let tests = values::tests(about, &values, bits, v6)?;
        match is_meant {
            _ if tests.is_empty() && is_meant => {}
            _ if tests.is_empty() => return Err(format!("nothing is \"! {word} {values}\"")),
            true => all.push(tests),
            false => all.extend(tests.into_iter().map(|test| vec![test.not()])),
        }
        Ok(Some(all))
    }

    /// What nft has several words for, and the protocol that it is about.
    fn of_nft(&mut self, word: &str, v6: bool) -> Result<(About, Option<u8>), String> {
        let ip = IPS[usize::from(v6)];
        let single = match word {
            "iifname" | "iif" => Some(About::Interface(Field::InInterface)),
            "oifname" | "oif" => Some(About::Interface(Field::OutInterface)),
            "mark" => Some(About::Mark),
            "saddr" => Some(About::Subnet(ip.source())),
            "daddr" => Some(About::Subnet(ip.destination())),
            _ => None,
        };
        if let Some(about) = single {
            return Ok((about, None));
        }
        if !matches!(word, "ip" | "ip6" | "meta" | "tcp" | "udp" | "sctp" | "th" | "ct" | "fib") {
            return Err(format!("{word:?} is not understood"));
        }
        let second = self.after(word)?;
        let about = match (word, second) {
            ("ip" | "ip6", "saddr") => About::Subnet(ip.source()),
            ("ip" | "ip6", "daddr") => About::Subnet(ip.destination()),
            ("ip", "protocol") | ("ip6", "nexthdr") | ("meta", "l4proto") => About::Protocol,
            ("tcp" | "udp" | "sctp" | "th", "sport") => About::Ports(Field::SourcePort, true),
            ("tcp" | "udp" | "sctp" | "th", "dport") => About::Ports(Field::DestinationPort, true),
            ("meta", "mark") => About::Mark,
            ("meta", "iifname") => About::Interface(Field::InInterface),
            ("meta", "oifname") => About::Interface(Field::OutInterface),
            ("ct", "state") => About::State,
            ("fib", "saddr") if self.take(&["type"]) => About::AddressType(End::Source),
            ("fib", "daddr") if self.take(&["type"]) => About::AddressType(End::Destination),
            _ => return Err(format!("{:?} is not understood", format!("{word} {second}"))),
        };
        let is_of_one = matches!(word, "tcp" | "udp" | "sctp");
        Ok((about, if is_of_one { Some(values::protocol(word)?.unwrap_or_default()) } else { None }))
    }

    fn after(&mut self, word: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("{word:?} is not followed by a value"))
    }

    /// A comment is the whole next text, where it is not in quotes.
    fn comment(&mut self, word: &str) -> Result<(), String> {
        let is_of_next = self.rest.trim_ascii().is_empty();
        let text = if is_of_next { self.texts.next().map(String::as_str) } else { self.next() };
        text.map(drop).ok_or_else(|| format!("{word:?} is not followed by a text"))
    }

    /// A value, or several with commas, which nft has in braces.
    fn values(&mut self, word: &str) -> Result<String, String> {
        let first = self.after(word)?;
        let Some(first) = first.strip_prefix('{') else { return Ok(first.to_owned()) };
        let mut values = first.to_owned();
        while !values.ends_with('}') {
            values.push_str(self.next().ok_or_else(|| format!("the \"{{\" after {word:?} is not closed"))?);
        }
        values.pop();
        Ok(values)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    /// Blanks separate words, but not in quotes.
    fn next(&mut self) -> Option<&'a str> {
        loop {
            let rest = self.rest.trim_ascii_start();
            if rest.is_empty() {
                self.rest = self.texts.next()?;
                continue;
            }
            let (word, rest) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => rest.split_at(rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len())),
            };
            self.rest = rest;
            return Some(word);
        }
    }
}
