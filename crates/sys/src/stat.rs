//! What procfs says of a process in one line.

use std::io;

/// A process as its `stat` has it (proc_pid_stat(5)). The number alone may be another's by now; with the time of its start it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// `R`, `S`, `D`, and `Z` for one that ended and was not waited for.
    pub state: char,
    /// Who made it, or took it over.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// When it started, in clock ticks after the boot.
    pub started: u64,
}

impl ProcessStat {
    /// Of the process that has the number now.
    pub fn read(pid: u32) -> io::Result<Self> {
        Self::read_below(&format!("/proc/{pid}"))
    }

    /// Of the process or thread whose directory in procfs this is.
    pub fn read_below(directory: &str) -> io::Result<Self> {
        let line = std::fs::read(format!("{directory}/stat"))?;
        Self::parse(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Of the file's content.
    pub fn parse(line: &[u8]) -> Option<Self> {
        // The command's name is in brackets and may contain anything, brackets, spaces and bytes that are no UTF-8 included.
        let after = line.iter().rposition(|byte| *byte == b')')? + 1;
        let mut fields = std::str::from_utf8(&line[after..]).ok()?.split_ascii_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            started: fields.nth(16)?.parse().ok()?,
        })
    }

    /// Whether it ended and was not waited for: it holds nothing any more, but threads of it may still run.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_odd_bytes_moves_no_field() {
        let line = b"812 (a) Z 7 \xff() S 1 812 700 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 10123 9 0\n";
        let expected = ProcessStat { state: 'S', parent: 1, group: 812, started: 10123 };
        assert_eq!(ProcessStat::parse(line), Some(expected));
        for cut in ["", "812 (sh", "812 (sh)", "812 (sh) S 1"] {
            assert_eq!(ProcessStat::parse(cut.as_bytes()), None, "{cut:?}");
        }
    }

    #[test]
    fn the_own_process_runs_and_has_a_parent() {
        let own = ProcessStat::read(std::process::id()).unwrap();
        assert!(!own.has_ended() && own.parent == std::os::unix::process::parent_id(), "{own:?}");
        assert!(ProcessStat::read(u32::MAX).is_err());
    }
}
