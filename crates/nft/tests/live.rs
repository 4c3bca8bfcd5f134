//! The ruleset in the running kernel, as nft sees it, in namespaces of the tests' own.
#![allow(clippy::disallowed_methods, reason = "nft and iptables are the witnesses here")]

use std::process::Command;

use model::{Protocol, RuleElement};
use netlink::Socket;
use podplumb_nft as ours;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error} (make test installs it)"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn isolate() {
    sys::isolate_thread().expect("tests that change the network need root: run `make test` as root");
}

fn masquerade(net: &str) -> RuleElement {
    RuleElement::Masquerade { address: net.parse().unwrap() }
}

fn map_port(host_port: u16, pod: &str) -> RuleElement {
    RuleElement::MapPort {
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port,
        pod: pod.parse().unwrap(),
        pod_port: 80,
        conditions: None,
    }
}

fn one_of_each() -> Vec<RuleElement> {
    let specific = RuleElement::MapPort {
        protocol: Protocol::Udp,
        host_ip: Some("192.0.2.1".parse().unwrap()),
        host_port: 53,
        pod: "10.0.0.2".parse().unwrap(),
        pod_port: 5353,
        conditions: None,
    };
    vec![
        masquerade("10.0.0.2/24"),
        masquerade("fd00::2/64"),
        map_port(8080, "10.0.0.2"),
        map_port(8080, "fd00::2"),
        specific,
        RuleElement::Hairpin { from: "10.0.0.0/24".parse().unwrap(), pod: "10.0.0.2".parse().unwrap() },
        RuleElement::Restrict { address: "10.0.0.2".parse().unwrap(), bridge: "cni0".parse().unwrap() },
        RuleElement::Isolate { address: "fd00::2".parse().unwrap() },
        RuleElement::Admit { address: "10.0.0.2".parse().unwrap() },
        RuleElement::Source {
            interface: "veth1".parse().unwrap(),
            mac: "0a:00:00:00:00:01".parse().unwrap(),
        },
    ]
}

fn never(_: &str) -> bool {
    false
}

#[test]
fn what_was_given_to_somebody_else_while_gc_looked_is_not_removed() {
    isolate();
    let (first, second) = ([masquerade("10.0.0.2/24")], [masquerade("10.0.0.3/24")]);
    ours::add("pods:stale:eth0", &first, None, never).unwrap();
    ours::add("pods:gone:eth0", &second, None, never).unwrap();
    let mut socket = Socket::netfilter().unwrap();
    let is_stale = |owner: &str| {
        // The stale one's DEL comes at last, and its address goes to the next pod.
        if owner == "pods:stale:eth0" {
            assert!(ours::remove(&mut Socket::netfilter().unwrap(), owner, &first).unwrap());
            ours::add("pods:new:eth0", &first, None, never).unwrap();
        }
        owner != "pods:new:eth0"
    };
    assert_eq!(ours::remove_where(&mut socket, is_stale).unwrap(), 2, "both sets of the one that is gone");
    assert_eq!(ours::missing("pods:new:eth0", &first).unwrap(), None);
    assert_eq!(ours::missing("pods:gone:eth0", &second).unwrap(), Some(&second[0]));
}

#[test]
fn of_two_that_take_over_a_port_one_gets_it() {
    isolate();
    let port = [map_port(8080, "10.0.0.2")];
    ours::add("pods:gone:eth0", &port, None, never).unwrap();
    let is_gone = |holder: &str| holder == "pods:gone:eth0";
    let other_was_faster = |holder: &str| {
        if is_gone(holder) {
            ours::add("pods:a:eth0", &port, None, is_gone).unwrap();
        }
        is_gone(holder)
    };
    let error = ours::add("pods:b:eth0", &port, None, other_was_faster).unwrap_err();
    assert!(matches!(&error, ours::AddError::Taken { holder, .. } if holder == "pods:a:eth0"), "{error:?}");
    assert_eq!(ours::missing("pods:a:eth0", &port).unwrap(), None);
}

