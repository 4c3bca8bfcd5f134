//! Rules that the reference plugins make for one container through iptables: facts about other people's tables.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{ContainerId, NetworkName};

/// Which iptables keeps the tables: they do not see each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    /// iptables-nft, in nf_tables.
    Nft,
    /// iptables-legacy, in x_tables.
    Legacy,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Flavour::Nft => "iptables-nft",
            Flavour::Legacy => "iptables-legacy",
        })
    }
}

/// What belongs together: the chain that ipMasq or portmap made for one container with the rules that lead there, or
/// the firewall plugin's rules for one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PluginRules {
    /// Whose tables.
    pub flavour: Flavour,
    /// Of ip6tables.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v6: bool,
    /// `nat` or `filter`.
    pub table: String,
    /// The container's own chain; the firewall plugin has none, its rules are in [`PluginRules::FORWARD`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// Network and container, where a comment says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(NetworkName, ContainerId)>,
    /// Addresses of containers that the rules are about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The rules, in the order of their table.
    pub rules: Vec<PluginRule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PluginRule {
    /// The chain that it is in.
    pub chain: String,
    /// nf_tables' handle, not reused in a table's life; x_tables has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// What it matches and does, without counters: the kernel's bytes in hexadecimal, from which it can be made again.
    pub content: String,
}

impl PluginRules {
    /// The firewall plugin's chain.
    pub const FORWARD: &'static str = "CNI-FORWARD";

    /// Whether a chain's name is one that is made for one container: ipMasq's, or portmap's for destinations or, until 0.8, sources.
    pub fn is_own_chain(name: &str) -> bool {
        let is_hash = |hash: &str| hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let rest = ["CNI-DN-", "CNI-SN-", "CNI-"].iter().find_map(|prefix| name.strip_prefix(prefix));
        name.len() == 28 && rest.is_some_and(is_hash)
    }

    /// Network and container of a comment: `name: "pods" id: "0a6e12c4"`, with `dnat ` in front where portmap writes it.
    pub fn owner_in(comment: &str) -> Option<(NetworkName, ContainerId)> {
        let rest = comment.strip_prefix("dnat ").unwrap_or(comment).strip_prefix("name: \"")?;
        let (network, rest) = rest.split_once("\" id: \"")?;
        Some((network.parse().ok()?, rest.strip_suffix('"')?.parse().ok()?))
    }

    /// `ip nat`, `ip6 filter`.
    pub fn table(&self) -> String {
        format!("{} {}", if self.v6 { "ip6" } else { "ip" }, self.table)
    }
}

impl fmt::Display for PluginRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.chain, self.addresses.first()) {
            (Some(chain), _) => write!(f, "{} {chain}", self.table()),
            (None, Some(address)) => write!(f, "{} {} {address}", self.table(), Self::FORWARD),
            (None, None) => write!(f, "{} {}", self.table(), Self::FORWARD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_one_container_are_told_from_those_of_all() {
        for own in ["CNI-3626676efc6bd8afd409fabb", "CNI-DN-3626676efc6bd8afd409f"] {
            assert!(PluginRules::is_own_chain(own), "{own}");
        }
        for other in ["CNI-FORWARD", "CNI-HOSTPORT-SETMARK", "CNI-3626676efc6bd8afd409fab", "KUBE-SERVICES"] {
            assert!(!PluginRules::is_own_chain(other), "{other}");
        }
    }

    #[test]
    fn a_comment_names_network_and_container_or_nothing() {
        let owner = |comment| PluginRules::owner_in(comment).map(|(n, c)| format!("{n}/{c}"));
        assert_eq!(owner(r#"name: "pods" id: "0a6e""#).as_deref(), Some("pods/0a6e"));
        assert_eq!(owner(r#"dnat name: "pods" id: "0a6e""#).as_deref(), Some("pods/0a6e"));
        for foreign in ["", "name: pods", r#"name: "../x" id: "a""#, r#"name: "pods" id: "a" and more"#] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
