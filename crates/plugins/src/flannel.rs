//! Pods of a flannel node: writes the configuration of another plugin (bridge, unless told otherwise) from what flanneld says of the
//! node, and calls that.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cni::{Call, Code, Command, Config, Environment, Error, Outcome, Plugin, Result};
use ipnet::IpNet;
use model::ContainerId;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sys::UnnamedFile;

use crate::Own;
use crate::ipam::{delegate, delegate_network};

/// Where flanneld says what the node's subnet is.
const SUBNET_FILE: &str = "/run/flannel/subnet.env";
/// Where the configuration that an ADD made is kept for its DEL, by container id.
const DATA_DIR: &str = "/var/lib/cni/flannel";
const LARGEST_BYTES: u64 = 1 << 20;

/// The plugin.
pub(crate) struct Flannel;

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    subnet_file: PathBuf,
    data_dir: PathBuf,
    delegate: Option<Map<String, Value>>,
    ipam: Option<Map<String, Value>>,
}

/// What flanneld says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Subnet {
    networks: Vec<IpNet>,
    /// The node's own subnets, one a family.
    subnets: Vec<IpNet>,
    mtu: Option<u32>,
    masquerades: Option<bool>,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, message)
}

impl Subnet {
    /// Reads `subnet.env`: `KEY=VALUE` lines.
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut subnet = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once('=') else { continue };
            let nets = || -> std::result::Result<Vec<IpNet>, String> {
                let parse = |text: &str| {
                    text.trim().parse::<IpNet>().map(|net| net.trunc()).map_err(|e| format!("{key}: {e}"))
                };
                value.split(',').filter(|text| !text.trim().is_empty()).map(parse).collect()
            };
            match key {
                "FLANNEL_NETWORK" | "FLANNEL_IPV6_NETWORK" => subnet.networks.extend(nets()?),
                "FLANNEL_SUBNET" | "FLANNEL_IPV6_SUBNET" => subnet.subnets.extend(nets()?),
                "FLANNEL_MTU" => subnet.mtu = Some(value.parse().map_err(|e| format!("{key}: {e}"))?),
                "FLANNEL_IPMASQ" => subnet.masquerades = Some(value == "true"),
                _ => {}
            }
        }
        let missing = [
            ("FLANNEL_NETWORK", subnet.networks.is_empty()),
            ("FLANNEL_SUBNET", subnet.subnets.is_empty()),
            ("FLANNEL_MTU", subnet.mtu.is_none()),
            ("FLANNEL_IPMASQ", subnet.masquerades.is_none()),
        ];
        match missing.iter().find(|(_, is_missing)| *is_missing) {
            Some((key, _)) => Err(format!("{key} is missing")),
            None => Ok(subnet),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let fail = |why: String| {
            Error::new(Code::TryAgain, format!("{} does not say the node's subnet", path.display()))
                .details(format!("{why}; flanneld writes it when it has a lease"))
        };
        let text = cni::read(path).map_err(|error| fail(error.to_string()))?;
        Self::parse(&String::from_utf8_lossy(&text)).map_err(fail)
    }
}

impl Written {
    fn of(config: &Config) -> Result<Self> {
        let mut written: Self = config.own()?;
        let or = |path: &mut PathBuf, default: &str| {
            if path.as_os_str().is_empty() {
                *path = PathBuf::from(default);
            }
        };
        or(&mut written.subnet_file, SUBNET_FILE);
        or(&mut written.data_dir, DATA_DIR);
        let delegate = written.delegate.iter().flatten();
        for (key, value) in delegate {
            match (key.as_str(), value.is_string()) {
                ("name" | "ipam", _) => return Err(invalid(format!("delegate.{key} is flannel's to set"))),
                ("type", false) => return Err(invalid("delegate.type is not a string")),
                ("type", true) if value == "flannel" => {
                    return Err(invalid("delegate.type cannot be flannel"));
                }
                _ => {}
            }
        }
        Ok(written)
    }

