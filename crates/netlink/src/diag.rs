//! TCP connections that no process has any more (sock_diag, include/uapi/linux/{sock_diag,inet_diag}.h).

use std::net::{IpAddr, SocketAddr};

use model::{TcpConnection, TcpState, TcpTimer};

use crate::error::Result;
use crate::message::{Attributes, Request};
use crate::socket::Socket;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const TCP: u8 = 6;
const INET: u8 = 2;
const INET6: u8 = 10;
const INET_DIAG_INFO: u16 = 2;
/// FIN-WAIT-1, FIN-WAIT-2, LAST-ACK and CLOSING: what a connection that was closed can be in. TIME-WAIT is not a socket any more.
const CLOSED_STATES: u32 = 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11;
const INET_DIAG_MSG: usize = 72;
/// Place of `tcpi_rto` in `struct tcp_info`.
const TCPI_RTO: usize = 8;

/// The connections of the socket's namespace that were closed by everybody who had them.
pub fn tcp_orphans(socket: &mut Socket) -> Result<Vec<TcpConnection>> {
    let mut all = Vec::new();
    for family in [INET, INET6] {
        let mut header = [0u8; 56];
        header[0] = family;
        header[1] = TCP;
        header[2] = 1 << (INET_DIAG_INFO - 1);
        header[4..8].copy_from_slice(&CLOSED_STATES.to_ne_bytes());
        let request = Request::new("list TCP connections", SOCK_DIAG_BY_FAMILY, 0, &header);
        match socket.dump(&request, parse) {
            Ok(connections) => all.extend(connections),
            // A kernel without IPv6 has no such family.
            Err(error) if family == INET6 && (error.is_gone() || error.is_unsupported()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Ends a connection: the other end gets a reset, the socket is freed. The kernel finds it by its addresses and compares the cookie,
/// so that a later connection of the same addresses is not taken for it.
///
/// An error that [is unsupported](crate::Error::is_unsupported) means a kernel without `CONFIG_INET_DIAG_DESTROY`.
pub fn destroy(connection: &TcpConnection) -> Request {
    let mut header = Vec::with_capacity(56);
    let family = if connection.local.is_ipv4() { INET } else { INET6 };
    header.extend_from_slice(&[family, TCP, 0, 0]);
    header.extend_from_slice(&CLOSED_STATES.to_ne_bytes());
    for port in [connection.local.port(), connection.remote.port()] {
        header.extend_from_slice(&port.to_be_bytes());
    }
    for end in [connection.local, connection.remote] {
        let mut address = [0u8; 16];
        match end.ip() {
            IpAddr::V4(v4) => address[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => address = v6.octets(),
        }
        header.extend_from_slice(&address);
    }
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&(connection.cookie as u32).to_ne_bytes());
    header.extend_from_slice(&((connection.cookie >> 32) as u32).to_ne_bytes());
    Request::new("end TCP connection", SOCK_DESTROY, 0, &header)
}

/// An orphan; `None` for a connection that somebody has: those have an inode.
pub(crate) fn parse(payload: &[u8]) -> Option<TcpConnection> {
    let fixed = payload.get(..INET_DIAG_MSG)?;
    let word = |at: usize| u32::from_ne_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let end = |port: usize, address: usize| {
        let port = u16::from_be_bytes([fixed[port], fixed[port + 1]]);
        let ip: IpAddr = match fixed[0] {
            INET => <[u8; 4]>::try_from(&fixed[address..address + 4]).ok()?.into(),
            INET6 => <[u8; 16]>::try_from(&fixed[address..address + 16]).ok()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    };
    if word(68) != 0 {
        return None;
    }
    let info = Attributes::after(payload, INET_DIAG_MSG).find(INET_DIAG_INFO);
    let rto_us = info.and_then(|info| info.value.get(TCPI_RTO..TCPI_RTO + 4)?.try_into().ok());
    Some(TcpConnection {
        local: end(4, 8)?,
        remote: end(6, 24)?,
        state: TcpState::from_number(fixed[1]),
        timer: TcpTimer::from_number(fixed[2]),
        expires_ms: word(52),
        retransmits: fixed[3],
        rto_ms: rto_us.map_or(0, |us| u32::from_ne_bytes(us) / 1000),
        queued_bytes: word(60),
        cookie: u64::from(word(44)) | u64::from(word(48)) << 32,
    })
}
