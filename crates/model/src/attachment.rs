//! Attachments: a container's interface in a network, and the traces it leaves on disk.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ids::{BootId, ContainerId, IfIndex, IfName, MacAddr, NetworkName, NsId, NsInode};
use crate::rule::RuleElement;
use crate::time::Timestamp;

/// What CNI identifies an attachment by, and the unit of every verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// `name` of the network configuration.
    pub network: NetworkName,
    /// `CNI_CONTAINERID`.
    pub container: ContainerId,
    /// `CNI_IFNAME`.
    pub ifname: IfName,
}

impl AttachmentKey {
    /// `network:container:ifname`. None of the three can contain a ':', so this reads back without doubt, and it is
    /// safe as a file name.
    pub fn file_name(&self) -> String {
        format!("{}:{}:{}", self.network, self.container, self.ifname)
    }

    /// The stamp that podplumb's plugins leave in the host interface's `ifalias` (at most 255 bytes).
    pub fn alias(&self) -> String {
        format!("{ALIAS_PREFIX}{}", self.file_name())
    }

    /// Reads [`AttachmentKey::alias`] back.
    pub fn from_alias(alias: &str) -> Option<Self> {
        Self::from_file_name(alias.strip_prefix(ALIAS_PREFIX)?)
    }

    /// Reads [`AttachmentKey::file_name`] back.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let mut parts = name.split(':');
        let key = Self {
            network: parts.next()?.parse().ok()?,
            container: parts.next()?.parse().ok()?,
            ifname: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(key)
    }
}

const ALIAS_PREFIX: &str = "podplumb:";

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.network, self.container, self.ifname)
    }
}

/// An address that Podman's netavark backend has leased, in a database that only Podman writes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodmanLease {
    /// Podman's network.
    pub network: NetworkName,
    /// The address.
    pub address: IpAddr,
    /// Podman's container.
    pub container: ContainerId,
}

/// An attachment for which podplumb's dhcp daemon keeps a lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DhcpLease {
    /// The daemon's file about it.
    pub path: PathBuf,
    /// Whose it is.
    pub key: AttachmentKey,
    /// The address, as soon as one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The namespace, as the runtime named it.
    pub netns: PathBuf,
    /// The namespace itself, where the kernel has such ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_id: Option<NsId>,
    /// Its inode at that time.
    pub ns_inode: NsInode,
}

/// A pod as Kubernetes names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodName {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl PodName {
    /// From `CNI_ARGS` (`K8S_POD_NAMESPACE=…;K8S_POD_NAME=…;K8S_POD_UID=…`).
    pub fn from_cni_args<'a>(args: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let (mut namespace, mut name, mut uid) = (None, None, None);
        for (key, value) in args {
            match key {
                "K8S_POD_NAMESPACE" => namespace = Some(value.to_owned()),
                "K8S_POD_NAME" => name = Some(value.to_owned()),
                "K8S_POD_UID" => uid = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(Self { namespace: namespace?, name: name?, uid })
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One of host-local's lease files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// `<dataDir>/<network>/<address>`.
    pub path: PathBuf,
    /// The directory's name.
    pub network: NetworkName,
    /// The file's name.
    pub address: IpAddr,
    /// Who has it; `None` when the file is empty or not readable as a lease: its owner is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerId>,
    /// The container's interface; absent in the old form of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<IfName>,
    /// The whole content (a few dozen bytes), compared again before the file is moved.
    pub content: String,
    /// When it was written (ctime).
    pub since: Timestamp,
    /// Its directory's lock was held, or could not be tried, throughout the look: an ADD or DEL is at work there.
    #[serde(default)]
    pub locked: bool,
}

/// One entry of libcni's result cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEntry {
    /// `<cacheDir>/results/<network>-<container>-<ifname>`.
    pub path: PathBuf,
    /// What it is about; `None` when the file is cut, empty or not of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<AttachmentKey>,
    /// The namespace that the attachment was made in, by path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// The pod, from the CNI arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// Addresses of the result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Interfaces of the result that are on the host (no sandbox), with their MAC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_interfaces: Vec<(String, Option<MacAddr>)>,
    /// Interfaces of the result that are in the container, with their MAC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_interfaces: Vec<(String, Option<MacAddr>)>,
    /// Types of the cached chain's plugins, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<String>,
    /// Types of the chain's IPAM plugins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipam: Vec<String>,
    /// Directories in which the chain's IPAM keeps its leases, where the config names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_dirs: Vec<PathBuf>,
    /// Why it could not be understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// FNV-1a of the content, compared again before the file is moved.
    pub digest: u64,
    /// When it was written (ctime).
    pub since: Timestamp,
}

