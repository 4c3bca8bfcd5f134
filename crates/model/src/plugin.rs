//! CNI plugins as they are installed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The binary that a runtime finds for a plugin's type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginBinary {
    /// The type, as configurations name it.
    pub kind: String,
    /// The file.
    pub path: PathBuf,
    /// The Go package that it was built from, where the file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Its version: from the file, or from the package manager's list; `None`: nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Type and permissions, as stat tells them; `None`: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}