#[test]
fn the_kernel_has_what_the_text_says_and_pods_come_and_go_as_elements() {
    isolate();
    let all = one_of_each();
    let mut socket = Socket::netfilter().unwrap();
    assert!(ours::list().unwrap().is_empty(), "no table, no elements");
    assert!(!ours::remove(&mut socket, "pods:a:eth0", &all).unwrap());

    ours::add("pods:a:eth0", &all, None, never).unwrap();
    assert_eq!(ours::table_names().unwrap(), ["inet podplumb", "bridge podplumb"]);
    let seen = run("nft", &["list", "ruleset"]);
    for part in [
        "10.0.0.2 . 10.0.0.0/24 comment \"pods:a:eth0\"",
        "fd00::2 . fd00::/64 comment",
        "tcp . 8080 comment \"pods:a:eth0\" : 10.0.0.2 . 80",
        "tcp . 8080 comment \"pods:a:eth0\" : fd00::2 . 80",
        "192.0.2.1 . udp . 53 comment \"pods:a:eth0\" : 10.0.0.2 . 5353",
        "\"cni0\" . 10.0.0.2 comment",
        "\"veth1\" . 0a:00:00:00:00:01 comment",
    ] {
        assert!(seen.contains(part), "{part} in\n{seen}");
    }
    assert_eq!(ours::missing("pods:a:eth0", &all).unwrap(), None);
    assert_eq!(ours::missing("pods:b:eth0", &all).unwrap(), Some(&all[0]));
    let owned = ours::list().unwrap();
    assert!(owned.iter().all(|element| element.owner == "pods:a:eth0"), "{owned:#?}");
    let texts: Vec<&str> = owned.iter().map(|element| element.text.as_str()).collect();
    assert!(texts.contains(&"inet podplumb local4 { 10.0.0.2 . 10.0.0.0/24 }"), "{texts:#?}");
    assert!(texts.contains(&"inet podplumb ports4 { tcp . 8080 : 10.0.0.2 . 80 }"), "{texts:#?}");

    // What we print is what nft has: read by it, it makes the same.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, ours::text_with_elements().unwrap()).unwrap();
    run("nft", &["flush", "ruleset"]);
    run("nft", &["-f", &file.path().display().to_string()]);
    assert_eq!(run("nft", &["list", "ruleset"]), seen);

    let rules = |text: &str| text.matches(" drop\n").count() + text.matches("masquerade\n").count();
    let before = rules(&seen);
    ours::add("pods:b:eth0", &[masquerade("10.0.0.3/24"), map_port(8081, "10.0.0.3")], None, never).unwrap();
    assert_eq!(rules(&run("nft", &["list", "ruleset"])), before, "a pod is no rule");

    assert!(ours::remove(&mut socket, "pods:a:eth0", &all).unwrap());
    assert_eq!(ours::remove_where(&mut socket, |owner| owner == "pods:b:eth0").unwrap(), 3);
    assert!(ours::list().unwrap().is_empty());
    assert_eq!(run("nft", &["list", "ruleset"]), ours::text());
}

#[test]
fn only_the_owner_removes_an_element_and_an_address_goes_to_its_new_owner() {
    isolate();
    let mut socket = Socket::netfilter().unwrap();
    let rules = [masquerade("10.0.0.2/24")];
    ours::add("pods:a:eth0", &rules, None, never).unwrap();
    ours::add("pods:b:eth0", &rules, None, never).unwrap();
    assert!(!ours::remove(&mut socket, "pods:a:eth0", &rules).unwrap(), "it is b's by now");
    assert_eq!(ours::missing("pods:b:eth0", &rules).unwrap(), None);
    ours::add("pods:b:eth0", &rules, None, never).unwrap();
    assert!(ours::remove(&mut socket, "pods:b:eth0", &rules).unwrap());
}

