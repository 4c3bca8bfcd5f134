//! DEL of the plugins of a cached chain, for an attachment whose runtime has forgotten it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use analyze::plan::{Operation, PinIdentity, Step};
use ipam::Store;
use model::AttachmentKey;
use model::attachment::digest;

use crate::files;
use crate::journal::Outcome;
use crate::kernel;

/// A DEL that is to be called again.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    target: &'a str,
    cache: &'a Path,
    digest: u64,
    key: &'a AttachmentKey,
    netns: Option<&'a PinIdentity>,
    plugins: &'a [String],
    dirs: &'a [PathBuf],
    is_saved: bool,
}

/// Calls them, those of different orphans at the same time. A container's attachments come one after the other, as the
/// specification wants it.
pub(crate) fn all(replays: &[Replay<'_>]) -> Vec<Outcome> {
    let groups: Vec<&[Replay<'_>]> = replays.chunk_by(|a, b| a.target == b.target).collect();
    let run = |group: &[Replay<'_>]| group.iter().map(Replay::run).collect::<Vec<Outcome>>();
    if let [one] = groups.as_slice() {
        return run(one);
    }
    std::thread::scope(|scope| {
        let started: Vec<_> = groups.into_iter().map(|group| scope.spawn(move || run(group))).collect();
        let joined =
            started.into_iter().map(|one| one.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        joined.flatten().collect()
    })
}

impl<'a> Replay<'a> {
    /// What a step says; `saved` are the files of which there is a copy.
    pub(crate) fn of(step: &'a Step, dirs: &'a [PathBuf], saved: &HashSet<PathBuf>) -> Option<Self> {
        let Operation::ReplayDel { cache, digest, key, netns, plugins, essential: _ } = &step.operation
        else {
            return None;
        };
        let (target, is_saved) = (step.target.as_str(), saved.contains(cache));
        Some(Self { target, cache, digest: *digest, key, netns: netns.as_ref(), plugins, dirs, is_saved })
    }

    fn run(&self) -> Outcome {
        if self.plugins.iter().all(|plugin| cni::chain::find(plugin, self.dirs).is_err()) {
            return Outcome::Skipped { why: "no plugin of the chain is installed".to_owned() };
        }
        if let Some(pin) = self.netns.filter(|pin| kernel::open(pin).is_none()) {
            return Outcome::Changed {
                why: format!("{} leads to another namespace by now", pin.path.display()),
            };
        }
        if !self.is_saved {
            return Outcome::Failed {
                why: "there is no copy of the cache entry in the quarantine".to_owned(),
            };
        }
        let content = match files::read(self.cache) {
            Ok(Some(content)) if digest(&content) == self.digest => content,
            Ok(Some(_)) => {
                return Outcome::Changed { why: "the cache entry has another content by now".to_owned() };
            }
            Ok(None) => return Outcome::AlreadyGone,
            Err(error) => return files::failed(self.cache, error),
        };
        let netns = self.netns.map(|pin| pin.path.as_path());
        let leases = lease_dirs(&content, self.key);
        let is_reused = |address| leases.iter().any(|store| is_anothers(store, address, self.key));
        let errors = cni::chain::replay_del(&content, self.key, netns, self.dirs, is_reused);
        if errors.is_empty() {
            return Outcome::Done;
        }
        // Our own removal goes on with what the plugins left.
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Outcome::Failed { why: texts.join("; ") }
    }
}

/// Where the chain's host-local keeps the leases of its network.
fn lease_dirs(cached: &[u8], key: &AttachmentKey) -> Vec<Store> {
    let Ok(entry) = cni::cache::Entry::parse(cached) else { return Vec::new() };
    let plugins = cni::cache::plugins(&entry.config);
    let named =
        plugins.iter().filter_map(|plugin| plugin.pointer("/ipam/dataDir")?.as_str().map(PathBuf::from));
    let dirs = named.chain([PathBuf::from(ipam::store::DATA_DIR)]);
    // Where there is no directory, there are no leases.
    dirs.filter_map(|dir| Store::look(&dir.join(key.network.as_str())).ok()).collect()
}

/// Whether the address has been leased to another container. A lease that cannot be read is taken for one.
fn is_anothers(store: &Store, address: IpAddr, key: &AttachmentKey) -> bool {
    match store.lease(address) {
        Ok(None) => false,
        Ok(Some(lease)) => lease.owner().is_none_or(|(container, _)| container != key.container),
        Err(_) => true,
    }
}
