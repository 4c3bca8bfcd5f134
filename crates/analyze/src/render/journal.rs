//! The journal of reclaim.

use model::Timestamp;
use serde::Serialize;

use super::text::{columns, shorten};

/// One operation of a run, as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalLine {
    /// The id by which `undo` finds it.
    pub id: String,
    /// When it was begun.
    pub at: Timestamp,
    /// What it was about.
    pub target: String,
    /// What was done.
    pub operation: String,
    /// What became of it.
    pub outcome: String,
}

/// The lines, oldest first.
pub fn journal(lines: &[JournalLine]) -> String {
    let mut rows = vec![["ID", "TIME", "OUTCOME", "WHAT"].map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        vec![line.id.clone(), line.at.to_string(), shorten(&line.outcome), shorten(&line.operation)]
    }));
    let mut out = String::new();
    columns(&mut out, 0, &rows);
    out
}
