//! Programs and filters of traffic control at interfaces. What they do with packets nobody here computes, so it is said where they are.

use std::collections::{HashMap, HashSet};

use model::{IfIndex, Link, Namespace, Stack, TrafficFilter};

/// Something that sees the packets of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seer<'a> {
    /// The interface.
    pub(crate) link: &'a Link,
    /// It sees what comes in; otherwise what leaves.
    pub(crate) ingress: bool,
    /// What things of its kind are, in words: `tcx programs`.
    pub(crate) kind: String,
    /// What it is itself: `tcx program 12`.
    pub(crate) what: String,
}

/// All of a namespace, but those that only lead packets through an ifb to limit them (the bandwidth plugin's), from which they come
/// back as if nothing had been. `None`: nobody looked.
pub(crate) fn seers<'a>(namespace: &'a Namespace, stack: &'a Stack) -> Option<Vec<Seer<'a>>> {
    let filters = stack.traffic_filters.as_ref()?;
    let with_xdp = namespace.links.iter().filter_map(|link| Some((link, link.xdp?)));
    let mut seers: Vec<Seer<'a>> = with_xdp
        .map(|(link, program)| Seer {
            link,
            ingress: true,
            kind: "XDP programs".to_owned(),
            what: xdp(program),
        })
        .collect();
    if filters.is_empty() {
        return Some(seers);
    }
    let links: HashMap<IfIndex, &Link> = namespace.links.iter().map(|link| (link.index, link)).collect();
    let at_exit: HashSet<IfIndex> =
        filters.iter().filter(|filter| !filter.ingress).map(|filter| filter.device).collect();
    let is_detour = |filter: &TrafficFilter| {
        let over = filter.redirect.and_then(|to| links.get(&to));
        over.is_some_and(|link| link.kind == "ifb" && link.up && !at_exit.contains(&link.index))
    };
    for filter in filters.iter().filter(|filter| !is_detour(filter)) {
        let Some(link) = links.get(&filter.device) else { continue };
        let (kind, what) = described(filter);
        let seer = Seer { link, ingress: filter.ingress, kind, what };
        // Those of one interface are together.
        if seers.last() != Some(&seer) {
            seers.push(seer);
        }
    }
    Some(seers)
}

fn xdp(program: u32) -> String {
    match program {
        0 => "several XDP programs".to_owned(),
        program => format!("XDP program {program}"),
    }
}

/// What its like are, and what it is.
fn described(filter: &TrafficFilter) -> (String, String) {
    let program = filter.program.map(|program| format!("program {program}"));
    match (filter.kind.as_str(), program) {
        ("tcx", Some(program)) => ("tcx programs".to_owned(), format!("tcx {program}")),
        (kind, program) => {
            let name = if filter.name.is_empty() { String::new() } else { format!(" {}", filter.name) };
            let program = program.map(|program| format!(" ({program})")).unwrap_or_default();
            (format!("tc filters of kind {kind}"), format!("tc filter {kind}{name}{program}"))
        }
    }
}
