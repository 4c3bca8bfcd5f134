//! VLANs of bridge ports.

use model::{IfIndex, Vlans};

use crate::error::Result;
use crate::link::{AF_BRIDGE, IFINFOMSG, IFLA_EXT_MASK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK, ifinfomsg};
use crate::message::{Attributes, Request};
use crate::socket::Socket;

const IFLA_AF_SPEC: u16 = 26;
/// Ranges instead of every number.
const RTEXT_FILTER_BRVLAN_COMPRESSED: u32 = 1 << 2;
const IFLA_BRIDGE_FLAGS: u16 = 0;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_FLAGS_SELF: u16 = 2;
const PVID: u16 = 2;
const UNTAGGED: u16 = 4;
const RANGE_BEGIN: u16 = 8;
const RANGE_END: u16 = 16;

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
        let flags = if vlans.pvid { flags | PVID } else { flags };
        let flags = if vlans.untagged { flags | UNTAGGED } else { flags };
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

/// The VLANs of every bridge and port of the socket's namespace; of what is neither, nothing is said. A bridge that does not look at tags has
/// them as well.
pub fn list(socket: &mut Socket) -> Result<Vec<(IfIndex, Vec<Vlans>)>> {
    let request = Request::new("list VLANs", RTM_GETLINK, 0, &ifinfomsg(AF_BRIDGE, 0, 0, 0));
    socket.dump(&request.attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN_COMPRESSED), parse)
}

pub(crate) fn parse(payload: &[u8]) -> Option<(IfIndex, Vec<Vlans>)> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let specification = Attributes::after(payload, IFINFOMSG).find(IFLA_AF_SPEC)?;
    let mut all = Vec::new();
    let mut begun = None;
    for attribute in specification.nested() {
        if attribute.kind != IFLA_BRIDGE_VLAN_INFO {
            continue;
        }
        let half = |at: usize| Some(u16::from_ne_bytes(attribute.value.get(at..at + 2)?.try_into().ok()?));
        let (flags, id) = (half(0)?, half(2)?);
        if flags & RANGE_BEGIN != 0 {
            begun = Some(id);
            continue;
        }
        let first = begun.take().filter(|_| flags & RANGE_END != 0).unwrap_or(id);
        all.push(Vlans { first, last: id, pvid: flags & PVID != 0, untagged: flags & UNTAGGED != 0 });
    }
    Some((IfIndex(index), all))
}
