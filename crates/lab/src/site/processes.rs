//! Commands that run in a lab's machines.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use super::Site;
use crate::error::{Error, Result};
use crate::plan::{Part, Piece};

/// A process that a lab started. The number alone may be another's by now; with the time of its start it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The machine that it runs in.
    pub machine: String,
    /// What it is.
    pub command: Vec<String>,
    /// Its number, which is also that of its group.
    pub pid: u32,
    /// When it started, in clock ticks after the boot (field 22 of `/proc/PID/stat`).
    pub started: u64,
}

impl Site {
    /// Starts the commands among the pieces, each in a group of its own, with its output in a file of the lab's directory.
    pub(super) fn start(&mut self, pieces: &[Piece]) -> Result<Vec<Started>> {
        let mut all = Vec::new();
        for piece in pieces {
            let Part::Process(command) = &piece.part else { continue };
            let output = match &self.directory {
                Some(directory) => {
                    let path = directory.join("log").join(format!("{}.log", piece.machine));
                    let open = || File::options().create(true).append(true).open(&path);
                    let file = open().and_then(|file| Ok([file.try_clone()?.into(), file.into()]));
                    file.map_err(Error::io(piece.to_string()))?
                }
                None => [Stdio::null(), Stdio::null()],
            };
            let room = self.room(piece)?;
            let child = room.netns.run(|| spawn(command, output)).map_err(Error::io(piece.to_string()))?;
            let child = child.map_err(Error::io(piece.to_string()))?;
            let pid = child.id();
            let started = start_of(pid)
                .ok_or_else(|| Error::io(piece.to_string())(std::io::ErrorKind::NotFound.into()))?;
            // A thread waits for it as long as this process lives; after that it is init's.
            std::thread::spawn(move || {
                let mut child = child;
                child.wait()
            });
            all.push(Started { machine: piece.machine.clone(), command: command.clone(), pid, started });
        }
        Ok(all)
    }
}

#[expect(clippy::disallowed_methods, reason = "the user's own command")]
fn spawn(command: &[String], output: [Stdio; 2]) -> std::io::Result<Child> {
    let [out, err] = output;
    Command::new(&command[0])
        .args(&command[1..])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
}

/// When the process started, in clock ticks after the boot.
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may contain some.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Ends processes and their groups: asked first, and after half a second not asked any more. Returns how many there were.
pub(crate) fn end(processes: &[Started]) -> usize {
    use rustix::process::{Pid, Signal, kill_process_group};
    let is_alive = |process: &&Started| start_of(process.pid) == Some(process.started);
    let alive: Vec<&Started> = processes.iter().filter(is_alive).collect();
    let signal = |signal| {
        for process in alive.iter().filter(|process| is_alive(process)) {
            if let Some(group) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
                // It may have ended meanwhile.
                let _ = kill_process_group(group, signal);
            }
        }
    };
    signal(Signal::TERM);
    let patience = std::time::Instant::now();
    while alive.iter().any(|process| is_running(process)) && patience.elapsed().as_millis() < 500 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    signal(Signal::KILL);
    alive.len()
}

/// Whether it runs; a zombie does not, and holds nothing.
pub(crate) fn is_running(process: &Started) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    start_of(process.pid) == Some(process.started) && !matches!(state, None | Some('Z' | 'X'))
}

/// Ends one process at once, if it is the one that was meant: what `is_meant` looks at cannot become another's while a handle on
/// the process is open. Returns whether it was.
pub(crate) fn end_one(pid: u32, is_meant: impl FnOnce() -> bool) -> bool {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    handle.is_some_and(|handle| is_meant() && pidfd_send_signal(handle, Signal::KILL).is_ok())
}
