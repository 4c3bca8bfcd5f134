//! Gateways of a result.

use std::net::IpAddr;

use cni::{Outcome, Route};
use ipnet::IpNet;

/// Gives each address without a gateway the first of its subnet.
pub(crate) fn fill_in(outcome: &mut Outcome) {
    for ip in &mut outcome.ips {
        if ip.gateway.is_none() {
            ip.gateway = ip.address.hosts().next();
        }
    }
}

/// Points the default route of each family to its first gateway, unless the result has a default route with one of its own.
pub(crate) fn make_default(outcome: &mut Outcome) {
    for is_v4 in [true, false] {
        let gateway =
            outcome.ips.iter().filter(|ip| ip.address.addr().is_ipv4() == is_v4).find_map(|ip| ip.gateway);
        let everywhere: IpAddr = if is_v4 { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        let Ok(dst) = IpNet::new(everywhere, 0) else { continue };
        let has_own = outcome.routes.iter().any(|route| route.dst == dst && route.gw.is_some());
        if let Some(gw) = gateway.filter(|_| !has_own) {
            outcome.routes.retain(|route| route.dst != dst);
            outcome.routes.push(Route::new(dst, Some(gw)));
        }
    }
}
