//! What earlier boots left, right after a start: the containers ended with the boot, their files did not.
//!
//! No second look is needed, and no runtime has to disown anything: nothing that is written here before the machine started can
//! belong to a container that runs now. So it has to be certain that it was, and that no container runs yet.

use std::net::IpAddr;

use model::{CacheEntry, ContainerId, Lease, Snapshot, Timestamp};

use crate::plan::{Operation, Plan, Step};
use crate::wiring::{short_id, wirings};

/// What is quarantined, and what is not although it is old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// What to do: copies to the quarantine, then removals.
    pub plan: Plan,
    /// Old things that are left alone, and why.
    pub left: Vec<(String, String)>,
}

/// Processes that are, or stand for, a runtime's containers, by their `comm` (15 characters at most).
const OF_RUNTIMES: [&str; 8] =
    ["containerd", "containerd-shim", "dockerd", "crio", "conmon", "podman", "cri-dockerd", "buildkitd"];

/// IPAM plugins that keep nothing but files that end up in the quarantine, or nothing at all. What others gave, only their DEL
/// gives back, and that needs the cache entry.
const LOCAL_IPAM: [&str; 2] = ["host-local", "static"];

/// Why nothing may be quarantined now: containers run already, or may.
pub fn objections(snapshot: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    // What Podman's store on disk lists may be of before this boot.
    let answering = snapshot.runtimes.iter().filter(|runtime| runtime.answered() && !runtime.is_store());
    found.extend(
        answering.map(|runtime| format!("{} answers at {}", runtime.kind, runtime.endpoint.display())),
    );
    let tasks = || snapshot.namespaces.iter().flat_map(|namespace| &namespace.tasks);
    let of_runtimes = tasks().filter(|task| OF_RUNTIMES.contains(&task.command.as_str()));
    found.extend(of_runtimes.take(3).map(|task| format!("{task} runs")));
    for wiring in wirings(snapshot) {
        if let Some(namespace) = wiring.namespace().filter(|_| wiring.is_tied()) {
            found.push(format!("{} has a namespace, {}", wiring.label(), namespace.label()));
        }
    }
    let hides = |source: model::Source| source.hides_holders() || source == model::Source::Enumeration;
    let hidden = snapshot.coverage.iter().filter(|gap| hides(gap.source));
    found.extend(hidden.map(|gap| format!("{} could not be read: {}", gap.object, gap.why)));
    found
}

/// What earlier boots left. Nothing of this boot was written before `earliest`.
pub fn boot(snapshot: &Snapshot, earliest: Timestamp) -> Boot {
    let mut boot =
        Boot { plan: Plan { boot_id: snapshot.node.boot_id.clone(), steps: Vec::new() }, left: Vec::new() };
    for entry in snapshot.cache.iter().filter(|entry| entry.since < earliest) {
        let label = entry.key.as_ref().map(|key| &key.container);
        let operations = [
            Operation::SaveCache { path: entry.path.clone(), digest: entry.digest },
            Operation::RemoveCache { path: entry.path.clone(), digest: entry.digest },
        ];
        boot.add(label, &entry.path.display().to_string(), keep_entry(entry), operations);
    }
    // The entries that stay: whoever replays their DEL will release their leases.
    let staying: Vec<&ContainerId> = snapshot
        .cache
        .iter()
        .filter(|entry| entry.since >= earliest || keep_entry(entry).is_some())
        .filter_map(|entry| Some(&entry.key.as_ref()?.container))
        .collect();
    for lease in snapshot.leases.iter().filter(|lease| lease.since < earliest) {
        let why = keep_lease(lease, snapshot).or_else(|| {
            let stays = lease.container.as_ref().is_some_and(|container| staying.contains(&container));
            stays.then(|| "the cache entry of its container stays".to_owned())
        });
        let operations = [
            Operation::SaveLease { path: lease.path.clone(), content: lease.content.clone() },
            Operation::RemoveLease { path: lease.path.clone(), content: lease.content.clone() },
        ];
        boot.add(lease.container.as_ref(), &lease.path.display().to_string(), why, operations);
    }
    for record in snapshot.records.iter().filter(|record| record.boot_id != snapshot.node.boot_id) {
        let Some(seen) = &record.seen else { continue };
        let why = seen.locked.then(|| "an ADD or DEL holds its lock".to_owned());
        let (path, key) = (seen.path.clone(), record.key.clone());
        let operations = [
            Operation::SaveRecord { path: path.clone(), key: key.clone() },
            Operation::RemoveRecord { path, key },
        ];
        boot.add(Some(&record.key.container), &seen.path.display().to_string(), why, operations);
    }
    for file in snapshot.stale_files.iter().filter(|file| file.since < earliest) {
        let why = (file.size_bytes > 0).then(|| "it has content: no runtime made it".to_owned());
        let operation = Operation::RemoveStaleFile { path: file.path.clone(), inode: file.inode };
        boot.add(None, &file.path.display().to_string(), why, [operation]);
    }
    // Stable: within a phase, the order above stays.
    boot.plan.steps.sort_by_key(|step| step.operation.phase());
    boot
}

impl Boot {
    fn add(
        &mut self,
        container: Option<&ContainerId>,
        object: &str,
        why_not: Option<String>,
        operations: impl IntoIterator<Item = Operation>,
    ) {
        if let Some(why) = why_not {
            return self.left.push((object.to_owned(), why));
        }
        let target = container.map_or_else(|| object.to_owned(), |id| short_id(id.as_str()).to_owned());
        let step = |operation| Step { target: target.clone(), operation };
        self.plan.steps.extend(operations.into_iter().map(step));
    }
}

fn keep_entry(entry: &CacheEntry) -> Option<String> {
    let foreign = entry.ipam.iter().find(|ipam| !LOCAL_IPAM.contains(&ipam.as_str()))?;
    Some(format!("only the DEL of {foreign} gives its addresses back: reclaim calls it"))
}

fn keep_lease(lease: &Lease, snapshot: &Snapshot) -> Option<String> {
    if lease.locked {
        return Some("an ADD or DEL holds the lock of its directory".to_owned());
    }
    if has_address(snapshot, lease.address) {
        return Some("its address is on an interface".to_owned());
    }
    // As plugins write it; cut to nothing by a crash; or with the id alone, as host-local did before 0.8. A person's words say that
    // the address is reserved for good.
    let is_a_plugins = match (&lease.container, &lease.ifname) {
        (Some(container), Some(ifname)) => lease.content == format!("{container}\r\n{ifname}"),
        (Some(container), None) => {
            let id = container.as_str();
            id.len() >= 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        (None, _) => lease.content.trim().is_empty(),
    };
    (!is_a_plugins).then(|| "no plugin writes such a lease: the address may be reserved".to_owned())
}

fn has_address(snapshot: &Snapshot, address: IpAddr) -> bool {
    let links = snapshot.namespaces.iter().flat_map(|namespace| &namespace.links);
    links.flat_map(|link| &link.addresses).any(|net| net.addr() == address)
}
