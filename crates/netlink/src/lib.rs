//! rtnetlink and nfnetlink, synchronously.
//!
//! A [`Request`] is data: typed functions ([`link::create_veth`], [`addr::add`], …) make one, a [`Socket`] sends it
//! alone ([`Socket::ack`]), with others in one system call ([`Socket::batch`]) or as a dump ([`Socket::dump`]).
//! The codec is small and our own: the messages are few, a plugin's start-up is counted in microseconds, and dumps
//! that were interrupted, truncated answers and the kernel's own error texts are handled in one place.
//!
//! Wire formats: include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,neighbour,net_namespace}.h.

pub mod addr;
pub mod bridge_vlan;
pub mod conntrack;
pub mod device;
pub mod diag;
mod error;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod link;
pub mod message;
pub mod monitor;
pub mod neigh;
pub mod netconf;
pub mod nftrace;
pub mod nsid;
pub mod qdisc;
pub mod route;
pub mod rule;
mod socket;
mod unix_diag;

pub use error::{Error, Result};
pub use message::{Attribute, Attributes, Request};
pub use socket::{Socket, Transaction};
