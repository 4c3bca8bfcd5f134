//! Address management for a plugin that makes interfaces: host-local in this process, anybody else's as the protocol says.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ::ipam::{AllocateError, RangeSets, RangeSpec, Store};
use cni::chain::{self, Request};
use cni::{Call, Code, Command, Config, Dns, Environment, Error, Ip, Outcome, Result};
use model::{AttachmentKey, ContainerId, IfName, NetworkName};
use serde::Deserialize;
use serde_json::Value;

use crate::static_ipam::Addresses;
use crate::takeover::{Boots, Takeovers};

/// Who manages the addresses of a network.
pub(crate) enum Ipam {
    /// Nobody: the plugin only makes links.
    None,
    /// host-local.
    HostLocal(Box<HostLocal>),
    /// static.
    Static(Addresses),
    /// A plugin of somebody else.
    Delegate(String),
}

/// host-local's configuration, checked.
pub(crate) struct HostLocal {
    pub(crate) data_dir: PathBuf,
    pub(crate) network: NetworkName,
    sets: RangeSets,
    requested: Vec<IpAddr>,
    routes: Vec<cni::Route>,
    dns: Dns,
}

/// host-local's configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    #[serde(flatten)]
    single: Option<RangeSpec>,
    ranges: Option<Ranges>,
    routes: Option<Vec<cni::Route>>,
    data_dir: Option<PathBuf>,
    resolv_conf: Option<PathBuf>,
}

/// A list of sets, or, as older configurations have it, a flat list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ranges {
    Sets(Vec<Vec<RangeSpec>>),
    Flat(Vec<RangeSpec>),
}

impl Ranges {
    fn into_sets(self) -> Vec<Vec<RangeSpec>> {
        match self {
            Ranges::Sets(sets) => sets,
            Ranges::Flat(ranges) => ranges.into_iter().map(|range| vec![range]).collect(),
        }
    }
}

fn invalid(what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidConfig, what).details(error)
}

impl Ipam {
    /// Reads the `ipam` part of a configuration. `args` is `CNI_ARGS`, where there is one.
    pub(crate) fn of(config: &Config, args: Option<&cni::Args>) -> Result<Self> {
        let part = config.raw.get("ipam").filter(|part| !part.is_null());
        let kind = part.and_then(|part| part.get("type")).and_then(Value::as_str).unwrap_or_default();
        match (part, kind) {
            (None, _) | (Some(_), "") => Ok(Ipam::None),
            (Some(part), "host-local") => {
                HostLocal::of(config, part, args).map(|own| Ipam::HostLocal(Box::new(own)))
            }
            (Some(part), "static") => Addresses::of(config, part, args).map(Ipam::Static),
            (Some(_), other) => Ok(Ipam::Delegate(other.to_owned())),
        }
    }

    /// Leases addresses; `None` for a network without.
    pub(crate) fn add(&self, call: &Call) -> Result<Option<Outcome>> {
        match self {
            Ipam::None => Ok(None),
            Ipam::HostLocal(own) => own.add(&call.invocation.container, &call.invocation.ifname).map(Some),
            Ipam::Static(own) => Ok(Some(own.outcome())),
            Ipam::Delegate(kind) => {
                let answer = delegate(kind, Command::Add, call);
                let outcome = answer.and_then(|answer| Outcome::from_json(&answer, call.config.version));
                match outcome {
                    Ok(outcome) if !outcome.ips.is_empty() => Ok(Some(outcome)),
                    // The specification: a delegated ADD that failed is followed by DEL.
                    failed => {
                        let _ = delegate(kind, Command::Del, call);
                        let none =
                            Error::new(Code::Delegate, format!("IPAM plugin {kind} returned no address"));
                        Err(failed.err().unwrap_or(none))
                    }
                }
            }
        }
    }

    /// Releases what `add` leased. With `known` addresses, host-local looks at these first.
    pub(crate) fn del(&self, call: &Call, known: &[IpAddr]) -> Result<()> {
        match self {
            Ipam::None | Ipam::Static(_) => Ok(()),
            Ipam::HostLocal(own) => own.del(&call.invocation.container, &call.invocation.ifname, known),
            Ipam::Delegate(kind) => delegate(kind, Command::Del, call).map(drop),
        }
    }

