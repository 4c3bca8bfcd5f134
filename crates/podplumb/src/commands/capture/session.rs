//! Packets from interfaces into a file and onto the terminal, until it is enough.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use analyze::render::printable;
use probe::listening::{DELAY, Listening, Seen, State};
use probe::save::{Added, Save, SaveError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::line::Lines;
use super::place::Open;
use crate::output::{Ended, hinted, note};

/// Packets of several interfaces are passed on in the order of their times: so long after them no older ones come.
const TURN_NS: u64 = 2 * DELAY.as_nanos() as u64;
/// How often it is looked whether packets were dropped, and whether an interface that is down has come back.
const TICK: Duration = Duration::from_millis(500);

/// When it is enough.
pub(super) struct Limits {
    pub(super) packets: Option<u64>,
    pub(super) until: Option<Instant>,
}

pub(super) struct Session {
    places: Vec<Open>,
    sink: Sink,
    /// What is held back until older packets of other interfaces have come.
    waiting: BinaryHeap<Reverse<Waiting>>,
    until: Option<Instant>,
}

/// A packet that waits for its turn.
struct Waiting {
    at_ns: u64,
    /// How many came before.
    number: usize,
    place: usize,
    packet: Seen<'static>,
}

/// Where packets go.
struct Sink {
    names: Vec<String>,
    written: Vec<u64>,
    save: Option<Save>,
    lines: Option<Lines>,
    left: u64,
    ended: Option<Why>,
}

/// Why no more packets are taken.
enum Why {
    Enough,
    /// Nobody reads any more.
    Unread,
    Unsaved(SaveError),
    Unprinted(io::Error),
}

impl Session {
    pub(super) fn new(places: Vec<Open>, save: Option<Save>, lines: Option<Lines>, limits: Limits) -> Self {
        let names: Vec<String> = places.iter().map(|place| place.name.clone()).collect();
        let (left, written) = (limits.packets.unwrap_or(u64::MAX), vec![0; places.len()]);
        let sink = Sink { names, written, save, lines, left, ended: None };
        Self { places, sink, waiting: BinaryHeap::new(), until: limits.until }
    }

    pub(super) fn run(mut self, stopped: &OwnedFd) -> anyhow::Result<Ended> {
        let mut next_tick = Instant::now() + TICK;
        while self.sink.ended.is_none() && self.places.iter().any(|place| place.listening.is_some()) {
            let now = Instant::now();
            if self.until.is_some_and(|until| now >= until) || self.wait(stopped, next_tick)? {
                break;
            }
            self.read();
            self.pass_on(now_ns().saturating_sub(TURN_NS));
            let is_tick = Instant::now() >= next_tick;
            for (place, written) in self.places.iter_mut().zip(&self.sink.written) {
                place.look_after(is_tick, *written);
                if is_tick {
                    place.count(true);
                }
            }
            if is_tick {
                next_tick = Instant::now() + TICK;
            }
        }
        self.finish()
    }

    /// Waits for packets; true: a signal came.
    fn wait(&self, stopped: &OwnedFd, next_tick: Instant) -> anyhow::Result<bool> {
        let until = self.until.map_or(next_tick, |until| until.min(next_tick));
        let mut left = until.saturating_duration_since(Instant::now());
        if !self.waiting.is_empty() {
            left = left.min(DELAY / 2);
        }
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let listening = self.places.iter().filter(|place| !place.is_down && place.gone_since.is_none());
        let rings = listening.filter_map(|place| place.listening.as_ref()).map(Listening::as_fd);
        let mut polled: Vec<PollFd<'_>> = [stopped.as_fd()]
            .into_iter()
            .chain(rings)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut polled, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) | Ok(0) => Ok(false),
            Ok(_) => Ok(!polled[0].revents().is_empty()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes what the kernel has.
    fn read(&mut self) {
        let is_alone = self.places.len() == 1;
        for (n, place) in self.places.iter_mut().enumerate() {
            let Some(listening) = &mut place.listening else { continue };
            let (sink, waiting) = (&mut self.sink, &mut self.waiting);
            listening.read(|seen| match is_alone {
                true => sink.add(n, seen),
                false => {
                    let (at_ns, number) = (seen.at_ns, waiting.len());
                    waiting.push(Reverse(Waiting { at_ns, number, place: n, packet: seen.to_owned() }));
                }
            });
        }
    }

    /// Passes on what was seen before, in its order, whichever interface it was seen on.
    fn pass_on(&mut self, before_ns: u64) {
        while self.waiting.peek().is_some_and(|next| next.0.at_ns < before_ns) {
            if let Some(Reverse(next)) = self.waiting.pop() {
                self.sink.add(next.place, &next.packet);
            }
        }
        self.sink.flush();
    }

    /// Reads what is left, and says what was counted.
    fn finish(mut self) -> anyhow::Result<Ended> {
        if self.sink.ended.is_none() {
            for listening in self.places.iter().filter_map(|place| place.listening.as_ref()) {
                let _ = listening.stop();
            }
            std::thread::sleep(DELAY);
            self.read();
            self.pass_on(u64::MAX);
        }
        for (n, place) in self.places.iter_mut().enumerate() {
            place.count(false);
            if let Some(save) = &mut self.sink.save {
                save.dropped(n, place.counts.dropped);
            }
        }
        let Sink { save, ended, written, .. } = self.sink;
        let saved = match (&ended, save) {
            (Some(Why::Unsaved(_) | Why::Unread), _) | (_, None) => None,
            (_, Some(save)) => Some(save.finish()),
        };
        summary(&self.places, &written);
        match (ended, saved) {
            (Some(Why::Unsaved(error)), _) | (_, Some(Err(error))) => match is_unread(&error.error) {
                true => Ok(Ended::Fine),
                false => Err(unsaved(error)),
            },
            (Some(Why::Unprinted(error)), _) => Err(error.into()),
            _ => Ok(Ended::Fine),
        }
    }
}

impl Sink {
    /// Adds a packet of an interface, unless it is enough.
    fn add(&mut self, n: usize, seen: &Seen<'_>) {
        if self.ended.is_some() {
            return;
        }
        match self.save.as_mut().map(|save| save.add(n, seen)) {
            None | Some(Ok(Added::Kept)) => {}
            Some(Ok(Added::Full)) => {
                self.ended = Some(Why::Enough);
                return;
            }
            Some(Err(error)) => {
                self.ended = Some(Why::Unsaved(error));
                return;
            }
        }
        if let Some(lines) = &mut self.lines
            && let Err(error) = lines.show(&self.names[n], seen)
        {
            self.unprinted(error);
        }
        self.written[n] += 1;
        self.left -= 1;
        if self.left == 0 && self.ended.is_none() {
            self.ended = Some(Why::Enough);
        }
    }

    /// For who reads along.
    fn flush(&mut self) {
        if let (Some(save), false) = (&mut self.save, matches!(self.ended, Some(Why::Unsaved(_))))
            && let Err(error) = save.flush()
        {
            self.ended = Some(Why::Unsaved(error));
        }
        if let Some(lines) = &mut self.lines
            && let Err(error) = lines.flush()
        {
            self.unprinted(error);
        }
    }

    fn unprinted(&mut self, error: io::Error) {
        let why = if is_unread(&error) { Why::Unread } else { Why::Unprinted(error) };
        self.ended.get_or_insert(why);
    }
}

impl Open {
    /// Says it when the interface goes down or away, and when it comes back.
    fn look_after(&mut self, is_tick: bool, written: u64) {
        let Some(listening) = &mut self.listening else { return };
        if let Some(since) = self.gone_since {
            // What was seen before it went away has been read, and passed on, by then.
            if since.elapsed() > DELAY * 3 {
                self.count(false);
                self.listening = None;
                let name = printable(&self.name);
                note(format_args!("{name} is gone: {} captured there", packets(written)));
            }
            return;
        }
        let may_have_changed = listening.is_disturbed() || self.is_down && is_tick;
        if !may_have_changed {
            return;
        }
        let name = printable(&self.name);
        match listening.state() {
            State::Gone => self.gone_since = Some(Instant::now()),
            State::Down if !self.is_down => {
                self.is_down = true;
                note(format_args!("{name} is down"));
            }
            State::Up if self.is_down => {
                self.is_down = false;
                note(format_args!("{name} is up again"));
            }
            State::Up | State::Down => {}
        }
    }

    /// Asks the kernel what it had to drop; the first time that it had to, and whenever it was more, that is told.
    fn count(&mut self, tell: bool) {
        let Some(counts) = self.listening.as_mut().and_then(|listening| listening.counts().ok()) else {
            return;
        };
        let more = counts.dropped - self.counts.dropped;
        self.counts = counts;
        if tell && more > 0 {
            let name = printable(&self.name);
            note(format_args!(
                "{name}: the kernel dropped {} that nobody read in time ({} by now)",
                packets(more),
                counts.dropped
            ));
        }
    }
}

fn is_unread(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

fn summary(places: &[Open], written: &[u64]) {
    let mut dropped = 0;
    for (place, written) in places.iter().zip(written) {
        dropped += place.counts.dropped;
        if places.len() > 1 {
            let name = printable(&place.name);
            note(format_args!(
                "{name}: {}, {} dropped by the kernel",
                packets(*written),
                place.counts.dropped
            ));
        }
    }
    note(format_args!("{}, {dropped} dropped by the kernel", packets(written.iter().sum())));
}

fn packets(count: u64) -> String {
    if count == 1 { "1 packet".to_owned() } else { format!("{count} packets") }
}

/// The older one first.
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// What is in the file stays readable; what came later is not in it.
pub(super) fn unsaved(error: SaveError) -> anyhow::Error {
    let SaveError { at, packets: whole, error } = error;
    let rest = match whole {
        0 => String::new(),
        1 => "; its first packet can be read".to_owned(),
        count => format!("; its first {count} packets can be read"),
    };
    let what = format!("cannot write {}: {error}{rest}", at.display());
    hinted(what, "make room, or limit what is written with --size, --ring, --snap or a filter")
}
