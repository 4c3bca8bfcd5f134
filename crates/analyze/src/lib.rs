//! What a snapshot means.
//!
//! Pure functions of plain data: no file, no socket, no clock. [`wiring`] joins what belongs together, each other module answers
//! one question about that, [`render`] writes the answers down for people, and [`drawing`] draws them.

pub mod boot;
pub mod collect;
pub mod doctor;
pub mod drawing;
pub mod filter;
mod flows;
pub mod hazards;
pub mod holders;
pub mod leaks;
pub mod limit;
pub mod map;
pub mod meant;
pub mod places;
pub mod plan;
pub mod redact;
pub mod render;
mod route;
pub mod trace;
mod traffic;
pub mod verdict;
pub mod versions;
pub mod watch;
pub mod who;
pub mod wiring;

pub use boot::{Boot, boot};
pub use hazards::{Hazard, Severity, hazards};
pub use holders::{Held, Subject, holders};
pub use leaks::{Finding, Leaks, Piece, leaks};
pub use limit::{Excess, excess};
pub use map::Map;
pub use meant::{Meant, meant};
pub use plan::{Operation, Plan, Step};
pub use verdict::{Evidence, Ruling, Verdict};
pub use wiring::{HostLink, Wiring, wirings};
