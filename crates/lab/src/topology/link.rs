//! veth pairs, as people write them.

use std::borrow::Cow;
use std::fmt;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::group::OneOrMany;
use super::vlan::VlanWords;

/// A veth pair, or as many as the groups have members that it names.
///
/// `a -- b`; with interfaces and addresses `a:eth0 10.0.0.1/24 -- b:eth0 10.0.0.2/24`; `router/br0` is a port of a bridge in there;
/// `ring r`, `line r` and `mesh r` connect a group's members. With more to say it is a map, whose `link` is that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Who with whom.
    pub link: String,
    /// The rest.
    pub settings: LinkSettings,
}

/// What can be said about a link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSettings {
    /// Who with whom: `a -- b`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub link: String,
    /// Where the two ends get their addresses from.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub subnet: OneOrMany<IpNet>,
    /// MTU of both ends, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// How much goes through in each direction: `10mbit`, `1gbit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// How long each packet is kept in each direction: `20ms`. Needs a kernel with CONFIG_NET_SCH_NETEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// How many packets are lost in each direction: `0.5%`. Needs a kernel with CONFIG_NET_SCH_NETEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// The left end.
    #[serde(skip_serializing_if = "End::is_default")]
    pub from: End,
    /// The right end.
    #[serde(skip_serializing_if = "End::is_default")]
    pub to: End,
}

/// What can be said about an end of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct End {
    /// Its addresses. An empty list: none. Unless given, one of each subnet of the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OneOrMany<String>>")]
    pub addresses: Option<OneOrMany<IpNet>>,
    /// Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// As a bridge's port: frames may leave through the port that they came by.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hairpin: bool,
    /// As a bridge's port: nothing passes between it and other isolated ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// As a port of a bridge that looks at VLAN tags: its VLANs, in the words of `bridge vlan`: `10 pvid untagged`, `20-30`. Number 1,
    /// untagged, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlans: Option<OneOrMany<VlanWords>>,
    /// How much goes out here: `10mbit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Whether it stays down.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
}

impl End {
    fn is_default(&self) -> bool {
        *self == End::default()
    }
}

impl From<&str> for Link {
    fn from(link: &str) -> Self {
        Link { link: link.to_owned(), settings: LinkSettings::default() }
    }
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.settings == LinkSettings::default() {
            return serializer.serialize_str(&self.link);
        }
        LinkSettings { link: self.link.clone(), ..self.settings.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LinkVisitor)
    }
}

struct LinkVisitor;

impl<'de> Visitor<'de> for LinkVisitor {
    type Value = Link;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`a -- b`, or a map with a `link`")
    }

    fn visit_str<E>(self, link: &str) -> Result<Link, E> {
        Ok(Link::from(link))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Link, A::Error> {
        let mut settings = LinkSettings::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Link { link: std::mem::take(&mut settings.link), settings })
    }
}

impl JsonSchema for Link {
    fn schema_name() -> Cow<'static, str> {
        "Link".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let settings = generator.subschema_for::<LinkSettings>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, settings] })
    }
}
