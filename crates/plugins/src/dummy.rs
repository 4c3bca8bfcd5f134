//! An interface that takes everything and sends nothing: for addresses that services listen on.

use std::os::fd::AsFd;

use cni::{Config, Dns, Interface, Result};
use netlink::device::{self, Kind};

use crate::interface::{Device, Work};
use crate::lower;

/// The device.
pub(crate) struct Dummy {
    dns: Dns,
}

/// The configuration as it is written.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Written {
    dns: Dns,
}

impl Device for Dummy {
    const TYPE: &'static str = "dummy";
    const KIND: Option<&'static str> = Some("dummy");

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        Ok(Self { dns: written.dns })
    }

    fn needs_addresses(&self) -> bool {
        true
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        work.record.mac = Some(crate::host::new_mac()?);
        Ok(())
    }

    fn make(&self, work: &mut Work<'_>) -> Result<Vec<Interface>> {
        let device = device::Device {
            name: &work.record.key.ifname,
            kind: Kind::Dummy,
            mac: work.record.mac,
            mtu_bytes: None,
            netns: Some(work.netns.as_fd()),
            up: false,
            index: None,
        };
        lower::make(&mut work.socket, &device)?;
        Ok(Vec::new())
    }

    fn dns(&self) -> &Dns {
        &self.dns
    }
}
