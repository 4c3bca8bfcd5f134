//! libcni's cache of results, `/var/lib/cni/results/<network>-<container>-<ifname>` (libcni/api.go, `cachedInfo`).
//!
//! libcni writes these files without fsync and without rename, so empty and cut ones are facts of life.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{AttachmentKey, NetworkName};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sys::UnnamedFile;

use crate::network;
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

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
}

const KIND: &str = "cniCacheV1";
/// `NAME_MAX` (include/uapi/linux/limits.h).
const NAME_MAX_BYTES: usize = 255;

impl Entry {
    /// Reads the content of a cache file.
    pub fn parse(content: &[u8]) -> Result<Self, Unreadable> {
        if content.is_empty() {
            return Err(Unreadable("empty: the runtime was killed while it wrote it".into()));
        }
        let file: File = serde_json::from_slice(content).map_err(|error| Unreadable(error.to_string()))?;
        if file.kind != KIND {
            return Err(Unreadable(format!("kind is {:?}, not {KIND:?}", file.kind)));
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

    /// The content of its cache file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let is_there = |value: &&Value| value.as_object().is_some_and(|object| !object.is_empty());
        let file = File {
            kind: KIND.into(),
            container_id: self.key.container.to_string(),
            config: STANDARD.encode(self.config.to_string()),
            if_name: self.key.ifname.to_string(),
            network_name: self.key.network.to_string(),
            netns: self.netns.as_ref().map(|path| path.display().to_string()),
            cni_args: Some(self.args.clone()).filter(|args| !args.is_empty()),
            capability_args: Some(&self.capability_args).filter(is_there).cloned(),
            result: Some(&self.result).filter(is_there).cloned(),
        };
        serde_json::to_vec(&file).unwrap_or_default()
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

/// A directory of cache entries.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// What a cache has.
#[derive(Debug, Default)]
pub struct Contents {
    /// Attachments.
    pub entries: Vec<Entry>,
    /// Files that cannot be understood; those whose names begin like a network's may be that network's.
    pub unreadable: Vec<(PathBuf, Unreadable)>,
}

impl Cache {
    /// The cache in this directory, which need not exist.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where the entry of an attachment is.
    ///
    /// The name is libcni's, and not unique: `a-b` `c` and `a` `b-c` share it. Whoever reads has to look inside.
    pub fn path(&self, key: &AttachmentKey) -> PathBuf {
        self.dir.join(format!("{}-{}-{}", key.network, key.container, key.ifname))
    }

    /// Whether an attachment's name is short enough for a file.
    pub(crate) fn is_too_long(&self, key: &AttachmentKey) -> bool {
        self.path(key).file_name().is_some_and(|name| name.len() > NAME_MAX_BYTES)
    }

    /// The entry of an attachment; `None` where there is no file of its name.
    pub fn read(&self, key: &AttachmentKey) -> io::Result<Option<Result<Entry, Unreadable>>> {
        let content = match network::read(&self.path(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            content => content?,
        };
        let entry = Entry::parse(&content).and_then(|entry| match entry.key == *key {
            true => Ok(entry),
            false => Err(Unreadable(format!("it is about {}, whose file has the same name", entry.key))),
        });
        Ok(Some(entry))
    }

    /// Writes the entry of an attachment that has none. It is complete before it has a name, so a crash leaves no part of one. It
    /// is not synced: what a power failure takes from it is about containers that are gone as well.
    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&self.dir, flags, Mode::empty());
        let dir = match open() {
            Err(rustix::io::Errno::NOENT) => {
                make_private(&self.dir)?;
                open()?
            }
            dir => dir?,
        };
        let path = self.path(&entry.key);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        UnnamedFile::new(dir.as_fd(), &entry.to_bytes())?.link(name)?;
        Ok(())
    }

    /// Removes the entry of an attachment, if there is one.
    pub fn remove(&self, key: &AttachmentKey) -> io::Result<()> {
        match std::fs::remove_file(self.path(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Everything about a network.
    pub fn of_network(&self, name: &NetworkName) -> io::Result<Contents> {
        let mut contents = self.scan(&format!("{name}-"))?;
        contents.entries.retain(|entry| entry.key.network == *name);
        Ok(contents)
    }

    /// Everything.
    pub fn contents(&self) -> io::Result<Contents> {
        self.scan("")
    }

    /// The files whose names begin like this, by name.
    fn scan(&self, prefix: &str) -> io::Result<Contents> {
        let mut contents = Contents::default();
        let files = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(contents),
            files => files?,
        };
        let mut paths = files.map(|file| Ok(file?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
        paths.sort();
        for path in paths {
            let content = network::read(&path).map_err(|error| Unreadable(error.to_string()));
            match content.and_then(|content| Entry::parse(&content)) {
                Ok(entry) => contents.entries.push(entry),
                Err(error) => contents.unreadable.push((path, error)),
            }
        }
        Ok(contents)
    }
}

/// Makes a directory as libcni makes it: nobody else may read what runtimes pass to plugins.
fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    fn key(network: &str, container: &str) -> AttachmentKey {
        AttachmentKey {
            network: network.parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        }
    }

    fn entry(key: &AttachmentKey) -> Entry {
        Entry {
            key: key.clone(),
            netns: Some("/run/netns/x".into()),
            args: vec![("K8S_POD_NAME".into(), "web".into())],
            capability_args: json!({ "portMappings": [{ "hostPort": 80 }] }),
            config: json!({ "cniVersion": "1.0.0", "name": key.network, "plugins": [{ "type": "bridge" }] }),
            result: json!({ "cniVersion": "1.0.0", "dns": {} }),
        }
    }

    #[test]
    fn what_was_written_reads_back_and_nothing_else_is_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("a/b"));
        let key = key("pods", "c1");
        assert!(cache.read(&key).unwrap().is_none());
        cache.write(&entry(&key)).unwrap();
        let back = cache.read(&key).unwrap().unwrap().unwrap();
        assert_eq!(back.to_bytes(), entry(&key).to_bytes());
        assert_eq!((back.netns, back.args.len()), (Some("/run/netns/x".into()), 1));
        assert!(cache.write(&entry(&key)).is_err(), "an entry that is there is not overwritten");
        let names: Vec<_> = std::fs::read_dir(dir.path().join("a/b")).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        cache.remove(&key).unwrap();
        cache.remove(&key).unwrap();
        assert!(cache.read(&key).unwrap().is_none());
    }

    #[test]
    fn an_entry_of_the_same_name_is_not_taken_for_another_attachments() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        cache.write(&entry(&key("a-b", "c"))).unwrap();
        assert!(cache.read(&key("a", "b-c")).unwrap().unwrap().is_err());
        let contents = cache.of_network(&"a".parse().unwrap()).unwrap();
        assert!(contents.entries.is_empty() && contents.unreadable.is_empty());
        std::fs::write(dir.path().join("a-x-eth0"), "").unwrap();
        let contents = cache.of_network(&"a".parse().unwrap()).unwrap();
        assert_eq!((contents.entries.len(), contents.unreadable.len()), (0, 1));
    }
}
