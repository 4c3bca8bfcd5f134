//! Rules that nft, iptables-nft and iptables-legacy made, read back: the text is what these tools print, and each part is understood.
#![allow(clippy::disallowed_methods, reason = "nft and iptables are the witnesses here")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use model::filter::{Action, Chain, Family, Field, Hook, Maker, Match, Policy, Ruleset, Table, Value};
use podplumb_nft::ruleset_of_here;

fn isolate() {
    sys::isolate_thread().expect("tests that change the network need root: run `make test` as root");
}

fn feed(program: &str, arguments: &[&str], input: &str) {
    let mut command = Command::new(program);
    let child =
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{program}: {error} (make test installs it)"));
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program}: {}\n{input}", String::from_utf8_lossy(&output.stderr));
}

fn ask(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error} (make test installs it)"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn table<'a>(ruleset: &'a Ruleset, family: Family, name: &str, maker: Maker) -> &'a Table {
    let found = ruleset.tables.iter().find(|t| t.family == family && t.name == name && t.maker == maker);
    found.unwrap_or_else(|| panic!("no {family:?} {name} of {maker} in {:?}", ruleset.tables))
}

fn chain<'a>(table: &'a Table, name: &str) -> &'a Chain {
    table.chain(name).unwrap_or_else(|| panic!("no chain {name} in {table}"))
}

/// What is not understood, in matches and actions.
fn unknown(ruleset: &Ruleset) -> Vec<String> {
    let rules = ruleset.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    let of = |rule: &model::filter::Rule| {
        let matches = rule.matches.iter().filter_map(|found| match found {
            Match::Other(text) => Some(text.clone()),
            Match::Is { values, .. } => {
                values.iter().find(|value| matches!(value, Value::Other(_))).map(|value| format!("{value:?}"))
            }
            _ => None,
        });
        let actions = rule.actions.iter().filter_map(|action| match action {
            Action::Other(text) => Some(text.clone()),
            _ => None,
        });
        matches.chain(actions).map(|text| format!("{text}: {}", rule.text)).collect::<Vec<_>>()
    };
    rules.flat_map(of).collect()
}

/// What people and programs write with iptables: kube-proxy, Docker, flannel, Calico, and the CNI plugins among them.
const FILTER: &str = r#"*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:ODD - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -p tcp -m multiport --dports 80,443,8000:8080 -j ACCEPT
-A INPUT ! -s 10.0.0.0/8 -p udp -m udp --sport 53 -j DROP
-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT
-A INPUT -m pkttype --pkt-type broadcast -j DROP
-A INPUT -p sctp -m sctp --dport 3868 -j ACCEPT
-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i cali+ -j ACCEPT
-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT
-A FORWARD -m physdev --physdev-in veth+ -j ACCEPT
-A FORWARD -m iprange --src-range 10.1.0.5-10.1.0.9 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate NEW,UNTRACKED -j RETURN
-A ODD -m conntrack --ctstate DNAT -j ACCEPT
-A ODD -m addrtype --dst-type LOCAL,BROADCAST -j ACCEPT
-A ODD -m addrtype ! --src-type LOCAL -j RETURN
-A ODD -m connmark --mark 0x1/0xff -j ACCEPT
-A ODD -m mac --mac-source 0a:58:0a:f4:00:05 -j DROP
-A ODD -p tcp -g KUBE-FORWARD
COMMIT
"#;

const NAT: &str = r#"*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ERIFXISQEP7F7OF4 - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:PORTS - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j PORTS
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 192.0.2.7/32 -p udp -j MASQUERADE --to-ports 1024-2047
-A POSTROUTING -s 192.0.2.8/32 -j SNAT --to-source 198.51.100.1
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "kube-system/kube-dns:dns-tcp cluster IP" -m tcp --dport 53 -j KUBE-SVC-ERIFXISQEP7F7OF4
-A KUBE-SVC-ERIFXISQEP7F7OF4 ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -j KUBE-MARK-MASQ
-A KUBE-SVC-ERIFXISQEP7F7OF4 -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SVC-ERIFXISQEP7F7OF4 -j KUBE-SEP-BBBBBBBBBBBBBBBB
-A KUBE-SEP-AAAAAAAAAAAAAAAA -s 10.244.0.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.244.0.2:53
-A KUBE-SEP-BBBBBBBBBBBBBBBB -p tcp -m tcp -j DNAT --to-destination 10.244.0.3:53
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE
-A PORTS -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 80
-A PORTS -p tcp -m tcp --dport 8081 -j DNAT --to-destination 10.0.0.1-10.0.0.4:80-90
COMMIT
"#;

