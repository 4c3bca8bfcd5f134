//! Live probes of a network: what is sent from inside a namespace, and what comes back.
//!
//! Each probe is a function of the namespace that it works in, synchronous, and has a deadline. Its sockets are opened inside, on a
//! thread made for that, and mostly used from outside. What it returns is data: what came back and when, or the [`Failure`]
//! that says why not, and who said so. A probe judges nothing and tries nothing again.

pub mod capture;
pub mod dissect;
pub mod failure;
pub mod filter;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod http;
mod icmp;
pub mod listen;
pub mod listening;
pub mod marked;
pub mod matcher;
pub mod path_mtu;
pub mod pcapng;
pub mod ping;
pub mod recording;
pub mod route;
pub mod save;
pub mod tcp;
pub mod throughput;
pub mod udp;

pub use failure::{Failure, Notice};
pub use listen::{Echo, Listener};
