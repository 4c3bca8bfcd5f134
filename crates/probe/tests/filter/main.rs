//! Filters: what they say, found out in four ways that have to agree.

mod machine;
mod packets;
mod random;
mod words;

use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use podplumb_probe::capture::{LinkType, Packet as Kept};
use podplumb_probe::filter::{Filter, Names};
use podplumb_probe::pcapng::Writer;
use random::seeded;
use words::{Packet, Words, words};

fn read(words: &Words) -> (String, Filter) {
    let text = words.to_string();
    let filter = Filter::parse(&text, &Names::default());
    (text.clone(), filter.unwrap_or_else(|error| panic!("{error}\n{}", error.pointed(&text))))
}

#[test]
fn programs_keep_what_a_naive_reading_of_the_words_keeps() {
    let mut random = seeded();
    let mut kept = 0;
    for _ in 0..3_000 {
        let words = words(&mut random, 4, true);
        let (text, filter) = read(&words);
        for _ in 0..40 {
            let bare = random.one_in(4);
            let bytes = if bare { packets::ip4(&mut random, 2) } else { packets::frame(&mut random) };
            let link = if bare { LinkType::Ip } else { LinkType::Ethernet };
            let outgoing = random.one_in(2);
            let keeps = machine::run(&filter.program(link, 99), &bytes, outgoing);
            let should = words.keep(Packet { bytes: &bytes, outgoing, bare });
            assert_eq!(keeps, if should { 99 } else { 0 }, "{text}\n{bytes:02x?}");
            kept += u32::from(should);
        }
    }
    assert!((12_000..108_000).contains(&kept), "{kept} of 120,000: neither all nor nothing");
}

#[test]
fn the_kernel_takes_the_programs_and_keeps_the_same() {
    let mut random = seeded();
    let frames: Vec<Vec<u8>> = (0..100).map(|_| packets::frame(&mut random)).collect();
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    receiver.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..400 {
        let words = words(&mut random, 4, true);
        let (text, filter) = read(&words);
        sys::attach_filter(&receiver, &filter.program(LinkType::Ethernet, 9_999)).expect(&text);
        for bytes in &frames {
            sender.send(bytes).unwrap();
            // An empty datagram that is kept is received as well.
            let keeps = receiver.recv(&mut buffer).ok();
            let should = words.keep(Packet { bytes, outgoing: false, bare: false });
            assert_eq!(keeps, should.then_some(bytes.len()), "{text}\n{bytes:02x?}");
        }
    }
}

/// A capture of these frames, each of its own microsecond.
fn written(frames: &[Vec<u8>], path: &Path) {
    let mut writer = Writer::begin(std::fs::File::create(path).unwrap(), "Linux", "test").unwrap();
    let id = writer.interface("eth0", "", LinkType::Ethernet, 65_535).unwrap();
    for (n, data) in frames.iter().enumerate() {
        let packet = Kept {
            at_ns: n as u64 * 1_000,
            interface: model::IfIndex(1),
            outgoing: false,
            link: LinkType::Ethernet,
            original_bytes: data.len() as u32,
            data: data.clone(),
        };
        writer.packet(id, &packet).unwrap();
    }
}

