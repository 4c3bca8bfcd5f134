//! Many plugins at once, some of them killed at random moments, with GC beside them and with the reference host-local in the same
//! directory; and what an ADD costs where there are many leases.
//!
//! They are the binary that is shipped: a debug build takes other times.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod at_once;
mod call;
mod cost;
mod node;
mod storm;

/// Attachments at once: what a node with many pods starts after a restart.
const MANY: usize = 200;
