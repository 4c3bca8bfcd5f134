//! The kernel as the judge: rulesets that come by chance are given to it by nft and both iptables, read back, and what
//! `analyze::filter` says about a packet is compared with what becomes of a real one.
//!
//! The packets go over the loopback interface, through output, postrouting, prerouting and input; sockets at each address and port
//! tell where they come out, and from where.
#![allow(clippy::disallowed_methods, reason = "nft and iptables are the witnesses here")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use analyze::filter::{Change, Outcome, Packet, pass};
use model::Ruleset;
use model::filter::{AddressType, Hook};
use podplumb_nft::ruleset_of_here;

const ADDRESSES: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const PORTS: [u16; 3] = [5000, 5001, 5002];
/// What has not come by then does not come: a packet over the loopback interface is there before `send` returns.
const SILENCE: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(5);

/// xorshift64: each run is the same, and `PODPLUMB_SEED` makes another.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

fn run(program: &str, arguments: &[&str], input: &str) {
    if let Err(why) = attempt(program, arguments, input) {
        panic!("{program}: {why}\n{input}");
    }
}

fn attempt(program: &str, arguments: &[&str], input: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("{program}: {error} (make test installs it)"));
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A host with three addresses and a socket at each of their ports.
struct Host {
    sockets: Vec<UdpSocket>,
    next_port: u16,
}

impl Host {
    fn new() -> Self {
        sys::isolate_thread().expect("tests that change the network need root: run `make test` as root");
        run("ip", &["link", "set", "lo", "up"], "");
        let mut sockets = Vec::new();
        // Redirected packets of the host's own go to 127.0.0.1.
        for address in ADDRESSES.into_iter().chain(["127.0.0.1"]) {
            if address != "127.0.0.1" {
                run("ip", &["address", "add", &format!("{address}/32"), "dev", "lo"], "");
            }
            for port in PORTS {
                let socket = UdpSocket::bind((address, port)).expect("a port");
                socket.set_nonblocking(true).expect("a socket");
                sockets.push(socket);
            }
        }
        Self { sockets, next_port: 20_000 }
    }

