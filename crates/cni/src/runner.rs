//! Calling all plugins of a network, as libcni does (libcni/api.go): what is called in which order, with what, and what is
//! remembered.
//!
//! In two things it does more: a DEL goes on after a plugin that fails (libcni stops there, and what the earlier plugins hold leaks:
//! containerd issue 12130), and a failed ADD is undone.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{AttachmentKey, ContainerId, IfName};
use serde_json::{Value, json};

use crate::cache::{Cache, Contents, Entry};
use crate::chain::{self, Request};
use crate::lock;
use crate::network::Network;
use crate::{Args, Code, Command, Config, Environment, Error, Invocation, Outcome, Plugin, Version, perform};

/// Who calls plugins, and with what they all are called.
#[derive(Clone)]
pub struct Runner {
    /// `CNI_PATH`: where the plugins of others are.
    pub path: Vec<PathBuf>,
    /// Where results are kept.
    pub cache: Cache,
    /// Where locks are; on a file system that ends with the boot.
    pub lock_dir: PathBuf,
    /// The plugins of this process, which are called without executing anything.
    pub own: fn(&str) -> Option<&'static dyn Plugin>,
    /// How long a plugin of others may take.
    pub limit: Duration,
    /// `CNI_NETNS_OVERRIDE`.
    pub netns_override: bool,
}

/// The attachment that ADD, DEL and CHECK are about.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Network, container, interface.
    pub key: AttachmentKey,
    /// The namespace; where it is `None`, the one of the ADD, if that is known.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`; where it is `None`, those of the ADD.
    pub args: Option<Args>,
    /// Values for the capabilities of plugins, an object; where it is `None`, those of the ADD.
    pub capability_args: Option<Value>,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was being done.
    pub step: String,
    /// Why it failed.
    pub error: Error,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.error)
    }
}

/// Which attachments GC has to leave alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Valid {
    /// These.
    Listed(HashSet<(ContainerId, IfName)>),
    /// Those that the cache has, as it is once nobody works on the network.
    Cached,
}

/// What GC did.
#[derive(Debug, Default)]
pub struct Collected {
    /// Attachments of the cache that were deleted.
    pub deleted: Vec<AttachmentKey>,
    /// Steps that failed.
    pub failures: Vec<Failure>,
    /// Files of the cache that cannot be understood, and why. They stay.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// What every plugin of a chain is called with.
struct Shared<'a> {
    network: &'a Network,
    key: &'a AttachmentKey,
    netns: Option<&'a Path>,
    args: Args,
    capability_args: Value,
}

fn failure(step: impl Into<String>, error: Error) -> Failure {
    Failure { step: step.into(), error }
}

fn kind(plugin: &Value) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

impl Runner {
    /// Calls ADD of each plugin, and remembers the result. What fails is undone.
    ///
    /// # Errors
    /// The first failure is the reason; others are what could not be undone.
    pub fn add(&self, network: &Network, attachment: &Attachment) -> Result<Value, Vec<Failure>> {
        let key = &attachment.key;
        let refuse = |error| vec![failure(format!("ADD of {key}"), error)];
        let _lock = self.lock(key).map_err(|error| vec![error])?;
        self.may_begin(network, key).map_err(refuse)?;
        let shared = Shared {
            network,
            key,
            netns: attachment.netns.as_deref(),
            args: attachment.args.clone().unwrap_or_default(),
            capability_args: attachment.capability_args.clone().unwrap_or_default(),
        };
        let mut result = Value::Null;
        let failed = network.plugins.iter().find_map(|plugin| {
            match self.call(Command::Add, &shared, plugin, &result) {
                Ok(answer) => {
                    result = answer;
                    None
                }
                Err(error) => Some(failure(format!("ADD of {}", kind(plugin)), error)),
            }
        });
        let failed = failed.or_else(|| {
            let entry = Entry {
                key: key.clone(),
                netns: attachment.netns.clone(),
                args: shared.args.pairs().to_vec(),
                capability_args: shared.capability_args.clone(),
                config: network.list.clone(),
                result: result.clone(),
            };
            let written = self.cache.write(&entry).map_err(Error::io("write", self.cache.path(key)));
            written.err().map(|error| failure("remembering the result", error))
        });
        let Some(reason) = failed else { return Ok(result) };
        // All of them: a plugin that was not reached has nothing to remove, and one that failed may have left something. The last
        // result tells those whose DEL needs one what to remove.
        let mut failures = vec![reason];
        failures.extend(self.del_all(&shared, &result));
        Err(failures)
    }

