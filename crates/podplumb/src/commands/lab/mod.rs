//! `podplumb lab`: networks of namespaces from one file.

mod capture;
mod down;
mod enter;
mod import;
mod list;
mod show;
mod up;
mod verify;

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use lab::{LabName, Labs, Record, Resolved, Topology, topology};

use crate::arguments::{FileOptions, LabCommand, LabOptions};
use crate::output::{Ended, hinted, print};

pub(crate) fn run(command: &LabCommand) -> anyhow::Result<Ended> {
    match command {
        LabCommand::Up(options) => up::run(options, &labs(true)?),
        LabCommand::Down(options) => down::run(options, &labs(false)?),
        LabCommand::Verify(options) => verify::run(options, &labs(false)?),
        LabCommand::Show(options) => show::run(options, &labs(false)?),
        LabCommand::Graph(options) => show::graph(options, &labs(false)?),
        LabCommand::Capture(options) => capture::run(options, &labs(false)?),
        LabCommand::List(options) => list::run(options, &labs(false)?),
        LabCommand::Enter(options) => enter::shell(options, &labs(false)?),
        LabCommand::Exec(options) => enter::exec(options, &labs(false)?),
        LabCommand::Gc => down::gc(&labs(false)?),
        LabCommand::Import(options) => import::run(options),
        LabCommand::Schema => {
            print(&format!("{:#}\n", topology::schema()))?;
            Ok(Ended::Fine)
        }
    }
}

/// Where labs are: root's on this machine, or a user's own. Nothing may have started a thread yet.
fn labs(make: bool) -> anyhow::Result<Labs> {
    if sys::is_root() {
        return Ok(Labs::default());
    }
    // Of a user who has none there is nothing to list.
    let own = lab::rootless::enter(make).map_err(|error| {
        let hint = "as root, or on a kernel that lets users have namespaces (kernel.unprivileged_userns_clone, \
                    user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)";
        hinted(error.to_string(), hint)
    })?;
    Ok(own.unwrap_or_else(|| Labs::below("/nonexistent")))
}

/// An error of the library, with its hint.
fn failed(error: lab::Error) -> anyhow::Error {
    match error.hint() {
        Some(hint) => hinted(error.to_string(), hint),
        None => error.into(),
    }
}

/// Reads a topology and gives everything in it names, addresses and routes.
fn resolved(options: &FileOptions) -> anyhow::Result<Resolved> {
    let file = options.file.as_path();
    let (text, shown) = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        (text, Path::new("stdin"))
    } else {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        (text, file)
    };
    let wrong = |error: topology::ReadError| failed(error.into());
    let topology = topology::from_yaml(&text, shown).map_err(wrong)?;
    let topology = Topology { name: options.name.clone().or(topology.name), ..topology };
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let beside = file.parent().unwrap_or(Path::new("."));
    let read = |name: &str| std::fs::read_to_string(beside.join(name));
    lab::resolve(&topology, stem, &read).map_err(|fault| wrong(fault.located(&text, shown)))
}

/// Whether the user means a file.
fn is_file(lab: &str) -> bool {
    lab.contains('/') || [".yaml", ".yml"].iter().any(|end| lab.ends_with(end))
}

/// What is there of the lab that the user means.
fn record(labs: &Labs, options: &LabOptions) -> anyhow::Result<Record> {
    let name = name_of(options)?;
    let record = labs.record(&name).map_err(failed)?;
    record.ok_or_else(|| failed(lab::Error::Unknown(name.to_string())))
}

/// The lab that the user means: by its name, or by its file.
fn name_of(options: &LabOptions) -> anyhow::Result<LabName> {
    let path = Path::new(&options.lab);
    if is_file(&options.lab) {
        let topology = FileOptions { file: path.to_owned(), name: None };
        return Ok(resolved(&topology)?.wiring.lab);
    }
    options
        .lab
        .parse()
        .map_err(|error: lab::name::BadName| hinted(error.to_string(), "`podplumb lab list` shows all"))
}
