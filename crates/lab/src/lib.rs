//! Networks of namespaces from one file.
//!
//! A [`Topology`] is the file; [`resolve`] makes a [`Wiring`] of it, which has every name, address and route; a [`Plan`] is what
//! differs between the wiring that is there and the one that is wanted.

pub mod name;
mod resolve;
pub mod topology;
pub mod wiring;

pub use name::LabName;
pub use resolve::{Resolved, resolve};
pub use topology::Topology;
pub use wiring::Wiring;
