//! Targets (`-j NAME`).

use model::filter::{Action, Translation};

use super::Structure;
use crate::filter::decompile::Part;
use crate::filter::types::text;
use crate::filter::words;

/// Targets after which the packet goes on as it was, as far as rules can see.
const HARMLESS: [&str; 21] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNSECMARK",
    "DSCP",
    "ECN",
    "HL",
    "IDLETIMER",
    "LED",
    "LOG",
    "NFLOG",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

/// Reads a target.
pub(crate) fn read_target(name: &str, revision: u8, info: &[u8], v6: bool) -> Part {
    let structure = Structure(info);
    let action = match (name, revision) {
        ("LOG", _) => return Part::Note(log(info)),
        ("CT", _) if structure.u16(0).is_some_and(|flags| flags & 1 == 0) => {
            return Part::Note("-j CT".to_owned());
        }
        (name, _) if HARMLESS.contains(&name) => return Part::Note(format!("-j {name}")),
        ("CT" | "NOTRACK", _) => Some(Action::Notrack),
        ("NFQUEUE" | "QUEUE", _) => Some(Action::Queue),
        ("MARK", 2) => {
            structure.u32(0).zip(structure.u32(4)).map(|(value, mask)| Action::SetMark { value, mask })
        }
        ("CONNMARK", 1 | 2) => connmark(revision, structure),
        ("MASQUERADE", _) => {
            translation(revision, structure, v6).map(|to| Action::Masquerade { ports: to.ports })
        }
        ("REDIRECT", _) => {
            translation(revision, structure, v6).map(|to| Action::Redirect { ports: to.ports })
        }
        ("SNAT", _) => translation(revision, structure, v6).map(Action::SourceNat),
        ("DNAT", _) => translation(revision, structure, v6).map(Action::DestinationNat),
        ("REJECT", 0) => structure.u32(0).map(|with| Action::Reject(words::xt_reject(with, v6))),
        _ => None,
    };
    Part::Action(action.unwrap_or_else(|| Action::Other(name.to_owned())))
}

fn connmark(revision: u8, info: Structure<'_>) -> Option<Action> {
    let (value, mask, packet_mask) = (info.u32(0)?, info.u32(4)?, info.u32(8)?);
    let mode = if revision == 1 { info.u8(12)? } else { info.u8(14)? };
    if revision == 2 && info.u8(13)? != 0 {
        // Bits are shifted on the way.
        return None;
    }
    match mode {
        0 => Some(Action::SetConnectionMark { value, mask }),
        1 if mask == packet_mask => Some(Action::SaveMark { mask }),
        2 if mask == packet_mask => Some(Action::RestoreMark { mask }),
        _ => None,
    }
}

/// `struct nf_nat_range` and `nf_nat_range2`, or, where IPv4's targets have revision 0, `nf_nat_ipv4_multi_range_compat`.
fn translation(revision: u8, info: Structure<'_>, v6: bool) -> Option<Translation> {
    const ADDRESSES: u32 = 1;
    const PORTS: u32 = 2;
    const NETMAP: u32 = 1 << 6;
    let is_old = revision == 0 && !v6;
    let (flags, first, last, low, high) = if is_old {
        (info.u32(4)?, info.ip(8, false)?, info.ip(12, false)?, info.port(16)?, info.port(18)?)
    } else {
        (info.u32(0)?, info.ip(4, v6)?, info.ip(20, v6)?, info.port(36)?, info.port(38)?)
    };
    if flags & NETMAP != 0 {
        return None;
    }
    Some(Translation {
        addresses: (flags & ADDRESSES != 0).then_some((first, last)),
        ports: (flags & PORTS != 0).then_some((low, high)),
        map: None,
    })
}

/// struct ipt_log_info: level, flags, prefix.
fn log(info: &[u8]) -> String {
    match text(info.get(2..).unwrap_or_default()) {
        prefix if prefix.is_empty() => "-j LOG".to_owned(),
        prefix => format!("-j LOG --log-prefix {prefix:?}"),
    }
}
