//! Containers on a bridge, each by a veth.

mod container;
mod host;
mod settings;

use std::net::IpAddr;

use cni::{Call, Code, Config, Environment, Error, Interface, Outcome, Plugin, Result};
use ipnet::IpNet;
use model::{AttachmentKey, AttachmentRecord, IfName, Link, MacAddr, Timestamp};
use netlink::{Socket, link};
use sys::NetNs;

use self::host::kernel;
use self::settings::Settings;
use crate::ipam::{self, Ipam};
use crate::netns;
use crate::record::{self, Held};
use crate::removal::{Doomed, Removal};

/// The plugin.
pub(crate) struct Bridge;

fn key(call: &Call) -> AttachmentKey {
    AttachmentKey {
        network: call.config.network.clone(),
        container: call.invocation.container.clone(),
        ifname: call.invocation.ifname.clone(),
    }
}

impl Plugin for Bridge {
    fn add(&self, call: &Call) -> Result<Outcome> {
        call.invocation.args.refuse_unknown(&["IP", "MAC", "GATEWAY"])?;
        let settings = Settings::of(&call.config)?;
        let ipam = Ipam::of(&call.config, Some(&call.invocation.args))?;
        let mac = match settings::requested_mac(call)? {
            Some(mac) => mac,
            None => host::new_mac()?,
        };
        let netns = netns::open(&call.invocation)?;
        let leased = ipam.add(call)?;
        let known: Vec<IpAddr> =
            leased.iter().flat_map(|leased| &leased.ips).map(|ip| ip.address.addr()).collect();
        let result = Addition { call, settings: &settings, netns: &netns, mac }.wire(leased, &ipam);
        if result.is_err() {
            // What failed is what the user has to hear of; a lease that stays is found by its content.
            let _ = ipam.del(call, &known);
        }
        result
    }

    fn del(&self, call: &Call) -> Result<()> {
        let netns = netns::if_there(&call.invocation)?;
        let held = record::open(&key(call))?;
        let mut errors = Vec::new();
        // A configuration that ADD would refuse must not keep DEL from removing what there is.
        let ipam = Ipam::of(&call.config, None);
        let mut known = addresses(call.config.previous.as_ref());
        let record = held.as_ref().and_then(|held| held.record.clone());
        if let Some(record) = &record {
            known = record.addresses.clone();
        }
        let previous = call.config.previous.as_ref();
        errors.extend(unwire(&key(call), record.as_ref(), previous, netns.as_ref()).err());
        match ipam.and_then(|ipam| ipam.del(call, &known)) {
            Err(error) => errors.push(error),
            // The record goes last: until then a failed DEL can be repeated by whoever finds it.
            Ok(()) if errors.is_empty() => errors.extend(held.and_then(|held| held.end().err())),
            Ok(()) => {}
        }
        Error::all(errors)
    }

    fn check(&self, call: &Call) -> Result<()> {
        let settings = Settings::of(&call.config)?;
        let netns = netns::open(&call.invocation)?;
        let previous = call.config.previous.clone().unwrap_or_default();
        Ipam::of(&call.config, None)?.check(call)?;
        check_host(&settings, &previous)?;
        let _entered =
            netns.enter().map_err(|error| Error::new(Code::InvalidNetns, "cannot enter").details(error))?;
        container::check(&call.invocation.ifname, &settings, &previous)
    }

    fn gc(&self, config: &Config, environment: &Environment) -> Result<()> {
        let valid = ipam::valid(config)?;
        let mut errors = Vec::new();
        for key in record::of_network(&config.network)? {
            if valid.contains(&(key.container.clone(), key.ifname.clone())) {
                continue;
            }
            match collect(&key) {
                Ok(()) => {}
                Err(error) => errors.push(error),
            }
        }
        errors.extend(Ipam::of(config, None).and_then(|ipam| ipam.gc(config, environment)).err());
        Error::all(errors)
    }

    fn status(&self, config: &Config, environment: &Environment) -> Result<()> {
        Settings::of(config)?;
        Ipam::of(config, None)?.status(config, environment)
    }
}

