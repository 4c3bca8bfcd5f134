//! An 802.1Q VLAN of an interface of the host's.

use cni::{Code, Config, Dns, Error, Interface, Result};
use netlink::device::Kind;
use serde::Deserialize;

use crate::interface::{Device, Work};
use crate::lower::{self, Lower};

/// The device.
pub(crate) struct Vlan {
    lower: Lower,
    id: u16,
    dns: Dns,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    #[serde(flatten)]
    lower: lower::Written,
    vlan_id: i64,
    dns: Dns,
}

impl Device for Vlan {
    const TYPE: &'static str = "vlan";
    const KIND: Option<&'static str> = Some("vlan");

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        let lower = Lower::of(&written.lower)?;
        if !lower.is_named() {
            return Err(Error::new(Code::InvalidConfig, "vlan needs master")
                .details("the interface whose VLAN it is"));
        }
        let id = u16::try_from(written.vlan_id).ok().filter(|id| *id <= 4094).ok_or_else(|| {
            Error::new(Code::InvalidConfig, format!("vlanId {} is not valid", written.vlan_id))
                .details("it has to be 0 to 4094")
        })?;
        Ok(Self { lower, id, dns: written.dns })
    }

    fn plan(&self, _: &mut Work<'_>) -> Result<()> {
        Ok(())
    }

    fn make(&self, work: &mut Work<'_>) -> Result<Vec<Interface>> {
        let id = self.id;
        self.lower.make(work, None, |lower| Kind::Vlan { lower, id })?;
        Ok(Vec::new())
    }

    fn dns(&self) -> &Dns {
        &self.dns
    }
}