    /// Calls DEL of each plugin, the last first, all of them whatever fails, and forgets the result once none did.
    ///
    /// The configuration is that of the ADD, where it was remembered: what it made is to be removed, also when the file says
    /// something else by now, or is gone. `network` is for attachments that nobody remembers, and for plugins in the network's
    /// folder, which libcni does not remember.
    pub fn del(&self, network: Option<&Network>, attachment: &Attachment) -> Result<(), Vec<Failure>> {
        let _lock = self.lock(&attachment.key).map_err(|error| vec![error])?;
        let (cached, is_readable) = match self.cached(&attachment.key).map_err(|error| vec![error])? {
            None => (None, true),
            Some(Ok(entry)) => (Some(entry), true),
            // An empty or cut one, as libcni leaves behind when it is killed, must not be in the way.
            Some(Err(_)) => (None, false),
        };
        self.del_one(network, attachment, cached.as_ref())?;
        if cached.is_some() || !is_readable {
            self.forget(&attachment.key)?;
        }
        Ok(())
    }

    /// Calls CHECK of each plugin, all of them whatever fails. Nothing is called where the configuration says `disableCheck`.
    pub fn check(&self, network: &Network, attachment: &Attachment) -> Result<(), Vec<Failure>> {
        let key = &attachment.key;
        let refuse = |error| vec![failure(format!("CHECK of {key}"), error)];
        supports(network, Command::Check).map_err(refuse)?;
        if network.disable_check {
            return Ok(());
        }
        let _lock = self.lock(key).map_err(|error| vec![error])?;
        let unknown = |why: String| {
            let message = "CHECK needs the result of the ADD, and the cache does not have it";
            refuse(Error::new(Code::UnknownContainer, message).details(why))
        };
        let entry = match self.cached(key).map_err(|error| vec![error])? {
            None => return Err(unknown(format!("there is no {}", self.cache.path(key).display()))),
            Some(Err(why)) => return Err(unknown(format!("{}: {why}", self.cache.path(key).display()))),
            Some(Ok(entry)) => entry,
        };
        let shared = shared(network, attachment, Some(&entry)).map_err(refuse)?;
        if shared.netns.is_none() {
            let message = "CHECK needs the network namespace, and the cache does not have it";
            return Err(refuse(
                Error::new(Code::InvalidNetns, message)
                    .details("runtimes with a libcni before 1.2 do not write it down: give it"),
            ));
        }
        let previous = previous(&entry, network.version).map_err(refuse)?;
        let check = |plugin| {
            let checked = self.call(Command::Check, &shared, plugin, &previous);
            checked.err().map(|error| failure(format!("CHECK of {}", kind(plugin)), error))
        };
        all(network.plugins.iter().filter_map(check).collect())
    }

    /// Deletes the attachments of the cache that are not valid, and calls GC of each plugin for what no cache knows of.
    /// Nothing is done where the configuration says `disableGC`.
    pub fn gc(&self, network: &Network, valid: &Valid) -> Result<Collected, Failure> {
        let mut collected = Collected::default();
        if network.disable_gc {
            return Ok(collected);
        }
        let step = || format!("GC of {}", network.name);
        let locked = lock::network(&self.lock_dir, &network.name);
        let _lock =
            locked.map_err(Error::io("lock", &self.lock_dir)).map_err(|error| failure(step(), error))?;
        let (valid, stale, contents) = self.stale(network, valid)?;
        for entry in &stale {
            let attachment =
                Attachment { key: entry.key.clone(), netns: None, args: None, capability_args: None };
            let deleted =
                self.del_one(Some(network), &attachment, Some(entry)).and_then(|()| self.forget(&entry.key));
            match deleted {
                Ok(()) => collected.deleted.push(entry.key.clone()),
                Err(failures) => collected.failures.extend(
                    failures
                        .into_iter()
                        .map(|failed| failure(format!("{}: {}", entry.key, failed.step), failed.error)),
                ),
            }
        }
        if supports(network, Command::Gc).is_ok() {
            let list: Vec<Value> = valid
                .iter()
                .map(|(container, ifname)| json!({ "containerID": container, "ifname": ifname }))
                .collect();
            for plugin in &network.plugins {
                // The specification's name, and the one that libcni used before it knew better.
                let mut config = network.plugin_config(plugin, &Value::Null, &Value::Null);
                config["cni.dev/valid-attachments"] = list.clone().into();
                config["cni.dev/attachments"] = list.clone().into();
                let done = self.call_for_network(Command::Gc, plugin, config);
                collected
                    .failures
                    .extend(done.err().map(|error| failure(format!("GC of {}", kind(plugin)), error)));
            }
        }
        collected.unreadable =
            contents.unreadable.into_iter().map(|(path, why)| (path, why.to_string())).collect();
        Ok(collected)
    }

