//! What ADD returns, in the shape of the newest version, and its conversion from and to the older ones.

use std::net::IpAddr;

use ipnet::IpNet;
use model::MacAddr;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Code, Error, Result, Version};

/// The result of ADD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Interfaces made, on the host and in the container.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<Ip>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Resolver settings.
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "mac_or_empty")]
    pub mac: Option<MacAddr>,
    /// MTU in bytes (1.1.0).
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The namespace that it is in; empty on the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Path of a vhost-user socket (1.1.0).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// PCI address (1.1.0).
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// Place of its interface in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// Address and prefix length.
    pub address: IpNet,
    /// Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "ip_or_empty")]
    pub gateway: Option<IpAddr>,
}

/// A route of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop; the address's gateway unless given.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "ip_or_empty")]
    pub gw: Option<IpAddr>,
    /// MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Advertised maximum segment size in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Table (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route without the settings of 1.1.0.
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// Resolver settings of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn mac_or_empty<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Option<MacAddr>, D::Error> {
    parse_or_empty(d)
}

fn ip_or_empty<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Option<IpAddr>, D::Error> {
    parse_or_empty(d)
}

/// Go's encoders write an absent address as null or as an empty string.
fn parse_or_empty<'de, D, T>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

impl Outcome {
    /// The result as this version writes it.
    pub fn to_json(&self, version: Version) -> Value {
        let mut object = Map::new();
        object.insert("cniVersion".into(), version.as_str().into());
        if version <= Version::V0_2_0 {
            self.write_old(&mut object);
        } else {
            self.write_new(&mut object, version);
        }
        object.insert("dns".into(), json!(self.dns));
        Value::Object(object)
    }

    /// 0.1.0 and 0.2.0: one address a family, no interfaces.
    fn write_old(&self, object: &mut Map<String, Value>) {
        for (name, is_v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.addr().is_ipv4() == is_v4) else { continue };
            let routes: Vec<Value> = self
                .routes
                .iter()
                .filter(|route| route.dst.addr().is_ipv4() == is_v4)
                .map(|route| match route.gw {
                    Some(gw) => json!({ "dst": route.dst, "gw": gw }),
                    None => json!({ "dst": route.dst }),
                })
                .collect();
            let mut entry = json!({ "ip": ip.address });
            if let Some(gateway) = ip.gateway {
                entry["gateway"] = json!(gateway);
            }
            if !routes.is_empty() {
                entry["routes"] = routes.into();
            }
            object.insert(name.into(), entry);
        }
    }

    fn write_new(&self, object: &mut Map<String, Value>, version: Version) {
        let newest = version >= Version::V1_1_0;
        let interfaces = self.interfaces.iter().map(|interface| {
            let mut interface = interface.clone();
            if !newest {
                interface.mtu = 0;
                interface.socket_path.clear();
                interface.pci_id.clear();
            }
            json!(interface)
        });
        let ips = self.ips.iter().map(|ip| {
            let mut value = json!(ip);
            if version <= Version::V0_4_0 {
                value["version"] = if ip.address.addr().is_ipv4() { "4" } else { "6" }.into();
            }
            value
        });
        let routes = self.routes.iter().map(|route| match newest {
            true => json!(route),
            false => json!(Route {
                mtu: None,
                advmss: None,
                priority: None,
                table: None,
                scope: None,
                ..route.clone()
            }),
        });
        for (name, list) in [
            ("interfaces", interfaces.collect::<Vec<_>>()),
            ("ips", ips.collect()),
            ("routes", routes.collect()),
        ] {
            if !list.is_empty() {
                object.insert(name.into(), list.into());
            }
        }
    }

    /// Reads a result of any version; `default` is the version of a result that does not name its own.
    pub fn from_json(value: &Value, default: Version) -> Result<Self> {
        let invalid = |error: &dyn std::fmt::Display| {
            Error::new(Code::Decode, "a result cannot be understood").details(error)
        };
        let version = match value.get("cniVersion").and_then(Value::as_str) {
            Some(text) => Version::parse(Some(text))?,
            None => default,
        };
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct New {
            interfaces: Option<Vec<Interface>>,
            ips: Option<Vec<Ip>>,
            routes: Option<Vec<Route>>,
            dns: Option<Dns>,
        }
        #[derive(Deserialize)]
        struct OldIp {
            ip: IpNet,
            #[serde(default, deserialize_with = "ip_or_empty")]
            gateway: Option<IpAddr>,
            #[serde(default)]
            routes: Option<Vec<Route>>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Old {
            ip4: Option<OldIp>,
            ip6: Option<OldIp>,
            dns: Option<Dns>,
        }
        if version <= Version::V0_2_0 {
            let old = Old::deserialize(value).map_err(|error| invalid(&error))?;
            let mut outcome = Outcome { dns: old.dns.unwrap_or_default(), ..Outcome::default() };
            for entry in [old.ip4, old.ip6].into_iter().flatten() {
                outcome.ips.push(Ip { interface: None, address: entry.ip, gateway: entry.gateway });
                outcome.routes.extend(entry.routes.unwrap_or_default());
            }
            return Ok(outcome);
        }
        let new = New::deserialize(value).map_err(|error| invalid(&error))?;
        Ok(Outcome {
            interfaces: new.interfaces.unwrap_or_default(),
            ips: new.ips.unwrap_or_default(),
            routes: new.routes.unwrap_or_default(),
            dns: new.dns.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Outcome {
        let interface = |name: &str, sandbox: &str| Interface {
            name: name.into(),
            mac: Some("0a:58:0a:00:00:02".parse().unwrap()),
            mtu: 1500,
            sandbox: sandbox.into(),
            ..Interface::default()
        };
        Outcome {
            interfaces: vec![
                interface("cni0", ""),
                interface("veth1", ""),
                interface("eth0", "/run/netns/a"),
            ],
            ips: vec![Ip {
                interface: Some(2),
                address: "10.0.0.2/24".parse().unwrap(),
                gateway: Some("10.0.0.1".parse().unwrap()),
            }],
            routes: vec![Route {
                dst: "0.0.0.0/0".parse().unwrap(),
                gw: None,
                mtu: Some(1400),
                advmss: None,
                priority: None,
                table: None,
                scope: None,
            }],
            dns: Dns::default(),
        }
    }

    #[test]
    fn every_version_reads_back_what_it_can_say() {
        for version in Version::ALL {
            let json = sample().to_json(version);
            assert_eq!(json["cniVersion"], version.as_str());
            let back = Outcome::from_json(&json, Version::NEWEST).unwrap();
            assert_eq!(back.ips[0].address, sample().ips[0].address, "{version}");
            assert_eq!(back.ips[0].gateway, sample().ips[0].gateway, "{version}");
            assert_eq!(back.interfaces.len(), if version <= Version::V0_2_0 { 0 } else { 3 }, "{version}");
            let mtu = if version == Version::V1_1_0 { Some(1400) } else { None };
            assert_eq!(back.routes[0].mtu, mtu, "{version}");
        }
    }

    #[test]
    fn the_ip_version_is_written_where_it_was_required() {
        assert_eq!(sample().to_json(Version::V0_4_0)["ips"][0]["version"], "4");
        assert!(sample().to_json(Version::V1_0_0)["ips"][0].get("version").is_none());
        assert_eq!(sample().to_json(Version::V0_2_0)["ip4"]["ip"], "10.0.0.2/24");
    }
}
