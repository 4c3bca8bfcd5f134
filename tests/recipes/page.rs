//! The part of docs/why-not-a-script.md that is measured.

use std::fmt::Write;
use std::path::PathBuf;

use crate::animal::Animal;
use crate::recipe::Recipe;

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->";

/// What a recipe did.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) recipe: &'static Recipe,
    /// Of the dead: how many there were, and the names of those of which something is left, with what.
    pub(crate) dead: usize,
    /// Of how many pieces the dead were.
    pub(crate) pieces: usize,
    pub(crate) left: Vec<(&'static str, Vec<&'static str>)>,
    /// Of the living: how many, and the names of those that lost something, with what.
    pub(crate) living: usize,
    pub(crate) harmed: Vec<(&'static str, Vec<&'static str>)>,
}

impl Row {
    pub(crate) fn new(recipe: &'static Recipe, animals: &[Animal]) -> Self {
        let of = |alive: bool| animals.iter().filter(move |animal| animal.alive == alive);
        let with = |(_, pieces): &(&str, Vec<&str>)| !pieces.is_empty();
        Self {
            recipe,
            dead: of(false).count(),
            pieces: of(false).map(|animal| animal.pieces.len()).sum(),
            left: of(false).map(|animal| (animal.name, animal.left())).filter(with).collect(),
            living: of(true).count(),
            harmed: of(true).map(|animal| (animal.name, animal.lost())).filter(with).collect(),
        }
    }
}

/// The generated part.
pub(crate) fn measured(animals: &[Animal], rows: &[Row]) -> String {
    let mut out = String::from(
        "\n| recipe | leaks gone | of their pieces | living things destroyed |\n|---|---|---|---|\n",
    );
    for row in rows {
        let name = if row.recipe.name == "podplumb" { "**podplumb**" } else { row.recipe.name };
        let (left, harmed) = (row.left.len(), row.harmed.len());
        let gone = row.dead - left;
        let pieces = row.pieces - row.left.iter().map(|(_, pieces)| pieces.len()).sum::<usize>();
        let (dead, all, living) = (row.dead, row.pieces, row.living);
        let _ = writeln!(out, "| {name} | {gone} of {dead} | {pieces} of {all} | {harmed} of {living} |");
    }
    out.push_str("\n## What is on the node\n\n| living | |\n|---|---|\n");
    let line = |out: &mut String, animal: &Animal| {
        let _ = writeln!(out, "| `{}` | {} |", animal.name, animal.what);
    };
    animals.iter().filter(|animal| animal.alive).for_each(|animal| line(&mut out, animal));
    out.push_str("\n| leaked | |\n|---|---|\n");
    animals.iter().filter(|animal| !animal.alive).for_each(|animal| line(&mut out, animal));
    out.push_str("\n## Recipe by recipe\n");
    for row in rows {
        let Recipe { name, idea, script, .. } = row.recipe;
        let script = script.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let _ = write!(out, "\n### {name}\n\n{idea}\n\n{script}\n");
        let _ = writeln!(out, "- leaves: {}", list(&row.left));
        let _ = writeln!(out, "- destroys: {}", list(&row.harmed));
    }
    out.push('\n');
    out
}

fn list(entries: &[(&str, Vec<&str>)]) -> String {
    if entries.is_empty() {
        return "nothing".to_owned();
    }
    let entry = |(name, pieces): &(&str, Vec<&str>)| format!("`{name}` ({})", pieces.join(", "));
    entries.iter().map(entry).collect::<Vec<_>>().join("; ")
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/why-not-a-script.md")
}

/// Fails unless the page says what was measured; with `PODPLUMB_WRITE_DOCS`, writes it there.
pub(crate) fn compare(measured: &str) {
    let page = std::fs::read_to_string(path()).expect("the page");
    let (head, rest) = page.split_once(BEGIN).expect("where the measured part begins");
    let (old, tail) = rest.split_once(END).expect("where it ends");
    if std::env::var_os("PODPLUMB_WRITE_DOCS").is_some() {
        std::fs::write(path(), format!("{head}{BEGIN}{measured}{END}{tail}")).expect("the page is written");
        return;
    }
    assert_eq!(
        old, measured,
        "docs/why-not-a-script.md says something else (PODPLUMB_WRITE_DOCS=1 writes it)"
    );
}