fn addresses(outcome: Option<&Outcome>) -> Vec<IpAddr> {
    outcome.into_iter().flat_map(|outcome| &outcome.ips).map(|ip| ip.address.addr()).collect()
}

/// An ADD, once it has addresses.
struct Addition<'a> {
    call: &'a Call,
    settings: &'a Settings,
    netns: &'a NetNs,
    mac: MacAddr,
}

impl Addition<'_> {
    /// Record, kernel, result; what a failed step leaves is removed again.
    fn wire(&self, leased: Option<Outcome>, ipam: &Ipam) -> Result<Outcome> {
        let key = key(self.call);
        let mut outcome = leased.unwrap_or_default();
        self.gateways(&mut outcome);
        let nets: Vec<IpNet> = match self.settings.masquerade {
            true => outcome.ips.iter().map(|ip| ip.address).collect(),
            false => Vec::new(),
        };
        let (host_name, host_mac) = (host_name()?, host::new_mac()?);
        let record = AttachmentRecord {
            version: AttachmentRecord::VERSION,
            key: key.clone(),
            boot_id: sys::boot_id().map_err(|error| Error::new(Code::Io, "no boot id").details(error))?,
            netns: self.call.invocation.netns.clone().unwrap_or_default(),
            ns_id: self.netns.id(),
            ns_inode: self.netns.inode().ok(),
            host_interface: Some(host_name.clone()),
            host_index: None,
            host_mac: Some(host_mac),
            bridge: Some(self.settings.bridge.clone()),
            lease_dir: ipam.lease_dir(),
            addresses: addresses(Some(&outcome)),
            masqueraded: nets.clone(),
            pod: self.call.invocation.args.pod(),
            created: Timestamp::now(),
            seen: None,
        };
        let held = record::begin(&record)?;
        match self.kernel(&key, &mut outcome, (&host_name, host_mac), &nets) {
            Ok(()) => Ok(outcome),
            Err(error) => {
                if unwire(&key, Some(&record), None, None).is_ok() {
                    let _ = held.end();
                }
                Err(error)
            }
        }
    }

    /// Fills in gateways and the default route, as `isGateway` and `isDefaultGateway` ask for.
    fn gateways(&self, outcome: &mut Outcome) {
        for ip in &mut outcome.ips {
            if self.settings.is_gateway && ip.gateway.is_none() {
                ip.gateway = ip.address.hosts().next();
            }
        }
        if !self.settings.is_default_gateway {
            return;
        }
        for is_v4 in [true, false] {
            let gateway = outcome
                .ips
                .iter()
                .filter(|ip| ip.address.addr().is_ipv4() == is_v4)
                .find_map(|ip| ip.gateway);
            let everywhere: IpAddr = if is_v4 { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
            let Ok(dst) = IpNet::new(everywhere, 0) else { continue };
            let has_own = outcome.routes.iter().any(|route| route.dst == dst && route.gw.is_some());
            if let Some(gw) = gateway.filter(|_| !has_own) {
                outcome.routes.retain(|route| route.dst != dst);
                let unset = cni::Route {
                    dst,
                    gw: Some(gw),
                    mtu: None,
                    advmss: None,
                    priority: None,
                    table: None,
                    scope: None,
                };
                outcome.routes.push(unset);
            }
        }
    }

    fn kernel(
        &self,
        key: &AttachmentKey,
        outcome: &mut Outcome,
        host: (&IfName, MacAddr),
        nets: &[IpNet],
    ) -> Result<()> {
        let mut socket = Socket::route().map_err(kernel)?;
        let bridge = host::bridge(&mut socket, self.settings)?;
        if self.settings.is_gateway {
            for ip in &outcome.ips {
                if let Some(Ok(gateway)) =
                    ip.gateway.map(|gateway| IpNet::new(gateway, ip.address.prefix_len()))
                {
                    host::gateway(&mut socket, self.settings, &bridge, gateway)?;
                }
            }
        }
        host::veth(&mut socket, self.settings, &bridge, key, host, (self.mac, self.netns))?;
        let entered = self.netns.enter();
        let entered =
            entered.map_err(|error| Error::new(Code::InvalidNetns, "cannot enter").details(error))?;
        let inside = container::configure(&key.ifname, self.settings, outcome)?;
        drop(entered);
        if self.settings.is_gateway {
            for is_v4 in [true, false] {
                if outcome.ips.iter().any(|ip| ip.address.addr().is_ipv4() == is_v4) {
                    host::forward(is_v4)?;
                }
            }
        }
        if !nets.is_empty() {
            nft::masquerade::add(nets).map_err(kernel)?;
        }
        self.describe(outcome, &bridge, host, &inside);
        Ok(())
    }

    /// The interfaces of the result: bridge, host end, container's.
    fn describe(&self, outcome: &mut Outcome, bridge: &Link, host: (&IfName, MacAddr), inside: &Link) {
        let interface = |name: &str, mac, mtu: u32, sandbox: String| Interface {
            name: name.to_owned(),
            mac,
            mtu,
            sandbox,
            ..Interface::default()
        };
        let sandbox =
            self.call.invocation.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        outcome.interfaces = vec![
            interface(&bridge.name, bridge.mac, bridge.mtu_bytes, String::new()),
            interface(host.0.as_str(), Some(host.1), inside.mtu_bytes, String::new()),
            interface(&inside.name, inside.mac, inside.mtu_bytes, sandbox),
        ];
        outcome.ips.iter_mut().for_each(|ip| ip.interface = Some(2));
        if !self.settings.dns.is_empty() {
            outcome.dns = self.settings.dns.clone();
        }
    }
}

