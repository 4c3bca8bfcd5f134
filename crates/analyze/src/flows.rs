//! Connections that the kernel leads to an address which nobody has any more.
//!
//! Such an entry lives as long as packets of its client come, and leads them to whoever gets the address next.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{FlowId, Link, Snapshot};

use crate::leaks::{Finding, Piece, PieceKind, alone};
use crate::plan;
use crate::verdict::{Court, Evidence, Verdict, no_runtime, silent_runtimes};
use crate::wiring::{Wiring, short_id};

/// A finding for each address. Of connections that lead elsewhere than behind a bridge with nothing but containers, such as to pods of
/// other nodes or to virtual machines, nothing is said.
pub(crate) fn findings(court: Court<'_>) -> Vec<Finding> {
    let mut by_address: BTreeMap<IpAddr, Vec<FlowId>> = BTreeMap::new();
    for flow in &court.snapshot.flows {
        by_address.entry(flow.address).or_default().push(flow.id.clone());
    }
    let finding = |(address, flows)| Some(judge(address, flows, behind(court.snapshot, address)?, court));
    by_address.into_iter().filter_map(finding).collect()
}

/// The bridge in whose subnet the address is, if all that is behind it was seen: each port is a veth into a namespace that was
/// read.
fn behind(snapshot: &Snapshot, address: IpAddr) -> Option<&Link> {
    let host = snapshot.host()?;
    let is_seen = |port: &Link| {
        port.kind == "veth" && snapshot.peer(port).is_some_and(|(inside, _)| inside.readable && !inside.host)
    };
    let is_meant = |bridge: &&Link| {
        bridge.kind == "bridge"
            && bridge.addresses.iter().any(|net| net.contains(&address))
            && host.links.iter().filter(|link| link.master == Some(bridge.index)).all(is_seen)
    };
    host.links.iter().find(is_meant)
}

fn judge(address: IpAddr, mut flows: Vec<FlowId>, bridge: &Link, court: Court<'_>) -> Finding {
    let label = format!("connections to {address}");
    if let Some(earlier) = court.earlier {
        flows.retain(|flow| earlier.flows.iter().any(|old| old.id == *flow));
    }
    let count = if flows.len() == 1 { "1 entry".to_owned() } else { format!("{} entries", flows.len()) };
    let detail = format!("{count} in the connection tracking table");
    let piece = Piece { kind: PieceKind::Flow, object: address.to_string(), detail, since: None };
    let (verdict, because) = against(address, court.snapshot).unwrap_or_else(|| {
        let text = format!(
            "nobody has {address}: no interface, lease, cache entry or record, and all that is behind {} was seen",
            bridge.name
        );
        (Verdict::Orphan, Evidence { code: "nobody-has-it", text })
    });
    let mut finding = alone(piece, verdict, because);
    if verdict == Verdict::Orphan && !flows.is_empty() {
        finding.steps = plan::flow_steps(&label, address, flows);
    }
    finding.label = label;
    finding
}

/// What speaks against that nobody has the address.
fn against(address: IpAddr, snapshot: &Snapshot) -> Option<(Verdict, Evidence)> {
    const NUD_REACHABLE: u16 = 0x02;
    let in_use = |code, text: String| Some((Verdict::InUse, Evidence { code, text }));
    let unknown = |code, text: String| Some((Verdict::Unknown, Evidence { code, text }));
    let has = |link: &&Link| link.addresses.iter().any(|net| net.addr() == address);
    let mut links = snapshot.namespaces.iter().flat_map(|namespace| &namespace.links);
    if let Some(link) = links.find(has) {
        return in_use("address-in-use", format!("{} has it", link.name));
    }
    if let Some(lease) = snapshot.leases.iter().find(|lease| lease.address == address) {
        return in_use("claimed", format!("network {} has leased it", lease.network));
    }
    if let Some(entry) = snapshot.cache.iter().find(|entry| entry.addresses.contains(&address)) {
        return in_use("claimed", format!("the result {} has it", entry.path.display()));
    }
    let has =
        |record: &&model::AttachmentRecord| record.addresses.iter().flatten().any(|own| *own == address);
    if let Some(record) = snapshot.records.iter().find(has) {
        return in_use("claimed", format!("the record {} has it", record.file_name()));
    }
    let mut objects = snapshot.runtime_objects();
    if let Some((runtime, object)) = objects.find(|(_, object)| object.addresses.contains(&address)) {
        let id = short_id(object.id.as_str());
        return in_use("runtime-lists", format!("{} says that {id} has it", runtime.kind));
    }
    let mut neighbours = snapshot.stack.neighbours.iter().filter(|entry| entry.address == address);
    if neighbours.any(|entry| entry.state & NUD_REACHABLE != 0) {
        return in_use("neighbour", format!("{address} answers on the link"));
    }
    if let Some(silent) = silent_runtimes(&Wiring::default(), snapshot).into_iter().next() {
        return unknown(silent.code, silent.text);
    }
    if let Some(gap) = snapshot.coverage.iter().find(|gap| gap.source != model::Source::Descriptors) {
        return unknown("unread", format!("{} could not be read: {}", gap.object, gap.why));
    }
    if let Some(namespace) = snapshot.namespaces.iter().find(|namespace| !namespace.readable) {
        return unknown("unread", format!("it could be in {}, which could not be read", namespace.label()));
    }
    no_runtime(snapshot).map(|evidence| (Verdict::Unknown, evidence))
}
