//! `podplumb sockets`: what listens and is connected in a pod, and whose it is.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};

use podplumb_tests::{Containerd, Plugins, Pod, Podplumb, World, require, run, wait_until};
use serde_json::Value;

/// A process of the test, ended with it.
struct Guest(Child);

impl Guest {
    fn start(netns: &str, command: &[&str]) -> Self {
        let child = Command::new("nsenter")
            .arg(format!("--net={netns}"))
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("nsenter"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn table(podplumb: &Podplumb, arguments: &[&str]) -> Vec<Vec<String>> {
    let text = podplumb.expect(0, &[&["sockets"], arguments].concat());
    text.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn json(podplumb: &Podplumb, arguments: &[&str]) -> Value {
    let text = podplumb.expect(0, &[&["sockets", "-o", "json"], arguments].concat());
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn sockets_of_a_namespace_are_listed_with_their_processes() {
    if !require(&["ip", "nsenter", "busybox"]) {
        return;
    }
    let _world = World::enter();
    let pod = Pod::new("web");
    run("ip", &["-n", "web", "link", "set", "lo", "up"]);
    let path = "/run/netns/web";
    let server = Guest::start(path, &["busybox", "nc", "-ll", "-p", "8080", "-e", "cat"]);
    let podplumb = Podplumb::default();
    wait_until("it listens", || table(&podplumb, &[path, "--listening"]).len() == 1);
    let pid = server.0.id().to_string();
    let rows = table(&podplumb, &[path]);
    let local = rows[0][2].clone();
    assert!(local.ends_with(":8080"), "{local}");
    assert_eq!(rows, [["tcp", "LISTEN", &local, "-", &pid, "busybox", "-"]]);
    // One thread of a process that lives elsewhere has these; the host's sockets are not in there.
    let _outside = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let inside = std::thread::spawn(move || {
        let _entered = pod.netns.enter().expect("entered");
        let udp = UdpSocket::bind("127.0.0.1:5353").expect("a socket");
        let client = TcpStream::connect("127.0.0.1:8080").expect("a connection");
        ready.send(()).expect("somebody waits");
        let _ = wait.recv();
        drop((udp, client));
    });
    is_ready.recv().expect("it is ready");
    let own = std::process::id();
    let listening = table(&podplumb, &[path, "-l"]);
    assert_eq!(listening[1][..5], ["udp", "UNCONN", "127.0.0.1:5353", "-", &own.to_string()]);
    // A connection has both ends in there, each with its process.
    wait_until("it is accepted", || {
        let rows = table(&podplumb, &[path]);
        rows.iter().filter(|row| row[1] == "ESTAB" && row[4] != "-").count() == 2
    });
    let sockets = json(&podplumb, &[path]);
    let all = sockets["sockets"].as_array().expect("a list");
    let of_client =
        |socket: &&Value| socket["state"] == "established" && socket["owners"][0]["task"]["pid"] == own;
    let connected = all.iter().find(of_client).unwrap_or_else(|| panic!("{sockets:#}"));
    assert_eq!((&connected["remote"], &connected["protocol"]), (&"127.0.0.1:8080".into(), &"tcp".into()));
    assert_eq!(sockets["coverage"], Value::Array(Vec::new()), "all could be read");
    done.send(()).expect("it waits");
    inside.join().expect("it ends");
}

#[test]
fn a_namespace_without_processes_says_whose_its_sockets_are_not() {
    if !require(&["ip"]) {
        return;
    }
    let _world = World::enter();
    let pod = Pod::new("web");
    run("ip", &["-n", "web", "link", "set", "lo", "up"]);
    let podplumb = Podplumb::default();
    assert!(table(&podplumb, &["/run/netns/web"]).is_empty());
    // The test's process has them, and is elsewhere.
    let (v4, v6, connection) = pod
        .netns
        .run(|| {
            let listener = TcpListener::bind("127.0.0.1:80").expect("a socket");
            let v6 = UdpSocket::bind("[::1]:53").expect("a socket");
            let stream = TcpStream::connect("127.0.0.1:80").expect("a connection");
            (listener, v6, stream)
        })
        .expect("entered");
    let output = podplumb.run(&["sockets", "/run/netns/web"]);
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("[::1]:53") && out.matches("elsewhere").count() == 3, "{out}");
    assert!(said.contains("elsewhere: ") && said.contains("podplumb holders /run/netns/web"), "{said}");
    let said_raw = {
        // The kernel has a table of raw sockets, or tells how many it cannot list.
        let ping = Guest::start("/run/netns/web", &["busybox", "ping", "127.0.0.1"]);
        wait_until("its socket is told", || {
            let output = podplumb.run(&["sockets", "/run/netns/web"]);
            let (out, said) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            out.contains(" ip 1 ") || said.contains("CONFIG_INET_RAW_DIAG")
        });
        drop(ping);
        podplumb.run(&["sockets", "/run/netns/web"]).stderr
    };
    assert!(!String::from_utf8_lossy(&said_raw).contains("CONFIG_INET_RAW_DIAG"), "there is none any more");
    // What was not accepted is the listener's; what nobody has any more is the kernel's.
    assert!(out.contains("ESTAB"), "{out}");
    drop((v4, v6, connection));
}

#[test]
fn a_connection_that_nobody_has_is_called_an_orphan() {
    if !require(&["ip", "nft"]) {
        return;
    }
    let _world = World::enter();
    let pod = Pod::new("web");
    run("ip", &["-n", "web", "link", "set", "lo", "up"]);
    pod.netns
        .run(|| {
            use std::io::Write;
            let listener = TcpListener::bind("127.0.0.1:80").expect("a socket");
            let mut stream = TcpStream::connect("127.0.0.1:80").expect("a connection");
            let accepted = listener.accept().expect("a connection");
            run(
                "nft",
                &["add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }"],
            );
            stream.write_all(b"this never arrives").expect("room");
            drop((stream, accepted, listener));
        })
        .expect("entered");
    let podplumb = Podplumb::default();
    let output = podplumb.run(&["sockets", "/run/netns/web"]);
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("FIN-WAIT-1") && out.contains("none (orphan)"), "{out}");
    assert!(said.contains("--kill-orphans"), "{said}");
}

#[test]
fn sockets_of_a_pod_of_containerds_say_which_container_has_them() {
    if !require(&["containerd", "runc", "ctr", "ip", "nsenter", "busybox"]) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Podplumb, "10.172.0.0/24");
    let pod = containerd.run_sandbox("web");
    let podplumb = Podplumb::default();
    assert!(table(&podplumb, &["web"]).is_empty());
    let server = Guest::start(&pod.netns, &["busybox", "nc", "-ll", "-p", "80", "-e", "cat"]);
    wait_until("it listens", || table(&podplumb, &["shop/web", "-l"]).len() == 1);
    let pid = server.0.id().to_string();
    let own = |row: &[String]| row[4..].to_vec();
    assert_eq!(own(&table(&podplumb, &["web"])[0]), [pid.as_str(), "busybox", "-"], "of no container");
    // In the container's cgroup, as all that a container starts is.
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pod.pid)).expect("procfs");
    let mut moved = 0;
    for line in groups.lines().filter(|line| line.contains(&pod.id)) {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().expect("a field"), fields.next().expect("a path"));
        let procs = format!("/sys/fs/cgroup/{controllers}{path}/cgroup.procs");
        moved += usize::from(std::fs::write(procs, &pid).is_ok());
    }
    assert!(moved > 0, "{groups}");
    assert_eq!(own(&table(&podplumb, &["web"])[0]), [pid.as_str(), "busybox", "shop/web"]);
    drop(server);
    containerd.remove_sandbox(&pod);
}

