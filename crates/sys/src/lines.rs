//! Files of lines, for journals: each line is on disk before the next thing happens.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A file of lines, open for one writer at a time.
#[derive(Debug)]
pub struct LineFile {
    file: File,
    length: u64,
}

impl LineFile {
    /// Opens a file, making it and its directory if need be, once no other writer has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        file.lock()?;
        Self::begin(file, path)
    }

    /// The same, but `None` when another writer has it.
    pub fn try_open(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Self::begin(file, path).map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes what a killed writer left of its last line, so that the next one begins at the start of a line.
    fn begin(mut file: File, path: &Path) -> io::Result<Self> {
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
        let line = [line, b"\n"].concat();
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.length += line.len() as u64,
            // A full disk may have taken a part.
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }
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
    fn a_torn_line_is_cut_and_one_writer_at_a_time() {
        let directory = std::env::temp_dir().join(format!("podplumb-lines-{}", std::process::id()));
        let path = directory.join("a/journal");
        let mut first = LineFile::open(&path).unwrap();
        assert!(LineFile::try_open(&path).unwrap().is_none());
        first.append(b"one").unwrap();
        drop(first);
        File::options().append(true).open(&path).unwrap().write_all(b"tw").unwrap();
        // A process that another test starts has our descriptors until it is another program, and with them the lock.
        let mut second = LineFile::open(&path).unwrap();
        second.append(b"two").unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::remove_dir_all(directory).unwrap();
        assert_eq!(text, b"one\ntwo\n");
        assert_eq!(whole(b"one\ntw"), b"one\n");
        assert_eq!(whole(b"tw"), b"");
    }
}
