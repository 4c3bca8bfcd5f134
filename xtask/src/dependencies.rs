//! Which crate may depend on which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

/// What must not be reachable from the plugin binary (invariant 2).
const NOT_IN_THE_PLUGIN: [&str; 9] = [
    "tokio",
    "async-std",
    "smol",
    "clap",
    "rustls",
    "openssl",
    "native-tls",
    "tracing-subscriber",
    "env_logger",
];

/// The direct dependencies that a crate of ours may have among ours. Dependencies point one way.
const MAY_USE: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("sys", &["model"]),
    ("netlink", &["model", "sys"]),
    ("nft", &["model", "netlink", "sys"]),
    ("cni-spec", &["model", "sys"]),
    ("ipam", &["model", "sys"]),
    ("plugins", &["cni-spec", "ipam", "model", "netlink", "nft", "sys"]),
    ("cni", &["cni-spec", "plugins"]),
    ("analyze", &["model"]),
    ("observe", &["cni-spec", "ipam", "model", "netlink", "nft", "sys"]),
    ("reclaim", &["analyze", "cni-spec", "ipam", "model", "netlink", "nft", "observe", "sys"]),
    ("probe", &["model", "netlink", "sys"]),
    ("lab", &["analyze", "cni-spec", "model", "netlink", "nft", "plugins", "probe", "sys"]),
    (
        "podplumb",
        &["analyze", "cni-spec", "lab", "model", "nft", "observe", "plugins", "probe", "reclaim", "sys"],
    ),
];

type Graph = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let graph = graph(root)?;
    let mut complaints = Vec::new();
    for (name, allowed) in MAY_USE {
        let full = full_name(name);
        let direct = graph.get(&full).with_context(|| format!("there is no crate {full}"))?;
        let ours = direct.iter().filter(|dependency| dependency.starts_with("podplumb"));
        let stray =
            ours.filter(|dependency| !allowed.iter().any(|allowed| full_name(allowed) == **dependency));
        complaints
            .extend(stray.map(|stray| format!("{full} depends on {stray}; see MAY_USE in {}", file!())));
    }
    let plugin = reachable(&graph, "podplumb-cni");
    let heavy = NOT_IN_THE_PLUGIN.iter().filter(|name| plugin.contains(**name));
    complaints.extend(heavy.map(|name| format!("podplumb-cni reaches {name}: the plugin has to stay small")));
    let pure = reachable(&graph, "podplumb-analyze");
    let impure = ["podplumb-sys", "podplumb-netlink", "rustix", "libc", "tokio"];
    complaints.extend(
        impure
            .iter()
            .filter(|name| pure.contains(**name))
            .map(|name| format!("podplumb-analyze reaches {name}: it is to be pure")),
    );
    Ok(complaints)
}

fn full_name(name: &str) -> String {
    if name == "podplumb" { name.to_owned() } else { format!("podplumb-{name}") }
}

/// Normal dependencies (not those of tests or builds) by package name, as Linux resolves them.
fn graph(root: &Path) -> anyhow::Result<Graph> {
    #[expect(clippy::disallowed_methods, reason = "cargo is the authority on dependencies")]
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let list =
        |pointer: &str| metadata.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> =
        list("/packages").iter().map(|package| (text(package, "id"), text(package, "name"))).collect();
    let name_of = |id: &str| names.get(id).cloned().unwrap_or_else(|| id.to_owned());
    let mut graph = Graph::new();
    for node in list("/resolve/nodes") {
        let dependencies = node["deps"].as_array().cloned().unwrap_or_default();
        let normal = dependencies.iter().filter(|dependency| {
            let kinds = dependency["dep_kinds"].as_array().cloned().unwrap_or_default();
            kinds.iter().any(|kind| kind["kind"].is_null())
        });
        let normal = normal.map(|dependency| name_of(&text(dependency, "pkg"))).collect();
        graph.insert(name_of(&text(&node, "id")), normal);
    }
    Ok(graph)
}

fn reachable(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        for next in graph.get(&name).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}