#[test]
fn a_port_is_not_taken_from_its_holder_unless_the_caller_says_so() {
    isolate();
    ours::add("pods:a:eth0", &[map_port(80, "10.0.0.2")], None, never).unwrap();
    let wanted = [masquerade("10.0.0.3/24"), map_port(80, "10.0.0.3")];
    match ours::add("pods:b:eth0", &wanted, None, never) {
        Err(ours::AddError::Taken { holder, element, .. }) => {
            assert_eq!((holder.as_str(), element.as_str()), ("pods:a:eth0", "tcp . 80 : 10.0.0.3 . 80"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ours::list().unwrap().len(), 1, "and nothing of it is done");
    ours::add("pods:b:eth0", &wanted, None, |holder| holder == "pods:a:eth0").unwrap();
    assert_eq!(ours::missing("pods:b:eth0", &wanted).unwrap(), None);
}

#[test]
fn a_port_of_one_address_and_of_all_is_the_same_port() {
    isolate();
    let at = |host_ip: Option<&str>, pod: &str| {
        let RuleElement::MapPort { protocol, host_port, pod, pod_port, conditions, .. } = map_port(80, pod)
        else {
            unreachable!()
        };
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        [RuleElement::MapPort { protocol, host_ip, host_port, pod, pod_port, conditions }]
    };
    let is_taken = |result: Result<(), ours::AddError>| matches!(result, Err(ours::AddError::Taken { .. }));
    ours::add("pods:a:eth0", &at(Some("192.0.2.1"), "10.0.0.2"), None, never).unwrap();
    assert!(is_taken(ours::add("pods:b:eth0", &at(None, "10.0.0.3"), None, never)));
    ours::add("pods:c:eth0", &at(Some("192.0.2.2"), "10.0.0.4"), None, never).unwrap();
    ours::add("pods:d:eth0", &at(None, "fd00::2"), None, never).expect("the other family is another port");
    ours::add("pods:b:eth0", &at(None, "10.0.0.3"), None, |_| true).unwrap();
    assert!(is_taken(ours::add("pods:a:eth0", &at(Some("192.0.2.1"), "10.0.0.2"), None, never)));
    let owners: Vec<String> = ours::list().unwrap().into_iter().map(|element| element.owner).collect();
    assert_eq!(owners, ["pods:b:eth0", "pods:d:eth0"]);
}

#[test]
fn an_older_table_is_brought_up_to_date_and_keeps_its_elements() {
    isolate();
    ours::add("pods:a:eth0", &[masquerade("10.0.0.2/24")], None, never).unwrap();
    let whole = run("nft", &["-s", "list", "ruleset"]);
    run("nft", &["flush", "chain", "inet", "podplumb", "forward"]);
    run("nft", &["delete", "set", "inet", "podplumb", "bridged4"]);
    run("nft", &["flush", "chain", "inet", "podplumb", "postrouting"]);
    run("nft", &["delete", "set", "inet", "podplumb", "hairpin4"]);
    ours::add(
        "pods:b:eth0",
        &[RuleElement::Hairpin { from: "10.0.0.0/24".parse().unwrap(), pod: "10.0.0.3".parse().unwrap() }],
        None,
        never,
    )
    .unwrap();
    let mut socket = Socket::netfilter().unwrap();
    ours::remove_where(&mut socket, |owner| owner == "pods:b:eth0").unwrap();
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&run("nft", &["-s", "list", "ruleset"])), sorted(&whole));
}

#[test]
fn a_long_owners_comment_still_tells_it_from_others() {
    isolate();
    let mut socket = Socket::netfilter().unwrap();
    let owners = ["x", "y"].map(|end| format!("{}:{}:{end}", "n".repeat(150), "c".repeat(150)));
    ours::add(&owners[0], &[masquerade("10.0.0.2/24")], None, never).unwrap();
    assert!(!ours::remove(&mut socket, &owners[1], &[masquerade("10.0.0.2/24")]).unwrap());
    assert!(ours::remove(&mut socket, &owners[0], &[masquerade("10.0.0.2/24")]).unwrap());
}

/// A port mapping with these conditions, of IPv4 and of IPv6.
fn map_port_if(v4: &[&str], v6: &[&str]) -> (Vec<RuleElement>, ours::Conditions) {
    let [v4, v6] = [v4, v6].map(|words| words.iter().map(ToString::to_string).collect::<Vec<_>>());
    let conditions = ours::Conditions::parse(&v4, &v6).unwrap();
    let mapping = |pod: &str| match map_port(80, pod) {
        RuleElement::MapPort { protocol, host_ip, host_port, pod, pod_port, .. } => {
            let conditions = Some(conditions.id());
            RuleElement::MapPort { protocol, host_ip, host_port, pod, pod_port, conditions }
        }
        other => other,
    };
    (vec![mapping("10.0.0.2"), mapping("fd00::2")], conditions)
}

#[test]
fn conditions_have_maps_and_chains_of_their_own() {
    isolate();
    let (mapping, conditions) = map_port_if(&["!", "-d", "192.0.2.0/24"], &[]);
    ours::add("pods:a:eth0", &mapping, Some(&conditions), never).unwrap();
    let seen = run("nft", &["list", "ruleset"]);
    let rule = format!("map @ports4-{}", conditions.id());
    let line = seen.lines().find(|line| line.contains(&rule)).expect("a rule");
    assert!(line.contains("ip daddr != 192.0.2.0/24"), "{line}");
    let mut socket = Socket::netfilter().unwrap();
    assert_eq!(ours::list().unwrap().len(), 2);
    assert_eq!(ours::remove_where(&mut socket, |_| true).unwrap(), 2);
}

/// Conditions of every kind, as iptables has them.
const CONDITIONS: &[&str] = &[
    "-s 192.0.2.0/25",
    "! -s 192.0.2.1",
    "-d 192.0.2.0/255.255.255.192",
    "-i eth0",
    "! -i eth+",
    "-p tcp --sport 1024:",
    // (Of UDP, iptables-translate 1.8.9 forgets the "!".)
    "-p tcp ! --dport 53",
    "! -p tcp",
    "-m mark --mark 0x7",
    "-m mark ! --mark 0x10/0xf0",
    "-m conntrack --ctstate NEW",
    "-m conntrack ! --ctstate NEW,RELATED,INVALID",
    "-m addrtype --dst-type LOCAL",
    "-m addrtype ! --src-type MULTICAST",
];

#[test]
fn the_text_has_conditional_mappings_too() {
    isolate();
    let all = CONDITIONS.iter().map(|words| words.split_whitespace().collect::<Vec<_>>());
    let neighbours =
        ["!", "--sport", "80", "!", "--dport", "80", "!", "-s", "10.0.0.1", "!", "-d", "10.0.0.2"];
    let mixed = ["--sport", "80", "!", "--dport", "80", "-s", "10.0.0.1", "!", "-d", "10.0.0.2"];
    let several = ["-s", "10.0.0.0/8,192.0.2.1", "-m", "multiport", "-p", "tcp", "--dports", "80,1000:2000"];
    let v6 = ["-s", "fd00::/8,fe80::/10", "!", "-i", "veth+", "-m", "multiport", "!", "--dports", "80,81"];
    let each = all.map(|words| (words, Vec::new())).chain([
        (neighbours.to_vec(), Vec::new()),
        (mixed.to_vec(), Vec::new()),
        (several.to_vec(), v6.to_vec()),
    ]);
    for (at, (v4, v6)) in each.enumerate() {
        let (mapping, conditions) = map_port_if(&v4, &v6);
        ours::add(&format!("pods:{at}:eth0"), &mapping, Some(&conditions), |_| true).unwrap();
    }
    let seen = run("nft", &["list", "ruleset"]);
    let text = ours::text_with_elements().unwrap();
    assert!(text.contains("tcp . 80 comment \"pods:16:eth0\" : 10.0.0.2 . 80"), "{text}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &text).unwrap();
    run("nft", &["flush", "ruleset"]);
    run("nft", &["-f", &file.path().display().to_string()]);
    let again = run("nft", &["list", "ruleset"]);
    let differ = seen.lines().zip(again.lines()).find(|(seen, again)| seen != again);
    assert!(differ.is_none() && seen == again, "{differ:?}");
    assert!(!text.contains("not podplumb's"), "{text}");
    assert_eq!(ours::text_with_elements().unwrap(), text, "nft writes some expressions in other ways");
    // What somebody else adds is no reason to print nothing, and is not passed over.
    let chain = text.lines().find_map(|line| line.trim().strip_prefix("chain ports-")?.strip_suffix(" {"));
    run("nft", &["add", "rule", "inet", "podplumb", &format!("ports-{}", chain.unwrap()), "ip ttl 1 accept"]);
    let escape = "iifname \"\u{1b}[2J\" return";
    run("nft", &["add", "rule", "inet", "podplumb", &format!("ports-{}", chain.unwrap()), escape]);
    let text = ours::text_with_elements().unwrap();
    assert_eq!(text.matches("# a rule that is not podplumb's").count(), 2);
    assert!(!text.contains('\u{1b}'), "what others write is not printed raw");
}

#[test]
fn conditions_are_what_iptables_translates_them_to() {
    isolate();
    run("nft", &["add", "table", "inet", "theirs"]);
    for words in CONDITIONS {
        let (mapping, conditions) = map_port_if(&words.split_whitespace().collect::<Vec<_>>(), &[]);
        ours::add("pods:a:eth0", &mapping, Some(&conditions), |_| true).unwrap();
        let command = ["-t", "nat", "-A", "PREROUTING"].into_iter().chain(words.split_whitespace());
        let command: Vec<&str> = command.chain(["-j", "ACCEPT"]).collect();
        // nft 'add rule ip nat PREROUTING ct state new counter accept'
        let theirs = run("iptables-translate", &command);
        let theirs = theirs.trim().trim_start_matches("nft 'add rule ip nat PREROUTING ");
        let theirs = theirs.trim_end_matches("counter accept'").to_owned();
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("table inet theirs {{ chain c {{ meta nfproto ipv4 {theirs} return; }}; }}\n");
        std::fs::write(&file, format!("table inet theirs\ndelete table inet theirs\n{script}")).unwrap();
        run("nft", &["-f", &file.path().display().to_string()]);
        let theirs = run("nft", &["list", "table", "inet", "theirs"]);
        let theirs = theirs.lines().find_map(|line| line.trim().strip_suffix(" return")).unwrap();
        let theirs = theirs.trim_start_matches("meta nfproto ipv4 ").replace("ip protocol", "meta l4proto");
        let ours = run("nft", &["list", "chain", "inet", "podplumb", &format!("ports-{}", conditions.id())]);
        let same = ours.lines().filter(|line| line.contains(&format!("{theirs} dnat ip to "))).count();
        assert_eq!(same, 2, "{words}: {theirs}");
    }
}

#[test]
fn as_many_conditions_as_are_allowed_fit_the_kernels_rules() {
    isolate();
    let longest = |net: &str| vec![format!("! -d {net}"); 16];
    let conditions = ours::Conditions::parse(&longest("10.1.2.128/25"), &longest("fd00::8/125")).unwrap();
    ours::add("pods:a:eth0", &[map_port(80, "10.0.0.2")], Some(&conditions), never).unwrap();
    let seen = run("nft", &["list", "ruleset"]);
    for condition in ["ip6 daddr != fd00::8/125", "ip daddr != 10.1.2.128/25"] {
        // In the rule for one address of the node, and in that for any.
        assert_eq!(seen.matches(condition).count(), 2 * 16, "{seen}");
    }
}

#[test]
fn iptables_reads_the_rules_that_its_dropping_forward_chain_gets() {
    isolate();
    ours::foreign::admit_forwarded("CNI-ADMIN").unwrap();
    assert!(ours::table_names().unwrap().is_empty(), "without iptables' chains there is nothing to do");
    let rules = |program: &str| {
        let text = run(program, &["-S", "FORWARD"]);
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let asks = "-A FORWARD -j CNI-ADMIN";
    for program in ["iptables-nft", "ip6tables-nft"] {
        run(program, &["-A", "FORWARD", "-p", "tcp", "-j", "ACCEPT"]);
        ours::foreign::admit_forwarded("CNI-ADMIN").unwrap();
        assert_eq!(rules(program), [asks, "-A FORWARD -p tcp -j ACCEPT"], "it accepts what it gets");
        run(program, &["-P", "FORWARD", "DROP"]);
        ours::foreign::admit_forwarded("CNI-ADMIN").unwrap();
        ours::foreign::admit_forwarded("CNI-ADMIN").unwrap();
        let all = rules(program);
        assert_eq!((all.len(), all[0].as_str()), (3, asks), "{all:#?}");
        assert!(all[1].contains("--mark 0x1000/0x1000") && all[1].ends_with("-j ACCEPT"), "{all:#?}");
        run(
            program,
            &["-A", "CNI-ADMIN", "-s", "::1", "-j", "DROP"].map(|word| match (word, program) {
                ("::1", "iptables-nft") => "127.0.0.1",
                (word, _) => word,
            }),
        );
    }
}
