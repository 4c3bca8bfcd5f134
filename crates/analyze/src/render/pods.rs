//! One line for each pod or container.

use super::text::{columns, printable, shorten};
use crate::who::Chain;

/// The table of pods and containers that have a network of their own; with `wide`, also what does not fit 80 columns.
pub fn pods(chains: &[Chain], wide: bool) -> String {
    let mut heads = vec!["POD", "STATE", "ADDRESS", "VETH", "BRIDGE", "PID"];
    if wide {
        heads.extend(["RUNTIME", "NAMESPACE", "CONTAINER"]);
    }
    let mut rows = vec![heads.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(chains.iter().filter(|chain| chain.sandbox.is_some()).map(|chain| row(chain, wide)));
    let mut out = String::new();
    columns(&mut out, 0, &rows);
    out
}

fn row(chain: &Chain, wide: bool) -> Vec<String> {
    let dash = || "-".to_owned();
    let owner = chain.containers.iter().find(|container| container.sandbox).or(chain.containers.first());
    let host = chain.interfaces.iter().find_map(|interface| interface.host.as_ref());
    let bridge = chain.interfaces.iter().find_map(|interface| interface.bridge.clone());
    let address = match chain.addresses.as_slice() {
        [] => dash(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} +{}", rest.len()),
    };
    let pid = chain.tasks.first().map_or_else(dash, |task| task.pid.to_string());
    let mut row = vec![
        shorten(&chain.label),
        owner.map_or_else(|| "not listed".to_owned(), |container| printable(&container.state)),
        address,
        host.map_or_else(dash, |link| printable(&link.name)),
        bridge.map_or_else(dash, |name| printable(&name)),
        pid,
    ];
    if wide {
        let path = chain.namespace.as_ref().and_then(|namespace| namespace.path.as_ref());
        row.push(owner.map_or_else(dash, |container| printable(&container.runtime)));
        row.push(path.map_or_else(dash, |path| printable(&path.display().to_string())));
        row.push(chain.sandbox.clone().unwrap_or_else(dash));
    }
    row
}