    /// Sends a packet, and says where it came out and from whom; it is waited for where it is `expected`.
    fn send(&mut self, from: SocketAddr, to: SocketAddr, expected: bool) -> Option<(SocketAddr, SocketAddr)> {
        let socket = UdpSocket::bind(from).expect("a port of its own");
        // Where a rule drops it at output, the kernel says so here.
        let _ = socket.send_to(b"packet", to);
        let until = Instant::now() + if expected { PATIENCE } else { SILENCE };
        let mut buffer = [0; 16];
        loop {
            for socket in &self.sockets {
                if let Ok((_, source)) = socket.recv_from(&mut buffer) {
                    return Some((socket.local_addr().expect("bound"), source));
                }
            }
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// What the rules are said to do with a packet: `Err` where they do not tell for certain.
fn foretold(rules: &Ruleset, from: SocketAddr, to: SocketAddr) -> Result<Option<Packet>, String> {
    let local = Some(AddressType::Local);
    let mut packet = Packet {
        source_port: Some(from.port()),
        source_type: local,
        destination_type: local,
        ..Packet::connection(17, from.ip(), to.ip(), to.port())
    };
    for hook in [Hook::Output, Hook::Postrouting, Hook::Prerouting, Hook::Input] {
        let (leaves, is_in) =
            (matches!(hook, Hook::Output | Hook::Postrouting), !matches!(hook, Hook::Output));
        packet.output = leaves.then(|| "lo".to_owned());
        // Linux 5.7 and later still know the input interface at postrouting; this packet has none before it is received.
        packet.input = (is_in && !leaves).then(|| "lo".to_owned());
        let passage = pass(rules, hook, &packet);
        match passage.outcome {
            Outcome::Passed if passage.alternatives.is_empty() => {}
            Outcome::Passed => return Err("more than one way".to_owned()),
            Outcome::Dropped(_) | Outcome::Rejected(_) => return Ok(None),
            Outcome::Perhaps { why, .. } => return Err(why),
        }
        let is_masqueraded = passage.changes.iter().any(|change| matches!(change, Change::Masquerade { .. }));
        packet = passage.packet;
        if is_masqueraded {
            // Of the interface's addresses, the one in whose subnet the destination is, or the first that is not of the host alone.
            let before = packet.source;
            packet.source = if packet.destination.is_loopback() {
                ADDRESSES[0].parse().unwrap()
            } else {
                packet.destination
            };
            packet.source_translated = Some(packet.source != before);
        }
        packet.source_type = local;
        packet.destination_type = local;
    }
    Ok(Some(packet))
}

/// Gives the kernel some rulesets and compares; says how many packets were passed, dropped and not foretold.
fn compare(
    seed: u64,
    rulesets: usize,
    make: impl Fn(&mut Random),
    write: impl Fn(&mut Random) -> String,
) -> [usize; 3] {
    let seed = std::env::var("PODPLUMB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(seed);
    let mut random = Random(seed | 1);
    let mut host = Host::new();
    make(&mut random);
    let mut counts = [0; 3];
    for _ in 0..rulesets {
        let text = write(&mut random);
        let rules = ruleset_of_here();
        assert_eq!(rules.gaps, []);
        for _ in 0..6 {
            host.next_port += 1;
            let from = SocketAddr::new(random.of(&ADDRESSES).parse().unwrap(), host.next_port);
            let to = SocketAddr::new(random.of(&ADDRESSES).parse().unwrap(), PORTS[random.below(3)]);
            let expected = foretold(&rules, from, to);
            let seen = host.send(from, to, matches!(expected, Ok(Some(_))));
            let context =
                || format!("seed {seed}: from {from} to {to}: foretold {expected:?}, seen {seen:?}\n{text}");
            match &expected {
                Err(_) => counts[2] += 1,
                Ok(None) => {
                    counts[1] += 1;
                    assert_eq!(seen, None, "{}", context());
                }
                Ok(Some(packet)) => {
                    counts[0] += 1;
                    let (at, source) = seen.unwrap_or_else(|| panic!("it did not come: {}", context()));
                    let wanted = (packet.destination, packet.destination_port.expect("it is UDP"));
                    assert_eq!((at.ip(), at.port()), wanted, "{}", context());
                    assert_eq!(source.ip(), packet.source, "{}", context());
                }
            }
        }
    }
    counts
}

const NFT_MATCHES: [&str; 36] = [
    "",
    "",
    "udp dport 5000",
    "udp dport 5001-5002",
    "udp dport != 5001",
    "udp dport { 5000-5001 }",
    "udp dport > 5000",
    "udp sport 1024-65535",
    "tcp dport 5000",
    "ip saddr 10.0.0.1",
    "ip saddr != 10.0.0.1",
    "ip saddr 10.0.0.1 ip daddr 10.0.0.2",
    "ip daddr 10.0.0.2/31",
    "ip daddr 10.0.0.2-10.0.0.3",
    "ip daddr { 10.0.0.1, 10.0.0.3 }",
    "ip daddr != { 10.0.0.1, 10.0.0.3 }",
    "iifname \"lo\"",
    "iif \"lo\"",
    "oifname != \"lo\"",
    "oifname \"l*\"",
    "meta mark 1",
    "meta mark & 2 == 2",
    "meta mark & 3 != 0",
    "ct mark 1",
    "ct state new",
    "ct state established,related",
    "ct state vmap { invalid : drop, established : accept, new : jump sub }",
    "ct status dnat",
    "ct status & (snat | dnat) != 0",
    "meta l4proto udp ct original proto-dst 5001",
    "ct original ip daddr 10.0.0.2",
    "fib daddr type local",
    "meta l4proto { tcp, udp }",
    "ip saddr . udp dport @pairs",
    "ip daddr @nets",
    "ip daddr != @nets",
];

const NFT_ACTIONS: [&str; 17] = [
    "accept",
    "drop",
    "drop",
    "return",
    "jump sub",
    "goto sub",
    "counter",
    "continue",
    "meta mark set 1",
    "meta mark set meta mark | 2",
    "meta mark set meta mark & 0xfffffffe",
    "ct mark set 1",
    "ct mark set meta mark",
    "meta mark set ct mark",
    "meta mark set 3 udp dport 5002 drop",
    "udp dport vmap { 5000 : drop, 5001 : accept, 5002 : jump sub }",
    "ip daddr . udp dport vmap @verdicts",
];

const NFT_DNAT: [&str; 7] = [
    "dnat ip to 10.0.0.3",
    "udp dport 5000-5001 dnat ip to 10.0.0.2:5002",
    "meta l4proto udp redirect to :5001",
    "dnat ip to udp dport map @ports",
    "dnat ip to udp dport map { 5000 : 10.0.0.3, 5002 : 10.0.0.1 }",
    "return",
    "accept",
];

const NFT_SNAT: [&str; 5] =
    ["snat ip to 10.0.0.3", "snat ip to 10.0.0.2", "masquerade", "return", "meta mark set 1 accept"];

fn nft_rules(random: &mut Random, actions: &[&str], most: usize, text: &mut String) {
    for _ in 0..random.below(most + 1) {
        let line = format!("{} {}", random.of(&NFT_MATCHES), random.of(actions));
        // A verdict map ends a rule.
        if line.contains("ct state vmap")
            && line.matches("vmap").count() + usize::from(!line.ends_with("counter")) > 1
        {
            let _ = writeln!(
                text,
                "    ct state vmap {{ invalid : drop, established : accept, new : continue }}"
            );
        } else {
            let _ = writeln!(text, "    {line}");
        }
    }
}

/// A ruleset that nft takes: some questions contradict each other, which it does not.
fn nft_ruleset(random: &mut Random) -> String {
    for _ in 0..100 {
        let text = nft_text(random);
        match attempt("nft", &["-f", "-"], &text) {
            Ok(()) => return text,
            Err(why) => assert!(why.contains("conflicting protocols"), "{why}\n{text}"),
        }
    }
    panic!("nft takes none of them");
}

fn nft_text(random: &mut Random) -> String {
    let mut text = "flush ruleset\n".to_owned();
    for family in ["inet", "ip"] {
        if family == "ip" && random.below(2) == 0 {
            continue;
        }
        let _ = writeln!(text, "table {family} t {{");
        text.push_str("  set pairs { type ipv4_addr . inet_service\n elements = { 10.0.0.1 . 5000, 10.0.0.3 . 5002 }\n }\n");
        text.push_str(
            "  set nets { type ipv4_addr\n flags interval\n elements = { 10.0.0.2-10.0.0.9 }\n }\n",
        );
        text.push_str("  map ports { type inet_service : ipv4_addr . inet_service\n elements = { 5000 : 10.0.0.2 . 5001 }\n }\n");
        // One in which the rest has a verdict of its own.
        text.push_str("  map verdicts { type ipv4_addr . inet_service : verdict\n elements = { 10.0.0.2 . 5001 : drop, 10.0.0.3 . 5000 : accept }\n }\n");
        text.push_str("  chain subsub {\n");
        nft_rules(random, &["accept", "drop", "return", "meta mark set 1"], 2, &mut text);
        text.push_str("  }\n  chain sub {\n");
        let flat: Vec<&str> =
            NFT_ACTIONS.iter().copied().filter(|a| !a.contains("sub")).chain(["jump subsub"]).collect();
        let mut lines = String::new();
        nft_rules(random, &flat, 3, &mut lines);
        text.push_str(&lines.replace("jump sub ", "jump subsub "));
        text.push_str("  }\n");
        for (hook, most) in [("output", 4), ("input", 4), ("prerouting", 2), ("postrouting", 2)] {
            let priority = [-150, -10, 0, 10][random.below(4)];
            let policy = if random.below(9) == 0 { "drop" } else { "accept" };
            let _ = writeln!(
                text,
                "  chain {hook} {{\n    type filter hook {hook} priority {priority}; policy {policy};"
            );
            nft_rules(random, &NFT_ACTIONS, most, &mut text);
            text.push_str("  }\n");
        }
        text.push_str("  chain nat-output {\n    type nat hook output priority -100;\n");
        nft_rules(random, &NFT_DNAT, 3, &mut text);
        text.push_str("  }\n  chain nat-postrouting {\n    type nat hook postrouting priority 100;\n");
        nft_rules(random, &NFT_SNAT, 3, &mut text);
        text.push_str("  }\n}\n");
    }
    text
}

fn enough(counts: [usize; 3]) {
    let [passed, dropped, unknown] = counts;
    println!("{passed} passed, {dropped} dropped, {unknown} not foretold");
    assert!(passed > 100 && dropped > 100, "the rulesets are all alike: {counts:?}");
    assert!(unknown * 10 < passed + dropped, "too much is not foretold: {counts:?}");
}

#[test]
fn what_nft_made_does_what_is_foretold() {
    enough(compare(0x5eed, 150, |_| {}, nft_ruleset));
}

const XT_MATCHES: [&str; 28] = [
    "",
    "",
    "-p udp -m udp --dport 5000",
    "-p udp -m udp --dport 5001:5002",
    "-p udp -m udp ! --dport 5001",
    "-p udp -m multiport --dports 5000,5002",
    "-p udp -m multiport ! --dports 5000:5001",
    "-p tcp -m tcp --dport 5000",
    "! -p tcp",
    "-s 10.0.0.1",
    "! -s 10.0.0.1",
    "-d 10.0.0.2/31",
    "! -d 10.0.0.2/31",
    "-m iprange --dst-range 10.0.0.2-10.0.0.3",
    "-m iprange ! --src-range 10.0.0.2-10.0.0.3",
    "-m mark --mark 1",
    "-m mark --mark 2/2",
    "-m mark ! --mark 0/3",
    "-m connmark --mark 1/1",
    "-m conntrack --ctstate NEW",
    "-m conntrack ! --ctstate NEW",
    "-m conntrack --ctstate RELATED,ESTABLISHED",
    "-m conntrack --ctstate DNAT",
    "-m conntrack --ctorigdst 10.0.0.2",
    "-m conntrack --ctdir ORIGINAL",
    "-m addrtype --dst-type LOCAL",
    "-m addrtype ! --src-type LOCAL,UNICAST",
    "-m physdev ! --physdev-is-bridged",
];

const XT_FILTER: [&str; 9] = [
    "-j ACCEPT",
    "-j DROP",
    "-j DROP",
    "-j RETURN",
    "-j SUB",
    "-g SUB",
    "",
    "-j REJECT",
    "-m comment --comment \"no target\"",
];
const XT_MANGLE: [&str; 8] = [
    "-j MARK --set-xmark 0x1/0xffffffff",
    "-j MARK --set-xmark 0x2/0x2",
    "-j MARK --set-xmark 0x3/0x0",
    "-j CONNMARK --save-mark",
    "-j CONNMARK --restore-mark --nfmask 0x1 --ctmask 0x1",
    "-j CONNMARK --set-xmark 0x1/0xffffffff",
    "-j RETURN",
    "-j ACCEPT",
];
const XT_DNAT: [&str; 5] = [
    "-j DNAT --to-destination 10.0.0.3",
    "-p udp -j DNAT --to-destination 10.0.0.2:5002",
    "-p udp -j REDIRECT --to-ports 5001",
    "-j RETURN",
    "-j ACCEPT",
];
const XT_SNAT: [&str; 4] = ["-j SNAT --to-source 10.0.0.3", "-j MASQUERADE", "-j RETURN", "-j ACCEPT"];

fn xt_ruleset(restore: &str, random: &mut Random) -> String {
    let mut text = String::new();
    let lines = |random: &mut Random, chain: &str, actions: &[&str], most: usize| {
        let mut lines = String::new();
        for _ in 0..random.below(most + 1) {
            let mut asked = random.of(&XT_MATCHES);
            let action = random.of(actions);
            if action.contains("-p udp") && asked.contains("-p ") {
                asked = "";
            }
            let _ = writeln!(lines, "-A {chain} {asked} {action}");
        }
        lines
    };
    text.push_str(
        "*mangle\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n",
    );
    for chain in ["OUTPUT", "INPUT", "PREROUTING"] {
        text.push_str(&lines(random, chain, &XT_MANGLE, 3));
    }
    text.push_str("COMMIT\n*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n");
    text.push_str(&lines(random, "OUTPUT", &XT_DNAT, 3));
    text.push_str(&lines(random, "POSTROUTING", &XT_SNAT, 2));
    let policy = |random: &mut Random| if random.below(9) == 0 { "DROP" } else { "ACCEPT" };
    let _ = writeln!(
        text,
        "COMMIT\n*filter\n:INPUT {}\n:FORWARD ACCEPT\n:OUTPUT {}\n:SUB -",
        policy(random),
        policy(random)
    );
    text.push_str(&lines(random, "OUTPUT", &XT_FILTER, 4));
    text.push_str(&lines(random, "INPUT", &XT_FILTER, 4));
    text.push_str(&lines(random, "SUB", &["-j ACCEPT", "-j DROP", "-j RETURN", ""], 3));
    text.push_str("COMMIT\n");
    run(restore, &[], &text);
    text
}

#[test]
fn what_iptables_nft_made_does_what_is_foretold() {
    enough(compare(0xf00d, 100, |_| {}, |random| xt_ruleset("iptables-nft-restore", random)));
}

#[test]
fn what_iptables_legacy_made_does_what_is_foretold() {
    enough(compare(0xbeef, 100, |_| {}, |random| xt_ruleset("iptables-legacy-restore", random)));
}

#[test]
fn tables_of_all_three_together_do_what_is_foretold() {
    let all = |random: &mut Random| {
        let nft = nft_ruleset(random);
        let others =
            [xt_ruleset("iptables-nft-restore", random), xt_ruleset("iptables-legacy-restore", random)];
        format!("{nft}\n{}", others.join("\n"))
    };
    let [passed, dropped, unknown] = compare(0xcafe, 60, |_| {}, all);
    println!("{passed} passed, {dropped} dropped, {unknown} not foretold");
    assert!(passed > 10 && dropped > 10);
}
