//! A node at one moment.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::attachment::{AttachmentRecord, CacheEntry, DhcpLease, Lease, NetworkConfig, PodmanLease};
use crate::coverage::Gap;
use crate::flow::TranslatedFlow;
use crate::heard::Heard;
use crate::holder::Holder;
use crate::ids::{BootId, IfIndex, NsInode, Nsid};
use crate::iptables::PluginRules;
use crate::link::{Link, Peer};
use crate::log::LogExcerpt;
use crate::namespace::{Enumeration, Namespace, StaleFile};
use crate::plugin::PluginBinary;
use crate::rule::OwnedElement;
use crate::runtime::{Runtime, RuntimeObject};
use crate::stack::{NeighbourTable, Stack};
use crate::time::Timestamp;

/// Everything that was seen of a node. Plain data: read it, write it, compare it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Format: [`Snapshot::VERSION`].
    pub version: u32,
    /// When the observation began.
    pub taken_at: Timestamp,
    /// The machine.
    pub node: Node,
    /// Network namespaces; the host's first.
    pub namespaces: Vec<Namespace>,
    /// Whether these are all; `None` in snapshots of a podplumb that did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enumeration: Option<Enumeration>,
    /// Holders that hold something that is not known, and zombies, which hold nothing. Only a close look tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unplaced: Vec<Holder>,
    /// Runtimes, answering or not.
    #[serde(default)]
    pub runtimes: Vec<Runtime>,
    /// The user said that no runtime works on this node (`--runtime none`).
    #[serde(default)]
    pub runtime_none: bool,
    /// host-local's leases.
    #[serde(default)]
    pub leases: Vec<Lease>,
    /// Leases of Podman's netavark backend that were there throughout the look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub podman_leases: Vec<PodmanLease>,
    /// What podplumb's dhcp daemon kept throughout the look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp_leases: Vec<DhcpLease>,
    /// libcni's result cache.
    #[serde(default)]
    pub cache: Vec<CacheEntry>,
    /// CNI network configurations.
    #[serde(default)]
    pub configs: Vec<NetworkConfig>,
    /// CNI plugins that configurations name, as they are installed.
    #[serde(default)]
    pub plugins: Vec<PluginBinary>,
    /// Options that the kernel was built with (`y`), or has as modules (`m`), of those that plugins need; empty where nobody looked, or
    /// nobody says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kernel_options: BTreeMap<String, String>,
    /// podplumb's attachment records.
    #[serde(default)]
    pub records: Vec<AttachmentRecord>,
    /// Files in pin directories that pin nothing.
    #[serde(default)]
    pub stale_files: Vec<StaleFile>,
    /// Elements of podplumb's nftables sets and maps.
    #[serde(default)]
    pub elements: Vec<OwnedElement>,
    /// What the reference plugins made in iptables for single containers.
    #[serde(default)]
    pub plugin_rules: Vec<PluginRules>,
    /// nftables tables of the host, `family name`.
    #[serde(default)]
    pub nft_tables: Vec<String>,
    /// What the host's network stack does with packets.
    #[serde(flatten)]
    pub stack: Stack,
    /// The machine's tables of neighbours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbour_tables: Vec<NeighbourTable>,
    /// Connections that are led to addresses which no interface has.
    #[serde(default)]
    pub flows: Vec<TranslatedFlow>,
    /// Use of the connection tracking table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Conntrack>,
    /// The last that logs say of containers, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heard: BTreeMap<String, Heard>,
    /// Lines of logs about what leaks or is not known, and about errors of CNI plugins; only a report has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogExcerpt>,
    /// The uids of the pods of which kubelet keeps something, be it only logs; `None` where no kubelet was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet_pods: Option<BTreeSet<String>>,
    /// What could not be read.
    #[serde(default)]
    pub coverage: Vec<Gap>,
}

/// The machine that was observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Host name.
    pub hostname: String,
    /// `uname -r`.
    pub kernel: String,
    /// Which boot.
    pub boot_id: BootId,
    /// When the kernel started.
    pub booted_at: Timestamp,
}

/// Use of the connection tracking table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// Entries.
    pub count: u64,
    /// Limit.
    pub max: u64,
    /// Since boot, in the host's namespace: connections that got no entry because two packets of theirs raced.
    #[serde(default)]
    pub insert_failed: u64,
    /// Since boot, in the host's namespace: packets that were dropped because the table was full.
    #[serde(default)]
    pub dropped: u64,
}

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not JSON, cut, or not a snapshot.
    #[error("not a podplumb snapshot: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by another podplumb.
    #[error("snapshot version {found} is not supported; this podplumb reads version {}", Snapshot::VERSION)]
    Version {
        /// The version found.
        found: u64,
    },
}

