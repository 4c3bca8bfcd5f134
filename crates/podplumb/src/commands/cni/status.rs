//! `podplumb cni status`

use cni::Command;

use super::{network, runner, tell};
use crate::arguments::StatusOptions;
use crate::output::Ended;

pub(super) fn run(options: &StatusOptions) -> anyhow::Result<Ended> {
    let network = network(&options.call, &options.network)?;
    if network.version < Command::Status.since() {
        eprintln!(
            "the plugins were not asked: STATUS needs cniVersion {}, and {} has {}",
            Command::Status.since(),
            network.name,
            network.version
        );
    }
    Ok(tell(runner(&options.call)?.status(&network).err().as_slice()))
}
