//! Ports of the node that lead to a container.

use std::net::IpAddr;

use cni::{Call, Code, Config, Error, Result};
use model::{AttachmentRecord, Protocol, RuleElement};
use netlink::{Socket, conntrack, link, route};
use nft::Conditions;
use serde::Deserialize;

use crate::chained::{Addition, Work, first_of_each, nftables_work};
use crate::host::kernel;
use crate::netns::Container;
use crate::{record, rules};

/// The addition.
pub(crate) struct Portmap {
    mappings: Vec<Mapping>,
    /// Connections from the pod's own subnet and from the node itself get the node's address.
    snat: bool,
    /// All connections do.
    masquerade_all: bool,
    conditions: Option<Conditions>,
}

struct Mapping {
    protocol: Protocol,
    host_ip: Option<IpAddr>,
    host_port: u16,
    container_port: u16,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    backend: Option<String>,
    snat: Option<bool>,
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    conditions_v4: Option<Vec<String>>,
    conditions_v6: Option<Vec<String>>,
}

/// An entry of `runtimeConfig.portMappings`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMapping {
    host_port: i64,
    container_port: i64,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, message)
}

fn port(what: &str, number: i64) -> Result<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| {
        invalid(format!("{what} {number} is not valid")).details("it has to be between 1 and 65535")
    })
}

impl Mapping {
    fn of(written: &WrittenMapping) -> Result<Self> {
        let host_ip: Option<IpAddr> = match written.host_ip.as_str() {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|error| invalid(format!("hostIP {text:?} is not an address")).details(error))?,
            ),
        };
        Ok(Self {
            protocol: rules::protocol(&written.protocol)?,
            host_ip,
            host_port: port("hostPort", written.host_port)?,
            container_port: port("containerPort", written.container_port)?,
        })
    }

    /// Whether both want the same port of the same address.
    fn overlaps(&self, other: &Mapping) -> bool {
        let any = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
        let family = |ip: Option<IpAddr>| ip.map(|ip| ip.is_ipv4());
        let same_family = match (family(self.host_ip), family(other.host_ip)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let same_address = self.host_ip == other.host_ip || any(self.host_ip) || any(other.host_ip);
        self.protocol == other.protocol && self.host_port == other.host_port && same_address && same_family
    }

    /// For one of the pod's addresses; an address of the other family is not mapped to it.
    fn element(&self, pod: IpAddr, conditions: Option<&Conditions>) -> Option<RuleElement> {
        if self.host_ip.is_some_and(|ip| ip.is_ipv4() != pod.is_ipv4()) {
            return None;
        }
        Some(RuleElement::MapPort {
            protocol: self.protocol,
            host_ip: self.host_ip.filter(|ip| !ip.is_unspecified()),
            host_port: self.host_port,
            pod,
            pod_port: self.container_port,
            conditions: conditions.map(Conditions::id),
        })
    }
}

