//! Carrying out a plan: with identities compared at the moment of each removal, everything on disk before it happens, and a
//! way back for what has one.
//!
//! Nothing here decides. What an orphan is, [`analyze`] says, twice; the operations come with the identity of what
//! they are about, and one whose object is not that any more is left alone.

pub mod apply;
pub mod connections;
mod elements;
mod error;
pub mod files;
pub mod flows;
pub mod journal;
pub mod kernel;
pub mod leases;
mod replay;
mod resume;
pub mod rules;
pub mod undo;

pub use apply::{Applied, Surroundings, apply};
pub use error::Error;
pub use journal::{Entry, Event, Journal, Outcome, Store};
pub use resume::resume;
pub use undo::{Undone, undo};
