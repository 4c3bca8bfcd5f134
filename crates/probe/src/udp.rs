//! A UDP datagram that an echo service sends back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde::Serialize;
use sys::NetNs;

use crate::failure::Failure;
use crate::icmp::{Ear, Heard};

const UDP: u8 = 17;
/// How long until it is sent again: a datagram may be lost.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Echoed {
    /// When.
    pub after: Duration,
    /// Whether it is what was sent; a service of somebody else's may answer otherwise.
    pub same: bool,
}

/// Sends a datagram from a namespace, and waits for an answer.
pub fn ask(from: &NetNs, to: SocketAddr, patience: Duration) -> Result<Echoed, Failure> {
    let opened = from.run(|| {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        UdpSocket::bind(any).map(|socket| (socket, Ear::open(to.is_ipv6()).ok()))
    });
    let (socket, mut ear) = opened.and_then(|opened| opened).map_err(Failure::setup("open a UDP socket"))?;
    let own = |error: io::Error| Failure::Own { errno: error.raw_os_error().unwrap_or(0) };
    socket.connect(to).map_err(own)?;
    let token: [u8; 16] = sys::random().map_err(Failure::setup("get random bytes"))?;
    let start = Instant::now();
    let deadline = start + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Silence { waited: patience });
        }
        let answer = exchange(&socket, &token, left.min(AGAIN_AFTER));
        if let Ok(Some(same)) = answer {
            return Ok(Echoed { after: start.elapsed(), same });
        }
        // Who says no is in ICMP; of an unreachable host or network the socket itself hears nothing (icmp_err_convert in net/ipv4/icmp.c).
        let told = ear.as_mut().and_then(|ear| {
            let heard = ear.hear(Instant::now(), |by, heard| match heard {
                Heard::Error { notice, about } if about.is_for(to, UDP) => Some(Failure::Told { by, notice }),
                _ => None,
            });
            heard.ok().flatten()
        });
        match (told, answer) {
            (Some(told), _) => return Err(told),
            (None, Ok(_)) => {}
            (None, Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(Failure::Refused);
            }
            (None, Err(error)) => return Err(own(error)),
        }
    }
}

/// Sends it once and waits a little. An ICMP error about an earlier one ends either.
fn exchange(socket: &UdpSocket, token: &[u8], patience: Duration) -> io::Result<Option<bool>> {
    socket.send(token)?;
    socket.set_read_timeout(Some(patience))?;
    let mut buffer = [0; 64];
    match socket.recv(&mut buffer) {
        Ok(length) => Ok(Some(&buffer[..length] == token)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