/// A CNI network configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The file.
    pub path: PathBuf,
    /// `name`; `None` when the file cannot be understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// Types of the chain's plugins, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<String>,
    /// `cniVersion`, where it says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Types of the chain's IPAM plugins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipam: Vec<String>,
    /// A plugin of the chain is to masquerade what leaves (`ipMasq`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masquerade: bool,
    /// `ipam.dataDir` of its plugins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_dirs: Vec<PathBuf>,
    /// How many addresses the ranges of its host-local have; absent when they are not in the file, or not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// The subnets of these ranges: what pods get their addresses from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<IpNet>,
    /// Why it could not be understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Addresses that a network can give away, by family. An IPv6 range may have more than a u64 holds: that is as many as it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// IPv4.
    pub ipv4: u64,
    /// IPv6.
    pub ipv6: u64,
}

/// What podplumb's plugins write before they touch the kernel, and remove last: `/run/podplumb/attachments/<network>:<container>:<ifname>`
/// for the plugin that makes the interface, with `:<plugin>` for each that is chained to it.
///
/// The file has one line for each state of the work, the last whole one counts: a crash in the middle of a write loses
/// nothing that was written before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// Format of this record: [`AttachmentRecord::VERSION`].
    pub version: u32,
    /// Whose record it is.
    #[serde(flatten)]
    pub key: AttachmentKey,
    /// The plugin that wrote it.
    pub plugin: String,
    /// The plugin was chained to the one that made the interface.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chained: bool,
    /// Boot in which it was made; under another boot everything but leases is gone.
    pub boot_id: BootId,
    /// `CNI_NETNS`.
    pub netns: PathBuf,
    /// Identity of that namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_id: Option<NsId>,
    /// Its inode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_inode: Option<NsInode>,
    /// An interface on the host that is the attachment's: a veth's end, an ifb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_interface: Option<IfName>,
    /// Its MAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_mac: Option<MacAddr>,
    /// The kind of the container's interface, if this plugin makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its MAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<IfName>,
    /// Directory that has the leases (`<dataDir>/<network>`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_dir: Option<PathBuf>,
    /// Addresses leased there; `None` until it is known which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<IpAddr>>,
    /// What podplumb's nftables ruleset does for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleElement>,
    /// How the container's interface was before, for a plugin that gives it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    /// The pod, from `CNI_ARGS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// When ADD began.
    pub created: Timestamp,
    /// Filled by the observer: the file, and whether an ADD or DEL holds its lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<RecordSeen>,
}

/// Settings of an interface that a plugin changed and restores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Before {
    /// It was on the host, under this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_name: Option<IfName>,
    /// Its index there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_index: Option<IfIndex>,
    /// Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu_bytes: Option<u32>,
    /// Promiscuous mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promiscuous: Option<bool>,
    /// Receives every multicast frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_multicast: Option<bool>,
    /// Length of the transmit queue, in packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_queue: Option<u32>,
    /// Its alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
}

impl AttachmentRecord {
    /// The format that this code writes. An unknown one is reported and left alone.
    pub const VERSION: u32 = 2;

    /// The name of its file.
    pub fn file_name(&self) -> String {
        Self::name_of(&self.key, self.chained.then_some(self.plugin.as_str()))
    }

    /// The name of the file for a plugin that is chained, or for the one that makes the interface.
    pub fn name_of(key: &AttachmentKey, chained: Option<&str>) -> String {
        match chained {
            None => key.file_name(),
            Some(plugin) => format!("{}:{plugin}", key.file_name()),
        }
    }

    /// Reads [`AttachmentRecord::name_of`] back.
    pub fn from_file_name(name: &str) -> Option<(AttachmentKey, Option<&str>)> {
        if let Some(key) = AttachmentKey::from_file_name(name) {
            return Some((key, None));
        }
        let (key, plugin) = name.rsplit_once(':')?;
        is_plugin(plugin).then_some((AttachmentKey::from_file_name(key)?, Some(plugin)))
    }

