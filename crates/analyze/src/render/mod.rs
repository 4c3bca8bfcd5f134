//! Writing it down for people, at 80 columns.
//!
//! Every renderer takes what an analysis returned and gives a text that ends with a newline. Colour is the caller's
//! decision ([`Paint`]); ids are shortened to the 12 characters by which other tools show them, programs read the JSON.

mod journal;
mod leaks;
mod map;
mod pods;
mod text;
mod who;

pub use journal::{JournalLine, journal};
pub use leaks::{applied, leaks, plan, undone};
pub use map::map;
pub use pods::pods;
pub use text::{Paint, columns, coverage, printable};
pub use who::who;

/// The width that all texts keep, where names allow it.
pub const COLUMNS: usize = 80;