impl Addition for Portmap {
    const TYPE: &'static str = "portmap";

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        match written.backend.as_deref() {
            // One implementation, in nftables, serves both.
            None | Some("" | "iptables" | "nftables") => {}
            Some(other) => {
                return Err(invalid(format!("backend {other:?} is not known"))
                    .details("iptables or nftables; both are served by nftables"));
            }
        }
        if written.mark_masq_bit.is_some() && written.external_set_mark_chain.is_some() {
            return Err(invalid("markMasqBit and externalSetMarkChain exclude each other"));
        }
        // No packet is marked here (sets say what is masqueraded), so a valid bit is as good as another.
        if written.mark_masq_bit.is_some_and(|bit| !(0..32).contains(&bit)) {
            return Err(invalid("markMasqBit is not valid").details("it has to be between 0 and 31"));
        }
        let list = match config.capability("portMappings") {
            Some(list) => Vec::<WrittenMapping>::deserialize(list)
                .map_err(|error| invalid("runtimeConfig.portMappings is not valid").details(error))?,
            None => Vec::new(),
        };
        let mappings = list.iter().map(Mapping::of).collect::<Result<Vec<_>>>()?;
        for (at, one) in mappings.iter().enumerate() {
            if mappings[at + 1..].iter().any(|other| other.overlaps(one)) {
                let what = format!("{} port {}", one.protocol.as_str(), one.host_port);
                return Err(invalid(format!("{what} is mapped twice")));
            }
        }
        let v4 = written.conditions_v4.unwrap_or_default();
        let v6 = written.conditions_v6.unwrap_or_default();
        let conditions = Conditions::parse(&v4, &v6).map_err(|why| {
            Error::new(Code::UnsupportedField, "conditionsV4 or conditionsV6 is not supported").details(why)
        })?;
        Ok(Self {
            mappings,
            snat: written.snat.unwrap_or(true),
            masquerade_all: written.masq_all,
            conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
        })
    }

    fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        let mut elements = Vec::new();
        for pod in first_of_each(work.addresses()) {
            let address = pod.addr();
            let mapped = self.mappings.iter().filter_map(|m| m.element(address, self.conditions.as_ref()));
            let before = elements.len();
            elements.extend(mapped);
            if elements.len() == before || !self.snat {
                continue;
            }
            let everywhere = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            let sources = match (self.masquerade_all, address.is_ipv4()) {
                (true, _) => vec![everywhere.parse()],
                (false, true) => vec![Ok(pod.trunc()), "127.0.0.0/8".parse()],
                // Packets from ::1 do not leave by another interface, whatever address they get.
                (false, false) => vec![Ok(pod.trunc())],
            };
            let sources = sources.into_iter().flatten();
            elements.extend(sources.map(|from| RuleElement::Hairpin { from, pod: address }));
        }
        work.record.rules = elements;
        Ok(())
    }

    fn conditions(&self) -> Option<&Conditions> {
        self.conditions.as_ref()
    }

    fn finish(&self, work: &mut Work<'_>) -> Result<()> {
        let pods = first_of_each(work.addresses());
        if let Some(pod) = pods.iter().map(|pod| pod.addr()).find(|pod| pod.is_ipv4() && self.snat) {
            admit_localhost(pod)?;
        }
        let udp = self.mappings.iter().filter(|mapping| mapping.protocol == Protocol::Udp);
        let ports: Vec<u16> = udp.map(|mapping| mapping.host_port).collect();
        if !ports.is_empty() {
            let mut socket = Socket::netfilter().map_err(kernel)?;
            for pod in pods {
                // Flows that stay are no failure of the mapping: they end by themselves.
                let _ = conntrack::forget_udp(&mut socket, pod.addr().is_ipv6(), &ports);
            }
        }
        Ok(())
    }

    /// The reference plugin's rules, where that made the mapping.
    fn unmake(call: &Call, _: Option<&Container>, record: Option<&AttachmentRecord>) -> Result<()> {
        if record.is_some() {
            return Ok(());
        }
        rules::remove_reference(&record::key(call), &[])
    }

    fn status(&self) -> Result<()> {
        nftables_work()
    }
}

/// Lets the node itself reach the pod by 127.0.0.1: the kernel would not send such packets out of an interface.
fn admit_localhost(pod: IpAddr) -> Result<()> {
    let mut socket = Socket::route().map_err(kernel)?;
    let Some(device) = route::device_to(&mut socket, pod).map_err(kernel)? else { return Ok(()) };
    let name = link::by_index(&mut socket, device, None).map_err(kernel)?.name;
    let sysctl = format!("net/ipv4/conf/{name}/route_localnet");
    let fail =
        |error: std::io::Error| Error::new(Code::Io, format!("cannot set sysctl {sysctl}")).details(error);
    match sys::read_sysctl(&sysctl).map_err(fail)?.as_str() {
        "1" => Ok(()),
        _ => sys::write_sysctl(&sysctl, "1").map_err(fail),
    }
}
