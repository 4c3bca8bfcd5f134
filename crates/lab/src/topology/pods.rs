//! Pods of a node, and how they end.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::group::{Group, OneOrMany};

/// A node's pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Pods {
    /// So many: `pod1`, `pod2`, …
    Number(u32),
    /// By name.
    Named(Group<Pod>),
}

// Not derived: of what is neither, serde would only say that it is neither.
impl<'de> Deserialize<'de> for Pods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PodsVisitor)
    }
}

struct PodsVisitor;

impl<'de> Visitor<'de> for PodsVisitor {
    type Value = Pods;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("how many, a list of names, or a map of names and their settings")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        let number = u32::try_from(number);
        number.map(Pods::Number).map_err(|_| E::invalid_value(de::Unexpected::Other("that many"), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Group::deserialize(SeqAccessDeserializer::new(list)).map(Pods::Named)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Group::deserialize(MapAccessDeserializer::new(map)).map(Pods::Named)
    }
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pod {
    /// Commands that run inside for as long as the lab is up.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub run: OneOrMany<String>,
    /// What went wrong when it ended, of a pod that CNI plugins wired: what is left of it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How a pod ended, and left something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Its processes ended, and nobody called DEL: its namespace lives by a pin, with everything in it.
    Pinned,
    /// Its namespace is gone as well, as after a forced deletion: lease, cached result and record are left.
    WithoutDel,
    /// The other end of its veth is on the node, as when an ADD is killed midway: the rest as for `without-del`.
    HalfAdded,
    /// DEL removed everything but could not release the address.
    LeaseLeft,
    /// The node was restarted while it lived, and its runtime forgot it: what is on disk is left, its lease and its cached result.
    Restarted,
    /// DEL removed everything; its pin was unmounted and the file forgotten.
    FileLeft,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Ended::Pinned => "pinned",
            Ended::WithoutDel => "without-del",
            Ended::HalfAdded => "half-added",
            Ended::LeaseLeft => "lease-left",
            Ended::Restarted => "restarted",
            Ended::FileLeft => "file-left",
        })
    }
}
