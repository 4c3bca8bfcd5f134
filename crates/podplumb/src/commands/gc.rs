//! `podplumb gc`

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ::reclaim::{Error, Journal, Store, Surroundings};
use analyze::plan::Phase;
use analyze::render::printable;
use analyze::{Plan, collect};
use cni::cache::Cache;
use cni::{Network, NetworkName, Runner, Valid};
use model::{AttachmentKey, Snapshot};

use super::cni::{LOCK_DIR, dirs, tell};
use super::{look, require_root, snapshot_of, tell_coverage};
use crate::arguments::{CollectOptions, Shape};
use crate::output::{Ended, hinted, note, print, print_json};

pub(crate) fn run(options: &CollectOptions) -> anyhow::Result<Ended> {
    require_root(&options.node, "gc")?;
    // A reclaim at the same time would remove the same things, and an undo bring them back.
    let journal = options.removal.apply.then(|| open(options)).transpose()?;
    let first = snapshot_of(&options.node)?;
    refuse(&first)?;
    let networks = networks(&first);
    let Some(mut journal) = journal else {
        let stale = collect::attachments(&first, &first, options.removal.grace, &networks).stale;
        let stale: Vec<AttachmentKey> =
            stale.into_iter().filter(|key| networks.contains(&key.network)).collect();
        match options.output {
            Shape::Json => print_json(&stale)?,
            Shape::Text if stale.is_empty() => print("nothing to collect\n")?,
            Shape::Text => {
                let lines: String = stale.iter().map(|key| format!("would delete {key}\n")).collect();
                print(&format!("{lines}\nnothing was changed; --apply does it, after a second look\n"))?;
            }
        }
        tell_coverage(&first);
        return Ok(if stale.is_empty() { Ended::Fine } else { Ended::Found });
    };
    let leaks = analyze::leaks(&first, None, options.removal.grace);
    note(format_args!("looking again in {}", model::time::short(options.removal.grace)));
    std::thread::sleep(options.removal.grace);
    let second = look(&options.node.live)?;
    refuse(&second)?;
    let leaks_again = analyze::leaks(&second, Some(&first), options.removal.grace);
    let confirmed = Plan::confirmed((&first, &leaks), (&second, &leaks_again));
    let excess = analyze::excess(confirmed.orphans.iter(), &leaks_again, options.removal.max);
    if let Some(excess) = excess.first() {
        return Err(hinted(
            format!("this would remove {excess}; nothing was changed"),
            "look at them with `podplumb leaks`; if they may go, say how many: --max N",
        ));
    }
    let attachments = collect::attachments(&first, &second, options.removal.grace, &networks);
    save(options, &confirmed.plan, &mut journal)?;
    call(options, &second, attachments.valid, &networks)
}

fn open(options: &CollectOptions) -> anyhow::Result<Journal> {
    Store::at(&options.store.state_dir).open().map_err(|error| match error {
        Error::Busy { .. } => hinted(error.to_string(), "wait until it ends; nothing was changed"),
        error => error.into(),
    })
}

fn refuse(snapshot: &Snapshot) -> anyhow::Result<()> {
    let objections = collect::objections(snapshot);
    let Some(first) = objections.first() else { return Ok(()) };
    for other in &objections[1..] {
        note(format_args!("also: {}", printable(other)));
    }
    Err(hinted(
        format!("which attachments are valid cannot be told: {}; nothing was changed", printable(first)),
        "GC removes whatever it is not told to keep; `podplumb leaks --all` shows what is known",
    ))
}

/// The networks that are configured.
fn networks(snapshot: &Snapshot) -> BTreeSet<NetworkName> {
    snapshot.configs.iter().filter_map(|config| config.network.clone()).collect()
}

/// Copies what files there are of what goes, so that `undo` can put them back.
fn save(options: &CollectOptions, plan: &Plan, journal: &mut Journal) -> anyhow::Result<()> {
    let mut copies = plan.clone();
    copies.steps.retain(|step| step.operation.phase() == Phase::Copies);
    let surroundings = Surroundings { plugin_dirs: options.cni_bin_dir.clone() };
    let saved = ::reclaim::apply(&copies, journal, &surroundings, |_| {})?;
    if let Some(run) = saved.first().and_then(|applied| applied.id.split('.').next()) {
        note(format_args!("leases and cache entries can be put back: podplumb undo {run}"));
    }
    Ok(())
}

/// Calls GC of each network. Nothing here may start a thread: our plugins run in this process, and fork.
fn call(
    options: &CollectOptions,
    snapshot: &Snapshot,
    mut valid: BTreeMap<NetworkName, BTreeSet<(cni::ContainerId, cni::IfName)>>,
    networks: &BTreeSet<NetworkName>,
) -> anyhow::Result<Ended> {
    let live = &options.node.live;
    let mut failures = Vec::new();
    let mut deleted: Vec<AttachmentKey> = Vec::new();
    for name in networks {
        let network = match load(&live.cni_conf_dir, name) {
            Ok(network) => network,
            Err(why) => {
                note(format_args!("left alone: network {name}: {}", printable(&why)));
                continue;
            }
        };
        if network.disable_gc {
            note(format_args!("left alone: network {name}: its configuration says disableGC"));
            continue;
        }
        // What came since the second look is young.
        let keys = observe::attachments(&super::cni_paths(live));
        for key in keys.into_iter().filter(|key| key.network == *name && !is_known(snapshot, key)) {
            valid.entry(key.network).or_default().insert((key.container, key.ifname));
        }
        let runner = Runner {
            path: dirs(&options.cni_bin_dir),
            cache: Cache::at(live.cni_cache_dir.first().cloned().unwrap_or_default()),
            lock_dir: LOCK_DIR.into(),
            own: if options.exec { |_| None } else { plugins::select },
            limit: options.timeout,
            netns_override: false,
        };
        let own = valid.get(name).cloned().unwrap_or_default();
        match runner.gc(&network, &Valid::Listed(own.into_iter().collect())) {
            Ok(collected) => {
                deleted.extend(collected.deleted);
                failures.extend(collected.failures);
            }
            Err(failure) => failures.push(failure),
        }
    }
    match options.output {
        Shape::Json => print_json(&deleted)?,
        Shape::Text if deleted.is_empty() => print("no attachment of the cache was stale\n")?,
        Shape::Text => print(&deleted.iter().map(|key| format!("deleted {key}\n")).collect::<String>())?,
    }
    Ok(tell(&failures))
}

/// The first directory that has the network, as a runtime would find it there.
fn load(dirs: &[PathBuf], name: &NetworkName) -> Result<Network, String> {
    let mut why = "it is not configured any more".to_owned();
    for dir in dirs {
        match cni::load(dir, name) {
            Ok(network) => return Ok(network),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// Whether the observation has something of this attachment.
fn is_known(snapshot: &Snapshot, key: &AttachmentKey) -> bool {
    let of_lease = |lease: &model::Lease| {
        lease.network == key.network && lease.container.as_ref() == Some(&key.container)
    };
    snapshot.cache.iter().any(|entry| entry.key.as_ref() == Some(key))
        || snapshot.records.iter().any(|record| record.key == *key)
        || snapshot.leases.iter().any(of_lease)
}
