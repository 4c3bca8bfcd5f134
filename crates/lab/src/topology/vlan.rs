//! VLANs, as people write them.

use std::borrow::Cow;
use std::fmt;

use model::Vlans;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// VLANs of a port in the words of `bridge vlan`: `10 pvid untagged`, `20-30`; a number alone need not be quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanWords(pub String);

impl VlanWords {
    /// What is meant; `None` for what is no such words, or numbers that no VLAN has.
    pub fn read(&self) -> Option<Vlans> {
        let mut words = self.0.split_whitespace();
        let numbers = words.next()?;
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let mut vlans =
            Vlans { first: first.parse().ok()?, last: last.parse().ok()?, pvid: false, untagged: false };
        for word in words {
            match word {
                "pvid" => vlans.pvid = true,
                "untagged" => vlans.untagged = true,
                _ => return None,
            }
        }
        vlans.is_valid().then_some(vlans)
    }
}

impl From<&Vlans> for VlanWords {
    fn from(vlans: &Vlans) -> Self {
        VlanWords(vlans.to_string())
    }
}

impl Serialize for VlanWords {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<u16>() {
            Ok(number) => serializer.serialize_u16(number),
            Err(_) => serializer.serialize_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for VlanWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

struct WordsVisitor;

impl Visitor<'_> for WordsVisitor {
    type Value = VlanWords;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`10`, `20-30` or `10 pvid untagged`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(VlanWords(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(VlanWords(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(VlanWords(number.to_string()))
    }
}

impl JsonSchema for VlanWords {
    fn schema_name() -> Cow<'static, str> {
        "Vlans".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["string", "integer"] })
    }
}
