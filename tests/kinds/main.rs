//! Kinds of leak, each made for real with the reference plugins, and beside it a live twin that must not be touched.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod dhcp;
mod flows;
mod leases;
mod links;
mod node;
mod rules;
