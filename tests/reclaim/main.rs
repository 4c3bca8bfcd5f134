//! `podplumb reclaim`: what it may remove, what it leaves alone, and what is left when it is hindered.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod bad_input;
mod boot;
mod gc;
mod last_look;
mod leak;
mod limits;
mod plugins;
