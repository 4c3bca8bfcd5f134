//! The frame of all plugins that make an interface in a container. What differs between them is a [`Device`].

use std::net::IpAddr;

use cni::{Call, Code, Config, Environment, Error, Interface, Outcome, Plugin, Result};
use model::{AttachmentKey, AttachmentRecord, Link, MacAddr, RuleElement};
use netlink::Socket;
use serde_json::Value;

use crate::container::{self, Setup};
use crate::host::{self, kernel};
use crate::ipam::{self, Ipam};
use crate::record::{self, Held};
use crate::undo::{undo, undo_described};
use crate::{
    Own,
    netns::{self, Container},
    rules,
};

/// A kind of interface, with its configuration.
pub(crate) trait Device: Sized {
    /// The plugin's type.
    const TYPE: &'static str;
    /// `IFLA_INFO_KIND` of the interface that it makes in the container; `None` if it makes none.
    const KIND: Option<&'static str>;

    /// Reads the plugin's configuration.
    fn of(config: &Config) -> Result<Self>;

    /// Completes the record with what is going to be made, before it is.
    fn plan(&self, work: &mut Work<'_>) -> Result<()>;

    /// Completes what the address manager said: gateways, routes.
    fn complete(&self, _: &mut Outcome) -> Result<()> {
        Ok(())
    }

    /// What the ruleset has to do for the attachment.
    fn rules(&self, _: &Work<'_>, _: &Outcome) -> Vec<RuleElement> {
        Vec::new()
    }

    /// Makes the interface, in the container's namespace. Returns the result's interfaces that are on the host.
    fn make(&self, work: &mut Work<'_>) -> Result<Vec<Interface>>;

    /// How the interface is set up.
    fn setup(&self) -> Setup {
        Setup::default()
    }

    /// What is left to do on the host once the interface is set up.
    fn finish(&self, _: &mut Work<'_>, _: &Outcome) -> Result<()> {
        Ok(())
    }

    /// Compares what is on the host with a result.
    fn check(&self, _: &Outcome) -> Result<()> {
        Ok(())
    }

    /// Whether the plugin makes no sense without addresses.
    fn needs_addresses(&self) -> bool {
        false
    }

    /// Settings of DNS that replace those of the address manager.
    fn dns(&self) -> &cni::Dns;
}

/// An ADD at work.
pub(crate) struct Work<'a> {
    /// The call.
    pub(crate) call: &'a Call,
    /// The container's namespace.
    pub(crate) netns: &'a Container,
    /// A socket on the host.
    pub(crate) socket: Socket,
    /// What is, or is about to be, made.
    pub(crate) record: AttachmentRecord,
    /// The bridge, once it was found or made.
    pub(crate) bridge: Option<Link>,
}

/// The plugin that makes interfaces of this kind.
pub(crate) struct Interfaces<D>(pub(crate) std::marker::PhantomData<fn() -> D>);

impl<D: Device> Plugin for Interfaces<D> {
    fn add(&self, call: &Call) -> Result<Outcome> {
        let (device, ipam) = read::<D>(call)?;
        let netns = netns::open(&call.invocation)?;
        let mut work = Work {
            call,
            netns: &netns,
            socket: Socket::route().map_err(kernel)?,
            record: record::new(call, D::TYPE, false, Some(&netns))?,
            bridge: None,
        };
        work.record.kind = D::KIND.map(str::to_owned);
        work.record.lease_dir = ipam.lease_dir();
        device.plan(&mut work)?;
        let mut held = record::begin(&work.record)?;
        match add(&device, &mut work, &ipam, &mut held) {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                // What failed is what the user has to hear of; what cannot be undone now, the record names.
                if undo_add(&work, &ipam).is_ok() {
                    let _ = held.end();
                }
                Err(error)
            }
        }
    }

