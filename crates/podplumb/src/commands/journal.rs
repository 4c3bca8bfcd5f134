//! `podplumb journal`

use ::reclaim::{Entry, Event, Store};
use analyze::render::JournalLine;
use model::{Takeover, TakeoverEvent};
use serde::Serialize;

use crate::arguments::{Format, JournalOptions};
use crate::output::{Ended, paint, print, print_json};

/// A line of either journal, as JSON has it.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Reclaim(Entry),
    Takeover(Takeover),
}

pub(crate) fn run(options: &JournalOptions) -> anyhow::Result<Ended> {
    let store = Store::at(&options.store.state_dir);
    let (entries, takeovers) = (store.read()?, store.takeovers()?);
    if options.output == Format::Json {
        let takeovers = takeovers.into_iter().map(Line::Takeover);
        print_json(&entries.into_iter().map(Line::Reclaim).chain(takeovers).collect::<Vec<_>>())?;
        return Ok(Ended::Fine);
    }
    let mut lines = reclaimed(&entries);
    lines.extend(taken_over(&takeovers));
    // Stable: within a run, the order of the journal.
    lines.sort_by_key(|line| line.at);
    print(&analyze::render::journal(&lines, paint()))?;
    Ok(Ended::Fine)
}

fn reclaimed(entries: &[Entry]) -> Vec<JournalLine> {
    let mut lines: Vec<JournalLine> = Vec::new();
    for entry in entries {
        match &entry.event {
            Event::Begun { step } => lines.push(JournalLine {
                id: entry.id.clone(),
                at: entry.at,
                target: step.target.clone(),
                operation: step.operation.to_string(),
                outcome: "interrupted".into(),
            }),
            Event::Ended { outcome } => end(&mut lines, &entry.id, outcome.to_string()),
            Event::Undone { path } => lines.push(JournalLine {
                id: entry.id.clone(),
                at: entry.at,
                target: String::new(),
                operation: format!("put back {}", path.display()),
                outcome: "undone".into(),
            }),
        }
    }
    lines
}

fn taken_over(takeovers: &[Takeover]) -> Vec<JournalLine> {
    let mut lines: Vec<JournalLine> = Vec::new();
    for takeover in takeovers {
        match &takeover.event {
            TakeoverEvent::TakeoverBegun { lease_dir, address, content, since, by } => {
                let owner = content.replace("\r\n", " ");
                lines.push(JournalLine {
                    id: takeover.id.clone(),
                    at: takeover.at,
                    target: format!("ADD of {by}"),
                    operation: format!(
                        "take over lease {} of {owner}, written {since}, before this boot",
                        lease_dir.join(address.to_string()).display()
                    ),
                    outcome: "interrupted".into(),
                });
            }
            TakeoverEvent::TakeoverEnded { error } => {
                let outcome = error.as_ref().map_or("done".to_owned(), |error| format!("failed: {error}"));
                end(&mut lines, &takeover.id, outcome);
            }
        }
    }
    lines
}

/// Ids repeat if the clock was set back: the last begun is the one that ended.
fn end(lines: &mut [JournalLine], id: &str, outcome: String) {
    if let Some(line) = lines.iter_mut().rfind(|line| line.id == id) {
        line.outcome = outcome;
    }
}
