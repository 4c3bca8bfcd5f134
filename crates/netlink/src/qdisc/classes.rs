//! Limiting only some of what an interface sends: two classes (tc-htb(8)), and filters that tell by subnet which is whose.

use std::net::IpAddr;

use ipnet::IpNet;
use model::IfIndex;

use super::{Limit, ROOT, RTM_NEWQDISC, RTM_NEWTFILTER, TCA_KIND, TCA_OPTIONS, TCMSG, U32_SELECTOR, tcmsg};
use crate::error::Result;
use crate::message::{Attributes, CREATE_EXCLUSIVE, Request};
use crate::socket::Socket;

const RTM_NEWTCLASS: u16 = 40;
const RTM_GETTCLASS: u16 = 42;
const HANDLE: u32 = 0x1_0000;
/// The reference plugin's numbers of the classes (plugins/meta/bandwidth/ifb_creator.go).
const SHAPED: u32 = HANDLE | 0x30;
const UNSHAPED: u32 = HANDLE | 1;
/// Bytes a second that nothing here reaches: a class of htb has a rate.
const UNSHAPED_RATE: u64 = 100_000_000_000;
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
const U32_CLASS: u16 = 1;

/// Whose packets are limited: those of these subnets, or those of all others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subnets {
    /// The subnets.
    pub list: Vec<IpNet>,
    /// Whether theirs are limited.
    pub are_shaped: bool,
}

/// Which address of a packet has to be in a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Limits what the interface sends from, or to, subnets. To be carried out in order.
pub fn limit_some(index: IfIndex, limit: Limit, subnets: &Subnets, address: Address) -> Vec<Request> {
    let (default, listed) = if subnets.are_shaped { (UNSHAPED, SHAPED) } else { (SHAPED, UNSHAPED) };
    // struct tc_htb_glob: version, bytes a second for each byte of a turn, the class of what no filter knows, and zeros.
    let init = words(&[3, 10, default & 0xffff, 0, 0]);
    let htb = Request::new("limit rate", RTM_NEWQDISC, CREATE_EXCLUSIVE, &tcmsg(index, HANDLE, ROOT, 0))
        .attr_str(TCA_KIND, "htb")
        .nest(TCA_OPTIONS, |r| r.attr(TCA_HTB_INIT, &init));
    let all = Limit { rate: UNSHAPED_RATE, burst: 1 << 20 };
    let mut requests = vec![htb, class(index, SHAPED, limit), class(index, UNSHAPED, all)];
    requests.extend(subnets.list.iter().map(|subnet| filter(index, listed, *subnet, address)));
    requests
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn class(index: IfIndex, handle: u32, limit: Limit) -> Request {
    /// Ethernet (`TC_LINKLAYER_ETHERNET`): otherwise the kernel wants a table of rates.
    const LINK_LAYER: u32 = 1 << 8;
    /// Bytes of a turn. There is nobody to take turns with, but without it the kernel logs that it is small, or big.
    const QUANTUM: u32 = 10_000;
    let rate = u32::try_from(limit.rate).unwrap_or(u32::MAX);
    let layer = LINK_LAYER.to_le();
    let burst = limit.burst_ticks();
    // struct tc_htb_opt: the rate and the most that could be borrowed (each with its link layer), bursts, turn, level, priority.
    let options = words(&[layer, 0, rate, layer, 0, rate, burst, burst, QUANTUM, 0, 0]);
    Request::new("limit rate", RTM_NEWTCLASS, CREATE_EXCLUSIVE, &tcmsg(index, handle, HANDLE, 0))
        .attr_str(TCA_KIND, "htb")
        .nest(TCA_OPTIONS, |r| {
            let r = r.attr(TCA_HTB_PARMS, &options);
            match u32::try_from(limit.rate) {
                Ok(_) => r,
                Err(_) => {
                    let rate = limit.rate.to_ne_bytes();
                    r.attr(TCA_HTB_RATE64, &rate).attr(TCA_HTB_CEIL64, &rate)
                }
            }
        })
}

/// Leads packets of a subnet to a class.
fn filter(index: IfIndex, class: u32, subnet: IpNet, address: Address) -> Request {
    const ETH_P_IP: u16 = 0x0800;
    const ETH_P_IPV6: u16 = 0x86dd;
    const TERMINAL: u8 = 1;
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    // Filters of one priority are of one protocol.
    let (protocol, priority, start) = match (subnet, address) {
        (IpNet::V4(_), Address::Source) => (ETH_P_IP, 16, 12u32),
        (IpNet::V4(_), Address::Destination) => (ETH_P_IP, 16, 16),
        (IpNet::V6(_), Address::Source) => (ETH_P_IPV6, 15, 8),
        (IpNet::V6(_), Address::Destination) => (ETH_P_IPV6, 15, 24),
    };
    let (value, mask) = (octets(subnet.network()), octets(subnet.netmask()));
    // struct tc_u32_key: mask and value in network order, where in the packet, and a zero.
    let mut keys = Vec::new();
    for ((mask, value), at) in mask.chunks(4).zip(value.chunks(4)).zip((start..).step_by(4)) {
        if mask != [0; 4] || keys.is_empty() && subnet.prefix_len() == 0 {
            keys.push([mask, value, &at.to_ne_bytes(), &[0; 4]].concat());
        }
    }
    // struct tc_u32_sel: terminal, a shift, how many keys, and zeros.
    let selector = [&[TERMINAL, 0, keys.len() as u8][..], &[0; 13], &keys.concat()].concat();
    let info = priority << 16 | u32::from(protocol.to_be());
    Request::new("lead to class", RTM_NEWTFILTER, CREATE_EXCLUSIVE, &tcmsg(index, 0, HANDLE, info))
        .attr_str(TCA_KIND, "u32")
        .nest(TCA_OPTIONS, |r| r.attr_u32(U32_CLASS, class).attr(U32_SELECTOR, &selector))
}

/// The limit of the class that is limited, where the interface has one.
pub fn limit_of_some(socket: &mut Socket, index: IfIndex) -> Result<Option<Limit>> {
    let request = Request::new("list classes", RTM_GETTCLASS, 0, &tcmsg(index, 0, 0, 0));
    Ok(socket.dump(&request, parse)?.into_iter().next())
}

/// The limit, of the class that has one.
pub(crate) fn parse(payload: &[u8]) -> Option<Limit> {
    let word = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let attributes = Attributes::after(payload, TCMSG);
    if word(payload, 8)? != SHAPED || attributes.find(TCA_KIND)?.string() != "htb" {
        return None;
    }
    let options = attributes.find(TCA_OPTIONS)?.nested();
    let parameters = options.find(TCA_HTB_PARMS)?.value;
    let rate64 = options.find(TCA_HTB_RATE64);
    let rate64 = rate64.and_then(|rate| Some(u64::from_ne_bytes(rate.value.try_into().ok()?)));
    let rate = rate64.unwrap_or(u64::from(word(parameters, 8)?));
    Some(Limit::of_ticks(rate, word(parameters, 24)?))
}
