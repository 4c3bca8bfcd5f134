//! Reading a topology, with errors that say where.

use std::fmt;
use std::path::{Path, PathBuf};

pub use super::locate::Step;
use super::{Topology, locate};

/// What is wrong with a topology, where in its file, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1.
    pub at: (usize, usize),
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.at;
        write!(f, "{}:{line}:{column}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for ReadError {}

/// The largest topology, in bytes: 1,000 hosts with three lines each take 100 KiB.
const LARGEST_BYTES: usize = 4 << 20;

/// Reads a topology. `file` is for errors only.
pub fn from_yaml(yaml: &str, file: &Path) -> Result<Topology, ReadError> {
    let error = |at, what: String, hint| ReadError { file: file.to_owned(), at, what, hint };
    if yaml.len() > LARGEST_BYTES {
        let hint = "use `count` for hosts that are alike".to_owned();
        return Err(error((1, 1), format!("a topology of {} bytes; at most 4 MiB", yaml.len()), Some(hint)));
    }
    let options = serde_saphyr::options! { with_snippet: false };
    // An empty file is an empty lab, which `resolve` refuses with better words.
    let read: Result<Option<Topology>, _> = serde_saphyr::from_str_with_options(yaml, options);
    read.map(Option::unwrap_or_default).map_err(|found| {
        let at = found.location().map_or((1, 1), |at| {
            (usize::try_from(at.line()).unwrap_or(1), usize::try_from(at.column()).unwrap_or(1))
        });
        match found.without_snippet() {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
                let hint = match nearest(field, expected.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", expected.join(", ")),
                };
                error(at, format!("there is no `{}` here", printable(field)), Some(hint))
            }
            other => error(at, message(other), None),
        }
    })
}

/// The library's words without the place, which stands before them already.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n").next().unwrap_or_default();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    printable(&text[..end])
}

/// What was written in the file, fit for a terminal.
pub(crate) fn printable(text: &str) -> String {
    let shown = text.chars().take(120).map(|c| if c.is_control() { '\u{fffd}' } else { c });
    shown.collect()
}

/// The one among `names` that was probably meant.
pub(crate) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|name| (strsim::jaro_winkler(written, name), name));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// What is wrong with a topology, before it is known where that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The way to it.
    pub at: Vec<Step>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Fault {
    /// With the place in the file.
    pub fn located(self, yaml: &str, file: &Path) -> ReadError {
        let at = locate::locate(yaml, &self.at);
        ReadError { file: file.to_owned(), at, what: self.what, hint: self.hint }
    }
}

/// The topology as a file.
pub fn to_yaml(topology: &Topology) -> String {
    serde_saphyr::to_string(topology).expect("a topology has string keys only")
}

/// The JSON schema of topology files.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Topology).to_value();
    schema["title"] = "podplumb lab topology".into();
    schema
}
