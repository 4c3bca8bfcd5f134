//! `podplumb lab enter` and `podplumb lab exec`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::Context;
use lab::Labs;

use crate::arguments::{EnterOptions, LabExecOptions, LabOptions};
use crate::output::Ended;

pub(crate) fn shell(options: &EnterOptions, labs: &Labs) -> anyhow::Result<Ended> {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    become_command(labs, &options.lab, &options.machine, &[shell], true)
}

pub(crate) fn exec(options: &LabExecOptions, labs: &Labs) -> anyhow::Result<Ended> {
    become_command(labs, &options.lab, &options.machine, &options.command, false)
}

/// This process becomes the command, so terminal, signals and exit code are its own.
fn become_command(
    labs: &Labs,
    lab: &LabOptions,
    machine: &str,
    command: &[OsString],
    is_shell: bool,
) -> anyhow::Result<Ended> {
    let name = super::name_of(lab)?;
    let netns = labs.netns(&name, machine).map_err(super::failed)?;
    // No thread but this one has been started.
    labs.enter_state(&name, machine).map_err(super::failed)?;
    let inside = netns.enter().with_context(|| format!("cannot enter {machine} of the lab {name}"))?;
    #[expect(clippy::disallowed_methods, reason = "the user's own command")]
    let mut process = std::process::Command::new(&command[0]);
    process.args(&command[1..]).env("PODPLUMB_LAB", name.as_str()).env("PODPLUMB_MACHINE", machine);
    if is_shell {
        process.env("PS1", format!("{machine}# "));
    }
    let error = process.exec();
    drop(inside);
    Err(crate::program::not_run(&command[0], error, "on this machine"))
}
