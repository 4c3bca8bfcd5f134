//! What logs and kubelet tell about containers that are gone.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The last that a log says of a container's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The log.
    pub path: PathBuf,
    /// The line, as its writer wrote it, cut where it is long.
    pub line: String,
}
