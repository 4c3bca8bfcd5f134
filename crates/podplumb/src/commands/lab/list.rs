//! `podplumb lab list`.

use lab::{Labs, State};
use serde::Serialize;

use crate::arguments::{LabListOptions, Shape};
use crate::output::{Ended, print, print_json};

/// A lab in the list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    state: &'static str,
    namespaces: usize,
    file: Option<String>,
}

pub(crate) fn run(options: &LabListOptions, labs: &Labs) -> anyhow::Result<Ended> {
    let mut rows = Vec::new();
    for name in labs.names().map_err(super::failed)? {
        let (record, is_readable) = match labs.record(&name) {
            Ok(record) => (record, true),
            Err(_) => (None, false),
        };
        rows.push(Row {
            name: name.to_string(),
            state: match record.as_ref().map(|record| record.state) {
                Some(State::Up) => "up",
                _ if !is_readable => "unreadable",
                _ => "unfinished",
            },
            namespaces: record.as_ref().map_or(0, |record| record.namespaces.len()),
            file: record.and_then(|record| Some(record.file?.display().to_string())),
        });
    }
    match options.output {
        Shape::Json => print_json(&rows)?,
        Shape::Text => print(&table(&rows))?,
    }
    Ok(Ended::Fine)
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no labs\n".to_owned();
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}  {:10}  {:>10}  FILE\n", "LAB", "STATE", "NAMESPACES");
    for row in rows {
        let file = analyze::render::printable(row.file.as_deref().unwrap_or("-"));
        text.push_str(&format!("{:width$}  {:10}  {:>10}  {file}\n", row.name, row.state, row.namespaces));
    }
    text
}
