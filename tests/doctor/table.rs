//! Each check, a lab, and what breaks it.

/// A node with two pods, and the way out.
pub(crate) const NODE: &str = "
nodes: {node: {pods: 2, masquerade: 10.244.0.0/16}}
routers: [internet]
links: [node 192.0.2.10/24 -- internet 192.0.2.1/24]
";

/// Two nodes, and a tunnel between their pods.
pub(crate) const TUNNEL: &str = "
nodes: {node: {count: 2, pods: 1}}
switches: [net]
links: [node -- net]
overlay: {kind: vxlan}
";

/// IPv4 and IPv6.
pub(crate) const DUAL: &str = "
pool: [10.0.0.0/8, 'fd00::/48']
nodes: {node: {count: 2, pods: 1}}
switches: [net]
links: [node -- net]
overlay: {kind: host-routes}
";

/// A pod as Calico wires it: an address without a subnet, a gateway that nobody has, and a node that answers for it.
pub(crate) const ROUTED: &str = "
routing: none
routers:
  node:
    routes: [10.67.5.1/32 dev cali1]
    sysctls: {net.ipv4.conf.cali1.proxy_arp: 1}
hosts:
  pod: {routes: [169.254.1.1/32 dev eth0, default via 169.254.1.1 dev eth0]}
links:
  - {link: 'node:cali1 -- pod:eth0 10.67.5.1/32', from: {addresses: []}}
";

/// A pod in two networks.
pub(crate) const TWO_NETWORKS: &str = "
routing: none
routers:
  node:
    bridges: {cni0: {addresses: 10.1.0.1/24}, cni1: {addresses: 10.2.0.1/24}}
hosts:
  pod: {routes: [default via 10.1.0.1 dev eth0]}
links:
  - node/cni0:veth1 -- pod:eth0 10.1.0.2/24
  - node/cni1:veth2 -- pod:eth1 10.2.0.2/24
";

/// A check, and how it is broken.
pub(crate) struct Row {
    /// The only check that finds something.
    pub(crate) check: &'static str,
    /// In this lab.
    pub(crate) lab: &'static str,
    /// Seen from this machine.
    pub(crate) node: &'static str,
    /// After a shell ran this in these machines.
    pub(crate) breaks: &'static [(&'static str, &'static str)],
    /// With this as the object.
    pub(crate) object: &'static str,
}

macro_rules! rows {
    ($($check:literal on $lab:ident/$node:literal as $object:literal: $($machine:literal $command:expr),+;)*) => {
        &[$(Row { check: $check, lab: $lab, node: $node, object: $object, breaks: &[$(($machine, $command)),+] }),*]
    };
}

