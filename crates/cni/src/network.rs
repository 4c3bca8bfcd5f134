//! Network configurations on disk, loaded as libcni loads them (libcni/conf.go).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use model::NetworkName;
use rustix::fs::{Mode, OFlags};
use serde_json::{Map, Value, json};

use crate::{Code, Error, MAX_CONFIG_BYTES, Result, Version};

/// A network: a list of plugins that are called one after the other.
#[derive(Debug, Clone)]
pub struct Network {
    /// `name`.
    pub name: NetworkName,
    /// `cniVersion`, or the newest of `cniVersions` that this crate speaks.
    pub version: Version,
    /// `disableCheck`: CHECK is not to be called.
    pub disable_check: bool,
    /// `disableGC`: GC is not to be called.
    pub disable_gc: bool,
    /// `loadOnlyInlinedPlugins`: the files in the folder of the network's name are not part of it.
    pub inlined_only: bool,
    /// The configuration of each plugin, in order.
    pub plugins: Vec<Value>,
    /// How many of them are in the file; the others are from the folder.
    pub inlined: usize,
    /// The configuration as the cache keeps it: complete, so that DEL can be called when the files are gone.
    pub list: Value,
}

/// Why a network could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// The directory cannot be read.
    Directory(PathBuf, String),
    /// A file that libcni reads before it comes to the network, or the network's own, is broken.
    Broken(PathBuf, Error),
    /// There is no such network; the names of those that there are.
    NotFound(PathBuf, Vec<String>),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Directory(dir, why) => write!(f, "cannot read {}: {why}", dir.display()),
            LoadError::Broken(file, error) => write!(f, "{}: {error}", file.display()),
            LoadError::NotFound(dir, names) if names.is_empty() => {
                write!(f, "there is no network configuration in {}", dir.display())
            }
            LoadError::NotFound(dir, names) => {
                write!(f, "no network of that name in {} (there: {})", dir.display(), names.join(", "))
            }
        }
    }
}

impl std::error::Error for LoadError {}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, message)
}

/// The JSON object in a file's content.
fn object(text: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::new(Code::Decode, "is not a JSON object")),
        Err(error) => Err(Error::new(Code::Decode, "is not JSON").details(error)),
    }
}

fn string<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(invalid(format!("{name} is not a string"))),
    }
}

/// A switch. libcni takes the words as well.
fn switch(object: &Map<String, Value>, name: &str) -> Result<bool> {
    match object.get(name) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(invalid(format!("{name} is neither true nor false"))),
    }
}

fn number(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let numbers = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    parts.next().is_none().then_some(numbers)
}

/// `cniVersion`, or the highest of `cniVersions` that is not above the newest known one.
fn version(object: &Map<String, Value>) -> Result<Version> {
    let single = string(object, "cniVersion")?;
    let Some(list) = object.get("cniVersions") else { return Version::parse(Some(single)) };
    let Value::Array(list) = list else { return Err(invalid("cniVersions is not a list")) };
    let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    let mut texts = texts.ok_or_else(|| invalid("cniVersions has an entry that is not a string"))?;
    if !single.is_empty() {
        texts.push(single);
    }
    let mut usable = Vec::new();
    for text in texts {
        let number = number(text).ok_or_else(|| invalid(format!("cniVersions: {text:?} is no version")))?;
        if number <= number_of(Version::NEWEST) {
            usable.push((number, text));
        }
    }
    Version::parse(usable.iter().max().map(|(_, text)| *text).or(Some(single)))
}

fn number_of(version: Version) -> (u32, u32, u32) {
    number(version.as_str()).unwrap_or_default()
}

/// What libcni wants of each plugin's configuration.
fn check_plugin(plugin: &Value) -> Result<()> {
    let Value::Object(plugin) = plugin else { return Err(invalid("is not a JSON object")) };
    for name in ["name", "cniVersion"] {
        string(plugin, name)?;
    }
    if string(plugin, "type")?.is_empty() {
        return Err(invalid("type is missing"));
    }
    match plugin.get("capabilities") {
        None | Some(Value::Null) => {}
        Some(Value::Object(capabilities)) => {
            if let Some((name, _)) = capabilities.iter().find(|(_, on)| !on.is_boolean()) {
                let name = name.escape_debug();
                return Err(invalid(format!("capabilities.{name} is neither true nor false")));
            }
        }
        Some(_) => return Err(invalid("capabilities is not a JSON object")),
    }
    match plugin.get("ipam") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(ipam)) => {
            string(ipam, "type").map(drop).map_err(|_| invalid("ipam.type is not a string"))
        }
        Some(_) => Err(invalid("ipam is not a JSON object")),
    }
}

