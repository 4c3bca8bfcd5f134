//! A process that is stopped at each of its system calls, for tests that kill it there or make the call fail.
//!
//! Children of the process are not traced (`PTRACE_O_TRACEFORK` is not set, and a fork does not inherit the stops).

use std::io;
use std::mem::size_of;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::io::Errno;

/// `struct ptrace_syscall_info` (include/uapi/linux/ptrace.h, Linux 5.3), as far as it is read here.
const PTRACE_GET_SYSCALL_INFO: libc::c_uint = 0x420e;
const PTRACE_SYSCALL_INFO_ENTRY: u64 = 1;
const PTRACE_GETREGSET: libc::c_uint = 0x4204;
const PTRACE_SETREGSET: libc::c_uint = 0x4205;
const NT_PRSTATUS: usize = 1;
/// arch/arm64/include/uapi/asm/ptrace.h: the number of the call, which is not among the general registers.
#[cfg(target_arch = "aarch64")]
const NT_ARM_SYSTEM_CALL: usize = 0x404;
/// `user_regs_struct` has 27 words on x86_64 and 34 on aarch64.
const MOST_REGISTERS: usize = 34;
/// Where the result of a system call is.
#[cfg(target_arch = "x86_64")]
const RESULT: usize = 10;
#[cfg(target_arch = "aarch64")]
const RESULT: usize = 0;
/// Where x86_64 has the number of the call (`orig_rax`).
#[cfg(target_arch = "x86_64")]
const NUMBER: usize = 15;

/// A system call that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemCall {
    /// Its number, on this architecture.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// A process that its tracer, the thread that started it, stops at system calls. It is killed when that thread ends.
#[derive(Debug)]
pub struct Tracee {
    pid: libc::pid_t,
    end: Option<End>,
    /// Whether the next stop is the end of a system call.
    inside: bool,
    /// A signal that stopped it and that it has to get.
    signal: libc::c_int,
}

impl Tracee {
    /// Starts a program. It waits, already executing, for [`next_call`](Self::next_call).
    ///
    /// # Errors
    /// Those of starting it, and the errno of `ptrace`.
    pub fn start(command: &mut Command) -> io::Result<(Child, Self)> {
        // SAFETY: between fork and exec, ptrace(PTRACE_TRACEME) is a bare system call: it allocates and locks nothing.
        unsafe {
            command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, std::ptr::null_mut::<u8>(), 0) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let child = command.spawn()?;
        let mut tracee = Self { pid: child.id().cast_signed(), end: None, inside: false, signal: 0 };
        // The stop after exec, which comes as a SIGTRAP.
        tracee.wait()?;
        tracee.signal = 0;
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        tracee.request(libc::PTRACE_SETOPTIONS as _, 0, options as usize)?;
        Ok((child, tracee))
    }

    /// Lets it run until it is about to make a system call; `None` when it ended before.
    pub fn next_call(&mut self) -> io::Result<Option<SystemCall>> {
        while self.resume(libc::PTRACE_SYSCALL as _)? {
            if self.inside {
                return self.system_call().map(Some);
            }
        }
        Ok(None)
    }

    /// Lets the system call that it is about to make fail with `errno`, without being carried out. A `close` is carried out all the
    /// same: Linux releases the descriptor before anything can go wrong (close(2)).
    pub fn refuse(&mut self, errno: Errno) -> io::Result<()> {
        if self.system_call()?.number != libc::SYS_close.cast_unsigned() {
            self.skip()?;
        }
        while self.resume(libc::PTRACE_SYSCALL as _)? {
            if !self.inside {
                let mut registers = self.registers()?;
                registers.0[RESULT] = i64::from(-errno.raw_os_error()).cast_unsigned();
                return self.set_registers(NT_PRSTATUS, &registers.0[..registers.1]);
            }
        }
        Ok(())
    }

    /// Kills it where it is: a system call that it is about to make is not made.
    pub fn kill(&mut self) -> io::Result<End> {
        // SAFETY: a bare system call; the process is our child and not reaped, so the pid is its own.
        if self.end.is_none() && unsafe { libc::kill(self.pid, libc::SIGKILL) } == -1 {
            return Err(io::Error::last_os_error());
        }
        self.finish()
    }

    /// Lets it run to its end.
    pub fn finish(&mut self) -> io::Result<End> {
        loop {
            if let Some(end) = self.end {
                return Ok(end);
            }
            self.resume(libc::PTRACE_CONT as _)?;
        }
    }

    /// Continues to the next stop at a system call, or, untraced, to the end; says whether it still lives.
    fn resume(&mut self, how: libc::c_uint) -> io::Result<bool> {
        while self.end.is_none() {
            let signal = std::mem::take(&mut self.signal);
            match self.request(how, 0, signal as usize) {
                // It was killed meanwhile: there is nothing to continue, only to wait for.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => result.map(drop)?,
            }
            if self.wait()? {
                self.inside = !self.inside;
                break;
            }
        }
        Ok(self.end.is_none())
    }

