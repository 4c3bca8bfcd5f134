//! A line for each packet.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Stdout, Write};
use std::net::{IpAddr, Ipv4Addr};

use analyze::render::{COLUMNS, Paint, printable};
use probe::dissect::{Carries, Frame, What, dissect};
use probe::listening::Seen;

/// A line that is too long goes on below, behind the time.
const INDENT: usize = 15;
/// Names of places are given as much room.
const WIDEST_PLACE: usize = 20;

/// Writes lines for people.
pub(super) struct Lines {
    out: BufWriter<Stdout>,
    names: BTreeMap<IpAddr, String>,
    vxlan_ports: Vec<u16>,
    width: usize,
    paint: Paint,
}

impl Lines {
    pub(super) fn new<'a>(
        names: BTreeMap<IpAddr, String>,
        vxlan_ports: Vec<u16>,
        places: impl Iterator<Item = &'a str>,
        paint: Paint,
    ) -> Self {
        let width = places.map(|place| place.chars().count()).max().unwrap_or(0).min(WIDEST_PLACE);
        let names = names.into_iter().map(|(address, name)| (address, printable(&name))).collect();
        Self { out: BufWriter::with_capacity(64 << 10, io::stdout()), names, vxlan_ports, width, paint }
    }

    pub(super) fn show(&mut self, place: &str, seen: &Seen<'_>) -> io::Result<()> {
        let line = self.line(place, seen);
        self.out.write_all(line.as_bytes())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn line(&self, place: &str, seen: &Seen<'_>) -> String {
        let frame = dissect(seen.link, &seen.data, &self.vxlan_ports);
        let place = format!("{:<width$}", printable(place), width = self.width);
        let arrow = if seen.outgoing { "out" } else { "in " };
        let (time, bytes) = (time(seen.at_ns), seen.original_bytes);
        let mut column = time.chars().count() + place.chars().count() + "  out 65535".len();
        let mut line = format!("{} {} {arrow} {bytes:>5}", self.paint.dim(&time), self.paint.bold(&place));
        for (n, word) in self.frame(&frame).iter().enumerate() {
            let width = word.chars().count();
            if n > 0 && column + 1 + width > COLUMNS {
                line.push('\n');
                line.push_str(&" ".repeat(INDENT));
                column = INDENT;
            }
            line.push(' ');
            line.push_str(&self.painted(word));
            column += 1 + width;
        }
        line.push('\n');
        line
    }

    fn painted(&self, word: &str) -> String {
        match word {
            "RST" | "RST,ACK" | "unreachable" | "exceeded" => self.paint.red(word),
            "SYN" | "SYN,ACK" => self.paint.green(word),
            "FIN" | "FIN,ACK" => self.paint.yellow(word),
            word => word.to_owned(),
        }
    }

    fn frame(&self, frame: &Frame) -> Vec<String> {
        let mut words: Vec<String> = frame.vlans.iter().map(|vlan| format!("VLAN {vlan}")).collect();
        match &frame.what {
            What::Arp { operation, sender, mac, target } => {
                let (sender, target) = (self.name((*sender).into()), self.name((*target).into()));
                words.extend(match operation {
                    1 => ["ARP who has".to_owned(), format!("{target}?"), "says".to_owned(), sender],
                    _ => ["ARP".to_owned(), sender, "is at".to_owned(), mac.to_string()],
                });
            }
            What::Ip { from, to, carries } => self.ip(*from, *to, carries, &mut words),
            What::Other { from, to, kind } => {
                let kind = if *kind < 0x600 { "802.3".to_owned() } else { format!("type {kind:#06x}") };
                words.extend([kind, from.to_string(), ">".to_owned(), to.to_string()]);
            }
            What::Cut => words.push("cut short".to_owned()),
        }
        words
    }

    fn ip(&self, from: IpAddr, to: IpAddr, carries: &Carries, words: &mut Vec<String>) {
        let between = |words: &mut Vec<String>, kind: String, ports: Option<(u16, u16)>| {
            let end = |address, port: Option<u16>| self.end(address, port);
            words.push(kind);
            words.push(end(from, ports.map(|ports| ports.0)));
            words.push(format!("> {}", end(to, ports.map(|ports| ports.1))));
        };
        match carries {
            Carries::Tcp { ports, flags, data_bytes } => {
                between(words, "TCP".into(), Some(*ports));
                words.push(flag_names(*flags));
                if *data_bytes > 0 {
                    words.push(format!("data {data_bytes}"));
                }
            }
            Carries::Udp { ports, data_bytes } => {
                between(words, "UDP".into(), Some(*ports));
                words.push(format!("data {data_bytes}"));
            }
            Carries::Vxlan { vni, inner } => {
                between(words, format!("VXLAN {vni}"), None);
                words.push("|".into());
                words.extend(self.frame(inner));
            }
            Carries::Icmp { kind, code, rest, target } => {
                between(words, if from.is_ipv4() { "ICMP" } else { "ICMP6" }.into(), None);
                words.extend(said(from.is_ipv4(), *kind, *code, *rest));
                words.extend(target.map(|target| format!("for {}", self.name(target))));
            }
            Carries::Fragment { protocol, offset } => {
                between(words, protocol_name(*protocol), None);
                words.push(format!("fragment at {offset}"));
            }
            Carries::Protocol(protocol) => between(words, protocol_name(*protocol), None),
        }
    }

    /// `web-1:8080`, `10.244.0.7:53`, `[fd00::7]:53`.
    fn end(&self, address: IpAddr, port: Option<u16>) -> String {
        match (self.names.get(&address), port) {
            (None, Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
            (Some(name), Some(port)) => format!("{name}:{port}"),
            (_, None) => self.name(address),
        }
    }

    fn name(&self, address: IpAddr) -> String {
        self.names.get(&address).cloned().unwrap_or_else(|| address.to_string())
    }
}

/// The time of day, UTC, to the microsecond.
fn time(at_ns: u64) -> String {
    let seconds = at_ns / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:06}", seconds % 60, at_ns / 1000 % 1_000_000)
}

