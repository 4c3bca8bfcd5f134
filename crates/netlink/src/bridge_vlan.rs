//! VLANs of bridge ports.

use model::IfIndex;

use crate::link::{AF_BRIDGE, RTM_DELLINK, RTM_SETLINK, ifinfomsg};
use crate::message::Request;

const IFLA_AF_SPEC: u16 = 26;
const IFLA_BRIDGE_FLAGS: u16 = 0;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_FLAGS_SELF: u16 = 2;
const PVID: u16 = 2;
const UNTAGGED: u16 = 4;
const RANGE_BEGIN: u16 = 8;
const RANGE_END: u16 = 16;

/// VLANs from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlans {
    /// First, 1 to 4094.
    pub first: u16,
    /// Last.
    pub last: u16,
    /// Frames come and go without a tag, and this is the VLAN of those that come without.
    pub untagged: bool,
}

/// Lets a port take part in VLANs; `is_bridge`: the port is the bridge itself.
pub fn add(port: IfIndex, vlans: Vlans, is_bridge: bool) -> Request {
    let request =
        Request::new("add VLAN to bridge port", RTM_SETLINK, 0, &ifinfomsg(AF_BRIDGE, port.0, 0, 0));
    specify(request, vlans, is_bridge)
}

/// Takes a port out of VLANs.
pub fn delete(port: IfIndex, vlans: Vlans, is_bridge: bool) -> Request {
    let request =
        Request::new("remove VLAN from bridge port", RTM_DELLINK, 0, &ifinfomsg(AF_BRIDGE, port.0, 0, 0));
    specify(request, vlans, is_bridge)
}

fn specify(request: Request, vlans: Vlans, is_bridge: bool) -> Request {
    let info = |r: Request, flags: u16, id: u16| {
        let flags = if vlans.untagged { flags | PVID | UNTAGGED } else { flags };
        r.attr(IFLA_BRIDGE_VLAN_INFO, &[flags.to_ne_bytes(), id.to_ne_bytes()].concat())
    };
    request.nest(IFLA_AF_SPEC, |mut r| {
        if is_bridge {
            r = r.attr(IFLA_BRIDGE_FLAGS, &BRIDGE_FLAGS_SELF.to_ne_bytes());
        }
        if vlans.first == vlans.last {
            info(r, 0, vlans.first)
        } else {
            info(info(r, RANGE_BEGIN, vlans.first), RANGE_END, vlans.last)
        }
    })
}
