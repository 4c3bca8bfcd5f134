//! What `podplumb trace` computes, compared with what real packets do: each lab is verified by real probes, and the computed way has to come
//! to the same.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod bad_input;
mod containerd;
mod live;
mod nodes;
mod programs;
mod site;
mod ways;
