//! `cargo xtask tidy`: the invariants of docs/architecture.md that no compiler checks.

mod dependencies;
mod pages;
mod sources;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("tidy") => {}
        other => anyhow::bail!("{other:?} is no task; the tasks are: tidy"),
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let mut complaints = dependencies::check(&root)?;
    complaints.extend(sources::check(&root)?);
    complaints.extend(pages::check(&root)?);
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    println!("tidy: {} complaints", complaints.len());
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
