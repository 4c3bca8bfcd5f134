//! Interfaces on top of another one: macvlan, ipvlan and VLAN, which differ in what they tell the kernel.

use std::os::fd::AsFd;

use cni::{Code, Error, Result};
use model::{IfIndex, IfName, Link, MacAddr};
use netlink::device::{self, Kind};
use netlink::{Socket, link, route};
use serde::Deserialize;

use crate::host::{created, kernel};
use crate::interface::{Work, mtu};
use crate::netns::{self, Container};

/// What the configurations have in common.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Written {
    master: String,
    mtu: u32,
    link_in_container: bool,
}

/// Where the interface is made.
pub(crate) struct Lower {
    /// The interface below; the one of the default route unless given.
    master: Option<IfName>,
    mtu_bytes: Option<u32>,
    /// The interface below is in the container.
    in_container: bool,
}

impl Lower {
    pub(crate) fn of(written: &Written) -> Result<Self> {
        let master = Some(written.master.as_str()).filter(|name| !name.is_empty());
        let master = master.map(str::parse).transpose().map_err(|error: model::IdError| {
            Error::new(Code::InvalidConfig, "master is not valid").details(error)
        })?;
        Ok(Self { master, mtu_bytes: mtu(written.mtu)?, in_container: written.link_in_container })
    }

    /// Whether a master has to be named.
    pub(crate) fn is_named(&self) -> bool {
        self.master.is_some()
    }

    /// Makes the interface that `kind` describes for the one below.
    pub(crate) fn make(
        &self,
        work: &mut Work<'_>,
        mac: Option<MacAddr>,
        kind: impl Fn(IfIndex) -> Kind,
    ) -> Result<()> {
        let netns = work.netns;
        if self.in_container {
            let _entered = netns::enter(netns)?;
            let mut socket = Socket::route().map_err(kernel)?;
            return self.make_by(&mut socket, work, mac, kind, None);
        }
        let mut socket = Socket::route().map_err(kernel)?;
        self.make_by(&mut socket, work, mac, kind, Some(netns))
    }

    fn make_by(
        &self,
        socket: &mut Socket,
        work: &Work<'_>,
        mac: Option<MacAddr>,
        kind: impl Fn(IfIndex) -> Kind,
        netns: Option<&Container>,
    ) -> Result<()> {
        let below = self.find(socket)?;
        if self.mtu_bytes.is_some_and(|mtu| mtu > below.mtu_bytes) {
            return Err(Error::new(
                Code::InvalidConfig,
                format!("mtu is larger than the {} bytes of {}", below.mtu_bytes, below.name),
            ));
        }
        let ifname = &work.record.key.ifname;
        let device = device::Device {
            name: ifname,
            kind: kind(below.index),
            mac,
            // The kernel takes the lower interface's where none is given, but not of one in another namespace.
            mtu_bytes: self.mtu_bytes.or(Some(below.mtu_bytes)),
            netns: netns.map(|netns| netns.as_fd()),
            up: false,
            index: None,
        };
        make(socket, &device)
    }

    fn find(&self, socket: &mut Socket) -> Result<Link> {
        let missing = |error: netlink::Error| {
            Error::new(Code::InvalidConfig, "the master interface does not exist").details(error)
        };
        if let Some(name) = &self.master {
            return link::by_name(socket, name.as_str()).map_err(missing);
        }
        let routes = route::list(socket).map_err(kernel)?;
        let default = routes.iter().find(|route| route.destination.prefix_len() == 0);
        let Some(index) = default.and_then(|route| route.device) else {
            return Err(Error::new(Code::InvalidConfig, "there is no default route to take the master from")
                .details("set master"));
        };
        link::by_index(socket, index, None).map_err(missing)
    }
}

/// Makes an interface of the kind; a kernel that does not have it is told from other failures.
pub(crate) fn make(socket: &mut Socket, device: &device::Device<'_>) -> Result<()> {
    socket.ack(device::create(device)).map_err(|error| match device.kind {
        kind if error.is_unsupported() => {
            let message = format!("this kernel has no {} interfaces", kind.name());
            let option = kind.kernel_option();
            Error::new(Code::Internal, message).details(format!("it needs {option} ({error})"))
        }
        // EEXIST is not only for names: the kernel's words tell (`vlan_check_real_dev` in net/8021q/vlan.c).
        Kind::Vlan { id, .. } if error.to_string().contains("VLAN device already exists") => {
            let message = format!("the master has an interface for VLAN {id} already");
            Error::new(Code::Internal, message).details(format!("it can have one, on any side ({error})"))
        }
        _ => created(error, device.name, device.name),
    })
}
