//! `lab up` and `lab down` that are killed, or have a system call refused: nothing is left, or everything is there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use podplumb_tests::{Fault, Traced, World, binaries, require, run_traced_until};
use sys::trace::{End, SystemCall};

use crate::REFUSALS;
use crate::trial::may_be_fatal;

const PATIENCE: Duration = Duration::from_secs(60);
/// Of the system calls one in so many is tried, those beside it by the next fault.
const EVERY: usize = 29;
/// A part of every kind. The command's argument is found in /proc.
const LAB: &str = "
name: trial
nodes: {n: {count: 2, pods: 1, masquerade: 10.244.0.0/16}}
routers: {r: {forward: 'tcp/80 -> 10.9.0.9:80'}}
switches: [net]
hosts:
  a: {run: 'sleep 98765', neighbours: ['10.8.0.9 lladdr 02:00:00:00:00:09 dev eth0']}
links: [n -- net, r -- net, {link: a -- r, rate: 10mbit}]
overlay: {kind: vxlan}
";
const LABS: &str = "/run/podplumb/labs";

/// What a lab is that had other hosts before.
fn edited() -> String {
    LAB.replace("  a: {run: 'sleep 98765'", "  c: {run: 'sleep 98765'").replace("a -- r", "c -- r")
}

fn podplumb(arguments: &[&str]) -> String {
    let output = Command::new(binaries().join("podplumb")).args(arguments).output().expect("podplumb");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// What there is of labs.
fn left() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("procfs");
    let mut left: Vec<String> =
        mounts.lines().filter(|line| line.contains(LABS)).map(str::to_owned).collect();
    let files = std::fs::read_dir(LABS).into_iter().flatten().flatten();
    left.extend(files.map(|file| file.path().display().to_string()).filter(|path| !path.ends_with(".lock")));
    left.extend(processes());
    left
}

/// The lab's command, in this world's labs.
fn processes() -> Vec<String> {
    let own = std::fs::read_link("/proc/thread-self/ns/mnt").expect("procfs");
    let all = std::fs::read_dir("/proc").expect("procfs").flatten().map(|entry| entry.path());
    let ours = all.filter(|path| std::fs::read_link(path.join("ns/mnt")).is_ok_and(|mnt| mnt == own));
    let lines = ours.filter_map(|path| Some((std::fs::read(path.join("cmdline")).ok()?, path)));
    lines.filter(|(line, _)| line.ends_with(b"98765\0")).map(|(_, path)| path.display().to_string()).collect()
}

/// One way to disturb a lab.
struct Trial {
    /// What is done before.
    before: &'static [&'static [&'static str]],
    /// What is disturbed.
    command: &'static [&'static str],
    /// What puts it right.
    after: &'static [&'static str],
}

const UP: Trial = Trial { before: &[], command: &["lab", "up", "/run/lab.yaml"], after: &["lab", "gc"] };
const DOWN: Trial = Trial {
    before: &[&["lab", "up", "/run/lab.yaml"]],
    command: &["lab", "down", "trial"],
    after: &["lab", "gc"],
};
const EDIT: Trial = Trial {
    before: &[&["lab", "up", "/run/lab.yaml"]],
    command: &["lab", "up", "/run/edited.yaml"],
    after: &["lab", "up", "/run/edited.yaml"],
};

