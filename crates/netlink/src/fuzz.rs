//! What fuzz/ calls: the reading of bytes as of a kernel's answer, without a kernel.

use crate::message::{Attributes, HEADER};
use crate::socket::Messages;
use crate::{
    addr, bridge_vlan, conntrack, diag, link, monitor, neigh, netconf, nsid, qdisc, route, rule, unix_diag,
};

/// Reads every message of a datagram in every way, and says how much was understood.
pub fn datagram(bytes: &[u8]) -> usize {
    let mut understood = 0;
    for message in Messages(bytes) {
        understood += usize::from(message.error("fuzz").is_some());
        understood += usize::from(message.done_error("fuzz").is_some());
        understood += usize::from(monitor::parse(message.kind, message.payload).is_some());
        understood += payload(message.payload);
    }
    understood
}

/// Reads the payload of a message as an answer to each of the requests.
pub fn payload(bytes: &[u8]) -> usize {
    assert!(descend(Attributes(bytes), 0) <= bytes.len(), "an attribute was read twice");
    let link = link::parse(bytes);
    if let Some(link) = &link {
        // What is not UTF-8 grows, at most to three bytes for one.
        assert!(link.name.len() <= 3 * bytes.len() && !link.name.contains('\0'));
    }
    let flow = conntrack::parse(bytes, &[53]);
    if let Some(flow) = &flow {
        let request = conntrack::forget([2, 0, 0, 0], flow);
        assert!(request.as_bytes().len() <= HEADER + 16 + 2 * bytes.len().next_multiple_of(4));
        let back = conntrack::parse(&request.as_bytes()[HEADER..], &[53]);
        assert!(back.is_some_and(|back| back.0.starts_with(&flow.0)), "the request is about another flow");
    }
    let _ = qdisc::parse_class(bytes);
    let _ = qdisc::parse_filter(bytes);
    let limit = qdisc::parse(bytes);
    if let Some((index, limit)) = limit {
        // What a kernel says can be said to a kernel.
        let _ = qdisc::limit(index, limit);
    }
    let understood = [
        link.is_some(),
        bridge_vlan::parse(bytes).is_some(),
        addr::parse(bytes).is_some(),
        route::parse(bytes).is_some(),
        route::way(bytes).is_some(),
        neigh::neighbour(bytes).is_some(),
        neigh::fdb_entry(bytes).is_some(),
        neigh::table(bytes).is_some(),
        netconf::parse(bytes).is_some(),
        rule::parse(bytes).is_some(),
        nsid::parse(bytes).is_some(),
        limit.is_some(),
        flow.is_some(),
        diag::parse(bytes).is_some(),
        diag::parse_socket(bytes, model::SocketProtocol::Raw).is_some(),
        diag::parse_packet(bytes).is_some(),
        unix_diag::parse(bytes).is_some(),
        conntrack::parse_translated(bytes).is_some(),
    ];
    understood.into_iter().filter(|understood| *understood).count()
}

/// Follows nested attributes as deep as messages have them; returns how many bytes the outermost ones have.
fn descend(attributes: Attributes<'_>, depth: usize) -> usize {
    const DEEPEST: usize = 4;
    let mut length = 0;
    for attribute in attributes {
        length += 4 + attribute.value.len();
        let _ = (attribute.u8(), attribute.be32(), attribute.i32(), attribute.ip(), attribute.mac());
        if depth < DEEPEST {
            let inner = descend(attribute.nested(), depth + 1);
            assert!(inner <= attribute.value.len(), "an attribute is larger than the one around it");
        }
    }
    length
}
