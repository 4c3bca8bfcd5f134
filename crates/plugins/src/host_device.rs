//! An interface of the host's, lent to a container.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cni::{Code, Config, Dns, Error, Interface, Result};
use model::{Before, Link, MacAddr};
use netlink::Socket;
use netlink::link::{self, Change};
use serde::Deserialize;

use crate::host::{created, kernel};
use crate::interface::{Device, Work};

/// Drivers that give a device to a process instead of the kernel's network (DPDK): it has no interface.
const USERSPACE_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// The device.
pub(crate) struct HostDevice {
    which: Which,
    dns: Dns,
}

/// How the interface is named.
enum Which {
    Name(String),
    Mac(MacAddr),
    KernelPath(PathBuf),
    Pci(String),
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    device: String,
    hwaddr: String,
    kernelpath: String,
    #[serde(rename = "pciBusID")]
    pci: String,
    dns: Dns,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, message)
}

impl Device for HostDevice {
    const TYPE: &'static str = "host-device";
    const KIND: Option<&'static str> = None;

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        let given = config.capability("deviceID").and_then(|id| id.as_str()).unwrap_or_default();
        let pci = if given.is_empty() { written.pci } else { given.to_owned() };
        let which = if !written.device.is_empty() {
            let name: model::IfName =
                written.device.parse().map_err(|error| invalid("device is not valid").details(error))?;
            Which::Name(name.to_string())
        } else if !written.hwaddr.is_empty() {
            let mac = written.hwaddr.parse();
            Which::Mac(mac.map_err(|error| invalid("hwaddr is not valid").details(error))?)
        } else if !written.kernelpath.is_empty() {
            let path = PathBuf::from(written.kernelpath);
            let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
            if !path.starts_with("/sys/devices") || climbs {
                return Err(invalid("kernelpath is not valid").details("it has to be below /sys/devices"));
            }
            Which::KernelPath(path)
        } else if !pci.is_empty() {
            if !pci.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.') {
                return Err(invalid(format!("pciBusID {pci:?} is not valid")).details("0000:00:1f.6"));
            }
            Which::Pci(pci)
        } else {
            return Err(invalid("host-device needs one of device, hwaddr, kernelpath and pciBusID"));
        };
        Ok(Self { which, dns: written.dns })
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        if self.has_userspace_driver() {
            return Ok(());
        }
        let found = self.find(&mut work.socket)?;
        if found.loopback {
            return Err(invalid("the loopback interface cannot be lent"));
        }
        let name = found.name.parse().map_err(|error| {
            Error::new(Code::Internal, format!("{:?} has a name that cannot be restored", found.name))
                .details(error)
        })?;
        work.record.before = Some(Before {
            host_name: Some(name),
            host_index: Some(found.index),
            alias: found.alias,
            ..Before::default()
        });
        Ok(())
    }

    /// Moves, renames and stamps in one message: there is no moment at which a crash would leave it without a name to return to.
    fn make(&self, work: &mut Work<'_>) -> Result<Vec<Interface>> {
        let Some(index) = work.record.before.as_ref().and_then(|before| before.host_index) else {
            return Ok(Vec::new());
        };
        let ifname = &work.record.key.ifname;
        let alias = work.record.key.alias();
        let down = link::change(index, &Change { up: Some(false), ..Change::default() });
        let stamp = link::change(index, &Change { alias: Some(&alias), ..Change::default() });
        let there = Change { netns: Some(work.netns.as_fd()), name: Some(ifname), ..Change::default() };
        let answers = work.socket.batch(vec![down, stamp, link::change(index, &there)]).map_err(kernel)?;
        answers.all().map_err(|error| created(error, ifname, ifname))?;
        Ok(Vec::new())
    }

    fn dns(&self) -> &Dns {
        &self.dns
    }
}

impl HostDevice {
    fn has_userspace_driver(&self) -> bool {
        let Which::Pci(address) = &self.which else { return false };
        let driver = std::fs::read_link(Path::new("/sys/bus/pci/devices").join(address).join("driver"));
        driver.is_ok_and(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| USERSPACE_DRIVERS.contains(&name))
        })
    }

    fn find(&self, socket: &mut Socket) -> Result<Link> {
        let name = match &self.which {
            Which::Name(name) => name.clone(),
            Which::Mac(mac) => {
                let all = link::list(socket, None).map_err(kernel)?;
                let found = all.into_iter().find(|link| link.mac == Some(*mac));
                return found.ok_or_else(|| invalid(format!("no interface of this host has the MAC {mac}")));
            }
            Which::KernelPath(path) => first_interface(&path.join("net"))?,
            Which::Pci(address) => {
                let device = Path::new("/sys/bus/pci/devices").join(address);
                first_interface(&device.join("net")).or_else(|error| virtio(&device).ok_or(error))?
            }
        };
        link::by_name(socket, &name)
            .map_err(|error| invalid(format!("this host has no interface {name}")).details(error))
    }
}

/// The interface that a directory of sysfs names.
fn first_interface(directory: &Path) -> Result<String> {
    let missing = |why: String| invalid(format!("no interface in {}", directory.display())).details(why);
    let mut entries = std::fs::read_dir(directory).map_err(|error| missing(error.to_string()))?;
    let entry = entries.next().and_then(|entry| entry.ok()).ok_or_else(|| missing("it is empty".into()))?;
    entry.file_name().into_string().map_err(|_| missing("its name is not UTF-8".into()))
}

/// A virtio device has its interface one level further down.
fn virtio(device: &Path) -> Option<String> {
    let entries = std::fs::read_dir(device).ok()?.flatten();
    let mut devices = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"virtio"));
    devices.find_map(|entry| first_interface(&entry.path().join("net")).ok())
}
