//! The bridge plugin's configuration.

use cni::{Call, Code, Config, Dns, Error, Result};
use model::{IfName, MacAddr};
use serde::Deserialize;
use serde_json::Value;

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
    vlan_trunk: Option<Vec<Value>>,
    macspoofchk: bool,
    enabledad: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    dns: Dns,
}

impl Settings {
    pub(super) fn of(config: &Config) -> Result<Self> {
        let invalid = |message: &str| Error::new(Code::InvalidConfig, message);
        let written: Written = config.own()?;
        let bridge = written.bridge.filter(|name| !name.is_empty()).unwrap_or_else(|| "cni0".into());
        let bridge = bridge.parse().map_err(|error| invalid("bridge is not valid").details(error))?;
        let unsupported = [
            ("vlan", written.vlan != 0),
            ("vlanTrunk", written.vlan_trunk.is_some_and(|trunk| !trunk.is_empty())),
            ("macspoofchk", written.macspoofchk),
        ];
        if let Some((field, _)) = unsupported.iter().find(|(_, set)| *set) {
            return Err(Error::new(Code::UnsupportedField, format!("{field} is not supported")));
        }
        if written.promisc_mode && written.hairpin_mode {
            return Err(invalid("hairpinMode and promiscMode exclude each other"));
        }
        let has_ipam = config.raw.get("ipam").and_then(|ipam| ipam.get("type")).is_some();
        if written.disable_container_interface && has_ipam {
            return Err(invalid("disableContainerInterface cannot be used with ipam"));
        }
        match written.ip_masq_backend.as_deref() {
            // One implementation, in nftables, serves both; iptables-nft and nftables are the same kernel code.
            None | Some("" | "iptables" | "nftables") => {}
            Some(other) => {
                return Err(invalid("ipMasqBackend is not valid")
                    .details(format!("{other:?} is neither iptables nor nftables")));
            }
        }
        // IPv4 needs 68 bytes (RFC 791); a veth takes at most 65535.
        if written.mtu != 0 && !(68..=65535).contains(&written.mtu) {
            return Err(invalid("mtu is not valid").details("it has to be between 68 and 65535 bytes"));
        }
        Ok(Self {
            bridge,
            is_gateway: written.is_gateway || written.is_default_gateway,
            is_default_gateway: written.is_default_gateway,
            force_address: written.force_address,
            masquerade: written.ip_masq,
            mtu_bytes: Some(written.mtu).filter(|mtu| *mtu != 0),
            hairpin: written.hairpin_mode,
            promiscuous: written.promisc_mode,
            isolated: written.port_isolation,
            detect_duplicates: written.enabledad,
            container_interface_down: written.disable_container_interface,
            dns: written.dns,
        })
    }
}

/// The MAC that the container's interface has to have: `CNI_ARGS`, overruled by `args.cni.mac`, overruled by
/// `runtimeConfig.mac`.
pub(super) fn requested_mac(call: &Call) -> Result<Option<MacAddr>> {
    let text = |value: &Value| match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Error::new(Code::InvalidConfig, "mac is not a string")),
    };
    let mut wanted = call.invocation.args.get("MAC").map(|mac| (mac.to_owned(), Code::InvalidEnvironment));
    for value in [call.config.arg("mac"), call.config.capability("mac")].into_iter().flatten() {
        wanted = Some((text(value)?, Code::InvalidConfig));
    }
    let Some((mac, code)) = wanted.filter(|(mac, _)| !mac.is_empty()) else { return Ok(None) };
    let mac: MacAddr = mac.parse().map_err(|error| Error::new(code, "MAC is not valid").details(error))?;
    if mac.0[0] & 1 == 1 {
        return Err(Error::new(code, format!("MAC {mac} is a multicast address")));
    }
    Ok(Some(mac))
}
