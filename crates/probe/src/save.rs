//! Captured packets in files that stay readable whatever happens, and no larger than wanted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::capture::LinkType;
use crate::listening::Seen;
use crate::pcapng::{Interface, InterfaceId, PACKET_OVERHEAD_BYTES, STATISTICS_BYTES, Statistics, Writer};

/// What is collected before it is written.
const BUFFER_BYTES: usize = 256 << 10;

/// What is written, and how much of it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What the file says about its making.
    pub comment: String,
    /// Which program made it.
    pub application: String,
    /// On which system.
    pub os: String,
    /// The interfaces, in the order of their numbers.
    pub interfaces: Vec<Described>,
    /// As much of each packet is kept.
    pub snap_bytes: u32,
    /// The filter, in words.
    pub filter: Option<String>,
    /// A file grows no larger.
    pub limit_bytes: Option<u64>,
    /// So many files are kept, the newest ones, each as large as the limit; else there is one.
    pub files: Option<usize>,
}

/// An interface of a file.
#[derive(Debug, Clone)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub description: String,
    /// What its packets begin with.
    pub link: LinkType,
}

/// Where it is written to.
#[derive(Debug)]
pub enum Out {
    /// A file.
    File(Opened),
    /// A pipe.
    Stream(io::Stdout),
}

/// A file that can be written, and that nothing was done to.
#[derive(Debug)]
pub struct Opened {
    file: File,
    /// As it was given, and as it is where files take turns.
    base: PathBuf,
    path: PathBuf,
    is_new: bool,
}

impl Opened {
    /// Opens a file; the first of several, where they take turns.
    pub fn open(base: &Path, files: Option<usize>) -> io::Result<Self> {
        let path = if files.is_some() { numbered(base, 1) } else { base.to_owned() };
        let made = options().create_new(true).open(&path);
        let is_new = made.is_ok();
        let file = match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options().open(&path)?,
            made => made?,
        };
        Ok(Self { file, base: base.to_owned(), path, is_new })
    }

    /// Lets go of it: what was not there is not there again.
    pub fn abandon(self) {
        if self.is_new {
            let _ = std::fs::remove_file(self.path);
        }
    }

    /// Empties it. A device or a pipe is as it is.
    fn begin(self) -> io::Result<(Blocks, PathBuf)> {
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        Ok((Blocks::new(Sink::File(self.file), self.path), self.base))
    }
}

/// Packets are nobody else's business: they may have passwords in them.
fn options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is in the file.
    Kept,
    /// The file is as large as it may be, and there is no other.
    Full,
}

/// Why something is not in the file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", at.display())]
pub struct SaveError {
    /// The file.
    pub at: PathBuf,
    /// How many packets it has, all of which can be read.
    pub packets: u64,
    /// What happened.
    pub error: io::Error,
}

/// A capture's file, or the files that take turns.
#[derive(Debug)]
pub struct Save {
    settings: Settings,
    writer: Writer<Blocks>,
    base: Option<PathBuf>,
    number: usize,
    begun_ns: u64,
    received: Vec<u64>,
    dropped: Vec<u64>,
    total_bytes: u64,
}

impl Save {
    /// Begins.
    pub fn begin(out: Out, settings: Settings) -> Result<Self, SaveError> {
        let (blocks, base) = match out {
            Out::File(opened) => {
                let at = opened.path.clone();
                let begun = opened.begin().map_err(|error| SaveError { at, packets: 0, error })?;
                (begun.0, Some(begun.1))
            }
            Out::Stream(stdout) => (Blocks::new(Sink::Stream(stdout), PathBuf::from("stdout")), None),
        };
        let count = settings.interfaces.len();
        let writer = head(blocks, &settings)?;
        Ok(Self {
            settings,
            writer,
            base,
            number: 1,
            begun_ns: now_ns(),
            received: vec![0; count],
            dropped: vec![0; count],
            total_bytes: 0,
        })
    }

    /// Adds a packet of one of the interfaces.
    pub fn add(&mut self, interface: usize, packet: &Seen<'_>) -> Result<Added, SaveError> {
        if let Some(limit) = self.settings.limit_bytes {
            let block = PACKET_OVERHEAD_BYTES + packet.data.len().next_multiple_of(4) as u64;
            let end = STATISTICS_BYTES * self.settings.interfaces.len() as u64;
            if self.writer.get_mut().bytes() + block + end > limit {
                // One packet at least: a limit that is smaller is no use.
                let is_empty = self.received.iter().all(|received| *received == 0);
                match self.settings.files {
                    _ if is_empty => {}
                    Some(files) => self.turn(files)?,
                    None => return Ok(Added::Full),
                }
            }
        }
        self.received[interface] += 1;
        let done = self.writer.seen(InterfaceId::of(interface), packet);
        done.map_err(|error| self.writer.get_mut().told(error))?;
        Ok(Added::Kept)
    }

    /// Writes what was collected, for who reads along.
    pub fn flush(&mut self) -> Result<(), SaveError> {
        self.writer.flush().map_err(|error| self.writer.get_mut().told(error))
    }

