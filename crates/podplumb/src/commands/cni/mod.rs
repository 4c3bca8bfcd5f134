//! `podplumb cni`: the part of a container runtime that calls CNI plugins.
//!
//! Nothing here may start a thread: podplumb's own plugins run in this process, and fork.

mod attach;
mod gc;
mod install;
mod list;
mod origin;
mod rules;
mod status;
mod validate;

use std::path::{Path, PathBuf};

use cni::cache::Cache;
use cni::{Environment, Failure, LoadError, Network, NetworkName, Runner};

use crate::arguments::{CallOptions, CniCommand};
use crate::output::{Ended, hinted};

/// Locks are as short-lived as the boot.
pub(super) const LOCK_DIR: &str = "/run/podplumb/cni";

pub(crate) fn run(command: &CniCommand) -> anyhow::Result<Ended> {
    match command {
        CniCommand::Add(options) => attach::add(options),
        CniCommand::Del(options) => attach::del(options),
        CniCommand::Check(options) => attach::check(options),
        CniCommand::Gc(options) => gc::run(options),
        CniCommand::Status(options) => status::run(options),
        CniCommand::Rules => rules::run(),
        CniCommand::List(options) => list::run(options),
        CniCommand::Validate(options) => validate::run(options),
        CniCommand::Install(options) => install::run(options),
    }
}

/// Who calls the plugins.
fn runner(options: &CallOptions) -> anyhow::Result<Runner> {
    Ok(Runner {
        path: dirs(&options.place.bin_dir),
        cache: Cache::at(&options.place.cache_dir),
        lock_dir: LOCK_DIR.into(),
        own: if options.exec { |_| None } else { plugins::select },
        limit: options.timeout,
        netns_override: Environment::of_process().netns_override()?,
    })
}

/// CNI_PATH, without its empty parts.
pub(super) fn dirs(path: &[PathBuf]) -> Vec<PathBuf> {
    path.iter().filter(|dir| !dir.as_os_str().is_empty()).cloned().collect()
}

fn network(options: &CallOptions, name: &NetworkName) -> anyhow::Result<Network> {
    cni::load(&options.place.conf_dir, name).map_err(|error| {
        let what = format!("network {name} cannot be loaded: {error}");
        match error {
            LoadError::Directory(..) => hinted(what, "--conf-dir DIR says where configurations are"),
            LoadError::NotFound(..) => {
                hinted(what, "`podplumb cni list` shows the networks; --conf-dir DIR looks elsewhere")
            }
            LoadError::Broken(file, _) => hinted(
                what,
                format!("`podplumb cni validate {}` says everything that is wrong", file.display()),
            ),
        }
    })
}

/// Plugins change links, and their state is root's.
fn require_root(command: &str) -> anyhow::Result<()> {
    if sys::is_root() {
        return Ok(());
    }
    Err(hinted(
        format!("cni {command} needs root: plugins change network namespaces"),
        format!("sudo podplumb cni {command} …"),
    ))
}

/// Every failure on a line of its own, with what to do about the first that somebody can do something about.
pub(super) fn tell(failures: &[Failure]) -> Ended {
    for failure in failures {
        eprintln!("podplumb: {}", analyze::render::printable(&failure.to_string()));
    }
    if let Some(hint) = failures.iter().find_map(|failure| hint(failure)) {
        eprintln!("hint: {hint}");
    }
    if failures.is_empty() { Ended::Fine } else { Ended::Failed }
}

fn hint(failure: &Failure) -> Option<&'static str> {
    let error = &failure.error;
    let says = |text: &str| error.message.contains(text);
    match error.code {
        _ if says("is attached already") => Some("`podplumb cni del NETWORK CONTAINER` detaches it first"),
        _ if says("was not found") => {
            Some("--bin-dir DIR says where plugins are; `podplumb cni validate` checks all")
        }
        1 => Some("set cniVersion in the configuration to 1.1.0, if all its plugins support that"),
        3 => Some("was it attached by podplumb or a runtime? --cache-dir DIR looks for results elsewhere"),
        8 => Some("`ip netns add NAME` makes a namespace; of a process it is /proc/PID/ns/net"),
        11 => Some("try again"),
        50 | 100 => Some("`podplumb leaks` shows addresses that nobody uses any more"),
        2 | 6 | 7 => Some("`podplumb cni validate` says everything that is wrong with the configurations"),
        _ => None,
    }
}

/// A namespace as people write it: a path, or a name of `ip netns`.
fn netns(text: &Path) -> anyhow::Result<Option<PathBuf>> {
    if text.as_os_str().is_empty() {
        return Ok(None);
    }
    match text.components().count() {
        1 if !text.is_absolute() && !text.starts_with("..") => Ok(Some(Path::new("/run/netns").join(text))),
        _ => Ok(Some(std::path::absolute(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_path_or_a_name() {
        let netns = |text: &str| netns(Path::new(text)).unwrap().map(|path| path.display().to_string());
        assert_eq!(netns("blue").as_deref(), Some("/run/netns/blue"));
        assert_eq!(netns("/proc/7/ns/net").as_deref(), Some("/proc/7/ns/net"));
        assert!(netns("./blue").unwrap().ends_with("/blue") && netns("./blue").unwrap() != "/run/netns/blue");
        assert_eq!(netns(""), None);
    }
}
