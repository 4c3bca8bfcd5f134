//! `podplumb pods`

use crate::arguments::{Format, PodsOptions};
use crate::commands::{snapshot_of, tell_coverage};
use crate::output::{Ended, print, print_json};

pub(crate) fn run(options: &PodsOptions) -> anyhow::Result<Ended> {
    let snapshot = snapshot_of(&options.node)?;
    let chains = analyze::who::chains(&snapshot);
    match options.output {
        Format::Json => print_json(&chains)?,
        format => print(&analyze::render::pods(&chains, format == Format::Wide))?,
    }
    tell_coverage(&snapshot);
    Ok(Ended::Fine)
}
