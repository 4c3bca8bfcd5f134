//! From what is said to a classic BPF program (linux/filter.h, Documentation/networking/filter.rst).
//!
//! It is written from its end: whoever writes a jump knows already where it leads, and how far that is.

use model::MacAddr;
use sys::FilterStep;

use super::tree::{ARP, IPV4, IPV6, Node, RARP, Side, Test};
use crate::capture::LinkType;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_LENGTH: u16 = 0x80;
const LOAD: u16 = 0x00;
const X_IS_IP_HEADER_LENGTH: u16 = 0xb1;
const X_IS_MEMORY: u16 = 0x61;
const STORE: u16 = 0x02;
const AND: u16 = 0x54;
const SHIFT_LEFT: u16 = 0x64;
const ADD: u16 = 0x04;
const ADD_X: u16 = 0x0c;
const A_TO_X: u16 = 0x07;
const X_TO_A: u16 = 0x87;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_NOT_LESS: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// linux/filter.h: what the kernel knows beside the bytes, at places that no packet has.
const PACKET_TYPE: u32 = 0xffff_f004;
/// linux/if_packet.h.
const OUTGOING: u32 = 4;

const ETHERNET: u32 = 14;
const IP6_HEADER: u32 = 40;
const UDP_HEADER: u32 = 8;
const VXLAN_HEADER: u32 = 8;
/// A VXLAN network identifier is there (RFC 7348).
const VNI_VALID: u32 = 0x08;

const FRAGMENT: u8 = 44;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Keeps so many bytes of what comes here; of all that comes, when it is the only step.
pub(super) fn keep(snap_bytes: u32) -> FilterStep {
    FilterStep { code: RETURN, jt: 0, jf: 0, k: snap_bytes }
}

pub(super) fn compile(tree: &Node, vxlan_ports: &[u16], link: LinkType, snap_bytes: u32) -> Vec<FilterStep> {
    let mut program = Program { backwards: Vec::new(), vxlan_ports };
    let no = program.push(RETURN, 0);
    let yes = program.push(RETURN, snap_bytes);
    let frame = match link {
        LinkType::Ethernet => Frame::First,
        LinkType::Ip => Frame::Bare,
    };
    program.node(tree, frame, yes, no);
    program.backwards.reverse();
    program.backwards
}

/// The load (BPF_ABS) from behind X (BPF_IND).
fn after_x(load: u16) -> u16 {
    load ^ 0x60
}

/// Where that begins that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// With the packet, by an Ethernet header.
    First,
    /// With the packet, by an IP header.
    Bare,
    /// In a tunnel, by an Ethernet header: this word of memory says where.
    Inner(u32),
}

impl Frame {
    /// How far behind that IP's header is.
    fn ip(self) -> u32 {
        if self == Frame::Bare { 0 } else { ETHERNET }
    }

    /// What is looked at once this was found to be so: VXLAN opens what is inside, until `or` or a parenthesis.
    fn behind(self, node: &Node) -> Frame {
        match node {
            Node::Test(Test::Vxlan { slot, .. }) => Frame::Inner(*slot),
            Node::And(left, right) => self.behind(left).behind(right),
            Node::Or(..) | Node::Not(_) | Node::Group(_) | Node::Test(_) => self,
        }
    }
}

/// A step, by how many there are behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Label(usize);

struct Program<'p> {
    backwards: Vec<FilterStep>,
    vxlan_ports: &'p [u16],
}

