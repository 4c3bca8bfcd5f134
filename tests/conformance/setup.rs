//! Networks of each kind, with what they need on the node.

use podplumb_tests::run;
use serde_json::{Value, json};

use crate::case::{DUMMY, IFB, IPVLAN, MACVLAN, Need, VLAN, VRF};
use crate::node::{Network, Node};

/// A network of one kind.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) plugins: &'static [&'static str],
    pub(crate) needs: &'static [Need],
    /// What has to be there before each ADD.
    prepare: fn(&Node),
    configs: fn() -> Vec<Value>,
    /// Whether its plugins have results with addresses.
    pub(crate) has_addresses: bool,
}

impl Setup {
    pub(crate) fn network(&self, node: &Node) -> Network {
        node.network(&(self.configs)())
    }

    pub(crate) fn prepare(&self, node: &Node) {
        (self.prepare)(node);
    }
}

/// host-local in a subnet of pods.
pub(crate) fn pool() -> Value {
    json!({
        "type": "host-local", "ranges": [[{ "subnet": "10.66.0.0/24" }], [{ "subnet": "fd66::/64" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    })
}

/// The same without IPv6.
pub(crate) fn pool_4() -> Value {
    json!({
        "type": "host-local", "ranges": [[{ "subnet": "10.66.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }],
    })
}

/// host-local in the subnet of the uplink.
pub(crate) fn pool_outside() -> Value {
    json!({
        "type": "host-local", "routes": [{ "dst": "198.51.100.0/24", "gw": "192.0.2.2" }],
        "ranges": [[{ "subnet": "192.0.2.0/24", "rangeStart": "192.0.2.10", "rangeEnd": "192.0.2.20", "gateway": "192.0.2.2" }]],
    })
}

/// A bridge with a gateway.
pub(crate) fn bridge() -> Value {
    json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": pool() })
}

/// A bridge that does not masquerade: what is left is the next plugin's.
pub(crate) fn plain_bridge(ipam: Value) -> Value {
    json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam })
}

/// Port mappings as a runtime passes them.
pub(crate) fn portmap() -> Value {
    json!({
        "type": "portmap", "capabilities": { "portMappings": true },
        "runtimeConfig": { "portMappings": [
            { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
            { "hostPort": 8053, "containerPort": 80, "protocol": "udp" },
        ] },
    })
}

/// Rates as a runtime passes them.
pub(crate) fn bandwidth() -> Value {
    json!({
        "type": "bandwidth", "capabilities": { "bandwidth": true },
        "runtimeConfig": { "bandwidth": {
            "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 1_600_000,
        } },
    })
}

/// Every kind of network.
pub(crate) fn all() -> [Setup; 16] {
    let nothing: fn(&Node) = |_| {};
    let outside: fn(&Node) = Node::outside;
    let setup = |name, plugins, needs, prepare, configs| Setup {
        name,
        plugins,
        needs,
        prepare,
        configs,
        has_addresses: true,
    };
    [
        setup("bridge", &["bridge", "host-local"], &[], nothing, || vec![bridge()]),
        setup("ptp", &["ptp", "host-local"], &[], nothing, || {
            vec![json!({ "type": "ptp", "ipMasq": true, "ipam": pool() })]
        }),
        Setup {
            has_addresses: false,
            ..setup("loopback", &["loopback"], &[], nothing, || vec![json!({ "type": "loopback" })])
        },
        setup("macvlan", &["macvlan", "host-local"], &[MACVLAN], outside, || {
            vec![json!({ "type": "macvlan", "master": "uplink", "ipam": pool_outside() })]
        }),
        setup("ipvlan", &["ipvlan", "host-local"], &[IPVLAN], outside, || {
            vec![json!({ "type": "ipvlan", "master": "uplink", "ipam": pool_outside() })]
        }),
        setup("vlan", &["vlan", "host-local"], &[VLAN], outside, || {
            vec![json!({ "type": "vlan", "master": "uplink", "vlanId": 5, "ipam": pool_outside() })]
        }),
        setup("dummy", &["dummy", "host-local"], &[DUMMY], nothing, || {
            vec![json!({ "type": "dummy", "ipam": pool_outside() })]
        }),
        setup("tap", &["tap", "host-local"], &[], nothing, || {
            vec![json!({ "type": "tap", "ipam": pool_outside() })]
        }),
        setup("host-device", &["host-device", "host-local"], &[], device, || {
            vec![json!({ "type": "host-device", "device": "nic", "ipam": pool_outside() })]
        }),
        setup("flannel", &["flannel", "bridge", "host-local"], &[], flannel_environment, || {
            vec![json!({ "type": "flannel", "delegate": { "isDefaultGateway": true } })]
        }),
        setup("bridge, portmap", &["bridge", "host-local", "portmap"], &[], nothing, || {
            vec![plain_bridge(pool_4()), portmap()]
        }),
        setup("bridge, firewall", &["bridge", "host-local", "firewall"], &[], nothing, || {
            vec![plain_bridge(pool()), json!({ "type": "firewall" })]
        }),
        setup("bridge, bandwidth", &["bridge", "host-local", "bandwidth"], &[IFB], nothing, || {
            vec![plain_bridge(pool()), bandwidth()]
        }),
        setup("bridge, tuning", &["bridge", "host-local", "tuning"], &[], nothing, || {
            vec![
                plain_bridge(pool()),
                json!({ "type": "tuning", "mtu": 1400, "sysctl": { "net.core.somaxconn": "500" } }),
            ]
        }),
        setup("bridge, sbr", &["bridge", "host-local", "sbr"], &[], nothing, || {
            vec![plain_bridge(pool()), json!({ "type": "sbr" })]
        }),
        setup("bridge, vrf", &["bridge", "host-local", "vrf"], &[VRF], nothing, || {
            vec![plain_bridge(pool()), json!({ "type": "vrf", "vrfname": "blue" })]
        }),
    ]
}

/// What flanneld writes for this node.
pub(crate) fn flannel_environment(_: &Node) {
    std::fs::create_dir_all("/run/flannel").expect("a directory");
    let text = "FLANNEL_NETWORK=10.66.0.0/16\nFLANNEL_SUBNET=10.66.5.1/24\nFLANNEL_IPV6_NETWORK=fd66::/48\n\
        FLANNEL_IPV6_SUBNET=fd66:0:0:5::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    std::fs::write("/run/flannel/subnet.env", text).expect("a file");
}

/// A device of the node that a pod may have: one end of a veth. It goes with the pod, so it may have to be made again.
fn device(_: &Node) {
    if !run("ip", &["-o", "link"]).contains(" nic@") {
        run("ip", &["link", "add", "nic", "type", "veth", "peer", "name", "nic-peer"]);
        run("ip", &["link", "set", "nic-peer", "up"]);
    }
}
