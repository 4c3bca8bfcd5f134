//! One file of the journal, as <https://systemd.io/JOURNAL_FILE_FORMAT> describes it.
//!
//! journald may write to it at the same time, and anybody may have damaged it: nothing that it says is believed before it was
//! compared with the file's length, chains only lead onwards, and there is a [`Budget`]. What is broken reads as `None`.

use std::cell::Cell;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::compressed::Storage;
use super::hash;

/// How much may be read of all files together.
pub(in crate::logs) struct Budget {
    until: Instant,
    blocks: Cell<u32>,
}

impl Budget {
    pub(in crate::logs) fn new(time: Duration, blocks: u32) -> Self {
        Self { until: Instant::now() + time, blocks: Cell::new(blocks) }
    }

    pub(in crate::logs) fn is_spent(&self) -> bool {
        self.blocks.get() == 0 || Instant::now() >= self.until
    }

    fn take_block(&self) -> Option<()> {
        self.blocks.set(self.blocks.get().checked_sub(1)?);
        Some(())
    }
}

const BLOCK_BYTES: usize = 16 << 10;
const BLOCKS_KEPT: usize = 64;
/// The header as it was in the first version.
const HEADER_BYTES: usize = 208;
const OBJECT_BYTES: u64 = 16;
const ENTRY_BYTES: u64 = 64;
const ENTRY_ARRAY_BYTES: u64 = 24;
const DATA: u8 = 1;
const ENTRY: u8 = 3;
const ENTRY_ARRAY: u8 = 6;

/// A file that says so may have another layout than those that are known.
const XZ: u32 = 1;
const LZ4: u32 = 2;
const KEYED_HASH: u32 = 4;
const ZSTD: u32 = 8;
const COMPACT: u32 = 16;

/// Values with the same hash. journald starts a new file long before.
const LONGEST_CHAIN: usize = 1024;
/// Each array of entries is twice as long as the one before.
const MOST_ARRAYS: usize = 64;
/// Fields of an entry. journald takes no more.
const MOST_FIELDS: u64 = 1024;
/// Stored bytes of a value that are read.
const LONGEST_BYTES: u64 = 64 << 10;
const MESSAGE: &[u8] = b"MESSAGE=";

/// A file whose header is sound.
pub(in crate::logs) struct Journal<'b> {
    file: File,
    bytes: u64,
    budget: &'b Budget,
    blocks: VecDeque<(u64, Vec<u8>)>,
    header_bytes: u64,
    file_id: [u8; 16],
    flags: u32,
    hash_table: u64,
    hash_table_bytes: u64,
    newest: u64,
    /// Values that many entries share: none of them is a message.
    not_messages: HashSet<u64>,
}

/// What an entry says.
pub(super) struct Message {
    /// In microseconds since 1970.
    pub(super) at_us: u64,
    pub(super) text: Vec<u8>,
}

/// A value of a field.
struct Value {
    next: u64,
    hash: u64,
    first_entry: u64,
    entry_array: u64,
    entries: u64,
}

/// The entries that have a value, from the last to the first.
pub(super) struct Entries {
    first: u64,
    /// Where the items of each array begin, and how many are left.
    arrays: Vec<(u64, u64)>,
}

impl<'b> Journal<'b> {
    pub(in crate::logs) fn open(file: File, budget: &'b Budget) -> Option<Self> {
        let stat = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let mut journal = Self {
            file,
            bytes: stat.len(),
            budget,
            blocks: VecDeque::new(),
            header_bytes: 0,
            file_id: [0; 16],
            flags: 0,
            hash_table: 0,
            hash_table_bytes: 0,
            newest: 0,
            not_messages: HashSet::new(),
        };
        let header: [u8; HEADER_BYTES] = journal.read(0)?;
        journal.flags = u32::from_le_bytes(part(&header, 12));
        if !header.starts_with(b"LPKSHHRH") || journal.flags & !(XZ | LZ4 | KEYED_HASH | ZSTD | COMPACT) != 0
        {
            return None;
        }
        journal.file_id = part(&header, 24);
        journal.header_bytes = u64_at(&header, 88);
        journal.hash_table = u64_at(&header, 104);
        journal.hash_table_bytes = u64_at(&header, 112);
        journal.newest = u64_at(&header, 192);
        (journal.header_bytes >= HEADER_BYTES as u64).then_some(journal)
    }