impl Network {
    /// Reads a list (`.conflist`), as far as it is in the file itself.
    pub fn parse(text: &[u8]) -> Result<Self> {
        Self::from_list(object(text)?)
    }

    fn from_list(object: Map<String, Value>) -> Result<Self> {
        let name = string(&object, "name")?;
        let name = name.parse().map_err(|error| invalid("name is not valid").details(error))?;
        let inlined_only = switch(&object, "loadOnlyInlinedPlugins")?;
        let plugins = match object.get("plugins") {
            None if inlined_only => {
                return Err(invalid(
                    "there are no plugins, and loadOnlyInlinedPlugins forbids to look elsewhere",
                ));
            }
            None => Vec::new(),
            Some(Value::Array(plugins)) if plugins.is_empty() => return Err(invalid("plugins is empty")),
            Some(Value::Array(plugins)) => plugins.clone(),
            Some(_) => return Err(invalid("plugins is not a list")),
        };
        for (at, plugin) in plugins.iter().enumerate() {
            check_plugin(plugin).map_err(|error| invalid(format!("plugins[{at}]: {}", error.message)))?;
        }
        Ok(Self {
            name,
            version: version(&object)?,
            disable_check: switch(&object, "disableCheck")?,
            disable_gc: switch(&object, "disableGC")?,
            inlined_only,
            inlined: plugins.len(),
            plugins,
            list: Value::Object(object),
        })
    }

    /// Reads a single plugin's configuration (`.conf` or `.json`) as a list of one.
    pub fn parse_single(text: &[u8]) -> Result<Self> {
        Self::from_single(object(text)?)
    }

    fn from_single(single: Map<String, Value>) -> Result<Self> {
        if single.contains_key("plugins") && !single.contains_key("type") {
            return Err(invalid("is a list of plugins, but its name does not end in .conflist"));
        }
        let single = Value::Object(single);
        check_plugin(&single)?;
        let version = single.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
        let mut list = Map::new();
        list.insert("name".into(), single.get("name").cloned().unwrap_or_default());
        list.insert("cniVersion".into(), version.into());
        list.insert("plugins".into(), Value::Array(vec![single]));
        Self::from_list(list)
    }

    /// A configuration that the cache kept. libcni keeps single ones as they are.
    pub fn from_cached(config: &Value) -> Result<Self> {
        match config {
            Value::Object(object) if object.contains_key("plugins") => Self::from_list(object.clone()),
            Value::Object(object) => Self::from_single(object.clone()),
            _ => Err(Error::new(Code::Decode, "is not a JSON object")),
        }
    }

    /// Loads a file of either kind; to a list belong the files in the folder of its name, unless it says otherwise.
    pub fn load(file: &Path) -> Result<Self> {
        let text = read(file).map_err(Error::io("read", file))?;
        if !is_list(file) {
            return Self::parse_single(&text);
        }
        let mut network = Self::parse(&text)?;
        if !network.inlined_only {
            network.add_folder(file)?;
        }
        match network.plugins.is_empty() {
            true => Err(invalid("there are no plugins, neither in the file nor in the folder of its name")),
            false => Ok(network),
        }
    }

    /// Adds the plugins in `<directory>/<name>/*.conf`.
    fn add_folder(&mut self, file: &Path) -> Result<()> {
        let folder = file.with_file_name(self.name.as_str());
        let files = files(&folder, &["conf"]).map_err(Error::io("read", &folder))?;
        if files.is_empty() {
            return Ok(());
        }
        for file in files {
            let plugin = read(&file).map_err(Error::io("read", &file))?;
            let plugin =
                object(&plugin).map(Value::Object).and_then(|plugin| check_plugin(&plugin).map(|()| plugin));
            self.plugins
                .push(plugin.map_err(|error| invalid(format!("{}: {}", file.display(), error.message)))?);
        }
        // What the cache keeps has to be complete in itself: libcni, which keeps the list's file only, would forget these
        // plugins' DEL.
        self.list["plugins"] = Value::Array(self.plugins.clone());
        self.list["loadOnlyInlinedPlugins"] = true.into();
        Ok(())
    }

