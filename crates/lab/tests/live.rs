//! Labs on this kernel. Nothing of the machine's own network is touched: every namespace is the lab's.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use podplumb_lab::{Lab, Plan, resolve, topology};

fn lab(yaml: &str) -> Lab {
    assert!(sys::is_root(), "needs root");
    match Lab::from_yaml(yaml) {
        Ok(lab) => lab,
        Err(error) => panic!("{error}"),
    }
}

/// Whether a TCP connection comes about.
fn connects(lab: &Lab, from: &str, to: &str, address: IpAddr) -> bool {
    let address = SocketAddr::new(address, 7000);
    let listener = lab.run(to, move || TcpListener::bind(("::", 7000))).unwrap().unwrap();
    let connected =
        lab.run(from, move || TcpStream::connect_timeout(&address, Duration::from_secs(2))).unwrap();
    let Ok(mut stream) = connected else { return false };
    let (mut accepted, _) = listener.accept().unwrap();
    stream.write_all(b"x").unwrap();
    let mut byte = [0];
    accepted.read_exact(&mut byte).is_ok()
}

fn address(lab: &Lab, machine: &str) -> IpAddr {
    let wiring = lab.wiring();
    wiring.machine(machine).unwrap().addresses().next().unwrap().addr()
}

fn reaches(lab: &Lab, from: &str, to: &str) -> bool {
    connects(lab, from, to, address(lab, to))
}

#[test]
fn two_hosts_reach_each_other() {
    let lab = lab("hosts: [a, b]\nlinks: [a -- b]\n");
    assert!(reaches(&lab, "a", "b") && reaches(&lab, "b", "a"));
}

#[test]
fn clients_reach_each_other_through_a_router_by_both_families() {
    let lab = lab("hosts: [a, b]\nrouters: [r]\npool: [10.0.0.0/8, 'fd00::/48']\nlinks: [a -- r, b -- r]\n");
    assert!(reaches(&lab, "a", "b"));
    let six =
        lab.wiring().machine("b").unwrap().addresses().map(|net| net.addr()).find(IpAddr::is_ipv6).unwrap();
    assert!(connects(&lab, "a", "b", six));
}

#[test]
fn everybody_on_a_switch_reaches_everybody() {
    let lab = lab("switches: [sw]\nhosts: {h: {count: 20}}\nlinks: [h -- sw]\n");
    assert!(reaches(&lab, "h1", "h20") && reaches(&lab, "h20", "h7"));
}

#[test]
fn routes_lead_round_a_ring() {
    let lab = lab("routers: {r: {count: 12}}\nlinks: [ring r]\n");
    assert!(reaches(&lab, "r1", "r7") && reaches(&lab, "r5", "r11"));
}

#[test]
fn pods_reach_the_internet_through_their_node_and_not_the_other_way_round() {
    let lab = lab("nodes: {node: {pods: 2, masquerade: 10.244.0.0/16 out eth0}}\nhosts: [internet]\n\
                   links: [node -- internet 192.0.2.1/24]\n");
    assert!(reaches(&lab, "node-pod1", "internet") && reaches(&lab, "node-pod1", "node-pod2"));
    // What the internet sees is the node.
    let udp = lab.run("internet", || UdpSocket::bind("192.0.2.1:9")).unwrap().unwrap();
    lab.run("node-pod2", || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "192.0.2.1:9").unwrap())
        .unwrap();
    let (_, from) = udp.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(from.ip(), "192.0.2.2".parse::<IpAddr>().unwrap());
}

#[test]
fn a_port_of_the_router_leads_inside() {
    let lab = lab(
        "hosts: [inside, outside]\nrouters: {r: {forward: 'tcp/8080 -> 10.0.0.2:7000', masquerade: out eth0}}\n\
                   links: [inside -- r, outside -- r]\n",
    );
    let listener = lab.run("inside", || TcpListener::bind("10.0.0.2:7000")).unwrap().unwrap();
    let to: SocketAddr = "10.0.1.1:8080".parse().unwrap();
    lab.run("outside", || TcpStream::connect_timeout(&to, Duration::from_secs(2))).unwrap().unwrap();
    listener.accept().unwrap();
}

