//! A tap device in a container, for a virtual machine in it.

use cni::{Code, Config, Dns, Error, Interface, Result};
use model::IfName;
use netlink::Socket;
use netlink::link::{self, Change};
use serde::Deserialize;

use crate::host::kernel;
use crate::interface::{Device, Work, mac_or_new, mtu};
use crate::netns;

/// The device.
pub(crate) struct Tap {
    multi_queue: bool,
    mtu_bytes: Option<u32>,
    mac: Option<String>,
    owner: Option<u32>,
    group: Option<u32>,
    selinux_context: String,
    /// A bridge in the container to join.
    bridge: Option<IfName>,
    dns: Dns,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    multi_queue: bool,
    mtu: u32,
    mac: Option<String>,
    owner: Option<u32>,
    group: Option<u32>,
    selinux_context: String,
    bridge: String,
    dns: Dns,
}

impl Device for Tap {
    const TYPE: &'static str = "tap";
    const KIND: Option<&'static str> = Some("tun");

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        let bridge = Some(written.bridge).filter(|name| !name.is_empty());
        let bridge = bridge.map(|name| name.parse()).transpose();
        Ok(Self {
            multi_queue: written.multi_queue,
            mtu_bytes: mtu(written.mtu)?,
            mac: written.mac,
            owner: written.owner,
            group: written.group,
            selinux_context: written.selinux_context,
            bridge: bridge
                .map_err(|error| Error::new(Code::InvalidConfig, "bridge is not valid").details(error))?,
            dns: written.dns,
        })
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        work.record.mac = Some(mac_or_new(work.call, self.mac.as_deref())?);
        Ok(())
    }

    fn make(&self, work: &mut Work<'_>) -> Result<Vec<Interface>> {
        let ifname = &work.record.key.ifname;
        let io = |what: &str, error: std::io::Error| {
            Error::new(Code::Io, format!("cannot {what} for {ifname}")).details(error)
        };
        let _entered = netns::enter(work.netns)?;
        if !self.selinux_context.is_empty() {
            // A tap device has the label of the process that made it.
            std::fs::write("/proc/thread-self/attr/current", &self.selinux_context)
                .map_err(|error| io("take on the SELinux context", error))?;
        }
        let mut socket = Socket::route().map_err(kernel)?;
        // TUNSETIFF would take an existing device of that name over.
        if link::by_name(&mut socket, ifname.as_str()).is_ok() {
            return Err(Error::new(
                Code::Internal,
                format!("the container has an interface {ifname} already"),
            ));
        }
        let tap = sys::Tap::new(ifname.as_str(), self.multi_queue)
            .map_err(|error| io("make a tap device", error))?;
        let made = link::by_name(&mut socket, ifname.as_str()).map_err(kernel)?;
        let master = match &self.bridge {
            Some(bridge) => Some(link::by_name(&mut socket, bridge.as_str()).map_err(kernel)?.index),
            None => None,
        };
        let change = Change { mac: work.record.mac, mtu_bytes: self.mtu_bytes, master, ..Change::default() };
        socket.ack(link::change(made.index, &change)).map_err(|error| kernel(error.on(ifname)))?;
        // Until now it ends with this process; from now on its MAC tells whose it is.
        tap.give(self.owner, self.group)
            .and_then(|()| tap.persist())
            .map_err(|error| io("keep the tap device", error))?;
        Ok(Vec::new())
    }

    fn dns(&self) -> &Dns {
        &self.dns
    }
}
