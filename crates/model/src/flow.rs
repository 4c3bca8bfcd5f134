//! Connections that the kernel follows.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A connection whose destination is translated (`IPS_DST_NAT`), to an address that no interface has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TranslatedFlow {
    /// Where it is led: the source of its answers.
    pub address: IpAddr,
    /// Which one: two of the same tuple have different ids.
    #[serde(flatten)]
    pub id: FlowId,
}

/// Identity of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FlowId {
    /// The original tuple, the kernel's bytes in hexadecimal.
    pub tuple: String,
    /// `CTA_ID`.
    pub id: u32,
}
