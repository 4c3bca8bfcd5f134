//! Networks of namespaces from one file.
//!
//! A [`Topology`] is the file; [`resolve`] makes a [`Wiring`] of it, which has every name, address and route; a [`Plan`] is what
//! differs between the wiring that is there and the one that is wanted.

pub mod drawing;
mod error;
pub mod expect;
mod import;
mod lab;
pub mod name;
mod plan;
mod record;
mod resolve;
pub mod rootless;
pub mod show;
mod site;
mod temporary;
pub mod topology;
pub mod verify;
pub mod wiring;

pub use error::{Error, Result};
pub use import::{Imported, import};
pub use lab::{Guest, Raised, Removed, UpOptions};
pub use name::LabName;
pub use plan::{Part, Piece, Plan};
pub use record::{Identity, Labs, Record, State};
pub use resolve::{Resolved, resolve};
pub use site::Started;
pub use temporary::Lab;
pub use topology::Topology;
pub use wiring::Wiring;
