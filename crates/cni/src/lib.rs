//! The Container Network Interface, versions 0.1.0 to 1.1.0
//! (<https://github.com/containernetworking/cni/blob/main/SPEC.md>).
//!
//! For plugins: implement [`Plugin`], call [`run`]. For those who call plugins: [`chain`]. For those who look at what
//! libcni left on disk: [`cache`].

pub mod cache;
pub mod chain;
mod config;
mod environment;
mod error;
mod plugin;
mod result;
mod version;

pub use config::{Config, MAX_CONFIG_BYTES};
pub use environment::{Args, Command, Environment, Invocation};
pub use error::{Code, Error};
pub use plugin::{Call, Output, Plugin, run};
pub use result::{Dns, Interface, Ip, Outcome, Route};
pub use version::Version;

/// A result whose error is the specification's.
pub type Result<T> = std::result::Result<T, Error>;
