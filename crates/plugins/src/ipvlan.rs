//! Addresses of its own with the MAC of an interface of the host's.

use cni::{Code, Config, Dns, Error, Interface, Outcome, Result};
use netlink::device::{IpvlanMode, Kind};
use serde::Deserialize;

use crate::interface::{Device, Work};
use crate::lower::{self, Lower};

/// The device.
pub(crate) struct Ipvlan {
    lower: Lower,
    mode: IpvlanMode,
    dns: Dns,
    /// The addresses that a plugin before this one got, where there is no address manager.
    given: Option<Outcome>,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    #[serde(flatten)]
    lower: lower::Written,
    mode: String,
    dns: Dns,
}

impl Device for Ipvlan {
    const TYPE: &'static str = "ipvlan";
    const KIND: Option<&'static str> = Some("ipvlan");

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        let mode = match written.mode.as_str() {
            "" | "l2" => IpvlanMode::L2,
            "l3" => IpvlanMode::L3,
            "l3s" => IpvlanMode::L3s,
            other => {
                return Err(Error::new(Code::InvalidConfig, format!("ipvlan mode {other:?} is not known"))
                    .details("l2, l3 or l3s"));
            }
        };
        let has_ipam = config.raw.get("ipam").and_then(|ipam| ipam.get("type")).is_some();
        let given = config.previous.clone().filter(|_| !has_ipam);
        Ok(Self { lower: Lower::of(&written.lower)?, mode, dns: written.dns, given })
    }

    fn plan(&self, _: &mut Work<'_>) -> Result<()> {
        Ok(())
    }

    fn complete(&self, outcome: &mut Outcome) -> Result<()> {
        if let Some(given) = &self.given {
            *outcome = given.clone();
        }
        Ok(())
    }

    fn make(&self, work: &mut Work<'_>) -> Result<Vec<Interface>> {
        let mode = self.mode;
        self.lower.make(work, None, |lower| Kind::Ipvlan { lower, mode })?;
        Ok(Vec::new())
    }

    fn dns(&self) -> &Dns {
        &self.dns
    }
}