    /// Waits for the next stop or the end; says whether it is a stop at a system call.
    fn wait(&mut self) -> io::Result<bool> {
        let mut status = 0;
        loop {
            // SAFETY: the pointer is valid for a write; the process is our child and not reaped.
            let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            let interrupted = || io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
            match waited {
                -1 if interrupted() => {}
                -1 => return Err(io::Error::last_os_error()),
                _ => break,
            }
        }
        if libc::WIFEXITED(status) {
            self.end = Some(End::Exited(libc::WEXITSTATUS(status)));
        } else if libc::WIFSIGNALED(status) {
            self.end = Some(End::Signalled(libc::WTERMSIG(status)));
        } else if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 {
            return Ok(true);
        } else {
            self.signal = libc::WSTOPSIG(status);
        }
        Ok(false)
    }

    fn system_call(&self) -> io::Result<SystemCall> {
        // op and padding, arch and instruction pointer, stack pointer, then number and arguments: ten words.
        let mut info = [0u64; 11];
        self.request(PTRACE_GET_SYSCALL_INFO, size_of_val(&info), info.as_mut_ptr() as usize)?;
        if info[0] & 0xff != PTRACE_SYSCALL_INFO_ENTRY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not at the entry of a system call"));
        }
        let mut arguments = [0; 6];
        arguments.copy_from_slice(&info[4..10]);
        Ok(SystemCall { number: info[3], arguments })
    }

    /// Replaces the number of the system call by one that no call has.
    #[cfg(target_arch = "x86_64")]
    fn skip(&self) -> io::Result<()> {
        let mut registers = self.registers()?;
        registers.0[NUMBER] = u64::MAX;
        self.set_registers(NT_PRSTATUS, &registers.0[..registers.1])
    }

    #[cfg(target_arch = "aarch64")]
    fn skip(&self) -> io::Result<()> {
        let number: libc::c_int = -1;
        let vector =
            libc::iovec { iov_base: (&raw const number).cast_mut().cast(), iov_len: size_of_val(&number) };
        self.request(PTRACE_SETREGSET, NT_ARM_SYSTEM_CALL, &raw const vector as usize).map(drop)
    }

    /// The general registers, and how many there are.
    fn registers(&self) -> io::Result<([u64; MOST_REGISTERS], usize)> {
        let mut words = [0; MOST_REGISTERS];
        let mut vector = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
        self.request(PTRACE_GETREGSET, NT_PRSTATUS, &raw mut vector as usize)?;
        Ok((words, vector.iov_len / size_of::<u64>()))
    }

    fn set_registers(&self, set: usize, words: &[u64]) -> io::Result<()> {
        let vector = libc::iovec { iov_base: words.as_ptr().cast_mut().cast(), iov_len: size_of_val(words) };
        self.request(PTRACE_SETREGSET, set, &raw const vector as usize).map(drop)
    }

    /// A request about the process, which is stopped.
    fn request(&self, request: libc::c_uint, address: usize, data: usize) -> io::Result<libc::c_long> {
        // SAFETY: the callers in this module pass as `data` either a number or a pointer to a live value of the size that the
        // request has; the process is our tracee, so nothing but its own state changes.
        match unsafe { libc::ptrace(request as _, self.pid, address, data) } {
            -1 => Err(io::Error::last_os_error()),
            result => Ok(result),
        }
    }
}

/// A process that nobody waits for any more must not stay stopped.
impl Drop for Tracee {
    fn drop(&mut self) {
        if self.end.is_none() {
            let _ = self.kill();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_killed_at_a_system_call_or_has_it_refused() {
        let start =
            || Tracee::start(Command::new("true").env_clear().stderr(std::process::Stdio::null())).unwrap().1;
        let mut whole = start();
        let mut calls = 0;
        while whole.next_call().unwrap().is_some() {
            calls += 1;
        }
        assert_eq!(whole.finish().unwrap(), End::Exited(0));
        assert!(calls > 3, "{calls}");

        let mut killed = start();
        assert!(killed.next_call().unwrap().is_some());
        assert_eq!(killed.kill().unwrap(), End::Signalled(libc::SIGKILL));

        // `true` maps its C library; without any it cannot run.
        let mut refused = start();
        while let Some(call) = refused.next_call().unwrap() {
            if call.number == libc::SYS_openat as u64 {
                refused.refuse(Errno::MFILE).unwrap();
            }
        }
        assert_eq!(refused.finish().unwrap(), End::Exited(127));
    }
}