impl Trial {
    fn run(
        &self,
        fault: Fault,
        is_it: impl FnMut(&SystemCall) -> bool,
    ) -> Result<Option<SystemCall>, String> {
        for arguments in self.before {
            podplumb(arguments);
        }
        let mut command = Command::new(binaries().join("podplumb"));
        command.args(self.command);
        let call = run_traced_until(&mut command, b"", PATIENCE, Some(fault), is_it);
        let result = self.judge(&call, fault);
        podplumb(&["lab", "down", "trial", "--force"]);
        podplumb(&["lab", "gc"]);
        let at = call.at;
        let result = result.and_then(|()| match left() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("there stays {left:?}")),
        });
        result.map(|()| at).map_err(|why| {
            format!("{:?}, {fault:?} at {at:?}: {why}\n{}{}", self.command, call.stdout, call.stderr)
        })
    }

    fn judge(&self, call: &Traced, fault: Fault) -> Result<(), String> {
        let is_down = self.command[1] == "down";
        match (call.end, call.at, fault) {
            _ if call.hung => return Err("it hangs".into()),
            (_, Some(_), Fault::Kill) => {}
            // Memory or a thread that is not given: it ends as if it had been killed.
            (End::Signalled(_) | End::Exited(101), Some(refused), _)
                if may_be_fatal(&refused) || is_taken_to_work(&refused) => {}
            // The loader of shared libraries, before there is any podplumb.
            (End::Exited(127), ..) => {}
            // Done, whatever was refused.
            (End::Exited(0), ..) => return self.done(),
            // Done, and could not say so.
            (End::Exited(1), Some(refused), _) if is_answer(&refused) => return self.done(),
            // Nothing of a lab that could not be made, all of one that could not be changed.
            (End::Exited(1), ..) if self.before.is_empty() => {
                return match left() {
                    left if left.is_empty() => Ok(()),
                    left => Err(format!("it failed and left {left:?}")),
                };
            }
            (End::Exited(1), ..) => {}
            (end, ..) => return Err(format!("{end:?}")),
        }
        // Somebody comes after it.
        let said = podplumb(self.after);
        match self.after[1] {
            // Disturbed after all was done, or before anything was removed: the lab is whole.
            "gc" if !left().is_empty() => match podplumb(&["lab", "up", "/run/lab.yaml"]) {
                again if again.contains("nothing to change") || is_down && again.contains("steps") => Ok(()),
                again => Err(format!("after gc ({said}) there is {:?}; {again}", left())),
            },
            "gc" => Ok(()),
            _ => self.done(),
        }
    }

    /// What was asked for is there.
    fn done(&self) -> Result<(), String> {
        if self.command[1] == "down" {
            return match left() {
                left if left.is_empty() => Ok(()),
                left => Err(format!("it says that it is down, and there is {left:?}")),
            };
        }
        let differs = podplumb(&[self.command, &["--dry-run"]].concat());
        let again = podplumb(self.command);
        if !again.contains("nothing to change") {
            return Err(format!("a second time: {again}{differs}"));
        }
        match processes().len() {
            1 => Ok(()),
            number => Err(format!("{number} processes run")),
        }
    }
}

/// What the kernel does not refuse to anybody, and Rust's libraries do not expect it to.
fn never_fails(call: &SystemCall) -> bool {
    let numbers = [libc::SYS_futex, libc::SYS_prlimit64, libc::SYS_exit_group, libc::SYS_exit];
    numbers.iter().any(|number| number.cast_unsigned() == call.number)
}

fn is_answer(call: &SystemCall) -> bool {
    call.number == libc::SYS_write.cast_unsigned() && call.arguments[0] == 1
}

fn is_taken_to_work(call: &SystemCall) -> bool {
    let numbers = [libc::SYS_close, libc::SYS_clone, libc::SYS_clone3];
    numbers.iter().any(|number| number.cast_unsigned() == call.number)
}

fn try_all(trial: &Trial, fault: Fault) -> Vec<String> {
    let _world = World::enter();
    // In the same place for all: a process has one directory.
    for (name, text) in [("lab.yaml", LAB.to_owned()), ("edited.yaml", edited())] {
        std::fs::write(Path::new("/run").join(name), text).expect("a file");
    }
    let every = std::env::var("PODPLUMB_EVERY").ok().and_then(|n| n.parse().ok()).unwrap_or(EVERY);
    let mut number = match fault {
        Fault::Kill => 0,
        Fault::Refuse(errno) => errno.raw_os_error().unsigned_abs() as usize % every,
    };
    let (mut found, mut trials) = (Vec::new(), 0);
    loop {
        let mut at = 0;
        let is_it = |call: &SystemCall| {
            at += 1;
            at > number && !never_fails(call)
        };
        match trial.run(fault, is_it) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => found.push(format!("call {number}: {error}")),
        }
        assert!(found.len() < 10, "too much goes wrong:\n{}", found.join("\n"));
        trials += 1;
        number += every;
    }
    eprintln!("{:?}, {fault:?}: {trials} trials", trial.command);
    assert!(number > 100, "{number} system calls are too few for {:?}", trial.command);
    found
}

fn each(trial: &'static Trial) {
    if !require(&["sleep"]) {
        return;
    }
    let faults = std::iter::once(Fault::Kill).chain(REFUSALS.map(Fault::Refuse));
    let found: Vec<String> = std::thread::scope(|scope| {
        let started: Vec<_> = faults.map(|fault| scope.spawn(move || try_all(trial, fault))).collect();
        started.into_iter().flat_map(|one| one.join().unwrap_or_else(|_| vec!["a panic".into()])).collect()
    });
    assert!(found.is_empty(), "{} trials went wrong:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_lab_that_is_disturbed_while_it_is_made_leaves_nothing() {
    each(&UP);
}

#[test]
fn a_lab_that_is_disturbed_while_it_is_removed_can_be_removed() {
    each(&DOWN);
}

#[test]
fn a_lab_that_is_disturbed_while_it_is_changed_can_be_finished() {
    each(&EDIT);
}
