//! What the kernel tells of packets that nftables traces: which rules they meet, and which one ends them (`NFNLGRP_NFTRACE`).

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, netlink, sockopt};

use crate::error::{Error, Result};
use crate::message::Attributes;
use crate::socket::Messages;

const NFT_MSG_TRACE: u16 = 10 << 8 | 17;
/// `1 << (NFNLGRP_NFTRACE - 1)`
const TRACE_GROUP: u32 = 1 << 8;
const RECEIVE_BYTES: usize = 1 << 20;
const MESSAGE_BYTES: usize = 16 * 1024;
const NFGENMSG: usize = 4;
const NFTA_TRACE_TABLE: u16 = 1;
const NFTA_TRACE_CHAIN: u16 = 2;
const NFTA_TRACE_RULE_HANDLE: u16 = 3;
const NFTA_TRACE_TYPE: u16 = 4;
const NFTA_TRACE_VERDICT: u16 = 5;
const NFTA_TRACE_TRANSPORT_HEADER: u16 = 9;
const NFTA_TRACE_POLICY: u16 = 16;
const NFTA_VERDICT_CODE: u16 = 1;
const TYPE_POLICY: u32 = 1;
const TYPE_RULE: u32 = 3;
const NF_DROP: u32 = 0;
const WHAT: &str = "hear of traced packets";

/// A packet that was traced met its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The table's family (`NFPROTO_*`).
    pub family: u8,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's handle; `None`: the chain's policy.
    pub handle: Option<u64>,
    /// How its transport header begins.
    pub transport: Vec<u8>,
}

/// Hears of traced packets of the namespace in which it was opened.
#[derive(Debug)]
pub struct TraceMonitor {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl TraceMonitor {
    /// Hears of everything from now on.
    pub fn open() -> Result<Self> {
        let fail =
            |error: std::io::Error| Error::new(WHAT, Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let fd = sys::netlink_socket(Some(netlink::NETFILTER)).map_err(fail)?;
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BYTES);
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, TRACE_GROUP))
            .map_err(|errno| Error::new(WHAT, errno))?;
        Ok(Self { fd, buffer: vec![0; MESSAGE_BYTES] })
    }

    /// The ends that were heard of since the last call; does not wait.
    pub fn dropped(&mut self) -> Result<Vec<Dropped>> {
        let mut dropped = Vec::new();
        loop {
            let received = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)
            });
            match received {
                Ok((_, length)) => {
                    let messages = Messages(&self.buffer[..length.min(MESSAGE_BYTES)]);
                    dropped.extend(messages.filter_map(|message| parse(message.kind, message.payload)));
                }
                Err(Errno::AGAIN) => return Ok(dropped),
                Err(errno) => return Err(Error::new(WHAT, errno)),
            }
        }
    }
}

pub(crate) fn parse(kind: u16, payload: &[u8]) -> Option<Dropped> {
    if kind != NFT_MSG_TRACE {
        return None;
    }
    let attributes = Attributes::after(payload, NFGENMSG);
    let text = |kind| attributes.find(kind).map(|attribute| attribute.string());
    let code = || attributes.find(NFTA_TRACE_VERDICT)?.nested().find(NFTA_VERDICT_CODE)?.be32();
    let handle = match attributes.find(NFTA_TRACE_TYPE)?.be32()? {
        // What a target of x_tables steals is gone as well, but nothing says so: REJECT drops.
        TYPE_RULE if code() == Some(NF_DROP) => {
            Some(u64::from_be_bytes(attributes.find(NFTA_TRACE_RULE_HANDLE)?.value.try_into().ok()?))
        }
        TYPE_POLICY if attributes.find(NFTA_TRACE_POLICY)?.be32()? == NF_DROP => None,
        _ => return None,
    };
    Some(Dropped {
        family: *payload.first()?,
        table: text(NFTA_TRACE_TABLE)?,
        chain: text(NFTA_TRACE_CHAIN)?,
        handle,
        transport: attributes
            .find(NFTA_TRACE_TRANSPORT_HEADER)
            .map(|header| header.value.to_vec())
            .unwrap_or_default(),
    })
}
