//! `podplumb cni gc`

use cni::{Command, Valid};

use super::{network, require_root, runner, tell};
use crate::arguments::GcOptions;
use crate::output::{Ended, print};

pub(super) fn run(options: &GcOptions) -> anyhow::Result<Ended> {
    require_root("gc")?;
    let network = network(&options.call, &options.network)?;
    if network.disable_gc {
        eprintln!("nothing was collected: the configuration of {} says disableGC", network.name);
        return Ok(Ended::Fine);
    }
    let runner = runner(&options.call)?;
    let valid = match options.valid.from_cache {
        true => Valid::Cached,
        false => Valid::Listed(options.valid.valid.iter().cloned().collect()),
    };
    if options.dry_run {
        return match runner.stale(&network, &valid) {
            Ok((_, stale, _)) => {
                let lines = stale.iter().map(|entry| format!("would delete {}\n", entry.key));
                print(&lines.collect::<String>()).map(|()| Ended::Fine)
            }
            Err(failure) => Ok(tell(&[failure])),
        };
    }
    let collected = match runner.gc(&network, &valid) {
        Ok(collected) => collected,
        Err(failure) => return Ok(tell(&[failure])),
    };
    let lines = collected.deleted.iter().map(|key| format!("deleted {key}\n"));
    print(&lines.collect::<String>())?;
    for (path, why) in &collected.unreadable {
        eprintln!("left alone: {}: {why}", path.display());
    }
    if network.version < Command::Gc.since() {
        eprintln!(
            "the plugins were not asked: GC needs cniVersion {}, and {} has {}",
            Command::Gc.since(),
            network.name,
            network.version
        );
    }
    Ok(tell(&collected.failures))
}
