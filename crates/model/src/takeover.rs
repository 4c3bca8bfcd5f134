//! Leases of an earlier boot that were given to a new container.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::attachment::AttachmentKey;
use crate::ids::BootId;
use crate::time::Timestamp;

/// One line of the plugins' journal, `/var/lib/podplumb/takeovers`. A begun takeover without its end is one during which the plugin
/// was killed: whose the lease is by now, its content tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// Takeover: the plugin's run, a dot, the takeover's place in it.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// In which boot.
    pub boot_id: BootId,
    /// What.
    #[serde(flatten)]
    pub event: TakeoverEvent,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum TakeoverEvent {
    /// A lease is about to be replaced.
    TakeoverBegun {
        /// Directory that has the lease (`<dataDir>/<network>`).
        lease_dir: PathBuf,
        /// The lease's name in it.
        address: IpAddr,
        /// What the lease said.
        content: String,
        /// When it was written (ctime).
        since: Timestamp,
        /// Who gets the address.
        by: AttachmentKey,
    },
    /// It was replaced, or not.
    TakeoverEnded {
        /// Why it was not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

impl Takeover {
    /// The journal's name in podplumb's state directory.
    pub const FILE: &str = "takeovers";
}
