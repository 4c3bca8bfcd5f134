//! The node as a tree: bridge, port, pod.

use model::{Link, RuntimeStatus, Snapshot};

use super::text::{Paint, coverage, hang, printable, shorten};
use crate::who::{Chain, chains};

/// The whole node.
pub fn map(snapshot: &Snapshot, paint: Paint) -> String {
    let mut out = String::new();
    let node = &snapshot.node;
    out.push_str(&paint.bold(&printable(&node.hostname)));
    out.push_str(&format!("  Linux {}  {}\n", printable(&node.kernel), snapshot.taken_at));

    let chains = chains(snapshot);
    let (bridged, rest): (Vec<&Chain>, Vec<&Chain>) =
        chains.iter().partition(|chain| chain.interfaces.iter().any(|interface| interface.bridge.is_some()));
    let bridges =
        snapshot.host().into_iter().flat_map(|host| &host.links).filter(|link| link.kind == "bridge");
    for bridge in bridges {
        out.push_str(&format!("\nbridge {}{}\n", paint.bold(&printable(&bridge.name)), facts(bridge)));
        let ports: Vec<&Chain> =
            bridged.iter().copied().filter(|chain| port_of(chain, &bridge.name).is_some()).collect();
        tree(&mut out, &ports, Some(&bridge.name), paint);
    }
    let (routed, unlinked): (Vec<&Chain>, Vec<&Chain>) =
        rest.into_iter().partition(|chain| chain.interfaces.iter().any(|interface| interface.host.is_some()));
    if !routed.is_empty() {
        out.push_str("\nrouted, without a bridge\n");
        tree(&mut out, &routed, None, paint);
    }
    if !unlinked.is_empty() {
        out.push_str("\nwithout a veth to the host\n");
        tree(&mut out, &unlinked, None, paint);
    }
    runtimes(&mut out, snapshot, paint);
    let gaps = coverage(&snapshot.coverage);
    if !gaps.is_empty() {
        out.push('\n');
        out.push_str(&gaps);
    }
    out
}

fn port_of<'c>(chain: &'c Chain, bridge: &str) -> Option<&'c Link> {
    let mut interfaces = chain.interfaces.iter();
    interfaces.find(|interface| interface.bridge.as_deref() == Some(bridge))?.host.as_ref()
}

fn tree(out: &mut String, chains: &[&Chain], bridge: Option<&str>, paint: Paint) {
    for (at, chain) in chains.iter().enumerate() {
        let last = at + 1 == chains.len();
        let (branch, stem) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let interface = match bridge {
            Some(bridge) => {
                chain.interfaces.iter().find(|interface| interface.bridge.as_deref() == Some(bridge))
            }
            None => {
                let addressed = |interface: &&crate::who::InterfaceLine| {
                    interface.host.is_some()
                        || interface.inside.as_ref().is_some_and(|inside| !inside.addresses.is_empty())
                };
                chain.interfaces.iter().find(addressed).or(chain.interfaces.first())
            }
        };
        let host = interface.and_then(|interface| interface.host.as_ref());
        let inside = interface.and_then(|interface| interface.inside.as_ref());
        let mut line = branch.to_owned();
        if let Some(host) = host {
            line.push_str(&format!("{} ── ", printable(&host.name)));
        }
        if let Some(inside) = inside {
            let own = inside.addresses.iter().filter(|net| !crate::wiring::is_link_local(net.addr()));
            let addresses: Vec<String> = own.map(ToString::to_string).collect();
            line.push_str(&format!("{} {}", printable(&inside.name), addresses.join(" ")));
            line = line.trim_end().to_owned();
            line.push_str("  ");
        }
        line.push_str(&paint.bold(&shorten(&chain.label)));
        out.push_str(&format!("{line}\n"));
        let details = details(chain, host, inside);
        if !details.is_empty() {
            hang_under(out, stem, &details);
        }
    }
}

/// What is worth a second line: state, processes, where it lives, what is kept about it, and what is odd.
fn details(chain: &Chain, host: Option<&Link>, inside: Option<&Link>) -> String {
    let mut parts = Vec::new();
    match chain.containers.first() {
        Some(container) => parts.push(format!("{} {}", container.runtime, container.state)),
        None if chain.sandbox.is_some() => parts.push("listed by no runtime".to_owned()),
        None => {}
    }
    match chain.tasks.as_slice() {
        [] => parts.push("no process".into()),
        [task] => parts.push(task.to_string()),
        [task, rest @ ..] => parts.push(format!("{task} +{}", rest.len())),
    }
    for (name, paths) in [("lease", &chain.leases), ("cache", &chain.cache), ("record", &chain.records)] {
        if !paths.is_empty() {
            parts.push(name.to_owned());
        }
    }
    for (link, end) in [(host, "host end"), (inside, "inside")] {
        if link.is_some_and(|link| !link.up) {
            parts.push(format!("{end} is DOWN"));
        }
    }
    if let (Some(host), Some(inside)) = (host, inside)
        && host.mtu_bytes != inside.mtu_bytes
    {
        parts.push(format!("mtu {} outside, {} inside", host.mtu_bytes, inside.mtu_bytes));
    }
    shorten(&parts.join(", "))
}

fn hang_under(out: &mut String, stem: &str, text: &str) {
    let head = format!("{stem}   ");
    let mut block = String::new();
    hang(&mut block, "", head.chars().count(), text);
    for (at, line) in block.lines().enumerate() {
        let line = if at == 0 { line } else { line.trim_start() };
        out.push_str(&format!("{head}{line}\n"));
    }
}

fn facts(bridge: &Link) -> String {
    let own = bridge.addresses.iter().filter(|net| !crate::wiring::is_link_local(net.addr()));
    let mut text: String = own.map(|net| format!("  {net}")).collect();
    text.push_str(&format!("  mtu {}", bridge.mtu_bytes));
    if !bridge.up {
        text.push_str("  DOWN");
    }
    text
}

fn runtimes(out: &mut String, snapshot: &Snapshot, paint: Paint) {
    if snapshot.runtimes.is_empty() {
        let text = if snapshot.runtime_none { "none, as you said" } else { "none found" };
        out.push_str(&format!("\nruntimes: {text}\n"));
        return;
    }
    out.push_str("\nruntimes\n");
    for runtime in &snapshot.runtimes {
        let state = match &runtime.status {
            RuntimeStatus::Answered { version } => {
                // A store on disk has none.
                let version = match version.as_str() {
                    "" => String::new(),
                    version => format!(", version {}", printable(version)),
                };
                paint.green(&format!("{} objects{version}", runtime.objects.len()))
            }
            RuntimeStatus::Silent { why } => paint.yellow(&format!("silent: {}", printable(why))),
        };
        let head = format!("  {:<12}", runtime.kind);
        let endpoint = printable(&runtime.endpoint.display().to_string());
        hang(out, &head, head.chars().count(), &format!("{endpoint}  {state}"));
    }
}
