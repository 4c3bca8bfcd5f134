//! Sockets of a namespace (sock_diag, include/uapi/linux/{sock_diag,inet_diag,packet_diag}.h).

use std::net::{IpAddr, SocketAddr};

use model::{IfIndex, SocketProtocol, SocketState, TcpConnection, TcpState, TcpTimer};

use crate::error::Result;
use crate::message::{Attributes, Request};
use crate::socket::Socket;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const TCP: u8 = 6;
const INET: u8 = 2;
const INET6: u8 = 10;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKV6ONLY: u16 = 11;
const UDP: u8 = 17;
const RAW: u8 = 255;
const PACKET: u8 = 17;
const PACKET_SHOW_INFO: u32 = 1;
const PACKET_DIAG_INFO: u16 = 0;
const PACKET_DIAG_UID: u16 = 5;
const PACKET_DIAG_MSG: usize = 16;
/// FIN-WAIT-1, FIN-WAIT-2, LAST-ACK and CLOSING: what a connection that was closed can be in. TIME-WAIT is not a socket any more.
const CLOSED_STATES: u32 = 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11;
const INET_DIAG_MSG: usize = 72;
/// Place of `tcpi_rto` in `struct tcp_info`.
const TCPI_RTO: usize = 8;

/// The connections of the socket's namespace that were closed by everybody who had them.
pub fn tcp_orphans(socket: &mut Socket) -> Result<Vec<TcpConnection>> {
    let mut all = Vec::new();
    for family in [INET, INET6] {
        let request = dump("list TCP connections", family, TCP, 1 << (INET_DIAG_INFO - 1), CLOSED_STATES);
        match socket.dump(&request, parse) {
            Ok(connections) => all.extend(connections),
            // A kernel without IPv6 has no such family.
            Err(error) if family == INET6 && (error.is_gone() || error.is_unsupported()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// A dump request of `struct inet_diag_req_v2`.
fn dump(what: &'static str, family: u8, protocol: u8, extensions: u8, states: u32) -> Request {
    let mut header = [0u8; 56];
    header[0] = family;
    header[1] = protocol;
    header[2] = extensions;
    header[4..8].copy_from_slice(&states.to_ne_bytes());
    Request::new(what, SOCK_DIAG_BY_FAMILY, 0, &header)
}

/// All sockets of one protocol in the socket's namespace, without their owners.
///
/// An error that [is gone](crate::Error::is_gone) means a kernel that cannot list them (without `CONFIG_INET_UDP_DIAG`,
/// `CONFIG_INET_RAW_DIAG`, `CONFIG_PACKET_DIAG`, `CONFIG_UNIX_DIAG`).
pub fn sockets(socket: &mut Socket, protocol: SocketProtocol) -> Result<Vec<model::Socket>> {
    let (number, what) = match protocol {
        SocketProtocol::Tcp => (TCP, "list TCP sockets"),
        SocketProtocol::Udp => (UDP, "list UDP sockets"),
        SocketProtocol::Raw => (RAW, "list raw sockets"),
        SocketProtocol::Unix => return crate::unix_diag::sockets(socket),
        SocketProtocol::Packet => {
            let mut header = [0u8; 20];
            header[0] = PACKET;
            header[8..12].copy_from_slice(&PACKET_SHOW_INFO.to_ne_bytes());
            let request = Request::new("list packet sockets", SOCK_DIAG_BY_FAMILY, 0, &header);
            return socket.dump(&request, parse_packet);
        }
    };
    let mut all = Vec::new();
    for family in [INET, INET6] {
        match socket.dump(&dump(what, family, number, 0, u32::MAX), |payload| parse_socket(payload, protocol))
        {
            Ok(sockets) => all.extend(sockets),
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

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// One end of `struct inet_diag_sockid`, which begins at the message's fourth byte.
fn end(fixed: &[u8], port: usize, address: usize) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*fixed.get(port)?, *fixed.get(port + 1)?]);
    let ip: IpAddr = match *fixed.first()? {
        INET => <[u8; 4]>::try_from(fixed.get(address..address + 4)?).ok()?.into(),
        INET6 => <[u8; 16]>::try_from(fixed.get(address..address + 16)?).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// A socket of an Internet protocol.
pub(crate) fn parse_socket(payload: &[u8], protocol: SocketProtocol) -> Option<model::Socket> {
    let fixed = payload.get(..INET_DIAG_MSG)?;
    let (mut local, remote) = (end(fixed, 4, 8)?, end(fixed, 6, 24)?);
    let is_raw = protocol == SocketProtocol::Raw;
    // A raw socket's protocol is where others have their port (net/ipv4/raw.c sets inet_sport).
    let number = is_raw.then(|| local.port());
    if is_raw {
        local.set_port(0);
    }
    let state = SocketState::from_number(fixed[1]);
    let is_connected = !remote.ip().is_unspecified() || remote.port() != 0;
    Some(model::Socket {
        protocol,
        state,
        local: Some(local),
        remote: is_connected.then_some(remote),
        v6_only: Attributes::after(payload, INET_DIAG_MSG)
            .find(INET_DIAG_SKV6ONLY)
            .and_then(|attribute| attribute.u8())
            .is_some_and(|only| only != 0),
        interface: Some(word(fixed, 40)).filter(|index| *index > 0).map(IfIndex),
        interface_name: None,
        number,
        unix: None,
        receive_queue: word(fixed, 56),
        send_queue: word(fixed, 60),
        uid: word(fixed, 64),
        inode: word(fixed, 68).into(),
        cookie: u64::from(word(fixed, 44)) | u64::from(word(fixed, 48)) << 32,
        owners: Vec::new(),
    })
}

/// A packet socket (`struct packet_diag_msg`).
pub(crate) fn parse_packet(payload: &[u8]) -> Option<model::Socket> {
    let fixed = payload.get(..PACKET_DIAG_MSG)?;
    let attributes = Attributes::after(payload, PACKET_DIAG_MSG);
    let value = |kind| attributes.find(kind).map(|attribute| word(attribute.value, 0));
    Some(model::Socket {
        protocol: SocketProtocol::Packet,
        state: SocketState::Unconnected,
        local: None,
        remote: None,
        v6_only: false,
        // `pdi_index`, the first of `struct packet_diag_info`.
        interface: value(PACKET_DIAG_INFO).filter(|index| *index > 0).map(IfIndex),
        interface_name: None,
        number: Some(u16::from_ne_bytes([fixed[2], fixed[3]])),
        unix: None,
        receive_queue: 0,
        send_queue: 0,
        uid: value(PACKET_DIAG_UID).unwrap_or_default(),
        inode: word(fixed, 4).into(),
        cookie: u64::from(word(fixed, 8)) | u64::from(word(fixed, 12)) << 32,
        owners: Vec::new(),
    })
}

/// An orphan; `None` for a connection that somebody has: those have an inode.
pub(crate) fn parse(payload: &[u8]) -> Option<TcpConnection> {
    let fixed = payload.get(..INET_DIAG_MSG)?;
    let word = |at: usize| word(fixed, at);
    if word(68) != 0 {
        return None;
    }
    let info = Attributes::after(payload, INET_DIAG_MSG).find(INET_DIAG_INFO);
    let rto_us = info.and_then(|info| info.value.get(TCPI_RTO..TCPI_RTO + 4)?.try_into().ok());
    Some(TcpConnection {
        local: end(fixed, 4, 8)?,
        remote: end(fixed, 6, 24)?,
        state: TcpState::from_number(fixed[1]),
        timer: TcpTimer::from_number(fixed[2]),
        expires_ms: word(52),
        retransmits: fixed[3],
        rto_ms: rto_us.map_or(0, |us| u32::from_ne_bytes(us) / 1000),
        queued_bytes: word(60),
        cookie: u64::from(word(44)) | u64::from(word(48)) << 32,
    })
}
