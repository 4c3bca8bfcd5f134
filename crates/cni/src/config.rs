//! A plugin's network configuration, as it comes on stdin.

use std::collections::HashSet;

use model::{AttachmentKey, ContainerId, IfName, NetworkName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::result::Outcome;
use crate::{Code, Error, Result, Version};

/// More than this on stdin is no configuration.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// What all plugins' configurations have in common, and the rest for the plugin to read.
#[derive(Debug, Clone)]
pub struct Config {
    /// `cniVersion`.
    pub version: Version,
    /// `name`.
    pub network: NetworkName,
    /// `type`.
    pub kind: String,
    /// `prevResult`: what the plugin before this one, or the ADD that is undone, returned.
    pub previous: Option<Outcome>,
    /// `cni.dev/valid-attachments`, for GC.
    pub valid: Option<HashSet<(ContainerId, IfName)>>,
    /// The whole object.
    pub raw: Value,
}

impl Config {
    /// Reads the common part and checks it.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let raw: Value = serde_json::from_slice(text)
            .map_err(|error| Error::new(Code::Decode, "the configuration is not JSON").details(error))?;
        Self::from_value(raw)
    }

    /// From an object that was read already.
    pub fn from_value(raw: Value) -> Result<Self> {
        let invalid = |message: String| Error::new(Code::InvalidConfig, message);
        if !raw.is_object() {
            return Err(Error::new(Code::Decode, "the configuration is not a JSON object"));
        }
        let string = |name: &str| match raw.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(invalid(format!("{name} is not a string"))),
        };
        let version = Version::parse(string("cniVersion")?)?;
        let network = string("name")?.unwrap_or_default();
        let network = network.parse().map_err(|error| invalid("name is not valid".into()).details(error))?;
        let kind = string("type")?.unwrap_or_default().to_owned();
        let previous = match raw.get("prevResult") {
            None | Some(Value::Null) => None,
            Some(value) => Some(Outcome::from_json(value, version)?),
        };
        let valid = match raw.get("cni.dev/valid-attachments") {
            None | Some(Value::Null) => None,
            Some(list) => Some(attachments(list)?),
        };
        Ok(Self { version, network, kind, previous, valid, raw })
    }

    /// The plugin's own part of the configuration.
    pub fn own<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.raw)
            .map_err(|error| Error::new(Code::InvalidConfig, "the configuration is not valid").details(error))
    }

    /// For GC: whether this attachment is one of this network that is not valid any more, so that what it left has to go.
    /// Without a list nothing is known to be stale, and that is an error: an empty list would mean that everything is.
    pub fn is_stale(&self, key: &AttachmentKey) -> Result<bool> {
        let Some(valid) = &self.valid else {
            return Err(Error::new(Code::InvalidConfig, "GC needs cni.dev/valid-attachments"));
        };
        let is_valid = valid.contains(&(key.container.clone(), key.ifname.clone()));
        Ok(key.network == self.network && !is_valid)
    }

    /// A value that a runtime passes for a capability: `runtimeConfig.NAME`.
    pub fn capability(&self, name: &str) -> Option<&Value> {
        self.raw.get("runtimeConfig")?.get(name).filter(|value| !value.is_null())
    }

    /// A value by the older convention: `args.cni.NAME`.
    pub fn arg(&self, name: &str) -> Option<&Value> {
        self.raw.get("args")?.get("cni")?.get(name).filter(|value| !value.is_null())
    }
}

/// [{"containerID": …, "ifname": …}]
fn attachments(list: &Value) -> Result<HashSet<(ContainerId, IfName)>> {
    #[derive(Deserialize)]
    struct Attachment {
        #[serde(rename = "containerID")]
        container: ContainerId,
        ifname: IfName,
    }
    let list: Vec<Attachment> = Vec::deserialize(list).map_err(|error| {
        Error::new(Code::InvalidConfig, "cni.dev/valid-attachments is not valid").details(error)
    })?;
    Ok(list.into_iter().map(|attachment| (attachment.container, attachment.ifname)).collect())
}
