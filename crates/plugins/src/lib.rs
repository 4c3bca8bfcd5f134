//! podplumb's CNI plugins, one module each, all of one shape: settings, then the five commands of [`cni::Plugin`].
//!
//! A plugin that makes something writes an attachment [`record`] before it touches the kernel and removes it last, so that a
//! crash between any two steps leaves something that names what to undo.

mod bridge;
pub mod dhcp;
mod host_local;
pub mod ipam;
mod loopback;
mod netns;
pub mod record;
mod removal;

use cni::Plugin;

/// All plugins by their type.
const PLUGINS: [(&str, &dyn Plugin); 4] = [
    ("bridge", &bridge::Bridge),
    ("dhcp", &dhcp::Dhcp),
    ("host-local", &host_local::HostLocal),
    ("loopback", &loopback::Loopback),
];

/// The plugin of this type.
pub fn select(kind: &str) -> Option<&'static dyn Plugin> {
    PLUGINS.iter().find(|(name, _)| *name == kind).map(|(_, plugin)| *plugin)
}

/// The types of all plugins.
pub fn names() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().map(|(name, _)| *name)
}
