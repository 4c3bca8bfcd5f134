//! Packets that pass an interface, or all interfaces of a namespace.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use model::IfIndex;
use netlink::{Socket, link};
use rustix::io::Errno;
use sys::{CaptureSocket, FilterStep, NetNs};

use crate::failure::Failure;

/// What is captured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// On which interface; on all unless given.
    pub interface: Option<String>,
    /// How many bytes of each packet are kept.
    pub snap_bytes: u32,
    /// A classic BPF program that says which packets are kept; all, when it is empty. It sees frames without their outer VLAN tag.
    pub filter: Vec<FilterStep>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { interface: None, snap_bytes: 256 * 1024, filter: Vec::new() }
    }
}

/// What a packet begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkType {
    /// An Ethernet header.
    Ethernet,
    /// An IP header: interfaces of tunnels, tun.
    Ip,
}

/// A packet that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When, in nanoseconds since 1970.
    pub at_ns: u64,
    /// On which interface.
    pub interface: IfIndex,
    /// Whether it was leaving there; else it was arriving.
    pub outgoing: bool,
    /// What it begins with.
    pub link: LinkType,
    /// How long it is, in bytes.
    pub original_bytes: u32,
    /// As much of it as is kept, VLAN tag included.
    pub data: Vec<u8>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that were seen and passed the filter.
    pub seen: u64,
    /// Of these, those that the kernel dropped because nobody read them in time.
    pub dropped: u64,
}

/// Whoever reads in a loop gets to look at other things this often.
const MOMENT: Duration = Duration::from_millis(100);

/// A capture that is going on. Packets are kept from when it is opened, whether anybody reads or not, in 16 MiB.
#[derive(Debug)]
pub struct Capture {
    socket: CaptureSocket,
    netlink: Socket,
    names: BTreeMap<IfIndex, String>,
    counts: Counts,
}

impl Capture {
    /// Opens it in a namespace.
    pub fn open(inside: &NetNs, settings: &Settings) -> Result<Self, Failure> {
        let opened = inside.run(|| -> Result<Self, Failure> {
            let failed = |error: netlink::Error| Failure::Setup {
                what: "find the interface to capture on",
                errno: error.raw_os_error(),
            };
            let mut netlink = Socket::route().map_err(failed)?;
            let index = match &settings.interface {
                Some(name) => Some(link::by_name(&mut netlink, name).map_err(failed)?.index),
                None => None,
            };
            let socket = CaptureSocket::open(index, settings.snap_bytes, &settings.filter)
                .map_err(Failure::setup("capture"))?;
            Ok(Self { socket, netlink, names: BTreeMap::new(), counts: Counts::default() })
        });
        opened.map_err(Failure::setup("enter the namespace"))?
    }

    /// Hands out what has been seen and what is seen until `deadline`, in the order in which the kernel noted it; of processors that work side by
    /// side, times may be out of order. A deadline that has passed: what has been seen by now.
    pub fn read(&mut self, deadline: Instant, mut each: impl FnMut(Packet)) -> io::Result<()> {
        while self.take(deadline, &mut each)? > 0 || Instant::now() < deadline {}
        Ok(())
    }

    /// Hands out a few packets, and waits for them until `deadline`, but not longer than a moment; returns how many.
    pub fn take(&mut self, deadline: Instant, mut each: impl FnMut(Packet)) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.socket.receive(left.min(MOMENT), |captured| each(packet(&captured)))
    }

    /// The name of an interface that a packet was seen on, as the namespace has it: whoever prints it has to see to control characters.
    /// `None` when it is gone.
    pub fn interface_name(&mut self, index: IfIndex) -> Option<&str> {
        if !self.names.contains_key(&index) {
            let link = link::by_index(&mut self.netlink, index, None).ok()?;
            self.names.insert(index, link.name);
        }
        self.names.get(&index).map(String::as_str)
    }

    /// What was counted since it was opened.
    pub fn counts(&mut self) -> io::Result<Counts> {
        // Reading them sets the kernel's to zero.
        let (seen, dropped) = self.socket.counts()?;
        self.counts.seen += u64::from(seen);
        self.counts.dropped += u64::from(dropped);
        Ok(self.counts)
    }
}

impl Failure {
    /// Of a capture that was opened for an interface that there is not.
    pub fn is_no_such_interface(&self) -> bool {
        matches!(self, Failure::Setup { errno, .. } if *errno == Errno::NODEV.raw_os_error())
    }
}

/// include/uapi/linux/if_arp.h: tunnels, tun and the like have no header of their own.
const ARPHRD_TUNNEL: u16 = 768;
const ARPHRD_TUNNEL6: u16 = 769;
const ARPHRD_SIT: u16 = 776;
const ARPHRD_IPGRE: u16 = 778;
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_NONE: u16 = 0xfffe;

/// What packets begin with on an interface of this kind.
pub(crate) fn link_type(hardware: u16) -> LinkType {
    match hardware {
        ARPHRD_TUNNEL | ARPHRD_TUNNEL6 | ARPHRD_SIT | ARPHRD_IPGRE | ARPHRD_RAWIP | ARPHRD_NONE => {
            LinkType::Ip
        }
        _ => LinkType::Ethernet,
    }
}

/// The packet as it was on the wire, and its length there: the kernel has taken its VLAN tag out, which goes back behind the two addresses.
pub(crate) fn with_tag<'a>(captured: &sys::Captured<'a>, link: LinkType) -> (Cow<'a, [u8]>, u32) {
    const ADDRESSES: usize = 12;
    match captured.vlan {
        Some((protocol, tag)) if link == LinkType::Ethernet && captured.data.len() >= ADDRESSES => {
            let (addresses, rest) = captured.data.split_at(ADDRESSES);
            let data = [addresses, &protocol.to_be_bytes(), &tag.to_be_bytes(), rest].concat();
            (Cow::Owned(data), captured.original_bytes + 4)
        }
        _ => (Cow::Borrowed(captured.data), captured.original_bytes),
    }
}

fn packet(captured: &sys::Captured<'_>) -> Packet {
    let link = link_type(captured.hardware);
    let (data, original_bytes) = with_tag(captured, link);
    Packet {
        at_ns: captured.at_ns,
        interface: captured.interface,
        outgoing: captured.outgoing,
        link,
        original_bytes,
        data: data.into_owned(),
    }
}
