//! `podplumb snapshot`

use crate::arguments::SnapshotOptions;
use crate::commands::{snapshot_of, tell_coverage};
use crate::output::{Ended, print};

pub(crate) fn run(options: &SnapshotOptions) -> anyhow::Result<Ended> {
    let snapshot = snapshot_of(&options.node)?;
    print(&snapshot.to_json())?;
    tell_coverage(&snapshot);
    Ok(Ended::Fine)
}
