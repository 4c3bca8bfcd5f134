//! Executing other people's plugins, as the protocol says: one process each, configuration on stdin, result on stdout.
//!
//! No threads: a process that runs podplumb's own plugins as well has to stay single-threaded, so that these may fork.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;

use crate::environment::Command;
use crate::{Code, Error, MAX_CONFIG_BYTES, Result};

/// How long a plugin may take. The reference bridge waits up to 2.5 s for a port's state; kubelet gives up after minutes.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What a plugin says on stderr is for people: a few lines of it explain a failure.
const MAX_STDERR_BYTES: usize = 2 << 10;
/// A pipe holds 64 KiB, and 1 MiB at most unless root asks for more (pipe(7)): one look reads no more than that, so that a
/// writer that never ends cannot keep us reading.
const MAX_LOOK_BYTES: usize = 1 << 20;
/// How often a child is asked whether it ended, where the kernel has no pidfd (before 5.3).
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// What a plugin is called with.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// What to do.
    pub command: Command,
    /// `CNI_CONTAINERID`.
    pub container: &'a str,
    /// `CNI_NETNS`.
    pub netns: Option<&'a Path>,
    /// `CNI_IFNAME`.
    pub ifname: &'a str,
    /// `CNI_ARGS`.
    pub args: &'a str,
    /// `CNI_PATH`: where this plugin, and those that it calls, are.
    pub path: &'a [PathBuf],
}

/// Whether a plugin's type can be the name of a file in the plugin directory.
pub fn is_name(kind: &str) -> bool {
    !kind.is_empty() && !kind.contains(['/', '\0']) && kind != "." && kind != ".."
}

/// Finds a plugin by its type.
pub fn find(kind: &str, path: &[PathBuf]) -> Result<PathBuf> {
    if !is_name(kind) {
        return Err(Error::new(Code::InvalidConfig, format!("{kind:?} is not a plugin's name")));
    }
    let found = path.iter().map(|dir| dir.join(kind)).find(|file| file.is_file());
    found.ok_or_else(|| {
        let dirs: Vec<String> = path.iter().map(|dir| dir.display().to_string()).collect();
        Error::new(Code::InvalidConfig, format!("plugin {kind:?} was not found"))
            .details(format!("looked in {}", dirs.join(", ")))
    })
}

/// Runs a plugin and returns what it printed: for ADD and VERSION a JSON object, for the others, whose answers mean nothing,
/// `Value::Null`.
pub fn execute(kind: &str, config: &Value, request: &Request<'_>) -> Result<Value> {
    execute_within(kind, config, request, PATIENCE)
}

/// [`execute`] with another limit; a plugin that takes longer is ended.
pub fn execute_within(kind: &str, config: &Value, request: &Request<'_>, limit: Duration) -> Result<Value> {
    let program = find(kind, request.path)?;
    let fail = |what: &str, error: io::Error| {
        Error::new(Code::Io, format!("cannot {what} plugin {}", program.display())).details(error)
    };
    let path = std::env::join_paths(request.path)
        .map_err(|error| Error::new(Code::InvalidEnvironment, "CNI_PATH is not valid").details(error))?;
    #[expect(clippy::disallowed_methods, reason = "CNI plugins of others are executed: that is the protocol")]
    let mut command = std::process::Command::new(&program);
    command
        .env("CNI_COMMAND", request.command.as_str())
        .env("CNI_CONTAINERID", request.container)
        .env("CNI_NETNS", request.netns.unwrap_or(Path::new("")))
        .env("CNI_IFNAME", request.ifname)
        .env("CNI_ARGS", request.args)
        .env("CNI_PATH", path)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| fail("start", error))?;
    let said = match converse(&mut child, config.to_string().as_bytes(), limit) {
        Ok(said) => said,
        Err(error) => {
            // Whatever went wrong, no child stays behind, nor a plugin that it calls itself: they would be nobody's. It was not
            // waited for, so the group is still its own.
            if let Some(group) = pid(&child) {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return Err(fail("wait for", error));
        }
    };
    answer(kind, request.command, &said)
}

/// What a plugin left behind.
struct Said {
    status: ExitStatus,
    stdout: Stream,
    stderr: Stream,
}

