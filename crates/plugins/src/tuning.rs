//! Sysctls of a container's namespace, and settings of its interface.

mod backup;

use std::collections::BTreeMap;

use cni::{Call, Code, Config, Error, Result};
use model::{AttachmentRecord, Before, IfName, Link, MacAddr};
use netlink::Socket;
use netlink::link::{self, Change};
use regex_lite::Regex;
use serde::Deserialize;

use crate::chained::{Addition, Work};
use crate::host::kernel;
use crate::interface::requested_mac;
use crate::netns::{self, Container};

/// Sysctls that an administrator allows, a regular expression a line. Without the file, all of net are allowed.
const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";

/// The addition.
pub(crate) struct Tuning {
    /// By slashed name, in which IFNAME stands for the interface.
    sysctls: BTreeMap<String, String>,
    mac: Option<String>,
    mtu_bytes: Option<u32>,
    promiscuous: bool,
    all_multicast: Option<bool>,
    tx_queue: Option<u32>,
}

/// The configuration as it is written; `args.cni` may have the same.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    sysctl: Option<BTreeMap<String, String>>,
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_queue: Option<u32>,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, message)
}

/// `net.ipv4.conf.eth0/1.rp_filter`, as sysctl(8) has it: dots separate, unless there are slashes.
fn slashed(name: &str) -> Result<String> {
    let path = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name.to_owned(),
        _ => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    let is_clean = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !path.starts_with("net/") || !is_clean || path.contains(['\0', '\n']) {
        let name: String = name.chars().take(80).collect();
        return Err(invalid(format!("sysctl {name:?} is not one of net")));
    }
    Ok(path)
}

/// Whether the administrator's list has the sysctl, by either spelling.
fn check_allowlist(names: &BTreeMap<String, String>) -> Result<()> {
    let text = match std::fs::read_to_string(ALLOWLIST) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => {
            text.map_err(|error| Error::new(Code::Io, format!("cannot read {ALLOWLIST}")).details(error))?
        }
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let patterns = lines.map(Regex::new).collect::<std::result::Result<Vec<_>, _>>();
    let patterns = patterns.map_err(|error| invalid(format!("{ALLOWLIST} is not valid")).details(error))?;
    match names.keys().find(|name| patterns.iter().all(|pattern| !pattern.is_match(name))) {
        None => Ok(()),
        Some(name) => Err(invalid(format!("sysctl {name:?} is not allowed on this node"))
            .details(format!("{ALLOWLIST} does not have it"))),
    }
}

impl Addition for Tuning {
    const TYPE: &'static str = "tuning";

    fn of(config: &Config) -> Result<Self> {
        let own: Written = config.own()?;
        let args = config.raw.get("args").and_then(|args| args.get("cni")).filter(|args| args.is_object());
        let given = args.map(Written::deserialize).transpose();
        let given =
            given.map_err(|error| invalid("args.cni is not valid").details(error))?.unwrap_or_default();
        let mut written = own.sysctl.unwrap_or_default();
        written.extend(given.sysctl.unwrap_or_default());
        check_allowlist(&written)?;
        let mut sysctls = BTreeMap::new();
        for (name, value) in written {
            if sysctls.insert(slashed(&name)?, value).is_some() {
                return Err(invalid(format!("sysctl {name:?} is given twice")));
            }
        }
        let promisc = given.promisc.or(own.promisc).unwrap_or(false);
        Ok(Self {
            sysctls,
            mac: own.mac,
            mtu_bytes: crate::interface::mtu(given.mtu.or(own.mtu).unwrap_or(0))?,
            promiscuous: promisc,
            all_multicast: given.allmulti.or(own.allmulti),
            tx_queue: given.tx_queue.or(own.tx_queue),
        })
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        let mac = self.mac(work)?;
        if !self.changes_interface(mac) {
            return Ok(());
        }
        let ifname = work.record.key.ifname.clone();
        let found = {
            let _entered = netns::enter(&work.netns)?;
            interface(&mut Socket::route().map_err(kernel)?, &ifname)?
        };
        work.record.before = Some(Before {
            mac: mac.and(found.mac),
            mtu_bytes: self.mtu_bytes.map(|_| found.mtu_bytes),
            promiscuous: self.promiscuous.then_some(found.promiscuous),
            all_multicast: self.all_multicast.map(|_| found.all_multicast),
            tx_queue: self.tx_queue.map(|_| found.tx_queue),
            ..Before::default()
        });
        Ok(())
    }

