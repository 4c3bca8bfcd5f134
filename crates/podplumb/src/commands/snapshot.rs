//! `podplumb snapshot`

use crate::arguments::SnapshotOptions;
use crate::commands::{look_at_everything, tell_coverage, whole_snapshot_of};
use crate::output::{Ended, print};

pub(crate) fn run(options: &SnapshotOptions) -> anyhow::Result<Ended> {
    let snapshot = if options.close {
        look_at_everything(&options.node.live)?
    } else {
        whole_snapshot_of(&options.node)?
    };
    print(&snapshot.to_json())?;
    tell_coverage(&snapshot);
    Ok(Ended::Fine)
}
