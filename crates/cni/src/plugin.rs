//! The frame of a plugin: read the environment and stdin, call the right method, print the answer.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::config::MAX_CONFIG_BYTES;
use crate::{Code, Command, Config, Environment, Error, Invocation, Outcome, Result, Version};

/// What ADD, DEL and CHECK are called with.
#[derive(Debug)]
pub struct Call {
    /// The attachment.
    pub invocation: Invocation,
    /// The configuration.
    pub config: Config,
}

/// A CNI plugin.
pub trait Plugin {
    /// Makes the attachment. A failure leaves nothing behind.
    fn add(&self, call: &Call) -> Result<Outcome>;
    /// Removes the attachment. Succeeds when there is nothing (left) to remove.
    fn del(&self, call: &Call) -> Result<()>;
    /// Compares the node with the previous result.
    fn check(&self, call: &Call) -> Result<()>;
    /// Removes all attachments of the network that are not valid.
    fn gc(&self, config: &Config, environment: &Environment) -> Result<()>;
    /// Whether an ADD could be served.
    fn status(&self, config: &Config, environment: &Environment) -> Result<()>;
}

/// What a plugin prints, and the code that it exits with.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    /// For stdout; empty when there is nothing to say.
    pub text: String,
    /// 0 or 1.
    pub exit: u8,
}

/// Runs one command of the plugin that `select` finds for a type. The type comes from the configuration; plugins that are
/// called by their name pass that.
///
/// Everything goes through `input` and the returned [`Output`], so a test calls a plugin as a runtime does.
pub fn run(
    environment: &Environment,
    input: &mut dyn Read,
    name: Option<&str>,
    select: impl Fn(&str) -> Option<&'static dyn Plugin>,
) -> Output {
    let mut version = Version::NEWEST;
    match dispatch(environment, input, name, select, &mut version) {
        Ok(None) => Output { text: String::new(), exit: 0 },
        Ok(Some(value)) => Output { text: format!("{value:#}\n"), exit: 0 },
        Err(error) => Output { text: format!("{:#}\n", error.to_json(version)), exit: 1 },
    }
}

fn dispatch(
    environment: &Environment,
    input: &mut dyn Read,
    name: Option<&str>,
    select: impl Fn(&str) -> Option<&'static dyn Plugin>,
    version: &mut Version,
) -> Result<Option<Value>> {
    let Some(command) = environment.command()? else {
        return Err(Error::new(Code::InvalidEnvironment, "CNI_COMMAND is not set").details(
            "CNI plugins are called by container runtimes; see docs/cni.md for calling one by hand",
        ));
    };
    if command == Command::Version {
        let all: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
        return Ok(Some(json!({ "cniVersion": Version::NEWEST.as_str(), "supportedVersions": all })));
    }
    // The environment first: it is there, and stdin may have to be waited for.
    let invocation = match command {
        Command::Add | Command::Del | Command::Check => Some(environment.invocation(command)?),
        _ => None,
    };
    let config = read_config(input, version)?;
    let since = match command {
        Command::Check => Version::V0_4_0,
        Command::Gc | Command::Status => Version::V1_1_0,
        _ => Version::V0_1_0,
    };
    if config.version < since {
        let message = format!("{} needs cniVersion {since} or later", command.as_str());
        return Err(Error::new(Code::IncompatibleVersion, message)
            .details(format!("the configuration has {}", config.version)));
    }
    let kind = name.unwrap_or(&config.kind);
    let Some(plugin) = select(kind) else {
        return Err(Error::new(Code::InvalidConfig, format!("there is no plugin of type {kind:?} here")));
    };
    match invocation {
        None if command == Command::Gc => plugin.gc(&config, environment).map(|()| None),
        None => plugin.status(&config, environment).map(|()| None),
        Some(invocation) => {
            let call = Call { invocation, config };
            match command {
                Command::Add => plugin.add(&call).map(|outcome| Some(outcome.to_json(call.config.version))),
                Command::Del => plugin.del(&call).map(|()| None),
                _ if call.config.previous.is_none() => {
                    Err(Error::new(Code::InvalidConfig, "CHECK needs prevResult in the configuration"))
                }
                _ => plugin.check(&call).map(|()| None),
            }
        }
    }
}

fn read_config(input: &mut dyn Read, version: &mut Version) -> Result<Config> {
    let mut text = Vec::new();
    input
        .take(MAX_CONFIG_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| Error::new(Code::Io, "cannot read the configuration from stdin").details(error))?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(Error::new(Code::Decode, "the configuration is larger than 4 MiB"));
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::new(Code::Decode, "there is no configuration on stdin"));
    }
    let config = Config::parse(&text)?;
    *version = config.version;
    Ok(config)
}

impl Output {
    /// Prints it and ends the process.
    pub fn exit(self) -> ! {
        let written = std::io::stdout().write_all(self.text.as_bytes());
        std::process::exit(if written.is_ok() { i32::from(self.exit) } else { 1 })
    }
}
