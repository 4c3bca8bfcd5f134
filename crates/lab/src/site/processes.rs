//! Commands that run in a lab's machines.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sys::ProcessStat;

use super::Site;
use crate::error::{Error, Result};
use crate::plan::{Part, Piece};

/// include/uapi/asm-generic/errno-base.h: there is no such file, or no such process.
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;

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
    pub(super) fn start(&mut self, pieces: &[Piece], started: &mut Vec<Started>) -> Result<()> {
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
            let mut child = child.map_err(Error::io(piece.to_string()))?;
            let process = Started::now(&piece.machine, command, child.id());
            let process = process.map_err(|error| {
                // Nobody would know of it.
                let _ = child.kill();
                Error::io(piece.to_string())(error)
            })?;
            started.push(process);
            // A thread waits for it as long as this process lives; after that it is init's.
            std::thread::spawn(move || child.wait());
        }
        Ok(())
    }
}

impl Started {
    /// The process that has the number now.
    pub(crate) fn now(machine: &str, command: &[String], pid: u32) -> io::Result<Self> {
        Ok(Started { machine: machine.to_owned(), command: command.to_vec(), pid, started: start_of(pid)? })
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
pub(crate) fn start_of(pid: u32) -> io::Result<u64> {
    Ok(ProcessStat::read(pid)?.started)
}

/// Whether the process may be there. One of which nothing can be read is, until it is known not to be.
fn is_there(process: &Started) -> bool {
    match start_of(process.pid) {
        Ok(started) => started == process.started,
        Err(error) => !matches!(error.raw_os_error(), Some(ENOENT | ESRCH)),
    }
}

/// How long a process may take to end when it is asked to.
const POLITE: Duration = Duration::from_millis(500);

/// Ends processes and their groups: asked first, and after half a second not asked any more. Returns how many there were.
pub(crate) fn end(processes: &[Started]) -> usize {
    use rustix::process::{Pid, Signal, kill_process_group};
    let alive: Vec<&Started> = processes.iter().filter(|process| is_there(process)).collect();
    let signal = |signal| {
        for process in alive.iter().filter(|process| is_there(process)) {
            if let Some(group) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
                // It may have ended meanwhile.
                let _ = kill_process_group(group, signal);
            }
        }
    };
    let wait = |patience: Duration| {
        let start = Instant::now();
        while alive.iter().any(|process| is_running(process)) && start.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    signal(Signal::TERM);
    wait(POLITE);
    signal(Signal::KILL);
    // On a loaded machine it takes its time to be scheduled, and die.
    wait(10 * POLITE);
    alive.len()
}

/// Whether it may run; a zombie does not, and holds nothing.
pub(crate) fn is_running(process: &Started) -> bool {
    is_there(process) && !ProcessStat::read(process.pid).is_ok_and(|stat| stat.has_ended())
}

/// Ends one process at once, if it is the one that was meant: what `is_meant` looks at cannot become another's while a handle on
/// the process is open. Returns whether it was.
pub(crate) fn end_one(pid: u32, is_meant: impl FnOnce() -> bool) -> bool {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    handle.is_some_and(|handle| is_meant() && pidfd_send_signal(handle, Signal::KILL).is_ok())
}
