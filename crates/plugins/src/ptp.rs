//! A veth without a bridge: the container's packets are routed from its first hop on.

use cni::{Code, Config, Dns, Error, Interface, Outcome, Result};
use ipnet::IpNet;
use model::RuleElement;
use netlink::route::{self, NewRoute};
use netlink::{addr, link};
use serde::Deserialize;

use crate::bridge::host_end;
use crate::container::Setup;
use crate::host::{self, create_veth, forward, kernel};
use crate::interface::{Device, Work, mac_or_new, masquerade_backend, mtu};

/// The device.
pub(crate) struct PointToPoint {
    masquerade: bool,
    mtu_bytes: Option<u32>,
    dns: Dns,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: u32,
    dns: Dns,
}

impl Device for PointToPoint {
    const TYPE: &'static str = "ptp";
    const KIND: Option<&'static str> = Some("veth");

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        masquerade_backend(written.ip_masq_backend.as_deref())?;
        Ok(Self { masquerade: written.ip_masq, mtu_bytes: mtu(written.mtu)?, dns: written.dns })
    }

    fn needs_addresses(&self) -> bool {
        true
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        work.record.host_interface = Some(host::veth_name()?);
        work.record.host_mac = Some(host::new_mac()?);
        work.record.mac = Some(mac_or_new(work.call, None)?);
        Ok(())
    }

    fn complete(&self, outcome: &mut Outcome) -> Result<()> {
        match outcome.ips.iter().find(|ip| ip.gateway.is_none()) {
            None => Ok(()),
            Some(ip) => Err(Error::new(Code::InvalidConfig, format!("{} has no gateway", ip.address))
                .details("ptp gives the host's end the gateway's address")),
        }
    }

    fn rules(&self, _: &Work<'_>, outcome: &Outcome) -> Vec<RuleElement> {
        let pods = outcome.ips.iter().filter(|_| self.masquerade);
        pods.map(|ip| RuleElement::Masquerade { address: ip.address }).collect()
    }

    fn make(&self, work: &mut Work<'_>) -> Result<Vec<Interface>> {
        create_veth(&mut work.socket, &work.record, work.netns, None, self.mtu_bytes)?;
        Ok(vec![host_end(work)])
    }

    fn setup(&self) -> Setup {
        Setup { by_gateway: true, ..Setup::default() }
    }

    /// The gateway's address on the host's end, and a route to the container by it.
    fn finish(&self, work: &mut Work<'_>, outcome: &Outcome) -> Result<()> {
        let Some(name) = &work.record.host_interface else { return Ok(()) };
        let device = link::by_name(&mut work.socket, name.as_str()).map_err(kernel)?.index;
        let mut requests = Vec::new();
        for ip in &outcome.ips {
            let container = NewRoute::new(IpNet::from(ip.address.addr()), None, device);
            requests
                .extend(ip.gateway.map(|gateway| addr::add(device, gateway.into(), addr::Flags::default())));
            requests.push(route::add(&container));
        }
        let answers = work.socket.batch(requests).map_err(kernel)?;
        answers.all().map_err(|error| kernel(error.on(name)))?;
        forward(outcome)
    }

    fn dns(&self) -> &Dns {
        &self.dns
    }
}