    /// What GC would delete: the attachments that are valid, entries of the cache that are not, and all that the cache has.
    #[expect(clippy::type_complexity, reason = "three lists that were made in one look")]
    pub fn stale(
        &self,
        network: &Network,
        valid: &Valid,
    ) -> Result<(Vec<(ContainerId, IfName)>, Vec<Entry>, Contents), Failure> {
        let failed = |error| failure(format!("GC of {}", network.name), error);
        let contents = self.cache.of_network(&network.name);
        let contents =
            contents.map_err(|error| failed(Error::new(Code::Io, "cannot read the cache").details(error)))?;
        let pair = |entry: &Entry| (entry.key.container.clone(), entry.key.ifname.clone());
        let valid: Vec<_> = match (valid, contents.unreadable.first()) {
            (Valid::Listed(listed), _) => listed.iter().cloned().collect(),
            // Whose it is cannot be known, so it would not be in the list, and what it is about would be removed.
            (Valid::Cached, Some((path, why))) => {
                let message = "the cache cannot tell which attachments are valid";
                return Err(failed(
                    Error::new(Code::Io, message).details(format!("{}: {why}", path.display())),
                ));
            }
            (Valid::Cached, None) => contents.entries.iter().map(pair).collect(),
        };
        let stale = contents.entries.iter().filter(|entry| !valid.contains(&pair(entry))).cloned().collect();
        Ok((valid, stale, contents))
    }

    /// Asks each plugin whether it could serve an ADD; the first that could not answers for all.
    pub fn status(&self, network: &Network) -> Result<(), Failure> {
        if supports(network, Command::Status).is_err() {
            return Ok(());
        }
        for plugin in &network.plugins {
            let config = network.plugin_config(plugin, &Value::Null, &Value::Null);
            let asked = self.call_for_network(Command::Status, plugin, config);
            asked.map_err(|error| failure(format!("STATUS of {}", kind(plugin)), error))?;
        }
        Ok(())
    }

    fn lock(&self, key: &AttachmentKey) -> Result<lock::Held, Failure> {
        if self.cache.is_too_long(key) {
            let message = "network, container and interface are too long together";
            let error = Error::new(Code::InvalidEnvironment, message);
            return Err(failure(
                key.to_string(),
                error.details("the name of the cache file would exceed 255 bytes"),
            ));
        }
        let locked = lock::attachment(&self.lock_dir, key).map_err(Error::io("lock", &self.lock_dir));
        locked.map_err(|error| failure(key.to_string(), error))
    }

    fn cached(&self, key: &AttachmentKey) -> Result<Option<Result<Entry, String>>, Failure> {
        let read = self.cache.read(key).map_err(Error::io("read", self.cache.path(key)));
        let read = read.map_err(|error| failure(key.to_string(), error))?;
        Ok(read.map(|entry| entry.map_err(|why| why.to_string())))
    }

    fn forget(&self, key: &AttachmentKey) -> Result<(), Vec<Failure>> {
        let removed = self.cache.remove(key).map_err(Error::io("remove", self.cache.path(key)));
        removed.map_err(|error| vec![failure("forgetting the result", error)])
    }

