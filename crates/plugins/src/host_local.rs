//! host-local as a plugin of its own, for interface plugins of others.

use cni::{Call, Code, Config, Environment, Error, Outcome, Plugin, Result};

use crate::Own;
use crate::ipam::Ipam;

/// The plugin.
pub(crate) struct HostLocal;

/// The address manager of a configuration that has to be host-local's.
fn own(config: &Config, args: Option<&cni::Args>) -> Result<Ipam> {
    match Ipam::of(config, args)? {
        Ipam::None => Err(Error::new(Code::InvalidConfig, "the configuration has no ipam.type")),
        ipam @ Ipam::HostLocal(_) => Ok(ipam),
        Ipam::Static(_) => Err(another("static")),
        Ipam::Delegate(kind) => Err(another(&kind)),
    }
}

fn another(kind: &str) -> Error {
    Error::new(Code::InvalidConfig, format!("ipam.type is {kind:?}, but this is host-local"))
}

fn read(call: &Call) -> Result<Ipam> {
    call.invocation.args.refuse_unknown(&["IP", "MAC", "GATEWAY"])?;
    own(&call.config, Some(&call.invocation.args))
}

impl Own for HostLocal {
    fn read(&self, call: &Call) -> Result<()> {
        read(call).map(drop)
    }
}

impl Plugin for HostLocal {
    fn add(&self, call: &Call) -> Result<Outcome> {
        let outcome = read(call)?.add(call)?;
        Ok(outcome.unwrap_or_default())
    }

    fn del(&self, call: &Call) -> Result<()> {
        let previous = call.config.previous.as_ref();
        let known: Vec<_> =
            previous.into_iter().flat_map(|previous| &previous.ips).map(|ip| ip.address.addr()).collect();
        own(&call.config, None)?.del(call, &known)
    }

    fn check(&self, call: &Call) -> Result<()> {
        own(&call.config, None)?.check(call)
    }

    fn gc(&self, config: &Config, environment: &Environment) -> Result<()> {
        own(config, None)?.gc(config, environment)
    }

    fn status(&self, config: &Config, environment: &Environment) -> Result<()> {
        own(config, None)?.status(config, environment)
    }
}
