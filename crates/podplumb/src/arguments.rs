//! Arguments as they are given; each command resolves its own.

mod capture;
mod cni;
mod examples;
mod lab;
mod trace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use capture::*;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
pub(crate) use cni::*;
pub(crate) use lab::*;
pub(crate) use trace::*;

/// Maps, diagnoses, cleans and builds the container network of a Linux node
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The arguments of this process; ends it where they are none, or where help is wanted.
pub(crate) fn arguments() -> Arguments {
    let matches = command().get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The command line, with examples.
fn command() -> clap::Command {
    examples::with_examples(with_shapes(Arguments::command()))
}

/// Names the values of all `--output` alike; which there are stands in each one's help.
fn with_shapes(command: clap::Command) -> clap::Command {
    let of_output = |arg: clap::Arg| match arg.get_id() == "output" {
        true => arg.value_name("SHAPE").hide_possible_values(true),
        false => arg,
    };
    command.mut_args(of_output).mut_subcommands(with_shapes)
}

/// The commands, in the order of their help: to look, to diagnose, to clean up, to build.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the node on a page: networks, uplinks, bridges, pods
    Map(MapOptions),
    /// Say what belongs to a veth, address, pid, namespace or pod
    Who(WhoOptions),
    /// List pods and containers with their wiring
    Pods(PodsOptions),
    /// Say who keeps a namespace or pod alive, and what to do
    Holders(HoldersOptions),
    /// Print all that can be seen of this node, as JSON for --from
    Snapshot(SnapshotOptions),
    /// Put what helps others to help into one archive, for a ticket
    Report(ReportOptions),
    /// Say what is wrong with the pods' network, and what to do
    Doctor(DoctorOptions),
    /// Follow a packet from A to B hop by hop: does it arrive, if not why
    Trace(TraceOptions),
    /// Show or write the packets of pods, veths, bridges and uplinks
    Capture(CaptureOptions),
    /// Run a command of this machine in a pod's network
    Exec(ExecOptions),
    /// Give a pod's network a name for `ip netns`, while it lives
    Expose(ExposeOptions),
    /// List a pod's sockets, with process and container
    Sockets(SocketsOptions),
    /// Find wiring that nobody uses any more, with the proof
    Leaks(LeaksOptions),
    /// Remove leaks; without --apply, say what would be done
    Reclaim(ReclaimOptions),
    /// Call GC of all networks with what is valid
    Gc(CollectOptions),
    /// List what reclaim did, and which leases ADDs took over
    Journal(JournalOptions),
    /// Put back leases and cache entries that reclaim removed
    Undo(UndoOptions),
    /// Call CNI plugins as a runtime does; check configurations
    #[command(subcommand)]
    Cni(CniCommand),
    /// Build networks of namespaces from a file, and verify them
    #[command(subcommand)]
    Lab(LabCommand),
}

/// Where the node is looked at.
#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    /// Read a snapshot file instead of this node ('-': stdin)
    #[arg(long, help_heading = LOOKING, value_name = "FILE", conflicts_with_all = ["cri", "docker", "runtime_timeout"])]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) live: LiveOptions,
}

/// The options that all of these commands have stand below a command's own.
const LOOKING: &str = "Where to look";

/// Where to look on this node.
#[derive(Debug, Args)]
pub(crate) struct LiveOptions {
    /// CRI socket to ask, besides those found in the usual places
    #[arg(long, help_heading = LOOKING, value_name = "SOCKET")]
    pub(crate) cri: Vec<PathBuf>,
    /// Docker API socket to ask, besides those found in the usual places
    #[arg(long, help_heading = LOOKING, value_name = "SOCKET")]
    pub(crate) docker: Vec<PathBuf>,
    /// How long each runtime may take; one that takes longer counts as silent
    #[arg(long, help_heading = LOOKING, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) runtime_timeout: Duration,
    /// `none`: no container runtime works on this node, so what none of
    /// them lists may be called an orphan
    #[arg(long, help_heading = LOOKING, value_enum, hide_possible_values = true, value_name = "auto|none")]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// Directory with CNI network configurations
    #[arg(long, help_heading = LOOKING, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub(crate) cni_conf_dir: Vec<PathBuf>,
    /// libcni's cache of results
    #[arg(long, help_heading = LOOKING, value_name = "DIR", default_value = "/var/lib/cni/results")]
    pub(crate) cni_cache_dir: Vec<PathBuf>,
    /// host-local's leases (those that configurations name are found)
    #[arg(long, help_heading = LOOKING, value_name = "DIR", default_value = "/var/lib/cni/networks")]
    pub(crate) cni_data_dir: Vec<PathBuf>,
}

