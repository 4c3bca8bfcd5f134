//! Captured packets as a file that Wireshark and tcpdump read (draft-ietf-opsawg-pcapng).
//!
//! Every block is whole when it is written and says how long it is: a file that is cut stays readable up to there.

use std::io::{self, Write};

use crate::capture::{LinkType, Packet};
use crate::listening::Seen;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Where a section ends is not known when it begins.
const NO_LENGTH: u64 = u64::MAX;
/// Times are in units of 10^-9 seconds.
const NANOSECONDS: u8 = 9;
const LINKTYPE_ETHERNET: u16 = 1;
const LINKTYPE_RAW: u16 = 101;

/// What a packet takes in a file beside its own bytes, which are filled up to a multiple of four.
pub const PACKET_OVERHEAD_BYTES: u64 = 44;
/// What [`Writer::statistics`] takes for an interface.
pub const STATISTICS_BYTES: u64 = 76;

/// Writes a file, block by block, each in one `write`. What it writes to should collect small writes.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    interfaces: u32,
    block: Vec<u8>,
}

/// What a file says about an interface when it introduces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it is.
    pub description: &'a str,
    /// The filter that its packets passed, in words.
    pub filter: Option<&'a str>,
    /// What its packets begin with.
    pub link: LinkType,
    /// As much of each packet is kept.
    pub snap_bytes: u32,
}

/// An interface of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceId(u32);

impl InterfaceId {
    /// The one that was introduced as the `n`th, from zero.
    pub(crate) fn of(n: usize) -> Self {
        InterfaceId(n as u32)
    }
}

/// What a file says about an interface when all is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// When the capture began and ended, in nanoseconds since 1970.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
    /// Packets that were seen there.
    pub received: u64,
    /// Packets that were lost; only known of all interfaces of a capture together.
    pub dropped: Option<u64>,
}

impl<W: Write> Writer<W> {
    /// Begins a file. `os` and `application` are what it says about its making.
    pub fn begin(out: W, os: &str, application: &str) -> io::Result<Self> {
        Self::begin_with(out, os, application, None)
    }

    /// Begins a file with a comment.
    pub fn begin_with(out: W, os: &str, application: &str, comment: Option<&str>) -> io::Result<Self> {
        let mut writer = Self { out, interfaces: 0, block: Vec::new() };
        let mut body = Vec::new();
        body.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        // Version 1.0.
        body.extend_from_slice(&[1, 0, 0, 0]);
        body.extend_from_slice(&NO_LENGTH.to_le_bytes());
        if let Some(comment) = comment {
            option(&mut body, 1, comment.as_bytes());
        }
        option(&mut body, 3, os.as_bytes());
        option(&mut body, 4, application.as_bytes());
        end_options(&mut body);
        writer.block(SECTION, &body)?;
        Ok(writer)
    }

    /// Introduces an interface. Its packets come after that.
    pub fn interface(
        &mut self,
        name: &str,
        description: &str,
        link: LinkType,
        snap_bytes: u32,
    ) -> io::Result<InterfaceId> {
        self.introduce(&Interface { name, description, filter: None, link, snap_bytes })
    }

    /// Introduces an interface with all that is known about it.
    pub fn introduce(&mut self, interface: &Interface<'_>) -> io::Result<InterfaceId> {
        let mut body = Vec::new();
        let link = match interface.link {
            LinkType::Ethernet => LINKTYPE_ETHERNET,
            LinkType::Ip => LINKTYPE_RAW,
        };
        body.extend_from_slice(&link.to_le_bytes());
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&interface.snap_bytes.to_le_bytes());
        option(&mut body, 2, interface.name.as_bytes());
        option(&mut body, 3, interface.description.as_bytes());
        option(&mut body, 9, &[NANOSECONDS]);
        if let Some(filter) = interface.filter {
            // A zero says that it is text.
            option(&mut body, 11, &[b"\0", filter.as_bytes()].concat());
        }
        end_options(&mut body);
        self.block(INTERFACE, &body)?;
        self.interfaces += 1;
        Ok(InterfaceId(self.interfaces - 1))
    }

    /// Adds a packet.
    pub fn packet(&mut self, interface: InterfaceId, packet: &Packet) -> io::Result<()> {
        self.seen(interface, &Seen::from(packet))
    }

    /// Adds a packet from where the kernel has put it.
    pub fn seen(&mut self, InterfaceId(interface): InterfaceId, packet: &Seen<'_>) -> io::Result<()> {
        let padded = packet.data.len().next_multiple_of(4);
        let length = (PACKET_OVERHEAD_BYTES + padded as u64) as u32;
        let direction: u32 = if packet.outgoing { 2 } else { 1 };
        // Without an allocation: there may be a million of these a second.
        let block = &mut self.block;
        block.clear();
        block.extend_from_slice(&PACKET.to_le_bytes());
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&interface.to_le_bytes());
        block.extend_from_slice(&time(packet.at_ns));
        block.extend_from_slice(&(packet.data.len() as u32).to_le_bytes());
        block.extend_from_slice(&packet.original_bytes.to_le_bytes());
        block.extend_from_slice(&packet.data);
        pad(block);
        option(block, 2, &direction.to_le_bytes());
        end_options(block);
        block.extend_from_slice(&length.to_le_bytes());
        self.out.write_all(&self.block)
    }

    /// Says what was counted at an interface.
    pub fn statistics(
        &mut self,
        InterfaceId(interface): InterfaceId,
        counted: &Statistics,
    ) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend_from_slice(&interface.to_le_bytes());
        body.extend_from_slice(&time(counted.to_ns));
        option(&mut body, 2, &time(counted.from_ns));
        option(&mut body, 3, &time(counted.to_ns));
        option(&mut body, 4, &counted.received.to_le_bytes());
        if let Some(dropped) = counted.dropped {
            option(&mut body, 5, &dropped.to_le_bytes());
        }
        end_options(&mut body);
        self.block(STATISTICS, &body)
    }

    /// What it writes to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes out what was collected.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// In one write, so that another process never sees half of one that is small.
    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (body.len() as u32 + 12).to_le_bytes();
        let mut block = Vec::with_capacity(body.len() + 12);
        block.extend_from_slice(&kind.to_le_bytes());
        block.extend_from_slice(&length);
        block.extend_from_slice(body);
        block.extend_from_slice(&length);
        self.out.write_all(&block)
    }
}

/// The upper half comes first, whatever the byte order.
fn time(ns: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&((ns >> 32) as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&(ns as u32).to_le_bytes());
    bytes
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    // A name, a description, a filter; longer ones would not be read.
    let value = &value[..value.len().min(16 << 10)];
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&(value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    pad(body);
}

fn end_options(body: &mut Vec<u8>) {
    body.extend_from_slice(&[0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
