//! Filters of traffic control that see packets where they come in and leave, before they are sorted into classes.

use model::{IfIndex, TrafficFilter};

use super::{RTM_GETQDISC, TCA_KIND, TCA_OPTIONS, TCMSG, tcmsg};
use crate::error::Result;
use crate::message::{Attributes, Request};
use crate::socket::Socket;

const RTM_GETTFILTER: u16 = 46;
/// Where filters of an ingress or clsact qdisc are (`TC_H_CLSACT`).
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// `TCA_FLOWER_ACT`, and so on: each kind has a number of its own.
const ACTIONS: [(&str, u16); 6] =
    [("u32", 7), ("bpf", 1), ("flower", 3), ("matchall", 2), ("basic", 3), ("fw", 4)];
const BPF_NAME: u16 = 7;
const BPF_ID: u16 = 11;

/// All of the socket's namespace.
pub fn filters(socket: &mut Socket) -> Result<Vec<TrafficFilter>> {
    let request = Request::new("list qdiscs", RTM_GETQDISC, 0, &tcmsg(IfIndex(0), 0, 0, 0));
    let devices = match socket.dump(&request, has_filters) {
        // A kernel without traffic control.
        Err(error) if error.is_unsupported() => return Ok(Vec::new()),
        devices => devices?,
    };
    let mut found = Vec::new();
    for (device, both) in devices {
        for (parent, ingress) in [(INGRESS, true), (EGRESS, false)] {
            if !ingress && !both {
                continue;
            }
            let request = Request::new("list filters", RTM_GETTFILTER, 0, &tcmsg(device, 0, parent, 0));
            match socket.dump(&request, parse) {
                Ok(filters) => {
                    found.extend(filters.into_iter().map(|filter| TrafficFilter {
                        device,
                        ingress,
                        ..filter
                    }));
                }
                // The interface went away, or its qdisc.
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// An interface that may have such filters, and whether of what leaves as well.
fn has_filters(payload: &[u8]) -> Option<(IfIndex, bool)> {
    let of = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    match Attributes::after(payload, TCMSG).find(TCA_KIND)?.string().as_str() {
        "clsact" => Some((IfIndex(of), true)),
        "ingress" => Some((IfIndex(of), false)),
        _ => None,
    }
}

/// A filter, without where it is: several interfaces may share theirs, and then none is named.
pub(crate) fn parse(payload: &[u8]) -> Option<TrafficFilter> {
    let handle = u32::from_ne_bytes(payload.get(8..12)?.try_into().ok()?);
    let attributes = Attributes::after(payload, TCMSG);
    let kind = attributes.find(TCA_KIND)?.string();
    // Each priority is listed by itself before its filters, and those of u32 are in tables, which are listed too.
    const NODE: u32 = 0xfff;
    if handle == 0 || kind == "u32" && handle & NODE == 0 {
        return None;
    }
    let options = attributes.find(TCA_OPTIONS)?.nested();
    let actions = ACTIONS.iter().find(|(known, _)| *known == kind);
    let actions = actions.and_then(|(_, number)| Some(options.find(*number)?.nested()));
    let of_program = |number| options.find(number).filter(|_| kind == "bpf");
    Some(TrafficFilter {
        device: IfIndex(0),
        ingress: false,
        name: of_program(BPF_NAME).map(|name| name.string()).unwrap_or_default(),
        program: of_program(BPF_ID).and_then(|id| id.u32()),
        redirect: actions.and_then(redirect),
        kind,
    })
}

/// Where the only action leads packets.
fn redirect(actions: Attributes<'_>) -> Option<IfIndex> {
    const KIND: u16 = 1;
    const OPTIONS: u16 = 2;
    const PARAMETERS: u16 = 2;
    const EGRESS_REDIRECT: u32 = 1;
    let mut actions = actions.map(|action| action.nested());
    let (Some(action), None) = (actions.next(), actions.next()) else { return None };
    if action.find(KIND)?.string() != "mirred" {
        return None;
    }
    // struct tc_mirred: five words of every action, what to do, where.
    let parameters = action.find(OPTIONS)?.nested().find(PARAMETERS)?.value;
    let word = |at: usize| Some(u32::from_ne_bytes(parameters.get(at..at + 4)?.try_into().ok()?));
    (word(20)? == EGRESS_REDIRECT).then_some(IfIndex(word(24)?))
}
