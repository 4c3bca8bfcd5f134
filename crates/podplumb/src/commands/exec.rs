//! `podplumb exec X -- COMMAND`

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use rustix::fs::{Mode, OFlags};
use sys::{NamespaceKind, Process};

use crate::arguments::ExecOptions;
use crate::output::{Ended, hinted, note};
use crate::program::not_run;
use crate::target::Target;

/// All but the network's, which is entered anyway.
const OTHERS: [NamespaceKind; 6] = [
    NamespaceKind::Mount,
    NamespaceKind::Pid,
    NamespaceKind::Uts,
    NamespaceKind::Ipc,
    NamespaceKind::Cgroup,
    NamespaceKind::User,
];

pub(crate) fn run(options: &ExecOptions) -> anyhow::Result<Ended> {
    if !sys::is_root() {
        let hint = "sudo podplumb exec …";
        return Err(hinted("exec needs root: it enters other people's namespaces", hint));
    }
    let target = Target::find(&options.question, &options.live)?;
    let wanted = wanted(options);
    let process = if wanted.is_empty() { None } else { target.process()? };
    match process {
        Some((pid, process)) => in_process(options, &target, pid, &process, &wanted),
        None if wanted.is_empty() || options.all => {
            if options.all {
                note(format_args!("no process is in {}: only its network is entered", target.label));
            }
            in_network(options, &target)
        }
        None => {
            let names: Vec<String> = wanted.iter().map(|kind| format!("--{}", option(*kind))).collect();
            let what =
                format!("cannot enter {} of {}: no process is in there", names.join(", "), target.label);
            Err(hinted(what, "a network namespace that is only pinned has no others: leave these out"))
        }
    }
}

/// The namespaces that were asked for, besides the network's.
fn wanted(options: &ExecOptions) -> Vec<NamespaceKind> {
    let is_wanted = |kind: &NamespaceKind| {
        options.all
            || match kind {
                NamespaceKind::Net => false,
                NamespaceKind::Mount => options.mount,
                NamespaceKind::Pid => options.pid,
                NamespaceKind::Uts => options.uts,
                NamespaceKind::Ipc => options.ipc,
                NamespaceKind::Cgroup => options.cgroup,
                NamespaceKind::User => options.user,
            }
    };
    OTHERS.into_iter().filter(is_wanted).collect()
}

fn option(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Mount => "mount",
        other => other.file(),
    }
}

/// Becomes the command, in the network namespace alone.
fn in_network(options: &ExecOptions, target: &Target) -> anyhow::Result<Ended> {
    // No thread but this one is left, and this process becomes the command: nobody has to come back.
    let inside = target.netns.enter().with_context(|| format!("cannot enter {}", target.label))?;
    let failed = become_command(&options.command, "on this machine");
    drop(inside);
    Err(failed)
}

fn in_process(
    options: &ExecOptions,
    target: &Target,
    pid: u32,
    process: &Process,
    wanted: &[NamespaceKind],
) -> anyhow::Result<Ended> {
    // It may share some with the machine. To enter the user namespace that one is in is an error (user_namespaces(7)).
    let mut kinds = vec![NamespaceKind::Net];
    kinds.extend(wanted.iter().copied().filter(|kind| !is_own(*kind, pid)));
    let own_mounts = !kinds.contains(&NamespaceKind::Mount);
    // setns goes to the root of the mounts; a container that was made without pivot_root has another.
    let root = if own_mounts { None } else { Some(root_of(pid, target)?) };
    process.join(&kinds).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            hinted(format!("process {pid} of {} has ended", target.label), "it may be restarted: try again")
        }
        _ => anyhow::anyhow!("cannot enter the namespaces of {}: {error}", target.label),
    })?;
    if let Some(root) = root {
        let entered = rustix::process::fchdir(&root).and_then(|()| rustix::process::chroot("."));
        entered.with_context(|| format!("cannot enter the root of {}", target.label))?;
    }
    let place = if own_mounts { "on this machine".to_owned() } else { format!("in {}", target.label) };
    if !kinds.contains(&NamespaceKind::Pid) {
        return Err(become_command(&options.command, &place));
    }
    let code = sys::stand_in(&mut command(&options.command)).map_err(|error| {
        // Its first process has ended: the kernel makes no other in there (pid_namespaces(7)).
        if error.raw_os_error() == Some(rustix::io::Errno::NOMEM.raw_os_error()) {
            return hinted(
                format!("the pid namespace of {} has ended with its first process", target.label),
                "leave --pid out",
            );
        }
        not_run(&options.command[0], error, &place)
    })?;
    Ok(Ended::As(code))
}

/// Whether a process has the machine's own namespace of this kind.
fn is_own(kind: NamespaceKind, pid: u32) -> bool {
    let inode = |of: &str| std::fs::metadata(format!("/proc/{of}/ns/{}", kind.file())).map(|stat| stat.ino());
    inode("self").is_ok_and(|own| inode(&pid.to_string()).is_ok_and(|its| its == own))
}

fn root_of(pid: u32, target: &Target) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty());
    root.with_context(|| format!("cannot open the root of {}", target.label))
}

#[expect(clippy::disallowed_methods, reason = "the user's own command")]
fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Becomes the command, so that terminal, signals and exit code are its own; returns only if that fails.
fn become_command(words: &[OsString], place: &str) -> anyhow::Error {
    let error = command(words).exec();
    not_run(&words[0], error, place)
}
