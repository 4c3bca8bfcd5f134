//! Containers on a bridge, each by a veth.

mod port;
mod settings;

use cni::{Config, Interface, Outcome, Result};
use ipnet::IpNet;
use model::{Link, RuleElement};

use self::settings::Settings;
use crate::announce::announce;
use crate::container::Setup;
use crate::host::{self, create_veth};
use crate::interface::{Device, Work, addresses, mac_or_new};
use crate::{gateway, host::forward};

/// The device.
pub(crate) struct Bridge(Settings);

impl Device for Bridge {
    const TYPE: &'static str = "bridge";
    const KIND: Option<&'static str> = Some("veth");

    fn of(config: &Config) -> Result<Self> {
        Settings::of(config).map(Self)
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        work.record.host_interface = Some(host::veth_name()?);
        work.record.host_mac = Some(host::new_mac()?);
        work.record.mac = Some(mac_or_new(work.call, None)?);
        work.record.bridge = Some(self.0.bridge.clone());
        Ok(())
    }

    fn complete(&self, outcome: &mut Outcome) -> Result<()> {
        if self.0.is_gateway {
            gateway::fill_in(outcome);
        }
        if self.0.is_default_gateway {
            gateway::make_default(outcome);
        }
        Ok(())
    }

    fn rules(&self, work: &Work<'_>, outcome: &Outcome) -> Vec<RuleElement> {
        let pods = outcome.ips.iter().filter(|_| self.0.masquerade);
        let mut rules: Vec<RuleElement> =
            pods.map(|ip| RuleElement::Masquerade { address: ip.address }).collect();
        let ends = (work.record.host_interface.clone(), work.record.mac);
        if let (true, (Some(interface), Some(mac))) = (self.0.check_source, ends) {
            rules.push(RuleElement::Source { interface, mac });
        }
        rules
    }

    fn make(&self, work: &mut Work<'_>) -> Result<Vec<Interface>> {
        let bridge = port::bridge(&mut work.socket, &self.0)?;
        create_veth(&mut work.socket, &work.record, work.netns, Some(bridge.index), self.0.mtu_bytes)?;
        port::configure(&mut work.socket, &self.0, work.record.host_interface.as_ref())?;
        let interfaces = vec![on_host(&bridge), host_end(work)];
        work.bridge = Some(bridge);
        Ok(interfaces)
    }

    fn setup(&self) -> Setup {
        Setup {
            down: self.0.container_interface_down,
            detect_duplicates: self.0.detect_duplicates,
            by_gateway: false,
        }
    }

    fn finish(&self, work: &mut Work<'_>, outcome: &Outcome) -> Result<()> {
        let Some(bridge) = work.bridge.take() else { return Ok(()) };
        // In a VLAN of its own, it is another's neighbour than the bridge's.
        if let (Some(mac), None, false) = (work.record.mac, self.0.vlan, self.0.container_interface_down) {
            announce(&mut work.socket, bridge.index, mac, &addresses(Some(outcome)));
        }
        if !self.0.is_gateway {
            return Ok(());
        }
        let gateway = port::gateway_interface(&mut work.socket, &self.0, bridge)?;
        for ip in &outcome.ips {
            let address = ip.gateway.map(|gateway| IpNet::new(gateway, ip.address.prefix_len()));
            if let Some(Ok(address)) = address {
                port::give_address(&mut work.socket, &self.0, &gateway, address)?;
            }
        }
        forward(outcome)
    }

    fn check(&self, previous: &Outcome) -> Result<()> {
        port::check(&self.0, previous)
    }

    fn dns(&self) -> &cni::Dns {
        &self.0.dns
    }
}

fn on_host(link: &Link) -> Interface {
    Interface { name: link.name.clone(), mac: link.mac, mtu: link.mtu_bytes, ..Interface::default() }
}

/// The host's end of the veth that the record announced. Its MTU is the container's.
pub(crate) fn host_end(work: &Work<'_>) -> Interface {
    let name = work.record.host_interface.as_ref().map(ToString::to_string);
    Interface { name: name.unwrap_or_default(), mac: work.record.host_mac, ..Interface::default() }
}
