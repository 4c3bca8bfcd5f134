//! dhcp: addresses from the DHCP server of the network that the interface is on, kept by a daemon.

mod arguments;
mod daemon;
mod exchange;
mod frame;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod keeper;
mod lease;
mod message;
mod protocol;
mod registry;
mod settings;
mod store;

use std::path::{Path, PathBuf};

use cni::{Call, Code, Config, Environment, Error, Outcome, Plugin, Result};
use model::AttachmentKey;

use self::lease::Lease;
use self::protocol::{Request, Unanswered};
use self::settings::{Identity, Shape};
use crate::{Own, netns};

pub use self::daemon::daemon;

/// The plugin.
pub(crate) struct Dhcp;

const HINT: &str = "start it with `dhcp daemon`; docs/dhcp.md has a unit for systemd";

fn key(call: &Call) -> AttachmentKey {
    AttachmentKey {
        network: call.config.network.clone(),
        container: call.invocation.container.clone(),
        ifname: call.invocation.ifname.clone(),
    }
}

fn no_daemon(code: Code, socket: &Path, error: &std::io::Error) -> Error {
    Error::new(code, format!("no DHCP daemon listens at {}", socket.display()))
        .details(format!("{error}; {HINT}"))
}

/// Asks the daemon, which has to be there.
fn ask(socket: &Path, request: &Request) -> Result<Option<Lease>> {
    protocol::ask(socket, request).map_err(|unanswered| match unanswered {
        Unanswered::NoDaemon(error) => no_daemon(Code::TryAgain, socket, &error),
        Unanswered::Failed(error) => error,
    })
}

/// Asks the daemon to give something back. Without one, this is done if nothing is recorded that it would have to give back.
fn give_back(
    socket: &Path,
    request: &Request,
    is_meant: impl Fn(&AttachmentKey) -> bool,
    config: &Config,
) -> Result<()> {
    let error = match protocol::ask(socket, request) {
        Ok(_) => return Ok(()),
        Err(Unanswered::Failed(error)) => return Err(error),
        Err(Unanswered::NoDaemon(error)) => error,
    };
    let directory = store::directory(socket);
    let recorded = store::recorded(&directory, &config.network).map_err(|error| {
        Error::new(Code::Io, format!("cannot read the leases in {}", directory.display())).details(error)
    })?;
    match recorded.iter().any(is_meant) {
        true => Err(no_daemon(Code::TryAgain, socket, &error)),
        false => Ok(()),
    }
}

fn read(call: &Call) -> Result<(PathBuf, Shape, Identity)> {
    let config = &call.config;
    Ok((
        settings::socket(config)?,
        Shape::of(config)?,
        Identity::of(config, &key(call), &call.invocation.args)?,
    ))
}

impl Own for Dhcp {
    fn read(&self, call: &Call) -> Result<()> {
        read(call).map(drop)
    }
}

impl Plugin for Dhcp {
    fn add(&self, call: &Call) -> Result<Outcome> {
        let (socket, shape, identity) = read(call)?;
        let invalid = |error: std::io::Error| {
            Error::new(Code::InvalidNetns, "cannot use the network namespace").details(error)
        };
        let ns_inode = netns::open(&call.invocation)?.inode().map_err(invalid)?;
        // The daemon has another working directory.
        let path = call.invocation.netns.as_deref().unwrap_or(Path::new(""));
        let netns = std::path::absolute(path).map_err(invalid)?;
        let lease = ask(&socket, &Request::Add { key: key(call), netns, ns_inode, identity })?;
        let lease =
            lease.ok_or_else(|| Error::new(Code::Internal, "the DHCP daemon answered without a lease"))?;
        Ok(lease.outcome(shape.priority, shape.without_gateway))
    }

    fn del(&self, call: &Call) -> Result<()> {
        let key = key(call);
        let request = Request::Del { key: key.clone() };
        give_back(&settings::socket(&call.config)?, &request, |other| *other == key, &call.config)
    }

    fn check(&self, call: &Call) -> Result<()> {
        let lease = ask(&settings::socket(&call.config)?, &Request::Check { key: key(call) })?;
        let address = lease.map(|lease| std::net::IpAddr::V4(lease.address.addr()));
        let previous = call.config.previous.iter().flat_map(|previous| &previous.ips);
        let mut addresses = previous.map(|ip| ip.address.addr());
        match addresses.any(|previous| Some(previous) == address) {
            true => Ok(()),
            false => Err(Error::new(
                Code::CheckFailed,
                format!("{} does not lease an address of prevResult", key(call)),
            )),
        }
    }

    fn gc(&self, config: &Config, _: &Environment) -> Result<()> {
        let valid = crate::ipam::valid(config)?;
        let request = Request::Gc { network: config.network.clone(), valid: valid.iter().cloned().collect() };
        let is_stale = |key: &AttachmentKey| !valid.contains(&(key.container.clone(), key.ifname.clone()));
        give_back(&settings::socket(config)?, &request, is_stale, config)
    }

    fn status(&self, config: &Config, _: &Environment) -> Result<()> {
        let socket = settings::socket(config)?;
        Shape::of(config)?;
        let unavailable = |unanswered| match unanswered {
            Unanswered::NoDaemon(error) => no_daemon(Code::NotAvailable, &socket, &error),
            Unanswered::Failed(error) => {
                Error::new(Code::NotAvailable, "the DHCP daemon is not available").details(error)
            }
        };
        protocol::ask(&socket, &Request::Status).map(drop).map_err(unavailable)
    }
}
