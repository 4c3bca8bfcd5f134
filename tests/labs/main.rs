//! Labs as people use them: the examples, what docs/labs.md says of them, and labs made of real nodes.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod examples;
mod import;
mod page;
