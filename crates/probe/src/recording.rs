//! A capture that goes into a file as it happens.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::IfIndex;

use crate::capture::{Capture, Counts, LinkType, Packet};
use crate::pcapng::{InterfaceId, Statistics, Writer};

/// A capture and its file, or one of several captures in a file.
#[derive(Debug)]
pub struct Recording {
    capture: Capture,
    place: String,
    snap_bytes: u32,
    from_ns: u64,
    interfaces: BTreeMap<(IfIndex, LinkType), (InterfaceId, u64)>,
}

impl Recording {
    /// Of a capture that is open. `place` says in the file where it is: a pod, a machine.
    pub fn of(capture: Capture, place: &str, snap_bytes: u32) -> Self {
        Self { capture, place: place.to_owned(), snap_bytes, from_ns: now_ns(), interfaces: BTreeMap::new() }
    }

    /// Writes what has been seen, and what is seen until `deadline`; each packet is shown to `each`, and false from there ends it earlier. What is
    /// written is flushed whenever there is nothing more at the moment.
    pub fn write<W: Write>(
        &mut self,
        writer: &mut Writer<W>,
        deadline: Instant,
        mut each: impl FnMut(&Packet) -> bool,
    ) -> io::Result<()> {
        loop {
            let mut batch = Vec::new();
            self.capture.take(deadline, |packet| batch.push(packet))?;
            if batch.is_empty() {
                writer.flush()?;
            }
            for packet in &batch {
                self.add(writer, packet)?;
                if !each(packet) {
                    return writer.flush();
                }
            }
            if batch.is_empty() && Instant::now() >= deadline {
                return Ok(());
            }
        }
    }

    fn add<W: Write>(&mut self, writer: &mut Writer<W>, packet: &Packet) -> io::Result<()> {
        let key = (packet.interface, packet.link);
        if !self.interfaces.contains_key(&key) {
            let name = match self.capture.interface_name(packet.interface) {
                Some(name) => name.to_owned(),
                None => format!("if{}", packet.interface),
            };
            let description = format!("{name} of {}", self.place);
            let id = writer.interface(&name, &description, packet.link, self.snap_bytes)?;
            self.interfaces.insert(key, (id, 0));
        }
        if let Some((id, received)) = self.interfaces.get_mut(&key) {
            *received += 1;
            writer.packet(*id, packet)?;
        }
        Ok(())
    }

    /// Writes what was counted, and returns it.
    pub fn finish<W: Write>(mut self, writer: &mut Writer<W>) -> io::Result<Counts> {
        let counts = self.capture.counts()?;
        let (from_ns, to_ns) = (self.from_ns, now_ns());
        // Which interface's packets were lost is not known: the first one's statistics have all.
        let mut dropped = Some(counts.dropped);
        for (id, received) in self.interfaces.into_values() {
            writer.statistics(id, &Statistics { from_ns, to_ns, received, dropped: dropped.take() })?;
        }
        writer.flush()?;
        Ok(counts)
    }
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
