//! Files of lines, for journals: each line is on disk before the next thing happens.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Locked;

/// A file of lines, open for one writer at a time.
#[derive(Debug)]
pub struct LineFile {
    file: Locked,
    length: u64,
}

impl LineFile {
    /// Opens a file, making it and its directory if need be, once no other writer has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::begin(Locked::exclusive(open(path)?)?, path)
    }

    /// The same, but `None` when another writer has it.
    pub fn try_open(path: &Path) -> io::Result<Option<Self>> {
        Locked::try_exclusive(open(path)?)?.map(|file| Self::begin(file, path)).transpose()
    }

    /// Removes what a killed writer left of its last line, so that the next one begins at the start of a line.
    fn begin(mut file: Locked, path: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text)?;
        let length = whole(&text).len();
        if length < text.len() {
            file.set_len(length as u64)?;
        }
        // A new file is only on disk once its name is.
        if let Some(directory) = path.parent().filter(|_| length == 0) {
            File::open(directory)?.sync_all()?;
        }
        Ok(Self { file, length: length as u64 })
    }

    /// Appends a line, which must not contain a line end, and waits until it is on disk.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.append_all(&[line.to_vec()])
    }

    /// Appends lines and waits once until all are on disk. After an error none of them is there.
    pub fn append_all(&mut self, lines: &[Vec<u8>]) -> io::Result<()> {
        let text: Vec<u8> = lines.iter().flat_map(|line| line.iter().chain(b"\n")).copied().collect();
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.length += text.len() as u64,
            // A full disk may have taken a part.
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }
}

/// The process that has a file of lines open for writing, as far as it can be told: by the kernel's list of locks, where device and
/// inode name the file. (btrfs and overlayfs show another device there than stat does: the inode has to do.)
pub fn writer(path: &Path) -> Option<u32> {
    let inode = path.metadata().ok()?.ino();
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| flock_holder(line, inode))
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:131080 0 EOF`: the pid, if the line is about this inode. Those who wait have `->` before FLOCK.
fn flock_holder(line: &str, inode: u64) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let is_flock = fields.next()? == "FLOCK";
    let pid = fields.nth(2)?.parse().ok()?;
    let on = fields.next()?.rsplit(':').next()?.parse() == Ok(inode);
    (is_flock && on && pid > 0).then_some(pid)
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    File::options().read(true).append(true).create(true).open(path)
}

/// The part of `text` that consists of whole lines: a writer may have been killed in the middle of the last one.
pub fn whole(text: &[u8]) -> &[u8] {
    text.iter().rposition(|byte| *byte == b'\n').map_or(&[], |end| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_a_lock_does_not_have_it() {
        assert_eq!(flock_holder("1: FLOCK  ADVISORY  WRITE 4711 fe:00:131080 0 EOF", 131_080), Some(4711));
        for other in [
            "1: -> FLOCK  ADVISORY  WRITE 4712 fe:00:131080 0 EOF",
            "2: POSIX  ADVISORY  WRITE 4713 fe:00:131080 0 EOF",
            "3: FLOCK  ADVISORY  WRITE 4714 fe:00:131081 0 EOF",
            "4: FLOCK  ADVISORY  WRITE 0 fe:00:131080 0 EOF",
            "5: FLOCK",
        ] {
            assert_eq!(flock_holder(other, 131_080), None, "{other}");
        }
    }

    #[test]
    fn a_torn_line_is_cut_and_one_writer_at_a_time() {
        let directory = std::env::temp_dir().join(format!("podplumb-lines-{}", std::process::id()));
        let path = directory.join("a/journal");
        let mut first = LineFile::open(&path).unwrap();
        assert!(LineFile::try_open(&path).unwrap().is_none());
        assert_eq!(writer(&path), Some(std::process::id()));
        first.append(b"one").unwrap();
        drop(first);
        File::options().append(true).open(&path).unwrap().write_all(b"tw").unwrap();
        let mut second = LineFile::try_open(&path).unwrap().expect("nobody has it");
        second.append(b"two").unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::remove_dir_all(directory).unwrap();
        assert_eq!(text, b"one\ntwo\n");
        assert_eq!(whole(b"one\ntw"), b"one\n");
        assert_eq!(whole(b"tw"), b"");
    }
}
