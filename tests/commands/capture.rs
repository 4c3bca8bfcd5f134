//! `podplumb capture` as people call it, on pods that podplumb's own plugins attached.

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use podplumb_tests::{Podplumb, World, binaries, require, run};
use sys::NetNs;

const NEEDS: [&str; 4] = ["ip", "ping", "tshark", "capinfos"];
const SOON: Duration = Duration::from_secs(120);

/// Attaches a pod; the first gets .2, the next .3.
fn pod(namespace: &str, name: &str) {
    let netns = format!("{namespace}-{name}");
    run("ip", &["netns", "add", &netns]);
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
    let container = format!("c0ffee{}", netns.replace('-', ""));
    Podplumb::default()
        .expect(0, &["cni", "add", "pods", &container, &format!("/run/netns/{netns}"), "--args", &args]);
}

/// A node with shop/web-1 (.2) and shop/api-0 (.3). Nothing is on its way but what a test sends. Each has a subnet of its own, since an
/// address that somebody else has on the machine, another test's pod, has no name.
fn node(subnet: &str) -> World {
    let world = World::enter();
    world.hide_others();
    for which in ["all", "default"] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
    }
    world.network(&format!("{subnet}.0/24"));
    pod("shop", "web-1");
    pod("shop", "api-0");
    world
}

fn ping(from: &str, to: &str, count: usize) {
    let count = count.to_string();
    run("ip", &["netns", "exec", from, "ping", "-q", "-c", &count, "-i", "0.01", "-W", "2", to]);
}

/// Sends small packets from a pod to nobody's port, until what they come to is more than was asked for.
fn send(from: &str, bytes: usize, count: usize) {
    // To where its default route leads, and no further.
    let netns = NetNs::open(format!("/run/netns/{from}")).expect("the pod");
    let socket = netns.run(|| UdpSocket::bind("0.0.0.0:0").expect("a socket")).expect("the pod");
    let packet = vec![b'x'; bytes];
    for _ in 0..count {
        let _ = socket.send_to(&packet, "192.0.2.9:9");
    }
}

/// A capture that goes on.
struct Capturing {
    child: Child,
    said: Receiver<String>,
}

impl Capturing {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(binaries().join("podplumb"));
        command.arg("capture").args(["--runtime", "none"]).args(arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("podplumb");
        let stderr: ChildStderr = child.stderr.take().expect("a pipe");
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let capturing = Self { child, said };
        capturing.hear("capturing on ");
        capturing
    }

    /// Waits until it says this on stderr.
    fn hear(&self, what: &str) -> String {
        let mut all = Vec::new();
        loop {
            let line = self.said.recv_timeout(SOON).unwrap_or_else(|_| panic!("{what:?} in {all:?}"));
            if line.contains(what) {
                return line;
            }
            all.push(line);
        }
    }

    fn signal(&self, signal: &str) {
        run("kill", &[signal, &self.child.id().to_string()]);
    }

    /// Waits until it ends: its code, what it printed, and what it still had to say.
    fn wait(mut self) -> (Option<i32>, Vec<u8>, String) {
        let mut stdout = Vec::new();
        self.child.stdout.take().expect("a pipe").read_to_end(&mut stdout).expect("what it prints");
        let status = self.child.wait().expect("it ends");
        let said: Vec<String> = self.said.iter().collect();
        (status.code(), stdout, said.join("\n"))
    }

