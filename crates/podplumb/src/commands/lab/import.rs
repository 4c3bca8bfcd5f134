//! `podplumb lab import`.

use analyze::render::{COLUMNS, printable};
use lab::{Imported, topology};
use model::Snapshot;

use crate::arguments::ImportOptions;
use crate::commands::whole_snapshot_of;
use crate::output::{Ended, note, print};

pub(crate) fn run(options: &ImportOptions) -> anyhow::Result<Ended> {
    let snapshot = whole_snapshot_of(&options.node)?;
    let imported = lab::import(&snapshot);
    for line in &imported.notes {
        note(format_args!("note: {line}"));
    }
    let yaml = format!("{}{}", head(&snapshot, &imported), topology::to_yaml(&imported.topology));
    // Addresses that two have, for one: whoever gets the file is to know.
    let read = |_: &str| Err(std::io::ErrorKind::NotFound.into());
    if let Err(fault) = lab::resolve(&imported.topology, "import", &read) {
        note(format_args!(
            "warning: `lab up` will refuse it: {}",
            fault.located(&yaml, "import.yaml".as_ref())
        ));
    }
    print(&yaml)?;
    Ok(Ended::Fine)
}

/// Comments: where it comes from, and what is not in it.
fn head(snapshot: &Snapshot, imported: &Imported) -> String {
    let node = printable(&snapshot.node.hostname);
    let mut head = format!("# The wiring of {node} as of {}.\n", snapshot.taken_at);
    for line in &imported.notes {
        let mut column = COLUMNS;
        for word in format!("- {line}").split(' ') {
            let width = word.chars().count();
            if column + 1 + width > COLUMNS {
                let indent = if column == COLUMNS && word == "-" { "#" } else { "#  " };
                if !head.ends_with('\n') {
                    head.push('\n');
                }
                head.push_str(indent);
                column = indent.len();
            }
            head.push(' ');
            head.push_str(word);
            column += 1 + width;
        }
        head.push('\n');
    }
    head
}