/// All that labs can break.
pub(crate) const ROWS: &[Row] = rows! {
    "ip-forward" on NODE/"node" as "net.ipv4.ip_forward": "node" "sysctl -qw net.ipv4.ip_forward=0";
    "ipv6-forward" on DUAL/"node1" as "net.ipv6.conf.all.forwarding": "node1" "sysctl -qw net.ipv6.conf.all.forwarding=0";
    "interface-forwarding" on NODE/"node" as "cni0": "node" "sysctl -qw net.ipv4.conf.cni0.forwarding=0";
    "rp-filter" on TWO_NETWORKS/"node" as "cni0": "node" "sysctl -qw net.ipv4.conf.cni0.rp_filter=1";
    "pod-address" on NODE/"node" as "": "node-pod1" "ip addr flush dev eth0 scope global";
    "pod-default-route" on NODE/"node" as "": "node-pod1" "ip route del default";
    "pod-gateway" on NODE/"node" as "": "node" "ip addr del 10.244.0.1/24 dev cni0; ip addr add 10.244.0.254/24 dev cni0";
    "proxy-arp" on ROUTED/"node" as "": "node" "sysctl -qw net.ipv4.conf.cali1.proxy_arp=0";
    "duplicate-address" on NODE/"node" as "10.244.0.2": "node-pod2" "ip addr add 10.244.0.2/24 dev eth0";
    "duplicate-mac" on NODE/"node" as "02:00:00:00:00:77":
        "node-pod1" "ip link set eth0 address 02:00:00:00:00:77", "node-pod2" "ip link set eth0 address 02:00:00:00:00:77";
    "pod-route" on NODE/"node" as "": "node" "ip route add 10.244.0.2/32 via 192.0.2.1";
    "pod-route" on ROUTED/"node" as "": "node" "ip route del 10.67.5.1/32";
    "subnet-overlap" on NODE/"node" as "cni0": "node" "ip addr add 10.244.0.200/25 dev eth0";
    "forward-drop" on NODE/"node" as "iptables-nft ip filter FORWARD": "node" "iptables-nft -P FORWARD DROP";
    "forward-drop" on NODE/"node" as "iptables-legacy ip filter FORWARD": "node" "iptables-legacy -P FORWARD DROP";
    "rule-in-the-way" on NODE/"node" as "nft inet site forward":
        "node" "nft 'add table inet site; add chain inet site forward { type filter hook forward priority 0; }; add rule inet site forward ip saddr 10.244.0.2 drop'";
    "pmtu-black-hole" on NODE/"node" as "nft inet site forward":
        "node" "nft 'add table inet site; add chain inet site forward { type filter hook forward priority 0; }; add rule inet site forward icmp type destination-unreachable drop'";
    "pmtu-black-hole" on DUAL/"node1" as "nft ip6 site forward":
        "node1" "nft 'add table ip6 site; add chain ip6 site forward { type filter hook forward priority 0; }; add rule ip6 site forward icmpv6 type packet-too-big drop'";
    "pmtu-black-hole" on NODE/"node" as "iptables-nft ip mangle PREROUTING":
        "node" "iptables-nft -t mangle -A PREROUTING -p icmp --icmp-type fragmentation-needed -j DROP";
    "pmtu-black-hole" on NODE/"node" as "iptables-legacy ip filter INPUT":
        "node" "iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; iptables-legacy -P INPUT DROP";
    "masquerade-missing" on NODE/"node" as "eth0":
        "node" "nft 'flush ruleset; add table ip site; add chain ip site post { type nat hook postrouting priority 100; }; add rule ip site post ip saddr 10.244.0.2 masquerade'";
    "masquerade-twice" on NODE/"node" as "":
        "node" "nft 'add table ip site; add chain ip site post { type nat hook postrouting priority 110; }; add rule ip site post ip saddr 10.244.0.0/16 masquerade'";
    "two-iptables" on NODE/"node" as "iptables":
        "node" "iptables-nft -A FORWARD -s 10.9.9.9 -j ACCEPT; iptables-legacy -A FORWARD -s 10.9.9.9 -j ACCEPT";
    "bridge-netfilter" on NODE/"node" as "cni0":
        "node" "nft add table ip kube-proxy; if sysctl -n net.bridge.bridge-nf-call-iptables; then sysctl -qw net.bridge.bridge-nf-call-iptables=0; fi";
    "veth-mtu" on NODE/"node" as "": "node-pod1" "ip link set eth0 mtu 1400";
    "bridge-mtu" on NODE/"node" as "cni0":
        "node" "ports=$(ip -br link show master cni0 | cut -d@ -f1); for port in $ports; do ip link set $port mtu 1300; break; done",
        "node-pod1" "ip link set eth0 mtu 1300";
    "pod-mtu" on NODE/"node" as "eth0":
        "node" "ip route replace default via 192.0.2.1; ip link set eth0 mtu 1400", "internet" "ip link set eth0 mtu 1400";
    "vxlan-mtu" on TUNNEL/"node1" as "vxlan1": "node1" "ip link set eth0 mtu 1450", "net" "ip link set port1 mtu 1450";
    "bridge-down" on NODE/"node" as "cni0": "node" "ip link set cni0 down";
    "bridge-address" on NODE/"node" as "cni0": "node" "ip addr flush dev cni0";
    "bridge-full" on NODE/"node" as "cni0":
        "node" "for n in $(seq 475); do echo link add a$n master cni0 type veth peer name b$n; echo link set b$n master cni0; done | ip -batch -";
    "veth-down" on NODE/"node" as "": "node" "ports=$(ip -br link show master cni0 | cut -d@ -f1); for port in $ports; do ip link set $port down; break; done";
    "veth-down" on NODE/"node" as "": "node-pod1" "ip link set eth0 down";
    "wrong-bridge" on NODE/"node" as "":
        "node" "ip link add br9 type bridge; ip link set br9 up; ip addr add 10.9.0.1/24 dev br9; ports=$(ip -br link show master cni0 | cut -d@ -f1); for port in $ports; do ip link set $port master br9; break; done";
    "wrong-bridge" on NODE/"node" as "": "node" "ports=$(ip -br link show master cni0 | cut -d@ -f1); for port in $ports; do ip link set $port nomaster; break; done";
    "port-blocked" on NODE/"node" as "": "node" "ports=$(ip -br link show master cni0 | cut -d@ -f1); for port in $ports; do bridge link set dev $port state 0; break; done";
    "port-isolated" on NODE/"node" as "cni0": "node" "ports=$(ip -br link show master cni0 | cut -d@ -f1); for port in $ports; do bridge link set dev $port isolated on; done";
    "hairpin" on NODE/"node" as "cni0": "node" "ports=$(ip -br link show master cni0 | cut -d@ -f1); for port in $ports; do bridge link set dev $port hairpin on; break; done";
    "hairpin-service" on NODE/"node" as "cni0":
        "node" "sysctl -qw net.bridge.bridge-nf-call-iptables=1; nft 'add table ip site; add chain ip site pre { type nat hook prerouting priority -100; }; add chain ip site post { type nat hook postrouting priority 90; }; add rule ip site pre ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.2:8080; add rule ip site post ip saddr 10.244.0.2 ip daddr 10.244.0.2 masquerade'";
    "stale-station" on NODE/"node" as "02:00:00:00:00:55":
        "node" "ports=$(ip -br link show master cni0 | cut -d@ -f1); for port in $ports; do bridge fdb add 02:00:00:00:00:55 dev $port master static; break; done";
    "station-elsewhere" on NODE/"node" as "":
        "node" "set -- $(bridge fdb show br cni0 | grep -v permanent | head -1); for port in $(ip -br link show master cni0 | cut -d@ -f1); do [ $port = $3 ] || bridge fdb replace $1 dev $port master static; done";
    "stale-neighbour" on NODE/"node" as "10.244.0.77": "node" "ip neigh add 10.244.0.77 lladdr 02:00:00:00:00:56 dev cni0 nud permanent";
    "vxlan-down" on TUNNEL/"node1" as "vxlan1": "node1" "ip link set vxlan1 down";
    "vxlan-port" on TUNNEL/"node1" as "vxlan1":
        "node1" "ip link set vxlan1 down; timeout 60 python3 -c 'import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"10.0.0.1\", 8472)); time.sleep(60)' </dev/null >/dev/null 2>&1 & until ss -uln | grep -q 10.0.0.1:8472; do sleep 0.1; done; ! ip link set vxlan1 up 2>/dev/null";
    "vxlan-port" on TUNNEL/"node1" as "vxlan1":
        "node1" "ip link set vxlan1 down; ip link add other type vxlan dstport 8472 external; ip link set other up; ! ip link set vxlan1 up 2>/dev/null";
    "vxlan-source" on TUNNEL/"node1" as "vxlan1": "node1" "ip addr flush dev eth0; ip addr add 10.0.0.99/24 dev eth0";
    "vxlan-clash" on TUNNEL/"node1" as "vxlan1":
        "node1" "ip addr add 2001:db8::1/64 dev eth0 nodad; ip link add old type vxlan id 1 dstport 8472 local 2001:db8::1; ip link set old up";
    "vtep-route" on TUNNEL/"node1" as "198.51.100.9 of vxlan1": "node1" "bridge fdb append 02:00:00:00:00:99 dev vxlan1 dst 198.51.100.9";
    "vtep-neighbour" on TUNNEL/"node1" as "": "node1" "ip neigh flush dev vxlan1 nud permanent";
    "vtep-fdb" on TUNNEL/"node1" as "":
        "node1" "bridge fdb show dev vxlan1 | while read mac rest; do bridge fdb del $mac dev vxlan1; done";
    "vtep-own" on TUNNEL/"node1" as "10.0.0.1 of vxlan1": "node1" "bridge fdb append 02:00:00:00:00:98 dev vxlan1 dst 10.0.0.1";
    "station-twice" on TUNNEL/"node1" as "":
        "node1-pod1" "ip -br link show eth0 | tr -s ' ' | cut -d ' ' -f 3 > /run/mac-of-a-pod",
        "node1" "ip link add stretch7 mtu 1450 type vxlan id 7 dstport 4797 local 10.0.0.1 nolearning; ip link set stretch7 master cni0 up; bridge fdb add $(cat /run/mac-of-a-pod) dev stretch7 dst 10.0.0.2; rm /run/mac-of-a-pod";
    "station-twice" on TUNNEL/"node1" as "02:00:00:00:00:99 of stretch8":
        "node1" "ip link add stretch7 mtu 1450 type vxlan id 7 dstport 4797 local 10.0.0.1 nolearning; ip link set stretch7 master cni0 up; ip link add stretch8 mtu 1450 type vxlan id 8 dstport 4798 local 10.0.0.1 nolearning; ip link set stretch8 master cni0 up; bridge fdb add 02:00:00:00:00:99 dev stretch7 dst 10.0.0.2; bridge fdb add 02:00:00:00:00:99 dev stretch8 dst 10.0.0.3";
    "pool-full" on NODE/"node" as "network pods":
        "node" "{conflist bridge}; mkdir -p /var/lib/cni/networks/pods; for n in 2 3 4 5 6; do printf 'c%s\\r\\neth0' $n > /var/lib/cni/networks/pods/10.9.0.$n; done";
    "address-without-lease" on NODE/"node" as "10.9.0.2":
        "node" "{conflist bridge}; ip netns add p1; $PODPLUMB cni add pods c1 p1; rm /var/lib/cni/networks/pods/10.9.0.2";
    "lease-without-address" on NODE/"node" as "10.9.0.2":
        "node" "{conflist bridge}; ip netns add p1; $PODPLUMB cni add pods c1 p1; ip -n p1 addr del 10.9.0.2/29 dev eth0; ip -n p1 addr add 10.9.0.4/29 dev eth0; ip netns exec p1 sleep 600 </dev/null >/dev/null 2>&1 & until ip netns pids p1 | grep -q .; do sleep 0.05; done";
    "cni-config-broken" on NODE/"node" as "/etc/cni/net.d/10-pods.conflist":
        "node" "echo '{\"name\": \"pods' > /etc/cni/net.d/10-pods.conflist";
    "cni-plugin-missing" on NODE/"node" as "/etc/cni/net.d/10-pods.conflist": "node" "{conflist bridge nosuch}";
    "cni-plugin-mode" on NODE/"node" as "/usr/lib/cni/portmap":
        "node" "{conflist bridge portmap}; touch /run/plain; mount --bind /run/plain /usr/lib/cni/portmap";
    "cni-version" on NODE/"node" as "/etc/cni/net.d/10-pods.conflist":
        "node" "{conflist bridge}; sed -i s/1.0.0/1.0/ /etc/cni/net.d/10-pods.conflist";
    "cni-chain" on NODE/"node" as "/etc/cni/net.d/10-pods.conflist": "node" "{conflist portmap bridge}";
};

