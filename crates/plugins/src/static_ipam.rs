//! Addresses that the configuration, or the runtime, names.

use std::net::IpAddr;

use cni::{Args, Call, Code, Config, Dns, Environment, Error, Ip, Outcome, Plugin, Result, Route};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::Own;

/// The plugin.
pub(crate) struct Static;

/// Its configuration, checked.
pub(crate) struct Addresses {
    ips: Vec<Ip>,
    routes: Vec<Route>,
    dns: Dns,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    addresses: Vec<Address>,
    routes: Option<Vec<Route>>,
    dns: Dns,
}

#[derive(Deserialize)]
struct Address {
    address: String,
    #[serde(default)]
    gateway: Option<String>,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, message)
}

/// An address with its prefix length; `code` says whose mistake one without is.
fn parse(text: &str, gateway: Option<&str>, code: Code) -> Result<Ip> {
    let address: IpNet = text.trim().parse().map_err(|error| {
        Error::new(code, format!("address {text:?} is not valid"))
            .details(format!("write it with its prefix length, like 10.0.0.2/24 ({error})"))
    })?;
    let gateway = gateway.filter(|text| !text.is_empty()).map(|text| text.trim().parse::<IpAddr>());
    let gateway = gateway
        .transpose()
        .map_err(|error| Error::new(code, format!("the gateway of {address} is not valid")).details(error))?;
    Ok(Ip { interface: None, address, gateway })
}

impl Addresses {
    /// Reads `ipam`. The runtime's `ips`, else `args.cni.ips`, replace the configuration's addresses; `IP` and `GATEWAY` of
    /// `CNI_ARGS` are added.
    pub(crate) fn of(config: &Config, part: &Value, args: Option<&Args>) -> Result<Self> {
        let written =
            Written::deserialize(part).map_err(|error| invalid("ipam is not valid").details(error))?;
        let own = written.addresses.iter();
        let mut ips = own
            .map(|own| parse(&own.address, own.gateway.as_deref(), Code::InvalidConfig))
            .collect::<Result<Vec<_>>>()?;
        if let Some(given) = config.capability("ips").or_else(|| config.arg("ips")) {
            let list = given.as_array().ok_or_else(|| invalid("ips is not a list"))?;
            let text = |value: &Value| {
                // Older runtimes pass {"address": …} instead of a string.
                let text = value.as_str().or_else(|| value.get("address")?.as_str());
                let text = text.ok_or_else(|| invalid("an entry of ips is not a string"))?;
                parse(text, None, Code::InvalidConfig)
            };
            if !list.is_empty() {
                ips = list.iter().map(text).collect::<Result<Vec<_>>>()?;
            }
        }
        let args = |name: &str| args.and_then(|args| args.get(name)).filter(|text| !text.is_empty());
        for text in args("IP").into_iter().flat_map(|list| list.split(',')) {
            ips.push(parse(text, None, Code::InvalidEnvironment)?);
        }
        for text in args("GATEWAY").into_iter().flat_map(|list| list.split(',')) {
            let gateway: IpAddr = text.trim().parse().map_err(|error| {
                Error::new(Code::InvalidEnvironment, format!("GATEWAY {text:?} is not valid")).details(error)
            })?;
            let of_subnet = ips.iter_mut().filter(|ip| ip.address.contains(&gateway));
            of_subnet.for_each(|ip| ip.gateway = Some(gateway));
        }
        if config.version < cni::Version::V0_3_0 {
            let count = |v6: bool| ips.iter().filter(|ip| ip.address.addr().is_ipv6() == v6).count();
            if count(false) > 1 || count(true) > 1 {
                let message = format!("cniVersion {} allows one address a family", config.version);
                return Err(invalid(message));
            }
        }
        let given: Option<Dns> = config.capability("dns").and_then(|dns| Dns::deserialize(dns).ok());
        Ok(Self { ips, routes: written.routes.unwrap_or_default(), dns: given.unwrap_or(written.dns) })
    }

    pub(crate) fn outcome(&self) -> Outcome {
        Outcome {
            ips: self.ips.clone(),
            routes: self.routes.clone(),
            dns: self.dns.clone(),
            ..Outcome::default()
        }
    }

    /// Whether the previous result has all of them.
    pub(crate) fn check(&self, previous: Option<&Outcome>) -> Result<()> {
        let has = |wanted: &Ip| {
            previous.is_some_and(|previous| previous.ips.iter().any(|ip| ip.address == wanted.address))
        };
        match self.ips.iter().find(|ip| !has(ip)) {
            None => Ok(()),
            Some(ip) => {
                Err(Error::new(Code::CheckFailed, format!("the result does not have {}", ip.address)))
            }
        }
    }
}

fn own(config: &Config, args: Option<&Args>) -> Result<Addresses> {
    match config.raw.get("ipam").filter(|part| part.is_object()) {
        Some(part) => Addresses::of(config, part, args),
        None => Err(invalid("the configuration has no ipam")),
    }
}

fn read(call: &Call) -> Result<Addresses> {
    call.invocation.args.refuse_unknown(&["IP", "MAC", "GATEWAY"])?;
    own(&call.config, Some(&call.invocation.args))
}

impl Own for Static {
    fn read(&self, call: &Call) -> Result<()> {
        read(call).map(drop)
    }
}

impl Plugin for Static {
    fn add(&self, call: &Call) -> Result<Outcome> {
        Ok(read(call)?.outcome())
    }

    fn del(&self, _: &Call) -> Result<()> {
        // Nothing is leased: there is nothing that could stay.
        Ok(())
    }

    fn check(&self, call: &Call) -> Result<()> {
        own(&call.config, Some(&call.invocation.args))?.check(call.config.previous.as_ref())
    }

    fn gc(&self, _: &Config, _: &Environment) -> Result<()> {
        Ok(())
    }

    fn status(&self, config: &Config, _: &Environment) -> Result<()> {
        own(config, None).map(drop)
    }
}
