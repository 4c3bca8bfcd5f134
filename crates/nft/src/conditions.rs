//! Conditions of port mappings (`conditionsV4`, `conditionsV6` of portmap): words of iptables or of nft, as far as they say where a
//! connection comes from or goes to.

use ipnet::IpNet;

use crate::language::{Field, Match};
use crate::ruleset::IPS;

/// All expressions of a rule have less than 4096 bytes in the kernel (EFBIG, net/netfilter/nf_tables_api.c). Of conditions about IPv6
/// subnets, which are the largest, fewer than 32 fit; no configuration was seen with more than three.
const MOST_CONDITIONS: usize = 16;

/// Conditions that were understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    v4: Vec<Condition>,
    v6: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Source(IpNet, bool),
    Destination(IpNet, bool),
    In(String, bool),
    Out(String, bool),
}

impl Conditions {
    /// Reads both lists. The error names the word that was not understood.
    pub fn parse(v4: &[String], v6: &[String]) -> Result<Self, String> {
        Ok(Self { v4: words(v4, false)?, v6: words(v6, true)? })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// A name for them: equal conditions share maps and chains.
    pub fn id(&self) -> String {
        format!("{:08x}", model::attachment::digest(format!("{self:?}").as_bytes()) as u32)
    }

    pub(crate) fn matches(&self, v6: bool) -> Vec<Match> {
        let ip = IPS[usize::from(v6)];
        let list = if v6 { &self.v6 } else { &self.v4 };
        let to_match = |condition: &Condition| match condition {
            Condition::Source(net, is_in) => Match::Net(ip.source(), *net, *is_in),
            Condition::Destination(net, is_in) => Match::Net(ip.destination(), *net, *is_in),
            Condition::In(name, is_it) => Match::Interface(Field::InInterface, name.clone(), *is_it),
            Condition::Out(name, is_it) => Match::Interface(Field::OutInterface, name.clone(), *is_it),
        };
        list.iter().map(to_match).collect()
    }
}

/// `[!] -s NET`, `-d NET`, `-i NAME`, `-o NAME`; or nft's `ip saddr [!=] NET`, `ip daddr …`, `iifname …`, `oifname …`.
fn words(list: &[String], v6: bool) -> Result<Vec<Condition>, String> {
    let mut words = list.iter().flat_map(|text| text.split_ascii_whitespace()).peekable();
    let mut all = Vec::new();
    while let Some(mut word) = words.next() {
        if all.len() == MOST_CONDITIONS {
            return Err(format!("there are more than {MOST_CONDITIONS} of them"));
        }
        let mut is_meant = true;
        if word == "!" {
            is_meant = false;
            word = words.next().unwrap_or_default();
        }
        let what = match word {
            "ip" | "ip6" => words.next().unwrap_or_default(),
            word => word,
        };
        if matches!(words.peek(), Some(&("!" | "!="))) {
            is_meant = !is_meant;
            words.next();
        }
        let value = words.next().ok_or_else(|| format!("{word:?} is not followed by a value"))?;
        let net = || net(value, v6);
        let name = || {
            let name = value.trim_matches('"');
            name.parse::<model::IfName>().map(|name| name.to_string()).map_err(|error| error.to_string())
        };
        all.push(match what {
            "-s" | "--source" | "--src" | "saddr" => Condition::Source(net()?, is_meant),
            "-d" | "--destination" | "--dst" | "daddr" => Condition::Destination(net()?, is_meant),
            "-i" | "--in-interface" | "iifname" | "iif" => Condition::In(name()?, is_meant),
            "-o" | "--out-interface" | "oifname" | "oif" => Condition::Out(name()?, is_meant),
            _ => return Err(format!("{word:?} is not understood")),
        });
    }
    Ok(all)
}

fn net(text: &str, v6: bool) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    match net {
        Some(net) if net.addr().is_ipv6() == v6 => Ok(net.trunc()),
        Some(net) => Err(format!("{net} is of the other family")),
        None => Err(format!("{text:?} is neither an address nor a subnet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[&str]) -> Result<Conditions, String> {
        let list: Vec<String> = text.iter().map(ToString::to_string).collect();
        Conditions::parse(&list, &[])
    }

    #[test]
    fn iptables_words_and_nft_words_say_the_same() {
        let iptables = parse(&["!", "-d", "192.0.2.0/24", "-i", "eth0"]).unwrap();
        let nft = parse(&["ip daddr != 192.0.2.0/24", "iifname \"eth0\""]).unwrap();
        assert_eq!(iptables, nft);
        assert_eq!(iptables.id(), nft.id());
        assert!(parse(&[]).unwrap().is_empty());
    }

    #[test]
    fn there_are_no_more_than_fit_a_rule() {
        let most = ["-d 10.0.0.0/8"; MOST_CONDITIONS];
        assert!(parse(&most).is_ok());
        assert!(parse(&[&most[..], &["-i eth0"]].concat()).unwrap_err().contains("more than 16"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, part) in [
            (&["-m", "mark"][..], "\"-m\""),
            (&["-d"], "not followed"),
            (&["-d", "fd00::/8"], "other family"),
            (&["-s", "x"], "neither"),
            (&["-i", "a/b"], "a/b"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
