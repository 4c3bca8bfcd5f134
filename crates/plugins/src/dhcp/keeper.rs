//! One attachment's lease, kept by a thread of its own: got, renewed, given back (RFC 2131, figure 5).
//!
//! Between two conversations a keeper holds nothing of the container's, neither a descriptor nor a thread in its namespace: a
//! daemon that does keeps namespaces and their interfaces alive for as long as it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use cni::{Code, Error, Result};
use model::NsInode;
use sys::NetNs;

use super::exchange::{self, Client, Failure, Interface, Patience, Port, PortError, Renewal};
use super::lease::Lease;
use super::store::{Phase, Record, Server, Store};

/// How long one try for more time takes.
const TRY: Duration = Duration::from_secs(4);
/// The shortest pause between two tries (RFC 2131, section 4.4.5).
const SHORTEST_PAUSE: Duration = Duration::from_secs(60);
/// A thread's sleep leaves out the time that the machine is suspended: it is not to sleep for long.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Of a lease that needs nothing any more.
const NEVER: Duration = Duration::MAX;

/// What a keeper is told.
pub(super) enum Order {
    /// Say what is leased. ADD names its namespace; a keeper whose lease is not for that one gives it back and ends without an
    /// answer.
    Show { ns_inode: Option<NsInode>, reply: Sender<Result<Lease>> },
    /// Give the lease back, and end.
    Release { reply: Sender<Result<()>> },
}

/// What all keepers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) patience: Patience,
    /// Where the host's files are, for a daemon in a container.
    pub(super) host_prefix: PathBuf,
}

/// A lease and the thread that keeps it.
pub(super) struct Keeper {
    pub(super) record: Record,
    pub(super) shared: Arc<Shared>,
    pub(super) orders: Receiver<Order>,
    /// Set before a release is ordered, so that a conversation ends early.
    pub(super) stop: Arc<AtomicBool>,
    /// Any server was asked to prolong the lease, in vain.
    pub(super) asked_anybody: bool,
}

/// Whether a keeper goes on, and until when there is nothing to do.
enum Next {
    Wait(Duration),
    End,
}

impl Shared {
    /// Opens the namespace at a path of the host's.
    pub(super) fn open_namespace(&self, path: &Path) -> io::Result<NetNs> {
        let mut full = self.host_prefix.as_os_str().to_owned();
        full.push(path);
        NetNs::open(PathBuf::from(full))
    }
}

fn io_error(what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(Code::Io, what).details(error)
}

