//! What tests against real runtimes have in common: a [`World`] of their own, and the daemons in it.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod containerd;
mod docker;
mod image;
mod old_cri;
mod plugin;
mod pod;
mod podman;
mod podplumb;
mod process;
mod random;
mod ruleset;
mod traced;
mod traces;
mod world;

pub use containerd::{Containerd, Sandbox, pod_uid};
pub use docker::{Container, Docker};
pub use old_cri::serve_v1alpha2;
pub use plugin::{Answer, Plugin};
pub use pod::Pod;
pub use podman::{Backend, Podman, PodmanContainer};
pub use podplumb::{Finding, Podplumb};
pub use process::{Daemon, kill, output, parent, remove_cgroups, run, wait_for, wait_until};
pub use random::{Random, seed};
pub use ruleset::Ruleset;
pub use traced::{Fault, Traced, run_traced, run_traced_until};
pub use traces::{STATE, traces};
pub use world::{PLUGINS, Plugins, World, binaries, require, shipped};

/// A script for python3: `xdp|ingress|egress INTERFACE RESULT` attaches a BPF program that returns RESULT to an interface. The latter two
/// are tcx, which is in Linux 6.6.
pub const ATTACH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/attach.py");

/// The guide's code compiles, and does what it says.
#[cfg(doctest)]
#[doc = include_str!("../../docs/write-a-cni-plugin.md")]
struct Guide;