    /// The configuration of the plugin that does the work.
    fn delegate(&self, config: &Config, subnet: &Subnet) -> Result<Value> {
        let mut delegate = self.delegate.clone().unwrap_or_default();
        let mut default = |key: &str, value: Value| {
            delegate.entry(key).or_insert(value);
        };
        default("type", "bridge".into());
        // One of the two has to masquerade.
        default("ipMasq", (subnet.masquerades == Some(false)).into());
        default("mtu", json!(subnet.mtu));
        if delegate["type"] == "bridge" {
            delegate.entry("isGateway").or_insert(true.into());
        }
        delegate.insert("name".into(), config.network.to_string().into());
        delegate.insert("cniVersion".into(), config.version.as_str().into());
        for key in ["runtimeConfig", "args", "cni.dev/valid-attachments", "prevResult"] {
            if let Some(value) = config.raw.get(key) {
                delegate.insert(key.into(), value.clone());
            }
        }
        let mut ipam = self.ipam.clone().unwrap_or_default();
        ipam.entry("type").or_insert("host-local".into());
        let ranges: Vec<Value> = subnet.subnets.iter().map(|net| json!([{ "subnet": net }])).collect();
        ipam.insert("ranges".into(), ranges.into());
        let mut routes = match ipam.remove("routes") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(routes)) => routes,
            Some(_) => return Err(invalid("ipam.routes is not a list")),
        };
        routes.extend(subnet.networks.iter().map(|net| json!({ "dst": net })));
        ipam.insert("routes".into(), routes.into());
        delegate.insert("ipam".into(), ipam.into());
        Ok(delegate.into())
    }
}

/// Calls the plugin that a configuration names: ours in this process, another as the protocol says.
fn invoke(command: Command, config: Value, call: &Call) -> Result<Option<Outcome>> {
    let kind = config.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let call = Call { invocation: call.invocation.clone(), config: Config::from_value(config)? };
    if let Some(plugin) = crate::select(&kind) {
        return match command {
            Command::Add => plugin.add(&call).map(Some),
            Command::Del => plugin.del(&call).map(|()| None),
            _ => plugin.check(&call).map(|()| None),
        };
    }
    let answer = delegate(&kind, command, &call)?;
    match command {
        Command::Add => Outcome::from_json(&answer, call.config.version).map(Some),
        _ => Ok(None),
    }
}

impl Own for Flannel {
    fn read(&self, call: &Call) -> Result<()> {
        // What flanneld says is not the call's.
        Written::of(&call.config)?.delegate(&call.config, &Subnet::default()).map(drop)
    }
}

impl Plugin for Flannel {
    fn add(&self, call: &Call) -> Result<Outcome> {
        let written = Written::of(&call.config)?;
        let subnet = Subnet::read(&written.subnet_file)?;
        let delegate = written.delegate(&call.config, &subnet)?;
        let store = Scratch::create(&written.data_dir)?;
        store.keep(&call.invocation.container, &delegate)?;
        let result = invoke(Command::Add, delegate, call);
        if result.is_err() {
            store.remove(&call.invocation.container)?;
        }
        Ok(result?.unwrap_or_default())
    }

    fn del(&self, call: &Call) -> Result<()> {
        let written = Written::of(&call.config)?;
        let container = &call.invocation.container;
        let store = Scratch::open(&written.data_dir)?;
        let kept = match &store {
            Some(store) => store.kept(container)?,
            None => None,
        };
        let mut delegate = match kept {
            Some(delegate) => delegate,
            // Nothing was kept, or a crash left it empty: what ADD would use now.
            None => match Subnet::read(&written.subnet_file) {
                Ok(subnet) => written.delegate(&call.config, &subnet)?,
                Err(_) => return Ok(()),
            },
        };
        for key in ["prevResult", "runtimeConfig"] {
            if let Some(value) = call.config.raw.get(key) {
                delegate[key] = value.clone();
            }
        }
        invoke(Command::Del, delegate, call)?;
        store.map_or(Ok(()), |store| store.remove(container))
    }

    fn check(&self, call: &Call) -> Result<()> {
        let written = Written::of(&call.config)?;
        let subnet = Subnet::read(&written.subnet_file)?;
        invoke(Command::Check, written.delegate(&call.config, &subnet)?, call).map(drop)
    }

