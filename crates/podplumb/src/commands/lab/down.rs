//! `podplumb lab down` and `podplumb lab gc`.

use std::time::Instant;

use lab::{Error, Labs, Removed};

use crate::arguments::DownOptions;
use crate::output::{Ended, hinted, print};

pub(crate) fn run(options: &DownOptions, labs: &Labs) -> anyhow::Result<Ended> {
    let start = Instant::now();
    let name = super::name_of(&options.lab)?;
    let removed = labs.down(&name, options.force).map_err(|error| match error {
        Error::Unknown(_) => hinted(format!("there is no lab {name}"), "`podplumb lab list` shows all"),
        error => super::failed(error),
    })?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    print(&format!("lab {name}: {} ({took:.0} ms)\n", said(&removed)))?;
    if *labs != Labs::default() {
        lab::rootless::leave(labs).map_err(super::failed)?;
    }
    Ok(Ended::Fine)
}

fn said(removed: &Removed) -> String {
    let plural = |number: usize| if number == 1 { "" } else { "s" };
    let ended = match removed.processes {
        0 => String::new(),
        number => format!(", {number} process{} ended", if number == 1 { "" } else { "es" }),
    };
    let namespaces = format!("{} namespace{}", removed.namespaces, plural(removed.namespaces));
    match removed.proved {
        true => format!("{namespaces} gone{ended}; the kernel has none of them any more"),
        false => format!("{namespaces} removed{ended}; this kernel cannot be asked whether they are gone"),
    }
}

pub(crate) fn gc(labs: &Labs) -> anyhow::Result<Ended> {
    let removed = labs.gc().map_err(super::failed)?;
    for name in &removed {
        print(&format!("lab {name}: removed what was left\n"))?;
    }
    if removed.is_empty() {
        print("nothing is left of any lab\n")?;
    }
    Ok(Ended::Fine)
}
