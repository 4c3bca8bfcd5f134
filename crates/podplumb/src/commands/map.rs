//! `podplumb map`

use crate::arguments::{MapOptions, Shape};
use crate::commands::snapshot_of;
use crate::output::{Ended, paint, print, print_json};

pub(crate) fn run(options: &MapOptions) -> anyhow::Result<Ended> {
    let snapshot = snapshot_of(&options.node)?;
    match options.output {
        Shape::Text => print(&analyze::render::map(&snapshot, paint()))?,
        Shape::Json => print_json(&serde_json::json!({
            "node": snapshot.node,
            "taken_at": snapshot.taken_at,
            "chains": analyze::who::chains(&snapshot),
            "coverage": snapshot.coverage,
        }))?,
    }
    Ok(Ended::Fine)
}