#[test]
fn pods_of_two_nodes_reach_each_other_by_vxlan() {
    let lab = lab(
        "nodes: {node: {count: 2, pods: 2}}\nswitches: [net]\nlinks: [node -- net]\noverlay: {kind: vxlan}\n",
    );
    assert!(reaches(&lab, "node1-pod1", "node2-pod2") && reaches(&lab, "node2-pod1", "node1-pod2"));
}

#[test]
fn a_bridge_may_be_stretched_by_a_vxlan_device_of_ones_own() {
    let lab = lab("
routers:
  left: {bridges: [br0], vxlans: {vx: {id: 7, peers: [10.9.0.2], bridge: br0}}}
  right: {bridges: [br0], vxlans: {vx: {id: 7, peers: [10.9.0.1], bridge: br0}}}
hosts: [a, b]
links:
  - left 10.9.0.1/24 -- right 10.9.0.2/24
  - a 10.1.0.1/24 -- left/br0
  - b 10.1.0.2/24 -- right/br0
");
    assert!(reaches(&lab, "a", "b"));
}

#[test]
fn isolated_ports_do_not_reach_each_other() {
    let lab = lab("
switches: [sw]
hosts: [a, b, c]
links:
  - {link: a -- sw, to: {isolated: true}}
  - {link: b -- sw, to: {isolated: true}}
  - c -- sw
");
    assert!(reaches(&lab, "a", "c") && reaches(&lab, "b", "c"));
    assert!(!reaches(&lab, "a", "b"));
}

#[test]
fn macvlans_on_another_machines_interface_are_on_its_network() {
    let lab = lab("
hosts:
  a: {}
  parent: {}
  m: {macvlans: {eth0: {on: 'parent:eth0', addresses: 10.1.0.9/24}}}
links: [a 10.1.0.1/24 -- parent 10.1.0.2/24]
");
    assert!(connects(&lab, "a", "m", "10.1.0.9".parse().unwrap()));
}

#[test]
fn after_an_edit_only_the_difference_is_made() {
    let wiring = |yaml: &str| {
        let topology = topology::from_yaml(yaml, "t".as_ref()).unwrap();
        resolve(&topology, "test", &|_| unreachable!()).unwrap().wiring
    };
    let mut lab = lab(
        "hosts: [a, b]\nrouters: [r]\nlinks: [a 10.1.0.2/24 -- r 10.1.0.1/24, b 10.2.0.2/24 -- r 10.2.0.1/24]\n",
    );
    let edited = wiring(
        "name: test\nhosts: [a, c]\nrouters: [r]\nlinks: [{link: 'a 10.1.0.3/24 -- r 10.1.0.1/24', mtu: 1400}, c 10.3.0.2/24 -- r:eth1 10.3.0.1/24]\n",
    );
    let plan = Plan::between(Some(lab.wiring()), &edited).to_string();
    assert!(
        plan.contains("- namespace b") && plan.contains("+ namespace c") && plan.contains("~ veth a:eth0"),
        "{plan}"
    );
    assert!(!plan.contains("namespace r") && !plan.contains("namespace a"), "{plan}");
    lab.change(edited).unwrap();
    assert!(reaches(&lab, "a", "c") && reaches(&lab, "c", "a"));
    assert_eq!(Plan::between(Some(lab.wiring()), lab.wiring()), Plan::default());
}

#[test]
fn a_rate_is_what_goes_through() {
    let lab = lab("hosts: [a, b]\nlinks: [{link: a -- b, rate: 20mbit}]\n");
    let listener = lab.run("b", || TcpListener::bind("10.0.0.2:80")).unwrap().unwrap();
    let mut stream = lab.run("a", || TcpStream::connect("10.0.0.2:80")).unwrap().unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let start = std::time::Instant::now();
    std::thread::spawn(move || stream.write_all(&vec![0; 1_500_000]).unwrap());
    let mut read = Vec::new();
    accepted.read_to_end(&mut read).unwrap();
    // 12 Mbit at 20 Mbit/s: 0.6 s, less what may go at once. Without the limit it takes a few milliseconds.
    assert!(read.len() == 1_500_000 && start.elapsed() > Duration::from_millis(400), "{:?}", start.elapsed());
}

#[test]
fn sysctls_are_set_and_go_back_to_what_is_usual() {
    let mut lab = lab(
        "hosts: {a: {sysctls: {net.ipv4.ip_default_ttl: 7, net.ipv4.conf.eth0.rp_filter: 2}}, b: }\nlinks: [a -- b]\n",
    );
    let read = |lab: &Lab| {
        lab.run("a", || {
            ["net/ipv4/ip_default_ttl", "net/ipv4/conf/eth0/rp_filter"]
                .map(|key| sys::read_sysctl(key).unwrap())
        })
        .unwrap()
    };
    let set = read(&lab);
    let mut wiring = lab.wiring().clone();
    wiring.machines[0].sysctls.clear();
    lab.change(wiring).unwrap();
    assert_eq!((set, read(&lab)), (["7".into(), "2".into()], ["64".into(), "0".into()]));
}

/// A node whose pods the bridge plugin wires; the file is read from beside the topology.
#[test]
fn switches_have_sysctls_and_pods_of_a_node_hairpins() {
    let lab = lab("
switches: {sw: {sysctls: {net.ipv4.conf.br0.proxy_arp: 1}}}
nodes: {plain: {pods: 1}, node: {pods: 2, hairpin: true}}
links: [node -- sw]
");
    let proxies = lab.run("sw", || sys::read_sysctl("net/ipv4/conf/br0/proxy_arp").unwrap()).unwrap();
    assert_eq!(proxies.trim(), "1");
    let hairpins = || {
        let mut socket = netlink::Socket::route().unwrap();
        let links = netlink::link::list(&mut socket, None).unwrap();
        links.iter().filter(|link| link.port.as_ref().is_some_and(|port| port.hairpin)).count()
    };
    assert_eq!(["node", "plain", "sw"].map(|machine| lab.run(machine, hairpins).unwrap()), [2, 0, 0]);
}

fn with_cni(yaml: &str) -> Lab {
    let conflist = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.7.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}"#;
    let topology = topology::from_yaml(yaml, "t".as_ref()).unwrap();
    let wiring = resolve(&topology, "test", &|_| Ok(conflist.to_owned())).unwrap().wiring;
    Lab::new(wiring).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn pods_may_be_wired_by_cni_plugins() {
    let leases = || std::fs::read_dir("/var/lib/cni/networks").map(Iterator::count).ok();
    let before = leases();
    let lab = with_cni("nodes: {node: {pods: 2, cni: net.conflist}}\nhosts: [out]\nlinks: [node -- out]\n");
    assert!(connects(&lab, "node-pod2", "node-pod1", "10.244.7.2".parse().unwrap()));
    // Masqueraded: `out` has no route to pods.
    assert!(reaches(&lab, "node-pod1", "out"));
    assert_eq!(leases(), before, "the machine's own leases are none of a lab's business");
}

#[test]
fn a_switch_drops_what_does_not_fit_into_a_port() {
    // What carries VXLAN may be cut on its way (DF is not set), so it is the switch alone that drops.
    let lab = lab(
        "nodes: {node: {count: 2, pods: 1}}\nswitches: [net]\nlinks: [node1 -- net, {link: node2 -- net, to: {mtu: 1400}}]\noverlay: {kind: vxlan}\n",
    );
    let socket = lab.run("node2-pod1", || UdpSocket::bind("10.244.1.2:9")).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let arrives = |bytes: usize| {
        let send = || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&vec![0; bytes], "10.244.1.2:9").unwrap();
        lab.run("node1-pod1", send).unwrap();
        socket.recv_from(&mut [0; 2000]).is_ok()
    };
    assert!(arrives(1300));
    assert!(!arrives(1422));
}