const MANGLE: &str = r#"*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff
-A PREROUTING -m mark --mark 0x0/0xff -j MARK --set-xmark 0x7/0xff
-A POSTROUTING -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff
COMMIT
"#;

const RAW: &str = r#"*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 53 -j CT --notrack
COMMIT
"#;

/// What iptables lists, by chain: `-A CHAIN` and the rule.
fn listed(program: &str, table: &str) -> Vec<String> {
    let text = ask(program, &["-t", table, "-S"]);
    text.lines().filter(|line| line.starts_with("-A ")).map(normal).collect()
}

/// A difference that says nothing: `-m tcp` without a question.
fn normal(line: &str) -> String {
    line.replace(" -m tcp -j", " -j")
}

fn ours(table: &Table) -> Vec<String> {
    let line = |chain: &Chain, text: &str| normal(&format!("-A {} {text}", chain.name));
    table.chains.iter().flat_map(|c| c.rules.iter().map(move |r| line(c, &r.text))).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    // Sets of states and flags have no order; nor do chains.
    for line in &mut lines {
        let words = line.split(' ').map(|word| {
            let mut parts: Vec<&str> = word.split(',').collect();
            parts.sort_unstable();
            parts.join(",")
        });
        *line = words.collect::<Vec<_>>().join(" ");
    }
    lines.sort();
    lines
}

fn iptables_reads_back(restore: &str, list: &str, maker: Maker) {
    isolate();
    for part in [FILTER, NAT, MANGLE, RAW] {
        feed(restore, &[], part);
    }
    let ruleset = ruleset_of_here();
    assert_eq!(ruleset.gaps, []);
    for name in ["filter", "nat", "mangle", "raw"] {
        let table = table(&ruleset, Family::Ip, name, maker);
        assert_eq!(sorted(ours(table)), sorted(listed(list, name)), "{name}");
    }
    assert_eq!(unknown(&ruleset), Vec::<String>::new());
    let filter = table(&ruleset, Family::Ip, "filter", maker);
    let base = chain(filter, "FORWARD").base.as_ref().expect("a base chain");
    assert_eq!((base.hook, base.priority, base.policy), (Hook::Forward, 0, Policy::Drop));
    assert!(chain(filter, "KUBE-FORWARD").base.is_none());
    let ssh = &chain(filter, "INPUT").rules[3];
    let is = |field, number| Match::Is { field, mask: None, not: false, values: vec![Value::Number(number)] };
    assert_eq!(ssh.matches, [is(Field::Protocol, 6), is(Field::DestinationPort, 22)]);
    assert_eq!(ssh.actions, [Action::Accept]);
    let back: Ruleset = serde_json::from_str(&serde_json::to_string(&ruleset).unwrap()).unwrap();
    assert_eq!(back, ruleset, "it reads back from JSON");
}

#[test]
fn what_iptables_nft_made_reads_as_it_lists_it() {
    iptables_reads_back("iptables-nft-restore", "iptables-nft", Maker::IptablesNft);
}

#[test]
fn what_iptables_legacy_made_reads_as_it_lists_it() {
    iptables_reads_back("iptables-legacy-restore", "iptables-legacy", Maker::IptablesLegacy);
}

