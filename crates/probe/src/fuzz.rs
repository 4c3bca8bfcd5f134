//! What fuzz/ calls: the reading of packets and answers as of a network, without one.

use model::IfIndex;

use crate::capture::{LinkType, Packet};
use crate::filter::{Filter, MOST_STEPS, Names};
use crate::matcher::{Matcher, Protocol};
use crate::pcapng::Writer;
use crate::{http, icmp};

/// Reads bytes as everything that comes from a network.
pub fn received(bytes: &[u8]) {
    for v6 in [false, true] {
        if let Some(icmp::Heard::Error { notice, about }) = icmp::parse(v6, bytes) {
            assert_eq!(about.to.is_ipv6(), v6);
            assert!(!notice.to_string().contains(char::is_control));
            about.echo();
        }
    }
    for link in [LinkType::Ethernet, LinkType::Ip] {
        let original_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let packet = Packet {
            at_ns: u64::MAX,
            interface: IfIndex(1),
            outgoing: true,
            link,
            original_bytes,
            data: bytes.to_vec(),
        };
        crate::dissect::dissect(link, bytes, &[8472]);
        let protocols = [Protocol::Arp, Protocol::Icmp, Protocol::Tcp, Protocol::Udp];
        let is = |protocol| Matcher { protocol: Some(protocol), ..Matcher::default() }.matches(&packet);
        assert!(protocols.into_iter().filter(|protocol| is(*protocol)).count() <= 1, "two protocols at once");
        assert!(Matcher::default().matches(&packet));
        let mut written = Vec::new();
        let mut writer = Writer::begin(&mut written, "fuzz", "fuzz").expect("a Vec takes everything");
        let name = String::from_utf8_lossy(bytes);
        let id = writer.interface(&name, &name, link, 65_535).expect("a Vec takes everything");
        writer.packet(id, &packet).expect("a Vec takes everything");
        assert_eq!(blocks(&written), Some(3), "each block says how long it is, twice");
    }
    if let Ok((status, _)) = http::head(bytes) {
        assert!((100..600).contains(&status));
    }
}

/// Reads a text as a filter. Its programs are what the kernel takes; what is wrong with it can be shown.
pub fn filter(text: &str) {
    let pod = |name: &str| match name.len() % 3 {
        0 => Vec::new(),
        1 => vec![[10, 244, 0, 7].into()],
        _ => vec![[10, 244, 0, 7].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 7].into()],
    };
    match Filter::parse(text, &Names { pod: &pod, vxlan_ports: &[8472] }) {
        Err(error) => {
            assert!(error.at.start <= error.at.end && error.at.end <= text.len().max(1), "{:?}", error.at);
            assert!(!error.to_string().contains(char::is_control));
            let pointed = error.pointed(text);
            assert!(pointed.lines().count() <= 2 && !pointed.replace('\n', "").contains(char::is_control));
            assert!(pointed.lines().all(|line| line.chars().count() <= 60), "{pointed}");
        }
        Ok(filter) => {
            for link in [LinkType::Ethernet, LinkType::Ip] {
                let program = filter.program(link, 96);
                assert!((1..=MOST_STEPS).contains(&program.len()));
                for (at, step) in program.iter().enumerate() {
                    let left = program.len() - at - 1;
                    let far = match step.code & 7 {
                        5 if step.code == 5 => step.k as usize,
                        5 => usize::from(step.jt.max(step.jf)),
                        6 => continue,
                        _ => 0,
                    };
                    assert!(far < left, "{text}: {at} of {}: {step:?}", program.len());
                }
            }
        }
    }
}

/// How many blocks there are, if they are whole.
fn blocks(mut file: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !file.is_empty() {
        let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
        let length = word(4)?;
        if length % 4 != 0 || word(length.checked_sub(4)?)? != length {
            return None;
        }
        file = &file[length..];
        count += 1;
    }
    Some(count)
}
