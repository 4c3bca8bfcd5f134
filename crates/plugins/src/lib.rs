//! podplumb's CNI plugins, one module each.
//!
//! Plugins that make an interface are a `Device` each in the frame of [`interface`], plugins that are chained to them an
//! `Addition` each in the frame of [`chained`]: settings, and what differs. All write an attachment [`record`] before they touch
//! the kernel and remove it last, so that a crash between any two steps leaves something that names what to undo, and
//! [`undo`] is the one way in which DEL, GC and a failed ADD do that.

mod announce;
mod bandwidth;
mod bridge;
mod chained;
mod checksum;
mod container;
pub mod dhcp;
mod dummy;
mod firewall;
mod flannel;
mod gateway;
mod host;
mod host_device;
mod host_local;
mod interface;
pub mod ipam;
mod ipvlan;
mod loopback;
mod lower;
mod macvlan;
mod netns;
mod portmap;
mod ptp;
pub mod record;
mod rules;
mod sbr;
mod static_ipam;
mod takeover;
mod tap;
mod tuning;
mod undo;
mod vlan;
mod vrf;

use std::marker::PhantomData;

use cni::{Call, Plugin, Result};

use chained::Chained;
use interface::Interfaces;

/// A plugin of ours.
trait Own: Plugin {
    /// Reads what ADD reads of a call, as far as it can be read without the node: nothing is made, asked or changed.
    fn read(&self, call: &Call) -> Result<()>;
}

/// All plugins by their type.
const PLUGINS: [(&str, &dyn Own); 19] = [
    ("bandwidth", &Chained::<bandwidth::Bandwidth>(PhantomData)),
    ("bridge", &Interfaces::<bridge::Bridge>(PhantomData)),
    ("dhcp", &dhcp::Dhcp),
    ("dummy", &Interfaces::<dummy::Dummy>(PhantomData)),
    ("firewall", &Chained::<firewall::Firewall>(PhantomData)),
    ("flannel", &flannel::Flannel),
    ("host-device", &Interfaces::<host_device::HostDevice>(PhantomData)),
    ("host-local", &host_local::HostLocal),
    ("ipvlan", &Interfaces::<ipvlan::Ipvlan>(PhantomData)),
    ("loopback", &loopback::Loopback),
    ("macvlan", &Interfaces::<macvlan::Macvlan>(PhantomData)),
    ("portmap", &Chained::<portmap::Portmap>(PhantomData)),
    ("ptp", &Interfaces::<ptp::PointToPoint>(PhantomData)),
    ("sbr", &Chained::<sbr::SourceRouting>(PhantomData)),
    ("static", &static_ipam::Static),
    ("tap", &Interfaces::<tap::Tap>(PhantomData)),
    ("tuning", &Chained::<tuning::Tuning>(PhantomData)),
    ("vlan", &Interfaces::<vlan::Vlan>(PhantomData)),
    ("vrf", &Chained::<vrf::Vrf>(PhantomData)),
];

/// The plugin of this type.
pub fn select(kind: &str) -> Option<&'static dyn Plugin> {
    own(kind).map(|plugin| plugin as &dyn Plugin)
}

fn own(kind: &str) -> Option<&'static dyn Own> {
    PLUGINS.iter().find(|(name, _)| *name == kind).map(|(_, plugin)| *plugin)
}

/// Whether the plugin of this type understands a call: its configuration, `CNI_ARGS` and what the runtime passes. Of the node,
/// only files that the configuration names are read. `None` when there is no such plugin.
pub fn read(kind: &str, call: &Call) -> Option<Result<()>> {
    own(kind).map(|plugin| plugin.read(call))
}

/// The types of all plugins.
pub fn names() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().map(|(name, _)| *name)
}
