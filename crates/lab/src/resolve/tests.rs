//! What topologies come to.

use std::path::Path;

use crate::topology::from_yaml;
use crate::wiring::{DeviceKind, Machine, Wiring};

fn resolved(yaml: &str) -> super::Resolved {
    let topology = from_yaml(yaml, Path::new("lab.yaml")).unwrap();
    match super::resolve(&topology, "lab", &|_| Err(std::io::ErrorKind::NotFound.into())) {
        Ok(resolved) => resolved,
        Err(fault) => panic!("{}", fault.located(yaml, Path::new("lab.yaml"))),
    }
}

fn wiring(yaml: &str) -> Wiring {
    resolved(yaml).wiring
}

/// The error of a topology, with its place and hint.
fn error(yaml: &str) -> String {
    let file = Path::new("lab.yaml");
    let error = match from_yaml(yaml, file) {
        Err(error) => error,
        Ok(topology) => super::resolve(&topology, "lab", &|_| Err(std::io::ErrorKind::NotFound.into()))
            .expect_err("nothing is wrong")
            .located(yaml, file),
    };
    match &error.hint {
        Some(hint) => format!("{error} | {hint}"),
        None => error.to_string(),
    }
}

fn shown(machine: &Machine) -> String {
    let devices = machine.devices.iter().map(|device| {
        let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
        format!("{} {}", device.name, addresses.join(" ")).trim_end().to_owned()
    });
    let routes = machine.routes.iter().map(|route| {
        let gateway = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        format!("{}{gateway} dev {}", route.destination, route.device)
    });
    let parts: Vec<String> = devices.chain(routes).collect();
    format!("{}: {}", machine.name, parts.join("; "))
}

fn lines(yaml: &str) -> Vec<String> {
    wiring(yaml).machines.iter().map(shown).collect()
}

#[test]
fn the_smallest_file_is_two_hosts_with_addresses() {
    assert_eq!(lines("hosts: [a, b]\nlinks:\n  - a -- b\n"), ["a: eth0 10.0.0.1/24", "b: eth0 10.0.0.2/24"]);
}

#[test]
fn a_router_is_first_on_its_subnets_and_everybodys_gateway() {
    let yaml = "hosts: [a, b]\nrouters: [r]\npool: [10.0.0.0/8, 'fd00::/48']\nlinks: [a -- r, b -- r]\n";
    assert_eq!(
        lines(yaml),
        [
            "a: eth0 10.0.0.2/24 fd00::2/64; 0.0.0.0/0 via 10.0.0.1 dev eth0; ::/0 via fd00::1 dev eth0",
            "b: eth0 10.0.1.2/24 fd00:0:0:1::2/64; 0.0.0.0/0 via 10.0.1.1 dev eth0; ::/0 via fd00:0:0:1::1 dev eth0",
            "r: eth0 10.0.0.1/24 fd00::1/64; eth1 10.0.1.1/24 fd00:0:0:1::1/64",
        ]
    );
}

#[test]
fn a_count_stands_for_many_and_the_subnet_is_large_enough() {
    let wiring = wiring("switches: [sw]\nhosts: {h: {count: 500}}\nlinks: [h -- sw]\n");
    assert_eq!(wiring.machines.len(), 501);
    let last = wiring.machine("h500").unwrap();
    assert_eq!(shown(last), "h500: eth0 10.0.1.244/23");
    assert_eq!(wiring.machine("sw").unwrap().devices.len(), 501);
}

#[test]
fn routes_go_the_shortest_way_round_a_ring() {
    let wiring = wiring("routers: {r: {count: 5}}\nlinks: [ring r]\n");
    let first = shown(wiring.machine("r1").unwrap());
    // r1-r2 is 10.0.0, r2-r3 10.0.1, r3-r4 10.0.2, r4-r5 10.0.3, r5-r1 10.0.4.
    assert_eq!(
        first,
        "r1: eth0 10.0.0.1/24; eth1 10.0.4.2/24; 10.0.1.0/24 via 10.0.0.2 dev eth0; \
         10.0.2.0/24 via 10.0.0.2 dev eth0; 10.0.3.0/24 via 10.0.4.1 dev eth1"
    );
}

