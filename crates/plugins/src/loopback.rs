//! The loopback interface of a container.

use cni::{Call, Code, Config, Environment, Error, Interface, Ip, Outcome, Plugin, Result};
use model::Link;
use netlink::link::{self, Change};
use netlink::{Socket, addr};

use crate::{Own, netns};

/// The plugin.
pub(crate) struct Loopback;

fn failed(error: netlink::Error) -> Error {
    Error::new(Code::Internal, "cannot set up lo").details(error)
}

/// `lo` of the calling thread's namespace, with its addresses.
fn lo(socket: &mut Socket) -> netlink::Result<Link> {
    let mut link = link::by_name(socket, "lo")?;
    let own = addr::list(socket, None)?.into_iter().filter(|(index, _)| *index == link.index);
    link.addresses = own.map(|(_, address)| address).collect();
    Ok(link)
}

fn set(socket: &mut Socket, up: bool) -> netlink::Result<Link> {
    let link = link::by_name(socket, "lo")?;
    socket.ack(link::change(link.index, &Change { up: Some(up), ..Change::default() }))?;
    lo(socket)
}

impl Own for Loopback {
    fn read(&self, _: &Call) -> Result<()> {
        // It has no settings.
        Ok(())
    }
}

impl Plugin for Loopback {
    fn add(&self, call: &Call) -> Result<Outcome> {
        let netns = netns::open(&call.invocation)?;
        let entered = netns::enter(&netns)?;
        let link = Socket::route().and_then(|mut socket| set(&mut socket, true)).map_err(failed)?;
        drop(entered);
        if let Some(previous) = &call.config.previous {
            return Ok(previous.clone());
        }
        let sandbox =
            call.invocation.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let mac = Some(model::MacAddr([0; 6]));
        let interface = Interface { name: "lo".into(), mac, sandbox, ..Interface::default() };
        let ip = |address| Ip { interface: Some(0), address, gateway: None };
        Ok(Outcome {
            interfaces: vec![interface],
            ips: link.addresses.into_iter().map(ip).collect(),
            ..Outcome::default()
        })
    }

    fn del(&self, call: &Call) -> Result<()> {
        let Some(netns) = netns::if_there(&call.invocation)? else { return Ok(()) };
        let _entered = netns::enter(&netns)?;
        Socket::route().and_then(|mut socket| set(&mut socket, false)).map(drop).map_err(failed)
    }

    fn check(&self, call: &Call) -> Result<()> {
        let netns = netns::open(&call.invocation)?;
        let _entered = netns::enter(&netns)?;
        let link = Socket::route().and_then(|mut socket| lo(&mut socket)).map_err(failed)?;
        if link.up { Ok(()) } else { Err(Error::new(Code::CheckFailed, "lo is down")) }
    }

    fn gc(&self, _: &Config, _: &Environment) -> Result<()> {
        // lo ends with its namespace: there is nothing that could stay.
        Ok(())
    }

    fn status(&self, _: &Config, _: &Environment) -> Result<()> {
        Ok(())
    }
}
