//! Settings of interfaces (`net.ipv4.conf.*`, `net.ipv6.conf.*`), all in one answer instead of a file each.

use model::{IfIndex, InterfaceSettings};

use crate::error::Result;
use crate::message::{Attributes, Request};
use crate::socket::Socket;

const RTM_GETNETCONF: u16 = 82;
/// struct netconfmsg: a family, padded.
const NETCONFMSG: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_IFINDEX_ALL: i32 = -1;
const NETCONFA_IFINDEX_DEFAULT: i32 = -2;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;
const NETCONFA_PROXY_NEIGH: u16 = 5;
const AF_INET6: u8 = 10;
const AF_INET: u8 = 2;

/// The settings of a namespace's interfaces for one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of `all`.
    pub all: Option<InterfaceSettings>,
    /// Of `default`: what new interfaces get.
    pub default: Option<InterfaceSettings>,
    /// Of each interface.
    pub each: Vec<(IfIndex, InterfaceSettings)>,
}

/// The settings of the socket's namespace, for IPv6 or IPv4.
pub fn list(socket: &mut Socket, v6: bool) -> Result<Settings> {
    let family = if v6 { AF_INET6 } else { AF_INET };
    let request = Request::new("list settings of interfaces", RTM_GETNETCONF, 0, &[family, 0, 0, 0]);
    let mut settings = Settings::default();
    for (index, one) in socket.dump(&request, parse)? {
        match index {
            NETCONFA_IFINDEX_ALL => settings.all = Some(one),
            NETCONFA_IFINDEX_DEFAULT => settings.default = Some(one),
            index => settings.each.push((IfIndex(index.cast_unsigned()), one)),
        }
    }
    Ok(settings)
}

pub(crate) fn parse(payload: &[u8]) -> Option<(i32, InterfaceSettings)> {
    let attributes = Attributes::after(payload, NETCONFMSG);
    let number = |kind| attributes.find(kind).and_then(|attribute| attribute.i32());
    let settings = InterfaceSettings {
        forwarding: number(NETCONFA_FORWARDING).is_some_and(|value| value != 0),
        proxy: number(NETCONFA_PROXY_NEIGH).is_some_and(|value| value != 0),
        rp_filter: number(NETCONFA_RP_FILTER).and_then(|value| u8::try_from(value).ok()).unwrap_or_default(),
    };
    Some((number(NETCONFA_IFINDEX)?, settings))
}
