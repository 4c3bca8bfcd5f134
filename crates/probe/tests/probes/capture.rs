//! Captures: what is seen, what is written, and whether others can read it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use podplumb_probe::Failure;
use podplumb_probe::capture::{Capture, LinkType, Packet, Settings};
use podplumb_probe::filter::{Filter, Names};
use podplumb_probe::listening::{self, Listening, State};
use podplumb_probe::matcher::{Matcher, Protocol};
use podplumb_probe::pcapng::Writer;
use podplumb_probe::ping::{Ping, ping};
use podplumb_probe::recording::Recording;
use sys::{FilterStep, NetNs};

use crate::net::{Line, empty, inside, ip, lab};

const SOON: Duration = Duration::from_secs(30);

fn on(interface: &str) -> Settings {
    Settings { interface: Some(interface.to_owned()), ..Settings::default() }
}

fn seen(capture: &mut Capture) -> Vec<Packet> {
    let mut packets = Vec::new();
    capture.read(Instant::now(), |packet| packets.push(packet)).unwrap();
    packets
}

fn icmp(packets: &[Packet]) -> Vec<&Packet> {
    let icmp = Matcher { protocol: Some(Protocol::Icmp), ..Matcher::default() };
    packets.iter().filter(|packet| icmp.matches(packet)).collect()
}

#[test]
fn packets_are_seen_with_their_direction_length_and_time() {
    let line = Line::make();
    let mut one = Capture::open(&line.r, &on("r-b")).unwrap();
    let mut all = Capture::open(&line.r, &Settings { snap_bytes: 64, ..Settings::default() }).unwrap();
    ping(&line.a, &Ping { to: ip(Line::B), bytes: Some(1000), patience: SOON }).unwrap();
    let packets = seen(&mut one);
    let found = icmp(&packets);
    let directions: Vec<bool> = found.iter().map(|packet| packet.outgoing).collect();
    assert_eq!(directions, [true, false], "to b, and back");
    assert!(
        found
            .iter()
            .all(|p| p.original_bytes == 1014 && p.data.len() == 1014 && p.link == LinkType::Ethernet)
    );
    assert!(found[0].at_ns < found[1].at_ns);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert!((now - 60_000_000_000..=now).contains(&found[0].at_ns), "{} {now}", found[0].at_ns);
    assert_eq!(one.interface_name(found[0].interface), Some("r-b"));
    let packets = seen(&mut all);
    let cut = icmp(&packets);
    assert_eq!(cut.len(), 4, "on both interfaces");
    assert!(cut.iter().all(|p| p.original_bytes == 1014 && p.data.len() == 64), "64 bytes of each");
    let counts = all.counts().unwrap();
    assert!(counts.seen >= 4 && counts.dropped == 0, "{counts:?}");
    assert!(all.counts().unwrap().seen >= counts.seen, "they add up");
    let missing = Capture::open(&line.r, &on("eth9")).unwrap_err();
    assert!(missing.is_no_such_interface(), "{missing:?}");
}

#[test]
fn a_program_says_which_packets_are_kept() {
    let line = Line::make();
    let step = |code, k, jt, jf| FilterStep { code, jt, jf, k };
    // Of EtherType 0x86dd: all; of others: nothing.
    let ipv6 =
        vec![step(0x28, 12, 0, 0), step(0x15, 0x86dd, 0, 1), step(6, u32::MAX, 0, 0), step(6, 0, 0, 0)];
    let mut capture = Capture::open(&line.b, &Settings { filter: ipv6, ..on("eth0") }).unwrap();
    for to in [Line::B, Line::B6] {
        ping(&line.a, &Ping::new(ip(to), SOON)).unwrap();
    }
    let packets = seen(&mut capture);
    assert_eq!(icmp(&packets).len(), 2);
    assert!(packets.iter().all(|packet| packet.data[12..14] == [0x86, 0xdd]));
    let endless = Settings { filter: vec![step(0x28, 12, 0, 0)], ..on("eth0") };
    assert!(matches!(Capture::open(&line.b, &endless), Err(Failure::Setup { .. })), "no return");
}

