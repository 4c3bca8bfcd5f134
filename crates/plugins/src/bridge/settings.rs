//! The bridge plugin's configuration.

use cni::{Code, Config, Dns, Error, Result};
use model::IfName;
use model::Vlans;
use serde::Deserialize;

use crate::interface;

/// The configuration, checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) bridge: IfName,
    pub(super) is_gateway: bool,
    pub(super) is_default_gateway: bool,
    pub(super) force_address: bool,
    pub(super) masquerade: bool,
    pub(super) mtu_bytes: Option<u32>,
    pub(super) hairpin: bool,
    pub(super) promiscuous: bool,
    pub(super) isolated: bool,
    pub(super) detect_duplicates: bool,
    pub(super) container_interface_down: bool,
    /// Frames from the container have to have its MAC.
    pub(super) check_source: bool,
    /// The VLAN of frames without a tag.
    pub(super) vlan: Option<u16>,
    /// VLANs of frames with a tag.
    pub(super) trunk: Vec<Vlans>,
    /// Ports stay in VLAN 1, where the kernel puts them.
    pub(super) keeps_default_vlan: bool,
    pub(super) dns: Dns,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: u32,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Option<Vec<Trunk>>,
    preserve_default_vlan: Option<bool>,
    macspoofchk: bool,
    enabledad: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    dns: Dns,
}

/// One VLAN, or a range of them.
#[derive(Deserialize, Clone, Copy)]
struct Trunk {
    id: Option<i64>,
    #[serde(rename = "minID")]
    first: Option<i64>,
    #[serde(rename = "maxID")]
    last: Option<i64>,
}

fn vlan(id: i64) -> Result<u16> {
    u16::try_from(id).ok().filter(|id| *id <= 4094).ok_or_else(|| {
        Error::new(Code::InvalidConfig, format!("VLAN {id} is not valid")).details("it has to be 0 to 4094")
    })
}

/// A list of VLANs, as ranges that do not overlap.
fn trunk(list: &[Trunk]) -> Result<Vec<Vlans>> {
    let mut all = Vec::new();
    for entry in list {
        let (first, last) = match (entry.id, entry.first, entry.last) {
            (None, Some(first), Some(last)) => (vlan(first)?, vlan(last)?),
            (Some(id), None, None) => (vlan(id)?, vlan(id)?),
            _ => {
                return Err(Error::new(Code::InvalidConfig, "vlanTrunk is not valid")
                    .details("each entry has either id, or minID and maxID"));
            }
        };
        if first > last || first == 0 {
            return Err(Error::new(Code::InvalidConfig, "vlanTrunk is not valid")
                .details(format!("minID {first}, maxID {last}")));
        }
        all.push(Vlans { first, last, pvid: false, untagged: false });
    }
    all.sort_by_key(|vlans| vlans.first);
    // The same VLAN twice is no mistake: ranges that touch become one.
    let mut merged: Vec<Vlans> = Vec::new();
    for vlans in all {
        match merged.last_mut() {
            Some(before) if before.last >= vlans.first => before.last = before.last.max(vlans.last),
            _ => merged.push(vlans),
        }
    }
    Ok(merged)
}

impl Settings {
    pub(super) fn has_vlans(&self) -> bool {
        self.vlan.is_some() || !self.trunk.is_empty()
    }

    pub(super) fn of(config: &Config) -> Result<Self> {
        let invalid = |message: &str| Error::new(Code::InvalidConfig, message);
        let written: Written = config.own()?;
        let bridge = written.bridge.filter(|name| !name.is_empty()).unwrap_or_else(|| "cni0".into());
        let bridge = bridge.parse().map_err(|error| invalid("bridge is not valid").details(error))?;
        let trunk = trunk(&written.vlan_trunk.unwrap_or_default())?;
        let untagged = Some(vlan(written.vlan)?).filter(|id| *id != 0);
        if written.promisc_mode && written.hairpin_mode {
            return Err(invalid("hairpinMode and promiscMode exclude each other"));
        }
        let has_ipam = config.raw.get("ipam").and_then(|ipam| ipam.get("type")).is_some();
        if written.disable_container_interface && has_ipam {
            return Err(invalid("disableContainerInterface cannot be used with ipam"));
        }
        interface::masquerade_backend(written.ip_masq_backend.as_deref())?;
        Ok(Self {
            bridge,
            is_gateway: written.is_gateway || written.is_default_gateway,
            is_default_gateway: written.is_default_gateway,
            force_address: written.force_address,
            masquerade: written.ip_masq,
            mtu_bytes: interface::mtu(written.mtu)?,
            hairpin: written.hairpin_mode,
            promiscuous: written.promisc_mode,
            isolated: written.port_isolation,
            detect_duplicates: written.enabledad,
            container_interface_down: written.disable_container_interface,
            check_source: written.macspoofchk,
            vlan: untagged,
            trunk,
            keeps_default_vlan: written.preserve_default_vlan.unwrap_or(true),
            dns: written.dns,
        })
    }
}
