//! One module a command, each with a `run`.

pub(crate) mod boot;
pub(crate) mod capture;
pub(crate) mod cni;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod expose;
pub(crate) mod gc;
pub(crate) mod holders;
pub(crate) mod journal;
pub(crate) mod lab;
pub(crate) mod leaks;
pub(crate) mod map;
pub(crate) mod pods;
pub(crate) mod reclaim;
pub(crate) mod report;
pub(crate) mod snapshot;
pub(crate) mod sockets;
pub(crate) mod trace;
pub(crate) mod undo;
pub(crate) mod watch;
pub(crate) mod who;

use std::io::{Read, Write};
use std::path::Path;

use anyhow::Context;
use model::{Snapshot, SnapshotError};
use observe::{CniPaths, RuntimeSources, Sources};

use crate::arguments::{LiveOptions, NodeOptions, RuntimeChoice};
use crate::output::hinted;

/// A snapshot of more than this is not one that podplumb wrote.
const LARGEST_SNAPSHOT_BYTES: u64 = 1 << 30;

/// The snapshot that the options mean: a file's, or one taken now, with what verdicts need.
fn snapshot_of(options: &NodeOptions) -> anyhow::Result<Snapshot> {
    from_or(options, look)
}

/// The snapshot that the options mean: a file's, or one taken now, also with what says where packets go in each namespace.
fn whole_snapshot_of(options: &NodeOptions) -> anyhow::Result<Snapshot> {
    from_or(options, look_at_stacks)
}

fn from_or(
    options: &NodeOptions,
    look: impl FnOnce(&LiveOptions) -> anyhow::Result<Snapshot>,
) -> anyhow::Result<Snapshot> {
    match &options.from {
        Some(file) => {
            let mut snapshot = read(file)?;
            snapshot.runtime_none |= options.live.runtime == Some(RuntimeChoice::None);
            Ok(snapshot)
        }
        None => look(&options.live),
    }
}

fn read(file: &Path) -> anyhow::Result<Snapshot> {
    let mut text = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(LARGEST_SNAPSHOT_BYTES).read_to_end(&mut text)
    } else {
        let opened = std::fs::File::open(file);
        opened.and_then(|file| file.take(LARGEST_SNAPSHOT_BYTES).read_to_end(&mut text))
    };
    read.with_context(|| format!("cannot read {}", file.display()))?;
    Snapshot::from_json(&text).map_err(|error| {
        let hint = match error {
            SnapshotError::Version { .. } => "take the snapshot again with this version of podplumb",
            SnapshotError::Malformed(_) => {
                "the file may be cut: take it again with `podplumb snapshot > FILE`"
            }
        };
        hinted(format!("{}: {error}", file.display()), hint)
    })
}

/// Where runtimes are, as the options say.
fn runtimes(options: &LiveOptions) -> RuntimeSources {
    RuntimeSources {
        cri: options.cri.clone(),
        docker: options.docker.clone(),
        none: options.runtime == Some(RuntimeChoice::None),
        timeout: options.runtime_timeout,
    }
}

/// Looks at this node.
pub(crate) fn look(options: &LiveOptions) -> anyhow::Result<Snapshot> {
    look_by(observe::observe, options, false)
}

/// Looks at this node, and at where packets go in each namespace.
fn look_at_stacks(options: &LiveOptions) -> anyhow::Result<Snapshot> {
    look_by(observe::observe, options, true)
}

/// Looks at this node, and at everything that could hold a namespace.
fn look_closely(options: &LiveOptions) -> anyhow::Result<Snapshot> {
    look_by(observe::observe_closely, options, false)
}

/// Looks at this node, at everything that could hold a namespace, and at where packets go in each.
fn look_at_everything(options: &LiveOptions) -> anyhow::Result<Snapshot> {
    look_by(observe::observe_closely, options, true)
}

pub(crate) fn look_by(
    observe: impl FnOnce(&Sources) -> Result<Snapshot, observe::Error>,
    options: &LiveOptions,
    stacks: bool,
) -> anyhow::Result<Snapshot> {
    let sources = Sources { runtimes: runtimes(options), cni: cni_paths(options), stacks };
    observe(&sources).map_err(|error| match error {
        observe::Error::Runtimes(_) => {
            hinted(error.to_string(), "leave --runtime none out: the runtime knows its containers best")
        }
        error => error.into(),
    })
}

/// Where CNI's state is.
fn cni_paths(options: &LiveOptions) -> CniPaths {
    CniPaths {
        conf_dirs: options.cni_conf_dir.clone(),
        cache_dirs: options.cni_cache_dir.clone(),
        data_dirs: options.cni_data_dir.clone(),
        ..CniPaths::default()
    }
}

/// Proofs need root: without it, namespaces of others cannot be read, and nothing would be an orphan.
fn require_root(options: &NodeOptions, command: &str) -> anyhow::Result<()> {
    if options.from.is_some() || sys::is_root() {
        return Ok(());
    }
    Err(hinted(
        format!("{command} needs root: it has to look into other people's namespaces"),
        format!("sudo podplumb {command}, or give it a snapshot with --from"),
    ))
}

/// What could not be seen, on stderr: it is not data.
pub(crate) fn tell_coverage(snapshot: &Snapshot) {
    let _ = std::io::stderr().write_all(analyze::render::coverage(&snapshot.coverage).as_bytes());
}
