//! Sending requests and waiting for their answers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, netlink};

use crate::error::{Error, Result};
use crate::message::{Attributes, HEADER, NLM_F_ACK, NLM_F_DUMP, Request};

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Room for the answer to one request. The largest, a link without VFs, takes less than 2 KiB.
const ANSWER_BYTES: usize = 8 * 1024;
/// The kernel fills a dump's buffers up to 32 KiB when it is offered that much (net/netlink/af_netlink.c).
const DUMP_BYTES: usize = 32 * 1024;
/// How long a dump is repeated that the kernel marked as interrupted by a change: one of 1,000 veths takes 40 ms, in which a busy
/// node changes more often than not. One that changes without pause for longer than this needs an error, not a wait.
const DUMP_PATIENCE: Duration = Duration::from_secs(10);
/// Pauses between the attempts, each twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A netlink socket. It stays in the namespace in which it was opened, wherever its owner goes.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// The answers to a batch, in the order of its requests.
#[derive(Debug)]
pub struct Transaction(Vec<Option<Error>>);

impl Transaction {
    /// `Ok` when every request was carried out; else the first error.
    pub fn all(self) -> Result<()> {
        self.0.into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// The answer to each request: `None` means that it was carried out.
    pub fn each(self) -> Vec<Option<Error>> {
        self.0
    }
}

impl Socket {
    /// An rtnetlink socket of the calling thread's namespace.
    pub fn route() -> Result<Self> {
        Self::open(None, "open rtnetlink socket")
    }

    /// An nfnetlink socket of the calling thread's namespace.
    pub fn netfilter() -> Result<Self> {
        Self::open(Some(netlink::NETFILTER), "open nfnetlink socket")
    }

    /// A sock_diag socket of the calling thread's namespace.
    pub fn diag() -> Result<Self> {
        Self::open(Some(netlink::SOCK_DIAG), "open sock_diag socket")
    }

