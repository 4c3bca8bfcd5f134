//! What the text of the sources has to be like.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// A file longer than this would be said better by two names.
const LONGEST_FILE_LINES: usize = 800;
/// A `main.rs` only starts things.
const LONGEST_MAIN_LINES: usize = 120;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 5] = ["utils", "util", "helpers", "common", "manager"];
/// Code that is not there yet.
/// (Written in two parts, so that this file does not contain them.)
const STUBS: [&str; 4] =
    [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("XX", "X")];
const UNSAFE_BLOCK: &str = concat!("unsafe", " {");
const IGNORED_TEST: &str = concat!("#[", "ignore");

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for file in rust_files(root)? {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        let text = std::fs::read_to_string(&file).with_context(|| name.clone())?;
        complaints.extend(complain(&name, &text).into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    Ok(complaints)
}

fn complain(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    let limit = if name.ends_with("src/main.rs") { LONGEST_MAIN_LINES } else { LONGEST_FILE_LINES };
    if lines > limit {
        complaints.push(format!("{lines} lines, more than {limit}"));
    }
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        complaints.push("its name does not say what it is about".to_owned());
    }
    if !text.starts_with("//!") {
        complaints.push("it does not begin with what it is about (//!)".to_owned());
    }
    let is_product = name.starts_with("crates/") && !name.contains("/tests/");
    if is_product && !name.starts_with("crates/sys/") && text.contains(UNSAFE_BLOCK) {
        complaints.push("unsafe belongs into crates/sys".to_owned());
    }
    complaints
        .extend(STUBS.iter().filter(|stub| text.contains(**stub)).map(|stub| format!("contains {stub}")));
    if text.contains(IGNORED_TEST) {
        complaints.push("has a test that does not run".to_owned());
    }
    complaints
}

fn rust_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = ["crates", "xtask", "tests", "benches", "examples", "fuzz"]
        .iter()
        .map(|dir| root.join(dir))
        .collect();
    while let Some(dir) = open.pop() {
        if !dir.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                // The fuzz targets have a workspace, and so a target folder, of their own.
                open.extend(Some(path).filter(|path| !path.ends_with("fuzz/target")));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
