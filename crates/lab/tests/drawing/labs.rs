//! The labs that are drawn.

/// What the labs' `cni` files have.
pub(crate) const CONFLIST: &str =
    r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#;

/// Names and topologies.
pub(crate) const LABS: &[(&str, &str)] = &[
    ("two", "hosts: [a, b]\nlinks: [a -- b]\n"),
    ("bridge", "hosts: [red, green, blue]\nswitches: [br]\nlinks: [red -- br, green -- br, blue -- br]\n"),
    (
        "nat",
        "
hosts: [internet]
nodes:
  node:
    pods: 2
    masquerade: 10.244.0.0/24 out eth0
    forward: tcp/8080 -> 10.244.0.2:80
links: [node -- internet]
",
    ),
    ("router", "hosts: [client, server]\nrouters: [router]\nlinks: [client -- router, server -- router]\n"),
    (
        "vxlan",
        "
nodes: {node: {count: 2, pods: 2}}
switches: [underlay]
links: [node -- underlay]
overlay: {kind: vxlan}
",
    ),
    ("ring", "routers: {r: {count: 12}}\nlinks: [ring r]\n"),
    ("many", "hosts: {h: {count: 500}}\nswitches: [br]\nlinks: [h -- br]\n"),
    ("long-ring", "routers: {r: {count: 100}}\nhosts: [a, b]\nlinks: [ring r, a -- r1, b -- r51]\n"),
    ("long-line", "hosts: {h: {count: 200}}\nlinks: [line h]\n"),
    ("line", "routers: {r: {count: 5}}\nlinks: [line r]\n"),
    ("mesh", "routers: {r: {count: 4}}\nlinks: [mesh r]\n"),
    (
        "fabric",
        "
routers: {spine: {count: 2}, leaf: {count: 4}}
hosts: {h: {count: 4}}
links: [spine1 -- leaf, spine2 -- leaf, h -- leaf]
",
    ),
    (
        "gateways",
        "
routers: {gw: {count: 2}}
switches: [left, right]
hosts: {a: {count: 2}, b: {count: 2}}
links: [gw -- left, gw -- right, a -- left, b -- right]
",
    ),
    (
        "three-nodes",
        "
nodes: {node: {count: 3, pods: 2}}
switches: [underlay]
links: [node -- underlay]
overlay: {kind: vxlan}
",
    ),
    (
        "cluster",
        "
nodes: {node: {count: 20, pods: 10}}
switches: [underlay]
links: [node -- underlay]
overlay: {kind: vxlan}
",
    ),
    (
        "host-routes",
        "nodes: {node: {count: 2, pods: 1}}\nlinks: [node1 -- node2]\noverlay: {kind: host-routes}\n",
    ),
    (
        "plugins",
        "nodes: {node: {pods: [web, db], cni: pods.conflist}}\nhosts: [outside]\nlinks: [node -- outside]\n",
    ),
    (
        "bridge-in-a-router",
        "
hosts: {c: {count: 2}, internet: }
routers:
  box:
    bridges: {br0: {addresses: 10.1.0.1/24}}
    masquerade: 10.1.0.0/24 out wan
links: [c -- box/br0, 'box:wan -- internet']
",
    ),
    (
        "settings",
        "
hosts:
  left: {loopback: 10.255.0.1/32}
  right: {macvlans: {mac0: {on: left:eth0, addresses: 10.0.0.9/24}}}
routers: [middle]
links:
  - {link: left -- middle, mtu: 9000, rate: 10mbit}
  - {link: middle -- right, from: {mtu: 1400}, subnet: [10.7.0.0/24, 'fd00:7::/64']}
",
    ),
    (
        "tunnel-between-hosts",
        "
hosts:
  a: {vxlans: {vx0: {id: 7, peers: 10.0.0.2, addresses: 10.9.0.1/24}}}
  b: {vxlans: {vx0: {id: 7, peers: 10.0.0.1, addresses: 10.9.0.2/24}}}
links: [a -- b]
",
    ),
    (
        "tree",
        "
switches: [core, left, right]
hosts: {a: {count: 2}, b: {count: 2}}
links: [left -- core, right -- core, a -- left, b -- right]
",
    ),
    (
        "dual-stack",
        "
pool: [10.0.0.0/8, 'fd00::/48']
hosts: {h: {count: 4}}
switches: [sw]
links: [h -- sw]
",
    ),
    (
        "bridged-node",
        "
nodes: {node: {pods: 2, bridges: {br1: {addresses: 10.5.0.1/24}}}}
hosts: [outside, beside]
links: [node -- outside, node/br1 -- beside]
",
    ),
    (
        "vlans",
        "
switches: {sw: {vlan_filtering: true}}
hosts: [a, b, both]
links:
  - {link: a 10.0.0.1/24 -- sw, to: {vlans: 10 pvid untagged}}
  - {link: b 10.0.0.2/24 -- sw, to: {vlans: 20 pvid untagged}}
  - {link: both 10.0.0.3/24 -- sw, to: {vlans: [10 pvid untagged, 20-30]}}
",
    ),
    ("apart", "hosts: [a, b, c, lonely]\nswitches: [s]\nlinks: [a -- b, c -- s]\n"),
];