#[test]
fn what_a_node_masquerades_nobody_outside_has_a_route_to() {
    let yaml = "nodes: {node: {pods: 2, masquerade: 10.244.0.0/16 out eth0}}\nhosts: [internet]\nlinks: [node -- internet 192.0.2.1/24]\n";
    assert_eq!(
        lines(yaml),
        [
            "internet: eth0 192.0.2.1/24",
            "node: eth0 192.0.2.2/24; cni0 10.244.0.1/24; veth1; veth2",
            "node-pod1: eth0 10.244.0.2/24; 0.0.0.0/0 via 10.244.0.1 dev eth0",
            "node-pod2: eth0 10.244.0.3/24; 0.0.0.0/0 via 10.244.0.1 dev eth0",
        ]
    );
}

#[test]
fn two_nodes_with_vxlan_are_six_lines() {
    let yaml =
        "nodes: {node: {count: 2, pods: 1}}\nswitches: [net]\nlinks: [node -- net]\noverlay: {kind: vxlan}\n";
    let wiring = wiring(yaml);
    let node = wiring.machine("node1").unwrap();
    assert_eq!(
        shown(node),
        "node1: eth0 10.0.0.1/24; cni0 10.244.0.1/24; veth1; vxlan1 10.244.0.0/32; \
         10.244.1.0/24 via 10.244.1.0 dev vxlan1"
    );
    let mtu =
        |machine: &str, device: &str| wiring.machine(machine).unwrap().device(device).unwrap().mtu_bytes;
    assert_eq!(
        (mtu("node1", "vxlan1"), mtu("node1", "cni0"), mtu("node1-pod1", "eth0")),
        (Some(1450), Some(1450), Some(1450))
    );
    let vxlan = &node.device("vxlan1").unwrap().kind;
    assert!(matches!(vxlan, DeviceKind::Vxlan { id: 1, port: 8472, learning: false, .. }));
    assert_eq!((node.neighbours.len(), node.fdb.len()), (1, 1));
    assert_eq!(node.fdb[0].destination, Some("10.0.0.2".parse().unwrap()));
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_to_do() {
    let cases = [
        ("hosts: [a]\nlinks: [a -- b]\n", "lab.yaml:2:9: there is no machine `b` | "),
        (
            "hosts: [alpha]\nlinks:\n  - alpha -- alpah\n",
            "lab.yaml:3:5: there is no machine `alpah` | did you mean `alpha`?",
        ),
        ("hosts: [a, a]\n", "lab.yaml:1:9: there are two machines `a` | give one of them another name"),
        (
            "hosts:\n  a:\n    gatway: 1.2.3.4\n",
            "lab.yaml:3:5: there is no `gatway` here | did you mean `gateway`?",
        ),
        (
            "name: a/b\nhosts: [a]\n",
            "lab.yaml:1:1: \"a/b\" is not a name: letters, digits, '-', '_' and '.' are allowed | ",
        ),
        (
            "hosts: [a, b]\nlinks: [a:abcdefghijklmnop -- b]\n",
            "lab.yaml:2:9: interface name \"abcdefghijklmnop\" is longer than 15 bytes",
        ),
        (
            "hosts: [a, b]\nlinks:\n  - link: a -- b\n    subnet: 10.1.0.0/24\n    from: {addresses: 10.2.0.1/24}\n",
            "lab.yaml:3:5: 10.2.0.1/24 is outside of 10.1.0.0/24 | ",
        ),
        (
            "hosts: [a, b]\nlinks: [a 10.0.0.1/24 -- b 10.0.0.1/24]\n",
            "lab.yaml:1:12: `a` and `b` both have 10.0.0.1 | ",
        ),
        (
            "hosts: [a, b]\nlinks: [{link: a -- b, mtu: 67}]\n",
            "lab.yaml:1:9: `a:eth0` has an MTU of 67 | 68 to 65535 bytes",
        ),
        ("hosts: [a, b]\nlinks: [a b]\n", "lab.yaml:2:9: `a b` is not a link | write `a -- b`"),
        ("hosts: {h: {count: 3}}\nlinks: [h -- h]\n", "lab.yaml:2:9: `h` with itself | write `ring h`"),
        (
            "switches: [s]\nhosts: {h: {count: 1024}}\nlinks: [h -- s]\n",
            "lab.yaml:1:12: the bridge `br0` of `s` has 1024 ports; the kernel allows 1023 | ",
        ),
        ("hosts: [a]\nrouters: {a: {}}\n", "there are two machines `a`"),
        (
            "hosts: {a: {routes: [default via 10.9.9.9]}}\n",
            "lab.yaml:1:22: `a` cannot reach the gateway 10.9.9.9: it has no address | ",
        ),
        ("hosts: {a: {pods: 2}}\n", "only nodes have `pods` | put the machine below `nodes`"),
        (
            "nodes:\n  n:\n    pods:\n      a: {ended: pinned}\n",
            "lab.yaml:4:11: only what CNI plugins wired is left of a pod | give its node a `cni`",
        ),
        (
            "nodes:\n  n:\n    pods:\n      a: {endet: pinned}\n",
            "lab.yaml:4:11: there is no `endet` here | did you mean `ended`?",
        ),
        (
            "nodes: {n: {pods: {a: {ended: killed}}}}\n",
            "lab.yaml:1:31: unknown variant `killed`, expected one of",
        ),
        (
            "nodes: {n: {pods: many}}\n",
            "lab.yaml:1:13: invalid type: string \"many\", expected how many, a list",
        ),
        (
            "switches:\n  s: {sysctls: {kernel.pid_max: 1}}\n",
            "`kernel.pid_max` is not a namespace's own | only sysctls below `net` are",
        ),
        ("routers: {r: {hairpin: true}}\n", "only nodes have `hairpin`"),
        ("hosts: [a, b]\nlinks: [{link: a -- b, to: {vlans: 10}}]\n", "not a bridge's port"),
        (
            "switches: [s]\nhosts: [a]\nlinks: [{link: a -- s, to: {vlans: 10}}]\n",
            "no bridge that looks at them",
        ),
        ("routers: {r: {bridges: {br0: {vlans: [10]}}}}\n", "no bridge that looks at them"),
        (
            "switches: {s: {vlan_filtering: true}}\nhosts: [a]\nlinks: [{link: a -- s, to: {vlans: 4095}}]\n",
            "`4095` is no VLAN",
        ),
        (
            "switches: {s: {vlan_filtering: true}}\nhosts: [a]\nlinks: [{link: a -- s, to: {vlans: [-1]}}]\n",
            "`-1` is no VLAN",
        ),
        (
            "switches: {s: {vlan_filtering: true}}\nhosts: [a]\nlinks: [{link: a -- s, to: {vlans: 10-20 pvid}}]\n",
            "`10-20 pvid` is no VLAN",
        ),
        (
            "switches: {s: {vlan_filtering: true}}\nhosts: [a]\nlinks: [{link: a -- s, to: {vlans: [10-20, 15]}}]\n",
            "`10-20` and `15` overlap",
        ),
        (
            "switches: {s: {vlan_filtering: true}}\nhosts: [a]\nlinks: [{link: a -- s, to: {vlans: [1 pvid, 2 pvid]}}]\n",
            "two VLANs are `pvid`",
        ),
        ("nodes: {n: {pods: 4294967296}}\n", "expected how many, a list of names"),
        ("nodes: {n: {count: 2}}\noverlay: {kind: vxlan}\n", "`n1` has no address between the nodes | "),
        (
            "nodes: {n: {count: 2}}\nlinks: [n1 -- n2]\noverlay: {kind: vxlan, mtu: 1500}\n",
            "`n1:vxlan1` has an MTU of 1500 | `eth0` has 1500, of which VXLAN takes 50: at most 1450",
        ),
        (
            "nodes: {n: {count: 2, pods: 1}}\nlinks: [{link: n1 -- n2, mtu: 40}]\noverlay: {kind: vxlan}\n",
            "`n1:eth0` has an MTU of 40 | 68 to 65535 bytes",
        ),
        ("hosts: {a: {vxlans: [vx]}, b: }\nlinks: [{link: a -- b, mtu: 40}]\n", "has an MTU of"),
        (
            "hosts: [a, b]\nlinks: [{link: a -- b, rate: fast}]\n",
            "lab.yaml:2:24: `fast` is not a rate | write `10mbit`",
        ),
        (
            "hosts: [a, b]\nlinks: [a -- b]\nexpect:\n  - ping a -> c\n",
            "lab.yaml:4:5: column 11: there is no `c` in this lab",
        ),
        ("", "lab.yaml:1:1: the lab has no machines | "),
        ("hosts: [a\n", "lab.yaml:"),
        ("hosts: 7\n", "lab.yaml:1:1: invalid type: integer `7`, expected a list of names"),
    ];
    for (yaml, expected) in cases {
        let error = error(yaml);
        assert!(error.contains(expected), "{yaml}\n  {error}\n  {expected}");
    }
}

#[test]
fn a_yaml_bomb_is_refused() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (now, before) in ('b'..='i').zip('a'..='h') {
        let list = vec![format!("*{before}"); 9].join(", ");
        bomb.push_str(&format!("{now}: &{now} [{list}]\n"));
    }
    assert!(error(&bomb).starts_with("lab.yaml:"));
}

