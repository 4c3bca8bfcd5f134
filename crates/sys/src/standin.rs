//! A command in whose place its parent is waited for.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// What ends, stops or is told to a command: it is meant for the command, not for who waits for it.
const PASSED_ON: [libc::c_int; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTSTP,
];

/// Runs a command and stands in for it, since a process cannot enter a pid namespace itself, only its children can: signals are passed
/// on, the caller stops and goes on with it, and what is returned is how it ended as shells say it: 128 and the signal's number for a
/// signal.
///
/// The command stays in the caller's process group, which is the terminal's if the caller was started by a shell. So what is typed
/// reaches it without help.
///
/// For processes with one thread: another might take the signals. That is not checked, since procfs may be another pid namespace's by
/// now; [`Process::join`](crate::Process::join) did.
///
/// # Errors
/// What `spawn` says.
pub fn stand_in(command: &mut Command) -> io::Result<u8> {
    let (wanted, before) = block()?;
    // SAFETY: between fork and exec only pthread_sigmask is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            match libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        });
    }
    let child = command.spawn()?.id();
    let child = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    loop {
        while let Some((_, status)) = waitpid(Some(child), WaitOptions::NOHANG | WaitOptions::UNTRACED)? {
            if let Some(code) = status.exit_status() {
                return Ok(u8::try_from(code).unwrap_or(u8::MAX));
            }
            if let Some(signal) = status.terminating_signal() {
                return Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX));
            }
            if status.stopped() {
                // The shell has to see its job stopped. Whoever has it go on means both, wherever the command is.
                kill_process(rustix::process::getpid(), Signal::STOP)?;
                let _ = kill_process(child, Signal::CONT);
            }
        }
        pass_on(&wanted, child);
    }
}

/// Has these signals, and those about children, wait to be asked for. Returns them, and what was blocked before.
fn block() -> io::Result<(libc::sigset_t, libc::sigset_t)> {
    let mut wanted = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset writes the whole set before it is used; pthread_sigmask writes `before`; all pointers are valid. Children of a
    // process that ignores SIGCHLD vanish without a word, so it is set to what it is for everybody else.
    unsafe {
        libc::sigemptyset(wanted.as_mut_ptr());
        for signal in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
            libc::sigaddset(wanted.as_mut_ptr(), signal);
        }
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        match libc::pthread_sigmask(libc::SIG_BLOCK, wanted.as_ptr(), before.as_mut_ptr()) {
            0 => Ok((wanted.assume_init(), before.assume_init())),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Waits for a signal, and sends it on unless the command has it already: what is typed at a terminal goes to its whole group, and
/// says that the kernel sent it.
fn pass_on(wanted: &libc::sigset_t, child: Pid) {
    let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
    // SAFETY: both pointers are valid; `info` is written if a signal is returned.
    let (signal, code) = unsafe {
        match libc::sigwaitinfo(wanted, info.as_mut_ptr()) {
            signal if signal > 0 => (signal, info.assume_init().si_code),
            _ => return,
        }
    };
    let is_for_it = signal != libc::SIGCHLD && code != libc::SI_KERNEL;
    if let Some(signal) = Signal::from_named_raw(signal).filter(|_| is_for_it) {
        // It may have ended meanwhile.
        let _ = kill_process(child, signal);
    }
}
