//! Conditions of port mappings (`conditionsV4`, `conditionsV6` of portmap): words of iptables, or of nft, that say which connections
//! a mapping is for.

mod values;
mod words;

use crate::language::{Action, End, Match, Rule};
use words::Words;

/// All expressions of a rule have less than 4096 bytes in the kernel (EFBIG, net/netfilter/nf_tables_api.c). Of conditions about IPv6
/// subnets, which are the largest, fewer than 32 fit; no configuration was seen with more than three.
const MOST_CONDITIONS: usize = 16;

/// What is understood, as an error names it.
const SUPPORTED: &str = "supported are, of iptables: ! -s -d -i -o -p --sport --dport, -m multiport --sports --dports, \
    -m mark --mark, -m conntrack --ctstate, -m state --state, -m addrtype --src-type --dst-type, -m comment; of nft: \
    ip saddr, ip daddr, iifname, oifname, meta l4proto, tcp dport, th sport, meta mark, ct state, fib daddr type";

/// Conditions that were understood: all of them have to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    v4: Vec<Condition>,
    v6: Vec<Condition>,
}

/// Of these, one has to hold.
type Condition = Vec<Match>;

impl Conditions {
    /// Reads both lists. The error names the word that was not understood, and what would be.
    pub fn parse(v4: &[String], v6: &[String]) -> Result<Self, String> {
        let read = |list, v6| read(list, v6).map_err(|why| format!("{why}; {SUPPORTED}"));
        Ok(Self { v4: read(v4, false)?, v6: read(v6, true)? })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// A name for them: equal conditions share maps and chains.
    pub fn id(&self) -> String {
        format!("{:08x}", model::attachment::digest(format!("{self:?}").as_bytes()) as u32)
    }

    fn of(&self, v6: bool) -> &[Condition] {
        if v6 { &self.v6 } else { &self.v4 }
    }

    /// Those that a rule asks itself.
    pub(crate) fn matches(&self, v6: bool) -> Vec<Match> {
        let all = self.of(v6);
        let own = all.iter().filter(|condition| condition.len() == 1 && !is_apart(condition, all));
        own.flatten().cloned().collect()
    }

    /// The others, as rules that end a chain for what is none of the alternatives: a rule asks for all of its conditions, and so there is
    /// no need for a rule for each combination.
    pub(crate) fn returns(&self, v6: bool) -> Vec<Rule> {
        let all = self.of(v6);
        let others = all.iter().filter(|condition| condition.len() > 1 || is_apart(condition, all));
        let returns = others.map(|condition| {
            let none = condition.iter().cloned().map(Match::not);
            let matches = std::iter::once(Match::IsV6(v6)).chain(none).collect();
            Rule { matches, action: Action::Return }
        });
        returns.collect()
    }
}

/// Whether it has to be in a rule of its own. nft 1.0.6 reads `th sport != 80 th dport != 81`, which are next to each other in a packet, as
/// "not both", and would make another ruleset of our text.
fn is_apart(condition: &Condition, all: &[Condition]) -> bool {
    let is_of = |condition: &Condition, end| matches!(&condition[..], [one] if one.excludes() == Some(end));
    is_of(condition, End::Source) && all.iter().any(|other| is_of(other, End::Destination))
}

/// Reads a list. A condition that always holds, as `-p all`, is none.
fn read(list: &[String], v6: bool) -> Result<Vec<Condition>, String> {
    let mut words = Words::new(list);
    let mut all: Vec<Condition> = Vec::new();
    while let Some(conditions) = words.conditions(v6)? {
        let is_long = conditions.iter().any(|condition| condition.len() > MOST_CONDITIONS);
        all.extend(conditions);
        if all.len() > MOST_CONDITIONS || is_long {
            return Err(format!("there are more than {MOST_CONDITIONS} of them"));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{language, ruleset};

    fn parse(text: &[&str]) -> Result<Conditions, String> {
        let list: Vec<String> = text.iter().map(ToString::to_string).collect();
        Conditions::parse(&list, &[])
    }

    /// The rules about IPv4 of one address of the node, as text.
    fn rules(text: &[&str]) -> String {
        let table = ruleset::conditional(&parse(text).unwrap()).text(|_| Vec::new());
        let rules = table.lines().map(str::trim).filter(|line| !line.contains("ip6"));
        let rules = rules.filter(|line| line.contains("dnat ip to ip daddr .") || line.ends_with(" return"));
        let rules: Vec<&str> = rules.map(|line| line.split("dnat ").next().unwrap_or(line)).collect();
        rules.join("\n").trim_end().to_owned()
    }

    #[test]
    fn iptables_words_and_nft_words_say_the_same() {
        for (iptables, nft) in [
            (&["!", "-d", "192.0.2.0/24", "-i", "eth0"][..], "ip daddr != 192.0.2.0/24 iifname \"eth0\""),
            (&["-s", "192.0.2.0/255.255.255.0"], "ip saddr 192.0.2.0/24"),
            (&["-i", "eth+"], "iifname \"eth*\""),
            (&["-p", "tcp", "--dport", "80"], "tcp dport 80"),
            (&["-m", "multiport", "!", "--dports", "80,90:99"], "th dport != { 80, 90-99 }"),
            (&["-m", "mark", "--mark", "0x1/0xf"], "meta mark and 0xf == 1"),
            (&["-m", "mark", "!", "--mark", "017"], "mark != 0xf"),
            (&["-m", "conntrack", "--ctstate", "NEW,RELATED"], "ct state new,related"),
            (&["-m", "addrtype", "!", "--dst-type", "LOCAL"], "fib daddr type != local"),
        ] {
            let (iptables, nft) = (parse(iptables).unwrap(), parse(&[nft]).unwrap());
            assert_eq!(iptables, nft);
            assert_eq!(iptables.id(), nft.id());
        }
    }

    #[test]
    fn what_is_one_of_several_returns_where_it_is_none_of_them() {
        let several = rules(&["-s", "10.0.0.0/8,192.0.2.1", "-m", "multiport", "--sports", "1000:2000,53"]);
        assert_eq!(
            several,
            "ip saddr != 10.0.0.0/8 ip saddr != 192.0.2.1/32 return\n\
             meta nfproto ipv4 th sport != 1000-2000 th sport != 53 return"
        );
        assert_eq!(
            rules(&["!", "--sport", "80", "-m", "multiport", "!", "--dports", "80,81"]),
            "meta nfproto ipv4 th sport 80 return\nth dport != 80 th dport != 81"
        );
    }

    #[test]
    fn what_always_holds_is_no_condition() {
        for text in [
            &[][..],
            &["-p", "all", "-i", "+"],
            &["-m", "comment", "--comment", "-s is only text"],
            &["-m comment --comment \"it's text\" -m tcp"],
            &["!", "--comment", "x"],
        ] {
            assert!(parse(text).unwrap().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn there_are_no_more_than_fit_a_rule() {
        let most = ["-d 10.0.0.0/8"; MOST_CONDITIONS];
        assert!(parse(&most).is_ok());
        assert!(parse(&[&most[..], &["-i eth0"]].concat()).unwrap_err().contains("more than 16"));
        let ports: Vec<String> = (1..=17).map(|port: u16| port.to_string()).collect();
        assert!(parse(&["--dports", &ports.join(",")]).unwrap_err().contains("more than 16"));
    }

    #[test]
    fn what_is_not_understood_is_named_with_what_is() {
        for (text, part) in [
            (&["-m", "physdev"][..], "\"-m physdev\""),
            (&["-m", "time", "--timestart", "9:00"], "\"-m time\""),
            (&["--tcp-flags", "SYN", "SYN"], "\"--tcp-flags\""),
            (&["-d"], "not followed"),
            (&["!"], "not followed"),
            (&["-d", "fd00::/8"], "other family"),
            (&["-s", "x"], "neither"),
            (&["-s", "10.0.0.0/8,"], "neither"),
            (&["-i", "a/b"], "a/b"),
            (&["-i", "a\u{1b}b"], "a\\u{1b}b"),
            (&["-i", "a\"b"], "a\\\"b"),
            (&["iifname { \"eth0\", \"eth1\" }"], "eth0,eth1"),
            (&["-m", "multiport", "--ports", "80"], "\"--ports\""),
            (&["--dport", "http"], "\"http\" is no port"),
            (&["--dport", "90:80"], "\"90:80\" is no port"),
            (&["--dport", "80,90"], "\"80,90\" is no port"),
            (&["-p", "icmp"], "\"icmp\" is no protocol"),
            (&["--mark", "1/0"], "\"1/0\" is no mark"),
            (&["--mark", "0x10/0xf"], "never"),
            (&["--ctstate", "DNAT"], "\"DNAT\" is no state"),
            (&["--dst-type", "NAT"], "\"NAT\" is no type of address"),
            (&["th dport { 80"], "not closed"),
            (&["ct mark 1"], "\"ct mark\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part) && error.contains("; supported are"), "{text:?}: {error}");
        }
    }

    #[test]
    fn rules_read_back_as_they_were_written() {
        let v4 = "! -s 10.0.0.0/8 -d 192.0.2.1 -i eth+ ! -o lo -p tcp --sport 1024: ! --dport 80 --mark 1/3 ! --mark 7 \
            --ctstate NEW ! --ctstate INVALID --dst-type LOCAL ! --src-type MULTICAST --dports 80,100:200";
        let v6 = "-s fd00::/8,fe80::/10 -i veth0 ! -i cni+ ! -p udp";
        let conditions = Conditions::parse(&[v4.to_owned()], &[v6.to_owned()]).unwrap();
        let table = ruleset::conditional(&conditions);
        let mut count = 0;
        for chain in &table.chains {
            for rule in &chain.rules {
                let message = rule.message(&table, &chain.name);
                let (name, read) = language::read_rule(&message.as_bytes()[16..]).unwrap();
                assert_eq!((name, read.unwrap().text()), (chain.name.clone(), rule.text()));
                count += 1;
            }
        }
        assert_eq!(count, 4 + 3 + 2, "dnat rules, those apart, calls");
    }
}