    /// How many of an interface's packets the kernel has dropped by now.
    pub fn dropped(&mut self, interface: usize, dropped: u64) {
        self.dropped[interface] = dropped;
    }

    /// Writes what was counted, and returns how many bytes all files got.
    pub fn finish(mut self) -> Result<u64, SaveError> {
        self.close()?;
        Ok(self.total_bytes)
    }

    fn close(&mut self) -> Result<(), SaveError> {
        let to_ns = now_ns();
        for (n, (received, dropped)) in self.received.iter().zip(&self.dropped).enumerate() {
            let counted = Statistics {
                from_ns: self.begun_ns,
                to_ns,
                received: received + dropped,
                dropped: Some(*dropped),
            };
            let done = self.writer.statistics(InterfaceId::of(n), &counted);
            done.map_err(|error| self.writer.get_mut().told(error))?;
        }
        self.flush()?;
        self.total_bytes += self.writer.get_mut().whole_bytes;
        Ok(())
    }

    /// Goes on in the next file, and removes the oldest.
    fn turn(&mut self, files: usize) -> Result<(), SaveError> {
        let Some(base) = self.base.clone() else { return Ok(()) };
        self.close()?;
        self.number += 1;
        let path = numbered(&base, self.number);
        let failed = |at: &Path| {
            let at = at.to_owned();
            move |error| SaveError { at, packets: 0, error }
        };
        let file = options().create(true).truncate(true).open(&path).map_err(failed(&path))?;
        if self.number > files {
            let oldest = numbered(&base, self.number - files);
            match std::fs::remove_file(&oldest) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&oldest)(error)),
                _ => {}
            }
        }
        self.writer = head(Blocks::new(Sink::File(file), path), &self.settings)?;
        self.begun_ns = now_ns();
        self.received.fill(0);
        Ok(())
    }
}

/// `web.pcapng` becomes `web-00001.pcapng`.
pub fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default();
    let mut name = stem.to_owned();
    name.push(format!("-{number:05}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

fn head(blocks: Blocks, settings: &Settings) -> Result<Writer<Blocks>, SaveError> {
    let at = blocks.at.clone();
    let written = || -> io::Result<Writer<Blocks>> {
        let mut writer =
            Writer::begin_with(blocks, &settings.os, &settings.application, Some(&settings.comment))?;
        for described in &settings.interfaces {
            writer.introduce(&Interface {
                name: &described.name,
                description: &described.description,
                filter: settings.filter.as_deref(),
                link: described.link,
                snap_bytes: settings.snap_bytes,
            })?;
        }
        writer.flush()?;
        Ok(writer)
    };
    written().map_err(|error| SaveError { at, packets: 0, error })
}

#[derive(Debug)]
enum Sink {
    File(File),
    Stream(io::Stdout),
}

/// Collects blocks. Whatever could be written of them in the end, the file ends with a whole one.
#[derive(Debug)]
struct Blocks {
    sink: Sink,
    at: PathBuf,
    buffer: Vec<u8>,
    whole_bytes: u64,
    whole_packets: u64,
}

impl Blocks {
    fn new(sink: Sink, at: PathBuf) -> Self {
        Self { sink, at, buffer: Vec::with_capacity(BUFFER_BYTES * 2), whole_bytes: 0, whole_packets: 0 }
    }

    fn bytes(&self) -> u64 {
        self.whole_bytes + self.buffer.len() as u64
    }

    fn told(&self, error: io::Error) -> SaveError {
        SaveError { at: self.at.clone(), packets: self.whole_packets, error }
    }
}

impl Write for Blocks {
    /// Always a whole block.
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(block);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(block.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let mut failed = None;
        while written < self.buffer.len() {
            let rest = &self.buffer[written..];
            let done = match &mut self.sink {
                Sink::File(file) => file.write(rest),
                Sink::Stream(stdout) => stdout.write(rest),
            };
            match done {
                Ok(0) => failed = Some(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => failed = Some(error),
            }
            if failed.is_some() {
                break;
            }
        }
        let (bytes, packets) = whole(&self.buffer[..written]);
        self.whole_bytes += bytes as u64;
        self.whole_packets += packets;
        if let Some(error) = failed {
            // Nothing of what is left may be written later, behind the gap.
            self.buffer.clear();
            if let Sink::File(file) = &self.sink
                && bytes < written
            {
                file.set_len(self.whole_bytes)?;
            }
            return Err(error);
        }
        self.buffer.clear();
        match &mut self.sink {
            Sink::File(_) => Ok(()),
            Sink::Stream(stdout) => stdout.flush(),
        }
    }
}

/// How many bytes of these are whole blocks, and how many of the blocks are packets.
fn whole(bytes: &[u8]) -> (usize, u64) {
    let (mut at, mut packets) = (0, 0);
    while let Some(head) = bytes.get(at..at + 8) {
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = word(4) as usize;
        if length < 12 || at + length > bytes.len() {
            break;
        }
        packets += u64::from(word(0) == 6);
        at += length;
    }
    (at, packets)
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