/// Makes sense of what a plugin said.
fn answer(kind: &str, command: Command, said: &Said) -> Result<Value> {
    let stdout = said.stdout.content.trim_ascii();
    let value = serde_json::from_slice::<Value>(stdout).ok();
    let fail = |message: String| {
        let stderr = said.stderr.text();
        let details = if stderr.is_empty() { String::new() } else { format!("on stderr: {stderr}") };
        Error::new(Code::Delegate, message).details(details)
    };
    if !said.status.success() {
        let own = value.as_ref().and_then(Error::from_json);
        return Err(own.unwrap_or_else(|| fail(format!("plugin {kind} failed ({})", said.status))));
    }
    if !matches!(command, Command::Add | Command::Version) {
        return Ok(Value::Null);
    }
    match value {
        Some(value @ Value::Object(_)) => Ok(value),
        _ if said.stdout.is_cut => Err(fail(format!("plugin {kind} printed more than 4 MiB"))),
        _ if stdout.is_empty() => Err(fail(format!("plugin {kind} succeeded without printing a result"))),
        _ => Err(fail(format!("plugin {kind} printed something that is no result: {}", said.stdout.text()))),
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Gives a child its input, takes its output, and waits until it ends.
///
/// What counts is what is in the pipes when it ends: a process that it left behind may keep them open for ever.
fn converse(child: &mut Child, mut input: &[u8], limit: Duration) -> io::Result<Said> {
    let start = Instant::now();
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &stdin {
        rustix::io::ioctl_fionbio(stdin, true)?;
    }
    let mut stdout = Stream::new(child.stdout.take().map(OwnedFd::from), MAX_CONFIG_BYTES as usize)?;
    let mut stderr = Stream::new(child.stderr.take().map(OwnedFd::from), MAX_STDERR_BYTES)?;
    let pidfd = pid(child).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    loop {
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            let text = format!("it took more than {} s and was ended", limit.as_secs_f64());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        let pause = if pidfd.is_some() { left } else { left.min(BETWEEN_LOOKS) };
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(4);
        fds.extend(stdin.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::OUT)));
        let readable = [stdout.pipe.as_ref(), stderr.pipe.as_ref(), pidfd.as_ref()].into_iter().flatten();
        fds.extend(readable.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
        let timeout = Timespec::try_from(pause).ok();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        give(&mut stdin, &mut input)?;
        stdout.take_what_is_there()?;
        stderr.take_what_is_there()?;
        if let Some(status) = child.try_wait()? {
            // What it wrote between the look and its end.
            stdout.take_what_is_there()?;
            stderr.take_what_is_there()?;
            return Ok(Said { status, stdout, stderr });
        }
    }
}

/// Writes as much of the input as the pipe takes, and closes it after the last byte.
fn give(stdin: &mut Option<ChildStdin>, input: &mut &[u8]) -> io::Result<()> {
    while let Some(pipe) = stdin {
        if input.is_empty() {
            *stdin = None;
            break;
        }
        match pipe.write(input) {
            Ok(written) => *input = &input[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A plugin need not read what it has no use for.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *stdin = None,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A pipe that a plugin writes to, and the beginning of what it wrote.
struct Stream {
    pipe: Option<OwnedFd>,
    content: Vec<u8>,
    limit: usize,
    is_cut: bool,
}

impl Stream {
    fn new(pipe: Option<OwnedFd>, limit: usize) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, content: Vec::new(), limit, is_cut: false })
    }

    /// Reads until nothing is left for now. What exceeds the limit is read as well, and dropped: a plugin that is stopped
    /// by a full pipe could not finish what it is about.
    fn take_what_is_there(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        let mut looked = 0;
        while let Some(pipe) = &self.pipe
            && looked < MAX_LOOK_BYTES
        {
            match rustix::io::read(pipe, &mut buffer[..]) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = self.limit - self.content.len();
                    self.content.extend_from_slice(&buffer[..count.min(room)]);
                    self.is_cut |= count > room;
                    looked += count;
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// The beginning, on one line.
    fn text(&self) -> String {
        let mut start = Vec::new();
        let _ = self.content.trim_ascii().take(200).read_to_end(&mut start);
        String::from_utf8_lossy(&start).replace(|c: char| c.is_control(), " ")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Mutex, PoisonError};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_plugins_name_cannot_leave_its_directory() {
        for bad in ["", ".", "..", "../bridge", "/bin/sh", "a/b", "a\0b"] {
            assert_eq!(find(bad, &[PathBuf::from("/usr/lib/cni")]).unwrap_err().code, 7, "{bad:?}");
        }
    }

    /// Runs a shell script as a plugin. One at a time: a file that another thread's child still holds open for writing
    /// cannot be executed.
    fn script(text: &str, command: Command, limit: Duration) -> Result<Value> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _held = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scripted");
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = [dir.path().to_owned()];
        let netns = Some(Path::new("/run/netns/x"));
        let request = Request { command, container: "c", netns, ifname: "eth0", args: "", path: &path };
        execute_within("scripted", &json!({ "big": "x".repeat(1 << 20) }), &request, limit)
    }

    fn add(text: &str) -> Result<Value> {
        script(text, Command::Add, PATIENCE)
    }

    #[test]
    fn what_a_plugin_wrote_counts_though_a_child_of_it_keeps_stdout_open() {
        let answer = add(r#"cat > /dev/null; sleep 100 & echo "{\"pid\": $!}""#).unwrap();
        let pid = answer["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap()));
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn the_whole_configuration_arrives_while_much_is_printed() {
        let echo = r#"echo '{"a":"'; head -c 1000000 /dev/zero | tr '\0' a; cat > /dev/null; echo '"}'"#;
        // A newline inside of a JSON string: what is cut or reordered would show as something else.
        let error = add(echo).unwrap_err();
        assert!(error.message.starts_with("plugin scripted printed something that is no result"), "{error}");
        let echo = r#"printf '{"a":"'; head -c 1000000 /dev/zero | tr '\0' a; wc -c | tr -d '\n'; echo '"}'"#;
        let answer = add(echo).unwrap();
        let text = answer["a"].as_str().unwrap();
        assert_eq!((text.len(), &text[1_000_000..]), (1_000_007, "1048586"));
    }

    #[test]
    fn answers_that_are_none_are_failures_of_add_only() {
        for (text, says) in [
            ("cat > /dev/null", "without printing a result"),
            ("echo hello", "no result: hello"),
            ("echo '[]'", "no result: []"),
            ("echo '{\"a\":'", "no result"),
            ("exec >&-; cat > /dev/null", "without printing a result"),
            ("head -c 10000000 /dev/zero", "more than 4 MiB"),
        ] {
            let error = add(text).unwrap_err();
            assert!(error.code == 103 && error.message.contains(says), "{text}: {error}");
            assert_eq!(script(text, Command::Del, PATIENCE), Ok(Value::Null), "{text}");
        }
    }

    #[test]
    fn a_failure_is_told_in_the_plugins_words_where_it_has_any() {
        let error = add(r#"echo '{"code": 11, "msg": "later", "details": "busy"}'; exit 1"#).unwrap_err();
        assert_eq!((error.code, error.message.as_str(), error.details.as_str()), (11, "later", "busy"));
        let error = add("echo no such bridge >&2; exit 3").unwrap_err();
        assert_eq!(error.details, "on stderr: no such bridge");
        assert!(error.message.contains("exit status: 3"), "{error}");
        let error = add("kill -SEGV $$").unwrap_err();
        assert!(error.code == 103 && error.message.contains("signal: 11"), "{error}");
        assert!(add("head -c 10000000 /dev/zero >&2; exit 1").unwrap_err().details.len() < 300);
    }

    #[test]
    fn a_plugin_that_hangs_is_ended_with_those_that_it_called() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("pids");
        let text = format!("sleep 100 & echo $$ $! > {}; wait", mark.display());
        let error = script(&text, Command::Del, Duration::from_millis(300)).unwrap_err();
        assert!(error.details.contains("more than 0.3 s"), "{error}");
        let pids = std::fs::read_to_string(&mark).unwrap();
        let pids: Vec<&str> = pids.split_whitespace().collect();
        assert_eq!(pids.len(), 2);
        assert!(!Path::new("/proc").join(pids[0]).exists(), "it was reaped");
        // Its child is init's to reap, whenever that is.
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[1])).unwrap_or_default();
            stat.contains("(sleep) ") && !stat.contains(") Z ")
        };
        let start = Instant::now();
        while is_alive() {
            assert!(start.elapsed() < Duration::from_secs(30), "{pids:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
