//! Undoing what a record says: what DEL, GC and a failed ADD have in common.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use cni::{Outcome, Result};
use model::{AttachmentKey, AttachmentRecord, Before, IfIndex, Link};
use netlink::link::{self, Change};
use netlink::{Request, Socket};
use sys::NetNs;

use crate::host::kernel;
use crate::netns::{self, Container};

/// How often we look, letting others run, before we sleep in between.
const LOOKS: u32 = 200;
/// After a transaction that deleted something the kernel frees memory, in its own time (5 to 34 ms). Whoever closes an nfnetlink socket before
/// that waits for it, and meanwhile nobody else can change the ruleset (`nft_rcv_nl_event` holds the commit mutex): the next plugin of a
/// chain would wait as well. So the child closes it later than that.
const UNTIL_FREED: Duration = Duration::from_millis(200);
/// How long we watch for the link to go while a child deletes it, before we delete it ourselves. It is 0.2 ms, as a rule.
const PATIENCE: Duration = Duration::from_secs(2);

/// Removes what the record's plugin made, as far as it is there: nftables elements, settings, the interface.
///
/// `given` is the namespace at the path that DEL came with. It may be another one by now, with an interface of the same name:
/// the record says which one it was.
pub(crate) fn undo(record: &AttachmentRecord, given: Option<&Container>) -> Result<()> {
    let mut removal = Removal::default();
    if !record.rules.is_empty() {
        let mut socket = Socket::netfilter().map_err(kernel)?;
        if nft::remove(&mut socket, &record.key.file_name(), &record.rules).map_err(kernel)? {
            removal.nft = Some(socket);
        }
    }
    let mut host = Socket::route().map_err(kernel)?;
    if let Some(name) = &record.host_interface {
        match link::by_name(&mut host, name.as_str()) {
            Ok(found) if is_ours(&found, record) => {
                removal.link = Some(Doomed::here(found.index).map_err(kernel)?);
            }
            Ok(_) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(kernel(error)),
        }
    }
    let in_container = record.kind.is_some() || record.before.is_some();
    if removal.link.is_none() && in_container {
        removal.link = inside(record, given, &mut host)?;
    }
    removal.carry_out().map_err(kernel)
}

/// What is to be undone in the container: settings at once, the interface to be deleted as the result.
fn inside(record: &AttachmentRecord, given: Option<&Container>, host: &mut Socket) -> Result<Option<Doomed>> {
    let is_it = |netns: &Container| record.ns_id.is_none() || record.ns_id == netns.id();
    let own = match given {
        Some(_) => None,
        None => Container::open(&record.netns).ok().filter(|netns| record.ns_id.is_some() && is_it(netns)),
    };
    let Some(container) = given.filter(|netns| is_it(netns)).or(own.as_ref()) else {
        // The namespace is gone. Hardware that was in it is back on the host, where its alias tells it.
        return record.before.iter().try_for_each(|before| rename_back(host, record, before)).map(|()| None);
    };
    let _entered = netns::enter(container)?;
    let mut socket = Socket::route().map_err(kernel)?;
    let found = match link::by_name(&mut socket, record.key.ifname.as_str()) {
        Ok(found) => found,
        Err(error) if error.is_gone() => return Ok(None),
        Err(error) => return Err(kernel(error)),
    };
    if let Some(before) = &record.before {
        give_back(&mut socket, &found, record, before, &container.home)?;
    }
    // Only what this plugin made: another kind of the same name is somebody else's.
    let is_made = record.kind.as_deref() == Some(found.kind.as_str())
        && (record.mac.is_none() || record.mac == found.mac || record.before.is_some());
    if is_made { Doomed::here(found.index).map(Some).map_err(kernel) } else { Ok(None) }
}

/// Restores settings, and moves the interface back to the host if it came from there.
fn give_back(
    socket: &mut Socket,
    found: &Link,
    record: &AttachmentRecord,
    before: &Before,
    home: &NetNs,
) -> Result<()> {
    let failed = |error: netlink::Error| kernel(error.on(&record.key.ifname));
    if before.host_name.is_some() && found.alias.as_deref() != Some(record.key.alias().as_str()) {
        return Ok(());
    }
    for request in restoring(found.index, before) {
        socket.ack(request).map_err(failed)?;
    }
    let Some(name) = &before.host_name else { return Ok(()) };
    let back = Change {
        netns: Some(home.as_fd()),
        name: Some(name),
        alias: Some(before.alias.as_deref().unwrap_or_default()),
        ..Change::default()
    };
    // A name can be changed only while the interface is down.
    socket
        .ack(link::change(found.index, &Change { up: Some(false), ..Change::default() }))
        .map_err(failed)?;
    socket.ack(link::change(found.index, &back)).map_err(failed)
}

/// One request for each setting, so that a device that refuses one takes the others.
pub(crate) fn restoring(index: IfIndex, before: &Before) -> Vec<Request> {
    let nothing = Change::default;
    let changes = [
        before.mtu_bytes.map(|mtu| Change { mtu_bytes: Some(mtu), ..nothing() }),
        before.mac.map(|mac| Change { mac: Some(mac), ..nothing() }),
        before.promiscuous.map(|on| Change { promisc: Some(on), ..nothing() }),
        before.all_multicast.map(|on| Change { all_multicast: Some(on), ..nothing() }),
        before.tx_queue.map(|length| Change { tx_queue: Some(length), ..nothing() }),
    ];
    changes.into_iter().flatten().map(|change| link::change(index, &change)).collect()
}

