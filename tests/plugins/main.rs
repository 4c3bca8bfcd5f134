//! The plugins as a runtime sees them. What the reference plugins do as well is tested on them first: a test that they do not
//! pass would be about something else.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod bad_input;
mod commands;
mod dhcp;
mod instructions;
mod interchange;
mod leases;
mod options;
mod reuse;

use podplumb_tests::{require, run};

const NEEDS: [&str; 4] = ["ip", "nft", "ping", "nsenter"];

fn can_run() -> bool {
    require(&NEEDS)
}

/// Everything that attachments leave on a node.
#[derive(Debug, PartialEq, Eq, Default)]
struct Traces {
    veths: Vec<String>,
    leases: Vec<String>,
    records: Vec<String>,
    masqueraded: Vec<String>,
}

fn traces() -> Traces {
    let links = run("ip", &["-o", "link", "show", "type", "veth"]);
    let files = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let ruleset = run("nft", &["list", "ruleset"]);
    let elements = ruleset.lines().filter(|line| line.contains("elements = "));
    let is_lease = |name: &String| name != "lock" && !name.starts_with("last_reserved_ip");
    Traces {
        veths: links.lines().map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned()).collect(),
        leases: files("/var/lib/cni/networks/pods").into_iter().filter(is_lease).collect(),
        records: files("/run/podplumb/attachments"),
        masqueraded: elements.map(str::to_owned).collect(),
    }
}

fn inside(id: &str, arguments: &[&str]) -> String {
    let netns = format!("--net=/run/netns/{id}");
    run("nsenter", &[&[netns.as_str()], arguments].concat())
}