impl Keeper {
    /// Gets the first lease, tells `reply`, and keeps it.
    pub(super) fn begin(mut self, reply: &Sender<Result<Lease>>) {
        match self.acquire_first() {
            Ok(lease) => {
                self.log(format_args!("leased {} from {}", lease.address, lease.server));
                // A plugin that was killed meanwhile is followed by a DEL.
                let _ = reply.send(Ok(lease));
                self.keep();
            }
            Err(error) => {
                self.log(format_args!("{error}"));
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Goes on where the daemon before this one stopped.
    pub(super) fn resume(mut self) {
        if let Err(PortError::Gone(why)) = self.namespace() {
            self.log(format_args!("forgotten, its container is gone: {why}"));
            let _ = self.forget();
            return;
        }
        match &self.record.phase {
            Phase::Bound(lease) => {
                self.log(format_args!("goes on with {}", lease.address));
                self.keep();
            }
            Phase::Lost(_) => self.keep(),
            // The ADD failed when the daemon ended: nobody uses what the server may have given.
            Phase::Selecting | Phase::Requesting { .. } => {
                self.log(format_args!("forgets an ADD that did not end"));
                let _ = self.give_back();
            }
        }
    }

    fn log(&self, text: std::fmt::Arguments<'_>) {
        eprintln!("dhcp: {}: {text}", self.record.key);
    }

    /// The whole of an ADD; what it leaves when it fails is given back.
    fn acquire_first(&mut self) -> Result<Lease> {
        let result = self.try_acquire_first();
        if result.is_err() {
            let _ = self.give_back();
        }
        result
    }

    fn try_acquire_first(&mut self) -> Result<Lease> {
        let ifname = self.record.key.ifname.clone();
        let netns = self.namespace().map_err(|error| match error {
            PortError::Gone(why) | PortError::Failed(why) => Error::new(
                Code::InvalidNetns,
                format!("cannot use network namespace {}", self.record.netns.display()),
            )
            .details(why),
        })?;
        let port = Port::open(&netns, &Interface::Named(ifname.clone())).map_err(|error| match error {
            PortError::Gone(why) => Error::new(
                Code::Internal,
                format!("{ifname} is not in the container: DHCP needs it before its address"),
            )
            .details(why),
            PortError::Failed(why) => io_error(&format!("cannot use {ifname}"), why),
        })?;
        (self.record.ns_id, self.record.interface, self.record.mac) = (netns.id(), port.index, port.mac);
        drop(netns);
        self.save().map_err(|error| io_error("cannot write the lease", error))?;
        let deadline = sys::since_boot() + self.shared.patience.timeout;
        let lease = self.acquire(&port, None, deadline).map_err(|failure| self.explain(failure))?;
        self.record.phase = Phase::Bound(lease.clone());
        self.save().map_err(|error| io_error("cannot write the lease", error))?;
        Ok(lease)
    }

    fn explain(&self, failure: Failure) -> Error {
        let ifname = &self.record.key.ifname;
        let timeout = self.shared.patience.timeout;
        match failure {
            Failure::Stopped => Error::new(Code::TryAgain, "a DEL came before the ADD was done"),
            Failure::Silent { refusals: 0, unusable: None } => Error::new(
                Code::TryAgain,
                format!("no DHCP server gave {ifname} an address within {timeout:?}"),
            )
            .details(
                "is there a server on the interface's network? The daemon's -timeout says how long to wait",
            ),
            Failure::Silent { unusable: Some(why), .. } => {
                Error::new(Code::NoAddress, format!("the DHCP server's answer to {ifname} cannot be used"))
                    .details(why)
            }
            Failure::Silent { refusals, unusable: None } => {
                Error::new(Code::NoAddress, format!("the DHCP server refused what it offered to {ifname}"))
                    .details(format!("{refusals} times within {timeout:?}"))
            }
            Failure::Io(error) => io_error(&format!("cannot talk to DHCP servers through {ifname}"), error),
        }
    }

    fn acquire(
        &mut self,
        port: &Port,
        wanted: Option<std::net::Ipv4Addr>,
        deadline: Duration,
    ) -> std::result::Result<Lease, Failure> {
        let mut record = self.record.clone();
        let store = &self.shared.store;
        let acquired = self.client(port).acquire(wanted, deadline, |address, server| {
            record.phase = Phase::Requesting { address, server };
            // Of a lease that is to go on, the record is the better one.
            if wanted.is_none() { store.save(&record) } else { Ok(()) }
        });
        if wanted.is_none() {
            self.record = record;
        }
        acquired
    }

    fn client<'a>(&'a self, port: &'a Port) -> Client<'a> {
        Client {
            port,
            mac: self.record.mac,
            identity: &self.record.identity,
            patience: &self.shared.patience,
            stop: &self.stop,
        }
    }

    fn save(&self) -> io::Result<()> {
        self.shared.store.save(&self.record)
    }

    /// The container's namespace, if it is still there.
    fn namespace(&self) -> std::result::Result<NetNs, PortError> {
        use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
        const ESRCH: i32 = 3;
        let record = &self.record;
        let netns = match self.shared.open_namespace(&record.netns) {
            Ok(netns) => netns,
            Err(error)
                if matches!(error.kind(), NotFound | NotADirectory | InvalidInput)
                    || error.raw_os_error() == Some(ESRCH) =>
            {
                return Err(PortError::Gone(error.to_string()));
            }
            Err(error) => return Err(PortError::Failed(error.to_string())),
        };
        let inode = netns.inode().map_err(|error| PortError::Failed(error.to_string()))?;
        // An inode is used again once its namespace is gone, an id is not.
        let is_same = match (record.ns_id, netns.id()) {
            (Some(then), Some(now)) => then == now,
            _ => record.ns_inode == inode,
        };
        match is_same {
            true => Ok(netns),
            false => Err(PortError::Gone("another namespace is at its path".to_owned())),
        }
    }

    fn port(&self) -> std::result::Result<Port, PortError> {
        Port::open(&self.namespace()?, &Interface::Numbered(self.record.interface))
    }

    /// Keeps the lease until it is given back, or nobody is left who has it.
    fn keep(mut self) {
        let mut due = match &self.record.phase {
            Phase::Bound(lease) => lease.times.map_or(NEVER, |times| times.renew),
            _ => NEVER,
        };
        loop {
            let left = due.saturating_sub(sys::since_boot());
            match self.orders.recv_timeout(left.min(LONGEST_SLEEP)) {
                Ok(Order::Release { reply }) => {
                    let _ = reply.send(self.give_back());
                    return;
                }
                Ok(Order::Show { ns_inode, reply }) => {
                    let is_ours = ns_inode.is_none_or(|inode| inode == self.record.ns_inode);
                    match &self.record.phase {
                        Phase::Bound(lease) if is_ours => drop(reply.send(Ok(lease.clone()))),
                        Phase::Lost(lease) if ns_inode.is_none() => {
                            let message = format!("the lease of {} was lost", lease.address.addr());
                            let _ = reply.send(Err(Error::new(Code::CheckFailed, message)));
                        }
                        // An ADD for another namespace, or again after the loss: begin anew.
                        _ => {
                            let _ = self.give_back();
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) if sys::since_boot() >= due => match self.prolong() {
                    Next::Wait(next) => due = next,
                    Next::End => return,
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Asks for more time, or, when that is over, ends the use of the address.
    fn prolong(&mut self) -> Next {
        let Phase::Bound(lease) = self.record.phase.clone() else { return Next::Wait(NEVER) };
        let Some(times) = lease.times else { return Next::Wait(NEVER) };
        let now = sys::since_boot();
        let is_over = now >= times.expire;
        if is_over && self.asked_anybody {
            return self.lose(lease, "it expired, and no server answered");
        }
        let rebinding = now >= times.rebind;
        let end = if rebinding { times.expire } else { times.rebind };
        // Half of what is left, but not too often, and in time for the next state.
        let pause = (end.saturating_sub(now) / 2).max(SHORTEST_PAUSE);
        let later = || Next::Wait((now + pause).min(end));
        let port = match self.port() {
            Ok(port) => port,
            Err(PortError::Gone(why)) => {
                self.log(format_args!("{} is forgotten, its container is gone: {why}", lease.address));
                let _ = self.forget();
                return Next::End;
            }
            Err(PortError::Failed(why)) => {
                self.log(format_args!("cannot renew {}: {why}", lease.address));
                self.asked_anybody |= is_over;
                return later();
            }
        };
        self.asked_anybody = rebinding;
        if is_over {
            // The machine was suspended, or no daemon ran: that is no reason to end what the server may still grant.
            self.log(format_args!("{} expired meanwhile", lease.address));
            return self.begin_again(&port, lease);
        }
        match self.client(&port).renew(&lease, rebinding, (sys::since_boot() + TRY).min(end)) {
            Ok(Renewal::Granted(new)) => self.bind(new),
            Ok(Renewal::Refused) => {
                self.log(format_args!("the server refused to renew {}", lease.address));
                self.begin_again(&port, lease)
            }
            Ok(Renewal::Silent) => {
                let whom = if rebinding { "any server" } else { "its server" };
                self.log(format_args!("no answer from {whom} about {}", lease.address));
                later()
            }
            Err(Failure::Stopped) => Next::Wait(end),
            Err(failure) => {
                self.log(format_args!("cannot renew {}: {}", lease.address, self.explain(failure)));
                later()
            }
        }
    }

    fn bind(&mut self, lease: Lease) -> Next {
        self.log(format_args!("renewed {}", lease.address));
        let next = lease.times.map_or(NEVER, |times| times.renew);
        self.asked_anybody = false;
        self.record.phase = Phase::Bound(lease);
        if let Err(error) = self.save() {
            // The lease is good; only a daemon that starts now would renew it too early.
            self.log(format_args!("cannot write the lease: {error}"));
        }
        Next::Wait(next)
    }

    /// Looks for a server that gives the same address, since the container has that one: a server that lost its table refuses,
    /// and then offers the address again.
    fn begin_again(&mut self, port: &Port, lease: Lease) -> Next {
        let deadline = sys::since_boot() + self.shared.patience.timeout;
        match self.acquire(port, Some(lease.address.addr()), deadline) {
            Ok(new) => self.bind(new),
            // The DEL is the next order.
            Err(Failure::Stopped) => Next::Wait(deadline),
            Err(_) => self.lose(lease, "no server gives it any more"),
        }
    }

    /// The address may be somebody else's from now on; as with the reference plugin, the interface goes down.
    fn lose(&mut self, lease: Lease, why: &str) -> Next {
        self.log(format_args!("lost {}: {why}; its interface is set down", lease.address));
        let down = match self.namespace() {
            Ok(netns) => exchange::set_down(&netns, self.record.interface),
            Err(PortError::Gone(_)) => {
                let _ = self.forget();
                return Next::End;
            }
            Err(PortError::Failed(why)) => Err(io::Error::other(why)),
        };
        if let Err(error) = down {
            self.log(format_args!("cannot set the interface down: {error}"));
        }
        self.record.phase = Phase::Lost(lease);
        if let Err(error) = self.save() {
            self.log(format_args!("cannot write the lease: {error}"));
        }
        Next::Wait(NEVER)
    }

    /// Tells the server, if it can be told, and forgets the lease.
    fn give_back(&mut self) -> Result<()> {
        let leased = match &self.record.phase {
            Phase::Bound(lease) => {
                Some((lease.address.addr(), Server { address: lease.server, mac: lease.server_mac }))
            }
            Phase::Requesting { address, server } => Some((*address, *server)),
            Phase::Selecting | Phase::Lost(_) => None,
        };
        if let Some((address, server)) = leased {
            let told = match self.port() {
                Ok(port) => self.client(&port).release(address, server).map_err(|error| error.to_string()),
                Err(PortError::Gone(why) | PortError::Failed(why)) => Err(why),
            };
            match told {
                Ok(()) => self.log(format_args!("gave {address} back")),
                Err(why) => self.log(format_args!("{address} is left to expire at its server: {why}")),
            }
        }
        self.stop.store(false, Ordering::Release);
        self.forget()
    }

    fn forget(&self) -> Result<()> {
        let removed = self.shared.store.remove(&self.record.key);
        removed.map_err(|error| io_error("cannot remove the lease", error))
    }
}
