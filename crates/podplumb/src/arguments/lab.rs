//! Arguments of `podplumb lab`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Shape;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Make a lab of its file, or bring it up to date with it
    Up(UpOptions),
    /// Remove a lab, and prove that nothing of it is left
    Down(DownOptions),
    /// List labs
    List(LabListOptions),
    /// Start a shell in a machine of a lab
    Enter(EnterOptions),
    /// Run a command in a machine of a lab
    Exec(ExecOptions),
    /// Remove what is left of labs that were killed while they were made or removed
    Gc,
    /// Print the JSON schema of topology files
    Schema,
}

/// Which topology.
#[derive(Debug, Args)]
pub(crate) struct FileOptions {
    /// Topology file ('-': stdin)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Give the lab this name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpOptions {
    #[command(flatten)]
    pub(crate) topology: FileOptions,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Leave out what this kernel cannot do, instead of refusing
    #[arg(long)]
    pub(crate) skip_unsupported: bool,
}

/// Which lab.
#[derive(Debug, Args)]
pub(crate) struct LabOptions {
    /// The lab: its name, or its file
    #[arg(value_name = "LAB")]
    pub(crate) lab: String,
}

#[derive(Debug, Args)]
pub(crate) struct DownOptions {
    #[command(flatten)]
    pub(crate) lab: LabOptions,
    /// End also processes in it that it did not start
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LabListOptions {
    /// Shape of the list
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct EnterOptions {
    #[command(flatten)]
    pub(crate) lab: LabOptions,
    /// The machine
    pub(crate) machine: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExecOptions {
    #[command(flatten)]
    pub(crate) lab: LabOptions,
    /// The machine
    pub(crate) machine: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