    /// Ends it as Ctrl-C does.
    fn end(self) -> (Option<i32>, Vec<u8>, String) {
        self.signal("-INT");
        self.wait()
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What tshark reads of a file; it has to be whole.
fn tshark(path: &Path, fields: &[&str]) -> Vec<String> {
    let path = path.display().to_string();
    let mut arguments = vec!["-r", &path, "-T", "fields", "-E", "separator= "];
    for field in fields {
        arguments.extend(["-e", field]);
    }
    run("tshark", &arguments).lines().map(str::to_owned).collect()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn both_ends_and_the_bridge_are_in_one_file_that_says_what_is_where() {
    if !require(&NEEDS) {
        return;
    }
    let world = node("10.99.1");
    let path = world.path().join("ping.pcapng");
    let shown = path.display().to_string();
    let capturing =
        Capturing::start(&["shop/web-1", "10.99.1.3", "cni0", "--both-ends", "-w", &shown, "--", "icmp"]);
    ping("shop-web-1", "10.99.1.3", 3);
    let (code, stdout, said) = capturing.end();
    assert_eq!((code, stdout.is_empty()), (Some(0), true), "{said}");
    assert!(said.contains("24 packets, 0 dropped by the kernel"), "{said}");
    let lines =
        tshark(&path, &["frame.interface_name", "frame.packet_flags_direction", "icmp.type", "icmp.seq"]);
    let of = |n: usize| {
        let lines = &lines[8 * n..8 * n + 8];
        let words = lines.iter().map(|line| line.replace("0x00000001", "in").replace("0x00000002", "out"));
        let words: Vec<String> = words.collect();
        let veth =
            |line: &str| if line.starts_with("veth") { format!("veth{}", &line[12..]) } else { line.into() };
        words.iter().map(|line| veth(line)).collect::<Vec<String>>()
    };
    for n in 0..3 {
        let way = ["web-1/eth0 out 8", "veth in 8", "veth out 8", "api-0/eth0 in 8"].into_iter().chain([
            "api-0/eth0 out 0",
            "veth in 0",
            "veth out 0",
            "web-1/eth0 in 0",
        ]);
        let expected: Vec<String> = way.map(|line| format!("{line} {}", n + 1)).collect();
        assert_eq!(of(n), expected, "in the order in which they happened");
    }
    let about = run("capinfos", &[shown.as_str()]);
    for says in [
        "Number of interfaces in file: 5",
        "Name = web-1/eth0",
        "Description = eth0 inside shop/web-1, container c0ffeeshopweb1, node ",
        ", the host's end of shop/api-0, container c0ffeeshopapi0, node ",
        "Description = cni0 of the host, node ",
        "Filter string = icmp",
        "Number of stat entries = 1",
        "File timestamp precision:  nanoseconds (9)",
        "Capture comment:     podplumb capture shop/web-1 10.99.1.3 cni0 -- icmp",
    ] {
        assert!(about.contains(says), "{says:?} in {about}");
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn lines_name_pods_and_look_into_vxlan() {
    if !require(&NEEDS) {
        return;
    }
    let _world = node("10.99.2");
    // Another node: its VXLAN device, with the address of a pod of its own.
    run("ip", &["netns", "add", "other"]);
    run("ip", &["link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", "other"]);
    for (netns, link, own, inner) in
        [(None, "uplink", "192.0.2.1", "10.98.0.1"), (Some("other"), "eth0", "192.0.2.2", "10.98.0.2")]
    {
        let remote = if netns.is_none() { "192.0.2.2" } else { "192.0.2.1" };
        let ip = |words: &str| {
            let words: Vec<&str> =
                netns.iter().flat_map(|netns| ["-n", netns]).chain(words.split(' ')).collect();
            run("ip", &words);
        };
        ip(&format!("addr add {own}/24 dev {link}"));
        ip(&format!("link set {link} up"));
        ip(&format!("link add vx42 type vxlan id 42 dstport 4242 local {own} remote {remote} dev {link}"));
        ip(&format!("addr add {inner}/24 dev vx42"));
        ip("link set vx42 up");
    }
    let capturing = Capturing::start(&["uplink", "-c", "2", "--", "vxlan", "42", "and", "icmp"]);
    run("ping", &["-q", "-c", "2", "-i", "0.01", "10.98.0.2"]);
    let (code, stdout, _) = capturing.wait();
    let lines = String::from_utf8(stdout).unwrap();
    assert_eq!(code, Some(0));
    let first = lines.lines().next().unwrap();
    let after = first.split_once("uplink out   148 ").expect(&lines).1;
    assert!(after.starts_with("VXLAN 42 192.0.2.1 > "), "{lines}");
    assert!(lines.contains("ICMP 10.98.0.1 > other") || lines.contains("| ICMP"), "{lines}");
    assert!(lines.lines().all(|line| line.chars().count() <= 80), "{lines}");

    let capturing =
        Capturing::start(&["web-1", "--count", "2", "--", "icmp", "and", "host", "pod:shop/api-0"]);
    ping("shop-web-1", "10.99.2.1", 1);
    ping("shop-web-1", "10.99.2.3", 1);
    let (code, stdout, said) = capturing.wait();
    let lines = String::from_utf8(stdout).unwrap();
    assert!(lines.contains("web-1/eth0 out    98 ICMP web-1 > api-0 echo request seq 1\n"), "{lines}");
    assert!(lines.contains("web-1/eth0 in     98 ICMP api-0 > web-1 echo reply seq 1\n"), "{lines}");
    assert_eq!((code, lines.lines().count()), (Some(0), 2), "{said}");
}

#[test]
fn a_capture_ends_after_a_time_or_size_and_a_ring_keeps_the_newest_files() {
    if !require(&NEEDS) {
        return;
    }
    let world = node("10.99.3");
    let file = |name: &str| world.path().join(name);
    let capture = |name: &str, more: &[&str]| {
        let path = file(name).display().to_string();
        Capturing::start(&[&["web-1", "-w", &path], more, &["--", "udp"]].concat())
    };
    let capturing = capture("time", &["--for", "5s"]);
    send("shop-web-1", 10, 5);
    let (code, _, said) = capturing.wait();
    assert_eq!(code, Some(0));
    assert!(said.contains("5 packets, 0 dropped"), "{said}");
    assert_eq!(tshark(&file("time"), &["frame.number"]).len(), 5);

    let capturing = capture("size", &["--size", "100k"]);
    send("shop-web-1", 1000, 300);
    let (code, _, said) = capturing.wait();
    let length = file("size").metadata().unwrap().len();
    let count = tshark(&file("size"), &["frame.number"]).len();
    assert_eq!(code, Some(0), "{said}");
    assert!((100 << 10) - 1200 < length && length <= 100 << 10, "{length}");
    assert!(said.contains(&format!("{count} packets")) && count > 80, "{count}: {said}");

    let capturing = capture("ring.pcapng", &["--size", "100k", "--ring", "3"]);
    send("shop-web-1", 1000, 1000);
    // What is marked comes last.
    send("shop-web-1", 999, 1);
    let (code, _, said) = capturing.end();
    assert_eq!(code, Some(0), "{said}");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.display().to_string().contains("ring"));
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    let lengths: Vec<String> = files.iter().flat_map(|path| tshark(path, &["udp.length"])).collect();
    assert_eq!(lengths.last().map(String::as_str), Some("1007"));
    assert!(lengths.len() > 190 && lengths.len() < 300, "{}", lengths.len());
    for path in &files {
        assert!(
            run("capinfos", &[path.to_str().unwrap()]).contains("Number of stat entries = 1"),
            "{path:?}"
        );
    }
    assert!(files[2].ends_with("ring-00011.pcapng") || files[2].ends_with("ring-00012.pcapng"), "{files:?}");
}

#[test]
fn what_cannot_be_written_is_said_before_anything_is_opened_and_what_is_there_stays() {
    if !require(&NEEDS) {
        return;
    }
    let world = node("10.99.4");
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let output = podplumb.run(&["capture", "nobody", "-w", "/no/such/directory/x.pcapng"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("cannot write /no/such/directory/x.pcapng: No such file"),
        "{}",
        text(&output)
    );
    let (old, new) = (world.path().join("old"), world.path().join("new"));
    std::fs::write(&old, "precious").unwrap();
    for path in [&old, &new] {
        let output = podplumb.run(&["capture", "nobody", "-w", &path.display().to_string()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output).contains("nothing on this node goes by \"nobody\"\nhint: "),
            "{}",
            text(&output)
        );
    }
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "precious");
    assert!(!new.exists());
    let output = podplumb.run(&["capture", "web-1", "-w", "-", "--print"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn of_a_full_disk_what_was_captured_can_be_read() {
    if !require(&NEEDS) {
        return;
    }
    let world = node("10.99.5");
    let directory = world.path().join("full");
    std::fs::create_dir(&directory).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=1m", "small", directory.to_str().unwrap()]);
    let path = directory.join("x.pcapng");
    let capturing = Capturing::start(&["web-1", "-w", path.to_str().unwrap(), "--", "udp"]);
    send("shop-web-1", 1001, 3000);
    let (code, _, said) = capturing.wait();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("No space left on device") && said.contains("\nhint: "), "{said}");
    let count = tshark(&path, &["frame.number"]).len();
    assert!(
        count > 900 && said.contains(&format!("its first {count} packets can be read")),
        "{count}: {said}"
    );
    let about = run("capinfos", &[path.to_str().unwrap()]);
    assert!(about.contains(&format!("Number of packets:   {count}")), "{about}");
}

#[test]
fn when_a_pod_goes_away_the_others_go_on() {
    if !require(&NEEDS) {
        return;
    }
    let world = node("10.99.6");
    let path = world.path().join("x.pcapng");
    let capturing = Capturing::start(&["web-1", "api-0", "-w", path.to_str().unwrap(), "--", "icmp"]);
    ping("shop-web-1", "10.99.6.1", 2);
    Podplumb::default().expect(0, &["cni", "del", "pods", "c0ffeeshopweb1", "/run/netns/shop-web-1"]);
    assert_eq!(capturing.hear("web-1/eth0 is"), "web-1/eth0 is gone: 4 packets captured there");
    run("ip", &["-n", "shop-api-0", "link", "set", "eth0", "down"]);
    capturing.hear("api-0/eth0 is down");
    run("ip", &["-n", "shop-api-0", "link", "set", "eth0", "up"]);
    capturing.hear("api-0/eth0 is up again");
    ping("shop-api-0", "10.99.6.1", 1);
    let (code, _, said) = capturing.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(tshark(&path, &["frame.interface_name"]).len(), 6, "{said}");
    // With the last interface it ends by itself.
    let capturing = Capturing::start(&["api-0"]);
    Podplumb::default().expect(0, &["cni", "del", "pods", "c0ffeeshopapi0", "/run/netns/shop-api-0"]);
    assert_eq!(capturing.wait().0, Some(0));
}

#[test]
fn a_name_that_fits_two_pods_captures_nothing_and_lists_both() {
    if !require(&NEEDS) {
        return;
    }
    let world = node("10.99.7");
    pod("blog", "web-1");
    let path = world.path().join("x.pcapng");
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let output = podplumb.run(&["capture", "web-1", "-w", path.to_str().unwrap()]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("\"web-1\" fits 2, and nothing was captured:\n"), "{said}");
    assert!(
        said.contains("  blog/web-1 (by its pod)") && said.contains("  shop/web-1 (by its pod)"),
        "{said}"
    );
    assert!(said.contains("hint: ") && !path.exists());
    // In full it is one, and so it is called in lines.
    let capturing = Capturing::start(&["shop/web-1", "-c", "1", "--", "icmp"]);
    ping("shop-web-1", "10.99.7.1", 1);
    let (_, stdout, _) = capturing.wait();
    assert!(String::from_utf8_lossy(&stdout).contains(" ICMP shop/web-1 > "), "{stdout:?}");
    for (filter, says) in [
        ("tpc port 80", "\n  tpc port 80\n  ^^^\nhint: did you mean `tcp`?"),
        ("host pod:x", "no pod with an address"),
    ] {
        let output = Podplumb::default().run(&["capture", "shop/web-1", "--", filter]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(says), "{}", text(&output));
    }
}

#[test]
fn what_the_kernel_drops_is_counted_and_said() {
    if !require(&NEEDS) {
        return;
    }
    let world = node("10.99.8");
    let path = world.path().join("x.pcapng");
    let capturing = Capturing::start(&["web-1", "-w", path.to_str().unwrap(), "--", "udp"]);
    capturing.signal("-STOP");
    send("shop-web-1", 1400, 50_000);
    capturing.signal("-CONT");
    let live = capturing.hear("the kernel dropped");
    assert!(live.starts_with("web-1/eth0: the kernel dropped "), "{live}");
    let (code, _, said) = capturing.end();
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!((code, numbers.iter().sum::<u64>()), (Some(0), 50_000), "{said}");
    assert!(numbers[1] > 1_000, "{said}");
    assert_eq!(tshark(&path, &["frame.number"]).len() as u64, numbers[0]);
}

#[test]
fn packets_go_to_stdout_as_they_come_and_nobody_need_read_all_of_them() {
    if !require(&NEEDS) {
        return;
    }
    let _world = node("10.99.9");
    let mut capturing = Capturing::start(&["web-1", "-w", "-", "--", "icmp"]);
    let mut tshark = Command::new("tshark")
        .args(["-l", "-r", "-", "-T", "fields", "-e", "icmp.type"])
        .stdin(capturing.child.stdout.take().expect("a pipe"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tshark");
    ping("shop-web-1", "10.99.9.1", 1);
    let mut lines = BufReader::new(tshark.stdout.take().expect("a pipe")).lines();
    let first: Vec<String> = lines.by_ref().take(2).map(|line| line.expect("a line")).collect();
    assert_eq!(first, ["8", "0"]);
    tshark.kill().expect("it is there");
    tshark.wait().expect("it ends");
    ping("shop-web-1", "10.99.9.1", 2);
    assert_eq!(capturing.child.wait().expect("it ends").code(), Some(0));
}
