//! The frame of all plugins that are chained to one that makes an interface. What differs between them is an [`Addition`].

use std::net::IpAddr;

use cni::{Call, Code, Config, Environment, Error, Outcome, Plugin, Result};
use model::{AttachmentKey, AttachmentRecord};
use nft::Conditions;

use crate::interface::requested_mac;
use crate::undo::undo;
use crate::{
    Own, ipam,
    netns::{self, Container},
    record, rules,
};

/// What a chained plugin adds to an attachment.
pub(crate) trait Addition: Sized {
    /// The plugin's type.
    const TYPE: &'static str;

    /// Reads the plugin's configuration.
    fn of(config: &Config) -> Result<Self>;

    /// Whether the configuration, or the runtime, asks for nothing.
    fn is_empty(&self) -> bool {
        false
    }

    /// Completes the record with what is going to be done, before it is.
    fn plan(&self, work: &mut Work<'_>) -> Result<()>;

    /// Does what is not in the ruleset, and changes the result where that changes.
    fn make(&self, _: &mut Work<'_>) -> Result<()> {
        Ok(())
    }

    /// Conditions under which the record's port mappings hold.
    fn conditions(&self) -> Option<&Conditions> {
        None
    }

    /// What is left to do once the ruleset has its part.
    fn finish(&self, _: &mut Work<'_>) -> Result<()> {
        Ok(())
    }

    /// Undoes what a record does not say. `netns` is the container's namespace, if it still exists.
    fn unmake(_: &Call, _: Option<&Container>, _: Option<&AttachmentRecord>) -> Result<()> {
        Ok(())
    }

    /// Compares the node with the previous result.
    fn check(&self, _: &Work<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether the kernel has what the plugin needs.
    fn status(&self) -> Result<()> {
        Ok(())
    }
}

/// An ADD or CHECK at work.
pub(crate) struct Work<'a> {
    /// The call.
    pub(crate) call: &'a Call,
    /// The container's namespace.
    pub(crate) netns: Container,
    /// What the plugins before this one returned.
    pub(crate) outcome: Outcome,
    /// What is, or is about to be, made.
    pub(crate) record: AttachmentRecord,
}

impl<'a> Work<'a> {
    fn new(call: &'a Call, plugin: &str) -> Result<Self> {
        let outcome = call.config.previous.clone().ok_or_else(|| {
            Error::new(Code::InvalidConfig, format!("{plugin} needs prevResult"))
                .details("it has to be chained to a plugin that makes an interface")
        })?;
        let netns = netns::open(&call.invocation)?;
        let record = record::new(call, plugin, true, Some(&netns))?;
        Ok(Self { call, netns, outcome, record })
    }

    /// The container's addresses: those of the interface that the call is about, or of no known interface.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = ipnet::IpNet> + '_ {
        let ifname = self.record.key.ifname.as_str();
        let is_own = move |ip: &&cni::Ip| {
            let interface = ip.interface.and_then(|at| self.outcome.interfaces.get(at));
            interface.is_none_or(|own| own.name == ifname && !own.sandbox.is_empty())
        };
        self.outcome.ips.iter().filter(is_own).map(|ip| ip.address)
    }
}

/// The plugin that makes this addition.
pub(crate) struct Chained<A>(pub(crate) std::marker::PhantomData<fn() -> A>);

impl<A: Addition> Plugin for Chained<A> {
    fn add(&self, call: &Call) -> Result<Outcome> {
        let addition = read::<A>(call)?;
        let mut work = Work::new(call, A::TYPE)?;
        if addition.is_empty() {
            return Ok(work.outcome);
        }
        addition.plan(&mut work)?;
        let held = record::begin(&work.record)?;
        let done = addition
            .make(&mut work)
            .and_then(|()| rules::add(&work.record, addition.conditions()))
            .and_then(|()| addition.finish(&mut work));
        match done {
            Ok(()) => Ok(work.outcome),
            Err(error) => {
                // What failed is what the user has to hear of; what cannot be undone now, the record names.
                let unmade = A::unmake(call, Some(&work.netns), Some(&work.record));
                if undo(&work.record, Some(&work.netns)).and(unmade).is_ok() {
                    let _ = held.end();
                }
                Err(error)
            }
        }
    }

    fn del(&self, call: &Call) -> Result<()> {
        let netns = netns::if_there(&call.invocation)?;
        let key = record::key(call);
        let held = record::open(&key, Some(A::TYPE))?;
        let record = held.as_ref().and_then(|held| held.record.as_ref());
        let mut errors = Vec::new();
        match record {
            Some(record) => errors.extend(undo(record, netns.as_ref()).err()),
            None if held.is_some() => errors.extend(rules::remove_owned(&key).err()),
            None => {}
        }
        errors.extend(A::unmake(call, netns.as_ref(), record).err());
        if errors.is_empty() {
            errors.extend(held.and_then(|held| held.end().err()));
        }
        Error::all(errors)
    }

    fn check(&self, call: &Call) -> Result<()> {
        let addition = A::of(&call.config)?;
        let work = Work::new(call, A::TYPE)?;
        if addition.is_empty() {
            return Ok(());
        }
        rules::check(&work.record.key, Some(A::TYPE))?;
        addition.check(&work)
    }

    fn gc(&self, config: &Config, _: &Environment) -> Result<()> {
        let valid = ipam::valid(config)?;
        let mut errors = Vec::new();
        for key in record::of_network(&config.network, Some(A::TYPE))? {
            if !valid.contains(&(key.container.clone(), key.ifname.clone())) {
                errors.extend(collect(&key, A::TYPE).err());
            }
        }
        Error::all(errors)
    }

    fn status(&self, config: &Config, _: &Environment) -> Result<()> {
        A::of(config)?.status()
    }
}

impl<A: Addition> Own for Chained<A> {
    fn read(&self, call: &Call) -> Result<()> {
        read::<A>(call)?;
        requested_mac(call, None).map(drop)
    }
}

/// The addition that a call asks for.
fn read<A: Addition>(call: &Call) -> Result<A> {
    call.invocation.args.refuse_unknown(&["IP", "MAC", "GATEWAY"])?;
    A::of(&call.config)
}

/// GC of one attachment: what DEL does, from the record alone.
fn collect(key: &AttachmentKey, plugin: &str) -> Result<()> {
    let Some(held) = record::open(key, Some(plugin))? else { return Ok(()) };
    match &held.record {
        Some(record) => undo(record, None)?,
        None => rules::remove_owned(key)?,
    }
    held.end()
}

/// The first address of each family.
pub(crate) fn first_of_each(addresses: impl Iterator<Item = ipnet::IpNet>) -> Vec<ipnet::IpNet> {
    let mut first: Vec<ipnet::IpNet> = Vec::new();
    for address in addresses {
        let is_new = |ip: IpAddr| first.iter().all(|known| known.addr().is_ipv4() != ip.is_ipv4());
        if is_new(address.addr()) {
            first.push(address);
        }
    }
    first
}

/// STATUS of plugins that need nf_tables.
pub(crate) fn nftables_work() -> Result<()> {
    nft::table_names().map(drop).map_err(|error| {
        Error::new(Code::NotAvailable, "nftables cannot be used on this node").details(error)
    })
}
