//! What a topology comes to: every namespace, device, address and route, with nothing left to decide. Plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use model::{IfName, MacAddr, Vlans};
use serde::{Deserialize, Serialize};

pub use crate::topology::{Ended, MacvlanMode};

use crate::name::LabName;

/// A lab, completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// The lab's name.
    pub lab: LabName,
    /// Its namespaces, in the file's order.
    pub machines: Vec<Machine>,
    /// What `verify` checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<String>,
}

impl Wiring {
    /// The machine with this name.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.name == name)
    }
}

/// What a namespace is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineKind {
    /// It sends and receives.
    Host,
    /// It also forwards.
    Router,
    /// It is a bridge.
    Switch,
    /// It plays a Kubernetes node.
    Node,
    /// A pod of a node.
    Pod,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name, unique in the lab: `client`, `node1`, `node1-pod2`. Safe as a file name.
    pub name: String,
    /// What it is.
    pub kind: MachineKind,
    /// Of a pod: its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its devices, in the order in which they can be made. Of a veth pair both ends are here, each in its own machine.
    pub devices: Vec<Device>,
    /// Routes, besides those that come with addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Permanent neighbours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
    /// Entries of forwarding databases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<FdbEntry>,
    /// Sysctls, by dotted name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Address translation.
    #[serde(default, skip_serializing_if = "Nat::is_empty")]
    pub nat: Nat,
    /// Commands that run inside, each as its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<Vec<String>>,
    /// Of a pod that plugins wire: the network configuration list, as its file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni: Option<String>,
    /// Of such a pod: how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

impl Machine {
    /// An empty namespace.
    pub fn new(name: String, kind: MachineKind) -> Self {
        Machine {
            name,
            kind,
            node: None,
            devices: Vec::new(),
            routes: Vec::new(),
            neighbours: Vec::new(),
            fdb: Vec::new(),
            sysctls: BTreeMap::new(),
            nat: Nat::default(),
            run: Vec::new(),
            cni: None,
            ended: None,
        }
    }

    /// Whether it has a namespace: a pod that ended may have none any more.
    pub fn is_there(&self) -> bool {
        self.ended.is_none_or(|how| how == Ended::Pinned)
    }

    /// The device with this name.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name.as_str() == name)
    }

    /// Whether packets pass through it.
    pub fn forwards(&self) -> bool {
        matches!(self.kind, MachineKind::Router | MachineKind::Node)
    }

    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpNet> {
        self.devices.iter().flat_map(|device| device.addresses.iter().copied())
    }
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name in its namespace.
    pub name: IfName,
    /// What it is.
    #[serde(flatten)]
    pub kind: DeviceKind,
    /// Ethernet address; the kernel chooses unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// MTU in bytes; the kernel's default (1500) unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu_bytes: Option<u32>,
    /// The bridge that it is a port of, and how.
    #[serde(default, rename = "bridge_port", skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Of a bridge that looks at VLAN tags, and of its ports: its VLANs. Number 1, untagged, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<Vec<Vlans>>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// What its queue does to packets that leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// Whether it stays down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
}

impl Device {
    /// A device of which nothing else is said.
    pub fn new(name: IfName, kind: DeviceKind) -> Self {
        Device {
            name,
            kind,
            mac: None,
            mtu_bytes: None,
            port: None,
            vlans: None,
            addresses: Vec::new(),
            shape: None,
            down: false,
        }
    }
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DeviceKind {
    /// The namespace's own; it is there already.
    Loopback,
    /// An end of a veth pair.
    Veth {
        /// The other end.
        peer: End,
        /// Whether the pair is made from here: true for one of its ends.
        first: bool,
    },
    /// A bridge.
    Bridge {
        /// Spanning tree.
        stp: bool,
        /// It looks at VLAN tags.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        vlan_filtering: bool,
    },
    /// A VXLAN device.
    Vxlan {
        /// The network identifier.
        id: u32,
        /// The UDP port.
        #[serde(rename = "udp_port")]
        port: u16,
        /// The address that it sends from.
        local: Option<IpAddr>,
        /// The device that it sends through.
        on: Option<IfName>,
        /// Where frames go of which it is not known who has their destination.
        peers: Vec<IpAddr>,
        /// Whether it learns from what comes who is where.
        learning: bool,
    },
    /// A macvlan device.
    Macvlan {
        /// The device that it is on.
        on: End,
        /// Who may talk with whom there.
        mode: MacvlanMode,
    },
}

/// A device of a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct End {
    /// The machine.
    pub machine: String,
    /// The device.
    pub device: IfName,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.machine, self.device)
    }
}

/// How a device is a bridge's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The bridge, in the same machine.
    pub bridge: IfName,
    /// Frames may leave through the port that they came by.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hairpin: bool,
    /// Nothing passes between it and other isolated ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
}

/// What a device's queue does to packets that leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// So much goes out (tbf).
    Rate {
        /// Bits a second.
        bits_per_second: u64,
    },
    /// They are late, and some are lost (netem).
    Impaired {
        /// How long each is kept, in microseconds.
        delay_us: u32,
        /// How many of a million are lost.
        loss_ppm: u32,
        /// So much goes out, in bits a second; 0: no limit.
        bits_per_second: u64,
    },
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to; 0.0.0.0/0 or ::/0 is the default route.
    pub destination: IpNet,
    /// Through whom; nobody: it is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Through which device; the kernel finds the gateway's unless given.
    pub device: IfName,
    /// The gateway is on the link even where no address says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
    /// MTU along it, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu_bytes: Option<u32>,
    /// The source address that it suggests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

impl Route {
    /// Whether it leads everywhere.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

/// A permanent neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// On which device.
    pub device: IfName,
}

/// A static entry of a bridge's or VXLAN device's forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// Whose frames.
    pub mac: MacAddr,
    /// The port, or the VXLAN device.
    pub device: IfName,
    /// Of a VXLAN device: the other end of the tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
}

/// Address translation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// What leaves with another address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masquerade: Vec<Masquerade>,
    /// What is led elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<Forward>,
}

impl Nat {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.masquerade.is_empty() && self.forward.is_empty()
    }
}

/// Packets that leave with the address of the interface that they leave through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masquerade {
    /// From whom; everybody unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// Through which interface; any unless given, but then only what leaves `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<IfName>,
}

/// A port that leads elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// TCP, or UDP.
    pub udp: bool,
    /// The port here.
    pub port: u16,
    /// Where it leads.
    pub to: IpAddr,
    /// The port there.
    pub to_port: u16,
}