#[test]
fn what_is_not_read_in_time_is_counted_as_lost() {
    let [a, b] = lab("{hosts: [a, b], links: [a -- b]}", ["a", "b"]);
    let mut capture = Capture::open(&b, &on("eth0")).unwrap();
    let mut frame = vec![0xff; 1514];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    flood(&a, &frame, 20_000);
    // Nothing comes any more. What came before is not lost by that.
    inside(&b, "ip link set eth0 down");
    let counts = capture.counts().unwrap();
    assert!(counts.dropped > 0 && counts.seen >= 20_000, "{counts:?}");
    let kept = seen(&mut capture).len() as u64;
    assert_eq!(kept + counts.dropped, counts.seen);
}

fn flood(from: &NetNs, frame: &[u8], count: usize) {
    from.run(|| {
        let mut socket = netlink::Socket::route().unwrap();
        let index = netlink::link::by_name(&mut socket, "eth0").unwrap().index;
        sys::send_frames(index, std::iter::repeat_n(frame, count)).unwrap();
    })
    .unwrap();
}

/// What tshark says about a file: the fields of each packet. It ends with 2 where a file is cut in the middle of a packet.
fn tshark(file: &Path, fields: &[&str]) -> (Vec<String>, Option<i32>) {
    let mut arguments = vec!["-r", file.to_str().unwrap(), "-n", "-T", "fields", "-E", "separator=,"];
    fields.iter().for_each(|field| arguments.extend(["-e", field]));
    #[expect(clippy::disallowed_methods, reason = "it is the reader that people have")]
    let output = Command::new("tshark").args(arguments).output().expect("xtask/install test installs tshark");
    let text = String::from_utf8_lossy(&output.stdout);
    (text.lines().map(str::to_owned).collect(), output.status.code())
}

#[test]
fn tshark_reads_what_is_written_also_when_it_is_cut() {
    let line = Line::make();
    let capture = Capture::open(&line.r, &Settings::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ping.pcapng");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut writer = Writer::begin(&mut file, "Linux", "podplumb test").unwrap();
    let mut recording = Recording::of(capture, "r \u{1b}[31m", 65_535);
    for bytes in [61, 1500] {
        ping(&line.a, &Ping { to: ip(Line::B), bytes: Some(bytes), patience: SOON }).unwrap();
    }
    // An 802.1Q frame: the kernel takes its tag out.
    let mut tagged = vec![0xff; 12];
    tagged.extend_from_slice(&[0x81, 0, 0x20, 7, 0x88, 0xb5]);
    tagged.resize(60, 0);
    flood(&line.a, &tagged, 1);
    let mut count = 0;
    recording
        .write(&mut writer, Instant::now(), |_| {
            count += 1;
            true
        })
        .unwrap();
    // What is there so far can be read while it goes on.
    let (lines, code) = tshark(&path, &["frame.number"]);
    assert_eq!((lines.len(), code), (count, Some(0)));
    let counts = recording.finish(&mut writer).unwrap();
    assert!(counts.seen >= count as u64 && counts.dropped == 0);

    let fields = [
        "frame.interface_name",
        "frame.packet_flags_direction",
        "frame.len",
        "icmp.type",
        "vlan.id",
        "frame.time_epoch",
    ];
    let (lines, code) = tshark(&path, &fields);
    assert_eq!((lines.len(), code), (count, Some(0)));
    let icmp: Vec<String> = lines
        .iter()
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|fields| !fields[1].is_empty() && matches!(fields[3], "0" | "8"))
        .map(|fields| {
            let direction = u32::from_str_radix(fields[1].trim_start_matches("0x"), 16).unwrap();
            format!("{} {direction} {} {}", fields[0], fields[2], fields[3])
        })
        .collect();
    let expected = [
        "r-a 1 75 8",
        "r-b 2 75 8",
        "r-b 1 75 0",
        "r-a 2 75 0",
        "r-a 1 1514 8",
        "r-b 2 1514 8",
        "r-b 1 1514 0",
        "r-a 2 1514 0",
    ];
    assert_eq!(icmp, expected);
    let vlans: Vec<&String> = lines.iter().filter(|line| line.split(',').nth(4) == Some("7")).collect();
    assert_eq!(vlans.len(), 1, "{lines:?}");
    assert!(vlans[0].contains(",60,"), "as long as it was: {}", vlans[0]);
    let times: Vec<&str> = lines.iter().filter_map(|line| line.rsplit(',').next()).collect();
    assert!(times.iter().any(|time| !time.ends_with("000")), "nanoseconds: {times:?}");

    let whole = std::fs::read(&path).unwrap();
    for cut in [whole.len() / 3, whole.len() / 2, whole.len() - 3] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let (lines, _) = tshark(&path, &["frame.number"]);
        assert!(!lines.is_empty() && lines.len() <= count, "{cut}: {lines:?}");
    }
}

