//! Calling other people's plugins, as the protocol says: one process each, configuration on stdin, result on stdout.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use model::AttachmentKey;
use serde_json::{Map, Value, json};

use crate::cache::Entry;
use crate::environment::Command;
use crate::{Code, Error, Result, Version};

/// How long a plugin may take. The reference bridge waits up to 2.5 s for a port's state; kubelet gives up after minutes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an answer may come after the plugin ended.
const AFTER_EXIT: Duration = Duration::from_secs(2);

/// What a plugin is called with.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// What to do.
    pub command: Command,
    /// `CNI_CONTAINERID`.
    pub container: &'a str,
    /// `CNI_NETNS`.
    pub netns: Option<&'a Path>,
    /// `CNI_IFNAME`.
    pub ifname: &'a str,
    /// `CNI_ARGS`.
    pub args: &'a str,
    /// `CNI_PATH`: where this plugin, and those that it calls, are.
    pub path: &'a [PathBuf],
}

/// Finds a plugin by its type.
pub fn find(kind: &str, path: &[PathBuf]) -> Result<PathBuf> {
    if kind.is_empty() || kind.contains('/') || kind == "." || kind == ".." {
        return Err(Error::new(Code::InvalidConfig, format!("{kind:?} is not a plugin's name")));
    }
    let found = path.iter().map(|dir| dir.join(kind)).find(|file| file.is_file());
    found.ok_or_else(|| {
        let dirs: Vec<String> = path.iter().map(|dir| dir.display().to_string()).collect();
        Error::new(Code::InvalidConfig, format!("plugin {kind:?} was not found"))
            .details(format!("looked in {}", dirs.join(", ")))
    })
}

/// Runs a plugin and returns what it printed; an empty answer is `Value::Null`.
pub fn execute(kind: &str, config: &Value, request: &Request<'_>) -> Result<Value> {
    let program = find(kind, request.path)?;
    let io = |what: &str, error: std::io::Error| {
        Error::new(Code::Io, format!("cannot {what} plugin {}", program.display())).details(error)
    };
    let path = std::env::join_paths(request.path)
        .map_err(|error| Error::new(Code::InvalidEnvironment, "CNI_PATH").details(error))?;
    #[expect(clippy::disallowed_methods, reason = "CNI plugins of others are executed: that is the protocol")]
    let mut command = std::process::Command::new(&program);
    command
        .env("CNI_COMMAND", request.command.as_str())
        .env("CNI_CONTAINERID", request.container)
        .env("CNI_NETNS", request.netns.unwrap_or(Path::new("")))
        .env("CNI_IFNAME", request.ifname)
        .env("CNI_ARGS", request.args)
        .env("CNI_PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| io("start", error))?;
    let input = config.to_string();
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    // Each pipe on a thread of its own: a plugin that writes before it reads must not stop us.
    std::thread::spawn(move || stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
    let (sender, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut output = Vec::new();
        if let Some(stdout) = stdout.take() {
            let _ = stdout.take(crate::MAX_CONFIG_BYTES).read_to_end(&mut output);
        }
        let _ = sender.send(output);
    });
    let status = wait(&mut child);
    // A process that the plugin left behind may keep stdout open for ever. What the plugin itself wrote is there by now.
    let output = answered.recv_timeout(AFTER_EXIT).unwrap_or_default();
    let status = status.map_err(|error| io("wait for", error))?;
    let answer: Option<Value> = serde_json::from_slice(&output).ok();
    if status.success() {
        return Ok(answer.unwrap_or_default());
    }
    let own = answer.as_ref().and_then(Error::from_json);
    Err(own.unwrap_or_else(|| Error::new(Code::Delegate, format!("plugin {kind} failed")).details(status)))
}

/// Waits for the child; ends it when it takes too long.
fn wait(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "it took more than a minute and was ended",
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

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
pub fn replay_del(cached: &[u8], key: &AttachmentKey, netns: Option<&Path>, path: &[PathBuf]) -> Vec<Error> {
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
        _ => entry.result.clone(),
    };
    let plugins = entry.plugins();
    let run = |plugin: &&Value| {
        let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        let config = plugin_config(plugin, &entry.config, &entry.capability_args, &previous);
        execute(kind, &config, &request).err()
    };
    plugins.iter().rev().filter_map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_name_cannot_leave_its_directory() {
        for bad in ["", ".", "..", "../bridge", "/bin/sh", "a/b"] {
            assert_eq!(find(bad, &[PathBuf::from("/usr/lib/cni")]).unwrap_err().code, 7, "{bad:?}");
        }
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
