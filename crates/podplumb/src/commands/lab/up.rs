//! `podplumb lab up`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use lab::wiring::DeviceKind;
use lab::{Labs, Raised, UpOptions, Wiring};

use crate::arguments;
use crate::output::{Ended, note, print};

/// Work that is over sooner needs no progress.
const QUIET: Duration = Duration::from_millis(300);

pub(crate) fn run(options: &arguments::UpOptions, labs: &Labs) -> anyhow::Result<Ended> {
    let resolved = super::resolved(&options.topology)?;
    for warning in &resolved.warnings {
        note(format_args!("warning: {warning}"));
    }
    let start = Instant::now();
    let how = UpOptions {
        file: std::fs::canonicalize(&options.topology.file).ok(),
        skip_unsupported: options.skip_unsupported,
        dry_run: options.dry_run,
    };
    let wiring = &resolved.wiring;
    let done = labs.up(wiring, &how, &mut progress(start)).map_err(super::failed)?;
    match done {
        Raised::Unchanged => print(&format!("lab {}: nothing to change\n", wiring.lab))?,
        Raised::Made(plan) if options.dry_run => print(&plan.to_string())?,
        Raised::Made(plan) => {
            let what = counts(wiring);
            let changed = plan.len();
            let took = start.elapsed().as_secs_f64() * 1e3;
            print(&format!("lab {}: {what} ({changed} steps, {took:.0} ms)\n", wiring.lab))?;
        }
    }
    Ok(Ended::Fine)
}

fn counts(wiring: &Wiring) -> String {
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let is_first = |kind: &DeviceKind| matches!(kind, DeviceKind::Veth { first: true, .. });
    let devices = wiring.machines.iter().flat_map(|machine| &machine.devices);
    let links = devices.filter(|device| is_first(&device.kind)).count();
    format!(
        "{}, {}",
        count(wiring.machines.iter().filter(|machine| machine.is_there()).count(), "namespace"),
        count(links, "link")
    )
}

/// A line that is written over, on terminals.
fn progress(start: Instant) -> impl FnMut(usize, usize) {
    let is_terminal = std::io::stderr().is_terminal();
    let mut shown = false;
    move |done, total| {
        if is_terminal && (shown || start.elapsed() > QUIET) {
            shown = true;
            let end = if done == total { "\r\x1b[K" } else { "" };
            let _ = write!(std::io::stderr(), "\r{done} of {total}{end}");
        }
    }
}