const FILTER6: &str = r#"*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT
-A INPUT -s fd00::/64 -p tcp -m tcp --dport 1:1023 -j ACCEPT
-A INPUT -m addrtype --dst-type LOCAL -j ACCEPT
-A INPUT -m conntrack --ctorigdst fd00:1::/64 -j ACCEPT
-A INPUT -j REJECT --reject-with icmp6-adm-prohibited
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d fd00:2::1/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:8080
-A POSTROUTING -s fd00::/64 -o eth0 -j MASQUERADE
COMMIT
"#;

#[test]
fn rules_of_ipv6_read_as_their_tools_list_them() {
    isolate();
    for (restore, list, maker) in [
        ("ip6tables-nft-restore", "ip6tables-nft", Maker::IptablesNft),
        ("ip6tables-legacy-restore", "ip6tables-legacy", Maker::IptablesLegacy),
    ] {
        feed(restore, &[], FILTER6);
        let ruleset = ruleset_of_here();
        assert_eq!(ruleset.gaps, []);
        for name in ["filter", "nat"] {
            let table = table(&ruleset, Family::Ip6, name, maker);
            assert_eq!(sorted(ours(table)), sorted(listed(list, name)), "{name} of {maker}");
        }
        assert_eq!(unknown(&ruleset), Vec::<String>::new());
    }
}

/// What nft prints is what it is given here, so the text can be compared line by line.
const NFT: &str = r#"table inet fw {
	set allowed {
		type ipv4_addr . inet_service
		elements = { 10.0.0.1 . 80,
			     10.0.0.2 . 443 }
	}

	set nets {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.0/16, 10.2.0.5-10.2.0.9,
			     192.0.2.1 }
	}

	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.1 . tcp . 443 : goto service }
	}

	map ports {
		type inet_service : ipv4_addr . inet_service
		elements = { 8080 : 10.244.0.5 . 80 }
	}

	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		ct state invalid drop
		ct state vmap { invalid : drop, established : accept, related : accept }
		iifname "cni0" oifname != "cni0" accept
		iifname "cali*" accept
		iifname { "eth0", "eth1" } drop
		ip saddr 10.244.0.0/16 accept
		ip saddr 10.244.0.3 ip daddr 10.244.0.4 drop
		ip saddr != 10.0.0.0/8 drop
		ip saddr 10.9.0.5-10.9.0.9 accept
		ip6 daddr fd00::/64 accept
		ip saddr . tcp dport @allowed accept
		ip daddr @nets drop
		ip daddr != @nets accept
		tcp dport 22 accept
		tcp dport 1000-2000 accept
		udp dport { 53, 123 } accept
		tcp dport != 80 drop
		meta l4proto udp accept
		meta mark & 0x00004000 == 0x00004000 accept
		meta mark 0x00000001 accept
		meta nfproto ipv6 accept
		fib daddr type local accept
		fib daddr type { local, broadcast } accept
		icmp type echo-request accept
		tcp flags & (fin | syn | rst | ack) == syn accept
		ct status dnat accept
		ct mark 0x00000005 accept
		jump checks comment "more of them"
		log prefix "dropped: " drop
		counter packets 0 bytes 0
		reject with tcp reset
	}

	chain checks {
		return
	}

	chain service {
		numgen random mod 2 vmap { 0 : goto endpoint-a, 1 : goto endpoint-b }
	}

	chain endpoint-a {
		meta l4proto tcp dnat ip to 10.244.0.2:8443
	}

	chain endpoint-b {
		meta l4proto tcp dnat ip to 10.244.0.3:8443
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr . meta l4proto . th dport vmap @services
		fib daddr type local dnat ip to tcp dport map @ports
		tcp dport 8081 redirect to :81
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00000000 return
		meta mark set meta mark ^ 0x00004000
		masquerade
		ip saddr 10.244.0.0/16 oifname "eth0" snat ip to 192.0.2.1
	}

	chain mangle {
		type filter hook prerouting priority mangle; policy accept;
		meta mark set 0x00000007
		meta mark set meta mark | 0x00004000
		ct mark set meta mark
		meta mark set ct mark
		meta mark set 0x00000001 tcp dport 80 drop
		notrack
	}
}
table ip6 only6 {
	chain input {
		type filter hook input priority filter; policy accept;
		ip6 saddr fd00::5 drop
		icmpv6 type echo-request accept
	}
}
"#;

