//! The parameters that a runtime passes in the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use model::{ContainerId, IfName, PodName};

use crate::{Code, Error, Result, Version};

/// What a plugin is called to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the specification's")]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    /// As `CNI_COMMAND` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    /// The first version of the specification that has it.
    pub fn since(self) -> Version {
        match self {
            Command::Check => Version::V0_4_0,
            Command::Gc | Command::Status => Version::V1_1_0,
            Command::Add | Command::Del | Command::Version => Version::V0_1_0,
        }
    }
}

/// The environment as it was given.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<&'static str, OsString>);

const NAMES: [&str; 7] = [
    "CNI_COMMAND",
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_ARGS",
    "CNI_PATH",
    "CNI_NETNS_OVERRIDE",
];

/// The attachment that ADD, DEL and CHECK are about, and where to find other plugins.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// `CNI_CONTAINERID`.
    pub container: ContainerId,
    /// `CNI_NETNS`; DEL may come without.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub ifname: IfName,
    /// `CNI_ARGS`.
    pub args: Args,
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: the namespace may be the plugin's own.
    pub netns_override: bool,
}

/// `CNI_ARGS`: `K=V;K=V`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args(Vec<(String, String)>);

impl Args {
    /// Splits the pairs.
    pub fn parse(text: &str) -> Result<Self> {
        let mut pairs = Vec::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::new(Code::InvalidEnvironment, format!("CNI_ARGS has no '=' in {pair:?}"))
                    .details("write K=V;K=V"));
            };
            if key.is_empty() {
                return Err(Error::new(Code::InvalidEnvironment, format!("CNI_ARGS has no key in {pair:?}"))
                    .details("write K=V;K=V"));
            }
            pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self(pairs))
    }

    /// The value of a key; the last one counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// From pairs, as libcni's cache has them. A `;` in one would make it two.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Result<Self> {
        let is_broken = |(key, value): &(String, String)| {
            key.contains([';', '=']) || key.is_empty() || value.contains(';')
        };
        match pairs.iter().find(|pair| is_broken(pair)) {
            Some((key, _)) => {
                Err(Error::new(Code::InvalidEnvironment, format!("CNI_ARGS cannot say {key:?}"))
                    .details("keys have no '=' or ';', values no ';'"))
            }
            None => Ok(Self(pairs)),
        }
    }

    /// The pairs, in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The pod that Kubernetes names.
    pub fn pod(&self) -> Option<PodName> {
        PodName::from_cni_args(self.0.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    /// Refuses keys that nobody knows, unless `IgnoreUnknown` is set, as Kubernetes does.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<()> {
        let ignore = matches!(self.get("IgnoreUnknown"), Some("1" | "true" | "True" | "TRUE" | "t" | "T"));
        let unknown = self
            .0
            .iter()
            .map(|(key, _)| key.as_str())
            .find(|key| *key != "IgnoreUnknown" && !known.contains(key));
        match unknown {
            Some(key) if !ignore => {
                Err(Error::new(Code::InvalidEnvironment, format!("CNI_ARGS has the unknown key {key:?}"))
                    .details("set IgnoreUnknown=1 to have unknown keys ignored"))
            }
            _ => Ok(()),
        }
    }
}

/// As `CNI_ARGS` has it.
impl fmt::Display for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ";" };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

impl Environment {
    /// The process's own.
    pub fn of_process() -> Self {
        Self(NAMES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect())
    }

    /// From pairs, for callers in the same process.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, OsString)>) -> Self {
        let known = |name: &str| NAMES.into_iter().find(|known| *known == name);
        Self(pairs.into_iter().filter_map(|(name, value)| Some((known(name)?, value))).collect())
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>> {
        match self.0.get(name).map(|value| value.to_str()) {
            None => Ok(None),
            Some(Some("")) => Ok(None),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => Err(Error::new(Code::InvalidEnvironment, format!("{name} is not UTF-8"))),
        }
    }

    /// `CNI_COMMAND`; `None` when it is not set at all: somebody started the plugin by hand.
    pub fn command(&self) -> Result<Option<Command>> {
        let Some(text) = self.text("CNI_COMMAND")? else { return Ok(None) };
        let all =
            [Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status, Command::Version];
        match all.into_iter().find(|command| command.as_str() == text) {
            Some(command) => Ok(Some(command)),
            None => {
                let text: String = text.chars().take(40).collect();
                Err(Error::new(Code::InvalidEnvironment, format!("unknown CNI_COMMAND {text:?}"))
                    .details("one of ADD, DEL, CHECK, GC, STATUS, VERSION"))
            }
        }
    }

