//! What happens on a node while somebody watches.

use std::path::PathBuf;

use serde::Serialize;

use crate::attachment::{AttachmentKey, PodName};
use crate::ids::{ContainerId, IfIndex, IfName, MacAddr, NetworkName};
use crate::link::Link;

/// Something that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Everything that there is: at the beginning, and again after something was missed.
    Everything {
        /// The host's links.
        links: Vec<Link>,
        /// What is on disk.
        claims: Vec<Claim>,
        /// Why it was read again; `None` at the beginning.
        missed: Option<String>,
    },
    /// An interface of the host was made or changed.
    Link {
        /// As it is now.
        link: Box<Link>,
    },
    /// An interface is not on the host any more.
    LinkGone {
        /// Its index.
        index: IfIndex,
        /// It lives on in another namespace.
        moved: bool,
    },
    /// CNI calls that are at work, told before the links that changed meanwhile.
    Calls(Vec<Call>),
    /// A lease, cache entry or record was written.
    Claimed(Claim),
    /// It is not there any more.
    Released(PathBuf),
}

/// A plugin that is at work. rtnetlink does not say who changed a link (Linux 6.18 leaves `nlmsg_pid` at 0), but the environment of
/// a plugin that runs at that moment says which container it works for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub container: ContainerId,
    /// The plugin.
    pub by: Caller,
}

/// A process that works on an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// Its pid.
    pub pid: u32,
    /// Its `comm`: a plugin's name.
    pub command: String,
    /// The `comm` of its parent: a runtime's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// A file that says that an attachment exists. DEL removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The file.
    pub path: PathBuf,
    /// What sort of file.
    pub kind: ClaimKind,
    /// Network.
    pub network: NetworkName,
    /// Container.
    pub container: ContainerId,
    /// The container's interface; not in leases of the old form.
    pub ifname: Option<IfName>,
    /// Pod.
    pub pod: Option<PodName>,
    /// Interfaces on the host that it names.
    pub host_interfaces: Vec<(String, Option<MacAddr>)>,
}

/// Sorts of files that name an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimKind {
    /// host-local's lease.
    Lease,
    /// libcni's cache entry.
    Cache,
    /// podplumb's record.
    Record,
}

impl Claim {
    /// The attachment, where the file names it whole.
    pub fn key(&self) -> Option<AttachmentKey> {
        let (network, container) = (self.network.clone(), self.container.clone());
        Some(AttachmentKey { network, container, ifname: self.ifname.clone()? })
    }

    /// Whether it is about this attachment.
    pub fn is_about(&self, key: &AttachmentKey) -> bool {
        self.network == key.network
            && self.container == key.container
            && self.ifname.as_ref().is_none_or(|ifname| *ifname == key.ifname)
    }
}