    fn del(&self, call: &Call) -> Result<()> {
        let netns = netns::if_there(&call.invocation)?;
        let held = record::open(&record::key(call), None)?;
        let record = held.as_ref().and_then(|held| held.record.as_ref());
        // A configuration that ADD would refuse must not keep DEL from removing what there is.
        let ipam = Ipam::of(&call.config, None);
        let mut errors = Vec::new();
        let known = match record {
            Some(record) => record.addresses.clone().unwrap_or_default(),
            None => addresses(call.config.previous.as_ref()),
        };
        // Others' address managers first: dhcp says goodbye by the interface. Ours last: until everything that has the address is gone,
        // nobody else may get it.
        let is_own = ipam.as_ref().map_or(true, Ipam::is_own);
        let release = |errors: &mut Vec<Error>| {
            let released = ipam.as_ref().map_err(Clone::clone).and_then(|ipam| ipam.del(call, &known));
            errors.extend(released.err());
        };
        if !is_own {
            release(&mut errors);
        }
        match record {
            Some(record) => errors.extend(undo(record, netns.as_ref()).err()),
            None => errors.extend(del_unrecorded::<D>(call, netns.as_ref(), held.is_some()).err()),
        }
        if is_own {
            release(&mut errors);
        }
        // The record goes last: until then a failed DEL can be repeated by whoever finds it.
        if errors.is_empty() {
            errors.extend(held.and_then(|held| held.end().err()));
        }
        Error::all(errors)
    }

    fn check(&self, call: &Call) -> Result<()> {
        let device = D::of(&call.config)?;
        let netns = netns::open(&call.invocation)?;
        let previous = call.config.previous.clone().unwrap_or_default();
        Ipam::of(&call.config, None)?.check(call)?;
        device.check(&previous)?;
        rules::check(&record::key(call), None)?;
        let _entered = netns::enter(&netns)?;
        container::check(&call.invocation.ifname, device.setup(), D::KIND, &previous)
    }

    fn gc(&self, config: &Config, environment: &Environment) -> Result<()> {
        let valid = ipam::valid(config)?;
        let mut errors = Vec::new();
        for key in record::of_network(&config.network, None)? {
            if !valid.contains(&(key.container.clone(), key.ifname.clone())) {
                errors.extend(collect(&key).err());
            }
        }
        errors.extend(rules::collect(config, valid).err());
        errors.extend(Ipam::of(config, None).and_then(|ipam| ipam.gc(config, environment)).err());
        Error::all(errors)
    }

    fn status(&self, config: &Config, environment: &Environment) -> Result<()> {
        D::of(config)?;
        Ipam::of(config, None)?.status(config, environment)
    }
}

impl<D: Device> Own for Interfaces<D> {
    fn read(&self, call: &Call) -> Result<()> {
        read::<D>(call)?;
        requested_mac(call, None).map(drop)
    }
}

/// The device and the address manager that a call asks for.
fn read<D: Device>(call: &Call) -> Result<(D, Ipam)> {
    call.invocation.args.refuse_unknown(&["IP", "MAC", "GATEWAY"])?;
    let device = D::of(&call.config)?;
    let ipam = Ipam::of(&call.config, Some(&call.invocation.args))?;
    if device.needs_addresses() && matches!(ipam, Ipam::None) {
        return Err(Error::new(Code::InvalidConfig, format!("{} needs ipam", D::TYPE)));
    }
    Ok((device, ipam))
}

/// From the addresses to the result. An address manager of others may need the interface to get them by (dhcp); ours does not, and an
/// exhausted pool is better noticed before there is one.
fn add<D: Device>(device: &D, work: &mut Work<'_>, ipam: &Ipam, held: &mut Held) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if ipam.is_own() {
        outcome = lease(device, work, ipam, held)?;
    }
    let mut interfaces = device.make(work)?;
    if !ipam.is_own() {
        outcome = lease(device, work, ipam, held)?;
    }
    let inside = match D::KIND {
        None if work.record.before.is_none() => None,
        _ => {
            let _entered = netns::enter(work.netns)?;
            Some(container::configure(&work.record.key.ifname, device.setup(), &outcome)?)
        }
    };
    device.finish(work, &outcome)?;
    rules::add(&work.record, None)?;
    if let Some(inside) = inside {
        describe(work, &mut interfaces, &inside);
        let place = interfaces.len() - 1;
        outcome.ips.iter_mut().for_each(|ip| ip.interface = Some(place));
    }
    outcome.interfaces = interfaces;
    if !device.dns().is_empty() {
        outcome.dns = device.dns().clone();
    }
    Ok(outcome)
}

/// Gets addresses, and notes them and what follows from them in the record.
fn lease<D: Device>(device: &D, work: &mut Work<'_>, ipam: &Ipam, held: &mut Held) -> Result<Outcome> {
    let mut outcome = ipam.add(work.call)?.unwrap_or_default();
    work.record.addresses = Some(addresses(Some(&outcome)));
    device.complete(&mut outcome)?;
    work.record.rules = device.rules(work, &outcome);
    held.note(&work.record)?;
    Ok(outcome)
}

