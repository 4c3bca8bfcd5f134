//! Names of labs and machines: they become names of files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a lab or a machine. It has to fit into an interface's alias with the words around it, and on a screen.
const LONGEST: usize = 40;

/// A lab's name: letters, digits, `-`, `_` and `.`, beginning with a letter or digit, at most 40.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

impl LabName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        check(name).map(|()| LabName(name.to_owned()))
    }
}

impl TryFrom<String> for LabName {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        check(&name).map(|()| LabName(name))
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> String {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a name: {why}")]
pub struct BadName {
    name: String,
    why: &'static str,
}

/// Whether this can name a lab or a machine.
pub(crate) fn check(name: &str) -> Result<(), BadName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > LONGEST {
        "it has more than 40 characters"
    } else if !name.chars().all(allowed) {
        "letters, digits, '-', '_' and '.' are allowed"
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "it begins with neither a letter nor a digit"
    } else {
        return Ok(());
    };
    Err(BadName { name: name.chars().take(60).collect(), why })
}