    /// Whether the leases are still there.
    pub(crate) fn check(&self, call: &Call) -> Result<()> {
        match self {
            Ipam::None => Ok(()),
            Ipam::Static(own) => own.check(call.config.previous.as_ref()),
            Ipam::HostLocal(own) => {
                let previous = call.config.previous.as_ref();
                let addresses: Vec<IpAddr> = previous
                    .into_iter()
                    .flat_map(|previous| &previous.ips)
                    .map(|ip| ip.address.addr())
                    .collect();
                own.check(&call.invocation.container, &call.invocation.ifname, &addresses)
            }
            Ipam::Delegate(kind) => delegate(kind, Command::Check, call).map(drop),
        }
    }

    /// Releases the leases of attachments that are not valid.
    pub(crate) fn gc(&self, config: &Config, environment: &Environment) -> Result<()> {
        match self {
            Ipam::None | Ipam::Static(_) => Ok(()),
            Ipam::HostLocal(own) => own.gc(config),
            Ipam::Delegate(kind) => delegate_network(kind, Command::Gc, config, environment),
        }
    }

    /// Whether there is an address left.
    pub(crate) fn status(&self, config: &Config, environment: &Environment) -> Result<()> {
        match self {
            Ipam::None | Ipam::Static(_) => Ok(()),
            Ipam::HostLocal(own) => own.status(),
            Ipam::Delegate(kind) => delegate_network(kind, Command::Status, config, environment),
        }
    }

    /// Whether this process manages the addresses.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self, Ipam::Delegate(_))
    }

    /// The directory of the leases, if this process keeps them.
    pub(crate) fn lease_dir(&self) -> Option<PathBuf> {
        match self {
            Ipam::HostLocal(own) => Some(own.data_dir.join(own.network.as_str())),
            Ipam::None | Ipam::Static(_) | Ipam::Delegate(_) => None,
        }
    }
}

/// Calls a plugin of somebody else about the call's attachment, with the call's configuration.
pub(crate) fn delegate(kind: &str, command: Command, call: &Call) -> Result<Value> {
    let args = call.invocation.args.to_string();
    let request = Request {
        command,
        container: call.invocation.container.as_str(),
        netns: call.invocation.netns.as_deref(),
        ifname: call.invocation.ifname.as_str(),
        args: &args,
        path: &call.invocation.path,
    };
    chain::execute(kind, &call.config.raw, &request)
}

/// Calls a plugin of somebody else about the whole network.
pub(crate) fn delegate_network(
    kind: &str,
    command: Command,
    config: &Config,
    environment: &Environment,
) -> Result<()> {
    let path = environment.path();
    let request = Request { command, container: "", netns: None, ifname: "", args: "", path: &path };
    chain::execute(kind, &config.raw, &request).map(drop)
}

impl HostLocal {
    fn of(config: &Config, part: &Value, args: Option<&cni::Args>) -> Result<Self> {
        let settings = Settings::deserialize(part).map_err(|error| invalid("ipam is not valid", error))?;
        // `flatten` turns a malformed subnet into an absent one.
        if settings.single.is_none() && part.get("subnet").is_some() {
            let error = RangeSpec::deserialize(part).err().map(|error| error.to_string()).unwrap_or_default();
            return Err(invalid("ipam.subnet is not valid", error));
        }
        // host-local's order: the runtime's ranges, the single one, the list.
        let mut sets: Vec<Vec<RangeSpec>> = match config.capability("ipRanges") {
            Some(ranges) => Ranges::deserialize(ranges)
                .map_err(|error| invalid("runtimeConfig.ipRanges is not valid", error))?
                .into_sets(),
            None => Vec::new(),
        };
        sets.extend(settings.single.map(|range| vec![range]));
        sets.extend(settings.ranges.into_iter().flat_map(Ranges::into_sets));
        let sets = RangeSets::new(&sets).map_err(|error| invalid("ipam ranges are not valid", error))?;
        if config.version < cni::Version::V0_3_0 && sets.iter().count() > 2 {
            let message = format!("cniVersion {} allows one address per family", config.version);
            return Err(Error::new(Code::InvalidConfig, message));
        }
        let dns = match &settings.resolv_conf {
            Some(path) if !path.as_os_str().is_empty() => resolv_conf(path)?,
            _ => Dns::default(),
        };
        Ok(Self {
            data_dir: settings
                .data_dir
                .filter(|dir| !dir.as_os_str().is_empty())
                .unwrap_or_else(|| PathBuf::from(::ipam::store::DATA_DIR)),
            network: config.network.clone(),
            sets,
            requested: requested(config, args)?,
            routes: settings.routes.unwrap_or_default(),
            dns,
        })
    }

