//! What an observation did not see. Unreadable is not empty: whoever draws a conclusion from the
//! absence of something has to look here first.

use serde::{Deserialize, Serialize};

/// One thing that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The kind of source that has the gap.
    pub source: Source,
    /// The object: a path, a socket, a namespace.
    pub object: String,
    /// Why it could not be read, with the system's words.
    pub why: String,
}

/// Where knowledge comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// /proc: which task is in which namespace.
    Processes,
    /// /proc: open descriptors. What one of these could hide is a pin, or a socket or tun device, which are also
    /// counted inside the namespace itself.
    Descriptors,
    /// Mount tables: pins in /run/netns and in other mount namespaces.
    Mounts,
    /// rtnetlink of the host namespace.
    Links,
    /// The inside of another network namespace.
    Namespace,
    /// The kernel's own list of network namespaces: it has some that could neither be explained nor opened.
    Enumeration,
    /// A container runtime.
    Runtime,
    /// host-local's lease files.
    Leases,
    /// Podman's database of leases. Nothing is ever removed from there, and verdicts do not ask it.
    Netavark,
    /// What podplumb's dhcp daemon keeps, which verdicts do not ask either.
    Dhcp,
    /// libcni's result cache.
    Cache,
    /// CNI network configurations.
    Configs,
    /// podplumb's attachment records.
    Records,
    /// nftables.
    Rules,
    /// A file in a directory of leases or records that is neither. It hides nobody, but somebody put it there.
    Foreign,
}

impl Source {
    /// Whether a gap here could hide someone who uses an attachment, so that nothing may be called an orphan on
    /// the strength of not having seen him. (A gap in one namespace, runtime, lease, cache entry or record is judged with
    /// whom it may be about.)
    pub fn hides_holders(self) -> bool {
        matches!(self, Source::Processes | Source::Mounts | Source::Links)
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Source::Processes => "processes",
            Source::Descriptors => "descriptors",
            Source::Mounts => "mounts",
            Source::Links => "links",
            Source::Namespace => "namespace",
            Source::Enumeration => "enumeration",
            Source::Runtime => "runtime",
            Source::Leases => "leases",
            Source::Netavark => "netavark",
            Source::Dhcp => "dhcp",
            Source::Cache => "cache",
            Source::Configs => "configs",
            Source::Records => "records",
            Source::Rules => "rules",
            Source::Foreign => "foreign file",
        })
    }
}