    /// When its last entry was written, in microseconds since 1970.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// The entries with this field and value (`FIELD=value`).
    pub(super) fn entries_with(&mut self, field: &[u8]) -> Option<Entries> {
        let hash = match self.flags & KEYED_HASH {
            0 => hash::jenkins(field),
            _ => hash::keyed(field, &self.file_id),
        };
        let bucket = hash.checked_rem(self.hash_table_bytes / 16)?;
        let item = self.hash_table.checked_add(bucket * 16)?;
        let mut offset = u64::from_le_bytes(self.read(item)?);
        for _ in 0..LONGEST_CHAIN {
            let value = self.value(offset)?;
            if value.hash == hash && self.content(offset)? == field {
                return self.entries(&value);
            }
            if value.next <= offset {
                return None;
            }
            offset = value.next;
        }
        None
    }

    fn entries(&mut self, value: &Value) -> Option<Entries> {
        // The first is in the value itself.
        let mut left = value.entries.checked_sub(1)?;
        let mut arrays = Vec::new();
        let mut offset = value.entry_array;
        while left > 0 && arrays.len() < MOST_ARRAYS {
            // journald may be about to write what comes next.
            let Some(bytes) = self.object(offset, ENTRY_ARRAY) else { break };
            let items = (bytes.checked_sub(ENTRY_ARRAY_BYTES)? / self.item_bytes(8)).min(left);
            arrays.push((offset + ENTRY_ARRAY_BYTES, items));
            left -= items;
            let next = u64::from_le_bytes(self.read(offset + 16)?);
            if next <= offset {
                break;
            }
            offset = next;
        }
        Some(Entries { first: value.first_entry, arrays })
    }

    /// The message of an entry.
    pub(super) fn message(&mut self, entry: u64) -> Option<Message> {
        let bytes = self.object(entry, ENTRY)?;
        let at_us = u64::from_le_bytes(self.read(entry + 24)?);
        let item_bytes = self.item_bytes(16);
        let items = (bytes.checked_sub(ENTRY_BYTES)? / item_bytes).min(MOST_FIELDS);
        let mut values = Vec::new();
        for item in 0..items {
            values.push(self.offset_at(entry + ENTRY_BYTES + item * item_bytes)?);
        }
        // A message is written for its entry, most other values were there: the last in the file is likely to be it.
        values.sort_unstable_by(|a, b| b.cmp(a));
        for value in values {
            if self.not_messages.contains(&value) {
                continue;
            }
            // One value that is too long, or broken, does not hide the others.
            if let Some(content) = self.content_if(value, MESSAGE) {
                return Some(Message { at_us, text: content[MESSAGE.len()..].to_vec() });
            }
            if self.not_messages.len() >= 1 << 16 {
                self.not_messages.clear();
            }
            self.not_messages.insert(value);
        }
        None
    }

    /// The length of the object at this place, which has to be of this kind.
    fn object(&mut self, offset: u64, kind: u8) -> Option<u64> {
        self.header(offset, kind).map(|(bytes, _)| bytes)
    }

    /// Its length and its flags.
    fn header(&mut self, offset: u64, kind: u8) -> Option<(u64, u8)> {
        if offset < self.header_bytes || !offset.is_multiple_of(8) {
            return None;
        }
        let header: [u8; OBJECT_BYTES as usize] = self.read(offset)?;
        let bytes = u64_at(&header, 8);
        let is_inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        (header[0] == kind && bytes >= OBJECT_BYTES && is_inside).then_some((bytes, header[1]))
    }

    fn value(&mut self, offset: u64) -> Option<Value> {
        self.object(offset, DATA)?;
        let fields: [u8; 48] = self.read(offset + OBJECT_BYTES)?;
        Some(Value {
            hash: u64_at(&fields, 0),
            next: u64_at(&fields, 8),
            first_entry: u64_at(&fields, 24),
            entry_array: u64_at(&fields, 32),
            entries: u64_at(&fields, 40),
        })
    }

