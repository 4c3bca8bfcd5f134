//! What is in deploy/: units and manifests that are valid, flags that exist, and capabilities that are enough and of which none is
//! too many.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod capabilities;
mod files;
mod valid;
