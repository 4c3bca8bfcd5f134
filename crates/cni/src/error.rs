//! Errors as the specification has them.

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::Version;

/// The specification's error codes, and podplumb's own from 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The version of the configuration is not supported (by the plugin, or for this command).
    IncompatibleVersion = 1,
    /// A field of the configuration is not supported.
    UnsupportedField = 2,
    /// The container is not known.
    UnknownContainer = 3,
    /// An environment variable is missing or malformed.
    InvalidEnvironment = 4,
    /// Input or output failed.
    Io = 5,
    /// The configuration is not JSON.
    Decode = 6,
    /// The configuration is wrong.
    InvalidConfig = 7,
    /// The network namespace is unusable.
    InvalidNetns = 8,
    /// Something is at work that will be done soon.
    TryAgain = 11,
    /// STATUS: no ADD can be served.
    NotAvailable = 50,
    /// An ADD that was tried and failed for a reason of the node.
    Internal = 999,
    /// No address is left, or the requested one is taken.
    NoAddress = 100,
    /// CHECK: the node does not look as the result says.
    CheckFailed = 101,
    /// GC or DEL: some things could not be removed.
    Incomplete = 102,
    /// A plugin that this one calls failed without an error of its own.
    Delegate = 103,
}

/// A failed command: what a plugin prints on stdout before it exits with 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Code.
    pub code: u32,
    /// One line: what happened to which object.
    pub message: String,
    /// Why, and what to do.
    pub details: String,
}

impl Error {
    /// An error with this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as u32, message: message.into(), details: String::new() }
    }

    /// Adds details.
    #[must_use]
    pub fn details(mut self, details: impl fmt::Display) -> Self {
        self.details = details.to_string();
        self
    }

    /// For `map_err`: what could not be done to which file, with the system's reason as details.
    pub fn io(what: &str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let message = format!("cannot {what} {}", path.as_ref().display());
        |error| Self::new(Code::Io, message).details(error)
    }

    /// The error as the specification's JSON.
    pub fn to_json(&self, version: Version) -> Value {
        let mut value = json!({ "cniVersion": version.as_str(), "code": self.code, "msg": self.message });
        if !self.details.is_empty() {
            value["details"] = self.details.clone().into();
        }
        value
    }

    /// Reads what a plugin printed.
    pub fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            code: u32::try_from(value.get("code")?.as_u64()?).ok()?,
            message: value.get("msg").and_then(Value::as_str).unwrap_or_default().to_owned(),
            details: value.get("details").and_then(Value::as_str).unwrap_or_default().to_owned(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.details.as_str() {
            "" => write!(f, "{} (code {})", self.message, self.code),
            details => write!(f, "{}: {details} (code {})", self.message, self.code),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Several failures as one, for commands that go on after the first.
    pub fn all(errors: Vec<Error>) -> Result<(), Error> {
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            many => {
                let texts: Vec<String> = many.iter().map(ToString::to_string).collect();
                let message = format!("{} steps failed", many.len());
                Err(Error::new(Code::Incomplete, message).details(texts.join("; ")))
            }
        }
    }
}
