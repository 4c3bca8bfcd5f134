//! What a chain of plugins is called with, and the DEL of what somebody else's ADD left in the cache.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::AttachmentKey;
use serde_json::{Map, Value, json};

use crate::cache::Entry;
use crate::environment::Command;
pub use crate::exec::{PATIENCE, Request, execute, execute_within, find, is_name};
use crate::{Code, Error, Version};

/// The configuration that libcni would pass to one plugin of a chain: its own part, the list's name and version, the
/// runtime's capability arguments that it asked for, and the previous result.
pub fn plugin_config(plugin: &Value, list: &Value, capability_args: &Value, previous: &Value) -> Value {
    let mut config: Map<String, Value> = plugin.as_object().cloned().unwrap_or_default();
    for name in ["name", "cniVersion"] {
        if let Some(value) = list.get(name) {
            config.insert(name.into(), value.clone());
        }
    }
    let wanted = plugin.get("capabilities").and_then(Value::as_object).into_iter().flatten();
    let granted: Map<String, Value> = wanted
        .filter(|(_, on)| **on == Value::Bool(true))
        .filter_map(|(name, _)| Some((name.clone(), capability_args.get(name)?.clone())))
        .collect();
    if !granted.is_empty() {
        config.insert("runtimeConfig".into(), granted.into());
    }
    if !previous.is_null() {
        config.insert("prevResult".into(), previous.clone());
    }
    config.into()
}

/// Calls DEL of every plugin of a cached attachment, the last first, and goes on after one that fails. (libcni stops at the
/// first error, so that one failing plugin leaks what the earlier ones hold: containerd issue 12130.)
///
/// Of the result, the addresses that `is_reused` names are withheld: they are another container's by now, and plugins that go by
/// addresses (the reference firewall) would remove that one's rules.
pub fn replay_del(
    cached: &[u8],
    key: &AttachmentKey,
    netns: Option<&Path>,
    path: &[PathBuf],
    is_reused: impl Fn(IpAddr) -> bool,
) -> Vec<Error> {
    let entry = match Entry::parse(cached) {
        Ok(entry) if entry.key == *key => entry,
        Ok(_) => return vec![Error::new(Code::Decode, "the cache entry is about another attachment")],
        Err(error) => {
            return vec![Error::new(Code::Decode, "the cache entry cannot be understood").details(error)];
        }
    };
    let args: Vec<String> = entry.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let args = args.join(";");
    let request = Request {
        command: Command::Del,
        container: key.container.as_str(),
        netns,
        ifname: key.ifname.as_str(),
        args: &args,
        path,
    };
    let version = Version::parse(entry.config.get("cniVersion").and_then(Value::as_str));
    // Before 0.4.0, DEL gets no previous result.
    let previous = match version {
        Ok(version) if version < Version::V0_4_0 => json!(null),
        _ => without(entry.result.clone(), is_reused),
    };
    let plugins = entry.plugins();
    let run = |plugin: &&Value| {
        let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        let config = plugin_config(plugin, &entry.config, &entry.capability_args, &previous);
        execute(kind, &config, &request).err()
    };
    plugins.iter().rev().filter_map(run).collect()
}

/// A result without these addresses.
fn without(mut result: Value, is_unwanted: impl Fn(IpAddr) -> bool) -> Value {
    let address = |ip: &Value| ip.get("address")?.as_str()?.split('/').next()?.parse().ok();
    if let Some(ips) = result.get_mut("ips").and_then(Value::as_array_mut) {
        ips.retain(|ip| !address(ip).is_some_and(&is_unwanted));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_others_are_withheld() {
        let result = json!({ "ips": [{ "address": "10.0.0.2/24" }, { "address": "fd00::2/64" }, {}] });
        let left = without(result, |address| address.is_ipv4());
        assert_eq!(left, json!({ "ips": [{ "address": "fd00::2/64" }, {}] }));
        assert_eq!(without(json!({ "ip4": {} }), |_| true), json!({ "ip4": {} }));
    }

    #[test]
    fn only_capabilities_that_were_asked_for_are_passed() {
        let plugin =
            json!({ "type": "portmap", "capabilities": { "portMappings": true, "bandwidth": false } });
        let list = json!({ "name": "n", "cniVersion": "1.0.0" });
        let args = json!({ "portMappings": [1], "bandwidth": 2, "mac": 3 });
        let config = plugin_config(&plugin, &list, &args, &Value::Null);
        assert_eq!(config["runtimeConfig"], json!({ "portMappings": [1] }));
        assert_eq!((&config["name"], &config["cniVersion"]), (&json!("n"), &json!("1.0.0")));
        assert!(config.get("prevResult").is_none());
    }
}
