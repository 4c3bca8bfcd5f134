//! `podplumb doctor`

use std::time::Instant;

use analyze::doctor::{Check, checks, doctor};

use crate::arguments::{DoctorOptions, Shape};
use crate::commands::{require_root, tell_coverage, whole_snapshot_of};
use crate::output::{Ended, hinted, paint, print, print_json};

pub(crate) fn run(options: &DoctorOptions) -> anyhow::Result<Ended> {
    if let Some(id) = &options.explain {
        let check = find(id)?;
        match options.output {
            Shape::Text => print(&analyze::render::explain(check, paint()))?,
            Shape::Json => print_json(&described(check))?,
        }
        return Ok(Ended::Fine);
    }
    if options.list {
        match options.output {
            Shape::Text => print(&analyze::render::checks(checks()))?,
            Shape::Json => print_json(&checks().map(described).collect::<Vec<_>>())?,
        }
        return Ok(Ended::Fine);
    }
    let only = options.only.iter().map(|id| Ok(find(id)?.id)).collect::<anyhow::Result<Vec<_>>>()?;
    require_root(&options.node, "doctor")?;
    let begun = Instant::now();
    let snapshot = whole_snapshot_of(&options.node)?;
    let diagnosis = doctor(&snapshot, |check| only.is_empty() || only.contains(&check.id));
    match options.output {
        Shape::Text => {
            print(&analyze::render::doctor(&diagnosis, begun.elapsed(), paint()))?;
            tell_coverage(&snapshot);
        }
        Shape::Json => print_json(&serde_json::json!({
            "node": snapshot.node,
            "taken_at": diagnosis.taken_at,
            "findings": diagnosis.findings,
            "checks": diagnosis.checks,
            "coverage": snapshot.coverage,
        }))?,
    }
    Ok(if diagnosis.is_ill() { Ended::Found } else { Ended::Fine })
}

fn described(check: &Check) -> serde_json::Value {
    serde_json::json!({
        "check": check.id,
        "title": check.title,
        "severity": check.severity,
        "why": check.why,
        "see": check.see,
        "fix": check.fix,
        "source": check.source,
    })
}

/// The check of this name.
fn find(id: &str) -> anyhow::Result<&'static Check> {
    checks().find(|check| check.id == id).ok_or_else(|| {
        let like: Vec<&str> =
            checks().map(|check| check.id).filter(|name| name.contains(id) || id.contains(name)).collect();
        let hint = match like.as_slice() {
            [] => "podplumb doctor --list has all of them".to_owned(),
            like => format!("{}? podplumb doctor --list has all of them", like.join(" or ")),
        };
        hinted(format!("there is no check {id:?}"), hint)
    })
}
