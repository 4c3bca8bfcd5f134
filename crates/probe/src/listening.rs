//! Packets of one interface as they come, without a copy of each.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use model::IfIndex;
use netlink::{Socket, link};
use sys::{CaptureRing, NetNs};

use crate::capture::{Counts, LinkType, Packet, link_type, with_tag};
use crate::failure::Failure;
use crate::filter::{self, Filter};

/// The kernel keeps nothing back for longer than this.
pub const DELAY: std::time::Duration = std::time::Duration::from_millis(60);

/// A packet that was seen, where the kernel has put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<'a> {
    /// When, in nanoseconds since 1970.
    pub at_ns: u64,
    /// Whether it was leaving there; else it was arriving.
    pub outgoing: bool,
    /// What it begins with.
    pub link: LinkType,
    /// How long it is, in bytes.
    pub original_bytes: u32,
    /// As much of it as is kept, VLAN tag included.
    pub data: Cow<'a, [u8]>,
}

impl<'a> From<&'a Packet> for Seen<'a> {
    fn from(packet: &'a Packet) -> Self {
        Seen {
            at_ns: packet.at_ns,
            outgoing: packet.outgoing,
            link: packet.link,
            original_bytes: packet.original_bytes,
            data: Cow::Borrowed(&packet.data),
        }
    }
}

impl Seen<'_> {
    /// A copy that does not need the kernel's memory.
    pub fn to_owned(&self) -> Seen<'static> {
        Seen {
            at_ns: self.at_ns,
            outgoing: self.outgoing,
            link: self.link,
            original_bytes: self.original_bytes,
            data: Cow::Owned(self.data.to_vec()),
        }
    }
}

/// How an interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Packets may come.
    Up,
    /// None come until it is up again.
    Down,
    /// It is gone, or in another namespace.
    Gone,
}

/// One interface that is listened to. While it is, its namespace lives.
#[derive(Debug)]
pub struct Listening {
    ring: CaptureRing,
    netlink: Socket,
    interface: IfIndex,
    link: LinkType,
    counts: Counts,
}

impl Listening {
    /// Opens it in a namespace: what passes the filter is kept from now on, in about `buffer_bytes`, whether anybody reads or not.
    pub fn open(
        inside: &NetNs,
        interface: IfIndex,
        filter: Option<&Filter>,
        snap_bytes: u32,
        buffer_bytes: usize,
    ) -> Result<Self, Failure> {
        let opened = inside.run(|| -> Result<Self, Failure> {
            let failed = |error: netlink::Error| Failure::Setup {
                what: "ask for interfaces",
                errno: error.raw_os_error(),
            };
            let netlink = Socket::route().map_err(failed)?;
            let ring = CaptureRing::open(interface, buffer_bytes).map_err(Failure::setup("capture"))?;
            let link = link_type(ring.hardware());
            let program = match filter {
                Some(filter) => filter.program(link, snap_bytes),
                None => filter::everything(snap_bytes),
            };
            ring.start(&program).map_err(Failure::setup("capture"))?;
            Ok(Self { ring, netlink, interface, link, counts: Counts::default() })
        });
        opened.map_err(Failure::setup("enter the namespace"))?
    }

    /// What its packets begin with.
    pub fn link(&self) -> LinkType {
        self.link
    }

    /// Hands out what is there, without waiting for more, and returns how many packets that was.
    pub fn read(&mut self, mut each: impl FnMut(&Seen<'_>)) -> usize {
        let link = self.link;
        self.ring.read(|captured| {
            let (data, original_bytes) = with_tag(&captured, link);
            let (at_ns, outgoing) = (captured.at_ns, captured.outgoing);
            each(&Seen { at_ns, outgoing, link, original_bytes, data });
        })
    }

    /// Keeps nothing from now on. After [`DELAY`] all that was kept can be read.
    pub fn stop(&self) -> io::Result<()> {
        self.ring.stop()
    }

    /// Whether something befell the interface since the last call.
    pub fn is_disturbed(&self) -> bool {
        self.ring.take_error().is_some()
    }

    /// How the interface is now.
    pub fn state(&mut self) -> State {
        match link::by_index(&mut self.netlink, self.interface, None) {
            Ok(link) if link.up => State::Up,
            Ok(_) => State::Down,
            Err(error) if error.is_gone() => State::Gone,
            // It was there, and nobody said that it is not.
            Err(_) => State::Down,
        }
    }

    /// What was counted since it was opened.
    pub fn counts(&mut self) -> io::Result<Counts> {
        // Reading them sets the kernel's to zero.
        let (seen, dropped) = self.ring.counts()?;
        self.counts.seen += u64::from(seen);
        self.counts.dropped += u64::from(dropped);
        Ok(self.counts)
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
