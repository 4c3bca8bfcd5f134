//! libcni's cache of results, `/var/lib/cni/results/<network>-<container>-<ifname>` (libcni/api.go, `cachedInfo`).
//!
//! libcni writes these files without fsync and without rename, so empty and cut ones are facts of life.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::AttachmentKey;
use serde::Deserialize;
use serde_json::Value;

use crate::result::Outcome;
use crate::version::Version;

/// Where libcni keeps its cache, unless it is told otherwise.
pub const DIRECTORY: &str = "/var/lib/cni/results";

/// An entry of the cache.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The attachment.
    pub key: AttachmentKey,
    /// `CNI_NETNS` of the ADD.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS` of the ADD.
    pub args: Vec<(String, String)>,
    /// The runtime's capability arguments.
    pub capability_args: Value,
    /// The configuration, a list or a single plugin's.
    pub config: Value,
    /// The result as it was returned.
    pub result: Value,
}

/// Why a file is no cache entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default)]
    netns: Option<String>,
    #[serde(default)]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default)]
    capability_args: Option<Value>,
    #[serde(default)]
    result: Option<Value>,
}

impl Entry {
    /// Reads the content of a cache file.
    pub fn parse(content: &[u8]) -> Result<Self, Unreadable> {
        if content.is_empty() {
            return Err(Unreadable("empty: the runtime was killed while it wrote it".into()));
        }
        let file: File = serde_json::from_slice(content).map_err(|error| Unreadable(error.to_string()))?;
        if file.kind != "cniCacheV1" {
            return Err(Unreadable(format!("kind is {:?}, not \"cniCacheV1\"", file.kind)));
        }
        let id = |error: model::IdError| Unreadable(error.to_string());
        let key = AttachmentKey {
            network: file.network_name.parse().map_err(id)?,
            container: file.container_id.parse().map_err(id)?,
            ifname: file.if_name.parse().map_err(id)?,
        };
        let config = STANDARD.decode(&file.config).map_err(|error| Unreadable(format!("config: {error}")))?;
        let config =
            serde_json::from_slice(&config).map_err(|error| Unreadable(format!("config: {error}")))?;
        Ok(Self {
            key,
            netns: file.netns.filter(|path| !path.is_empty()).map(PathBuf::from),
            args: file.cni_args.unwrap_or_default(),
            capability_args: file.capability_args.unwrap_or_default(),
            config,
            result: file.result.unwrap_or_default(),
        })
    }

    /// The configuration of each plugin of the chain, in order.
    pub fn plugins(&self) -> Vec<&Value> {
        plugins(&self.config)
    }

    /// The result, where it can be understood.
    pub fn outcome(&self) -> Option<Outcome> {
        Outcome::from_json(&self.result, Version::V0_1_0).ok()
    }
}

/// The plugins of a configuration: those of a list, or the single one.
pub fn plugins(config: &Value) -> Vec<&Value> {
    match config.get("plugins") {
        Some(Value::Array(list)) => list.iter().collect(),
        _ => vec![config],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_entries_are_refused_at_every_length() {
        let config = STANDARD.encode(r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#);
        let whole = format!(
            r#"{{"kind":"cniCacheV1","containerId":"c","config":"{config}","ifName":"eth0","networkName":"n","netns":"/run/netns/x","cniArgs":[["K8S_POD_NAME","web"]],"result":{{"cniVersion":"1.0.0","ips":[{{"address":"10.0.0.2/24"}}],"dns":{{}}}}}}"#
        );
        let entry = Entry::parse(whole.as_bytes()).unwrap();
        assert_eq!(entry.plugins()[0]["type"], "bridge");
        assert_eq!(entry.outcome().unwrap().ips.len(), 1);
        for length in 0..whole.len() {
            assert!(Entry::parse(&whole.as_bytes()[..length]).is_err(), "{length}");
        }
    }
}