impl Program<'_> {
    fn push(&mut self, code: u16, k: u32) -> Label {
        self.backwards.push(FilterStep { code, jt: 0, jf: 0, k });
        Label(self.backwards.len() - 1)
    }

    /// Steps over by a step that is written now.
    fn distance(&self, to: Label) -> usize {
        self.backwards.len() - to.0 - 1
    }

    fn goto(&mut self, to: Label) -> Label {
        match self.distance(to) {
            0 => to,
            far => self.push(JUMP, far as u32),
        }
    }

    fn jump(&mut self, code: u16, k: u32, mut yes: Label, mut no: Label) -> Label {
        // A condition reaches over 255 steps; a jump that is written here for one of the two is one of the other's.
        const REACH: usize = u8::MAX as usize - 1;
        if self.distance(yes) > REACH {
            yes = self.push(JUMP, self.distance(yes) as u32);
        }
        if self.distance(no) > REACH {
            no = self.push(JUMP, self.distance(no) as u32);
        }
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.backwards.push(FilterStep { code, jt, jf, k });
        Label(self.backwards.len() - 1)
    }

    /// A is loaded from there.
    fn load(&mut self, frame: Frame, code: u16, offset: u32) -> Label {
        match frame {
            Frame::First | Frame::Bare => self.push(code, offset),
            Frame::Inner(slot) => {
                self.push(after_x(code), offset);
                self.push(X_IS_MEMORY, slot)
            }
        }
    }

    fn compare(&mut self, frame: Frame, code: u16, offset: u32, value: u32, yes: Label, no: Label) -> Label {
        self.jump(IF_EQUAL, value, yes, no);
        self.load(frame, code, offset)
    }

    /// Writes a node, and returns where it begins.
    fn node(&mut self, node: &Node, frame: Frame, yes: Label, no: Label) -> Label {
        match node {
            Node::And(left, right) => {
                let right = self.node(right, frame.behind(left), yes, no);
                self.node(left, frame, right, no)
            }
            Node::Or(left, right) => {
                let right = self.node(right, frame, yes, no);
                self.node(left, frame, yes, right)
            }
            Node::Not(inside) => self.node(inside, frame, no, yes),
            Node::Group(inside) => self.node(inside, frame, yes, no),
            Node::Test(test) => self.test(test, frame, yes, no),
        }
    }

    fn test(&mut self, test: &Test, frame: Frame, yes: Label, no: Label) -> Label {
        match *test {
            Test::Type(kind) => self.ether_type(frame, kind, yes, no),
            Test::Protocol { number, v4, v6 } => {
                let mut entry = no;
                if v6 {
                    entry = self.protocol6(frame, number, yes, no);
                }
                match v4 {
                    true => self.protocol4(frame, number, yes, no, entry),
                    false => entry,
                }
            }
            Test::V4 { within, side, address, mask } => {
                let mut entry = no;
                for (kind, source, destination) in [(RARP, 14, 24), (ARP, 14, 24), (IPV4, 12, 16)] {
                    if within.is_none_or(|within| within == kind) {
                        let ends = [source, destination].map(|at| frame.ip() + at);
                        let found = self.sides(side, yes, no, |program, end, yes, no| {
                            program.masked(frame, ends[end], address, mask, yes, no)
                        });
                        entry = self.ether_type(frame, kind, found, entry);
                    }
                }
                entry
            }
            Test::V6 { side, address, mask } => {
                let found = self.sides(side, yes, no, |program, end, yes, no| {
                    program.masked6(frame, frame.ip() + [8, 24][end], address, mask, yes, no)
                });
                self.ether_type(frame, IPV6, found, no)
            }
            Test::Ports { protocol, side, from, to } => {
                self.ports(frame, protocol, side, (from, to), yes, no)
            }
            Test::Ether { side, mac } => match frame {
                Frame::Bare => self.goto(no),
                _ => self.sides(side, yes, no, |program, end, yes, no| {
                    program.mac(frame, [6, 0][end], mac, yes, no)
                }),
            },
            Test::EtherMulticast if frame == Frame::Bare => self.goto(no),
            Test::EtherMulticast => {
                self.jump(IF_ANY_BIT, 1, yes, no);
                self.load(frame, LOAD_BYTE, 0)
            }
            Test::IpMulticast { v6: false } => {
                self.jump(IF_NOT_LESS, 224, yes, no);
                let found = self.load(frame, LOAD_BYTE, frame.ip() + 16);
                self.ether_type(frame, IPV4, found, no)
            }
            Test::IpMulticast { v6: true } => {
                let found = self.compare(frame, LOAD_BYTE, frame.ip() + 24, 255, yes, no);
                self.ether_type(frame, IPV6, found, no)
            }
            Test::Less(bytes) => {
                self.jump(IF_GREATER, bytes, no, yes);
                self.push(LOAD_LENGTH, 0)
            }
            Test::Greater(bytes) => {
                self.jump(IF_NOT_LESS, bytes, yes, no);
                self.push(LOAD_LENGTH, 0)
            }
            Test::Outgoing(outgoing) => {
                let (yes, no) = if outgoing { (yes, no) } else { (no, yes) };
                self.jump(IF_EQUAL, OUTGOING, yes, no);
                self.push(LOAD_HALF, PACKET_TYPE)
            }
            Test::Vxlan { vni, slot } => self.vxlan(frame, vni, slot, yes, no),
        }
    }

    fn ether_type(&mut self, frame: Frame, kind: u16, yes: Label, no: Label) -> Label {
        if frame != Frame::Bare {
            return self.compare(frame, LOAD_HALF, 12, u32::from(kind), yes, no);
        }
        let version = match kind {
            IPV4 => 0x40,
            IPV6 => 0x60,
            _ => return self.goto(no),
        };
        self.jump(IF_EQUAL, version, yes, no);
        self.push(AND, 0xf0);
        self.load(frame, LOAD_BYTE, 0)
    }

    /// One end, the other, either, or both.
    fn sides(
        &mut self,
        side: Side,
        yes: Label,
        no: Label,
        mut one: impl FnMut(&mut Self, usize, Label, Label) -> Label,
    ) -> Label {
        match side {
            Side::Source => one(self, 0, yes, no),
            Side::Destination => one(self, 1, yes, no),
            Side::Either => {
                let second = one(self, 1, yes, no);
                one(self, 0, yes, second)
            }
            Side::Both => {
                let second = one(self, 1, yes, no);
                one(self, 0, second, no)
            }
        }
    }

    fn masked(&mut self, frame: Frame, offset: u32, value: u32, mask: u32, yes: Label, no: Label) -> Label {
        self.jump(IF_EQUAL, value, yes, no);
        if mask != u32::MAX {
            self.push(AND, mask);
        }
        self.load(frame, LOAD_WORD, offset)
    }

    fn masked6(
        &mut self,
        frame: Frame,
        offset: u32,
        value: u128,
        mask: u128,
        yes: Label,
        no: Label,
    ) -> Label {
        let word = |whole: u128, n: u32| (whole >> (96 - 32 * n)) as u32;
        let mut entry = yes;
        for n in (0..4).rev().filter(|n| word(mask, *n) != 0) {
            entry = self.masked(frame, offset + 4 * n, word(value, n), word(mask, n), entry, no);
        }
        entry
    }

    /// The last four bytes come first, as in libpcap's programs: a frame that is cut between is not kept.
    fn mac(&mut self, frame: Frame, offset: u32, mac: MacAddr, yes: Label, no: Label) -> Label {
        let [a, b, c, d, e, f] = mac.0;
        let rest = self.compare(frame, LOAD_HALF, offset, u32::from_be_bytes([0, 0, a, b]), yes, no);
        self.compare(frame, LOAD_WORD, offset + 2, u32::from_be_bytes([c, d, e, f]), rest, no)
    }

    /// `other`: it is not IPv4 at all.
    fn protocol4(&mut self, frame: Frame, number: u8, yes: Label, no: Label, other: Label) -> Label {
        let found = self.compare(frame, LOAD_BYTE, frame.ip() + 9, u32::from(number), yes, no);
        self.ether_type(frame, IPV4, found, other)
    }

    /// Also behind a fragment header, if that is the first, as libpcap does.
    fn protocol6(&mut self, frame: Frame, number: u8, yes: Label, no: Label) -> Label {
        let number = u32::from(number);
        let behind = self.compare(frame, LOAD_BYTE, frame.ip() + IP6_HEADER, number, yes, no);
        let next = frame.ip() + 6;
        let fragment = self.compare(frame, LOAD_BYTE, next, u32::from(FRAGMENT), behind, no);
        let found = self.compare(frame, LOAD_BYTE, next, number, yes, fragment);
        self.ether_type(frame, IPV6, found, no)
    }

    /// A is one of these protocols.
    fn is_one_of(&mut self, protocols: &[u8], yes: Label, no: Label) -> Label {
        let mut entry = no;
        for number in protocols {
            entry = self.jump(IF_EQUAL, u32::from(*number), yes, entry);
        }
        entry
    }

    fn ports(
        &mut self,
        frame: Frame,
        protocol: Option<u8>,
        side: Side,
        (from, to): (u16, u16),
        yes: Label,
        no: Label,
    ) -> Label {
        let all = [SCTP, UDP, TCP];
        let one = protocol.map(|one| [one]);
        let protocols = one.as_ref().map_or(&all[..], |one| &one[..]);
        let port = |program: &mut Self, yes: Label, no: Label| match from == to {
            true => program.jump(IF_EQUAL, u32::from(from), yes, no),
            false => {
                let above = program.jump(IF_GREATER, u32::from(to), no, yes);
                program.jump(IF_NOT_LESS, u32::from(from), above, no)
            }
        };
        let v6 = self.sides(side, yes, no, |program, end, yes, no| {
            port(program, yes, no);
            program.load(frame, LOAD_HALF, frame.ip() + IP6_HEADER + [0, 2][end])
        });
        self.is_one_of(protocols, v6, no);
        let v6 = self.load(frame, LOAD_BYTE, frame.ip() + 6);
        let v6 = self.ether_type(frame, IPV6, v6, no);
        let v4 = self.sides(side, yes, no, |program, end, yes, no| {
            port(program, yes, no);
            program.push(after_x(LOAD_HALF), frame.ip() + [0, 2][end])
        });
        let v4 = self.behind_ip4(frame, v4, no);
        self.is_one_of(protocols, v4, no);
        let v4 = self.load(frame, LOAD_BYTE, frame.ip() + 9);
        self.ether_type(frame, IPV4, v4, v6)
    }

    /// X becomes what is to be added to what follows an IPv4 header of no length; later fragments are no.
    fn behind_ip4(&mut self, frame: Frame, then: Label, no: Label) -> Label {
        self.goto(then);
        let then = match frame {
            Frame::First | Frame::Bare => self.push(X_IS_IP_HEADER_LENGTH, frame.ip()),
            Frame::Inner(slot) => {
                self.push(A_TO_X, 0);
                self.push(ADD_X, 0);
                self.push(X_IS_MEMORY, slot);
                self.push(SHIFT_LEFT, 2);
                self.push(AND, 0xf);
                self.load(frame, LOAD_BYTE, frame.ip())
            }
        };
        self.jump(IF_ANY_BIT, 0x1fff, no, then);
        self.load(frame, LOAD_HALF, frame.ip() + 6)
    }

    /// Is it VXLAN? Then it is noted where the frame inside begins.
    fn vxlan(&mut self, frame: Frame, vni: Option<u32>, slot: u32, yes: Label, no: Label) -> Label {
        let udp6 = frame.ip() + IP6_HEADER;
        self.goto(yes);
        self.push(STORE, slot);
        let inside = udp6 + UDP_HEADER + VXLAN_HEADER;
        match frame {
            Frame::First | Frame::Bare => self.push(LOAD, inside),
            Frame::Inner(outer) => {
                self.push(ADD, inside);
                self.push(X_TO_A, 0);
                self.push(X_IS_MEMORY, outer)
            }
        };
        let v6 = Label(self.backwards.len() - 1);
        let v6 =
            self.vxlan_header(vni, v6, no, &|program, code, offset| program.load(frame, code, udp6 + offset));
        let v6 = self.compare(frame, LOAD_BYTE, frame.ip() + 6, u32::from(UDP), v6, no);
        let v6 = self.ether_type(frame, IPV6, v6, no);

        let udp4 = frame.ip();
        self.goto(yes);
        self.push(STORE, slot);
        self.push(ADD, udp4 + UDP_HEADER + VXLAN_HEADER);
        let v4 = self.push(X_TO_A, 0);
        let v4 = self
            .vxlan_header(vni, v4, no, &|program, code, offset| program.push(after_x(code), udp4 + offset));
        let v4 = self.behind_ip4(frame, v4, no);
        let v4 = self.compare(frame, LOAD_BYTE, frame.ip() + 9, u32::from(UDP), v4, no);
        self.ether_type(frame, IPV4, v4, v6)
    }

    fn vxlan_header(
        &mut self,
        vni: Option<u32>,
        then: Label,
        no: Label,
        load: &dyn Fn(&mut Self, u16, u32) -> Label,
    ) -> Label {
        let mut then = then;
        if let Some(vni) = vni {
            self.jump(IF_EQUAL, vni << 8, then, no);
            self.push(AND, 0xffff_ff00);
            then = load(self, LOAD_WORD, UDP_HEADER + 4);
        }
        self.jump(IF_ANY_BIT, VNI_VALID, then, no);
        then = load(self, LOAD_BYTE, UDP_HEADER);
        let mut entry = no;
        for port in self.vxlan_ports {
            entry = self.jump(IF_EQUAL, u32::from(*port), then, entry);
        }
        load(self, LOAD_HALF, 2)
    }
}
