//! `podplumb reclaim`

use ::reclaim::{Applied, Journal, Outcome, Store, Surroundings};
use analyze::render::printable;
use analyze::{Excess, Finding, Leaks, Plan, Verdict};
use model::Snapshot;

use crate::arguments::{ReclaimOptions, Shape};
use crate::commands::{look, require_root, snapshot_of, tell_coverage};
use crate::output::{Ended, hinted, note, paint, print, print_json};

pub(crate) fn run(options: &ReclaimOptions) -> anyhow::Result<Ended> {
    require_root(&options.node, "reclaim")?;
    match (options.boot, options.removal.apply) {
        (true, _) => super::boot::run(options),
        (false, true) => apply(options),
        (false, false) => dry_run(options),
    }
}

/// Both looks, the time between them, and what follows, under the lock of the journal: a second reclaim would wait for the same
/// orphans, and find half of them gone.
fn apply(options: &ReclaimOptions) -> anyhow::Result<Ended> {
    let mut journal = open(options)?;
    for finished in ::reclaim::resume(&mut journal)? {
        let object = printable(&finished.step.operation.to_string());
        note(format_args!(
            "finished what a killed run had begun: {object}: {}",
            printable(&finished.outcome.to_string())
        ));
    }
    let snapshot = snapshot_of(&options.node)?;
    let leaks = analyze::leaks(&snapshot, None, options.removal.grace);
    let plan = Plan::new(&snapshot, &leaks);
    if plan.is_empty() {
        tell_coverage(&snapshot);
        return nothing(options);
    }
    refuse_excess(leaks.with(Verdict::Orphan), &leaks, options)?;
    // Open namespaces keep their inodes from being reused between the two looks, where nothing better identifies them.
    let held = ::reclaim::kernel::hold(&plan);
    let targets = leaks.count(Verdict::Orphan);
    let targets = if targets == 1 { "1 orphan".to_owned() } else { format!("{targets} orphans") };
    note(format_args!("{targets}; looking again in {}", model::time::short(options.removal.grace)));
    std::thread::sleep(options.removal.grace);
    let again = look(&options.node.live)?;
    let leaks_again = analyze::leaks(&again, Some(&snapshot), options.removal.grace);
    let confirmed = Plan::confirmed((&snapshot, &leaks), (&again, &leaks_again));
    drop(held);
    for (target, why) in &confirmed.dropped {
        note(format_args!("left alone: {}: {}", printable(target), printable(why)));
    }
    if confirmed.plan.is_empty() {
        return nothing(options);
    }
    refuse_excess(confirmed.orphans.iter(), &leaks_again, options)?;
    carry_out(options, &confirmed.plan, &mut journal)
}

pub(super) fn open(options: &ReclaimOptions) -> anyhow::Result<Journal> {
    Store::at(&options.store.state_dir).open().map_err(|error| match error {
        ::reclaim::Error::Busy { .. } => hinted(error.to_string(), "wait until it ends; nothing was changed"),
        error => hinted(
            error.to_string(),
            "without its journal reclaim changes nothing; --state-dir DIR has it elsewhere",
        ),
    })
}

/// Above the limit nothing at all is done.
fn refuse_excess<'a>(
    removed: impl Iterator<Item = &'a Finding>,
    all: &Leaks,
    options: &ReclaimOptions,
) -> anyhow::Result<()> {
    match too_much(&analyze::excess(removed, all, options.removal.max)) {
        None => Ok(()),
        Some(excess) => Err(hinted(
            format!("this would remove {excess}; nothing was changed"),
            "look at them with `podplumb leaks`; if they may go, say how many: --max N",
        )),
    }
}

fn too_much(excess: &[Excess]) -> Option<String> {
    let texts: Vec<String> = excess.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(" and "))
}

pub(super) fn nothing(options: &ReclaimOptions) -> anyhow::Result<Ended> {
    match options.output {
        Shape::Text => print("nothing to reclaim\n")?,
        Shape::Json => print_json(&Vec::<Applied>::new())?,
    }
    Ok(Ended::Fine)
}

fn dry_run(options: &ReclaimOptions) -> anyhow::Result<Ended> {
    let snapshot: Snapshot = snapshot_of(&options.node)?;
    let leaks = analyze::leaks(&snapshot, None, options.removal.grace);
    let plan = Plan::new(&snapshot, &leaks);
    match options.output {
        Shape::Json => print_json(&plan)?,
        Shape::Text if plan.is_empty() => print("nothing to reclaim\n")?,
        Shape::Text => {
            print(&analyze::render::plan(&plan, paint()))?;
            print("\nnothing was changed; --apply does it, after a second look\n")?;
        }
    }
    if let Some(excess) = too_much(&analyze::excess(leaks.with(Verdict::Orphan), &leaks, options.removal.max))
    {
        note(format_args!("--apply will refuse, unless --max allows it: {excess}"));
    }
    tell_coverage(&snapshot);
    Ok(if plan.is_empty() { Ended::Fine } else { Ended::Found })
}

pub(super) fn carry_out(
    options: &ReclaimOptions,
    plan: &Plan,
    journal: &mut Journal,
) -> anyhow::Result<Ended> {
    let surroundings = Surroundings { plugin_dirs: options.cni_bin_dir.clone() };
    let is_text = options.output == Shape::Text;
    let mut target = String::new();
    let applied = ::reclaim::apply(plan, journal, &surroundings, |applied: &Applied| {
        if !is_text {
            return;
        }
        let mut text = String::new();
        if applied.step.target != target {
            target.clone_from(&applied.step.target);
            text = format!("{}\n", printable(&target));
        }
        let outcome = applied.outcome.to_string();
        text.push_str(&analyze::render::applied(&applied.id, &applied.step.operation, &outcome, paint()));
        // Whoever reads stdout may go away; what was begun goes on.
        let _ = print(&text);
    });
    let applied = applied.map_err(|error| {
        hinted(
            format!("the run was broken off: {error}"),
            "what was done is in `podplumb journal`; the next run goes on",
        )
    })?;
    let failed = applied.iter().filter(|applied| matches!(applied.outcome, Outcome::Failed { .. })).count();
    if is_text {
        let run = applied.first().and_then(|applied| applied.id.split('.').next()).unwrap_or_default();
        let count = applied.len();
        print(&format!("\n{count} operations, {failed} failed; to put leases and cache entries back:\n"))?;
        print(&format!("  podplumb undo {run}\n"))?;
    } else {
        print_json(&applied)?;
    }
    Ok(if failed == 0 { Ended::Fine } else { Ended::Failed })
}
