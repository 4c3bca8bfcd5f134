//! What logs and kubelet tell about containers that are gone.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::attachment::PodName;
use crate::time::Timestamp;

/// The last that a log says of a container's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The log.
    pub path: PathBuf,
    /// The line, as its writer wrote it, cut where it is long.
    pub line: String,
    /// When it was written, where the log itself says that: systemd's journal does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Its pod, where this line or one before it says so and kubelet keeps that pod's logs. Only asked for containers whose pod
    /// nobody else knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
}
