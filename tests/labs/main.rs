//! Labs as people use them: the examples, what docs/labs.md says of them, and labs made of real nodes.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod examples;
mod import;
mod mermaid;
mod page;
mod vlans;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// For whoever makes labs of hundreds, or asks for leaks: those that go while it is looked make it unsure of others.
fn quiet() -> MutexGuard<'static, ()> {
    static QUIET: Mutex<()> = Mutex::new(());
    QUIET.lock().unwrap_or_else(PoisonError::into_inner)
}
