//! What says where packets go, as `ip` made it.
#![expect(clippy::disallowed_methods, reason = "tests start ip")]

use std::collections::BTreeMap;
use std::process::Command;

use model::{Hop, InterfaceSettings, PolicyAction, PolicyRule, RouteKind};
use podplumb_netlink::{Socket, diag, link, neigh, netconf, route, rule};

/// Moves the test's thread into a fresh network namespace and has `ip` make all of this in it.
fn world(commands: &[&str]) {
    sys::isolate_thread().expect("tests that change the network need root: run `make test` as root");
    for command in commands {
        let made = Command::new("ip").args(command.split(' ')).output().expect("ip is installed");
        assert!(made.status.success(), "ip {command}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

#[test]
fn routes_that_lead_nowhere_or_several_ways_are_listed_as_what_they_are() {
    world(&[
        "link add left type veth peer name right",
        "address add 192.0.2.1/24 dev left",
        "link set left up",
        "link set right up",
        "route add blackhole 10.1.0.0/16",
        "route add unreachable 10.2.0.0/16 table 77",
        "route add 10.3.0.0/16 mtu 1400 nexthop via 192.0.2.2 weight 2 nexthop via 192.0.2.3",
        "-6 route add prohibit 2001:db8::/32",
    ]);
    let mut socket = Socket::route().unwrap();
    let device = link::by_name(&mut socket, "left").unwrap().index;
    let routes = route::list_all(&mut socket).unwrap();
    let to = |net: &str| {
        let mut all = routes.iter().filter(|route| route.destination == net.parse().unwrap());
        (all.next().unwrap_or_else(|| panic!("{net} in {routes:?}")), assert!(all.next().is_none())).0
    };
    assert_eq!(to("10.1.0.0/16").kind, RouteKind::Blackhole);
    assert_eq!((to("10.2.0.0/16").kind, to("10.2.0.0/16").table), (RouteKind::Unreachable, 77));
    assert_eq!(to("2001:db8::/32").kind, RouteKind::Prohibit);
    let hop = |gateway: &str, weight| Hop { gateway: gateway.parse().ok(), device, weight };
    assert_eq!(to("10.3.0.0/16").hops, [hop("192.0.2.2", 2), hop("192.0.2.3", 1)]);
    assert_eq!(to("10.3.0.0/16").mtu_bytes, Some(1400));
    let ordinary = route::list(&mut socket).unwrap();
    assert!(ordinary.iter().all(|route| route.kind.is_unicast()), "{ordinary:?}");
}

#[test]
fn routing_rules_are_listed_in_their_order_with_what_they_select() {
    world(&[
        "rule add from 10.0.0.0/8 iif eth9 fwmark 0x100/0xff00 table 77 priority 100",
        "rule add not to 192.0.2.1 goto 300 priority 200",
        "rule add unreachable uidrange 7-8 priority 300",
        "rule add table main suppress_prefixlength 0 priority 400",
    ]);
    let rules = rule::list(&mut Socket::route().unwrap()).unwrap();
    let v4: Vec<&PolicyRule> = rules.iter().filter(|rule| !rule.v6).collect();
    let priorities: Vec<u32> = v4.iter().map(|rule| rule.priority).collect();
    assert_eq!(priorities, [0, 100, 200, 300, 400, 32766, 32767]);
    let selecting = PolicyRule {
        priority: 100,
        source: "10.0.0.0/8".parse().ok(),
        input: Some("eth9".into()),
        mark: Some((0x100, 0xff00)),
        action: PolicyAction::Table(77),
        ..PolicyRule::default()
    };
    assert_eq!(*v4[1], selecting);
    assert_eq!((v4[2].inverted, v4[2].destination, v4[2].action), {
        (true, "192.0.2.1/32".parse().ok(), PolicyAction::Goto(300))
    });
    assert_eq!((v4[3].others.as_slice(), v4[3].action), (&["uidrange".to_owned()][..], PolicyAction::Refuse));
    assert_eq!(v4[4].action, PolicyAction::TableSuppressed { table: 254, length: 0 });
    assert_eq!(v4[5].table(), Some(254));
}

#[test]
fn settings_of_interfaces_are_told_for_each_family() {
    world(&["link add left type veth peer name right"]);
    for (name, value) in [
        ("net/ipv4/conf/left/forwarding", "1"),
        ("net/ipv4/conf/left/rp_filter", "2"),
        ("net/ipv4/conf/left/proxy_arp", "1"),
        ("net/ipv4/conf/right/forwarding", "0"),
        ("net/ipv6/conf/left/forwarding", "0"),
    ] {
        sys::write_sysctl(name, value).unwrap();
    }
    let mut socket = Socket::route().unwrap();
    let [a, b] = ["left", "right"].map(|name| link::by_name(&mut socket, name).unwrap().index);
    let settings: BTreeMap<_, _> = netconf::list(&mut socket, false).unwrap().each.into_iter().collect();
    assert_eq!(settings[&a], InterfaceSettings { forwarding: true, proxy: true, rp_filter: 2 });
    assert!(!settings[&b].forwarding);
    sys::write_sysctl("net/ipv4/ip_forward", "1").unwrap();
    let all = netconf::list(&mut socket, false).unwrap().all;
    assert!(all.is_some_and(|all| all.forwarding), "{all:?}");
    let v6: BTreeMap<_, _> = netconf::list(&mut socket, true).unwrap().each.into_iter().collect();
    assert!(!v6[&a].forwarding && v6.len() == settings.len());
    let tables = neigh::tables(&mut socket).unwrap();
    let arp = tables.iter().find(|table| table.name == "arp_cache").unwrap();
    assert!(
        arp.gc_thresh1 <= arp.gc_thresh2 && arp.gc_thresh2 <= arp.gc_thresh3 && arp.gc_thresh3 > 0,
        "{arp:?}"
    );
    assert_eq!(tables.len(), 2, "{tables:?}");
}

#[test]
fn a_tunnel_tells_how_it_reads_what_it_receives() {
    world(&[
        "link add usual type vxlan id 1 dstport 8472 local 192.0.2.1",
        "link add policy type vxlan id 2 dstport 8473 gbp",
        "link add extended type vxlan dstport 8474 gpe external",
        "link add bare type vxlan id 4 dstport 8475 local 2001:db8::1 udp6zerocsumrx remcsumrx",
        "link add filtered type vxlan dstport 8476 external vnifilter",
    ]);
    let mut socket = Socket::route().unwrap();
    let mut words = |name| link::by_name(&mut socket, name).unwrap().vxlan.unwrap().modes.words();
    assert_eq!(words("usual"), [""; 0]);
    assert_eq!(words("policy"), ["gbp"]);
    assert_eq!(words("extended"), ["external", "gpe"]);
    assert_eq!(words("bare"), ["udp6zerocsumrx", "remcsumrx"]);
    assert_eq!(words("filtered"), ["external", "vnifilter"]);
}

/// Switches tx-checksumming, as `ethtool -K NAME tx` does: ETHTOOL_STXCSUM.
const SWITCH: &str = "import array, fcntl, socket, struct, sys
value = array.array('I', [0x17, int(sys.argv[2])])
request = struct.pack('16sP16x', sys.argv[1].encode(), value.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)";

#[test]
fn a_tunnel_tells_whether_it_leaves_checksums_to_hardware() {
    world(&["link add vx0 type vxlan id 1 dstport 8472 local 192.0.2.1"]);
    for on in ["1", "0", "1"] {
        let done =
            Command::new("python3").args(["-c", SWITCH, "vx0", on]).output().expect("python3 is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(sys::tx_checksum("vx0").unwrap(), on == "1");
    }
    assert_eq!(sys::tx_checksum("vx1").unwrap_err().raw_os_error(), Some(19), "ENODEV");
    assert!(sys::tx_checksum("a-name-of-17-bytes").is_err());
}

#[test]
fn an_ipv6_socket_tells_whether_it_takes_ipv4() {
    world(&["link set lo up"]);
    // A tunnel's own socket takes its family only, and that of a program takes both unless it says otherwise.
    let made =
        Command::new("ip").args("link add six type vxlan id 1 dstport 8472 local ::1".split(' ')).status();
    assert!(made.unwrap().success());
    assert!(Command::new("ip").args(["link", "set", "six", "up"]).status().unwrap().success());
    let both = std::net::UdpSocket::bind("[::]:8473").unwrap();
    let sockets = diag::sockets(&mut Socket::diag().unwrap(), model::SocketProtocol::Udp).unwrap();
    let at = |port| sockets.iter().find(|socket| socket.local.unwrap().port() == port).unwrap().v6_only;
    assert!(at(8472));
    assert!(!at(8473));
    drop(both);
}