    /// `FIELD=value` of a value.
    fn content(&mut self, offset: u64) -> Option<Vec<u8>> {
        self.content_if(offset, b"")
    }

    /// `FIELD=value`, if it begins like that.
    fn content_if(&mut self, offset: u64, begin: &[u8]) -> Option<Vec<u8>> {
        let (bytes, flags) = self.header(offset, DATA)?;
        let head = if self.is_compact() { 72 } else { 64 };
        let length = bytes.checked_sub(head)?;
        let storage = Storage::of(flags);
        if storage == Storage::Plain && length >= begin.len() as u64 {
            let start = self.read_some(offset + head, begin.len())?;
            if start != begin {
                return None;
            }
        }
        // A plain one may be cut, a compressed one may not.
        let is_whole = length <= LONGEST_BYTES;
        if storage != Storage::Plain && !is_whole {
            return None;
        }
        let stored = self.read_some(offset + head, usize::try_from(length.min(LONGEST_BYTES)).ok()?)?;
        storage.unpack(stored).filter(|content| content.starts_with(begin))
    }

    fn is_compact(&self) -> bool {
        self.flags & COMPACT != 0
    }

    /// The length of an item in a list of offsets, which compact files have shorter.
    fn item_bytes(&self, regular: u64) -> u64 {
        if self.is_compact() { 4 } else { regular }
    }

    fn offset_at(&mut self, place: u64) -> Option<u64> {
        match self.is_compact() {
            true => self.read(place).map(|bytes| u64::from(u32::from_le_bytes(bytes))),
            false => self.read(place).map(u64::from_le_bytes),
        }
    }

    fn read<const N: usize>(&mut self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.copy(offset, &mut bytes)?;
        Some(bytes)
    }

    fn read_some(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.copy(offset, &mut bytes)?;
        Some(bytes)
    }

    fn copy(&mut self, mut offset: u64, mut to: &mut [u8]) -> Option<()> {
        while !to.is_empty() {
            let (block, skip) = (offset / BLOCK_BYTES as u64, (offset % BLOCK_BYTES as u64) as usize);
            let from = self.block(block)?.get(skip..).filter(|from| !from.is_empty())?;
            let length = from.len().min(to.len());
            to[..length].copy_from_slice(&from[..length]);
            to = &mut to[length..];
            offset = offset.checked_add(length as u64)?;
        }
        Some(())
    }

    /// A block of the file, which is shorter at its end.
    fn block(&mut self, number: u64) -> Option<&[u8]> {
        match self.blocks.iter().position(|(kept, _)| *kept == number) {
            Some(0) => {}
            Some(at) => {
                let block = self.blocks.remove(at)?;
                self.blocks.push_front(block);
            }
            None => {
                let offset = number * BLOCK_BYTES as u64;
                // Not what was appended since it was opened: nothing leads there.
                let length = self.bytes.checked_sub(offset)?.min(BLOCK_BYTES as u64);
                self.budget.take_block()?;
                let mut block = vec![0; usize::try_from(length).ok()?];
                self.file.read_exact_at(&mut block, offset).ok()?;
                self.blocks.truncate(BLOCKS_KEPT - 1);
                self.blocks.push_front((number, block));
            }
        }
        self.blocks.front().map(|(_, block)| block.as_slice())
    }
}

impl Entries {
    /// The one before.
    pub(super) fn previous(&mut self, journal: &mut Journal<'_>) -> Option<u64> {
        let item_bytes = journal.item_bytes(8);
        while let Some((items, left)) = self.arrays.last_mut() {
            if *left == 0 {
                self.arrays.pop();
                continue;
            }
            *left -= 1;
            let place = *items + *left * item_bytes;
            // A nought is a place that journald has kept for what comes.
            match journal.offset_at(place)? {
                0 if journal.budget.is_spent() => return None,
                0 => {}
                offset => return Some(offset),
            }
        }
        Some(std::mem::take(&mut self.first)).filter(|first| *first > 0)
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(part(bytes, at))
}