/// `veth` and eight random hexadecimal digits, as the reference plugins name theirs.
fn host_name() -> Result<IfName> {
    let random = sys::random().map_err(|error| Error::new(Code::Io, "no random numbers").details(error))?;
    let name = format!("veth{:08x}", u32::from_ne_bytes(random));
    name.parse().map_err(|error| Error::new(Code::Internal, "a name").details(error))
}

/// Removes what an attachment has in the kernel: nftables elements, then the veth.
///
/// It is found by whatever is known: the record and the stamp, the container's interface, the previous result.
fn unwire(
    key: &AttachmentKey,
    record: Option<&AttachmentRecord>,
    previous: Option<&Outcome>,
    netns: Option<&NetNs>,
) -> Result<()> {
    let mut removal = Removal::default();
    if let Some(record) = record.filter(|record| !record.masqueraded.is_empty()) {
        removal.nft = Some(stop_masquerading(record)?);
    }
    let mut socket = Socket::route().map_err(kernel)?;
    let stamped = record.and_then(|record| record.host_interface.as_ref());
    if let Some(host) = stamped.map(|name| link::by_name(&mut socket, name.as_str())) {
        match host {
            Ok(host) if is_ours(&host, key, record) => {
                removal.link = Some(Doomed::here(host.index).map_err(kernel)?)
            }
            Ok(_) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(kernel(error)),
        }
    }
    // At the path there may be another namespace by now, with an interface of the same name.
    let same =
        |netns: &&NetNs| record.is_none_or(|record| record.ns_id.is_none() || record.ns_id == netns.id());
    if let (None, Some(netns)) = (&removal.link, netns.filter(same)) {
        let _entered =
            netns.enter().map_err(|error| Error::new(Code::InvalidNetns, "cannot enter").details(error))?;
        let mut inside = Socket::route().map_err(kernel)?;
        match link::by_name(&mut inside, key.ifname.as_str()) {
            // Only what this plugin makes: another kind of the same name is somebody else's.
            Ok(link) if link.kind == "veth" && is_described(&link, key, previous) => {
                removal.link = Some(Doomed::here(link.index).map_err(kernel)?);
            }
            Ok(_) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(kernel(error)),
        }
    }
    if removal.link.is_none() {
        let ends = previous.into_iter().flat_map(|previous| &previous.interfaces);
        for end in ends.filter(|end| end.sandbox.is_empty() && end.mac.is_some()) {
            match link::by_name(&mut socket, &end.name) {
                Ok(link) if link.kind == "veth" && link.mac == end.mac => {
                    removal.link = Some(Doomed::here(link.index).map_err(kernel)?);
                }
                _ => {}
            }
        }
    }
    removal.carry_out().map_err(kernel)
}