/// What the user says about runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeChoice {
    /// Ask those that are found
    Auto,
    /// There is none: what no runtime lists may be called an orphan
    None,
}

/// Shapes of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, 80 columns
    Table,
    /// For people, with everything
    Wide,
    /// For programs
    Json,
}

/// Shapes of drawings and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotOptions {
    /// Look also at everything that could hold a namespace, for `holders --from`
    #[arg(long, conflicts_with = "from")]
    pub(crate) close: bool,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}

#[derive(Debug, Args)]
pub(crate) struct MapOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Shape of the output: tree (80 columns), wide (also indices, MACs, FDBs), json, dot (Graphviz), mermaid or svg
    #[arg(short, long, value_enum, default_value = "tree")]
    pub(crate) output: MapShape,
    /// Look twice, a second apart, and say how much passes where
    #[arg(long, conflicts_with = "from")]
    pub(crate) rates: bool,
    /// Look again every so often until interrupted, with what passed meanwhile;
    /// as JSON, one line a look
    #[arg(long, value_name = "TIME", value_parser = duration, num_args = 0..=1,
          default_missing_value = "1s", conflicts_with_all = ["from", "rates"])]
    pub(crate) watch: Option<Duration>,
    /// Draw each pod in a box of its own, also where many are alike
    #[arg(long)]
    pub(crate) all: bool,
}

/// Shapes of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MapShape {
    /// For people, 80 columns
    #[value(alias = "text")]
    Tree,
    /// For people, with indices, MACs, namespaces and ids
    Wide,
    /// For programs
    Json,
    /// Graphviz
    Dot,
    /// Mermaid's flowchart
    Mermaid,
    /// A picture
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// The archive, which must not exist yet
    /// [default: podplumb-NODE-TIME.tar.gz]
    #[arg(value_name = "FILE.tar.gz")]
    pub(crate) file: Option<PathBuf>,
    /// Replace addresses and names, the same always by the same
    #[arg(long)]
    pub(crate) redact: bool,
    /// Say what would be in it, and write nothing
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}