    fn gc(&self, config: &Config, environment: &Environment) -> Result<()> {
        let written = Written::of(config)?;
        let valid = crate::ipam::valid(config)?;
        let subnet = Subnet::read(&written.subnet_file)?;
        let delegate = written.delegate(config, &subnet)?;
        let config = Config::from_value(delegate)?;
        match crate::select(&config.kind) {
            Some(plugin) => plugin.gc(&config, environment)?,
            None => delegate_network(&config.kind, Command::Gc, &config, environment)?,
        }
        let Some(store) = Scratch::open(&written.data_dir)? else { return Ok(()) };
        for container in store.containers(config.network.as_str())? {
            if !valid.iter().any(|(id, _)| *id == container) {
                store.remove(&container)?;
            }
        }
        Ok(())
    }

    fn status(&self, config: &Config, environment: &Environment) -> Result<()> {
        let written = Written::of(config)?;
        let subnet = Subnet::read(&written.subnet_file)
            .map_err(|error| Error { code: Code::NotAvailable as u32, ..error })?;
        let delegate = written.delegate(config, &subnet)?;
        match delegate["type"].as_str().and_then(crate::select) {
            Some(plugin) => plugin.status(&Config::from_value(delegate)?, environment),
            None => Ok(()),
        }
    }
}

/// The directory of configurations that ADDs made, flannel's own format: a file a container.
struct Scratch(OwnedFd);

fn failed(what: &str, errno: Errno) -> Error {
    Error::new(Code::Io, format!("cannot {what} flannel's configuration of a container"))
        .details(std::io::Error::from(errno))
}

impl Scratch {
    fn create(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|error| {
            failed("make a directory for", Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        let opened = Self::open(dir)?;
        opened.ok_or_else(|| failed("find", Errno::NOENT))
    }

    fn open(dir: &Path) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, Mode::empty()) {
            Ok(directory) => Ok(Some(Self(directory))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("open the directory of", errno)),
        }
    }

    /// Complete before it has a name. What an earlier ADD of the same container kept is replaced: that one is over.
    fn keep(&self, container: &ContainerId, config: &Value) -> Result<()> {
        let text = config.to_string();
        let file = UnnamedFile::new(self.0.as_fd(), text.as_bytes()).map_err(|e| failed("write", e))?;
        match file.link(container.as_str()) {
            Err(Errno::EXIST) => {
                self.remove(container)?;
                file.link(container.as_str()).map_err(|errno| failed("write", errno))
            }
            result => result.map_err(|errno| failed("write", errno)),
        }
    }

    fn kept(&self, container: &ContainerId) -> Result<Option<Value>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.0, container.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed("read", errno)),
        };
        let mut text = Vec::new();
        let read = file.take(LARGEST_BYTES).read_to_end(&mut text);
        read.map_err(|error| failed("read", Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        Ok(serde_json::from_slice(&text).ok().filter(Value::is_object))
    }

    fn remove(&self, container: &ContainerId) -> Result<()> {
        match rustix::fs::unlinkat(&self.0, container.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", errno)),
        }
    }

    /// The containers of a network.
    fn containers(&self, network: &str) -> Result<Vec<ContainerId>> {
        let mut all = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0).map_err(|errno| failed("list", errno))? {
            let entry = entry.map_err(|errno| failed("list", errno))?;
            let id = entry.file_name().to_str().ok().and_then(|name| name.parse::<ContainerId>().ok());
            let Some(id) = id else { continue };
            let of_network = |config: Value| config.get("name").and_then(Value::as_str) == Some(network);
            if self.kept(&id).ok().flatten().is_some_and(of_network) {
                all.push(id);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flanneld_says_is_read_and_what_is_missing_is_named() {
        let text = "FLANNEL_NETWORK=10.99.0.0/16\nFLANNEL_SUBNET=10.99.63.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48\n\
            FLANNEL_IPV6_SUBNET=fd00:0:0:5::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        let subnet = Subnet::parse(text).unwrap();
        assert_eq!(subnet.subnets[0].to_string(), "10.99.63.0/24");
        assert_eq!((subnet.networks.len(), subnet.mtu, subnet.masquerades), (2, Some(1450), Some(true)));
        for key in ["FLANNEL_MTU", "FLANNEL_IPMASQ"] {
            let cut: Vec<&str> = text.lines().filter(|line| !line.starts_with(key)).collect();
            assert_eq!(Subnet::parse(&cut.join("\n")).unwrap_err(), format!("{key} is missing"));
        }
        assert!(Subnet::parse("FLANNEL_SUBNET=x").is_err());
        assert!(Subnet::read(Path::new("/dev/zero")).unwrap_err().details.contains("not a file"));
    }
}
