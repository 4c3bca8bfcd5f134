//! podplumb's nftables ruleset.
//!
//! One table of our own, whose chains and rules are made once and never change: a pod is an element of a set. So the number
//! of rules does not grow with pods, adding one takes microseconds, and nothing of anybody else's is ever touched.

pub mod masquerade;
mod wire;