impl Snapshot {
    /// The format that this code writes, and the only one that it reads.
    pub const VERSION: u32 = 1;

    /// One in which nothing was looked at.
    pub fn empty(taken_at: Timestamp, node: Node) -> Self {
        Self {
            version: Self::VERSION,
            taken_at,
            node,
            namespaces: Vec::new(),
            enumeration: None,
            unplaced: Vec::new(),
            runtimes: Vec::new(),
            runtime_none: false,
            leases: Vec::new(),
            podman_leases: Vec::new(),
            dhcp_leases: Vec::new(),
            cache: Vec::new(),
            configs: Vec::new(),
            plugins: Vec::new(),
            records: Vec::new(),
            stale_files: Vec::new(),
            elements: Vec::new(),
            plugin_rules: Vec::new(),
            nft_tables: Vec::new(),
            kernel_options: BTreeMap::new(),
            stack: Stack::default(),
            neighbour_tables: Vec::new(),
            flows: Vec::new(),
            conntrack: None,
            heard: BTreeMap::new(),
            log: None,
            kubelet_pods: None,
            coverage: Vec::new(),
        }
    }

    /// Reads a snapshot, looking at its version before anything else.
    pub fn from_json(text: &[u8]) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let Version { version } = serde_json::from_slice(text)?;
        if version != u64::from(Self::VERSION) {
            return Err(SnapshotError::Version { found: version });
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// The snapshot as indented JSON with a final newline.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a snapshot has string keys only");
        text.push('\n');
        text
    }

    /// The node's own namespace.
    pub fn host(&self) -> Option<&Namespace> {
        self.namespaces.iter().find(|ns| ns.host)
    }

    /// What the namespace's network stack does with packets; `None` where that was not read.
    pub fn stack_of<'a>(&'a self, namespace: &'a Namespace) -> Option<&'a Stack> {
        if namespace.host { Some(&self.stack) } else { namespace.stack.as_deref() }
    }

    /// The host's link with this index.
    pub fn host_link(&self, index: IfIndex) -> Option<&Link> {
        self.host()?.links.iter().find(|link| link.index == index)
    }

    /// The namespace that the host numbers `nsid`.
    pub fn namespace_by_nsid(&self, nsid: Nsid) -> Option<&Namespace> {
        self.namespaces.iter().find(|ns| ns.nsid == Some(nsid))
    }

    /// The namespace with this inode.
    pub fn namespace_by_inode(&self, inode: NsInode) -> Option<&Namespace> {
        self.namespaces.iter().find(|ns| ns.inode == Some(inode))
    }

    /// The namespace in which the process is.
    pub fn namespace_of_pid(&self, pid: u32) -> Option<&Namespace> {
        self.namespaces.iter().find(|ns| ns.tasks.iter().any(|task| task.pid == pid && task.tid.is_none()))
    }

    /// The other end of a veth of the host: its namespace and link. `None` when that namespace could not be read.
    pub fn peer(&self, host_link: &Link) -> Option<(&Namespace, &Link)> {
        let Peer { index, nsid } = host_link.peer?;
        let namespace = match nsid {
            Some(nsid) => self.namespace_by_nsid(nsid)?,
            None => self.host()?,
        };
        namespace.links.iter().find(|link| link.index == index).map(|link| (namespace, link))
    }

    /// Veths of the host whose other end is in `namespace`.
    pub fn host_veths_into<'a>(&'a self, namespace: &'a Namespace) -> impl Iterator<Item = &'a Link> {
        let nsid = namespace.nsid;
        let links = self.host().map_or(&[][..], |host| &host.links);
        links.iter().filter(move |link| nsid.is_some() && link.peer.is_some_and(|peer| peer.nsid == nsid))
    }

    /// All objects of all runtimes.
    pub fn runtime_objects(&self) -> impl Iterator<Item = (&Runtime, &RuntimeObject)> {
        self.runtimes.iter().flat_map(|runtime| runtime.objects.iter().map(move |object| (runtime, object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_another_version_is_refused_by_its_version() {
        let error = Snapshot::from_json(br#"{"version": 7, "surprise": true}"#).unwrap_err();
        assert_eq!(error.to_string(), "snapshot version 7 is not supported; this podplumb reads version 1");
    }

    #[test]
    fn half_a_snapshot_is_an_error_that_says_where() {
        let error = Snapshot::from_json(br#"{"version": 1, "taken_at": 5, "node": {"#).unwrap_err();
        assert!(error.to_string().contains("line 1 column"), "{error}");
    }
}