/// Whether the container's interface is the one of the previous result, where that tells its MAC.
fn is_described(link: &Link, key: &AttachmentKey, previous: Option<&Outcome>) -> bool {
    let ends = previous.into_iter().flat_map(|previous| &previous.interfaces);
    let mut own = ends.filter(|end| end.name == key.ifname.as_str() && !end.sandbox.is_empty());
    own.next().is_none_or(|end| end.mac.is_none() || end.mac == link.mac)
}

/// Removes the attachment's addresses from the masquerade set, but not one that was leased to somebody else since: a DEL may
/// be repeated long after its lease was released. The leases are locked meanwhile, so that none is given to anybody.
fn stop_masquerading(record: &AttachmentRecord) -> Result<Socket> {
    let mut socket = Socket::netfilter().map_err(kernel)?;
    let io = |error: ::ipam::StoreError| Error::new(Code::Io, "cannot use the leases").details(error);
    let store = match record.lease_dir.as_ref().and_then(|dir| dir.parent()) {
        Some(data_dir) => match ::ipam::Store::open(data_dir, &record.key.network) {
            Ok(store) => Some(store),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(io(error)),
        },
        None => None,
    };
    let mut own = Vec::new();
    for net in &record.masqueraded {
        let lease = match &store {
            Some(store) => store.lease(net.addr()).map_err(io)?,
            None => None,
        };
        if lease.is_none_or(|lease| lease.belongs_to(&record.key.container, &record.key.ifname)) {
            own.push(*net);
        }
    }
    if !own.is_empty() {
        nft::masquerade::remove_with(&mut socket, &own).map_err(kernel)?;
    }
    Ok(socket)
}

/// Whether a host interface is the attachment's: by its stamp, or, where a crash came before the stamp, by its MAC.
fn is_ours(link: &Link, key: &AttachmentKey, record: Option<&AttachmentRecord>) -> bool {
    match link.alias.as_deref() {
        Some(alias) => alias == key.alias(),
        None => {
            link.kind == "veth"
                && link.mac.is_some()
                && record.is_some_and(|record| record.host_mac == link.mac)
        }
    }
}

/// GC of one attachment: what DEL does, from the record alone.
fn collect(key: &AttachmentKey) -> Result<()> {
    let Some(held) = record::open(key)? else { return Ok(()) };
    let Held { record, .. } = &held;
    let Some(record) = record else {
        return Err(Error::new(
            Code::Incomplete,
            format!("the record {} cannot be understood", record::path(key).display()),
        ));
    };
    unwire(key, Some(record), None, None)?;
    if let Some(store) = record.lease_dir.as_ref().and_then(|dir| dir.parent()) {
        let released = match ::ipam::Store::open(store, &key.network) {
            Ok(store) => {
                let release = |address: &IpAddr| store.release(*address, &key.container, &key.ifname);
                record.addresses.iter().try_for_each(|address| release(address).map(drop))
            }
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        };
        released.map_err(|error| Error::new(Code::Io, "cannot release an address").details(error))?;
    }
    held.end()
}

/// Compares bridge and host end with a result.
fn check_host(settings: &Settings, previous: &Outcome) -> Result<()> {
    let failed = |text: String| Error::new(Code::CheckFailed, text);
    let mut socket = Socket::route().map_err(kernel)?;
    let bridge = link::by_name(&mut socket, settings.bridge.as_str())
        .map_err(|error| failed(format!("there is no bridge {}", settings.bridge)).details(error))?;
    let ends = previous.interfaces.iter().filter(|end| end.sandbox.is_empty() && end.name != bridge.name);
    for end in ends {
        let link = link::by_name(&mut socket, &end.name)
            .map_err(|error| failed(format!("the host has no interface {}", end.name)).details(error))?;
        if link.master != Some(bridge.index) {
            return Err(failed(format!("{} is not a port of {}", end.name, bridge.name)));
        }
        if end.mac.is_some() && link.mac != end.mac {
            return Err(failed(format!("{} has another MAC than the result says", end.name)));
        }
    }
    Ok(())
}
