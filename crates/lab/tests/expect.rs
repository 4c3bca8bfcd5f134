//! Sentences: what is understood, and what is said about what is not.

use std::path::Path;
use std::time::Duration;

use podplumb_lab::expect::{Check, Compare, Expectation, Family, Pattern, Protocol, Target, Way, parse};
use podplumb_lab::{Wiring, resolve, topology};

fn wiring() -> Wiring {
    let yaml = "hosts: [a, b]\nrouters: [r1]\nlinks: [a -- r1, b -- r1]\npool: [10.0.0.0/8, 'fd00::/48']\n";
    let topology = topology::from_yaml(yaml, Path::new("lab.yaml")).unwrap();
    resolve(&topology, "lab", &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap().wiring
}

fn read(text: &str) -> Expectation {
    parse(text, &wiring()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn way(from: &str, to: &str) -> Way {
    let to = to.parse().map_or_else(|_| Target::Machine(to.to_owned()), Target::Address);
    Way { from: from.to_owned(), to }
}

#[test]
fn sentences_are_understood() {
    let ping = |to: &str, family, bytes| Check::Ping { way: way("a", to), family, bytes };
    let tcp = |to: &str| Check::Tcp { way: way("a", to), port: 80 };
    let http = |host: &str, port, path: &str, status| Check::Http {
        way: way("a", host.trim_matches(['[', ']'])),
        port,
        host: host.to_owned(),
        path: path.to_owned(),
        status,
    };
    let route = |via: Option<&str>, device: Option<&str>| Check::Route {
        way: way("a", "b"),
        via: via.map(|via| way("a", via).to),
        device: device.map(|device| device.parse().unwrap()),
    };
    let captured = |device: Option<&str>, protocol, port, host: Option<&str>| Check::Captured {
        machine: "r1".to_owned(),
        device: device.map(|device| device.parse().unwrap()),
        pattern: Pattern { protocol, port, host: host.map(|host| way("a", host).to) },
        during: Box::new(ping("b", None, None)),
    };
    let measured = |port, compare, bits_per_second| Check::Throughput {
        way: way("a", "b"),
        port,
        compare,
        bits_per_second,
    };
    let mtu = |compare, bytes| Check::Mtu { way: way("a", "b"), compare, bytes };
    let table = [
        ("ping a -> b", ping("b", None, None)),
        ("  ping  a->b  ", ping("b", None, None)),
        ("ping a -> 10.0.0.2", ping("10.0.0.2", None, None)),
        ("ping a -> fd00::2 size 1400", ping("fd00::2", None, Some(1400))),
        ("ping6 a -> b", ping("b", Some(Family::V6), None)),
        ("ping4 a -> b size 28", ping("b", Some(Family::V4), Some(28))),
        ("tcp a -> b:80", tcp("b")),
        ("tcp a -> 10.0.0.2:80", tcp("10.0.0.2")),
        ("tcp a -> [fd00::2]:80", tcp("fd00::2")),
        ("udp a -> b:53", Check::Udp { way: way("a", "b"), port: 53 }),
        ("http a -> http://b", http("b", 80, "/", None)),
        ("http a -> http://b:8080/x?y=1->2#z = 404", http("b", 8080, "/x?y=1->2", Some(404))),
        ("http a -> http://[fd00::2]:81/", http("[fd00::2]", 81, "/", None)),
        ("mtu a -> b = 1450", mtu(Compare::Equal, 1450)),
        ("mtu a -> b <= 1450", mtu(Compare::AtMost, 1450)),
        ("throughput a -> b >= 90mbit", measured(None, Compare::AtLeast, 90_000_000)),
        ("throughput a -> b:5201 <= 2.5gbit", measured(Some(5201), Compare::AtMost, 2_500_000_000)),
        ("route a -> b", route(None, None)),
        ("route a -> b via r1", route(Some("r1"), None)),
        ("route a -> b dev eth0 via 10.0.0.1", route(Some("10.0.0.1"), Some("eth0"))),
        ("captured r1:eth0 icmp while ping a -> b", captured(Some("eth0"), Some(Protocol::Icmp), None, None)),
        (
            "captured r1 udp port 8472 while ping a -> b",
            captured(None, Some(Protocol::Udp), Some(8472), None),
        ),
        ("captured r1 host 10.0.0.1 while ping a -> b", captured(None, None, None, Some("10.0.0.1"))),
        ("captured r1 host a arp while ping a -> b", captured(None, Some(Protocol::Arp), None, Some("a"))),
    ];
    for (text, check) in table {
        let found = read(text);
        assert_eq!((found.check, found.negated, found.within), (check, false, None), "{text}");
        assert_eq!(found.text, text);
    }
}

#[test]
fn no_and_within_go_with_what_they_can() {
    assert!(read("no ping a -> b").negated && read("no route a -> b via r1").negated);
    assert!(read("nothing captured r1 icmp while ping a -> b").negated);
    for (text, time) in [("5s", 5000), ("300ms", 300), ("1.5s", 1500), ("2m", 120_000)] {
        let within = read(&format!("tcp a -> b:80 within {text}")).within;
        assert_eq!(within, Some(Duration::from_millis(time)), "{text}");
    }
    assert!(read("captured r1 icmp while ping a -> b size 100 within 2s").within.is_some());
}

#[test]
fn what_is_not_understood_is_said_with_its_place_and_what_to_do() {
    let table = [
        ("", "1: what to check is missing | write `ping a -> b`"),
        ("pnig a -> b", "1: `pnig` is not a check | did you mean `ping`?"),
        ("ping a b", "8: `b` where `->` was expected | write `ping a -> b`"),
        ("ping a ->", "10: the destination is missing | write `ping a -> b`"),
        ("ping a -> r", "11: there is no `r` in this lab | did you mean `r1`?"),
        ("ping x -> b", "6: there is no `x` in this lab | there are a, b, r1"),
        ("ping 10.0.0.1 -> b", "6: there is no `10.0.0.1` in this lab | there are a, b, r1"),
        ("ping a -> b:80", "11: `b:80` has a port | write `ping a -> b`"),
        (
            "ping a -> fe80::1",
            "11: `fe80::1` is link-local | such an address means nothing without an interface: use another one",
        ),
        (
            "ping a -> b size 27",
            "18: `27` is not a packet's size | the whole packet in bytes, IP header included: 28 to 65535",
        ),
        (
            "ping6 a -> b size 47",
            "19: `47` is not a packet's size | the whole packet in bytes, IP header included: 48 to 65535",
        ),
        ("ping6 a -> 10.0.0.1", "12: 10.0.0.1 is of the other family | write `ping`"),
        ("tcp a -> b", "10: `b` has no port | a port is a number from 1 to 65535"),
        ("tcp a -> b:0", "10: `b:0` has no port | a port is a number from 1 to 65535"),
        ("tcp a -> fd00::2", "10: `fd00::2` has no port | a port is a number from 1 to 65535"),
        ("http a -> b", "11: `b` is not a URL of http | write `http a -> http://b:8080/path`"),
        ("http a -> https://b", "11: `https://b` is not a URL of http | without TLS: `http://b:8080/`"),
        ("http a -> http://c/", "11: there is no `c` in this lab | there are a, b, r1"),
        ("http a -> http://b = 20", "22: `20` is not a status | write `= 200`"),
        (
            "mtu a -> b 1450",
            "12: `1450` does not compare | write `mtu a -> b = 1450`, with blanks between the words",
        ),
        ("no mtu a -> b = 1450", "1: `no mtu` | compare with `<=` or `>=` instead"),
        ("throughput a -> b = 90mbit", "19: no two measurements are equal | compare with `>=` or `<=`"),
        ("throughput a -> b >= fast", "22: `fast` is not a rate | write `90mbit`"),
        ("route a -> b dev eth9", "18: `a` has no interface `eth9` | did you mean `eth0`?"),
        ("ping a -> b via r1", "13: `via` is too much | `via` does not go with `ping`"),
        ("ping a -> b quickly", "13: `quickly` is too much | only `within 5s` can follow"),
        ("ping a -> b within 5", "20: `5` is not a time | write `5s` or `300ms`; an hour at most"),
        ("ping a -> b within 2h", "20: `2h` is not a time | write `5s` or `300ms`; an hour at most"),
        ("nothing ping a -> b", "1: `nothing` goes with `captured` | write `no ping …`"),
        ("no captured r1 icmp while ping a -> b", "1: `no captured` | write `nothing captured …`"),
        (
            "captured r1:eth7 icmp while ping a -> b",
            "10: `r1` has no interface `eth7` | did you mean `eth1`?",
        ),
        (
            "captured r1 while ping a -> b",
            "13: nothing says which packets | write `captured r1:eth0 icmp while ping a -> b`",
        ),
        (
            "captured r1 imcp while ping a -> b",
            "13: `imcp` does not say which packets | did you mean `icmp`?",
        ),
        ("captured r1 icmp udp while ping a -> b", "18: two protocols at once | write a sentence for each"),
        (
            "captured r1 icmp while route a -> b",
            "24: `route` sends nothing | write `captured r1:eth0 icmp while ping a -> b`",
        ),
        ("ping \u{1b}[31m -> b", "6: there is no `\u{fffd}[31m` in this lab | there are a, b, r1"),
    ];
    for (text, expected) in table {
        let error = parse(text, &wiring()).expect_err(text);
        let hint = error.hint.clone().unwrap_or_default();
        assert_eq!(format!("{error} | {hint}"), format!("column {expected}"), "{text}");
    }
}

#[test]
fn nothing_that_is_thrown_at_the_reader_makes_it_panic() {
    let wiring = wiring();
    let whole =
        "no captured r1:eth0 udp port 80 host [fd00::1]:é while http a -> http://b:80/x = 200 within 5s";
    let cuts: Vec<usize> = (0..=whole.len()).filter(|cut| whole.is_char_boundary(*cut)).collect();
    for from in &cuts {
        for to in cuts.iter().filter(|to| *to >= from) {
            if let Err(error) = parse(&whole[*from..*to], &wiring) {
                assert!(error.column <= whole.chars().count() + 1 && error.hint.is_some());
            }
        }
    }
}

#[test]
fn the_documents_sentences_are_understood_and_every_check_is_in_it() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/labs.md")).unwrap();
    let table = document.lines().skip_while(|line| !line.starts_with("| sentence |"));
    let rows = table.take_while(|line| line.starts_with('|'));
    let rows = rows.filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let sentences: Vec<&str> = rows.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).collect();
    assert!(sentences.len() > 15, "{sentences:?}");
    let read: Vec<Expectation> = sentences.iter().map(|sentence| read(sentence)).collect();
    for (name, form) in podplumb_lab::expect::FORMS {
        assert!(
            sentences.iter().any(|sentence| sentence.split(' ').any(|word| word == name)),
            "{name} is not in it"
        );
        parse(form, &wiring()).unwrap_or_else(|error| panic!("{form}: {error}"));
    }
    assert!(read.iter().any(|expectation| expectation.negated));
}
