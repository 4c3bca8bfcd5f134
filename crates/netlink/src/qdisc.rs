//! Traffic shaping: a token bucket on what an interface sends, and a detour for what it receives.

mod classes;
mod filters;

#[cfg(feature = "fuzz")]
pub(crate) use classes::parse as parse_class;
pub use classes::{Address, Subnets, limit_of_some, limit_some};
pub use filters::filters;
#[cfg(feature = "fuzz")]
pub(crate) use filters::parse as parse_filter;

use model::IfIndex;

use crate::error::Result;
use crate::message::{Attributes, CREATE_EXCLUSIVE, Request};
use crate::socket::Socket;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const TCMSG: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS: u16 = 3;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const U32_SELECTOR: u16 = 5;
const ROOT: u32 = 0xffff_ffff;
const INGRESS_PARENT: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// How long a packet may wait for tokens; the reference plugin's value.
const LATENCY_MS: u64 = 25;

fn tcmsg(index: IfIndex, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut header = [0; TCMSG];
    for (at, word) in [(4, index.0), (8, handle), (12, parent), (16, info)] {
        header[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    header
}

/// A rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may go at once; less than 4 GiB.
    pub burst: u32,
}

impl Limit {
    /// The kernel counts time in units of 64 ns (`PSCHED_SHIFT`): how long the burst takes at this rate.
    fn burst_ticks(self) -> u32 {
        let nanoseconds = u128::from(self.burst) * 1_000_000_000 / u128::from(self.rate.max(1));
        u32::try_from(nanoseconds / 64).unwrap_or(u32::MAX)
    }

    /// The limit of this rate whose burst takes so long.
    fn of_ticks(rate: u64, ticks: u32) -> Self {
        let burst = u128::from(ticks) * 64 * u128::from(rate) / 1_000_000_000;
        Self { rate, burst: u32::try_from(burst).unwrap_or(u32::MAX) }
    }

    /// Bytes that may wait.
    fn queue(self) -> u32 {
        let waiting = u128::from(self.rate) * u128::from(LATENCY_MS) / 1000 + u128::from(self.burst);
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }
}

/// Limits what the interface sends (tc-tbf(8)).
pub fn limit(index: IfIndex, limit: Limit) -> Request {
    const HANDLE: u32 = 0x1_0000;
    let rate = u32::try_from(limit.rate).unwrap_or(u32::MAX);
    // struct tc_tbf_qopt: rate and peak rate (each with a cell size, an overhead and the rate), queue, burst, mtu.
    let mut options = Vec::with_capacity(36);
    options.extend_from_slice(&[0; 8]);
    options.extend_from_slice(&rate.to_ne_bytes());
    options.extend_from_slice(&[0; 12]);
    for word in [limit.queue(), limit.burst_ticks(), 0] {
        options.extend_from_slice(&word.to_ne_bytes());
    }
    Request::new("limit rate", RTM_NEWQDISC, CREATE_EXCLUSIVE, &tcmsg(index, HANDLE, ROOT, 0))
        .attr_str(TCA_KIND, "tbf")
        .nest(TCA_OPTIONS, |r| {
            let r = r.attr(TCA_TBF_PARMS, &options).attr_u32(TCA_TBF_BURST, limit.burst);
            match u32::try_from(limit.rate) {
                Ok(_) => r,
                Err(_) => r.attr(TCA_TBF_RATE64, &limit.rate.to_ne_bytes()),
            }
        })
}

/// What happens to packets on a bad line (tc-netem(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impairment {
    /// How long each is kept, in microseconds.
    pub delay_us: u32,
    /// How many of a million are lost.
    pub loss_ppm: u32,
    /// Bytes a second; 0: no limit.
    pub rate: u64,
}

impl Impairment {
    /// Packets that may wait. What is on its way counts as well, so without a rate it is enough for a long fast line (tc's own
    /// 1,000 are not). Where the rate is the limit, more than on a line with [`limit`] would only be late: 10,000 large packets take
    /// 12 s at 10 Mbit/s.
    fn queue(self) -> u32 {
        const PACKET: u64 = 1_500;
        const FEWEST: u64 = 50;
        const MOST: u64 = 10_000;
        if self.rate == 0 {
            return MOST as u32;
        }
        let time_us = u64::from(self.delay_us) + LATENCY_MS * 1_000;
        let bytes = u128::from(self.rate) * u128::from(time_us) / 1_000_000;
        let packets = u64::try_from(bytes / u128::from(PACKET)).unwrap_or(MOST);
        packets.clamp(FEWEST, MOST) as u32
    }
}