fn rename_back(host: &mut Socket, record: &AttachmentRecord, before: &Before) -> Result<()> {
    let Some(name) = &before.host_name else { return Ok(()) };
    let alias = record.key.alias();
    let all = link::list(host, None).map_err(kernel)?;
    let Some(back) = all.iter().find(|link| link.alias.as_deref() == Some(&alias)) else { return Ok(()) };
    let changes = [
        Change { up: Some(false), ..Change::default() },
        Change {
            name: Some(name),
            alias: Some(before.alias.as_deref().unwrap_or_default()),
            ..Change::default()
        },
    ];
    let requests = changes.iter().map(|change| link::change(back.index, change));
    requests.into_iter().try_for_each(|request| host.ack(request)).map_err(|error| kernel(error.on(name)))
}

/// Whether a host interface is the attachment's: by its stamp, or, where a crash came before the stamp, by its MAC.
fn is_ours(link: &Link, record: &AttachmentRecord) -> bool {
    match link.alias.as_deref() {
        Some(alias) => alias == record.key.alias(),
        None => link.mac.is_some() && record.host_mac == link.mac,
    }
}

/// Removes what a result describes, for attachments that have no record: somebody else's plugin made them, or the record is
/// damaged. `kind` is what the plugin makes in the container.
pub(crate) fn undo_described(
    key: &AttachmentKey,
    kind: &str,
    previous: Option<&Outcome>,
    given: Option<&Container>,
) -> Result<()> {
    let mut removal = Removal::default();
    if let Some(container) = given {
        let _entered = netns::enter(container)?;
        let mut socket = Socket::route().map_err(kernel)?;
        match link::by_name(&mut socket, key.ifname.as_str()) {
            Ok(link) if link.kind == kind && is_described(&link, key, previous) => {
                removal.link = Some(Doomed::here(link.index).map_err(kernel)?);
            }
            Ok(_) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(kernel(error)),
        }
    }
    let ends = previous.into_iter().flat_map(|previous| &previous.interfaces);
    let mut ends = ends.filter(|end| end.sandbox.is_empty() && end.mac.is_some()).peekable();
    if removal.link.is_none() && kind == "veth" && ends.peek().is_some() {
        let mut socket = Socket::route().map_err(kernel)?;
        for end in ends {
            match link::by_name(&mut socket, &end.name) {
                Ok(link) if link.kind == kind && link.mac == end.mac => {
                    removal.link = Some(Doomed::here(link.index).map_err(kernel)?);
                }
                _ => {}
            }
        }
    }
    removal.carry_out().map_err(kernel)
}

/// Whether the container's interface is the one of the previous result, where that tells its MAC.
fn is_described(link: &Link, key: &AttachmentKey, previous: Option<&Outcome>) -> bool {
    let ends = previous.into_iter().flat_map(|previous| &previous.interfaces);
    let mut own = ends.filter(|end| end.name == key.ifname.as_str() && !end.sandbox.is_empty());
    own.next().is_none_or(|end| end.mac.is_none() || end.mac == link.mac)
}

/// What is being removed.
#[derive(Debug, Default)]
struct Removal {
    /// A link; of a veth, both ends go.
    link: Option<Doomed>,
    /// A socket on which nftables elements were deleted: closing it last is what waits.
    nft: Option<Socket>,
}

/// A link to delete, with two sockets of the namespace that it is in: one to delete it by, one to watch it go.
#[derive(Debug)]
struct Doomed {
    index: IfIndex,
    deleter: Socket,
    watcher: Socket,
}

impl Doomed {
    /// The link with this index of the calling thread's namespace.
    fn here(index: IfIndex) -> netlink::Result<Self> {
        Ok(Self { index, deleter: Socket::route()?, watcher: Socket::route()? })
    }
}

impl Removal {
    /// Deletes the link and returns when it is gone from every view.
    ///
    /// `RTM_DELLINK` takes effect after 0.2 ms and returns after 18, because its caller waits for RCU grace periods. A child
    /// process does that waiting, and is also the last to close the nftables socket.
    fn carry_out(self) -> netlink::Result<()> {
        let Removal { link, nft } = self;
        let nft = nft.as_ref().map(|socket| socket.as_fd().as_raw_fd());
        let Some(Doomed { index, mut deleter, mut watcher }) = link else {
            if nft.is_some() {
                // Without a child we wait ourselves, when the socket is dropped.
                let _ = sys::fork_detached(nft.as_slice(), || std::thread::sleep(UNTIL_FREED));
            }
            return Ok(());
        };
        let mut keep = vec![deleter.as_fd().as_raw_fd()];
        keep.extend(nft);
        let forked = sys::fork_detached(&keep, move || {
            let _ = deleter.ack(link::delete(index));
            // It may be the container's namespace that this socket holds.
            drop(deleter);
            if nft.is_some() {
                std::thread::sleep(UNTIL_FREED);
            }
        });
        if forked.is_ok() {
            let (start, mut looks) = (Instant::now(), 0);
            while start.elapsed() < PATIENCE {
                match link::by_index(&mut watcher, index, None) {
                    Err(error) if error.is_gone() => return Ok(()),
                    Err(error) => return Err(error),
                    // Asking waits for the lock that the removal has, so this ends with it.
                    Ok(_) if looks < LOOKS => {
                        looks += 1;
                        std::thread::yield_now();
                    }
                    Ok(_) => std::thread::sleep(Duration::from_micros(50)),
                }
            }
        }
        match watcher.ack(link::delete(index)) {
            Err(error) if !error.is_gone() => Err(error),
            _ => Ok(()),
        }
    }
}
