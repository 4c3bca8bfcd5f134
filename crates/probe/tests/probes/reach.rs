//! ping, TCP, UDP, routes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use podplumb_probe::ping::{Ping, ping};
use podplumb_probe::{Echo, Failure, Listener, Notice, route, tcp, udp};

use crate::net::{Line, empty, inside, ip};

const SOON: Duration = Duration::from_secs(30);
const BRIEFLY: Duration = Duration::from_secs(1);

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

fn told(by: &str, notice: Notice) -> Failure {
    Failure::Told { by: ip(by), notice }
}

#[test]
fn a_ping_through_a_router_comes_back_in_both_families_and_in_the_size_it_was_sent() {
    let line = Line::make();
    for to in [Line::B, Line::B6] {
        for bytes in [None, Some(60), Some(1500)] {
            let pong = ping(&line.a, &Ping { to: ip(to), bytes, patience: SOON }).unwrap();
            assert_eq!(pong.bytes, pong.sent_bytes, "{to}");
            assert!(bytes.is_none_or(|bytes| bytes == pong.sent_bytes) && pong.after < SOON);
        }
    }
}

#[test]
fn a_ping_that_a_route_refuses_says_who_refuses_it() {
    let line = Line::make();
    let table = [
        (
            "unreachable",
            told("10.0.1.1", Notice::HostUnreachable),
            told("fd00:1::1", Notice::NetworkUnreachable),
        ),
        ("prohibit", told("10.0.1.1", Notice::Prohibited), told("fd00:1::1", Notice::Prohibited)),
        ("blackhole", Failure::Silence { waited: BRIEFLY }, Failure::Silence { waited: BRIEFLY }),
    ];
    for (kind, v4, v6) in table {
        let routes = format!("{kind} 10.0.2.2/32; ip route replace {kind} fd00:2::2/128");
        inside(&line.r, &format!("ip route replace {routes}"));
        for (to, expected) in [(Line::B, v4), (Line::B6, v6)] {
            assert_eq!(ping(&line.a, &Ping::new(ip(to), BRIEFLY)), Err(expected), "{kind} {to}");
        }
        inside(&line.r, "ip route flush 10.0.2.2/32; ip -6 route flush fd00:2::2/128");
    }
}

#[test]
fn what_the_senders_own_kernel_refuses_is_told_from_what_others_refuse() {
    let alone = empty();
    let line = Line::make();
    for to in [Line::B, Line::B6] {
        let failure = ping(&alone, &Ping::new(ip(to), SOON)).unwrap_err();
        assert!(matches!(failure, Failure::Own { .. }) && failure.is_definite(), "{failure:?}");
        let failure = tcp::connect(&alone, at(to, 80), SOON).unwrap_err();
        assert!(matches!(failure, Failure::Own { .. }) && failure.is_definite(), "{failure:?}");
        let failure = udp::ask(&alone, at(to, 80), SOON).unwrap_err();
        assert!(matches!(failure, Failure::Own { .. }) && failure.is_definite(), "{failure:?}");
        let failure = route::route(&alone, ip(to)).unwrap_err();
        assert_eq!(failure.to_string(), "the sender has no route there");
        let large = Ping { to: ip(to), bytes: Some(1501), patience: SOON };
        assert_eq!(ping(&line.a, &large), Err(Failure::TooLarge), "{to}");
    }
    inside(&line.a, "ip route add prohibit 10.9.0.0/16; ip route add blackhole 10.8.0.0/16");
    assert_eq!(
        route::route(&line.a, ip("10.9.0.1")).unwrap_err().to_string(),
        "the sender has a prohibiting route there"
    );
    let failure = ping(&line.a, &Ping::new(ip("10.8.0.1"), SOON)).unwrap_err();
    assert_eq!(failure.to_string(), "the sender has a blackhole route there");
    inside(
        &line.a,
        "nft 'add table ip t; add chain ip t o { type filter hook output priority 0; policy drop; }'",
    );
    let failure = ping(&line.a, &Ping::new(ip(Line::B), SOON)).unwrap_err();
    assert_eq!(failure.to_string(), "the sender's own firewall drops it");
}

#[test]
fn a_neighbour_that_is_not_there_is_silent_at_first_and_then_unreachable() {
    let line = Line::make();
    assert_eq!(ping(&line.a, &Ping::new(ip("10.0.1.9"), BRIEFLY)), Err(Failure::Silence { waited: BRIEFLY }));
    // The kernel asks three times, a second apart.
    let failure = ping(&line.a, &Ping::new(ip("10.0.1.9"), Duration::from_secs(8))).unwrap_err();
    assert_eq!(failure, told("10.0.1.2", Notice::HostUnreachable));
}

