//! Conversations with servers (RFC 2131, sections 3 and 4.4): get an address, keep it, give it back.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{IfIndex, IfName, MacAddr};
use netlink::link::{self, Change};
use sys::{NetNs, PacketSocket};

use super::frame::{self, EVERYBODY, End};
use super::lease::{Lease, is_host};
use super::message::{self, Kind, Message, Options};
use super::settings::Identity;
use super::store::Server;

/// The RFC begins with four seconds, for shared media of 1997. A bridge's port forwards at once, but a switch behind it may
/// still be learning.
const FIRST_RESEND: Duration = Duration::from_secs(1);
/// How soon a DEL that came is noticed.
const SLICE: Duration = Duration::from_millis(200);
/// How often an offered address is asked for before the search begins anew.
const REQUESTS: u32 = 3;
/// Larger answers than this would be fragments, of which a packet socket sees only the first.
const LARGEST_PACKET_BYTES: u32 = 1500;
const SMALLEST_PACKET_BYTES: u32 = 576;

/// How long and how often.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// For a lease, in all.
    pub(super) timeout: Duration,
    /// The longest pause between two tries.
    pub(super) resend_max: Duration,
    /// Ask for answers by broadcast.
    pub(super) broadcast: bool,
}

/// Why there is no lease.
#[derive(Debug)]
pub(super) enum Failure {
    /// A DEL came.
    Stopped,
    /// No server answered in time, or none with anything to use; how often one refused, and what was wrong with an answer.
    Silent { refusals: u32, unusable: Option<String> },
    /// The socket failed, or a record could not be written.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// The answer to a request for more time.
pub(super) enum Renewal {
    Granted(Lease),
    Refused,
    Silent,
}

/// An interface, and a socket on it.
pub(super) struct Port {
    socket: PacketSocket,
    pub(super) index: IfIndex,
    pub(super) mac: MacAddr,
    mtu_bytes: u32,
}

/// How an interface is known.
#[derive(Debug, Clone)]
pub(super) enum Interface {
    /// By the name that the runtime gave; it is set up.
    Named(IfName),
    /// By its index, once it has been used.
    Numbered(IfIndex),
}

/// Why an interface cannot be used.
#[derive(Debug)]
pub(super) enum PortError {
    /// It is not there.
    Gone(String),
    /// It may be there later.
    Failed(String),
}

impl Port {
    /// Opens a port in a namespace. While it is open it keeps the namespace alive.
    pub(super) fn open(netns: &NetNs, interface: &Interface) -> Result<Self, PortError> {
        let failed = |error: &dyn std::fmt::Display| PortError::Failed(error.to_string());
        let opened = netns.run(|| {
            let netlink = |error: netlink::Error| match error.is_gone() {
                true => PortError::Gone(error.to_string()),
                false => failed(&error),
            };
            let mut socket = netlink::Socket::route().map_err(netlink)?;
            let link = match interface {
                Interface::Named(name) => link::by_name(&mut socket, name.as_str()),
                Interface::Numbered(index) => link::by_index(&mut socket, *index, None),
            };
            let link = link.map_err(netlink)?;
            let mac =
                link.mac.ok_or_else(|| PortError::Failed(format!("{} has no MAC address", link.name)))?;
            if matches!(interface, Interface::Named(_)) && !link.up {
                let up = Change { up: Some(true), ..Change::default() };
                socket.ack(link::change(link.index, &up)).map_err(netlink)?;
            }
            let socket =
                PacketSocket::open(link.index, frame::CLIENT_PORT).map_err(|error| failed(&error))?;
            Ok(Port { socket, index: link.index, mac, mtu_bytes: link.mtu_bytes })
        });
        opened.map_err(|error| failed(&error))?
    }
}

/// Sets an interface down: the address on it is not the container's any more.
pub(super) fn set_down(netns: &NetNs, index: IfIndex) -> io::Result<()> {
    let down = Change { up: Some(false), ..Change::default() };
    let set = netns.run(|| netlink::Socket::route()?.ack(link::change(index, &down)))?;
    set.map_err(|error| io::Error::other(error.to_string()))
}

/// A client on a port.
pub(super) struct Client<'a> {
    pub(super) port: &'a Port,
    /// By which servers know it.
    pub(super) mac: MacAddr,
    pub(super) identity: &'a Identity,
    pub(super) patience: &'a Patience,
    /// Set when a DEL came.
    pub(super) stop: &'a AtomicBool,
}

