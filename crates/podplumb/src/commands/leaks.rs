//! `podplumb leaks`

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use analyze::Verdict;
use anyhow::Context;

use crate::arguments::{Format, LeaksOptions};
use crate::commands::{require_root, snapshot_of, tell_coverage, watch};
use crate::output::{Ended, paint, print, print_json};

pub(crate) fn run(options: &LeaksOptions) -> anyhow::Result<Ended> {
    require_root(&options.node, "leaks")?;
    if options.watch {
        return watch::run(&options.node.live);
    }
    let begun = Instant::now();
    let snapshot = snapshot_of(&options.node)?;
    let mut leaks = analyze::leaks(&snapshot, None, options.grace);
    if let Some(file) = &options.metrics {
        let text = analyze::render::metrics(&snapshot, &leaks, begun.elapsed());
        write_whole(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let ended = if leaks.count(Verdict::Orphan) > 0 { Ended::Found } else { Ended::Fine };
    match options.output {
        Format::Json => {
            if !options.all {
                leaks.findings.retain(|finding| finding.ruling.verdict != Verdict::InUse);
            }
            print_json(&serde_json::json!({
                "taken_at": leaks.taken_at,
                "findings": leaks.findings,
                "hazards": leaks.hazards,
                "coverage": snapshot.coverage,
                "enumeration": snapshot.enumeration,
                "versions": analyze::versions::versions(&snapshot),
            }))?;
        }
        format => {
            print(&analyze::render::leaks(&leaks, options.all || format == Format::Wide, paint()))?;
            tell_coverage(&snapshot);
            eprint!("{}", analyze::render::versions(&analyze::versions::versions(&snapshot)));
        }
    }
    Ok(ended)
}

/// Writes a file so that whoever reads it sees the old or the new one, whole. The name in between does not end like the file's:
/// node_exporter reads every *.prom.
fn write_whole(file: &Path, text: &str) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let beside = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = File::create_new(&beside).and_then(|mut new| new.write_all(text.as_bytes()));
    let done = written.and_then(|()| std::fs::rename(&beside, file));
    if done.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    done
}
