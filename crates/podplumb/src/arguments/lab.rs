//! Arguments of `podplumb lab`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{NodeOptions, Shape, duration};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Make a lab of its file, or bring it up to date with it
    Up(UpOptions),
    /// Remove a lab, and prove that nothing of it is left
    Down(DownOptions),
    /// Check what a lab's file expects of it (exit 3 if something does not hold)
    Verify(VerifyOptions),
    /// Draw a lab, and list its machines with interfaces, addresses and routes
    Show(ShowOptions),
    /// Draw a lab, or what a file would make: dot, mermaid, SVG
    Graph(GraphOptions),
    /// Write the packets of a machine's interfaces into a pcapng file
    Capture(LabCaptureOptions),
    /// List labs
    List(LabListOptions),
    /// Start a shell in a machine of a lab
    Enter(EnterOptions),
    /// Run a command in a machine of a lab
    Exec(LabExecOptions),
    /// Remove what is left of labs that were killed while they were made or removed
    Gc,
    /// Print a topology that rebuilds a node's wiring: bridges, veths, pods,
    /// tunnels, routes
    Import(ImportOptions),
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
    /// Shape of the list: text or json
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
pub(crate) struct LabExecOptions {
    #[command(flatten)]
    pub(crate) lab: LabOptions,
    /// The machine
    pub(crate) machine: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    #[command(flatten)]
    pub(crate) lab: LabOptions,
    /// How long each expectation may take until it holds, unless it says so itself
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(crate) within: Duration,
    /// Shape of the report: text, json or junit (XML, for CI)
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: ReportShape,
}

/// Shapes of a report on expectations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportShape {
    /// For people
    Text,
    /// For programs
    Json,
    /// JUnit's XML, for CI
    Junit,
}

#[derive(Debug, Args)]
pub(crate) struct ShowOptions {
    #[command(flatten)]
    pub(crate) lab: LabOptions,
    /// Show each machine, also those that are alike
    #[arg(long)]
    pub(crate) all: bool,
    /// Shape of the answer: text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct GraphOptions {
    /// The lab: its name, or a topology file, which need not be up
    #[arg(value_name = "LAB")]
    pub(crate) lab: String,
    /// Draw each machine, also those that are alike
    #[arg(long)]
    pub(crate) all: bool,
    /// Format of the drawing: text (boxes and lines), dot (Graphviz), mermaid or svg
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Drawing,
}

/// Formats of drawings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Drawing {
    /// Boxes and lines, for a terminal
    Text,
    /// Graphviz
    Dot,
    /// Mermaid's flowchart
    Mermaid,
    /// A picture
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct LabCaptureOptions {
    #[command(flatten)]
    pub(crate) lab: LabOptions,
    /// The machine
    pub(crate) machine: String,
    /// Its interface; all unless given
    pub(crate) interface: Option<String>,
    /// Which packets, in tcpdump's words: -- tcp port 80
    #[arg(last = true, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Where to write ('-': stdout)
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) write: PathBuf,
    /// Stop after so many packets
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) count: Option<u64>,
    /// Stop after this time; else at Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) time: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}
