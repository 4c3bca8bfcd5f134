//! Connections that are forgotten: exactly those of the plan, each by its tuple and id.

use std::net::IpAddr;

use model::FlowId;
use netlink::{Socket, conntrack};

use crate::journal::Outcome;

/// Forgets connections that are led to an address which nobody has.
pub fn forget(address: IpAddr, flows: &[FlowId]) -> Outcome {
    let forget_all = || {
        let mut socket = Socket::netfilter()?;
        let mut forgotten = 0;
        for flow in flows {
            forgotten += usize::from(conntrack::forget_one(&mut socket, address.is_ipv6(), flow)?);
        }
        Ok::<_, netlink::Error>(forgotten)
    };
    match forget_all() {
        Ok(0) => Outcome::AlreadyGone,
        Ok(_) => Outcome::Done,
        Err(error) => Outcome::Failed { why: error.to_string() },
    }
}
