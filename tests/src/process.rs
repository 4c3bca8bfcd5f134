//! Programs that a test runs.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// Runs a program to its end.
pub fn output(program: impl AsRef<Path>, arguments: &[&str]) -> Output {
    let program = program.as_ref();
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Runs a program that has to succeed, and returns what it printed.
pub fn run(program: impl AsRef<Path>, arguments: &[&str]) -> String {
    let program = program.as_ref();
    let output = output(program, arguments);
    assert!(
        output.status.success(),
        "{} {}: {}\n{}{}",
        program.display(),
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends SIGKILL to one process that the test, or a daemon of it, started.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The parent of a process.
pub fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|ppid| ppid.trim().parse().ok()).expect("a process has a parent")
}

/// Waits for something that happens soon: a machine whose disk is read for the first time may need a minute for it.
pub fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    wait_for(what, || is_true().then_some(()).ok_or_else(String::new));
}

/// The same, and returns what came; as long as it has not, `look` says what there is instead.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => {
                assert!(start.elapsed() < Duration::from_secs(120), "waited 120 s for: {what}\n{instead}");
            }
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Removes what a killed container leaves in the machine's cgroups, and the runtime's own group once it is empty.
pub fn remove_cgroups(runtime: &str, ids: &[String]) {
    let controllers = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    for group in controllers.map(|controller| controller.path().join(runtime)) {
        for id in ids {
            let own = group.join(id);
            // A process that was killed stays in its group until it is reaped.
            let start = Instant::now();
            while own.exists()
                && std::fs::remove_dir(&own).is_err()
                && start.elapsed() < Duration::from_secs(5)
            {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let _ = std::fs::remove_dir(group);
    }
}

/// A daemon, ended with the test.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: std::path::PathBuf,
}

impl Daemon {
    /// Starts a daemon that logs to a file.
    pub fn start(program: &str, arguments: &[&str], log: &Path) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) {
        signal(self.child.id(), Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.crash();
    }

    /// Ends it as the kernel does when memory is short.
    pub fn crash(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            eprintln!("--- {} ends with", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        self.stop();
    }
}