#[test]
fn packets_of_interfaces_without_a_header_are_told_from_frames() {
    let a = empty();
    inside(&a, "ip tuntap add tun0 mode tun; ip link set tun0 up; ip addr add 10.0.0.1/24 dev tun0");
    let mut capture = Capture::open(&a, &on("tun0")).unwrap();
    // An echo request from 10.0.0.2, as whoever holds the device writes it: without a header of its own (IFF_TUN | IFF_NO_PI).
    let write = "import fcntl, os, struct
tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'tun0', 0x1001))
os.write(tun, bytes.fromhex('4500001c0000000040012ade0a0000020a0000010800f7ff00000000'))";
    inside(&a, &format!("python3 -c \"{write}\""));
    let packets = seen(&mut capture);
    let found = icmp(&packets);
    assert!(!found.is_empty(), "{packets:?}");
    assert!(found.iter().all(|packet| packet.link == LinkType::Ip && packet.data[0] == 0x45));
    let from = Matcher { hosts: vec![ip("10.0.0.2")], ..Matcher::default() };
    assert!(from.matches(found[0]));
}

#[test]
fn a_listener_sees_tags_and_directions_and_filters_what_has_no_frame() {
    let line = Line::make();
    let index = |netns: &NetNs, name: &str| {
        netns
            .run(|| netlink::link::by_name(&mut netlink::Socket::route().unwrap(), name).unwrap().index)
            .unwrap()
    };
    let listen = |netns: &NetNs, name: &str, words: &str| {
        let filter = Filter::parse(words, &Names::default()).unwrap();
        Listening::open(netns, index(netns, name), Some(&filter), 96, 4 << 20).unwrap()
    };
    let read = |listening: &mut Listening| {
        listening.stop().unwrap();
        std::thread::sleep(listening::DELAY);
        let mut seen = Vec::new();
        listening.read(|packet| seen.push(packet.to_owned()));
        seen
    };
    let mut listening = listen(&line.r, "r-b", "icmp or ether proto 0x88b5");
    ping(&line.a, &Ping { to: ip(Line::B), bytes: Some(1000), patience: SOON }).unwrap();
    // An 802.1Q frame: the kernel takes its tag out, so the filter sees the type behind it.
    let mut tagged = vec![0xff; 12];
    tagged.extend_from_slice(&[0x81, 0, 0x20, 7, 0x88, 0xb5]);
    tagged.resize(60, 0);
    flood(&line.b, &tagged, 1);
    let seen = read(&mut listening);
    let told: Vec<_> =
        seen.iter().map(|seen| (seen.outgoing, seen.original_bytes, seen.data.len())).collect();
    assert_eq!(told, [(true, 1014, 96), (false, 1014, 96), (false, 60, 60)]);
    assert_eq!(seen[2].data, tagged, "with its tag where it was");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert!(seen[0].at_ns < seen[1].at_ns && (now - 60_000_000_000..=now).contains(&seen[0].at_ns));
    let counts = listening.counts().unwrap();
    assert_eq!((counts.seen, counts.dropped), (3, 0));
    assert_eq!(listening.state(), State::Up);
    inside(&line.r, "ip link del r-b");
    assert_eq!((listening.is_disturbed(), listening.state()), (true, State::Gone));

    let a = empty();
    inside(&a, "ip tuntap add tun0 mode tun; ip link set tun0 up; ip addr add 10.0.0.1/24 dev tun0");
    let mut listening = listen(&a, "tun0", "ip src 10.0.0.2 and not tcp and not ether multicast");
    assert_eq!(listening.link(), LinkType::Ip);
    let write = "import fcntl, os, struct
tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'tun0', 0x1001))
os.write(tun, bytes.fromhex('4500001c0000000040012ade0a0000020a0000010800f7ff00000000'))";
    inside(&a, &format!("python3 -c \"{write}\""));
    let seen = read(&mut listening);
    assert!(matches!(seen.as_slice(), [seen] if seen.data[0] == 0x45 && !seen.outgoing), "{seen:?}");
}
