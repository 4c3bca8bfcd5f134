//! A MAC of its own on an interface of the host's.

use cni::{Code, Config, Dns, Error, Interface, Result};
use netlink::device::{Kind, MacvlanMode};
use serde::Deserialize;

use crate::interface::{Device, Work, mac_or_new};
use crate::lower::{self, Lower};

/// The device.
pub(crate) struct Macvlan {
    lower: Lower,
    mode: MacvlanMode,
    mac: Option<String>,
    broadcast_queue: Option<u32>,
    dns: Dns,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    #[serde(flatten)]
    lower: lower::Written,
    mode: String,
    mac: Option<String>,
    bcqueuelen: u32,
    dns: Dns,
}

impl Device for Macvlan {
    const TYPE: &'static str = "macvlan";
    const KIND: Option<&'static str> = Some("macvlan");

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        let mode = match written.mode.as_str() {
            "" | "bridge" => MacvlanMode::Bridge,
            "private" => MacvlanMode::Private,
            "vepa" => MacvlanMode::Vepa,
            "passthru" => MacvlanMode::Passthru,
            other => {
                return Err(Error::new(Code::InvalidConfig, format!("macvlan mode {other:?} is not known"))
                    .details("bridge, private, vepa or passthru"));
            }
        };
        Ok(Self {
            lower: Lower::of(&written.lower)?,
            mode,
            mac: written.mac,
            broadcast_queue: Some(written.bcqueuelen).filter(|length| *length != 0),
            dns: written.dns,
        })
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        // In passthru mode the interface has the MAC of the one below.
        if self.mode != MacvlanMode::Passthru {
            work.record.mac = Some(mac_or_new(work.call, self.mac.as_deref())?);
        }
        Ok(())
    }

    fn make(&self, work: &mut Work<'_>) -> Result<Vec<Interface>> {
        let (mode, broadcast_queue) = (self.mode, self.broadcast_queue);
        let mac = work.record.mac;
        self.lower.make(work, mac, |lower| Kind::Macvlan { lower, mode, broadcast_queue })?;
        Ok(Vec::new())
    }

    fn dns(&self) -> &Dns {
        &self.dns
    }
}