#[test]
fn unix_sockets_are_listed_on_request_with_both_ends_and_no_escapes() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    let pod = Pod::new("web");
    let path = world.path().join("a\u{1b}[2Jb.sock");
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let bound = path.clone();
    let inside = std::thread::spawn(move || {
        let _entered = pod.netns.enter().expect("entered");
        let listener = UnixListener::bind(&bound).expect("a socket");
        let client = UnixStream::connect(&bound).expect("a connection");
        let accepted = listener.accept().expect("a connection");
        let name = SocketAddr::from_abstract_name(b"log\0\x1b[2J\0\0").expect("a name");
        let datagrams = UnixDatagram::bind_addr(&name).expect("a socket");
        // Bound to nothing and connected with nobody, it says nothing.
        let loose = UnixDatagram::unbound().expect("a socket");
        ready.send(()).expect("somebody waits");
        let _ = wait.recv();
        drop((listener, client, accepted, datagrams, loose));
    });
    is_ready.recv().expect("it is ready");
    // Made outside of the namespace, of whatever path, it is not the namespace's.
    let _outside = UnixListener::bind(world.path().join("outside.sock")).expect("a socket");
    let podplumb = Podplumb::default();
    let web = "/run/netns/web";
    assert!(table(&podplumb, &[web]).is_empty(), "only on request");
    let rows = table(&podplumb, &[web, "--unix"]);
    let (shown, own) =
        (path.display().to_string().replace('\u{1b}', "\u{fffd}"), std::process::id().to_string());
    let has = |start: &[&str]| {
        rows.iter().any(|row| row.len() >= start.len() && row.iter().zip(start).all(|(a, b)| a == b))
    };
    assert!(has(&["u_str", "LISTEN", &shown, "-", &own]), "{rows:?}");
    assert!(has(&["u_str", "ESTAB", &shown, &own]), "the one who accepted: {rows:?}");
    assert!(has(&["u_str", "ESTAB", "-", &shown, &own]), "the one who connected: {rows:?}");
    assert!(has(&["u_dgr", "UNCONN", "@log@\u{fffd}[2J", "-", &own]), "{rows:?}");
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(table(&podplumb, &[web, "--unix", "-l"]).len(), 2);
    let all = json(&podplumb, &[web, "--unix"]);
    let all = all["sockets"].as_array().expect("a list");
    let client = all
        .iter()
        .find(|socket| socket["unix"]["peer"]["name"]["path"] == path.to_str().unwrap())
        .expect("it");
    assert_eq!(client["unix"]["kind"], "stream");
    let server =
        all.iter().find(|socket| socket["inode"] == client["unix"]["peer"]["inode"]).expect("its peer");
    assert_eq!(server["unix"]["peer"]["inode"], client["inode"]);
    assert!(all.iter().any(|socket| socket["unix"]["name"]["abstract"] == "log\0\u{1b}[2J\0\0"), "{all:#?}");
    done.send(()).expect("it waits");
    inside.join().expect("it ends");
}
