//! Limits on how fast a container sends and receives.

use std::os::fd::AsFd;

use cni::{Call, Code, Config, Error, Interface, Result};
use ipnet::IpNet;
use model::{AttachmentRecord, IfIndex, Link};
use netlink::device::{self, Kind};
use netlink::link::{self, Change};
use netlink::qdisc::{self, Address, Limit, Subnets};
use netlink::{Request, Socket, nsid};
use serde::Deserialize;

use crate::chained::{Addition, Work};
use crate::host::{self, kernel};
use crate::{
    lower,
    netns::{self, Container},
};

/// Each is a filter that packets may have to pass.
const MOST_SUBNETS: usize = 256;

/// The addition.
pub(crate) struct Bandwidth {
    /// What the container receives: what the host's end sends.
    ingress: Option<Limit>,
    /// What it sends: led through an interface of its own (an ifb) to be limited there.
    egress: Option<Limit>,
    /// Whose packets are limited, where not all are.
    subnets: Option<Subnets>,
}

/// The configuration, or the runtime's capability argument, as it is written. Rates in bits a second, bursts in bits.
#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
    shaped_subnets: Vec<IpNet>,
    unshaped_subnets: Vec<IpNet>,
}

impl Written {
    fn has_rates(&self) -> bool {
        let all = [self.ingress_rate, self.ingress_burst, self.egress_rate, self.egress_burst];
        all.iter().any(|number| *number != 0)
    }

    fn subnets(self) -> Result<Option<Subnets>> {
        match (self.shaped_subnets, self.unshaped_subnets) {
            (shaped, unshaped) if shaped.is_empty() && unshaped.is_empty() => Ok(None),
            (shaped, unshaped) if !shaped.is_empty() && !unshaped.is_empty() => {
                Err(Error::new(Code::InvalidConfig, "shapedSubnets and unshapedSubnets exclude each other"))
            }
            (shaped, unshaped) => {
                let are_shaped = unshaped.is_empty();
                let list = if are_shaped { shaped } else { unshaped };
                if list.len() > MOST_SUBNETS {
                    let message = format!("there are more than {MOST_SUBNETS} subnets");
                    return Err(Error::new(Code::InvalidConfig, message)
                        .details("the kernel compares each packet with one after the other"));
                }
                Ok(Some(Subnets { list, are_shaped }))
            }
        }
    }
}

fn limit(what: &str, rate: u64, burst: u64) -> Result<Option<Limit>> {
    let invalid = |why: &str| {
        Error::new(Code::InvalidConfig, format!("{what}Rate and {what}Burst are not valid")).details(why)
    };
    match (rate, burst) {
        (0, 0) => Ok(None),
        (0, _) | (_, 0) => Err(invalid("either both are set or none")),
        (rate, burst) => match u32::try_from(burst / 8) {
            Ok(u32::MAX) | Err(_) => Err(invalid("a burst has to be less than 4 GiB")),
            // Less than a byte is no limit that could be kept.
            Ok(0) => Err(invalid("a burst is at least 8 bits")),
            _ if rate < 8 => Err(invalid("a rate is at least 8 bits a second")),
            Ok(burst) => Ok(Some(Limit { rate: rate / 8, burst })),
        },
    }
}

impl Addition for Bandwidth {
    const TYPE: &'static str = "bandwidth";

    fn of(config: &Config) -> Result<Self> {
        let mut written: Written = config.own()?;
        if !written.has_rates()
            && let Some(given) = config.capability("bandwidth")
        {
            let given = Written::deserialize(given).map_err(|error| {
                Error::new(Code::InvalidConfig, "runtimeConfig.bandwidth is not valid").details(error)
            })?;
            // Kubernetes knows rates only: which subnets they are about is for the configuration to say.
            let has_subnets = !given.shaped_subnets.is_empty() || !given.unshaped_subnets.is_empty();
            written = if has_subnets {
                given
            } else {
                let Written { shaped_subnets, unshaped_subnets, .. } = written;
                Written { shaped_subnets, unshaped_subnets, ..given }
            };
        }
        Ok(Self {
            ingress: limit("ingress", written.ingress_rate, written.ingress_burst)?,
            egress: limit("egress", written.egress_rate, written.egress_burst)?,
            subnets: written.subnets()?,
        })
    }

    fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        if self.egress.is_some() {
            let key = &work.record.key;
            // The reference plugin's name, so that either can remove what the other made.
            let name = ifb_name(key.network.as_str(), key.container.as_str());
            work.record.host_interface =
                Some(name.parse().map_err(|error| Error::new(Code::Internal, "a name").details(error))?);
            work.record.host_mac = Some(host::new_mac()?);
        }
        Ok(())
    }

    fn make(&self, work: &mut Work<'_>) -> Result<()> {
        let mut socket = Socket::route().map_err(kernel)?;
        let end = host_end(&mut socket, work)?;
        if let Some(ingress) = self.ingress {
            let answers = socket.batch(self.limiting(end.index, ingress, Address::Source)).map_err(kernel)?;
            answers.all().map_err(|error| kernel(error.on(&end.name)))?;
        }
        let (Some(egress), Some(name)) = (self.egress, &work.record.host_interface) else { return Ok(()) };
        let device = device::Device {
            name,
            kind: Kind::Ifb,
            mac: work.record.host_mac,
            mtu_bytes: Some(end.mtu_bytes),
            netns: None,
            up: true,
            index: None,
        };
        lower::make(&mut socket, &device)?;
        let ifb = link::by_name(&mut socket, name.as_str()).map_err(kernel)?;
        let alias = work.record.key.alias();
        let stamp = Change { alias: Some(&alias), tx_queue: Some(end.tx_queue), ..Change::default() };
        let [ingress, redirect] = qdisc::redirect(end.index, ifb.index);
        let mut requests = vec![link::change(ifb.index, &stamp)];
        requests.extend(self.limiting(ifb.index, egress, Address::Destination));
        requests.extend([ingress, redirect]);
        let answers = socket.batch(requests).map_err(kernel)?;
        answers.all().map_err(|error| kernel(error.on(format_args!("{} and {name}", end.name))))?;
        work.outcome.interfaces.push(Interface {
            name: ifb.name,
            mac: ifb.mac,
            mtu: ifb.mtu_bytes,
            ..Interface::default()
        });
        Ok(())
    }

    /// The reference plugin's ifb, where that made the limits.
    fn unmake(call: &Call, _: Option<&Container>, record: Option<&AttachmentRecord>) -> Result<()> {
        if record.is_some() {
            return Ok(());
        }
        let name = ifb_name(call.config.network.as_str(), call.invocation.container.as_str());
        let mut socket = Socket::route().map_err(kernel)?;
        match link::by_name(&mut socket, &name) {
            Ok(found) if found.kind == "ifb" && found.alias.is_none() => {
                socket.ack(link::delete(found.index)).map_err(kernel)
            }
            Ok(_) => Ok(()),
            Err(error) if error.is_gone() => Ok(()),
            Err(error) => Err(kernel(error)),
        }
    }

    fn check(&self, work: &Work<'_>) -> Result<()> {
        let mut socket = Socket::route().map_err(kernel)?;
        let end = host_end(&mut socket, work)?;
        let mut expected = vec![(end.name.clone(), end.index, self.ingress)];
        if self.egress.is_some() {
            let name = ifb_name(work.record.key.network.as_str(), work.record.key.container.as_str());
            let ifb = link::by_name(&mut socket, &name).map_err(|error| {
                Error::new(Code::CheckFailed, format!("there is no interface {name}")).details(error)
            })?;
            expected.push((name, ifb.index, self.egress));
        }
        for (name, index, wanted) in expected {
            let found = match self.subnets {
                None => qdisc::limit_of(&mut socket, index),
                Some(_) => qdisc::limit_of_some(&mut socket, index),
            };
            let found = found.map_err(kernel)?;
            if found.map(|limit| limit.rate) != wanted.map(|limit| limit.rate) {
                let show = |limit: Option<Limit>| {
                    limit.map_or("no limit".to_owned(), |limit| format!("{} bytes a second", limit.rate))
                };
                return Err(Error::new(Code::CheckFailed, format!("{name} has {}", show(found)))
                    .details(format!("wanted: {}", show(wanted))));
            }
        }
        Ok(())
    }
}

impl Bandwidth {
    /// Limits what the interface sends, or what it sends of the subnets: by the address of who the container talks to.
    fn limiting(&self, index: IfIndex, limit: Limit, address: Address) -> Vec<Request> {
        match &self.subnets {
            None => vec![qdisc::limit(index, limit)],
            Some(subnets) => qdisc::limit_some(index, limit, subnets, address),
        }
    }
}

fn ifb_name(network: &str, container: &str) -> String {
    model::reference::ifb_name(network, container)
}

/// The host's end of the container's veth: the one whose other end is the container's interface, in the container's namespace. An index
/// alone is unique inside one namespace only.
fn host_end(socket: &mut Socket, work: &Work<'_>) -> Result<Link> {
    let ifname = &work.record.key.ifname;
    let inside = {
        let _entered = netns::enter(&work.netns)?;
        let mut inside = Socket::route().map_err(kernel)?;
        link::by_name(&mut inside, ifname.as_str()).map_err(kernel)?
    };
    let missing = || {
        Error::new(Code::InvalidConfig, format!("{ifname} has no other end on the host"))
            .details("bandwidth can be chained to bridge and ptp")
    };
    let peer = inside.peer.ok_or_else(missing)?;
    let end = link::by_index(socket, peer.index, None).map_err(|_| missing())?;
    let there = nsid::of(socket, work.netns.as_fd()).map_err(kernel)?;
    let is_it = end.peer.is_some_and(|other| other.index == inside.index && other.nsid == there);
    if is_it { Ok(end) } else { Err(missing()) }
}
