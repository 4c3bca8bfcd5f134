//! Removing a veth, without waiting for the kernel to free its memory.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use model::IfIndex;
use netlink::{Socket, link};

/// How long we watch for the link to go while a child deletes it, before we delete it ourselves. It is 0.2 ms, as a rule.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is being removed.
#[derive(Debug, Default)]
pub(crate) struct Removal {
    /// A veth end; both ends go.
    pub(crate) link: Option<Doomed>,
    /// A socket on which nftables elements were deleted: closing it last is what waits.
    pub(crate) nft: Option<Socket>,
}

/// A link to delete, with two sockets of the namespace that it is in: one to delete it by, one to watch it go.
#[derive(Debug)]
pub(crate) struct Doomed {
    index: IfIndex,
    deleter: Socket,
    watcher: Socket,
}

impl Doomed {
    /// The link with this index of the calling thread's namespace.
    pub(crate) fn here(index: IfIndex) -> netlink::Result<Self> {
        Ok(Self { index, deleter: Socket::route()?, watcher: Socket::route()? })
    }
}

impl Removal {
    /// Deletes the link and returns when it is gone from every view.
    ///
    /// `RTM_DELLINK` takes effect after 0.2 ms and returns after 18, because its caller waits for RCU grace periods. A child
    /// process does that waiting, and is also the last to close the nftables socket (5 to 34 ms).
    pub(crate) fn carry_out(self) -> netlink::Result<()> {
        let Removal { link, nft } = self;
        let nft = nft.as_ref().map(|socket| socket.as_fd().as_raw_fd());
        let Some(Doomed { index, mut deleter, mut watcher }) = link else {
            if nft.is_some() {
                // Without a child we wait ourselves, when the socket is dropped.
                let _ = sys::fork_detached(nft.as_slice(), || {});
            }
            return Ok(());
        };
        let mut keep = vec![deleter.as_fd().as_raw_fd()];
        keep.extend(nft);
        let forked = sys::fork_detached(&keep, || {
            let _ = deleter.ack(link::delete(index));
        });
        if forked.is_ok() {
            let start = Instant::now();
            while start.elapsed() < PATIENCE {
                match link::by_index(&mut watcher, index, None) {
                    Err(error) if error.is_gone() => return Ok(()),
                    Err(error) => return Err(error),
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
