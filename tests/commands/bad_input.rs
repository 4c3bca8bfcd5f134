//! Names that mean two things or steer a terminal, addresses with a scope, and pods that end while something works in them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use podplumb_tests::{Pod, Podplumb, World, require, run};

use crate::guest::Guest;

/// A command in the guest, which has said `in`.
fn start(
    guest: &Guest,
    options: &[&str],
    script: &str,
) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let question = format!("pid:{}", guest.pid);
    let mut child = Command::new(podplumb_tests::binaries().join("podplumb"))
        .args([&["exec", question.as_str()], options, &["--", "sh", "-c", script]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("podplumb");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert_eq!(line, "in\n");
    (child, said)
}

#[test]
fn a_command_in_a_pod_that_ends_keeps_its_network_until_it_ends_itself() {
    if !require(&["ip", "unshare"]) {
        return;
    }
    let _world = World::enter();
    let guest = Guest::start(&["--net"]);
    let inode = guest.namespace("net");
    let (mut child, mut said) = start(&guest, &[], "echo in; read x; readlink /proc/self/ns/net; exit 7");
    drop(guest);
    child.stdin.take().expect("a pipe").write_all(b"go on\n").expect("it reads");
    assert_eq!(child.wait().expect("it ends").code(), Some(7));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert_eq!(line.trim_end(), inode, "it is where it was");
    // Of what is left one cannot begin anew.
    let again = Podplumb::default().run(&["exec", &inode, "--", "true"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("\nhint: "), "{again:?}");
}

#[test]
fn with_its_pid_namespace_a_command_ends_and_its_exit_code_says_how() {
    if !require(&["ip", "unshare"]) {
        return;
    }
    let _world = World::enter();
    let guest = Guest::start(&["--net", "--pid"]);
    let (mut child, _said) = start(&guest, &["--pid"], "echo in; while :; do sleep 1; done");
    drop(guest);
    assert_eq!(child.wait().expect("it ends").code(), Some(128 + 9), "the kernel kills all in it");
}

#[test]
fn connections_are_not_ended_of_two_whom_a_name_fits() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.network("10.174.0.0/24");
    let bin_dir = world.plugin_dir(podplumb_tests::Plugins::Podplumb).display().to_string();
    let podplumb = Podplumb::default();
    let _pods = ["xyz1", "xyz2"].map(|id| {
        let pod = Pod::new(id);
        podplumb.expect(0, &["cni", "add", "pods", &format!("{id}f00d"), id, "--bin-dir", &bin_dir]);
        pod
    });
    let ended = podplumb.run(&["holders", "xyz", "--kill-orphans", "--runtime", "none"]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("\"xyz\" fits 2, and nothing was ended:\n  ") && said.contains("inode:"), "{said}");
    assert!(said.contains("\nhint: give NAMESPACE/POD") && ended.stdout.is_empty(), "{said}");
    // To look is no harm.
    let both = podplumb.expect(0, &["holders", "xyz", "--runtime", "none"]);
    assert!(both.contains("xyz1") && both.contains("xyz2"), "{both}");
}

#[test]
fn an_address_with_its_interface_means_that_one() {
    if !require(&["ip"]) {
        return;
    }
    let _world = World::enter();
    // Link-local addresses are everybody's.
    let pods = [("one", "eth0"), ("two", "net1")].map(|(name, interface)| {
        let pod = Pod::new(name);
        let (veth, address) = (format!("veth-{name}"), "fe80::77/64");
        run("ip", &["link", "add", &veth, "type", "veth", "peer", "name", interface, "netns", name]);
        run("ip", &["-n", name, "address", "add", address, "dev", interface, "nodad"]);
        run("ip", &["-n", name, "link", "set", interface, "up"]);
        run("ip", &["link", "set", &veth, "up"]);
        pod
    });
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let who = |question: &str| podplumb.expect(0, &["who", question, "-o", "json"]).matches("\"by\"").count();
    assert_eq!((who("fe80::77"), who("fe80::77%eth0"), who("fe80::77%net1")), (2, 1, 1));
    let refused = podplumb.run(&["who", "fe80::77%eth7"]);
    assert_eq!(refused.status.code(), Some(1));
    let inode = |question: &str| {
        let output = Podplumb::default().run(&[
            "exec",
            question,
            "--runtime",
            "none",
            "--",
            "readlink",
            "/proc/self/ns/net",
        ]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    };
    for (pod, question) in pods.iter().zip(["fe80::77%eth0", "fe80::77%net1"]) {
        assert_eq!(inode(question), (Some(0), format!("net:[{}]", pod.netns.inode().unwrap())));
    }
    assert_eq!(inode("fe80::77"), (Some(1), String::new()), "it fits two");
}

#[test]
fn names_of_interfaces_and_namespaces_do_not_steer_the_terminal() {
    if !require(&["ip", "ping"]) {
        return;
    }
    let world = World::enter();
    let (pin, veth, inside) = ("p\u{1b}[2J", "v\u{1b}[2J", "e\u{1b}[2J");
    let pod = Pod::new(pin);
    run("ip", &["link", "add", veth, "type", "veth", "peer", "name", inside, "netns", pin]);
    run("ip", &["link", "set", veth, "up"]);
    run("ip", &["address", "add", "10.98.7.1/24", "dev", veth]);
    run("ip", &["-n", pin, "link", "set", inside, "up"]);
    run("ip", &["-n", pin, "address", "add", "10.98.7.2/24", "dev", inside]);
    run("ip", &["-n", pin, "link", "set", "lo", "up"]);
    let held =
        pod.netns.run(|| std::net::UdpSocket::bind("10.98.7.2:5353").expect("a socket")).expect("entered");
    let index = run("ip", &["-o", "link", "show", "dev", veth]);
    let index = format!("ifindex:{}", index.split(':').next().expect("an index"));
    let inode = format!("inode:{}", pod.netns.inode().unwrap());
    let path = format!("/run/netns/{pin}");
    let archive = world.path().join("r\u{1b}[2J.tar.gz").display().to_string();
    let mut ping = Command::new("ping")
        .args(["-q", "-i", "0.2", "10.98.7.2"])
        .stdout(Stdio::null())
        .spawn()
        .expect("ping");
    let calls: [&[&str]; 15] = [
        &["map"],
        &["map", "-o", "wide"],
        &["pods", "-o", "wide"],
        &["who", &path],
        &["who", &index],
        &["who", "n\u{1b}[2J"],
        &["holders", &path],
        &["leaks", "--all"],
        &["doctor"],
        &["trace", &path, "10.98.7.1", "--verbose"],
        &["sockets", &path],
        &["exec", &inode, "--", "p\u{1b}[2J"],
        &["capture", &index, &path, "-c", "2", "--for", "5s"],
        &["capture", &path, "--", "n\u{1b}[2J"],
        &["report", &archive],
    ];
    for call in calls {
        let separator = call.iter().position(|word| *word == "--").unwrap_or(call.len());
        let all = [&call[..separator], &["--runtime", "none"], &call[separator..]].concat();
        let said = Podplumb::default().run(&all);
        for text in [&said.stdout, &said.stderr] {
            assert!(!text.contains(&0x1b), "{call:?}: {}", String::from_utf8_lossy(text).escape_debug());
        }
        assert!(said.stdout.len() + said.stderr.len() > 10, "{call:?}");
        // What is too long goes on below, indented.
        let packets =
            said.stdout.split(|byte| *byte == b'\n').filter(|line| line.first() > Some(&b' ')).count();
        assert!(packets == 2 || !call.contains(&"-c"), "packets were seen: {said:?}");
    }
    ping.kill().expect("it runs");
    ping.wait().expect("it ends");
    drop((held, pod));
}
