//! A TCP connection: whether there is one, and if not, why.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::Serialize;
use sys::NetNs;

use crate::failure::Failure;
use crate::icmp::{Ear, Heard};

const TCP: u8 = 6;

/// A connection that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Connected {
    /// When.
    pub after: Duration,
}

/// Connects from a namespace, and closes again.
pub fn connect(from: &NetNs, to: SocketAddr, patience: Duration) -> Result<Connected, Failure> {
    open(from, to, patience).map(|(connected, _)| connected)
}

/// Connects from a namespace; the connection works on from outside.
pub(crate) fn open(
    from: &NetNs,
    to: SocketAddr,
    patience: Duration,
) -> Result<(Connected, TcpStream), Failure> {
    let connected = from.run(|| {
        // Who refuses is in ICMP, which the connection's own socket does not show. Without the right to hear it, it stays unsaid.
        let ear = Ear::open(to.is_ipv6()).ok();
        let start = Instant::now();
        match TcpStream::connect_timeout(&to, patience) {
            Ok(stream) => Ok((Connected { after: start.elapsed() }, stream)),
            Err(error) => Err(reason(&error, to, patience, ear)),
        }
    });
    connected.unwrap_or_else(|error| Err(Failure::setup("enter the namespace")(error)))
}

fn reason(error: &io::Error, to: SocketAddr, patience: Duration, ear: Option<Ear>) -> Failure {
    let told = ear.and_then(|mut ear| {
        let heard = ear.hear(Instant::now(), |by, heard| match heard {
            Heard::Error { notice, about } if about.is_for(to, TCP) => Some(Failure::Told { by, notice }),
            _ => None,
        });
        heard.ok().flatten()
    });
    told.unwrap_or_else(|| match error.raw_os_error() {
        // connect_timeout's own has no errno.
        None => Failure::Silence { waited: patience },
        Some(errno) if errno == Errno::TIMEDOUT.raw_os_error() => Failure::Silence { waited: patience },
        Some(errno) if errno == Errno::CONNREFUSED.raw_os_error() => Failure::Refused,
        Some(errno) => Failure::Own { errno },
    })
}