#[test]
fn switches_in_a_ring_are_warned_of() {
    let yaml = "switches: {s: {count: 3}}\nlinks: [ring s]\n";
    let warnings = resolved(yaml).warnings;
    assert!(warnings[0].contains("connected in a ring at `s1`"), "{warnings:?}");
    assert!(resolved(&yaml.replace("count: 3", "count: 3, stp: true")).warnings.is_empty());
}

#[test]
fn commands_and_words_of_ip_are_read() {
    let yaml = r#"
hosts:
  a:
    run: ["httpd -p 80 -h '/srv/my files'"]
    routes: ["10.9.0.0/16 via 10.0.0.2 mtu 1400", "default dev eth0"]
    neighbours: ["10.0.0.9 lladdr 02:00:00:00:00:09"]
    sysctls: {net.ipv4.ip_forward: 1}
  b: {forward: tcp/8080 -> 10.0.0.1:80, masquerade: out eth0}
links: [a -- b]
"#;
    let wiring = wiring(yaml);
    let a = wiring.machine("a").unwrap();
    assert_eq!(a.run, [["httpd", "-p", "80", "-h", "/srv/my files"]]);
    assert_eq!(a.routes[0].mtu_bytes, Some(1400));
    assert_eq!(a.neighbours[0].device.as_str(), "eth0");
    assert_eq!(a.sysctls["net.ipv4.ip_forward"], "1");
    let b = wiring.machine("b").unwrap();
    assert_eq!((b.nat.forward.len(), b.nat.masquerade.len()), (1, 1));
}

#[test]
fn a_wiring_is_read_back_as_it_was_written() {
    let yaml = "
nodes: {node: {count: 2, pods: 1, masquerade: 10.244.0.0/16, run: sleep 9}}
switches: [net]
hosts: {m: {macvlans: {eth0: {on: 'node1:eth0', addresses: 10.0.0.9/24}}}}
links: [{link: node -- net, rate: 10mbit, to: {isolated: true}}]
overlay: {kind: vxlan}
";
    let wiring = wiring(yaml);
    let text = serde_json::to_string(&wiring).unwrap();
    assert_eq!(serde_json::from_str::<Wiring>(&text).unwrap(), wiring);
}
