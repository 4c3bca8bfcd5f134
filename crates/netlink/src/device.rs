//! Making interfaces of every kind but veth, which [`link`](crate::link) has because both ends are one message.

use std::os::fd::{AsRawFd, BorrowedFd};

use model::{IfIndex, IfName, MacAddr};

use crate::link::{
    IFF_UP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_NET_NS_FD,
    MACVLAN_MODE, RTM_NEWLINK, ends, ifinfomsg, octets,
};
use crate::message::{CREATE_EXCLUSIVE, Request};

/// An interface to be made.
#[derive(Debug)]
pub struct Device<'a> {
    /// Name.
    pub name: &'a IfName,
    /// Kind, with what only this kind has.
    pub kind: Kind,
    /// Ethernet address; the kernel picks one if none is given.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu_bytes: Option<u32>,
    /// Where it is made; `None`: where the socket is. The lower interface is looked up where the socket is, in any case.
    pub netns: Option<BorrowedFd<'a>>,
    /// Whether it is made up.
    pub up: bool,
    /// Its index; the kernel picks one if none is given. Fails with EBUSY if it is taken.
    pub index: Option<IfIndex>,
}

/// What kind of interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bridge.
    Bridge {
        /// Whether its ports have VLANs (`IFLA_BR_VLAN_FILTERING`).
        vlans: bool,
        /// Whether it takes part in a spanning tree (`IFLA_BR_STP_STATE`).
        stp: bool,
    },
    /// A MAC of its own on a lower interface.
    Macvlan {
        /// The lower interface.
        lower: IfIndex,
        /// Mode.
        mode: MacvlanMode,
        /// How many broadcast frames may wait (5.11).
        broadcast_queue: Option<u32>,
    },
    /// The MAC of the lower interface, and addresses of its own.
    Ipvlan {
        /// The lower interface.
        lower: IfIndex,
        /// Mode.
        mode: IpvlanMode,
    },
    /// An 802.1Q VLAN.
    Vlan {
        /// The lower interface.
        lower: IfIndex,
        /// 1 to 4094.
        id: u16,
    },
    /// Frames in UDP.
    Vxlan(Vxlan),
    /// Takes everything and sends nothing.
    Dummy,
    /// Where ingress traffic is led to be shaped.
    Ifb,
    /// A virtual routing domain.
    Vrf {
        /// Its routing table.
        table: u32,
    },
}

/// What a VXLAN device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier.
    pub id: u32,
    /// UDP port.
    pub port: u16,
    /// The address that it sends from.
    pub local: Option<std::net::IpAddr>,
    /// The interface that it sends through. The device then refuses an MTU that does not fit into that one's.
    pub lower: Option<IfIndex>,
    /// Whether it learns from what comes who is where.
    pub learning: bool,
}

/// Modes of a macvlan (`MACVLAN_MODE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the kernel's")]
pub enum MacvlanMode {
    Private = 1,
    Vepa = 2,
    Bridge = 4,
    Passthru = 8,
}

/// Modes of an ipvlan (`IPVLAN_MODE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the kernel's")]
pub enum IpvlanMode {
    L2 = 0,
    L3 = 1,
    L3s = 2,
}

