//! What most plugins need to be correct: a file for each attachment that remembers what was done, or is what was done.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;

use model::AttachmentKey;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use sys::UnnamedFile;

use crate::{Config, Error, MAX_CONFIG_BYTES, Result};

/// A directory with a file for each attachment, in a configuration a path. Files are named by network, container and interface, so
/// several networks may share a directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// The files in this directory, which is made when there is something to write.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where an attachment's file is.
    pub fn path(&self, key: &AttachmentKey) -> PathBuf {
        self.dir.join(key.file_name())
    }

    /// Writes the file of an attachment that has none, readable for everybody. It is complete before it has a name: a plugin that is
    /// killed leaves the whole file or nothing.
    pub fn write(&self, key: &AttachmentKey, text: &str) -> Result<()> {
        let path = self.path(key);
        std::fs::create_dir_all(&self.dir).map_err(Error::io("make", &self.dir))?;
        let write = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(&self.dir, flags, Mode::empty())?;
            let file = UnnamedFile::new(dir.as_fd(), text.as_bytes())?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
            file.link(&key.file_name())
        };
        write().map_err(|errno| Error::io("write", &path)(errno.into()))
    }

    /// An attachment's file, if there is one.
    pub fn read(&self, key: &AttachmentKey) -> Result<Option<String>> {
        let path = self.path(key);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MAX_CONFIG_BYTES).read_to_string(&mut text)) {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Removes an attachment's file, if there is one: DEL may come twice, and without an ADD before.
    pub fn remove(&self, key: &AttachmentKey) -> Result<()> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The attachments of all networks that have a file.
    pub fn list(&self) -> Result<Vec<AttachmentKey>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("read", &self.dir))?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::io("read", &self.dir))?.file_name();
            keys.extend(name.to_str().and_then(AttachmentKey::from_file_name));
        }
        Ok(keys)
    }

    /// GC: removes the files of this network's attachments that are not valid any more. Goes on after one that it cannot
    /// remove.
    pub fn collect(&self, config: &Config) -> Result<()> {
        let mut errors = Vec::new();
        for key in self.list()? {
            if config.is_stale(&key)? {
                errors.extend(self.remove(&key).err());
            }
        }
        Error::all(errors)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(network: &str, container: &str) -> AttachmentKey {
        AttachmentKey {
            network: network.parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        }
    }

    #[test]
    fn garbage_is_what_is_of_this_network_and_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::at(dir.path().join("made"));
        assert_eq!(files.list(), Ok(Vec::new()));
        let (live, stale, other) = (key("n", "live"), key("n", "stale"), key("other", "stale"));
        for key in [&live, &stale, &other] {
            files.write(key, "x").unwrap();
        }
        std::fs::write(dir.path().join("made/notes"), "").unwrap();
        assert!(files.write(&live, "y").is_err(), "a second ADD overwrites nothing");
        let mut config = json!({ "cniVersion": "1.1.0", "name": "n", "type": "t" });
        assert!(
            files.collect(&Config::from_value(config.clone()).unwrap()).is_err(),
            "no list is not an empty list"
        );
        config["cni.dev/valid-attachments"] = json!([{ "containerID": "live", "ifname": "eth0" }]);
        files.collect(&Config::from_value(config).unwrap()).unwrap();
        assert_eq!(files.read(&live), Ok(Some("x".into())));
        assert_eq!((files.read(&stale), files.read(&other)), (Ok(None), Ok(Some("x".into()))));
        assert!(dir.path().join("made/notes").exists());
        files.remove(&stale).unwrap();
    }
}
