//! `podplumb snapshot`

use crate::arguments::SnapshotOptions;
use crate::commands::{look_closely, snapshot_of, tell_coverage};
use crate::output::{Ended, print};

pub(crate) fn run(options: &SnapshotOptions) -> anyhow::Result<Ended> {
    let snapshot =
        if options.close { look_closely(&options.node.live)? } else { snapshot_of(&options.node)? };
    print(&snapshot.to_json())?;
    tell_coverage(&snapshot);
    Ok(Ended::Fine)
}
