//! Everything that attachments may leave on a node, read in this process.

use std::path::Path;

use netlink::{Socket, link};

use crate::pod::Pod;
use crate::ruleset::Ruleset;

/// Where plugins keep files.
pub const STATE: [&str; 2] = ["/var/lib/cni", "/run/podplumb"];

/// Links here and in the pods, files, what is in nftables: a line each.
pub fn traces<'a>(ruleset: &mut Ruleset, pods: impl IntoIterator<Item = &'a Pod>) -> Vec<String> {
    let links = || {
        let mut socket = Socket::route().expect("rtnetlink");
        let links = link::list(&mut socket, None).expect("links");
        links.into_iter().map(|link| format!("link {} {}", link.kind, link.name)).collect::<Vec<_>>()
    };
    let mut all = links();
    for pod in pods {
        let inside = pod.netns.run(links).expect("the pod's namespace");
        all.extend(inside.into_iter().map(|link| format!("{link} in the pod")));
    }
    for directory in STATE {
        files(Path::new(directory), &mut all);
    }
    all.extend(ruleset.list());
    all
}

fn files(directory: &Path, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, all),
            _ => all.push(format!("file {}", path.display())),
        }
    }
}
