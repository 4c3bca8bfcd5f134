//! `podplumb undo ID`

use ::reclaim::Store;
use ::reclaim::undo::Reversal;

use crate::arguments::{Shape, UndoOptions};
use crate::output::{Ended, hinted, print, print_json};

pub(crate) fn run(options: &UndoOptions) -> anyhow::Result<Ended> {
    if !sys::is_root() {
        return Err(hinted("undo needs root: it writes leases", "sudo podplumb undo …"));
    }
    let undone = ::reclaim::undo(&Store::at(&options.store.state_dir), &options.id);
    let undone = undone.map_err(|error| match error {
        ::reclaim::Error::Busy { .. } => hinted(error.to_string(), "wait until it ends; nothing was changed"),
        ::reclaim::Error::NoSuchId { .. } => hinted(error.to_string(), "`podplumb journal` lists them"),
        error => error.into(),
    })?;
    if options.output == Shape::Json {
        print_json(&undone)?;
    } else {
        for undone in &undone {
            let (word, why) = match &undone.result {
                Reversal::Restored => ("restored", String::new()),
                Reversal::NothingToDo { why } => ("nothing to do", format!(": {why}")),
                Reversal::Impossible { why } => ("cannot be restored", format!(": {why}")),
            };
            print(&analyze::render::undone(&undone.object, &format!("{word}{why}")))?;
        }
    }
    let restored = undone.iter().any(|undone| !matches!(undone.result, Reversal::Impossible { .. }));
    Ok(if restored { Ended::Fine } else { Ended::Failed })
}
