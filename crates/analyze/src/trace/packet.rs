//! The packet that is followed.

use std::net::IpAddr;

use model::{IfIndex, MacAddr};
use serde::Serialize;

/// What kind of packet is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// An echo request.
    Icmp,
    /// The first packet of a connection.
    Tcp,
    /// A datagram.
    Udp,
}

impl Protocol {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Icmp => "icmp",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// Its number in IP.
    pub fn number(self, v6: bool) -> u8 {
        match (self, v6) {
            (Protocol::Icmp, false) => 1,
            (Protocol::Icmp, true) => 58,
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
        }
    }
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// Source; `None` until one is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Destination.
    pub destination: IpAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// Source port, where one is known: of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// It answers one that was seen before.
    pub is_answer: bool,
    /// Its mark in the namespace where it is.
    #[serde(skip)]
    pub(super) mark: u32,
    /// The interface that it has to leave by, where it is made.
    #[serde(skip)]
    pub(super) device: Option<IfIndex>,
    /// The frame that is in it, of a tunnel.
    #[serde(skip)]
    pub(super) inner: Option<Box<Inner>>,
}

/// What is in a tunnel's packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inner {
    pub(super) packet: Packet,
    pub(super) frame: Frame,
    /// VXLAN network identifier.
    pub(super) id: u32,
}

/// What is in a frame's header, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// To whom; `None` where links have no addresses, or the address is not known.
    pub(super) to: Option<MacAddr>,
    /// The neighbour that is meant.
    pub(super) next_hop: IpAddr,
}

impl Packet {
    pub(super) fn new(destination: IpAddr, protocol: Protocol, port: Option<u16>) -> Self {
        Self {
            source: None,
            destination,
            protocol,
            source_port: None,
            port,
            is_answer: false,
            mark: 0,
            device: None,
            inner: None,
        }
    }

    /// What answers this one, where it arrived as it is.
    pub(super) fn answer(&self) -> Option<Self> {
        Some(Self {
            source: Some(self.destination),
            destination: self.source?,
            source_port: self.port,
            port: self.source_port,
            is_answer: true,
            mark: 0,
            ..self.clone()
        })
    }

    /// Bytes that the tunnels take in which the followed packet is.
    pub(super) fn tunnel_bytes(&self) -> u32 {
        match &self.inner {
            // Ethernet 14, VXLAN 8, UDP 8, and the nodes' IP.
            Some(inner) => {
                30 + if self.destination.is_ipv4() { 20 } else { 40 } + inner.packet.tunnel_bytes()
            }
            None => 0,
        }
    }

    /// The packet that is followed, in however many tunnels.
    pub(super) fn innermost(&self) -> &Packet {
        self.inner.as_ref().map_or(self, |inner| inner.packet.innermost())
    }
}