/// What a node of Kubernetes' has in /etc/cni/net.d, with these plugins in its chain.
fn conflist(plugins: &str) -> String {
    let ipam = r#""isDefaultGateway": true, "bridge": "br7", "ipam": {"type": "host-local", "subnet": "10.9.0.0/29"}"#;
    let kinds: Vec<String> = plugins
        .split(' ')
        .map(|kind| {
            format!(
                r#"{{"type": "{kind}"{}}}"#,
                if kind == "bridge" { format!(", {ipam}") } else { String::new() }
            )
        })
        .collect();
    let chain = kinds.join(", ");
    format!(
        r#"echo '{{"cniVersion": "1.0.0", "name": "pods", "plugins": [{chain}]}}' > /etc/cni/net.d/10-pods.conflist"#
    )
}

/// The commands, with configurations of networks written out.
pub(crate) fn written_out(commands: &str) -> String {
    match commands.strip_prefix("{conflist ").and_then(|rest| rest.split_once('}')) {
        Some((plugins, rest)) => conflist(plugins) + rest,
        None => commands.to_owned(),
    }
}

/// Takes away what rows leave in the directories of the world, which labs share.
pub(crate) const CLEAN: &str = "umount /usr/lib/cni/portmap 2>/dev/null || true; \
    ip netns pids p1 2>/dev/null | xargs -r kill; ip netns del p1 2>/dev/null || true; \
    rm -rf /etc/cni/net.d/* /var/lib/cni/* /run/podplumb/attachments/*";
