//! The ruleset's part of an attachment: from its record into the kernel and out of it again.

use std::collections::HashSet;
use std::net::IpAddr;

use cni::{Code, Config, Error, Result};
use model::{AttachmentKey, AttachmentRecord, ContainerId, IfName, Protocol, RuleElement};
use netlink::Socket;
use nft::{AddError, Conditions};

use crate::host::kernel;
use crate::netns::Container;
use crate::record;

/// Puts the record's elements into the ruleset.
pub(crate) fn add(record: &AttachmentRecord, conditions: Option<&Conditions>) -> Result<()> {
    if record.rules.is_empty() {
        return Ok(());
    }
    let owner = record.key.file_name();
    nft::add(&owner, &record.rules, conditions, is_gone).map_err(|error| match error {
        AddError::Kernel(error) => kernel(error),
        AddError::Taken { wanted, holder, element } => taken(&wanted, &holder, &element),
    })
}

fn taken(wanted: &RuleElement, holder: &str, element: &str) -> Error {
    let port = match wanted {
        RuleElement::MapPort { protocol, host_port, .. } => format!("{} port {host_port}", protocol.as_str()),
        other => other.to_string(),
    };
    let holder = match AttachmentKey::from_file_name(holder) {
        Some(key) => {
            let pod = record::look(&key, Some("portmap")).and_then(|record| record.pod);
            let pod = pod.map(|pod| format!("pod {pod}, ")).unwrap_or_default();
            format!("{pod}container {} {} of network {}", key.container, key.ifname, key.network)
        }
        None => format!("{holder:?}"),
    };
    Error::new(Code::Internal, format!("{port} of this node is mapped to another pod already"))
        .details(format!("held by {holder} ({element})"))
}

/// Whether who holds a port is certainly gone: its record is, or the namespace that the record is about.
fn is_gone(holder: &str) -> bool {
    let Some(key) = AttachmentKey::from_file_name(holder) else { return false };
    match record::look(&key, Some("portmap")) {
        None => true,
        Some(record) => match Container::open(&record.netns) {
            Ok(netns) => record.ns_id.is_some() && netns.id() != record.ns_id,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        },
    }
}

/// Whether the elements that the record announces are there.
pub(crate) fn check(key: &AttachmentKey, chained: Option<&str>) -> Result<()> {
    let Some(record) = record::look(key, chained) else { return Ok(()) };
    match nft::missing(&key.file_name(), &record.rules).map_err(kernel)? {
        None => Ok(()),
        Some(rule) => Err(Error::new(Code::CheckFailed, format!("the {rule} is not in the ruleset"))
            .details(format!("table {} of `nft list ruleset`", nft::TABLE))),
    }
}

/// Removes everything that has this owner, for a record that cannot be read.
pub(crate) fn remove_owned(key: &AttachmentKey) -> Result<()> {
    let owner = key.file_name();
    let mut socket = Socket::netfilter().map_err(kernel)?;
    nft::remove_where(&mut socket, |other| other == owner).map(drop).map_err(kernel)
}

/// Removes what the reference plugins made for the attachment.
pub(crate) fn remove_reference(key: &AttachmentKey, addresses: &[IpAddr]) -> Result<()> {
    let removed = nft::foreign::remove_reference(key.network.as_str(), key.container.as_str(), addresses);
    removed.map(drop).map_err(kernel)
}

/// Removes elements of this network's attachments that are not valid: those whose record was lost.
pub(crate) fn collect(config: &Config, valid: &HashSet<(ContainerId, IfName)>) -> Result<()> {
    let is_stale = |owner: &str| {
        AttachmentKey::from_file_name(owner)
            .is_some_and(|key| key.network == config.network && !valid.contains(&(key.container, key.ifname)))
    };
    let mut socket = Socket::netfilter().map_err(kernel)?;
    nft::remove_where(&mut socket, is_stale).map(drop).map_err(kernel)
}

/// A protocol of a port mapping; tcp unless given.
pub(crate) fn protocol(text: &str) -> Result<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(Error::new(Code::InvalidConfig, format!("protocol {text:?} is not known"))
            .details("tcp, udp or sctp")),
    }
}
