//! The frame of a plugin: read the environment and stdin, call the right method, print the answer.

use std::io::{Read, Write};

use model::AttachmentKey;
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

impl Call {
    /// Network, container and interface: what everything that the attachment leaves on a node is named by.
    pub fn key(&self) -> AttachmentKey {
        AttachmentKey {
            network: self.config.network.clone(),
            container: self.invocation.container.clone(),
            ifname: self.invocation.ifname.clone(),
        }
    }

    /// What the plugin before this one returned; an error where there is none, for plugins that only make sense in a chain.
    pub fn previous(&self) -> Result<&Outcome> {
        self.config.previous.as_ref().ok_or_else(|| {
            Error::new(Code::InvalidConfig, "the configuration has no prevResult")
                .details(format!("{} works on what another plugin of the chain made", self.config.kind))
        })
    }
}

/// A CNI plugin.
///
/// None of the methods has a default: a plugin that holds something and does not answer GC or CHECK about it leaks,
/// and one that holds nothing says so in a line.
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
        Err(error) => error.output(version),
    }
}

/// A plugin that cannot return from the container's namespace must do nothing more, but the runtime hears of it. What it made, DEL finds by
/// its record.
fn stranded(error: &std::io::Error) -> Error {
    Error::new(Code::Internal, "cannot return to the plugin's own network namespace").details(error)
}

impl Error {
    fn output(&self, version: Version) -> Output {
        Output { text: format!("{:#}\n", self.to_json(version)), exit: 1 }
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
    let spoken = *version;
    sys::when_stranded(move |error| stranded(error).output(spoken).exit());
    let kind = name.unwrap_or(&config.kind);
    let Some(plugin) = select(kind) else {
        return Err(Error::new(Code::InvalidConfig, format!("there is no plugin of type {kind:?} here")));
    };
    perform(plugin, command, invocation, config, environment)
}

/// Calls one command of a plugin, and returns what it would print. ADD, DEL and CHECK have an invocation, GC and STATUS
/// have none.
///
/// For callers in the same process: [`run`] without its input and output.
pub fn perform(
    plugin: &dyn Plugin,
    command: Command,
    invocation: Option<Invocation>,
    config: Config,
    environment: &Environment,
) -> Result<Option<Value>> {
    let since = command.since();
    if config.version < since {
        let message = format!("{} needs cniVersion {since} or later", command.as_str());
        return Err(Error::new(Code::IncompatibleVersion, message)
            .details(format!("the configuration has {}", config.version)));
    }
    let Some(invocation) = invocation else {
        return match command {
            Command::Gc => plugin.gc(&config, environment),
            Command::Status => plugin.status(&config, environment),
            _ => Err(Error::new(Code::InvalidEnvironment, format!("{} of what?", command.as_str()))),
        }
        .map(|()| None);
    };
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

/// Runs a plugin that has a program of its own: reads the environment and stdin, prints the answer, ends the process.
///
/// The whole `main` of such a program: `fn main() { cni::main(&MyPlugin) }`.
pub fn main(plugin: &'static dyn Plugin) -> ! {
    let environment = Environment::of_process();
    run(&environment, &mut std::io::stdin().lock(), None, |_| Some(plugin)).exit()
}

impl Output {
    /// Prints it and ends the process.
    pub fn exit(self) -> ! {
        let written = std::io::stdout().write_all(self.text.as_bytes());
        std::process::exit(if written.is_ok() { i32::from(self.exit) } else { 1 })
    }
}