#[derive(Debug, Args)]
pub(crate) struct WhoOptions {
    /// A veth, interface index, IP or MAC address, pid, namespace path or inode,
    /// container id (a prefix will do), container or pod name. To say which kind
    /// of number is meant: pid:N, ifindex:N, inode:N
    #[arg(value_name = "X")]
    pub(crate) question: String,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Shape of the output: text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct HoldersOptions {
    /// A pod, container, veth, namespace path, pid or inode, as for `who`; also a
    /// file in /run/netns that is no namespace
    #[arg(value_name = "X")]
    pub(crate) question: String,
    /// End the TCP connections in it that no process has any more, and nothing else
    #[arg(long, conflicts_with = "from")]
    pub(crate) kill_orphans: bool,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Shape of the output: text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct ExecOptions {
    /// What to enter: a pod, container, pid, address, veth, or a namespace's path or inode
    #[arg(value_name = "X")]
    pub(crate) question: String,
    /// Enter its network namespace (this one is always entered)
    #[arg(long)]
    pub(crate) net: bool,
    /// Enter its mount namespace too, at its root: the command is the image's
    #[arg(long)]
    pub(crate) mount: bool,
    /// Enter its pid namespace too
    #[arg(long)]
    pub(crate) pid: bool,
    /// Enter its UTS namespace too: its host name
    #[arg(long)]
    pub(crate) uts: bool,
    /// Enter its IPC namespace too
    #[arg(long)]
    pub(crate) ipc: bool,
    /// Enter its cgroup namespace too
    #[arg(long)]
    pub(crate) cgroup: bool,
    /// Enter its user namespace too, as root there
    #[arg(long)]
    pub(crate) user: bool,
    /// Enter all that are not this machine's own
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) live: LiveOptions,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ExposeOptions {
    /// What gets it: a pod, container, pid, address, veth, or a namespace's path or
    /// inode; with --remove, a name that was given will do
    #[arg(value_name = "X", required_unless_present = "list")]
    pub(crate) question: Option<String>,
    /// The name [default: the pod's]
    #[arg(value_parser = crate::exposure::valid, conflicts_with_all = ["remove", "list"])]
    pub(crate) name: Option<String>,
    /// Take the name away again
    #[arg(long)]
    pub(crate) remove: bool,
    /// List the names that were given
    #[arg(long, conflicts_with_all = ["remove", "question"])]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) live: LiveOptions,
    /// Shape of the list: table (80 columns), wide (everything) or json
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct SocketsOptions {
    /// Whose: a pod, container, pid, address, veth, or a namespace's path or inode
    #[arg(value_name = "X")]
    pub(crate) question: String,
    /// Only those that wait for whoever comes
    #[arg(short, long)]
    pub(crate) listening: bool,
    /// Also unix sockets: those that listen, and those that are connected
    #[arg(long)]
    pub(crate) unix: bool,
    #[command(flatten)]
    pub(crate) live: LiveOptions,
    /// Shape of the output: table (80 columns), wide (everything) or json
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct PodsOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Shape of the output: table (80 columns), wide (everything) or json
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct LeaksOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// What is younger may be about to be used: 90s, 5m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub(crate) grace: Duration,
    /// Also show what is in use, and why
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not judge: print attachments as they appear and vanish, a JSON line each
    #[arg(long, conflicts_with_all = ["from", "all", "output"])]
    pub(crate) watch: bool,
    /// Also write the counts to a file, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE", conflicts_with = "watch")]
    pub(crate) metrics: Option<PathBuf>,
    /// Shape of the output: table (80 columns), wide (everything) or json
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Make these checks only
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Say what a check is about: why it matters, how to see it by hand, how to mend it
    #[arg(long, value_name = "ID", conflicts_with_all = ["list", "only", "from"])]
    pub(crate) explain: Option<String>,
    /// List all checks
    #[arg(long, conflicts_with_all = ["only", "from"])]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Shape of the output: text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

/// When something is removed, and how much.
#[derive(Debug, Args)]
pub(crate) struct RemovalOptions {
    /// Do it: after a second look, --grace later, at whatever the first one found
    #[arg(long, conflicts_with = "from")]
    pub(crate) apply: bool,
    /// Time between the two looks; what is younger is left alone
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub(crate) grace: Duration,
    /// How many objects of each kind (namespaces, veths, leases …) may go at
    /// once; above it nothing is done [default: 50, or a third of what exists,
    /// whichever is more]
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct ReclaimOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    #[command(flatten)]
    pub(crate) removal: RemovalOptions,
    /// Quarantine what earlier boots left: for a unit that runs before the
    /// runtimes are started. Refused once a runtime or a container runs
    #[arg(long, conflicts_with_all = ["from", "max"])]
    pub(crate) boot: bool,
    /// Directory with CNI plugins, for their DEL
    #[arg(long, value_name = "DIR", default_values = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"])]
    pub(crate) cni_bin_dir: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreOptions,
    /// Shape of the output: text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct CollectOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    #[command(flatten)]
    pub(crate) removal: RemovalOptions,
    /// Directory with CNI plugins, for those that podplumb does not have
    #[arg(long, value_name = "DIR", default_values = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"])]
    pub(crate) cni_bin_dir: Vec<PathBuf>,
    /// Execute all plugins from --cni-bin-dir, also those that podplumb has
    #[arg(long)]
    pub(crate) exec: bool,
    /// End a plugin that takes longer
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) store: StoreOptions,
    /// Shape of the output: text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

/// Where the journal is.
#[derive(Debug, Args)]
pub(crate) struct StoreOptions {
    /// Where journal and quarantine are
    #[arg(long, value_name = "DIR", default_value = "/var/lib/podplumb")]
    pub(crate) state_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct JournalOptions {
    #[command(flatten)]
    pub(crate) store: StoreOptions,
    /// Shape of the output: table (80 columns), wide (everything) or json
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct UndoOptions {
    /// An operation's id (RUN.N), or a run's, as `podplumb journal` lists them
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) store: StoreOptions,
    /// Shape of the output: text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

/// `90`, `90s`, `200ms`, `5m`, `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| "not a time like 90s, 200ms, 5m or 2h".to_owned())?;
    let seconds = match &text[digits.len()..] {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => return Err(format!("unit {other:?} is not ms, s, m or h")),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        for bad in ["", "m", "5 m", "-5s", "99999999999999999999", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
