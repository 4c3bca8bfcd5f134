//! `podplumb reclaim --boot`

use analyze::render::printable;
use observe::runtimes;

use super::reclaim::{carry_out, nothing, open};
use crate::arguments::{ReclaimOptions, Shape};
use crate::commands::look;
use crate::output::{Ended, hinted, note, paint, print, print_json};

pub(super) fn run(options: &ReclaimOptions) -> anyhow::Result<Ended> {
    // Locked before the look, so that what is found is still there.
    let journal = options.removal.apply.then(|| open(options)).transpose()?;
    let started = runtimes::started(&super::runtimes(&options.node.live));
    let started = started.iter().map(|(kind, at)| format!("{kind} has been started: {}", at.display()));
    let mut objections: Vec<String> = started.collect();
    let Some(earliest) = sys::earliest_of_boot() else {
        return Err(hinted(
            "this kernel does not tell when /run was mounted, so nothing is known to be older than this boot",
            "`podplumb reclaim` does without that, once the runtimes answer (statx of tmpfs: Linux 6.0)",
        ));
    };
    let snapshot = look(&options.node.live)?;
    objections.extend(analyze::boot::objections(&snapshot));
    if let Some(first) = objections.first() {
        let more = match objections.len() {
            1 => String::new(),
            n => format!(" (and {} more reasons)", n - 1),
        };
        return Err(hinted(
            format!(
                "--boot is for the time before containers run: {}{more}; nothing was changed",
                printable(first)
            ),
            "`podplumb reclaim` finds what earlier boots left as well, with the runtimes' help",
        ));
    }
    let boot = analyze::boot(&snapshot, earliest);
    for (object, why) in &boot.left {
        note(format_args!("left alone: {}: {}", printable(object), printable(why)));
    }
    let Some(mut journal) = journal else {
        match options.output {
            Shape::Json => print_json(&boot.plan)?,
            Shape::Text if boot.plan.is_empty() => print("nothing to reclaim\n")?,
            Shape::Text => {
                print(&analyze::render::plan(&boot.plan, paint()))?;
                print("\nnothing was changed; --apply does it\n")?;
            }
        }
        return Ok(if boot.plan.is_empty() { Ended::Fine } else { Ended::Found });
    };
    match boot.plan.is_empty() {
        true => nothing(options),
        false => carry_out(options, &boot.plan, &mut journal),
    }
}
