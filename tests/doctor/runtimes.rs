//! On nodes of real runtimes nothing is found, until something breaks.

use podplumb_tests::{Backend, Containerd, Docker, Plugins, Podman, World, require, run, wait_until};

use crate::node::{Said, doctor};

const OF_CONTAINERD: [&str; 5] = ["containerd", "ctr", "runc", "busybox", "ip"];
const OF_DOCKER: [&str; 6] = ["dockerd", "docker", "containerd", "runc", "busybox", "iptables"];
const OF_PODMAN: [&str; 5] = ["podman", "conmon", "runc", "busybox", "iptables"];

/// Nothing has to be done. What is only told may be: versions, a configuration that was left over.
fn assert_healthy(said: &Said) {
    let ill: Vec<_> = said.json["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|finding| finding["severity"] != "notice")
        .collect();
    assert!(ill.is_empty() && said.code == Some(0), "{ill:#?}");
}

fn containerd(plugins: Plugins, subnet: &str) {
    if !require(&OF_CONTAINERD) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, plugins, subnet);
    for name in ["web", "cart"] {
        containerd.run_sandbox(name);
    }
    let said = doctor(&[]);
    assert_healthy(&said);
    assert_eq!(said.blind(), [""; 0], "everything was looked at");

    // What the pods need is the node's: it breaks under them.
    run("sysctl", &["-qw", "net.ipv4.ip_forward=0"]);
    assert_eq!(doctor(&[]).ids(), ["ip-forward"]);
    run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    let config = std::fs::read("/etc/cni/net.d/10-pods.conflist").expect("the configuration");
    std::fs::remove_file("/etc/cni/net.d/10-pods.conflist").expect("the configuration");
    assert_eq!(doctor(&[]).ids(), ["cni-config"]);
    std::fs::write("/etc/cni/net.d/10-pods.conflist", config).expect("the configuration");
    containerd.stop();
    let silent = doctor(&["--runtime-timeout", "2s"]);
    assert_eq!((silent.ids(), silent.code), (vec!["runtime-silent".to_owned()], Some(3)));
}

#[test]
fn a_node_of_containerd_with_the_reference_plugins() {
    containerd(Plugins::Reference, "10.66.21.0/24");
}

#[test]
fn a_node_of_containerd_with_podplumbs_plugins() {
    containerd(Plugins::Podplumb, "10.66.22.0/24");
}

#[test]
fn a_node_of_docker() {
    if !require(&OF_DOCKER) {
        return;
    }
    let world = World::enter();
    let mut docker = Docker::start(&world);
    for name in ["web", "cart"] {
        docker.run_container(name);
    }
    // A published port, for which Docker leaves out its own bridge: its container reaches itself by docker-proxy.
    run("sysctl", &["-qw", "net.bridge.bridge-nf-call-iptables=1"]);
    let publish = ["run", "--detach", "--name", "shop", "--publish", "8080:80"];
    docker.docker(&[&publish[..], &["busybox:1", "/bin/sleep", "1000"]].concat());
    let with_port = doctor(&[]);
    docker.docker(&["rm", "--force", "shop"]);
    assert_healthy(&with_port);
    assert!(!with_port.ids().contains(&"hairpin-service".to_owned()), "{:#}", with_port.json["findings"]);
    assert_eq!(with_port.blind(), [""; 0], "everything was looked at");
    assert_healthy(&doctor(&[]));
    run("ip", &["link", "set", "docker0", "down"]);
    assert_eq!(doctor(&[]).ids(), ["bridge-down"]);
    run("ip", &["link", "set", "docker0", "up"]);
    wait_until("docker0 is up", || doctor(&[]).code == Some(0));
}

fn podman(backend: Backend) {
    if !require(&OF_PODMAN) {
        return;
    }
    let world = World::enter();
    let mut podman = Podman::new(&world, backend);
    for name in ["web", "cart"] {
        podman.run_container(name);
    }
    assert_healthy(&doctor(&[]));
}

#[test]
fn a_node_of_podman_with_netavark() {
    podman(Backend::Netavark);
}

#[test]
fn a_node_of_podman_with_cni() {
    podman(Backend::Cni);
}