    /// The configuration that one plugin gets: its own part, the list's name and version, the runtime's capability arguments
    /// that it asked for, and the previous result.
    pub fn plugin_config(&self, plugin: &Value, capability_args: &Value, previous: &Value) -> Value {
        let list = json!({ "name": self.name, "cniVersion": self.version.as_str() });
        crate::chain::plugin_config(plugin, &list, capability_args, previous)
    }
}

/// Whether a file's name is a list's.
pub(crate) fn is_list(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "conflist")
}

/// The files of a directory that end in one of these extensions, by name; none, where there is no directory. Of links, what they
/// lead to counts when it is read, as libcni has it.
pub fn files(dir: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // Go's idea of an extension: that of `.conf` is `conf`, too.
        let extension = name.to_str().and_then(|name| Some(name.rsplit_once('.')?.1));
        let is_wanted = extension.is_some_and(|extension| extensions.contains(&extension));
        if is_wanted && !entry.file_type()?.is_dir() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// A configuration's content. What is not a file, or too large, is refused without waiting for it.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    // O_NONBLOCK: a FIFO in its place must not make us wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    let stat = file.metadata()?;
    if !stat.is_file() {
        return refuse("it is not a file");
    }
    if stat.len() > MAX_CONFIG_BYTES {
        return refuse("it is larger than 4 MiB");
    }
    let mut text = Vec::with_capacity(stat.len() as usize + 1);
    file.take(MAX_CONFIG_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// Finds a network by its name in a directory, in libcni's order: lists first, then single configurations, each by file name. As
/// libcni does, it fails at a file that is broken, since that might have been the one.
pub fn load(dir: &Path, name: &NetworkName) -> std::result::Result<Network, LoadError> {
    let mut seen = Vec::new();
    for extensions in [&["conflist"][..], &["conf", "json"]] {
        let files = files(dir, extensions)
            .map_err(|error| LoadError::Directory(dir.to_owned(), error.to_string()))?;
        for file in files {
            let network = Network::load(&file).map_err(|error| LoadError::Broken(file, error))?;
            if network.name == *name {
                return Ok(network);
            }
            seen.push(network.name.to_string());
        }
    }
    Err(LoadError::NotFound(dir.to_owned(), seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","capabilities":{"mac":true}}]}"#;

    fn parse(value: &Value) -> Result<Network> {
        Network::parse(value.to_string().as_bytes())
    }

    #[test]
    fn cut_lists_are_refused_at_every_length() {
        assert_eq!(Network::parse(LIST.as_bytes()).unwrap().plugins.len(), 1);
        for length in 0..LIST.len() {
            assert!(Network::parse(&LIST.as_bytes()[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn what_libcni_would_refuse_is_refused() {
        let good: Value = serde_json::from_str(LIST).unwrap();
        for (pointer, value, says) in [
            ("/name", json!(7), "name is not a string"),
            ("/name", json!("../x"), "name is not valid"),
            ("/name", json!("a\nb"), "name is not valid"),
            ("/name", json!("a\"b"), "name is not valid"),
            ("/cniVersion", json!(1.0), "cniVersion is not a string"),
            ("/cniVersion", json!("9.9.9"), "not supported"),
            ("/plugins", json!([]), "empty"),
            ("/plugins/0/capabilities", json!({ "a\nb": 1 }), r"capabilities.a\nb is neither"),
            ("/plugins", json!({}), "not a list"),
            ("/plugins/0", json!("bridge"), "plugins[0]: is not a JSON object"),
            ("/plugins/0/type", json!(""), "plugins[0]: type is missing"),
            ("/plugins/0/capabilities/mac", json!("yes"), "plugins[0]: capabilities.mac"),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            let error = parse(&bad).unwrap_err();
            assert!(error.message.contains(says), "{pointer}: {error}");
        }
        let mut bad = good.clone();
        bad["disableCheck"] = json!("perhaps");
        assert!(parse(&bad).is_err());
        bad["disableCheck"] = json!("TRUE");
        assert!(parse(&bad).unwrap().disable_check);
    }

    #[test]
    fn the_highest_version_that_is_known_is_taken() {
        let version = |single: &str, list: &[&str]| {
            parse(&json!({ "name": "n", "cniVersion": single, "cniVersions": list, "plugins": [{ "type": "x" }] }))
                .map(|network| network.version)
        };
        assert_eq!(version("0.4.0", &["1.0.0", "1.1.0", "9.0.0"]), Ok(Version::V1_1_0));
        assert_eq!(version("1.0.0", &["0.3.1"]), Ok(Version::V1_0_0));
        assert_eq!(version("0.4.0", &["9.0.0"]), Ok(Version::V0_4_0));
        assert_eq!(version("", &[]), Ok(Version::V0_1_0));
        assert!(version("1.0.0", &["new"]).is_err());
    }

    #[test]
    fn the_folder_of_a_network_belongs_to_it_and_to_its_cached_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("10-n.conflist");
        std::fs::create_dir(dir.path().join("n")).unwrap();
        std::fs::write(&file, LIST).unwrap();
        for (name, kind) in [("20-b.conf", "firewall"), ("10-a.conf", "portmap"), ("30-c.txt", "other")] {
            std::fs::write(dir.path().join("n").join(name), json!({ "type": kind }).to_string()).unwrap();
        }
        let kinds = |network: &Network| -> Vec<String> {
            network.plugins.iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
        };
        let network = Network::load(&file).unwrap();
        assert_eq!(kinds(&network), ["bridge", "portmap", "firewall"]);
        assert_eq!(kinds(&Network::from_cached(&network.list).unwrap()), ["bridge", "portmap", "firewall"]);
        std::fs::write(&file, LIST.replacen('{', r#"{"loadOnlyInlinedPlugins":true,"#, 1)).unwrap();
        assert_eq!(kinds(&Network::load(&file).unwrap()), ["bridge"]);
        // Without plugins of its own, a list is what its folder has.
        std::fs::write(&file, r#"{"cniVersion":"1.1.0","name":"n"}"#).unwrap();
        assert_eq!(kinds(&Network::load(&file).unwrap()), ["portmap", "firewall"]);
        std::fs::write(&file, r#"{"cniVersion":"1.1.0","name":"m"}"#).unwrap();
        assert!(Network::load(&file).unwrap_err().message.contains("no plugins"));
    }

    #[test]
    fn lists_come_before_single_configurations_and_broken_files_are_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let (n, missing) = ("n".parse().unwrap(), "missing".parse().unwrap());
        assert_eq!(load(dir.path(), &n).unwrap_err(), LoadError::NotFound(dir.path().to_owned(), Vec::new()));
        write("05-n.conf", r#"{"cniVersion":"0.4.0","name":"n","type":"single"}"#);
        assert_eq!(load(dir.path(), &n).unwrap().plugins[0]["type"], "single");
        write("90-n.conflist", LIST);
        assert_eq!(load(dir.path(), &n).unwrap().plugins[0]["type"], "bridge");
        // The network's list is found before the broken single configuration is looked at.
        write("00-broken.json", "{");
        assert!(load(dir.path(), &n).is_ok());
        assert!(
            matches!(load(dir.path(), &missing), Err(LoadError::Broken(file, _)) if file.ends_with("00-broken.json"))
        );
        write("00-broken.conflist", "{");
        assert!(matches!(load(dir.path(), &n), Err(LoadError::Broken(..))));
    }

    #[test]
    fn links_fifos_and_directories_are_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("real"), LIST).unwrap();
        std::os::unix::fs::symlink("real", path("10-link.conflist")).unwrap();
        assert!(load(dir.path(), &"n".parse().unwrap()).is_ok());
        std::fs::create_dir(path("00-dir.conflist")).unwrap();
        assert!(load(dir.path(), &"n".parse().unwrap()).is_ok(), "a directory is no file");
        std::os::unix::fs::symlink("00-dir.conflist", path("01-dir.conflist")).unwrap();
        assert!(
            matches!(load(dir.path(), &"n".parse().unwrap()), Err(LoadError::Broken(..))),
            "as libcni has it"
        );
        std::fs::remove_file(path("01-dir.conflist")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("02-fifo.conflist"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let error = load(dir.path(), &"n".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("it is not a file"), "{error}");
        std::fs::remove_file(path("02-fifo.conflist")).unwrap();
        let huge = File::create(path("02-huge.conflist")).unwrap();
        huge.set_len(MAX_CONFIG_BYTES + 1).unwrap();
        let error = load(dir.path(), &"n".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("larger than 4 MiB"), "{error}");
    }
}
