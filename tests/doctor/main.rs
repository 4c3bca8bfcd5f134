//! `podplumb doctor`: each check in a lab that breaks exactly that, and silence where nothing is wrong.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod broken;
mod command;
mod edited;
mod healthy;
mod node;
mod proof;
mod runtimes;
mod table;