#[test]
fn tcpdump_keeps_the_same() {
    let mut random = seeded();
    let directory = tempfile::tempdir().unwrap();
    let whole: Vec<Vec<u8>> = (0..300).map(|_| packets::whole_frame(&mut random)).collect();
    let cut = (0..300).map(|_| packets::frame(&mut random));
    // Without its optimiser it also loads the words of an IPv6 address that a net leaves open.
    let is_open = |frame: &Vec<u8>| frame.len() < 54 && frame.get(12..14) == Some(&[0x86, 0xdd]);
    let cut: Vec<Vec<u8>> = cut.filter(|frame| !is_open(frame)).collect();
    // Its optimiser leaves out what cannot matter to a whole packet: of one that is cut it may keep more or less.
    let sets =
        [(whole, directory.path().join("whole"), None), (cut, directory.path().join("cut"), Some("-O"))];
    for (frames, path, _) in &sets {
        written(frames, path);
    }
    let mut texts = [
        "port 80 or 443",
        "not host 10.244.0.7 and 10.244.3.7",
        "tcp dst port (80 or 443) and not src net 10.244",
        "net 10.244.0.0 mask 255.255.0.0",
        "src or dst portrange 8080-80",
        "src 10.244.0.1 || 10.244.3.7",
        "tcp or udp and port 53",
        "! ( ip or arp ) && greater 60",
        "broadcast or multicast",
        "proto \\tcp or ip6 proto 17",
        "domain_is_no_word or tcp",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend((0..300).map(|_| words(&mut random, 3, false).to_string()));
    for (text, (frames, path, option)) in
        texts.iter().flat_map(|text| sets.iter().map(move |set| (text, set)))
    {
        #[expect(clippy::disallowed_methods, reason = "the peer that is compared with")]
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-Z", "root", "-r"]).arg(path).args(["-w", "-"]).args(option).arg(text);
        let output = tcpdump.stdin(Stdio::null()).output().expect("xtask/install test installs tcpdump");
        let filter = Filter::parse(text, &Names::default());
        let stderr = String::from_utf8_lossy(&output.stderr);
        // It sees through some of those that keep nothing.
        if !output.status.success() && !stderr.contains("expression rejects all packets") {
            assert!(filter.is_err(), "{text}: {stderr}");
            continue;
        }
        let program = filter.unwrap_or_else(|error| panic!("{text}: {error}")).program(LinkType::Ethernet, 1);
        let theirs = numbers(&output.stdout);
        let is_kept = |n: &usize| machine::run(&program, &frames[*n], false) == 1;
        let differ = |n: &usize| is_kept(n) != theirs.contains(n);
        let differing: Vec<&Vec<u8>> = (0..frames.len()).filter(differ).map(|n| &frames[n]).collect();
        assert!(differing.is_empty(), "{text}: {differing:02x?}");
    }
}

/// Which packets are in a pcap file, by their times.
fn numbers(pcap: &[u8]) -> Vec<usize> {
    let word = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut numbers) = (24, Vec::new());
    while at + 16 <= pcap.len() {
        numbers.push(word(at + 4));
        at += 16 + word(at + 8);
    }
    numbers
}