    fn make(&self, work: &mut Work<'_>) -> Result<()> {
        let ifname = work.record.key.ifname.clone();
        let mac = self.mac(work)?;
        let _entered = netns::enter(&work.netns)?;
        for (name, value) in &self.sysctls {
            let name = name.replacen("IFNAME", ifname.as_str(), 1);
            sys::write_sysctl(&name, value).map_err(|error| {
                Error::new(Code::Io, format!("cannot set sysctl {name} to {value:?}")).details(error)
            })?;
        }
        if !self.changes_interface(mac) {
            return Ok(());
        }
        let mut socket = Socket::route().map_err(kernel)?;
        let found = interface(&mut socket, &ifname)?;
        let change = Change {
            mac,
            mtu_bytes: self.mtu_bytes,
            promisc: self.promiscuous.then_some(true),
            all_multicast: self.all_multicast,
            tx_queue: self.tx_queue,
            ..Change::default()
        };
        socket.ack(link::change(found.index, &change)).map_err(|error| kernel(error.on(&ifname)))?;
        let own = work.outcome.interfaces.iter_mut();
        for interface in own.filter(|own| own.name == ifname.as_str() && !own.sandbox.is_empty()) {
            interface.mac = mac.or(interface.mac);
            interface.mtu = self.mtu_bytes.unwrap_or(interface.mtu);
        }
        Ok(())
    }

    /// Restores what the reference plugin changed, where that made the attachment.
    fn unmake(call: &Call, netns: Option<&Container>, record: Option<&AttachmentRecord>) -> Result<()> {
        if record.is_some() { Ok(()) } else { backup::restore(call, netns) }
    }

    fn check(&self, work: &Work<'_>) -> Result<()> {
        let failed = |text: String| Err(Error::new(Code::CheckFailed, text));
        let ifname = &work.record.key.ifname;
        let _entered = netns::enter(&work.netns)?;
        for (name, wanted) in &self.sysctls {
            let name = name.replacen("IFNAME", ifname.as_str(), 1);
            let found = sys::read_sysctl(&name).map_err(|error| {
                Error::new(Code::CheckFailed, format!("cannot read sysctl {name}")).details(error)
            })?;
            // The kernel separates several values with tabs.
            if !found.split_whitespace().eq(wanted.split_whitespace()) {
                return failed(format!("sysctl {name} is {found:?}, not {wanted:?}"));
            }
        }
        let found = interface(&mut Socket::route().map_err(kernel)?, ifname)?;
        let mac = self.mac(work)?;
        if mac.is_some() && found.mac != mac {
            return failed(format!("{ifname} has another MAC"));
        }
        if self.mtu_bytes.is_some_and(|mtu| mtu != found.mtu_bytes) {
            return failed(format!("{ifname} has an MTU of {} bytes", found.mtu_bytes));
        }
        if self.promiscuous && !found.promiscuous {
            return failed(format!("{ifname} is not promiscuous"));
        }
        if self.all_multicast.is_some_and(|on| on != found.all_multicast) {
            return failed(format!("{ifname} has allmulti {}", found.all_multicast));
        }
        if self.tx_queue.is_some_and(|length| length != found.tx_queue) {
            return failed(format!("{ifname} has a queue of {} packets", found.tx_queue));
        }
        Ok(())
    }
}

impl Tuning {
    fn mac(&self, work: &Work<'_>) -> Result<Option<MacAddr>> {
        requested_mac(work.call, self.mac.as_deref())
    }

    fn changes_interface(&self, mac: Option<MacAddr>) -> bool {
        mac.is_some()
            || self.mtu_bytes.is_some()
            || self.promiscuous
            || self.all_multicast.is_some()
            || self.tx_queue.is_some()
    }
}

/// The interface, in the calling thread's namespace.
fn interface(socket: &mut Socket, ifname: &IfName) -> Result<Link> {
    link::by_name(socket, ifname.as_str()).map_err(|error| {
        Error::new(Code::Internal, format!("the container has no interface {ifname}")).details(error)
    })
}
