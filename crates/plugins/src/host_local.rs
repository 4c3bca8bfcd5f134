//! host-local as a plugin of its own, for interface plugins of others.
//!
//! Interface plugins of ours have a record of their own. Called by one of others, host-local writes one itself, so that a second ADD of
//! the same attachment is told from the first without reading every lease.

use std::net::IpAddr;

use cni::{Call, Code, Config, Environment, Error, Outcome, Plugin, Result};

use crate::Own;
use crate::interface::addresses;
use crate::ipam::{self, Ipam};
use crate::record;

const TYPE: &str = "host-local";

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

/// Removes the record that is in the way if its leases are gone: the reference plugin released them, and knows nothing of records.
fn refuse_second(call: &Call, error: Error) -> Result<()> {
    let key = record::key(call);
    let Some(held) = record::open(&key, Some(TYPE))? else { return Ok(()) };
    let is_leased = held.record.as_ref().is_none_or(|record| {
        let dir = record.lease_dir.as_deref();
        let store = dir.and_then(|dir| ::ipam::Store::look(dir).ok());
        let leased = |address: &IpAddr| {
            let lease = store.as_ref().and_then(|store| store.lease(*address).ok().flatten());
            lease.is_some_and(|lease| lease.belongs_to(&key.container, &key.ifname))
        };
        // An ADD that did not get far enough to know is for DEL to undo.
        record.addresses.as_ref().is_none_or(|addresses| addresses.iter().any(leased))
    });
    if is_leased { Err(error) } else { held.end() }
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
        let ipam = read(call)?;
        let mut record = record::new(call, TYPE, true, None)?;
        record.lease_dir = ipam.lease_dir();
        let mut held = match record::begin(&record) {
            Err(error) => {
                refuse_second(call, error)?;
                record::begin(&record)?
            }
            held => held?,
        };
        match ipam.add(call) {
            Ok(outcome) => {
                let outcome = outcome.unwrap_or_default();
                record.addresses = Some(addresses(Some(&outcome)));
                held.note(&record)?;
                Ok(outcome)
            }
            Err(error) => {
                held.end()?;
                Err(error)
            }
        }
    }

    fn del(&self, call: &Call) -> Result<()> {
        let held = record::open(&record::key(call), Some(TYPE))?;
        let noted = held.as_ref().and_then(|held| held.record.as_ref()?.addresses.clone());
        let known = noted.unwrap_or_else(|| addresses(call.config.previous.as_ref()));
        own(&call.config, None)?.del(call, &known)?;
        held.map_or(Ok(()), record::Held::end)
    }

    fn check(&self, call: &Call) -> Result<()> {
        own(&call.config, None)?.check(call)
    }

    fn gc(&self, config: &Config, environment: &Environment) -> Result<()> {
        let valid = ipam::valid(config)?;
        own(config, None)?.gc(config, environment)?;
        for key in record::of_network(&config.network, Some(TYPE))? {
            if !valid.contains(&(key.container.clone(), key.ifname.clone())) {
                record::open(&key, Some(TYPE))?.map_or(Ok(()), record::Held::end)?;
            }
        }
        Ok(())
    }

    fn status(&self, config: &Config, environment: &Environment) -> Result<()> {
        own(config, None)?.status(config, environment)
    }
}
