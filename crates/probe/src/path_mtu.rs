//! The largest packet that travels in one piece, found by echo requests: there and back.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use sys::NetNs;

use crate::failure::{Failure, Notice};
use crate::ping::{Ping, Pinger, Pong};
use crate::route;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathMtu {
    /// The largest packet that came through, in bytes, its IP header included.
    pub bytes: u32,
    /// MTU of the sender's interface, in bytes.
    pub device_bytes: u32,
    /// Who said that a packet was too big, in the order in which they did, and how much they take.
    pub told: Vec<(IpAddr, u32)>,
    /// The smallest packet that vanished without a word: beyond it is a black hole, in which connections hang once they send much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vanishes_from: Option<u32>,
}

/// A size that vanishes is tried this often, since any packet may be lost.
const TRIES: u32 = 3;
/// How long a reply may take at least, however soon another one came: a busy machine has its pauses.
const SHORTEST_WAIT: Duration = Duration::from_millis(60);
/// How many times as long as a small reply took another one may take.
const TIMES_THE_USUAL: u32 = 5;
/// How many times as long a size is waited for that is said to vanish.
const SECOND_CHANCE: u32 = 4;

/// Finds the largest packet that goes from a namespace to an address and whose reply comes back.
///
/// Each router that says how much it takes shortens the search, as in RFC 1191; where packets vanish in silence, sizes are halved, as
/// in RFC 4821. Fails when not even the smallest packet comes back, or when the time is over before the size is certain.
pub fn path_mtu(from: &NetNs, to: IpAddr, patience: Duration) -> Result<PathMtu, Failure> {
    let deadline = Instant::now() + patience;
    let way = route::route(from, to)?;
    let mut pinger = Pinger::open(from, to)?;
    let smallest = Ping::smallest(to.is_ipv6());
    // The first one may wait for neighbours to be found, a second on each link.
    let first = any_answer(&mut pinger, smallest, patience)?;
    let enough = |pong: Pong| (pong.after * TIMES_THE_USUAL).max(SHORTEST_WAIT);
    let mut again = (0..TRIES).map_while(|_| {
        let left = deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| pinger.ping(Some(smallest), enough(first).min(left)))
    });
    let usual = again.find_map(Result::ok).unwrap_or(first);
    let mut search = Search {
        wait: enough(usual),
        pinger,
        deadline,
        smallest,
        found: PathMtu {
            bytes: smallest,
            device_bytes: way.mtu_bytes,
            told: Vec::new(),
            vanishes_from: None,
        },
    };
    // No packet is longer than its length can say.
    let most = way.mtu_bytes.min(65_535);
    loop {
        search.up_to(most)?;
        let Some(vanished) = search.found.vanishes_from else { return Ok(search.found) };
        // A machine that is busy may be slow to answer: what is called a black hole gets a second chance.
        search.wait *= SECOND_CHANCE;
        match search.ask(vanished)? {
            Answer::Nothing => return Ok(search.found),
            Answer::Came | Answer::TooBig(..) => search.found.vanishes_from = None,
        }
    }
}

/// The first answer of all. Any packet may be lost, and nobody knows how long one takes: each is waited for twice as long as the one
/// before.
fn any_answer(pinger: &mut Pinger, bytes: u32, patience: Duration) -> Result<Pong, Failure> {
    const TRIES: u32 = 4;
    let part = patience / ((1 << TRIES) - 1);
    for number in 0..TRIES {
        match pinger.ping(Some(bytes), part * (1 << number)) {
            Err(Failure::Silence { .. }) => {}
            answer => return answer,
        }
    }
    Err(Failure::Silence { waited: patience })
}

struct Search {
    pinger: Pinger,
    wait: Duration,
    deadline: Instant,
    smallest: u32,
    found: PathMtu,
}

impl Search {
    /// Finds the largest that comes through, from what is found so far to `limit`.
    fn up_to(&mut self, mut limit: u32) -> Result<(), Failure> {
        let mut next = limit;
        while self.found.bytes < limit {
            match self.ask(next)? {
                Answer::Came => self.found.bytes = next,
                Answer::TooBig(by, mtu) => {
                    let told = by.filter(|_| mtu > 0).map(|by| (by, mtu));
                    self.found.told.extend(told.filter(|told| !self.found.told.contains(told)));
                    // One that names no size, or none below this one, has said only that this one is too big.
                    limit = if mtu > 0 && mtu < next { mtu.max(self.smallest) } else { next - 1 };
                    self.found.vanishes_from = self.found.vanishes_from.filter(|vanished| *vanished <= limit);
                    next = limit;
                    continue;
                }
                Answer::Nothing => {
                    self.found.vanishes_from = Some(next);
                    limit = next - 1;
                }
            }
            next = limit - (limit - self.found.bytes) / 2;
        }
        Ok(())
    }

    fn ask(&mut self, bytes: u32) -> Result<Answer, Failure> {
        for _ in 0..TRIES {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Nonsense { what: "the time was over before the size was certain" });
            }
            match self.pinger.ping(Some(bytes), self.wait.min(left)) {
                Ok(_) => return Ok(Answer::Came),
                Err(Failure::TooLarge) => return Ok(Answer::TooBig(None, 0)),
                Err(Failure::Told { by, notice: Notice::TooBig { mtu_bytes } }) => {
                    return Ok(Answer::TooBig(Some(by), mtu_bytes));
                }
                Err(Failure::Silence { .. }) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(Answer::Nothing)
    }
}

enum Answer {
    Came,
    /// Who says so (nobody: the sender's own interface), and how much it takes.
    TooBig(Option<IpAddr>, u32),
    Nothing,
}
