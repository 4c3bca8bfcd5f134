//! Which interface a name means, on a small hand-written node.

use std::net::IpAddr;

use model::Snapshot;
use podplumb_analyze::places::{Place, Side, Unclear, addresses_of, names, places, vxlan_ports};

/// cni0 with shop/web-1 and blog/web-1, and a namespace that somebody has named; the first pod has a second interface.
fn node() -> Snapshot {
    let pod = |n: u32, namespace: &str, name: &str, more: &str| {
        format!(
            r#"{{"inode": {inode}, "ns_id": {n}, "nsid": {n}, "readable": true,
                "pins": [{{"path": "/run/netns/cni-{n}"}}], "tasks": [{{"pid": 10{n}, "command": "nginx"}}],
                "links": [{{"index": 1, "name": "lo", "loopback": true, "mtu_bytes": 65536, "up": true, "carrier": true,
                    "addresses": ["127.0.0.1/8"]}},
                  {{"index": 2, "name": "eth0", "kind": "veth", "mtu_bytes": 1500, "up": true, "carrier": true,
                    "peer": {{"index": 1{n}, "nsid": 0}}, "addresses": ["10.244.0.{n}/24", "fd00::{n}/64", "fe80::{n}/64"]}}{more}]}},
                {{"pod": {{"namespace": "{namespace}", "name": "{name}"}}}}"#,
            inode = 4_026_532_000 + n,
        )
    };
    let net1 = r#", {"index": 3, "name": "net1", "kind": "macvlan", "mtu_bytes": 1500, "up": true, "carrier": true,
        "addresses": ["192.168.7.7/24"]}"#;
    let pods = [(7, "shop", "web-1", net1), (8, "blog", "web-1", ""), (9, "shop", "api-0", "")];
    let mut namespaces = Vec::new();
    let mut objects = Vec::new();
    let mut veths = Vec::new();
    for (n, namespace, name, more) in pods {
        let both = pod(n, namespace, name, more);
        let (space, object) = both.split_once("]},\n                {\"pod\"").expect("two");
        namespaces.push(format!("{space}]}}"));
        objects.push(format!(
            r#"{{"id": "{n}d0c1e5b9a3f4d22", "kind": "sandbox", "name": "{namespace}-{name}", "state": "ready",
                "pid": 10{n}, "netns": "/run/netns/cni-{n}", "pod"{object}"#
        ));
        veths.push(format!(
            r#"{{"index": 1{n}, "name": "veth{n}", "kind": "veth", "mtu_bytes": 1500, "up": true, "carrier": true,
                "mac": "0a:58:0a:f4:00:0{n}", "master": 5, "peer": {{"index": 2, "nsid": {n}}}}}"#
        ));
    }
    let text = format!(
        r#"{{"version": 1, "taken_at": 1800000000000,
            "node": {{"hostname": "n1", "kernel": "6.18", "boot_id": "b", "booted_at": 1700000000000}},
            "namespaces": [
              {{"host": true, "readable": true, "tasks": [{{"pid": 1, "command": "init"}}], "links": [
                {{"index": 5, "name": "cni0", "kind": "bridge", "mtu_bytes": 1500, "up": true, "carrier": true,
                  "addresses": ["10.244.0.1/24"]}},
                {{"index": 6, "name": "vx", "kind": "vxlan", "mtu_bytes": 1450, "up": true, "carrier": true,
                  "vxlan": {{"id": 1, "port": 4242, "learning": false}}}}, {}]}},
              {}, {{"inode": 4026532099, "ns_id": 99, "readable": true, "pins": [{{"path": "/run/netns/router"}}],
                "links": [{{"index": 2, "name": "up0", "mtu_bytes": 1500, "up": true, "carrier": true,
                  "addresses": ["192.168.7.1/24", "10.244.0.1/24"]}}]}}],
            "runtimes": [{{"kind": "containerd", "endpoint": "/run/c.sock",
              "status": {{"state": "answered", "version": "2"}}, "objects": [{}]}}]}}"#,
        veths.join(", "),
        namespaces.join(", "),
        objects.join(", ")
    );
    Snapshot::from_json(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn found(snapshot: &Snapshot, question: &str, both_ends: bool) -> Vec<String> {
    let told =
        |place: &Place<'_>| format!("{} {:?} {} {}", place.name, place.side, place.interface, place.index);
    match places(snapshot, question, both_ends) {
        Ok(places) => places.iter().map(told).collect(),
        Err(unclear) => panic!("{question}: {unclear:?}"),
    }
}

#[test]
fn a_pod_is_its_eth0_and_a_host_interface_is_itself() {
    let node = node();
    for question in ["shop/web-1", "10.244.0.7", "pid:107", "/run/netns/cni-7", "7d0c1e5b9a"] {
        assert_eq!(found(&node, question, false), ["shop/web-1/eth0 Inside eth0 2"], "{question}");
    }
    assert_eq!(found(&node, "api-0", true), ["api-0/eth0 Inside eth0 2", "veth9 HostEnd veth9 19"]);
    for question in ["veth7", "ifindex:17", "0a:58:0a:f4:00:07"] {
        assert_eq!(found(&node, question, false), ["veth7 HostEnd veth7 17"], "{question}");
    }
    assert_eq!(found(&node, "veth7", true), ["veth7 HostEnd veth7 17", "shop/web-1/eth0 Inside eth0 2"]);
    assert_eq!(found(&node, "cni0", true), ["cni0 Host cni0 5"]);
    assert_eq!(found(&node, "shop/web-1%net1", true), ["shop/web-1/net1 Inside net1 3"]);
    assert_eq!(found(&node, "api-0%lo", false), ["api-0/lo Inside lo 1"]);
    // Without an eth0, all that it has.
    assert_eq!(found(&node, "/run/netns/router", false), ["router/up0 Inside up0 2"]);
    let place = &places(&node, "api-0", false).unwrap()[0];
    assert_eq!(
        (place.owner.as_deref(), place.container.as_deref()),
        (Some("shop/api-0"), Some("9d0c1e5b9a3f4d22"))
    );
    assert_eq!(place.side, Side::Inside);
}

#[test]
fn what_is_not_clear_is_not_guessed() {
    let node = node();
    let unclear = |question: &str| places(&node, question, false).unwrap_err();
    let both = vec!["blog/web-1 (by its pod)".to_owned(), "shop/web-1 (by its pod)".to_owned()];
    match unclear("web-1") {
        Unclear::Several(mut names) => {
            names.sort();
            assert_eq!(names, both);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(unclear("nobody"), Unclear::Nothing);
    assert_eq!(unclear("nobody%eth0"), Unclear::Nothing);
    assert_eq!(unclear("pid:1"), Unclear::HostProcess);
    let has = vec!["lo".to_owned(), "eth0".to_owned()];
    assert_eq!(unclear("api-0%net1"), Unclear::NoInterface { label: "shop/api-0".into(), has });
}

#[test]
fn addresses_have_the_names_of_those_who_alone_have_them() {
    let node = node();
    let names = names(&node);
    let name = |address: &str| names.get(&address.parse::<IpAddr>().unwrap()).map(String::as_str);
    assert_eq!(name("10.244.0.7"), Some("shop/web-1"), "there is another web-1");
    assert_eq!((name("10.244.0.9"), name("fd00::9")), (Some("api-0"), Some("api-0")));
    assert_eq!(name("192.168.7.1"), Some("router"));
    assert_eq!(name("10.244.0.1"), None, "the host's");
    assert_eq!((name("fe80::9"), name("127.0.0.1")), (None, None), "everybody's");
    let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    assert_eq!(addresses_of(&node, "api-0"), ips(&["10.244.0.9", "fd00::9"]));
    assert_eq!(addresses_of(&node, "blog/web-1"), ips(&["10.244.0.8", "fd00::8"]));
    assert!(addresses_of(&node, "web-1").is_empty() && addresses_of(&node, "nobody").is_empty());
    assert_eq!(vxlan_ports(&node), [4242]);
}