#[test]
fn pods_are_named_and_vxlan_ends_at_or_and_at_the_parenthesis() {
    let pod = |name: &str| -> Vec<IpAddr> {
        match name {
            "shop/web-1" => vec!["10.244.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            _ => Vec::new(),
        }
    };
    let names = Names { pod: &pod, vxlan_ports: &[4242] };
    let program = |text: &str| Filter::parse(text, &names).unwrap().program(LinkType::Ethernet, 1);
    assert_eq!(program("src host pod:shop/web-1"), program("(src host 10.244.0.7 or src host fd00::7)"));
    assert_eq!(program("not pod:shop/web-1 and tcp"), program("not (10.244.0.7 or fd00::7) and tcp"));
    assert_eq!(program("ip6 host pod:shop/web-1"), program("ip6 host fd00::7"));
    let error = Filter::parse("host pod:shop/web-2", &names).unwrap_err();
    assert_eq!(error.to_string(), "no pod with an address goes by \"shop/web-2\"");
    assert_eq!(program("vxlan and tcp or udp"), program("(vxlan and tcp) or udp"));
    assert_ne!(program("vxlan and (tcp or udp)"), program("(vxlan and tcp) or udp"));
    assert_ne!(program("(vxlan) and tcp"), program("vxlan and tcp"));
    assert_ne!(
        program("vxlan"),
        Filter::parse("vxlan", &Names::default()).unwrap().program(LinkType::Ethernet, 1)
    );
}

#[test]
fn what_is_not_understood_is_pointed_at() {
    let cases = [
        ("tpc port 80", "tpc port 80\n^^^", "`tpc` is not a word of filters", "did you mean `tcp`?"),
        (
            "tcp and prot 80",
            "tcp and prot 80\n        ^^^^",
            "`prot` is not a word of filters",
            "did you mean `port`?",
        ),
        ("tcp 80", "tcp 80\n    ^^", "`and` or `or` is missing before this", "write `port 80`"),
        ("port 66000", "port 66000\n     ^^^^^", "`66000` is not a port", "0 to 65535"),
        (
            "host 10.0.0.0/8",
            "host 10.0.0.0/8\n     ^^^^^^^^^^",
            "this is a net, not a host",
            "write `net 10.0.0.0/8`",
        ),
        (
            "net 10.0.0.1/8",
            "net 10.0.0.1/8\n    ^^^^^^^^^^",
            "this has bits outside of its mask",
            "write `net 10.0.0.0/8`",
        ),
        (
            "host web.shop.svc",
            "host web.shop.svc\n     ^^^^^^^^^^^^",
            "`web.shop.svc` is not an address",
            "give an address, or `pod:NAMESPACE/NAME`; names are not looked up",
        ),
        ("(tcp or udp", "(tcp or udp\n^", "this is not closed", "write `)` behind it"),
        ("tcp)", "tcp)\n   ^", "nothing was opened that this closes", ""),
        ("tcp and", "tcp and\n       ^", "the filter ends where something to look for should be", ""),
        ("port", "port\n    ^", "the filter ends where a port should be", ""),
        (
            "tcp[13] & 2 != 0",
            "tcp[13] & 2 != 0\n   ^",
            "`[` is not a sign of filters",
            "bytes of packets are not compared here: capture more, and choose with `tshark -r FILE -Y …`",
        ),
        (
            "vlan 5",
            "vlan 5\n^^^^",
            "`vlan` is not looked at here",
            "the kernel takes VLAN tags out of frames: what is asked of a packet is asked of what is behind its tag",
        ),
        (
            "vxlan 16777216",
            "vxlan 16777216\n      ^^^^^^^^",
            "`16777216` is not a VXLAN network identifier",
            "0 to 16777215",
        ),
        (
            "icmp port 80",
            "icmp port 80\n          ^^",
            "there are no ports in this protocol",
            "only tcp, udp and sctp have them",
        ),
        (
            "tcp host 10.0.0.1",
            "tcp host 10.0.0.1\n         ^^^^^^^^",
            "an IPv4 address does not go with the word before it",
            "write `tcp and host …`",
        ),
        (
            "host 0a:58:0a:f4:00:07",
            "host 0a:58:0a:f4:00:07\n     ^^^^^^^^^^^^^^^^^",
            "this is an Ethernet address",
            "write `ether host 0a:58:0a:f4:00:07`",
        ),
        ("", "\n^", "the filter ends where something to look for should be", ""),
        ("udp \u{1b}[31m", "udp \u{fffd}[31m\n    ^", "`\u{fffd}` is not a sign of filters", ""),
    ];
    for (text, pointed, what, hint) in cases {
        let error = Filter::parse(text, &Names::default()).expect_err(text);
        assert_eq!((error.pointed(text).as_str(), error.to_string().as_str()), (pointed, what), "{text}");
        assert_eq!(error.hint.as_deref().unwrap_or_default(), hint, "{text}");
    }
    for (text, at) in [("(".repeat(70), 64), ("not ".repeat(70), 256)] {
        let error = Filter::parse(&text, &Names::default()).unwrap_err();
        assert_eq!((error.at.start, error.to_string().as_str()), (at, "64 levels are the most"));
    }
    let long = "port 80 or ".repeat(520) + "tcp";
    let error = Filter::parse(&long, &Names::default()).unwrap_err();
    assert!(error.to_string().contains("no more than 512 things"), "{error}");
    assert!(error.pointed(&long).lines().all(|line| line.chars().count() <= 60));
}
