//! The Container Network Interface, versions 0.1.0 to 1.1.0
//! (<https://github.com/containernetworking/cni/blob/main/SPEC.md>).
//!
//! For plugins: implement [`Plugin`], call [`main`]. For those who call plugins: [`Network`] and [`Runner`], and [`chain`]
//! for single calls. For those who look at what libcni left on disk: [`cache`].

pub mod cache;
pub mod chain;
mod config;
mod environment;
mod error;
mod exec;
mod files;
mod lock;
mod network;
mod plugin;
mod problems;
mod result;
mod runner;
mod version;

pub use config::{Config, MAX_CONFIG_BYTES};
pub use environment::{Args, Command, Environment, Invocation};
pub use error::{Code, Error};
pub use files::Files;
pub use model::{AttachmentKey, ContainerId, IfName, NetworkName};
pub use network::{LoadError, Network, files, load, read};
pub use plugin::{Call, Output, Plugin, main, perform, run};
pub use problems::{Problem, plugin_problems, problems};
pub use result::{Dns, Interface, Ip, Outcome, Route};
pub use runner::{Attachment, Collected, Failure, Runner, Valid};
pub use version::Version;

/// A result whose error is the specification's.
pub type Result<T> = std::result::Result<T, Error>;