    /// `CNI_PATH`.
    pub fn path(&self) -> Vec<PathBuf> {
        let dirs =
            self.0.get("CNI_PATH").map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
        let dirs: Vec<PathBuf> = dirs;
        dirs.into_iter().filter(|dir| !dir.as_os_str().is_empty()).collect()
    }

    /// `CNI_NETNS_OVERRIDE`.
    pub fn netns_override(&self) -> Result<bool> {
        Ok(matches!(self.text("CNI_NETNS_OVERRIDE")?, Some("1" | "TRUE" | "true" | "True")))
    }

    /// The parameters of ADD, DEL and CHECK, complete and valid.
    pub fn invocation(&self, command: Command) -> Result<Invocation> {
        let needs_netns = command != Command::Del;
        let missing: Vec<&str> = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]
            .into_iter()
            .filter(|name| *name != "CNI_NETNS" || needs_netns)
            .filter(|name| matches!(self.text(name), Ok(None)))
            .collect();
        if !missing.is_empty() {
            return Err(Error::new(
                Code::InvalidEnvironment,
                format!("{} needs {}", command.as_str(), missing.join(", ")),
            )
            .details("required environment variables are missing"));
        }
        let invalid = |name: &str, error: model::IdError| {
            Error::new(Code::InvalidEnvironment, format!("{name} is not valid")).details(error)
        };
        let container = self.text("CNI_CONTAINERID")?.unwrap_or_default();
        let ifname = self.text("CNI_IFNAME")?.unwrap_or_default();
        let netns = self.0.get("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Invocation {
            container: container.parse().map_err(|error| invalid("CNI_CONTAINERID", error))?,
            ifname: ifname.parse().map_err(|error| invalid("CNI_IFNAME", error))?,
            netns,
            args: Args::parse(self.text("CNI_ARGS")?.unwrap_or_default())?,
            path: self.path(),
            netns_override: self.netns_override()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&'static str, &str)]) -> Environment {
        Environment::of(pairs.iter().map(|(name, value)| (*name, OsString::from(value))))
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = environment(&[("CNI_IFNAME", "eth0")]).invocation(Command::Add).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (4, "ADD needs CNI_CONTAINERID, CNI_NETNS"));
        let minimal = environment(&[("CNI_IFNAME", "eth0"), ("CNI_CONTAINERID", "c"), ("CNI_NETNS", "")]);
        assert!(minimal.invocation(Command::Del).unwrap().netns.is_none());
    }

    #[test]
    fn ids_that_could_escape_are_refused() {
        for (container, ifname) in [("../x", "eth0"), ("c", "a/b"), ("c", "sixteen_bytes_xx"), (".", "eth0")]
        {
            let pairs = [("CNI_CONTAINERID", container), ("CNI_IFNAME", ifname), ("CNI_NETNS", "/n")];
            assert_eq!(
                environment(&pairs).invocation(Command::Add).unwrap_err().code,
                4,
                "{container} {ifname}"
            );
        }
    }

    #[test]
    fn unknown_args_need_ignore_unknown() {
        let known = ["IP"];
        assert!(Args::parse("IP=1;K8S_POD_NAME=a").unwrap().refuse_unknown(&known).is_err());
        assert!(Args::parse("IgnoreUnknown=1;K8S_POD_NAME=a").unwrap().refuse_unknown(&known).is_ok());
        assert!(Args::parse("novalue").is_err());
    }

    #[test]
    fn args_read_back_what_they_wrote() {
        let text = "IgnoreUnknown=1;K8S_POD_NAME=a;X=";
        assert_eq!(Args::parse(text).unwrap().to_string(), text);
        for (key, value) in [("a;b", ""), ("a", "b;c=d"), ("", "x"), ("a=b", "")] {
            assert!(Args::from_pairs(vec![(key.into(), value.into())]).is_err(), "{key} {value}");
        }
        // What ADD takes and the cache keeps, DEL has to take from there.
        assert!(Args::parse("=x").is_err() && Args::parse("IgnoreUnknown=1;=").is_err());
    }
}
