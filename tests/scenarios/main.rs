//! What real runtimes leave behind when they crash, and what podplumb makes of it.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod bad_runtimes;
mod containerd;
mod docker;
mod handmade;
mod podman;
mod several;
