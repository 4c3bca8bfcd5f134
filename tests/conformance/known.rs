//! What plugins are known to fail, each with why. A case that fails and is not listed fails the test, and so does one that is listed
//! and passes.

/// Debian's reference plugins, 1.1.1.
pub(crate) const REFERENCE: &[(&str, &str)] = &[
    ("bridge: DEL after the namespace is gone leaves nothing", MASQ),
    ("bridge: DEL with an empty CNI_NETNS leaves nothing", MASQ),
    ("bridge: DEL after the interface is gone leaves nothing", MASQ),
    ("ptp: DEL after the namespace is gone leaves nothing", MASQ),
    ("ptp: DEL with an empty CNI_NETNS leaves nothing", MASQ),
    ("ptp: DEL after the interface is gone leaves nothing", MASQ),
    ("host-device: DEL leaves nothing, twice and without ADD", IDEMPOTENT),
    ("host-device: DEL after the namespace is gone leaves nothing", IDEMPOTENT),
    ("host-device: DEL after the interface is gone leaves nothing", IDEMPOTENT),
    ("host-device: DEL with an empty CNI_NETNS leaves nothing", "the lease stays"),
    ("bridge, portmap: CHECK is content after ADD", PORTMAP_CHECK),
    ("bridge, portmap: a second ADD fails and changes nothing", PORTMAP_CHECK),
    ("bridge, portmap: a DEL leaves the other pod alone", PORTMAP_CHECK),
    ("bridge, portmap: CHECK finds a removed address", PORTMAP_CHECK),
    ("bridge, portmap: CHECK finds a removed route", PORTMAP_CHECK),
    ("portmap: CHECK of both families is content", PORTMAP_CHECK),
    ("portmap: CHECK finds missing rules", PORTMAP_CHECK),
    (
        "bridge, firewall: DEL without prevResult leaves nothing",
        "without a previous result it knows no addresses: rules stay",
    ),
    (
        "bridge, tuning: DEL after the namespace is gone leaves nothing",
        "what it saved about the interface stays",
    ),
    ("bridge, tuning: DEL with an empty CNI_NETNS leaves nothing", "what it saved about the interface stays"),
    (
        "bridge, tuning: DEL after the interface is gone leaves nothing",
        "what it saved about the interface stays",
    ),
    ("bridge, sbr: CHECK is content after ADD", SBR_CHECK),
    ("bridge, sbr: a second ADD fails and changes nothing", SBR_CHECK),
    ("bridge, sbr: CHECK finds a removed address", SBR_CHECK),
    ("bridge, sbr: CHECK finds a removed route", SBR_CHECK),
    ("bridge, sbr: DEL leaves nothing, twice and without ADD", IDEMPOTENT),
    ("bridge, sbr: DEL after the namespace is gone leaves nothing", IDEMPOTENT),
    ("bridge, sbr: DEL with an empty CNI_NETNS leaves nothing", IDEMPOTENT),
    ("bridge, sbr: DEL after the interface is gone leaves nothing", IDEMPOTENT),
    ("bridge, sbr: a DEL leaves the other pod alone", IDEMPOTENT),
    ("bridge, vrf: CHECK is content after ADD", VRF_ROUTES),
    ("bridge, vrf: a second ADD fails and changes nothing", VRF_ROUTES),
    ("bridge, vrf: a DEL leaves the other pod alone", VRF_ROUTES),
    ("bridge, vrf: CHECK finds a removed address", VRF_ROUTES),
    ("bridge, vrf: CHECK finds a removed route", VRF_ROUTES),
    ("vrf: the interface is in the VRF", VRF_ROUTES),
    ("vrf: addresses and routes of both families stay", VRF_ROUTES),
    ("vrf: routes keep their metrics", VRF_ROUTES),
    ("bridge, vrf: DEL after the interface is gone leaves nothing", IDEMPOTENT),
    ("bridge: errors say their version", "errors have no cniVersion"),
    ("bridge: a lone MAC argument is obeyed", "host-local takes it for an unknown argument"),
    ("bridge: routes have mtu, advmss, priority, table and scope", LATER_VERSION),
    ("bridge: portIsolation keeps pods apart", LATER_VERSION),
    ("bridge: disableContainerInterface leaves it down", LATER_VERSION),
    ("bridge: vlanTrunk admits its range", LATER_VERSION),
    ("bridge: with vlanTrunk tagged frames pass", LATER_VERSION),
    ("bridge: preserveDefaultVlan false leaves VLAN 1", LATER_VERSION),
    ("macvlan: linkInContainer takes a master inside", LATER_VERSION),
    ("ipvlan: linkInContainer takes a master inside", LATER_VERSION),
    ("vlan: linkInContainer takes a master inside", LATER_VERSION),
    ("ipvlan: an mtu above the master's is refused", "the pod sends what its master cannot"),
    ("macvlan: bcqueuelen", LATER_VERSION),
    ("portmap: masqAll hides every client's address", LATER_VERSION),
    ("firewall: ingressPolicy isolated: no pod", LATER_VERSION),
    ("tuning: txQLen is set and restored", LATER_VERSION),
    ("tuning: the allow list limits sysctls", LATER_VERSION),
    ("sbr: table", LATER_VERSION),
    ("bandwidth: unshapedSubnets are not limited", LATER_VERSION),
    ("bandwidth: shapedSubnets alone are limited", LATER_VERSION),
    ("bandwidth: shapedSubnets and unshapedSubnets exclude each other", LATER_VERSION),
    ("bridge: an exhausted pool leaves nothing", "the veth pair stays"),
    ("bridge: an IPAM plugin that fails leaves nothing", "the veth pair stays"),
    ("macvlan: a master that is not there is an error", "DEL of an attachment that never was fails"),
    ("static: DEL and CHECK have nothing to say", "CHECK compares nothing"),
    ("portmap: DEL without runtimeConfig leaves nothing", "without mappings it does not look for rules"),
    (
        "bandwidth: CHECK finds a missing shaper",
        "CHECK compares shapers that are there, and misses those that are not",
    ),
    ("dhcp: DEL releases the address", DHCP_RELEASE),
];

const MASQ: &str = "it asks the interface for the addresses: where that is gone, masquerading stays";
const IDEMPOTENT: &str = "DEL of what is gone already fails";
const PORTMAP_CHECK: &str = "CHECK looks for rules of IPv6 that ADD does not make";
const SBR_CHECK: &str = "CHECK looks for the gateway in the main table, from which ADD removed it";
const VRF_ROUTES: &str = "routes are lost on the way into the VRF, until later versions";
const LATER_VERSION: &str = "an option of later versions";
const DHCP_RELEASE: &str = "the next pod gets no answer, or the plugin hangs";

/// Ours.
pub(crate) const OURS: &[(&str, &str)] = &[];
