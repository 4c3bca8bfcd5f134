//! The journal of reclaim.

use model::Timestamp;
use serde::Serialize;

use super::text::{Paint, hang, shorten};

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

/// The lines, oldest first, by run. An operation's id is its run's, a dot and its number.
pub fn journal(lines: &[JournalLine], paint: Paint) -> String {
    let mut out = String::new();
    let (mut run, mut target) = ("", "");
    for line in lines {
        let (own_run, number) = line.id.rsplit_once('.').unwrap_or((&line.id, ""));
        if own_run != run {
            out.push_str(&format!("{}  {}\n", paint.bold(&format!("run {own_run}")), line.at));
            (run, target) = (own_run, "");
        }
        if line.target != target && !line.target.is_empty() {
            target = &line.target;
            out.push_str(&format!("  {}\n", shorten(target)));
        }
        let head = format!("{number:>6}  ");
        hang(&mut out, &head, 8, &shorten(&format!("{}: {}", line.operation, line.outcome)));
    }
    out
}