fn flag_names(flags: u8) -> String {
    let all =
        [(1, "SYN"), (0, "FIN"), (2, "RST"), (3, "PSH"), (5, "URG"), (4, "ACK"), (6, "ECE"), (7, "CWR")];
    let set: Vec<&str> = all.iter().filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, name)| *name).collect();
    if set.is_empty() { "no flags".into() } else { set.join(",") }
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "ICMP".into(),
        2 => "IGMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        47 => "GRE".into(),
        50 => "ESP".into(),
        58 => "ICMP6".into(),
        132 => "SCTP".into(),
        number => format!("protocol {number}"),
    }
}

/// What ICMP says. RFC 792, RFC 4443, RFC 4861.
fn said(is_v4: bool, kind: u8, code: u8, rest: [u8; 4]) -> Vec<String> {
    let number = u16::from_be_bytes([rest[2], rest[3]]);
    let words: &[&str] = match (is_v4, kind, code) {
        (true, 8, _) | (false, 128, _) => return vec!["echo request".into(), format!("seq {number}")],
        (true, 0, _) | (false, 129, _) => return vec!["echo reply".into(), format!("seq {number}")],
        (true, 3, 4) => return vec!["too big, MTU".into(), number.to_string()],
        (false, 2, _) => return vec!["too big, MTU".into(), u32::from_be_bytes(rest).to_string()],
        (true, 3, 0) | (false, 1, 0) => &["no route:", "unreachable"],
        (true, 3, 1) | (false, 1, 3) => &["host", "unreachable"],
        (true, 3, 2) => &["protocol", "unreachable"],
        (true, 3, 3) | (false, 1, 4) => &["port", "unreachable"],
        (true, 3, 9 | 10 | 13) | (false, 1, 1) => &["prohibited:", "unreachable"],
        (true, 3, _) | (false, 1, _) => &["unreachable"],
        (true, 11, _) | (false, 3, _) => &["time to live", "exceeded"],
        (true, 5, _) => {
            return vec![format!("redirect to {}", Ipv4Addr::from(rest))];
        }
        (false, 133, _) => &["router solicitation"],
        (false, 134, _) => &["router advertisement"],
        (false, 135, _) => &["neighbour solicitation"],
        (false, 136, _) => &["neighbour advertisement"],
        (false, 130..=132 | 143, _) => &["multicast listeners"],
        _ => return vec![format!("type {kind}, code {code}")],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use probe::capture::LinkType;

    use super::*;

    fn lines(places: &[&str]) -> Lines {
        let names = [("10.244.0.7", "web-1"), ("10.244.0.9", "api\u{1b}[2J-0"), ("fd00::7", "web-1")];
        let names = names.map(|(address, name)| (address.parse().unwrap(), name.to_owned()));
        Lines::new(names.into(), vec![8472], places.iter().copied(), Paint::PLAIN)
    }

    /// What stands behind time, place, direction and length.
    fn said(frame: &[u8]) -> String {
        let original_bytes = frame.len() as u32;
        let (at_ns, link) = (1_800_000_061_000_001_999, LinkType::Ethernet);
        let seen = Seen { at_ns, outgoing: true, link, original_bytes, data: Cow::Borrowed(frame) };
        let line = lines(&["web-1/eth0"]).line("web-1/eth0", &seen);
        let head = format!("08:01:01.000001 web-1/eth0 out {original_bytes:>5} ");
        assert!(line.lines().all(|line| line.chars().count() <= COLUMNS), "{line}");
        assert!(!line.contains(|c: char| c.is_control() && c != '\n'), "{line:?}");
        let text = line.strip_prefix(&head).unwrap_or_else(|| panic!("{line}"));
        text.split_whitespace().collect::<Vec<&str>>().join(" ")
    }

    fn ethernet(kind: u16, body: &[u8]) -> Vec<u8> {
        [&[0x0a, 0x58, 0, 0, 0, 1, 0x0a, 0x58, 0, 0, 0, 2], &kind.to_be_bytes()[..], body].concat()
    }

    /// From 10.244.0.7 to 10.244.0.9.
    fn v4(protocol: u8, offset: u16, body: &[u8]) -> Vec<u8> {
        let length = (20 + body.len() as u16).to_be_bytes();
        let [o1, o2] = offset.to_be_bytes();
        let head =
            [0x45, 0, length[0], length[1], 0, 0, o1, o2, 64, protocol, 0, 0, 10, 244, 0, 7, 10, 244, 0, 9];
        ethernet(0x800, &[&head, body].concat())
    }

    /// From fd00::7 to 2001:db8:1111:2222:3333:4444:5555:6666.
    fn v6(next: u8, body: &[u8]) -> Vec<u8> {
        let mut head = vec![0x60, 0, 0, 0, 0, body.len() as u8, next, 64];
        for address in ["fd00::7", "2001:db8:1111:2222:3333:4444:5555:6666"] {
            head.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
        }
        ethernet(0x86dd, &[head, body.to_vec()].concat())
    }

    fn tcp(flags: u8, data: usize) -> Vec<u8> {
        let head = [0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0];
        [head.to_vec(), vec![b'x'; data]].concat()
    }

    #[test]
    fn packets_are_told_in_words() {
        let api = "api\u{fffd}[2J-0";
        for (frame, words) in [
            (v4(6, 0, &tcp(2, 0)), format!("TCP web-1:40000 > {api}:80 SYN")),
            (v4(6, 0, &tcp(0x18, 33)), format!("TCP web-1:40000 > {api}:80 PSH,ACK data 33")),
            (v4(6, 0, &tcp(0, 0)[..10]), format!("TCP web-1 > {api}")),
            (v4(17, 0, &[0, 53, 0x9c, 0x40, 0, 8, 0, 0]), format!("UDP web-1:53 > {api}:40000 data 0")),
            (v4(17, 0x2001, &[0; 8]), format!("UDP web-1 > {api} fragment at 8")),
            (v4(1, 0, &[8, 0, 0, 0, 0, 0, 0, 5]), format!("ICMP web-1 > {api} echo request seq 5")),
            (v4(1, 0, &[3, 4, 0, 0, 0, 0, 5, 120]), format!("ICMP web-1 > {api} too big, MTU 1400")),
            (v4(1, 0, &[3, 3, 0, 0, 0, 0, 0, 0]), format!("ICMP web-1 > {api} port unreachable")),
            (v4(99, 0, &[]), format!("protocol 99 web-1 > {api}")),
            (
                v6(6, &tcp(0x14, 0)),
                "TCP web-1:40000 > [2001:db8:1111:2222:3333:4444:5555:6666]:80 RST,ACK".to_owned(),
            ),
            (
                v6(58, &[&[135, 0, 0, 0, 0, 0, 0, 0, 0xfd, 0][..], &[0; 13], &[7]].concat()),
                "ICMP6 web-1 > 2001:db8:1111:2222:3333:4444:5555:6666 neighbour solicitation for web-1"
                    .to_owned(),
            ),
            (
                ethernet(
                    0x806,
                    &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2; 6], &[10, 244, 0, 7], &[0; 6], &[10, 244, 0, 1]]
                        .concat(),
                ),
                "ARP who has 10.244.0.1? says web-1".to_owned(),
            ),
            (ethernet(0x88cc, &[1, 2]), "type 0x88cc 0a:58:00:00:00:02 > 0a:58:00:00:00:01".to_owned()),
            (
                ethernet(0x8100, &[&[0x20, 7][..], &v4(6, 0, &tcp(1, 0))[12..]].concat()),
                format!("VLAN 7 TCP web-1:40000 > {api}:80 FIN"),
            ),
            (vec![1, 2, 3], "cut short".to_owned()),
        ] {
            assert_eq!(said(&frame), words);
        }
        let inner = v6(6, &tcp(2, 0));
        let tunnel = [&[0, 1, 0x21, 0x18, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 42, 0], &inner[..]].concat();
        let outer = format!("VXLAN 42 web-1 > {api}");
        let words = format!("{outer} | TCP web-1:40000 > [2001:db8:1111:2222:3333:4444:5555:6666]:80 SYN");
        assert_eq!(said(&v4(17, 0, &tunnel)), words);
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let frame = v4(6, 0, &tcp(4, 0));
        let (at_ns, link) = (0, LinkType::Ethernet);
        let seen = Seen { at_ns, outgoing: false, link, original_bytes: 54, data: Cow::Borrowed(&frame) };
        let mut lines = lines(&["a\u{1b}[0mb"]);
        assert!(!lines.line("a\u{1b}[0mb", &seen).contains('\u{1b}'));
        lines.paint = Paint { color: true };
        assert!(lines.line("a", &seen).contains("\u{1b}[1;31mRST\u{1b}[0m"));
    }
}