#[test]
fn a_connection_is_made_refused_unreachable_or_silent() {
    let line = Line::make();
    for (to, router, any) in [(Line::B, "10.0.1.1", "0.0.0.0"), (Line::B6, "fd00:1::1", "::")] {
        let there = at(to, 80);
        assert_eq!(tcp::connect(&line.a, there, SOON), Err(Failure::Refused));
        let listener = Listener::open(&line.b, at(any, 80)).unwrap().expect("nobody listens");
        for _ in 0..200 {
            // More than the backlog: each is accepted.
            tcp::connect(&line.a, there, SOON).unwrap();
        }
        assert!(Listener::open(&line.b, at(any, 80)).unwrap().is_none(), "somebody listens");
        let family = if ip(to).is_ipv4() { "ip" } else { "ip6" };
        let chain = |rule: &str| {
            let chain = "add chain FAMILY t f { type filter hook forward priority 0; }";
            let rules = format!("add table FAMILY t; {chain}; add rule FAMILY t f {rule}");
            inside(&line.r, &format!("nft '{}'", rules.replace("FAMILY", family)));
        };
        chain("tcp dport 80 drop");
        assert_eq!(tcp::connect(&line.a, there, BRIEFLY), Err(Failure::Silence { waited: BRIEFLY }));
        inside(&line.r, &format!("nft flush chain {family} t f"));
        let code =
            if ip(to).is_ipv4() { "icmp type admin-prohibited" } else { "icmpv6 type admin-prohibited" };
        chain(&format!("tcp dport 80 reject with {code}"));
        assert_eq!(tcp::connect(&line.a, there, SOON), Err(told(router, Notice::Prohibited)));
        inside(&line.r, &format!("nft flush chain {family} t f"));
        chain("tcp dport 80 reject with tcp reset");
        assert_eq!(tcp::connect(&line.a, there, SOON), Err(Failure::Refused));
        inside(&line.r, &format!("nft delete table {family} t"));
        let start = Instant::now();
        drop(listener);
        assert!(start.elapsed() < SOON);
        assert_eq!(tcp::connect(&line.a, there, SOON), Err(Failure::Refused), "it is gone");
    }
}

#[test]
fn a_datagram_comes_back_is_refused_or_vanishes() {
    let line = Line::make();
    for to in [Line::B, Line::B6] {
        let there = at(to, 53);
        assert_eq!(udp::ask(&line.a, there, SOON), Err(told(to, Notice::PortUnreachable)));
        let echo = Echo::open(&line.b, there).unwrap().expect("nobody listens");
        assert!(udp::ask(&line.a, there, SOON).unwrap().same);
        assert!(Echo::open(&line.b, there).unwrap().is_none(), "somebody listens");
        inside(
            &line.r,
            "nft 'add table inet t; add chain inet t f { type filter hook forward priority 0; }
                  add rule inet t f udp dport 53 drop'",
        );
        assert_eq!(udp::ask(&line.a, there, BRIEFLY), Err(Failure::Silence { waited: BRIEFLY }));
        inside(&line.r, &format!("nft delete table inet t; ip route add unreachable {to}"));
        let (router, notice) = match ip(to).is_ipv4() {
            true => ("10.0.1.1", Notice::HostUnreachable),
            false => ("fd00:1::1", Notice::NetworkUnreachable),
        };
        assert_eq!(udp::ask(&line.a, there, SOON), Err(told(router, notice)));
        drop(echo);
    }
}

#[test]
fn the_kernel_tells_which_way_it_would_take() {
    let line = Line::make();
    for (to, gateway, source) in [(Line::B, "10.0.1.1", "10.0.1.2"), (Line::B6, "fd00:1::1", "fd00:1::2")] {
        let way = route::route(&line.a, ip(to)).unwrap();
        assert_eq!((way.gateway, way.source), (Some(ip(gateway)), Some(ip(source))));
        assert_eq!((way.device.as_str(), way.mtu_bytes, way.local), ("eth0", 1500, false));
        let way = route::route(&line.r, ip(to)).unwrap();
        assert_eq!((way.gateway, way.device.as_str()), (None, "r-b"));
        assert!(route::route(&line.b, ip(to)).unwrap().local);
        inside(&line.a, &format!("ip route add unreachable {to}"));
        assert!(matches!(route::route(&line.a, ip(to)), Err(Failure::Own { .. })));
    }
    inside(&line.a, "ip route add 10.7.0.0/16 via inet6 fd00:1::1 dev eth0");
    assert_eq!(route::route(&line.a, ip("10.7.0.1")).unwrap().gateway, Some(ip("fd00:1::1")));
}