/// Adds the container's interface to those of the result. The ends of a veth have the same MTU.
fn describe(work: &Work<'_>, interfaces: &mut Vec<Interface>, inside: &Link) {
    let sandbox = work.record.netns.display().to_string();
    for interface in interfaces.iter_mut().filter(|interface| interface.mtu == 0) {
        interface.mtu = inside.mtu_bytes;
    }
    interfaces.push(Interface {
        name: inside.name.clone(),
        mac: inside.mac,
        mtu: inside.mtu_bytes,
        sandbox,
        ..Interface::default()
    });
}

/// Undoes a failed ADD. Without addresses it was the address manager that failed, and that has undone what it did.
fn undo_add(work: &Work<'_>, ipam: &Ipam) -> Result<()> {
    let release = || match &work.record.addresses {
        Some(leased) => ipam.del(work.call, leased),
        None => Ok(()),
    };
    // In the order of a DEL.
    match ipam.is_own() {
        true => undo(&work.record, Some(work.netns)).and(release()),
        false => release().and(undo(&work.record, Some(work.netns))),
    }
}

/// DEL of what has no record: the reference plugin made it, or the record is damaged.
fn del_unrecorded<D: Device>(call: &Call, netns: Option<&Container>, is_damaged: bool) -> Result<()> {
    let key = record::key(call);
    let mut errors = Vec::new();
    let previous = call.config.previous.as_ref();
    if let Some(kind) = D::KIND {
        errors.extend(undo_described(&key, kind, previous, netns).err());
    }
    let masquerades = call.config.raw.get("ipMasq").and_then(Value::as_bool).unwrap_or(false);
    if is_damaged {
        errors.extend(rules::remove_owned(&key).err());
    } else if masquerades {
        errors.extend(rules::remove_reference(&key, &[]).err());
    }
    Error::all(errors)
}

/// GC of one attachment: what DEL does, from the record alone. Whichever plugin the network had then made it.
fn collect(key: &AttachmentKey) -> Result<()> {
    let Some(held) = record::open(key, None)? else { return Ok(()) };
    let Held { record, .. } = &held;
    let Some(record) = record else {
        let path = record::path(key, None);
        return Err(Error::new(
            Code::Incomplete,
            format!("the record {} cannot be understood", path.display()),
        ));
    };
    undo(record, None)?;
    if let Some(data_dir) = record.lease_dir.as_ref().and_then(|dir| dir.parent()) {
        ipam::release(data_dir, key, record.addresses.as_deref())?;
    }
    held.end()
}

pub(crate) fn addresses(outcome: Option<&Outcome>) -> Vec<IpAddr> {
    outcome.into_iter().flat_map(|outcome| &outcome.ips).map(|ip| ip.address.addr()).collect()
}

/// The MAC that the container's interface has to have: `own` of the configuration, overruled by `CNI_ARGS`, `args.cni.mac` and
/// `runtimeConfig.mac`, in this order.
pub(crate) fn requested_mac(call: &Call, own: Option<&str>) -> Result<Option<MacAddr>> {
    let text = |value: &Value| match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Error::new(Code::InvalidConfig, "mac is not a string")),
    };
    let mut wanted = own.map(|mac| (mac.to_owned(), Code::InvalidConfig));
    if let Some(mac) = call.invocation.args.get("MAC") {
        wanted = Some((mac.to_owned(), Code::InvalidEnvironment));
    }
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

/// The requested MAC, or a new one: so the record knows it before the interface exists.
pub(crate) fn mac_or_new(call: &Call, own: Option<&str>) -> Result<MacAddr> {
    match requested_mac(call, own)? {
        Some(mac) => Ok(mac),
        None => host::new_mac(),
    }
}

/// An MTU of a configuration: 0 means none. IPv4 needs 68 bytes (RFC 791).
pub(crate) fn mtu(bytes: u32) -> Result<Option<u32>> {
    if bytes != 0 && !(68..=65535).contains(&bytes) {
        return Err(Error::new(Code::InvalidConfig, "mtu is not valid")
            .details("it has to be between 68 and 65535 bytes"));
    }
    Ok(Some(bytes).filter(|mtu| *mtu != 0))
}

/// `ipMasqBackend`: one implementation, in nftables, serves both; iptables-nft and nftables are the same kernel code.
pub(crate) fn masquerade_backend(backend: Option<&str>) -> Result<()> {
    match backend {
        None | Some("" | "iptables" | "nftables") => Ok(()),
        Some(other) => Err(Error::new(Code::InvalidConfig, "ipMasqBackend is not valid")
            .details(format!("{other:?} is neither iptables nor nftables"))),
    }
}
