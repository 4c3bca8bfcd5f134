//! `podplumb journal`

use ::reclaim::{Event, Store};
use analyze::render::JournalLine;

use crate::arguments::{Format, JournalOptions};
use crate::output::{Ended, paint, print, print_json};

pub(crate) fn run(options: &JournalOptions) -> anyhow::Result<Ended> {
    let entries = Store::at(&options.store.state_dir).read()?;
    if options.output == Format::Json {
        print_json(&entries)?;
        return Ok(Ended::Fine);
    }
    let mut lines: Vec<JournalLine> = Vec::new();
    for entry in &entries {
        match &entry.event {
            Event::Begun { step } => lines.push(JournalLine {
                id: entry.id.clone(),
                at: entry.at,
                target: step.target.clone(),
                operation: step.operation.to_string(),
                outcome: "interrupted".into(),
            }),
            Event::Ended { outcome } => {
                if let Some(line) = lines.iter_mut().find(|line| line.id == entry.id) {
                    line.outcome = outcome.to_string();
                }
            }
            Event::Undone { path } => lines.push(JournalLine {
                id: entry.id.clone(),
                at: entry.at,
                target: String::new(),
                operation: format!("put back {}", path.display()),
                outcome: "undone".into(),
            }),
        }
    }
    print(&analyze::render::journal(&lines, paint()))?;
    Ok(Ended::Fine)
}