    fn open(&self) -> Result<Option<Store>> {
        match Store::open(&self.data_dir, &self.network) {
            Ok(store) => Ok(Some(store)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(Error::new(Code::Io, "cannot use the leases").details(error)),
        }
    }

    pub(crate) fn add(&self, container: &ContainerId, ifname: &IfName) -> Result<Outcome> {
        let io = |error: ::ipam::StoreError| Error::new(Code::Io, "cannot lease an address").details(error);
        let store = Store::create(&self.data_dir, &self.network).map_err(io)?;
        let mut takeovers = Takeovers::by(AttachmentKey {
            network: self.network.clone(),
            container: container.clone(),
            ifname: ifname.clone(),
        });
        let request =
            ::ipam::Request { container, ifname, requested: &self.requested, takeover: Some(&mut takeovers) };
        let given = ::ipam::allocate(&store, &self.sets, request).map_err(|error| {
            let (code, hint) = match error {
                AllocateError::Store(error) => return io(error),
                AllocateError::Note { .. } => (Code::Io, "see what is wrong with its directory"),
                AllocateError::Exhausted { .. } => {
                    (Code::NoAddress, "`podplumb leaks` shows which leases nobody has any more")
                }
                _ => (Code::NoAddress, "see the network's configuration and CNI_ARGS"),
            };
            Error::new(code, error.to_string()).details(hint)
        })?;
        Ok(Outcome {
            ips: given
                .into_iter()
                .map(|given| Ip { interface: None, address: given.address, gateway: Some(given.gateway) })
                .collect(),
            routes: self.routes.clone(),
            dns: self.dns.clone(),
            ..Outcome::default()
        })
    }

    pub(crate) fn del(&self, container: &ContainerId, ifname: &IfName, known: &[IpAddr]) -> Result<()> {
        let Some(store) = self.open()? else { return Ok(()) };
        let release = || -> std::result::Result<(), ::ipam::StoreError> {
            let mut released = 0;
            for address in known {
                released += usize::from(store.release(*address, container, ifname)?);
            }
            // An ADD leases one address of each set. If that is not what was just released, then what is known is not
            // what is leased (the reference plugin may have worked in between): host-local's way, reading every lease.
            if released != self.sets.iter().count() {
                store.release_all(container, ifname)?;
            }
            Ok(())
        };
        release().map_err(|error| Error::new(Code::Io, "cannot release an address").details(error))
    }

    pub(crate) fn check(&self, container: &ContainerId, ifname: &IfName, addresses: &[IpAddr]) -> Result<()> {
        let failed = |text: String| Error::new(Code::CheckFailed, text);
        let Some(store) = self.open()? else {
            return Err(failed(format!("network {} has no leases", self.network)));
        };
        let mut served =
            addresses.iter().filter(|address| self.sets.iter().any(|set| set.range_of(**address).is_some()));
        let missing = served.find(|address| {
            !matches!(store.lease(**address), Ok(Some(lease)) if lease.belongs_to(container, ifname))
        });
        match missing {
            Some(address) => Err(failed(format!("{address} is not leased to {container} {ifname}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn gc(&self, config: &Config) -> Result<()> {
        let valid = valid(config)?;
        let Some(store) = self.open()? else { return Ok(()) };
        // A lease whose owner is not known is not released: it may be anybody's.
        let is_stale = |lease: &::ipam::LeaseFile| match lease.owner() {
            Some((container, Some(ifname))) => !valid.contains(&(container, ifname)),
            Some((container, None)) => !valid.iter().any(|(id, _)| *id == container),
            None => false,
        };
        let released = store.release_where(is_stale);
        released.map(drop).map_err(|error| Error::new(Code::Io, "cannot release an address").details(error))
    }

    pub(crate) fn status(&self) -> Result<()> {
        let store = match Store::look(&self.data_dir.join(self.network.as_str())) {
            Ok(store) => store,
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => return Err(Error::new(Code::Io, "cannot use the leases").details(error)),
        };
        let free = ::ipam::free(&store, &self.sets, &mut Boots::default())
            .map_err(|error| Error::new(Code::Io, "cannot use the leases").details(error))?;
        match free.iter().position(|left| *left == 0) {
            Some(set) => {
                let message = format!("no address is left in range set {set} of network {}", self.network);
                Err(Error {
                    code: 50,
                    message,
                    details: "`podplumb leaks` shows which leases nobody has".into(),
                })
            }
            None => Ok(()),
        }
    }
}

/// Releases the leases that a record names, or, where it does not know them yet, all of the attachment's.
pub(crate) fn release(data_dir: &Path, key: &AttachmentKey, addresses: Option<&[IpAddr]>) -> Result<()> {
    let released = match Store::open(data_dir, &key.network) {
        Ok(store) => match addresses {
            Some(addresses) => addresses
                .iter()
                .try_for_each(|address| store.release(*address, &key.container, &key.ifname).map(drop)),
            None => store.release_all(&key.container, &key.ifname).map(drop),
        },
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(error),
    };
    released.map_err(|error| Error::new(Code::Io, "cannot release an address").details(error))
}

/// The attachments that GC has to keep. Without the list, GC would remove everything.
pub(crate) fn valid(config: &Config) -> Result<&std::collections::HashSet<(ContainerId, IfName)>> {
    config.valid.as_ref().ok_or_else(|| {
        Error::new(Code::InvalidConfig, "GC needs cni.dev/valid-attachments in the configuration")
    })
}

/// Addresses asked for: `CNI_ARGS` IP, `args.cni.ips`, `runtimeConfig.ips`.
fn requested(config: &Config, args: Option<&cni::Args>) -> Result<Vec<IpAddr>> {
    let mut texts: Vec<(&str, Code)> = Vec::new();
    if let Some(list) = args.and_then(|args| args.get("IP")) {
        texts.extend(list.split(',').map(|text| (text, Code::InvalidEnvironment)));
    }
    for list in [config.arg("ips"), config.capability("ips")].into_iter().flatten() {
        let list = list.as_array().ok_or_else(|| invalid("ips is not valid", "it is not a list"))?;
        for value in list {
            let text =
                value.as_str().ok_or_else(|| invalid("ips is not valid", "an entry is not a string"))?;
            texts.push((text, Code::InvalidConfig));
        }
    }
    let parse = |(text, code): (&str, Code)| {
        let address = text.parse::<ipnet::IpNet>().map(|net| net.addr()).ok().or_else(|| text.parse().ok());
        address.ok_or_else(|| Error::new(code, format!("requested address {text:?} is not an address")))
    };
    let mut addresses = texts.into_iter().map(parse).collect::<Result<Vec<IpAddr>>>()?;
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// resolv.conf(5), as far as a result can carry it.
fn resolv_conf(path: &Path) -> Result<Dns> {
    let text = cni::read(path)
        .map_err(|error| invalid("ipam.resolvConf cannot be read", format!("{}: {error}", path.display())))?;
    let mut dns = Dns::default();
    for line in String::from_utf8_lossy(&text).lines() {
        let mut words = line.split_ascii_whitespace();
        let owned = |word: &str| word.to_owned();
        match words.next() {
            Some("nameserver") => dns.nameservers.extend(words.next().map(owned)),
            Some("domain") => dns.domain = words.next().map(owned).unwrap_or_default(),
            Some("search") => dns.search = words.map(owned).collect(),
            Some("options") => dns.options.extend(words.map(owned)),
            _ => {}
        }
    }
    Ok(dns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_that_never_ends_is_refused() {
        assert!(resolv_conf(Path::new("/dev/zero")).unwrap_err().details.contains("not a file"));
        assert!(resolv_conf(Path::new("/")).is_err());
    }
}