/// Keeps or loses what the interface sends. Fails with ENOENT on a kernel without CONFIG_NET_SCH_NETEM.
pub fn impair(index: IfIndex, line: Impairment) -> Request {
    const HANDLE: u32 = 0x1_0000;
    const NETEM_RATE: u16 = 6;
    const NETEM_RATE64: u16 = 8;
    const NETEM_LATENCY64: u16 = 10;
    let loss = u64::from(line.loss_ppm) * u64::from(u32::MAX) / 1_000_000;
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
    let mut options = [0u8; 24];
    options[4..8].copy_from_slice(&line.queue().to_ne_bytes());
    options[8..12].copy_from_slice(&u32::try_from(loss).unwrap_or(u32::MAX).to_ne_bytes());
    let nanoseconds = i64::from(line.delay_us) * 1_000;
    Request::new("impair", RTM_NEWQDISC, CREATE_EXCLUSIVE, &tcmsg(index, HANDLE, ROOT, 0))
        .attr_str(TCA_KIND, "netem")
        .enclose(TCA_OPTIONS, |r| {
            let r = r.raw(&options).attr(NETEM_LATENCY64, &nanoseconds.to_ne_bytes());
            if line.rate == 0 {
                return r;
            }
            // struct tc_netem_rate: rate, packet overhead, cell size, cell overhead.
            let mut rate = [0u8; 16];
            rate[..4].copy_from_slice(&u32::try_from(line.rate).unwrap_or(u32::MAX).to_ne_bytes());
            r.attr(NETEM_RATE, &rate).attr(NETEM_RATE64, &line.rate.to_ne_bytes())
        })
}

/// Takes the interface's queue away; it gets the default one.
pub fn remove(index: IfIndex) -> Request {
    Request::new("remove queue", RTM_DELQDISC, 0, &tcmsg(index, 0, ROOT, 0))
}

/// Leads everything that `from` receives through `to` (an ifb), where it can be limited: two requests.
pub fn redirect(from: IfIndex, to: IfIndex) -> [Request; 2] {
    const ETH_P_ALL: u16 = 3;
    const U32_ACTION: u16 = 7;
    const ACTION_KIND: u16 = 1;
    const ACTION_OPTIONS: u16 = 2;
    const MIRRED_PARAMETERS: u16 = 2;
    const TC_ACT_STOLEN: u32 = 4;
    const EGRESS_REDIRECT: u32 = 1;
    let ingress = Request::new(
        "create ingress qdisc",
        RTM_NEWQDISC,
        CREATE_EXCLUSIVE,
        &tcmsg(from, INGRESS_HANDLE, INGRESS_PARENT, 0),
    )
    .attr_str(TCA_KIND, "ingress");
    // struct tc_u32_sel with one key that matches everything: terminal, one key, and zeros.
    let mut selector = [0u8; 32];
    selector[0] = 1;
    selector[2] = 1;
    // struct tc_mirred: index, capabilities, action, two counters, what to do, where.
    let mirred = [0, 0, TC_ACT_STOLEN, 0, 0, EGRESS_REDIRECT, to.0];
    let mirred: Vec<u8> = mirred.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let priority = 1 << 16 | u32::from(ETH_P_ALL.to_be());
    let filter = Request::new(
        "redirect to ifb",
        RTM_NEWTFILTER,
        CREATE_EXCLUSIVE,
        &tcmsg(from, 0, INGRESS_HANDLE, priority),
    )
    .attr_str(TCA_KIND, "u32")
    .nest(TCA_OPTIONS, |r| {
        r.attr(U32_SELECTOR, &selector).nest(U32_ACTION, |r| {
            r.nest(1, |r| {
                r.attr_str(ACTION_KIND, "mirred").nest(ACTION_OPTIONS, |r| r.attr(MIRRED_PARAMETERS, &mirred))
            })
        })
    });
    [ingress, filter]
}

/// The rate limit of an interface, where it has one.
pub fn limit_of(socket: &mut Socket, index: IfIndex) -> Result<Option<Limit>> {
    let request = Request::new("list qdiscs", RTM_GETQDISC, 0, &tcmsg(index, 0, 0, 0));
    let all = socket.dump(&request, parse)?;
    Ok(all.into_iter().find(|(of, _)| *of == index).map(|(_, limit)| limit))
}

/// How many packets wait in the queue of each interface where some do.
pub fn waiting(socket: &mut Socket) -> Result<Vec<(IfIndex, u32)>> {
    let request = Request::new("list qdiscs", RTM_GETQDISC, 0, &tcmsg(IfIndex(0), 0, 0, 0));
    socket.dump(&request, queued)
}

/// `qlen` of `struct tc_stats`, where it is not zero.
fn queued(payload: &[u8]) -> Option<(IfIndex, u32)> {
    const QLEN: usize = 28;
    let of = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let statistics = Attributes::after(payload, TCMSG).find(TCA_STATS)?.value;
    let packets = u32::from_ne_bytes(statistics.get(QLEN..QLEN + 4)?.try_into().ok()?);
    (packets > 0).then_some((IfIndex(of), packets))
}

/// A token bucket, and of which interface.
pub(crate) fn parse(payload: &[u8]) -> Option<(IfIndex, Limit)> {
    let of = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let attributes = Attributes::after(payload, TCMSG);
    if attributes.find(TCA_KIND)?.string() != "tbf" {
        return None;
    }
    let options = attributes.find(TCA_OPTIONS)?.nested();
    let parameters = options.find(TCA_TBF_PARMS)?.value;
    let word = |at: usize| Some(u32::from_ne_bytes(parameters.get(at..at + 4)?.try_into().ok()?));
    let rate64 = options.find(TCA_TBF_RATE64);
    let rate64 = rate64.and_then(|rate| Some(u64::from_ne_bytes(rate.value.try_into().ok()?)));
    let rate = rate64.unwrap_or(u64::from(word(8)?));
    Some((IfIndex(of), Limit::of_ticks(rate, word(28)?)))
}
