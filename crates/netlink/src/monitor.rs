//! Hearing of changes to links as they happen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use model::{IfIndex, Link};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, sockopt};

use crate::error::{Error, Result};
use crate::link::{self, RTM_DELLINK, RTM_NEWLINK};
use crate::message::Attributes;
use crate::socket::Messages;

/// `1 << (RTNLGRP_LINK - 1)`
const LINK_GROUP: u32 = 1;
/// Room for a burst: a message takes about 2 KiB of it. When it is full the kernel says so, and everything is read again.
const RECEIVE_BYTES: usize = 1 << 20;
const MESSAGE_BYTES: usize = 32 * 1024;
const IFINFOMSG: usize = 16;
const IFLA_NEW_NETNSID: u16 = 45;
const WHAT: &str = "hear of links";

/// A change of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It is new, or has changed.
    Link {
        /// As it is now.
        link: Box<Link>,
    },
    /// It is gone from this namespace.
    Gone {
        /// Its index.
        index: IfIndex,
        /// It was moved to another namespace.
        moved: bool,
    },
}

/// A socket that hears of links of the namespace in which it was opened.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Hears of everything from now on.
    pub fn links() -> Result<Self> {
        let fail =
            |error: std::io::Error| Error::new(WHAT, Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let fd = sys::netlink_socket(None).map_err(fail)?;
        // More than net.core.rmem_max asks for CAP_NET_ADMIN; without it the default has to do.
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BYTES);
        let address = SocketAddrNetlink::new(0, LINK_GROUP);
        rustix::net::bind(&fd, &address).map_err(|errno| Error::new(WHAT, errno))?;
        Ok(Self { fd, buffer: vec![0; MESSAGE_BYTES] })
    }

    /// What has happened since the last call; does not wait. An error that [is an overrun](Error::is_overrun) says that
    /// something was missed.
    pub fn heard(&mut self) -> Result<Vec<Heard>> {
        let mut heard = Vec::new();
        loop {
            let received = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)
            });
            match received {
                Ok((_, length)) if length <= self.buffer.len() => {
                    let messages = Messages(&self.buffer[..length]);
                    heard.extend(messages.filter_map(|message| parse(message.kind, message.payload)));
                }
                Ok(_) => return Err(Error::new(WHAT, Errno::NOBUFS)),
                Err(Errno::AGAIN) => return Ok(heard),
                Err(errno) => return Err(Error::new(WHAT, errno)),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(crate) fn parse(kind: u16, payload: &[u8]) -> Option<Heard> {
    // A bridge tells of its ports in messages of its own family: an interface that leaves a bridge is not gone.
    if payload.first() != Some(&0) {
        return None;
    }
    let link = link::parse(payload)?;
    match kind {
        RTM_NEWLINK => Some(Heard::Link { link: Box::new(link) }),
        RTM_DELLINK => {
            let moved = Attributes::after(payload, IFINFOMSG).find(IFLA_NEW_NETNSID).is_some();
            Some(Heard::Gone { index: link.index, moved })
        }
        _ => None,
    }
}
