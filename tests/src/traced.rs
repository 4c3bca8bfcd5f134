//! A program to which something happens at one of its system calls.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use sys::trace::{End, SystemCall, Tracee};

/// A program that runs longer hangs. Plugins take milliseconds; on a loaded machine, seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is killed, and the system call not made.
    Kill,
    /// The system call is not made and returns this error.
    Refuse(Errno),
}

/// How it went.
#[derive(Debug)]
pub struct Traced {
    /// How the program ended.
    pub end: End,
    /// Whether it was killed because it did not end.
    pub hung: bool,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    /// The system call at which it happened; `None` when the program ended before.
    pub at: Option<SystemCall>,
    /// The system calls before that, if a fault was to happen.
    pub calls: Vec<SystemCall>,
}

/// Runs a program with `input` on stdin. At its system call number `fault.0`, counted from 0 after exec, the fault happens.
/// Its children are left alone.
pub fn run_traced(command: &mut Command, input: &[u8], fault: Option<(usize, Fault)>) -> Traced {
    let number = fault.map(|(number, _)| number);
    let mut at = 0..;
    run_traced_until(command, input, PATIENCE, fault.map(|(_, fault)| fault), |_| at.next() == number)
}

/// The same, but the fault happens at the first system call that `is_it` names, and `patience` says when it hangs.
pub fn run_traced_until(
    command: &mut Command,
    input: &[u8],
    patience: Duration,
    fault: Option<Fault>,
    is_it: impl FnMut(&SystemCall) -> bool,
) -> Traced {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, mut tracee) = Tracee::start(command).expect("it starts");
    // A configuration fits into the pipe, so nobody has to wait for it to be read.
    child.stdin.take().expect("a pipe").write_all(input).expect("it waits");
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped");
    let hung = AtomicBool::new(false);
    let (at, calls, end) = std::thread::scope(|scope| {
        let (ended, wait_for_end) = mpsc::channel::<()>();
        let (hung, pidfd) = (&hung, &pidfd);
        scope.spawn(move || {
            if wait_for_end.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                hung.store(true, Ordering::Relaxed);
                let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            }
        });
        let result = happen(&mut tracee, fault, is_it);
        drop(ended);
        result.expect("the kernel traces")
    });
    let text = |pipe: Option<&mut dyn Read>| {
        let mut bytes = Vec::new();
        pipe.expect("a pipe").read_to_end(&mut bytes).expect("it can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Traced {
        end,
        hung: hung.into_inner(),
        stdout: text(child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read)),
        stderr: text(child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read)),
        at,
        calls,
    }
}

/// The system call at which it happened, those before, and how the program ended.
type Happened = (Option<SystemCall>, Vec<SystemCall>, End);

fn happen(
    tracee: &mut Tracee,
    fault: Option<Fault>,
    mut is_it: impl FnMut(&SystemCall) -> bool,
) -> std::io::Result<Happened> {
    let mut calls = Vec::new();
    let Some(fault) = fault else { return Ok((None, calls, tracee.finish()?)) };
    let call = loop {
        match tracee.next_call()? {
            Some(call) if is_it(&call) => break call,
            Some(call) => calls.push(call),
            None => return Ok((None, calls, tracee.finish()?)),
        }
    };
    let end = match fault {
        Fault::Kill => tracee.kill()?,
        Fault::Refuse(errno) => {
            tracee.refuse(errno)?;
            tracee.finish()?
        }
    };
    Ok((Some(call), calls, end))
}