    /// Reads a record's file: its last whole line. An error says what is wrong with the last line, when none can be read.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let mut why = String::from("it is empty");
        for line in content.split(|byte| *byte == b'\n').rev().filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Self>(line) {
                // The plugin becomes a part of the file's name.
                Ok(record) if record.version == Self::VERSION && !is_plugin(&record.plugin) => {
                    why = format!("{:?} is not a plugin of podplumb's", record.plugin);
                }
                Ok(record) if record.version == Self::VERSION => return Ok(record),
                Ok(record) => why = format!("version {} is not known", record.version),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
}

/// Whether a plugin of podplumb's may have this name.
fn is_plugin(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// How an observer found a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSeen {
    /// The file.
    pub path: PathBuf,
    /// An ADD or DEL holds its lock.
    pub locked: bool,
}

/// FNV-1a, 64 bits: tells whether a small file changed between two looks. Not against an adversary.
pub fn digest(content: &[u8]) -> u64 {
    content
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Bytes as digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads [`hexadecimal`] back; `None` for what is not that.
pub fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back_from_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hexadecimal(&hexadecimal(&bytes)), Some(bytes));
        assert_eq!((from_hexadecimal("zz"), from_hexadecimal("123")), (None, None));
    }

    #[test]
    fn a_keys_file_name_and_alias_read_back() {
        let key = AttachmentKey {
            network: "pods".parse().unwrap(),
            container: "0a-b.c_d".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        assert_eq!(AttachmentKey::from_file_name(&key.file_name()).as_ref(), Some(&key));
        assert_eq!(AttachmentKey::from_alias(&key.alias()), Some(key));
        for foreign in
            ["", "podplumb:", "podplumb:a:b", "podplumb:a:b:c:d", "uplink to rack 4", "podplumb:../x:b:c"]
        {
            assert_eq!(AttachmentKey::from_alias(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn a_record_is_its_last_whole_line() {
        let name = AttachmentRecord::from_file_name("pods:a:eth0:portmap").unwrap();
        assert_eq!((name.0.file_name().as_str(), name.1), ("pods:a:eth0", Some("portmap")));
        assert_eq!(AttachmentRecord::from_file_name("pods:a:eth0").unwrap().1, None);
        for foreign in ["pods:a", "pods:a:eth0:", "pods:a:eth0:../x", "pods:a:eth0:b:c"] {
            assert_eq!(AttachmentRecord::from_file_name(foreign), None, "{foreign}");
        }
        let line = |addresses: &str| {
            format!(
                r#"{{"version":2,"network":"n","container":"c","ifname":"eth0","plugin":"bridge","boot_id":"b","netns":"/n","created":0{addresses}}}"#
            )
        };
        let (first, second) = (line(""), line(r#","addresses":["10.0.0.2"]"#));
        let whole = format!("{first}\n{second}\n");
        let addresses = |text: &str| AttachmentRecord::parse(text.as_bytes()).map(|record| record.addresses);
        assert_eq!(addresses(&whole), Ok(Some(vec!["10.0.0.2".parse().unwrap()])));
        for cut in first.len()..whole.len() - 1 {
            assert_eq!(addresses(&whole[..cut]), Ok(None), "{cut}");
        }
        assert!(addresses(&whole[..first.len() - 1]).is_err());
        assert!(
            addresses(&first.replace("\"version\":2", "\"version\":9")).unwrap_err().contains("version 9")
        );
        let hostile = first.replace("\"bridge\"", "\"../../x\"");
        assert!(addresses(&hostile).unwrap_err().contains("not a plugin"));
    }

    #[test]
    fn a_pod_needs_namespace_and_name() {
        let args = [("K8S_POD_NAMESPACE", "shop"), ("K8S_POD_NAME", "web-0"), ("IgnoreUnknown", "1")];
        assert_eq!(PodName::from_cni_args(args).unwrap().to_string(), "shop/web-0");
        assert_eq!(PodName::from_cni_args([("K8S_POD_NAME", "web-0")]), None);
    }
}
