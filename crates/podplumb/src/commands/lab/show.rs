//! `podplumb lab show` and `podplumb lab graph`.

use std::path::Path;

use analyze::drawing;
use lab::{Labs, Wiring};

use crate::arguments::{Drawing, FileOptions, GraphOptions, LabOptions, Shape, ShowOptions};
use crate::output::{Ended, paint, print, print_json};

/// As wide as a terminal is at least.
const COLUMNS: usize = 80;

pub(crate) fn run(options: &ShowOptions, labs: &Labs) -> anyhow::Result<Ended> {
    let record = super::record(labs, &options.lab)?;
    match options.output {
        Shape::Json => print_json(&record)?,
        Shape::Text => print(&lab::show::text(&record.wiring, options.all, COLUMNS, paint()))?,
    }
    Ok(Ended::Fine)
}

pub(crate) fn graph(options: &GraphOptions, labs: &Labs) -> anyhow::Result<Ended> {
    let graph = lab::drawing::graph(&wiring(&options.lab, labs)?, options.all);
    print(&match options.output {
        Drawing::Text => drawing::text(&graph, COLUMNS, paint()),
        Drawing::Dot => drawing::dot(&graph),
        Drawing::Mermaid => drawing::mermaid(&graph),
        Drawing::Svg => drawing::svg(&graph),
    })?;
    Ok(Ended::Fine)
}

/// Of a lab that is up, or of a file.
fn wiring(lab: &str, labs: &Labs) -> anyhow::Result<Wiring> {
    if super::is_file(lab) {
        let file = FileOptions { file: Path::new(lab).to_owned(), name: None };
        return Ok(super::resolved(&file)?.wiring);
    }
    Ok(super::record(labs, &LabOptions { lab: lab.to_owned() })?.wiring)
}
