//! Whose plugin a runtime would execute.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where the plugin of a type comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "origin")]
pub(super) enum Origin {
    /// podplumb's, in the plugin directory.
    Ours { path: PathBuf },
    /// podplumb has it, but not in the plugin directory: only `podplumb cni` would find it.
    NotInstalled,
    /// Somebody else's.
    Foreign { path: PathBuf },
    /// There is none.
    Missing,
}

/// Whose plugin of this type a runtime would execute.
pub(super) fn of(kind: &str, dirs: &[PathBuf]) -> Origin {
    match cni::chain::find(kind, dirs) {
        Ok(path) => {
            let program = path.canonicalize().unwrap_or_else(|_| path.clone());
            match program.file_name().is_some_and(|name| name == "podplumb-cni") {
                true => Origin::Ours { path },
                false => Origin::Foreign { path },
            }
        }
        Err(_) if plugins::select(kind).is_some() => Origin::NotInstalled,
        Err(_) => Origin::Missing,
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Ours { .. } => "ours",
            Origin::NotInstalled => "ours, not installed",
            Origin::Foreign { .. } => "foreign",
            Origin::Missing => "missing",
        })
    }
}
