//! Arguments as they are given; each command resolves its own.

mod cni;
mod lab;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use cni::*;
pub(crate) use lab::*;

/// Maps a node's container network, finds what crashed containers left behind, and reclaims it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print everything that can be seen of this node, as JSON
    Snapshot(SnapshotOptions),
    /// Draw the node: bridges, veths, pods, runtimes, and what could not be seen
    Map(MapOptions),
    /// Say what belongs to a veth, address, pid, namespace, container or pod
    Who(WhoOptions),
    /// Say why a namespace, veth or pod is still alive: who holds it, and what to do
    Holders(HoldersOptions),
    /// List pods and containers with their wiring
    Pods(PodsOptions),
    /// Find wiring that nobody uses any more, with the proof (exit 3 if there is any)
    Leaks(LeaksOptions),
    /// Remove leaks; without --apply, print what would be done
    Reclaim(ReclaimOptions),
    /// Call GC of all configured networks, with what all runtimes and the kernel
    /// say is valid; without --apply, print what would be deleted
    Gc(CollectOptions),
    /// List what reclaim did, and which leases of earlier boots ADDs took over
    Journal(JournalOptions),
    /// Put back leases and cache entries that reclaim removed
    Undo(UndoOptions),
    /// Call CNI plugins as a runtime does, and look after their configuration
    #[command(subcommand)]
    Cni(CniCommand),
    /// Build networks of namespaces from a file, verify them, and remove them without a trace
    #[command(subcommand)]
    Lab(LabCommand),
}

/// Where the node is looked at.
#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    /// Read a snapshot file instead of this node ('-': stdin)
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) live: LiveOptions,
}

/// Where to look on this node.
#[derive(Debug, Args)]
pub(crate) struct LiveOptions {
    /// CRI socket to ask, besides those found in the usual places
    #[arg(long, value_name = "SOCKET", conflicts_with = "from")]
    pub(crate) cri: Vec<PathBuf>,
    /// Docker API socket to ask, besides those found in the usual places
    #[arg(long, value_name = "SOCKET", conflicts_with = "from")]
    pub(crate) docker: Vec<PathBuf>,
    /// How long each runtime may take; one that takes longer counts as silent
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s", conflicts_with = "from")]
    pub(crate) runtime_timeout: Duration,
    /// Say that no container runtime works on this node
    #[arg(long, value_enum)]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// Directory with CNI network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub(crate) cni_conf_dir: Vec<PathBuf>,
    /// libcni's cache of results
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/results")]
    pub(crate) cni_cache_dir: Vec<PathBuf>,
    /// host-local's leases (those that configurations name are found)
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/networks")]
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
    /// Shape of the output
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
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
    /// Shape of the output
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
    /// Shape of the output
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct PodsOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Shape of the output
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct LeaksOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// What is younger may be about to be used: 90s, 5m
    #[arg(long, value_parser = duration, default_value = "60s")]
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
    /// Shape of the output
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

/// When something is removed, and how much.
#[derive(Debug, Args)]
pub(crate) struct RemovalOptions {
    /// Do it: after a second look, --grace later, at whatever the first one found
    #[arg(long, conflicts_with = "from")]
    pub(crate) apply: bool,
    /// Time between the two looks; what is younger is left alone
    #[arg(long, value_parser = duration, default_value = "60s")]
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
    /// Shape of the output
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
    /// Shape of the output
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
    /// Shape of the output
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
    /// Shape of the output
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

/// `90`, `90s`, `5m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| "not a time like 90s, 5m or 2h".to_owned())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => return Err(format!("unit {other:?} is not s, m or h")),
    };
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
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
        for bad in ["", "m", "5 m", "-5s", "99999999999999999999", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