impl Kind {
    /// As `IFLA_INFO_KIND` has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bridge { .. } => "bridge",
            Kind::Macvlan { .. } => "macvlan",
            Kind::Ipvlan { .. } => "ipvlan",
            Kind::Vlan { .. } => "vlan",
            Kind::Vxlan(_) => "vxlan",
            Kind::Dummy => "dummy",
            Kind::Ifb => "ifb",
            Kind::Vrf { .. } => "vrf",
        }
    }

    /// The option that a kernel has to be built with.
    pub fn kernel_option(self) -> &'static str {
        match self {
            Kind::Bridge { vlans: false, .. } => "CONFIG_BRIDGE",
            Kind::Bridge { vlans: true, .. } => "CONFIG_BRIDGE_VLAN_FILTERING",
            Kind::Vxlan(_) => "CONFIG_VXLAN",
            Kind::Macvlan { .. } => "CONFIG_MACVLAN",
            Kind::Ipvlan { .. } => "CONFIG_IPVLAN",
            Kind::Vlan { .. } => "CONFIG_VLAN_8021Q",
            Kind::Dummy => "CONFIG_DUMMY",
            Kind::Ifb => "CONFIG_IFB",
            Kind::Vrf { .. } => "CONFIG_NET_VRF",
        }
    }

    fn lower(self) -> Option<IfIndex> {
        match self {
            Kind::Macvlan { lower, .. } | Kind::Ipvlan { lower, .. } | Kind::Vlan { lower, .. } => {
                Some(lower)
            }
            _ => None,
        }
    }

    fn data(self, request: Request) -> Request {
        const BR_STP_STATE: u16 = 5;
        const BR_VLAN_FILTERING: u16 = 7;
        const MACVLAN_BC_QUEUE_LEN: u16 = 7;
        const IPVLAN_MODE: u16 = 1;
        const VLAN_ID: u16 = 1;
        const VRF_TABLE: u16 = 1;
        match self {
            Kind::Bridge { vlans: false, stp: false } | Kind::Dummy | Kind::Ifb => request,
            Kind::Bridge { vlans, stp } => request.nest(IFLA_INFO_DATA, |mut r| {
                if stp {
                    r = r.attr_u32(BR_STP_STATE, 1);
                }
                if vlans { r.attr(BR_VLAN_FILTERING, &[1]) } else { r }
            }),
            Kind::Vxlan(vxlan) => request.nest(IFLA_INFO_DATA, |r| vxlan.data(r)),
            Kind::Macvlan { mode, broadcast_queue, .. } => request.nest(IFLA_INFO_DATA, |r| {
                let r = r.attr_u32(MACVLAN_MODE, mode as u32);
                match broadcast_queue {
                    Some(length) => r.attr_u32(MACVLAN_BC_QUEUE_LEN, length),
                    None => r,
                }
            }),
            Kind::Ipvlan { mode, .. } => {
                request.nest(IFLA_INFO_DATA, |r| r.attr(IPVLAN_MODE, &(mode as u16).to_ne_bytes()))
            }
            Kind::Vlan { id, .. } => request.nest(IFLA_INFO_DATA, |r| r.attr(VLAN_ID, &id.to_ne_bytes())),
            Kind::Vrf { table } => request.nest(IFLA_INFO_DATA, |r| r.attr_u32(VRF_TABLE, table)),
        }
    }
}

/// `IFLA_VXLAN_*` (include/uapi/linux/if_link.h).
pub(crate) mod vxlan {
    pub(crate) const ID: u16 = 1;
    pub(crate) const GROUP: u16 = 2;
    pub(crate) const LINK: u16 = 3;
    pub(crate) const LOCAL: u16 = 4;
    pub(crate) const LEARNING: u16 = 7;
    pub(crate) const PORT: u16 = 15;
    pub(crate) const GROUP6: u16 = 16;
    pub(crate) const LOCAL6: u16 = 17;
    pub(crate) const ZERO_CHECKSUM6: u16 = 20;
    pub(crate) const REMOTE_CHECKSUM: u16 = 22;
    pub(crate) const GBP: u16 = 23;
    pub(crate) const EXTERNAL: u16 = 25;
    pub(crate) const GPE: u16 = 27;
    pub(crate) const VNI_FILTER: u16 = 30;
}

impl Vxlan {
    fn data(self, request: Request) -> Request {
        use vxlan::{ID, LEARNING, LINK, LOCAL, LOCAL6, PORT};
        let mut request = request
            .attr_u32(ID, self.id)
            .attr(LEARNING, &[u8::from(self.learning)])
            .attr(PORT, &self.port.to_be_bytes());
        if let Some(local) = self.local {
            request = request.attr(if local.is_ipv4() { LOCAL } else { LOCAL6 }, &octets(local));
        }
        match self.lower {
            Some(IfIndex(lower)) => request.attr_u32(LINK, lower),
            None => request,
        }
    }
}

/// Makes an interface; fails with EEXIST if the name is taken, and with EOPNOTSUPP if the kernel does not have the kind.
pub fn create(device: &Device<'_>) -> Request {
    let flags = if device.up { IFF_UP } else { 0 };
    let mut request = Request::new(
        "create link",
        RTM_NEWLINK,
        CREATE_EXCLUSIVE,
        &ifinfomsg(0, device.index.map_or(0, |i| i.0), flags, flags),
    )
    .attr_str(IFLA_IFNAME, device.name.as_str());
    request = ends(request, device.mac, device.mtu_bytes);
    if let Some(IfIndex(lower)) = device.kind.lower() {
        request = request.attr_u32(IFLA_LINK, lower);
    }
    if let Some(fd) = device.netns {
        request = request.attr_u32(IFLA_NET_NS_FD, fd.as_raw_fd().cast_unsigned());
    }
    request.nest(IFLA_LINKINFO, |r| device.kind.data(r.attr_str(IFLA_INFO_KIND, device.kind.name())))
}

/// A bridge without VLANs, up. With a MAC of its own, it does not change its address whenever a port with a lower one
/// comes or goes.
pub fn create_bridge(name: &IfName, mac: Option<MacAddr>, mtu_bytes: Option<u32>) -> Request {
    create(&Device {
        name,
        kind: Kind::Bridge { vlans: false, stp: false },
        mac,
        mtu_bytes,
        netns: None,
        up: true,
        index: None,
    })
}