impl Client<'_> {
    /// Gets a lease until `deadline`, of `wanted` only where that is given. `requesting` is called before an address is asked
    /// for.
    pub(super) fn acquire(
        &self,
        wanted: Option<Ipv4Addr>,
        deadline: Duration,
        mut requesting: impl FnMut(Ipv4Addr, Server) -> io::Result<()>,
    ) -> Result<Lease, Failure> {
        let began = sys::since_boot();
        let mut pause = FIRST_RESEND;
        let (mut refusals, mut unusable) = (0, None);
        while sys::since_boot() < deadline {
            let id = u32::from_ne_bytes(sys::random()?);
            let until = (sys::since_boot() + jittered(pause)?).min(deadline);
            let mut options = self.options(Kind::Discover);
            if let Some(address) = wanted {
                options.insert(message::REQUESTED_ADDRESS, address.octets().to_vec());
            }
            self.broadcast(&self.message(id, began, options))?;
            let is_offer = |message: &Message| {
                let fits = wanted.is_none_or(|wanted| wanted == message.yours);
                message.kind() == Some(Kind::Offer)
                    && message.address(message::SERVER).is_some()
                    && is_host(message.yours)
                    && fits
            };
            if let Some((offer, mac)) = self.listen(id, until, is_offer)? {
                let address = offer.address(message::SERVER).unwrap_or(Ipv4Addr::UNSPECIFIED);
                let server = Server { address, mac };
                requesting(offer.yours, server)?;
                match self.request(&offer, server, began, deadline)? {
                    Some(Ok(lease)) => return Ok(lease),
                    Some(Err(Refusal::Nak)) => refusals += 1,
                    Some(Err(Refusal::Unusable(why))) => unusable = Some(why),
                    None => {}
                }
                // A server that offers and refuses without end is not to be asked without end.
                self.listen(id, until, |_| false)?;
            }
            pause = (pause * 2).min(self.patience.resend_max);
        }
        Err(Failure::Silent { refusals, unusable })
    }

    /// Asks for an offered address, in the transaction of the offer. `None`: no answer.
    fn request(
        &self,
        offer: &Message,
        server: Server,
        began: Duration,
        deadline: Duration,
    ) -> Result<Option<Result<Lease, Refusal>>, Failure> {
        let mut pause = FIRST_RESEND;
        for _ in 0..REQUESTS {
            let asked = sys::since_boot();
            if asked >= deadline {
                break;
            }
            let mut options = self.options(Kind::Request);
            options.insert(message::REQUESTED_ADDRESS, offer.yours.octets().to_vec());
            options.insert(message::SERVER, server.address.octets().to_vec());
            self.broadcast(&self.message(offer.id, began, options))?;
            let until = (asked + jittered(pause)?).min(deadline);
            // Another server that heard the request may refuse it: that is not for this client.
            let is_answer = |message: &Message| {
                matches!(message.kind(), Some(Kind::Ack | Kind::Nak))
                    && message.address(message::SERVER) == Some(server.address)
                    && (message.kind() == Some(Kind::Nak) || message.yours == offer.yours)
            };
            match self.listen(offer.id, until, is_answer)? {
                Some((answer, _)) if answer.kind() == Some(Kind::Nak) => return Ok(Some(Err(Refusal::Nak))),
                Some((ack, mac)) => {
                    return Ok(Some(Lease::from_ack(&ack, mac, asked).map_err(Refusal::Unusable)));
                }
                None => pause *= 2,
            }
        }
        Ok(None)
    }

    /// Asks for more time until `until`: the server that gave the lease, or, when `rebinding`, any.
    pub(super) fn renew(&self, lease: &Lease, rebinding: bool, until: Duration) -> Result<Renewal, Failure> {
        let began = sys::since_boot();
        let id = u32::from_ne_bytes(sys::random()?);
        let address = lease.address.addr();
        let mut pause = FIRST_RESEND;
        loop {
            let asked = sys::since_boot();
            if asked >= until {
                return Ok(Renewal::Silent);
            }
            let mut request = self.message(id, began, self.options(Kind::Request));
            request.client = address;
            // The address works: answers come to it.
            request.broadcast = false;
            let to = match rebinding {
                true => End { mac: EVERYBODY, address: Ipv4Addr::BROADCAST },
                false => End { mac: lease.server_mac, address: lease.server },
            };
            self.send(address, to, &request)?;
            let is_answer = |message: &Message| {
                let from = message.address(message::SERVER);
                let is_known = rebinding || from == Some(lease.server);
                match message.kind() {
                    Some(Kind::Ack) => is_known && from.is_some() && message.yours == address,
                    Some(Kind::Nak) => is_known,
                    _ => false,
                }
            };
            let next = (asked + jittered(pause)?).min(until);
            match self.listen(id, next, is_answer)? {
                Some((answer, _)) if answer.kind() == Some(Kind::Nak) => return Ok(Renewal::Refused),
                Some((ack, mac)) => match Lease::from_ack(&ack, mac, asked) {
                    Ok(lease) => return Ok(Renewal::Granted(lease)),
                    // The next answer may be better, but not sooner than without this one.
                    Err(_) => drop(self.listen(id, next, |_| false)?),
                },
                None => {}
            }
            pause *= 2;
        }
    }

    /// Gives an address back. No server answers that.
    pub(super) fn release(&self, address: Ipv4Addr, server: Server) -> io::Result<()> {
        let options = Options::from([
            (message::KIND, vec![Kind::Release as u8]),
            (message::CLIENT_ID, self.identity.client_id.clone()),
            (message::SERVER, server.address.octets().to_vec()),
        ]);
        let id = u32::from_ne_bytes(sys::random()?);
        let mut release = self.message(id, sys::since_boot(), options);
        release.client = address;
        release.broadcast = false;
        self.send(address, server.into(), &release)
    }

    /// What each message of this client has.
    fn options(&self, kind: Kind) -> Options {
        let mut options: Options = self.identity.provided.iter().cloned().collect();
        options.insert(message::KIND, vec![kind as u8]);
        options.insert(message::CLIENT_ID, self.identity.client_id.clone());
        if !self.identity.requested.is_empty() {
            options.insert(message::REQUEST_LIST, self.identity.requested.clone());
        }
        let largest = self.port.mtu_bytes.clamp(SMALLEST_PACKET_BYTES, LARGEST_PACKET_BYTES) as u16;
        options.entry(message::MAX_MESSAGE_BYTES).or_insert_with(|| largest.to_be_bytes().to_vec());
        options
    }

    fn message(&self, id: u32, began: Duration, options: Options) -> Message {
        let seconds = sys::since_boot().saturating_sub(began).as_secs();
        Message {
            is_reply: false,
            id,
            seconds: u16::try_from(seconds).unwrap_or(u16::MAX),
            broadcast: self.patience.broadcast,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::UNSPECIFIED,
            mac: self.mac,
            options,
        }
    }

    fn broadcast(&self, message: &Message) -> io::Result<()> {
        self.send(Ipv4Addr::UNSPECIFIED, End { mac: EVERYBODY, address: Ipv4Addr::BROADCAST }, message)
    }

    fn send(&self, from: Ipv4Addr, to: End, message: &Message) -> io::Result<()> {
        let from = End { mac: self.port.mac, address: from };
        self.port.socket.send(&frame::to_server(from, to, &message.encode()))
    }

    /// Waits for a reply of this transaction that is wanted, and returns it with the MAC that it came from. Whatever else
    /// arrives is none.
    fn listen(
        &self,
        id: u32,
        until: Duration,
        is_wanted: impl Fn(&Message) -> bool,
    ) -> Result<Option<(Message, MacAddr)>, Failure> {
        let mut buffer = [0; 2048];
        loop {
            let Some(left) = until.checked_sub(sys::since_boot()).filter(|left| !left.is_zero()) else {
                return Ok(None);
            };
            if self.stop.load(Ordering::Acquire) {
                return Err(Failure::Stopped);
            }
            let Some(length) = self.port.socket.receive(&mut buffer, left.min(SLICE))? else { continue };
            let Some((sender, payload)) = frame::from_server(&buffer[..length]) else { continue };
            let Ok(message) = Message::decode(payload) else { continue };
            if message.is_reply && message.id == id && message.mac == self.mac && is_wanted(&message) {
                return Ok(Some((message, sender.mac)));
            }
        }
    }
}

/// Why an address was not given.
enum Refusal {
    Nak,
    Unusable(String),
}

/// A time a quarter shorter or longer, so that pods that began together do not ask together for ever.
fn jittered(time: Duration) -> io::Result<Duration> {
    let quarters = u32::from(u16::from_ne_bytes(sys::random()?)) % 513;
    Ok(time * 3 / 4 + time * quarters / 1024)
}