fn nft_lines(listing: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut in_chain = false;
    for line in listing.lines().map(str::trim) {
        in_chain = line.starts_with("chain ") || (in_chain && line != "}");
        if in_chain && !line.starts_with("chain ") && !line.starts_with("type ") {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// How nft writes what we write another way.
fn as_we_write(line: &str) -> String {
    let line = line.replace("dnat ip to", "dnat to").replace("snat ip to", "snat to");
    let line = line.replace(" counter packets 0 bytes 0", "").replace("counter packets 0 bytes 0", "");
    line.replace("numgen random mod", "numgen mod").trim().to_owned()
}

#[test]
fn what_nft_made_reads_as_it_lists_it() {
    isolate();
    feed("nft", &["-f", "-"], NFT);
    let ruleset = ruleset_of_here();
    assert_eq!(ruleset.gaps, []);
    let fw = table(&ruleset, Family::Inet, "fw", Maker::Nft);
    let only6 = table(&ruleset, Family::Ip6, "only6", Maker::Nft);
    // A rule that asks after a change is two; both have the text of the whole.
    let mut texts: Vec<String> = Vec::new();
    for chain in fw.chains.iter().chain(&only6.chains) {
        let mut last = None;
        for rule in &chain.rules {
            if last != rule.handle {
                texts.push(rule.text.clone());
            }
            last = rule.handle;
        }
    }
    let listing = ask("nft", &["list", "ruleset"]);
    let expected: Vec<String> = nft_lines(&listing).iter().map(|line| as_we_write(line)).collect();
    let texts: Vec<String> = texts.iter().map(|text| as_we_write(text)).collect();
    assert_eq!(texts, expected);
    assert_eq!(unknown(&ruleset), Vec::<String>::new());
    let forward = chain(fw, "forward");
    assert_eq!(forward.base.as_ref().unwrap().policy, Policy::Drop);
    let net = |text: &str| Value::Net(text.parse().unwrap());
    let nets: Vec<&Value> = fw.set("nets").unwrap().elements.iter().flat_map(|e| &e.key).collect();
    let range = Value::Addresses("10.2.0.5".parse().unwrap(), "10.2.0.9".parse().unwrap());
    assert_eq!(nets, [&net("10.1.0.0/16"), &range, &net("192.0.2.1/32")]);
    let services = &fw.set("services").unwrap().elements[0];
    assert_eq!(services.key, [net("10.96.0.1/32"), Value::Number(6), Value::Number(443)]);
    assert_eq!(services.action, Some(Action::Goto("service".into())));
    let ports = &fw.set("ports").unwrap().elements[0];
    assert_eq!(ports.data, [net("10.244.0.5/32"), Value::Number(80)]);
    let split: Vec<_> =
        chain(fw, "mangle").rules.iter().filter(|r| r.text.contains("tcp dport 80")).collect();
    assert_eq!(split.len(), 2, "the mark is set whatever the port is");
    assert!(split[0].matches.is_empty() && split[1].actions == [Action::Drop]);
}

#[test]
fn a_namespace_without_rules_has_none_and_no_gap() {
    isolate();
    let ruleset = ruleset_of_here();
    assert_eq!((ruleset.tables.len(), ruleset.gaps.len()), (0, 0));
}

#[test]
fn what_podplumb_does_not_understand_is_told() {
    isolate();
    feed(
        "nft",
        &["-f", "-"],
        "table ip t {\n chain c {\n type filter hook input priority 0;\n meta skuid 0 drop\n limit rate 5/second accept\n }\n}\n",
    );
    let ruleset = ruleset_of_here();
    let rules = &chain(table(&ruleset, Family::Ip, "t", Maker::Nft), "c").rules;
    assert!(matches!(&rules[0].matches[..], [Match::Other(text)] if text.contains("skuid")), "{rules:?}");
    assert!(matches!(&rules[1].matches[..], [Match::Other(text)] if text.contains("limit")), "{rules:?}");
}
