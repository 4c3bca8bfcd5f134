//! Lines of logs, for whoever reads a report.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What kubelet, runtimes and CNI plugins wrote. Nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogExcerpt {
    /// The lines, the oldest first; those before them whose time is not known.
    pub lines: Vec<LogLine>,
    /// What was not read to its end, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written, where the log or the line itself says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The log.
    pub path: PathBuf,
    /// Which of the containers that were asked for it names; none: it tells of an error of a CNI plugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// The line, as its writer wrote it, cut where it is long.
    pub line: String,
}
