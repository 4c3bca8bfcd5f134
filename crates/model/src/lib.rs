//! The vocabulary of podplumb.
//!
//! Everything here is plain data: what a node looks like ([`Snapshot`]), how its parts are named
//! ([`ids`]) and what could not be read ([`coverage`]). No type in this crate does I/O, so every
//! analysis that speaks this vocabulary can run on a file that came from another machine.

pub mod attachment;
pub mod coverage;
pub mod event;
pub mod filter;
pub mod flow;
pub mod heard;
pub mod holder;
pub mod ids;
pub mod iptables;
pub mod link;
pub mod log;
pub mod namespace;
pub mod plugin;
pub mod reference;
pub mod rule;
pub mod runtime;
pub mod snapshot;
pub mod socket;
pub mod stack;
pub mod takeover;
pub mod time;

pub use attachment::{
    AttachmentKey, AttachmentRecord, Before, CacheEntry, Capacity, DhcpLease, Lease, NetworkConfig, PodName,
    PodmanLease,
};
pub use coverage::{Gap, Source};
pub use event::{Call, Caller, Claim, ClaimKind, Event};
pub use filter::Ruleset;
pub use flow::{FlowId, TranslatedFlow};
pub use heard::Heard;
pub use holder::{Holder, Keeper, TcpConnection, TcpState, TcpTimer};
pub use ids::{BootId, ContainerId, IdError, IfIndex, IfName, MacAddr, NetworkName, NsId, NsInode, Nsid};
pub use iptables::{Flavour, PluginRule, PluginRules};
pub use link::{
    Bridge, BridgePort, FdbEntry, Hop, InterfaceSettings, Link, MacvlanMode, Neighbour, Peer, Route,
    RouteKind, Vlans, Vxlan, VxlanModes,
};
pub use log::{LogExcerpt, LogLine};
pub use namespace::{Descriptor, Enumeration, Namespace, Pin, Sockets, StaleFile, Task};
pub use plugin::PluginBinary;
pub use rule::{OwnedElement, Protocol, RuleElement};
pub use runtime::{Runtime, RuntimeKind, RuntimeObject, RuntimeObjectKind, RuntimeStatus};
pub use snapshot::{Conntrack, Node, Snapshot, SnapshotError};
pub use socket::{Socket, SocketProtocol, SocketState, UnixKind, UnixName, UnixPeer, UnixSocket, Unowned};
pub use stack::{NeighbourTable, PolicyAction, PolicyRule, Served, Stack, TrafficFilter, VirtualService};
pub use takeover::{Takeover, TakeoverEvent};
pub use time::Timestamp;
