//! `podplumb reclaim`

use ::reclaim::{Applied, Outcome, Store, Surroundings};
use analyze::Plan;
use model::Snapshot;

use crate::arguments::{ReclaimOptions, Shape};
use crate::commands::{look, require_root, snapshot_of, tell_coverage};
use crate::output::{Ended, hinted, paint, print, print_json};

pub(crate) fn run(options: &ReclaimOptions) -> anyhow::Result<Ended> {
    require_root(&options.node, "reclaim")?;
    let snapshot = snapshot_of(&options.node)?;
    let leaks = analyze::leaks(&snapshot, None, options.grace);
    let plan = Plan::new(&snapshot, &leaks);
    if !options.apply {
        return dry_run(options, &snapshot, &plan);
    }
    if plan.is_empty() {
        tell_coverage(&snapshot);
        return nothing(options);
    }
    // Open namespaces keep their inodes from being reused between the two looks, where nothing better identifies them.
    let held = ::reclaim::kernel::hold(&plan);
    let targets = leaks.count(analyze::Verdict::Orphan);
    let targets = if targets == 1 { "1 orphan".to_owned() } else { format!("{targets} orphans") };
    eprintln!("{targets}; looking again in {}", model::time::short(options.grace));
    std::thread::sleep(options.grace);
    let again = look(&options.node.live)?;
    let leaks_again = analyze::leaks(&again, Some(&snapshot), options.grace);
    let confirmed = Plan::confirmed((&snapshot, &leaks), (&again, &leaks_again));
    drop(held);
    for (target, why) in &confirmed.dropped {
        eprintln!("left alone: {target}: {why}");
    }
    if confirmed.plan.is_empty() {
        return nothing(options);
    }
    apply(options, &confirmed.plan)
}

fn nothing(options: &ReclaimOptions) -> anyhow::Result<Ended> {
    match options.output {
        Shape::Text => print("nothing to reclaim\n")?,
        Shape::Json => print_json(&Vec::<Applied>::new())?,
    }
    Ok(Ended::Fine)
}

fn dry_run(options: &ReclaimOptions, snapshot: &Snapshot, plan: &Plan) -> anyhow::Result<Ended> {
    match options.output {
        Shape::Json => print_json(plan)?,
        Shape::Text if plan.is_empty() => print("nothing to reclaim\n")?,
        Shape::Text => {
            print(&analyze::render::plan(plan, paint()))?;
            print("\nnothing was changed; --apply does it, after a second look\n")?;
        }
    }
    tell_coverage(snapshot);
    Ok(if plan.is_empty() { Ended::Fine } else { Ended::Found })
}

fn apply(options: &ReclaimOptions, plan: &Plan) -> anyhow::Result<Ended> {
    let store = Store::at(&options.store.state_dir);
    let surroundings = Surroundings { plugin_dirs: options.cni_bin_dir.clone() };
    let is_text = options.output == Shape::Text;
    let mut target = String::new();
    let applied = ::reclaim::apply(plan, &store, &surroundings, |applied: &Applied| {
        if !is_text {
            return;
        }
        let mut text = String::new();
        if applied.step.target != target {
            target.clone_from(&applied.step.target);
            text = format!("{target}\n");
        }
        let outcome = applied.outcome.to_string();
        text.push_str(&analyze::render::applied(&applied.id, &applied.step.operation, &outcome, paint()));
        // Whoever reads stdout may go away; what was begun goes on.
        let _ = print(&text);
    });
    let applied = applied.map_err(|error| match error {
        ::reclaim::Error::Busy { .. } => hinted(error.to_string(), "wait until it ends; nothing was changed"),
        error => error.into(),
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
