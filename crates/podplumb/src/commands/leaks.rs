//! `podplumb leaks`

use analyze::Verdict;

use crate::arguments::{Format, LeaksOptions};
use crate::commands::{require_root, snapshot_of, tell_coverage, watch};
use crate::output::{Ended, paint, print, print_json};

pub(crate) fn run(options: &LeaksOptions) -> anyhow::Result<Ended> {
    require_root(&options.node, "leaks")?;
    if options.watch {
        return watch::run(&options.node.live);
    }
    let snapshot = snapshot_of(&options.node)?;
    let mut leaks = analyze::leaks(&snapshot, None, options.grace);
    let ended = if leaks.count(Verdict::Orphan) > 0 { Ended::Found } else { Ended::Fine };
    match options.output {
        Format::Json => {
            if !options.all {
                leaks.findings.retain(|finding| finding.ruling.verdict != Verdict::InUse);
            }
            print_json(&serde_json::json!({
                "taken_at": leaks.taken_at,
                "findings": leaks.findings,
                "coverage": snapshot.coverage,
            }))?;
        }
        format => {
            print(&analyze::render::leaks(&leaks, options.all || format == Format::Wide, paint()))?;
            tell_coverage(&snapshot);
        }
    }
    Ok(ended)
}
