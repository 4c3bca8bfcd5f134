//! How much goes through a TCP connection in a moment.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde::Serialize;
use sys::NetNs;

use crate::failure::Failure;
use crate::icmp::readable;
use crate::tcp;

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Throughput {
    /// Bytes of payload, without headers.
    pub bytes: u64,
    /// In which time.
    pub during: Duration,
}

impl Throughput {
    /// Payload in bits a second. On a link of 100 Mbit/s with 1,500 byte packets that is at most 95 % of it.
    pub fn bits_per_second(&self) -> u64 {
        let bits = u128::from(self.bytes) * 8 * 1_000_000;
        u64::try_from(bits / self.during.as_micros().max(1)).unwrap_or(u64::MAX)
    }
}

/// What a token bucket saved up goes through at once, and connections start slowly: what arrives first is not counted.
const WARM_UP: Duration = Duration::from_millis(300);
const BLOCK: usize = 128 * 1024;

/// Sends from one namespace to an address of another for as long as `during`, after a moment that does not count.
///
/// The port should be one that nobody listens on; with 0 the kernel chooses.
pub fn throughput(
    from: &NetNs,
    into: &NetNs,
    to: SocketAddr,
    during: Duration,
    patience: Duration,
) -> Result<Throughput, Failure> {
    let listening = into.run(|| TcpListener::bind(to)).and_then(|listener| listener);
    let listener = listening.map_err(Failure::setup("listen for the measurement"))?;
    let to = listener.local_addr().map_err(Failure::setup("listen for the measurement"))?;
    let (_, stream) = tcp::open(from, to, patience)?;
    // Made is not arrived: address translation may have led it to somebody else.
    if !readable(&listener, patience).map_err(Failure::setup("wait for the measurement's connection"))? {
        return Err(Failure::Nonsense { what: "the connection went to somebody else" });
    }
    let (receiver, _) = listener.accept().map_err(Failure::setup("accept the measurement's connection"))?;
    let start = Instant::now();
    let end = start + WARM_UP + during;
    let broken = |error: io::Error| Failure::Broken { errno: error.raw_os_error().unwrap_or(0) };
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || send(stream, end));
        let received = receive(receiver, start + WARM_UP, end).map_err(broken);
        let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let received = received?;
        sent.map_err(broken)?;
        Ok(received)
    })
}

fn send(mut stream: TcpStream, end: Instant) -> io::Result<()> {
    let block = vec![0; BLOCK];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(&block) {
            Ok(_) => {}
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn receive(mut stream: TcpStream, begin: Instant, end: Instant) -> io::Result<Throughput> {
    let mut block = vec![0; BLOCK];
    let (mut bytes, mut now) = (0, Instant::now());
    while now < end {
        stream.set_read_timeout(Some(end - now))?;
        let length = match stream.read(&mut block) {
            Ok(0) => break,
            Ok(length) => length as u64,
            Err(error) if is_pause(&error) => 0,
            Err(error) => return Err(error),
        };
        now = Instant::now();
        if now >= begin && now <= end {
            bytes += length;
        }
    }
    Ok(Throughput { bytes, during: end - begin })
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