    /// What can be known before the first plugin is called. After that, a failure is undone, and that would take an attachment
    /// away that was there before.
    fn may_begin(&self, network: &Network, key: &AttachmentKey) -> Result<(), Error> {
        let path = self.cache.path(key);
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(Error::new(Code::Internal, "it is attached already")
                .details(format!("its result is in {}; call DEL first", path.display())));
        }
        for plugin in &network.plugins {
            if (self.own)(kind(plugin)).is_none() {
                chain::find(kind(plugin), &self.path)?;
            }
        }
        Ok(())
    }

    fn del_one(
        &self,
        network: Option<&Network>,
        attachment: &Attachment,
        cached: Option<&Entry>,
    ) -> Result<(), Vec<Failure>> {
        let refuse = |error| vec![failure(format!("DEL of {}", attachment.key), error)];
        let mut remembered = cached.and_then(|entry| Network::from_cached(&entry.config).ok());
        if let (Some(remembered), Some(network)) = (&mut remembered, network)
            && !remembered.inlined_only
        {
            // libcni remembers the list's file only. Which plugins of its folder it called, the folder may still tell.
            remembered.plugins.extend_from_slice(&network.plugins[network.inlined..]);
        }
        let Some(network) = remembered.as_ref().or(network) else {
            return Err(refuse(Error::new(
                Code::UnknownContainer,
                "neither a configuration nor the cache says which plugins to call",
            )));
        };
        let shared = shared(network, attachment, cached).map_err(refuse)?;
        // A result that cannot be converted is as good as none.
        let previous = cached.and_then(|entry| previous(entry, network.version).ok()).unwrap_or_default();
        all(self.del_all(&shared, &previous))
    }

    fn del_all(&self, shared: &Shared<'_>, previous: &Value) -> Vec<Failure> {
        // Before 0.4.0, DEL gets no previous result.
        let previous = if shared.network.version < Version::V0_4_0 { &Value::Null } else { previous };
        let del = |plugin| {
            let deleted = self.call(Command::Del, shared, plugin, previous);
            deleted.err().map(|error| failure(format!("DEL of {}", kind(plugin)), error))
        };
        shared.network.plugins.iter().rev().filter_map(del).collect()
    }

    /// Calls ADD, DEL or CHECK of one plugin.
    fn call(
        &self,
        command: Command,
        shared: &Shared<'_>,
        plugin: &Value,
        previous: &Value,
    ) -> Result<Value, Error> {
        let config = shared.network.plugin_config(plugin, &shared.capability_args, previous);
        let version = shared.network.version;
        let args = shared.args.to_string();
        if let Some(own) = (self.own)(kind(plugin)) {
            let invocation = Invocation {
                container: shared.key.container.clone(),
                ifname: shared.key.ifname.clone(),
                netns: shared.netns.map(Path::to_owned),
                args: shared.args.clone(),
                path: self.path.clone(),
                netns_override: self.netns_override,
            };
            let config = Config::from_value(config)?;
            let answer = perform(own, command, Some(invocation), config, &self.environment(command)?)?;
            return Ok(answer.unwrap_or_default());
        }
        let request = Request {
            command,
            container: shared.key.container.as_str(),
            netns: shared.netns,
            ifname: shared.key.ifname.as_str(),
            args: &args,
            path: &self.path,
        };
        let mut answer = chain::execute_within(kind(plugin), &config, &request, self.limit)?;
        // A result without a version has that of the configuration.
        if answer.is_object()
            && answer.get("cniVersion").and_then(Value::as_str).unwrap_or_default().is_empty()
        {
            answer["cniVersion"] = version.as_str().into();
        }
        Ok(answer)
    }

    /// Calls GC or STATUS of one plugin.
    fn call_for_network(&self, command: Command, plugin: &Value, config: Value) -> Result<(), Error> {
        if let Some(own) = (self.own)(kind(plugin)) {
            let config = Config::from_value(config)?;
            return perform(own, command, None, config, &self.environment(command)?).map(drop);
        }
        let request = Request { command, container: "", netns: None, ifname: "", args: "", path: &self.path };
        chain::execute_within(kind(plugin), &config, &request, self.limit).map(drop)
    }

    fn environment(&self, command: Command) -> Result<Environment, Error> {
        let path = std::env::join_paths(&self.path)
            .map_err(|error| Error::new(Code::InvalidEnvironment, "CNI_PATH is not valid").details(error))?;
        Ok(Environment::of([("CNI_COMMAND", OsString::from(command.as_str())), ("CNI_PATH", path)]))
    }
}

fn all(failures: Vec<Failure>) -> Result<(), Vec<Failure>> {
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// Whether a network's version has a command.
fn supports(network: &Network, command: Command) -> Result<(), Error> {
    if network.version >= command.since() {
        return Ok(());
    }
    let message = format!("{} needs cniVersion {} or later", command.as_str(), command.since());
    Err(Error::new(Code::IncompatibleVersion, message)
        .details(format!("the configuration has {}", network.version)))
}

/// What the user says, and where he says nothing, what the ADD was called with.
fn shared<'a>(
    network: &'a Network,
    attachment: &'a Attachment,
    cached: Option<&'a Entry>,
) -> Result<Shared<'a>, Error> {
    let args = match (&attachment.args, cached) {
        (Some(args), _) => args.clone(),
        (None, Some(entry)) => Args::from_pairs(entry.args.clone())?,
        (None, None) => Args::default(),
    };
    Ok(Shared {
        network,
        key: &attachment.key,
        netns: attachment.netns.as_deref().or(cached.and_then(|entry| entry.netns.as_deref())),
        args,
        capability_args: attachment
            .capability_args
            .clone()
            .or_else(|| cached.map(|entry| entry.capability_args.clone()))
            .unwrap_or_default(),
    })
}

/// The remembered result in the version of the configuration, which may have changed since.
fn previous(entry: &Entry, version: Version) -> Result<Value, Error> {
    let own = entry.result.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
    match own == version.as_str() || entry.result.is_null() {
        true => Ok(entry.result.clone()),
        false => Ok(Outcome::from_json(&entry.result, version)?.to_json(version)),
    }
}