    fn open(protocol: Option<rustix::net::Protocol>, what: &'static str) -> Result<Self> {
        let fail =
            |error: std::io::Error| Error::new(what, Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let fd = sys::netlink_socket(protocol).map_err(fail)?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; ANSWER_BYTES] })
    }

    /// Sends a request and waits until it has been carried out.
    pub fn ack(&mut self, request: Request) -> Result<()> {
        self.batch(vec![request])?.all()
    }

    /// Sends requests in one system call; the kernel carries them out in order, each whether or not an earlier one
    /// failed. The outer error means that nothing is known about any of them.
    pub fn batch(&mut self, requests: Vec<Request>) -> Result<Transaction> {
        let Some(last) = requests.last() else { return Ok(Transaction(Vec::new())) };
        let what = last.what;
        let first = self.sequence + 1;
        let names: Vec<&'static str> = requests.iter().map(|request| request.what).collect();
        let mut bytes = Vec::with_capacity(requests.iter().map(|request| request.bytes.len()).sum());
        for mut request in requests {
            self.sequence += 1;
            request.seal(NLM_F_ACK, self.sequence);
            bytes.append(&mut request.bytes);
        }
        self.send(what, &bytes)?;
        let mut answers: Vec<Option<Error>> = names.iter().map(|_| None).collect();
        let mut waiting = names.len();
        while waiting > 0 {
            let received = self.receive(what)?;
            for message in Messages(&self.buffer[..received]) {
                let Some(place) = message.sequence.checked_sub(first).map(|n| n as usize) else { continue };
                if message.kind == NLMSG_ERROR && place < answers.len() {
                    answers[place] = message.error(names[place]);
                    waiting -= 1;
                }
            }
        }
        Ok(Transaction(answers))
    }

    /// Sends requests of which only some are answered, such as an nfnetlink batch, each with the flags that it was made with
    /// (`NLM_F_ACK` where `acknowledged`), and returns the errors by place. Ends when the last acknowledged one is
    /// answered, or at the first error outside the batch's messages.
    pub fn transact(&mut self, requests: Vec<(Request, bool)>) -> Result<Transaction> {
        let what = requests.first().map_or("nothing", |(request, _)| request.what);
        let first = self.sequence + 1;
        let names: Vec<&'static str> = requests.iter().map(|(request, _)| request.what).collect();
        let mut waiting: Vec<bool> = requests.iter().map(|(_, acknowledged)| *acknowledged).collect();
        let mut bytes = Vec::new();
        for (mut request, acknowledged) in requests {
            self.sequence += 1;
            request.seal(if acknowledged { NLM_F_ACK } else { 0 }, self.sequence);
            bytes.append(&mut request.bytes);
        }
        self.send(what, &bytes)?;
        let mut answers: Vec<Option<Error>> = names.iter().map(|_| None).collect();
        while waiting.contains(&true) {
            let received = self.receive(what)?;
            for message in Messages(&self.buffer[..received]) {
                let Some(place) = message.sequence.checked_sub(first).map(|n| n as usize) else { continue };
                if message.kind != NLMSG_ERROR || place >= names.len() {
                    continue;
                }
                let error = message.error(names[place]);
                match error {
                    // The frame of the batch itself was refused: none of its messages is answered.
                    Some(error) if !waiting[place] && answers[place].is_none() => return Err(error),
                    error => {
                        waiting[place] = false;
                        answers[place] = answers[place].take().or(error);
                    }
                }
            }
        }
        Ok(Transaction(answers))
    }

    /// Sends a request that is answered with one message, and returns what `parse` makes of its payload.
    pub fn get<T>(&mut self, request: Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
        let what = request.what;
        self.sequence += 1;
        let mut request = request;
        request.seal(0, self.sequence);
        self.send(what, &request.bytes)?;
        loop {
            let received = self.receive(what)?;
            for message in Messages(&self.buffer[..received]) {
                if message.sequence != self.sequence {
                    continue;
                }
                if message.kind == NLMSG_ERROR {
                    return Err(message.error(what).unwrap_or_else(|| Error::new(what, Errno::NODATA)));
                }
                return parse(message.payload).ok_or_else(|| Error::new(what, Errno::BADMSG));
            }
        }
    }

    /// Lists: sends a dump request and returns what `parse` makes of each answer. A dump that the kernel says was
    /// interrupted by a change is repeated from the start, so that the list is of one moment.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(list) = self.dump_once(request.clone(), &mut parse)? {
                return Ok(list);
            }
            if start.elapsed() > DUMP_PATIENCE {
                return Err(Error::new(request.what, Errno::INTR).with_detail(Some(format!(
                    "the list changed during each attempt to read it, for {} s",
                    DUMP_PATIENCE.as_secs()
                ))));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn dump_once<T>(
        &mut self,
        mut request: Request,
        parse: &mut impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let what = request.what;
        self.buffer.resize(DUMP_BYTES, 0);
        self.sequence += 1;
        request.seal(NLM_F_DUMP, self.sequence);
        self.send(what, &request.bytes)?;
        let mut list = Vec::new();
        let mut interrupted = false;
        loop {
            let received = self.receive(what)?;
            for message in Messages(&self.buffer[..received]) {
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE => {
                        return match message.done_error(what) {
                            Some(error) if error.raw_os_error() == Errno::INTR.raw_os_error() => Ok(None),
                            Some(error) => Err(error),
                            None => Ok((!interrupted).then_some(list)),
                        };
                    }
                    NLMSG_ERROR => match message.error(what) {
                        Some(error) => return Err(error),
                        None => return Ok(Some(list)),
                    },
                    _ => list.extend(parse(message.payload)),
                }
            }
        }
    }

    fn send(&self, what: &'static str, bytes: &[u8]) -> Result<()> {
        let sent = rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, bytes, SendFlags::empty()));
        match sent {
            Ok(_) => Ok(()),
            Err(errno) => Err(Error::new(what, errno)),
        }
    }

    fn receive(&mut self, what: &'static str) -> Result<usize> {
        let fd = &self.fd;
        let buffer = &mut self.buffer;
        // With MSG_TRUNC the length is that of the whole message, so a cut one can be told.
        let received = rustix::io::retry_on_intr(|| rustix::net::recv(fd, &mut **buffer, RecvFlags::TRUNC));
        match received {
            Ok((_, length)) if length <= self.buffer.len() => Ok(length),
            Ok((_, length)) => Err(Error::new(what, Errno::MSGSIZE).with_detail(Some(format!(
                "an answer of {length} bytes does not fit {}",
                self.buffer.len()
            )))),
            Err(errno) => Err(Error::new(what, errno)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    pub(crate) payload: &'a [u8],
}

impl Message<'_> {
    /// Of an `NLMSG_ERROR`: the error, or `None` when it is an acknowledgement.
    pub(crate) fn error(&self, what: &'static str) -> Option<Error> {
        let code = i32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?);
        (code != 0).then(|| Error::from_answer(what, code).with_detail(self.extended(4 + HEADER)))
    }

    /// Of an `NLMSG_DONE`: the error that ended the dump.
    pub(crate) fn done_error(&self, what: &'static str) -> Option<Error> {
        let code = i32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?);
        (code < 0).then(|| Error::from_answer(what, code).with_detail(self.extended(4)))
    }

    /// The kernel's own words (extended acknowledgement).
    fn extended(&self, mut offset: usize) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        if self.kind == NLMSG_ERROR && self.flags & NLM_F_CAPPED == 0 {
            // The request is echoed in full before the attributes.
            let echoed = u32::from_ne_bytes(self.payload.get(4..8)?.try_into().ok()?) as usize;
            offset = (4 + echoed).next_multiple_of(4);
        }
        Attributes::after(self.payload, offset).find(NLMSGERR_ATTR_MSG).map(|a| a.string())
    }
}

pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        loop {
            let header = self.0.get(..HEADER)?;
            let length = u32::from_ne_bytes(header[0..4].try_into().ok()?) as usize;
            let message = Message {
                kind: u16::from_ne_bytes([header[4], header[5]]),
                flags: u16::from_ne_bytes([header[6], header[7]]),
                sequence: u32::from_ne_bytes(header[8..12].try_into().ok()?),
                payload: self.0.get(HEADER..length)?,
            };
            self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
            if message.kind != NLMSG_NOOP {
                return Some(message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_has_no_errno_is_an_error_too() {
        let errno = |code: i32| {
            let mut bytes = vec![0; HEADER];
            bytes[0] = HEADER as u8 + 4;
            bytes[4] = NLMSG_ERROR as u8;
            bytes.extend_from_slice(&code.to_ne_bytes());
            let message = Messages(&bytes).next().unwrap();
            message.error("test").map(|error| error.raw_os_error())
        };
        let malformed = Some(Errno::BADMSG.raw_os_error());
        assert_eq!((errno(0), errno(-19), errno(-4095)), (None, Some(19), Some(4095)));
        assert_eq!((errno(-4096), errno(7), errno(i32::MIN)), (malformed, malformed, malformed));
    }
}
