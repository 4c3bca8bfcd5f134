//! What a snapshot means.
//!
//! Pure functions of plain data: no file, no socket, no clock. [`wiring`] joins what belongs together, [`verdict`] decides
//! whether it is in use, [`plan`] says what to do about what is not, [`hazards`] what is wrong without being a leak, [`who`]
//! finds one thing by any of its names, [`holders`] says why one is still alive, and [`render`] writes it all down for
//! people; [`drawing`] draws networks.

pub mod boot;
pub mod collect;
pub mod drawing;
mod flows;
pub mod hazards;
pub mod holders;
pub mod leaks;
pub mod limit;
pub mod plan;
pub mod render;
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
pub use plan::{Operation, Plan, Step};
pub use verdict::{Evidence, Ruling, Verdict};
pub use wiring::{HostLink, Wiring, wirings};
