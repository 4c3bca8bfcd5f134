//! One GET request over HTTP/1.1, as far as a check needs it: the status, and how much came.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::Serialize;
use sys::NetNs;

use crate::failure::Failure;
use crate::tcp;

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Length of the body as it was sent, in bytes.
    pub bytes: u64,
    /// Whether all of it came. Else the server broke off, or it is larger than we read.
    pub whole: bool,
    /// When it was there.
    pub after: Duration,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Get<'a> {
    /// Where the server is.
    pub to: SocketAddr,
    /// What the server is called there (`Host`).
    pub host: &'a str,
    /// The path and what follows it, from its `/` on. No control characters and no blanks, which would end the line.
    pub path: &'a str,
}

/// Larger heads are not read.
const LARGEST_HEAD: usize = 64 * 1024;
/// Bodies are counted up to here.
const LARGEST_BODY: u64 = 64 << 20;

/// Asks a server from a namespace.
pub fn get(from: &NetNs, get: &Get<'_>, patience: Duration) -> Result<Response, Failure> {
    let is_word = |text: &str| !text.contains(|c: char| c.is_control() || c == ' ');
    if !is_word(get.host) || !is_word(get.path) || !get.path.starts_with('/') {
        return Err(Failure::Setup { what: "ask for such a path", errno: Errno::INVAL.raw_os_error() });
    }
    let start = Instant::now();
    let (_, stream) = tcp::open(from, get.to, patience)?;
    let mut connection = Connection { stream, deadline: start + patience, patience };
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: podplumb\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        get.path, get.host
    );
    connection.send(request.as_bytes())?;
    let mut head = Vec::new();
    let end = loop {
        // After "100 Continue" and the like comes the real answer.
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            match status(&head)? {
                100..=199 => {
                    head.drain(..end + 4);
                }
                _ => break end + 4,
            }
        } else if head.len() > LARGEST_HEAD {
            return Err(Failure::Nonsense { what: "an HTTP head that does not end" });
        } else if connection.receive(&mut head)? == 0 {
            let what = if head.is_empty() { "the server closed without an answer" } else { "not HTTP" };
            return Err(Failure::Nonsense { what });
        }
    };
    let (status, length) = self::head(&head[..end])?;
    let mut bytes = (head.len() - end) as u64;
    let mut ended = matches!(status, 204 | 304);
    while !ended && length.is_none_or(|length| bytes < length) && bytes < LARGEST_BODY {
        head.clear();
        match connection.receive(&mut head)? {
            0 => ended = true,
            more => bytes += more as u64,
        }
    }
    let whole = length.map_or(ended, |length| bytes == length);
    Ok(Response { status, bytes, whole, after: start.elapsed() })
}

/// The status, and how long the body is if it says so.
pub(crate) fn head(bytes: &[u8]) -> Result<(u16, Option<u64>), Failure> {
    Ok((status(bytes)?, length(bytes)))
}

/// The code of `HTTP/1.1 200 OK`.
fn status(head: &[u8]) -> Result<u16, Failure> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default();
    let mut words = line.split(' ');
    let code = words.next().filter(|version| version.starts_with("HTTP/1.")).and_then(|_| words.next());
    let code = code.and_then(|code| code.parse().ok()).filter(|code| (100..600).contains(code));
    code.ok_or(Failure::Nonsense { what: "not HTTP" })
}

/// What `Content-Length` says.
fn length(head: &[u8]) -> Option<u64> {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.trim().parse().ok()
}

/// A connection that has to be through by a deadline.
struct Connection {
    stream: TcpStream,
    deadline: Instant,
    patience: Duration,
}

impl Connection {
    fn left(&self) -> Result<Duration, Failure> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Failure::Silence { waited: self.patience }) } else { Ok(left) }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let left = self.left()?;
        let sent = self.stream.set_write_timeout(Some(left)).and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|error| self.reason(&error))
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> Result<usize, Failure> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let left = self.left()?;
            let received =
                self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut buffer));
            match received {
                Ok(length) => {
                    into.extend_from_slice(&buffer[..length]);
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.reason(&error)),
            }
        }
    }

    fn reason(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Silence { waited: self.patience },
            _ => Failure::Broken { errno: error.raw_os_error().unwrap_or(0) },
        }
    }
}
