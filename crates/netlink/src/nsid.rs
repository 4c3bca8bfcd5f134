//! How the host numbers other namespaces.

use std::os::fd::{AsRawFd, BorrowedFd};

use model::Nsid;

use crate::error::Result;
use crate::message::{Attributes, Request};
use crate::socket::Socket;

const RTM_GETNSID: u16 = 90;
const RTGENMSG: usize = 4;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// The number of the namespace; `None` when the socket's namespace never was linked to it.
pub fn of(socket: &mut Socket, netns: BorrowedFd<'_>) -> Result<Option<Nsid>> {
    let request = Request::new("look up nsid", RTM_GETNSID, 0, &[0; RTGENMSG])
        .attr_u32(NETNSA_FD, netns.as_raw_fd().cast_unsigned());
    let nsid = socket.get(request, parse)?;
    Ok((nsid != Nsid::NOT_ASSIGNED).then_some(nsid))
}

/// All numbers that the socket's namespace has given.
pub fn list(socket: &mut Socket) -> Result<Vec<Nsid>> {
    socket.dump(&Request::new("list nsids", RTM_GETNSID, 0, &[0; RTGENMSG]), parse)
}

pub(crate) fn parse(payload: &[u8]) -> Option<Nsid> {
    Attributes::after(payload, RTGENMSG).find(NETNSA_NSID)?.i32().map(Nsid)
}
