//! Small packets from one pod into a capture: what is lost, and what it costs, beside tcpdump.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use podplumb_tests::{World, binaries, run as start};
use sys::NetNs;

use crate::call::unpin;
use crate::world::pinned;

const POD: &str = "capture-pod";
/// Packets a second; the last one as fast as one sender can.
const RATES: [Option<u64>; 2] = [Some(100_000), None];
const SENDING: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const FILTER: [&str; 4] = ["udp", "and", "port", "9"];
/// 60 bytes with their headers.
const DATA: [u8; 18] = [b'x'; 18];

/// Who captures, and into what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Podplumb { lines: bool },
    Tcpdump { lines: bool },
}

const SIDES: [(&str, Side); 4] = [
    ("podplumb -w FILE", Side::Podplumb { lines: false }),
    ("tcpdump -w FILE", Side::Tcpdump { lines: false }),
    ("podplumb, lines", Side::Podplumb { lines: true }),
    ("tcpdump -n, lines", Side::Tcpdump { lines: true }),
];

/// What became of what was sent.
#[derive(Debug, Default)]
struct Round {
    sent: u64,
    captured: u64,
    dropped: u64,
    cpu_ms: u64,
    seconds: f64,
}

pub(crate) fn run(world: &World) {
    let pod = pinned(POD);
    start("ip", &["link", "add", "bench-cap", "type", "veth", "peer", "name", "eth0", "netns", POD]);
    start("ip", &["link", "set", "bench-cap", "up"]);
    for words in [
        "addr add 10.71.0.2/24 dev eth0",
        "link set eth0 up",
        // Nobody is there: the host drops what comes as soon as it has been seen.
        "neigh add 10.71.0.9 lladdr 02:00:00:00:00:09 dev eth0",
    ] {
        start("ip", &[&["-n", POD], words.split(' ').collect::<Vec<&str>>().as_slice()].concat());
    }
    println!("\ncapturing packets of 60 bytes from one pod, {} s, sum of {ROUNDS} rounds", SENDING.as_secs());
    println!(
        "{:<18} {:>10} {:>10} {:>10} {:>10} {:>9} {:>10}",
        "", "sent/s", "sent", "captured", "dropped", "CPU ms", "ns/packet"
    );
    for rate in RATES {
        let mut totals: Vec<Round> = SIDES.iter().map(|_| Round::default()).collect();
        for _ in 0..ROUNDS {
            for ((_, side), total) in SIDES.iter().zip(&mut totals) {
                let round = capture(world.path(), *side, &pod, rate);
                total.sent += round.sent;
                total.captured += round.captured;
                total.dropped += round.dropped;
                total.cpu_ms += round.cpu_ms;
                total.seconds += round.seconds;
            }
        }
        for ((name, _), total) in SIDES.iter().zip(&totals) {
            let Round { sent, captured, dropped, cpu_ms, seconds } = total;
            println!(
                "{name:<18} {:>10.0} {sent:>10} {captured:>10} {dropped:>10} {cpu_ms:>9} {:>10.0}",
                *sent as f64 / seconds,
                *cpu_ms as f64 * 1e6 / (*captured).max(1) as f64,
            );
        }
    }
    start("ip", &["link", "del", "bench-cap"]);
    unpin(POD);
}

fn capture(directory: &Path, side: Side, pod: &NetNs, rate: Option<u64>) -> Round {
    let file = directory.join("bench.pcap");
    let path = file.display().to_string();
    let netns = format!("/run/netns/{POD}");
    let mut command = match side {
        Side::Podplumb { .. } => {
            let mut command = Command::new(binaries().join("podplumb"));
            command.args(["capture", "--runtime", "none", &netns]);
            command
        }
        Side::Tcpdump { .. } => {
            let mut command = Command::new("nsenter");
            command.args([&format!("--net={netns}"), "tcpdump", "-Z", "root", "-n", "-i", "eth0"]);
            command
        }
    };
    match side {
        Side::Podplumb { lines: false } | Side::Tcpdump { lines: false } => drop(command.args(["-w", &path])),
        _ => {}
    }
    if matches!(side, Side::Podplumb { .. }) {
        command.arg("--");
    }
    command.args(FILTER).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
    wait_for(&mut said, &["capturing on", "listening on"]);
    let (before, begun) = (cpu_ms(&child), Instant::now());
    let sent = pod.run(|| send(rate)).expect("the pod");
    let seconds = begun.elapsed().as_secs_f64();
    // What is buffered is part of the work.
    std::thread::sleep(Duration::from_millis(1500));
    let cpu_ms = cpu_ms(&child) - before;
    start("kill", &["-INT", &child.id().to_string()]);
    let mut text = String::new();
    said.read_to_string(&mut text).expect("what it says at the end");
    child.wait().expect("it ends");
    let _ = std::fs::remove_file(file);
    let (captured, dropped) = counts(&text).unwrap_or_else(|| panic!("no counts in {text}"));
    Round { sent, captured, dropped, cpu_ms, seconds }
}

fn wait_for(said: &mut BufReader<ChildStderr>, words: &[&str]) {
    let mut line = String::new();
    while !words.iter().any(|word| line.contains(word)) {
        line.clear();
        assert!(said.read_line(&mut line).expect("what it says") > 0, "it ended before it captured");
    }
}

/// Sends for a while, and returns how many packets that were.
fn send(rate: Option<u64>) -> u64 {
    let socket = UdpSocket::bind("10.71.0.2:0").expect("a socket");
    socket.connect("10.71.0.9:9").expect("a route");
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < SENDING {
        // A few at a time, so that they do not come as one burst.
        let due = rate.map_or(sent + 64, |rate| start.elapsed().as_micros() as u64 * rate / 1_000_000);
        while sent < due {
            sent += u64::from(socket.send(&DATA).is_ok());
        }
        if rate.is_some() {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    sent
}

/// `N packets, M dropped by the kernel` of ours; tcpdump has them in lines.
fn counts(text: &str) -> Option<(u64, u64)> {
    let before = |words: &str| {
        let head = text.split(words).next().filter(|head| head.len() < text.len())?;
        head.rsplit(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
    };
    let captured = before(" packets captured").or_else(|| before(" packets, "));
    Some((captured?, before(" packets dropped by kernel").or_else(|| before(" dropped by the kernel"))?))
}

/// User and system time of a process (proc(5)), in a hundredth of a second.
fn cpu_ms(child: &Child) -> u64 {
    let mut stat = String::new();
    let path = format!("/proc/{}/stat", child.id());
    File::open(path).and_then(|mut file| file.read_to_string(&mut stat)).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) * 10
}
