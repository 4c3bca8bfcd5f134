//! `podplumb holders X`

use std::collections::BTreeSet;

use analyze::Subject;
use analyze::render::printable;
use model::{Namespace, Snapshot};
use reclaim::connections::{self, Ended as EndedConnection};

use crate::arguments::{HoldersOptions, Shape};
use crate::commands::{look_closely, require_root, snapshot_of, tell_coverage};
use crate::output::{Ended, hinted, paint, print, print_json};

pub(crate) fn run(options: &HoldersOptions) -> anyhow::Result<Ended> {
    require_root(&options.node, "holders")?;
    let snapshot = match options.node.from {
        Some(_) => snapshot_of(&options.node)?,
        None => look_closely(&options.node.live)?,
    };
    let subjects = analyze::holders(&snapshot, &options.question);
    if subjects.is_empty() {
        tell_coverage(&snapshot);
        return Err(hinted(
            format!("nothing on this node goes by {:?}", options.question),
            "give a pod, container id, veth, pid, namespace path or inode; `podplumb map` shows what is here",
        ));
    }
    if options.kill_orphans {
        refuse_several(&subjects, &options.question)?;
    }
    let ended = if options.kill_orphans { end_orphans(&subjects, &snapshot) } else { Ok(Vec::new()) };
    match options.output {
        Shape::Text => print(&analyze::render::holders(&subjects, paint()))?,
        Shape::Json => {
            print_json(&serde_json::json!({
                "subjects": subjects,
                "ended": ended.as_ref().map_or(&[][..], |ended| ended),
                "coverage": snapshot.coverage,
            }))?;
        }
    }
    tell_coverage(&snapshot);
    let ended = ended?;
    if options.output == Shape::Text && options.kill_orphans {
        tell(&ended)?;
    }
    Ok(if ended.iter().any(|ended| ended.error.is_some()) { Ended::Failed } else { Ended::Fine })
}

/// What is ended cannot be brought back, so it has to be clear whose connections are meant.
fn refuse_several(subjects: &[Subject], question: &str) -> anyhow::Result<()> {
    let namespaces = subjects.iter().filter_map(|subject| subject.namespace.as_ref());
    let namespaces: BTreeSet<_> = namespaces.map(|namespace| (namespace.inode, namespace.nsid)).collect();
    if namespaces.len() < 2 {
        return Ok(());
    }
    let lines = subjects.iter().map(|subject| {
        let inode = subject.namespace.as_ref().and_then(|namespace| namespace.inode);
        let inode = inode.map(|inode| format!("  inode:{inode}")).unwrap_or_default();
        format!("\n  {}{inode}", printable(&subject.label))
    });
    let what = format!(
        "{question:?} fits {}, and nothing was ended:{}",
        namespaces.len(),
        lines.collect::<String>()
    );
    Err(hinted(what, "give NAMESPACE/POD, more of an id, or inode:N"))
}

/// Ends the TCP orphans of every namespace that is meant, except the host's.
fn end_orphans(subjects: &[Subject], snapshot: &Snapshot) -> anyhow::Result<Vec<EndedConnection>> {
    let mut all = Vec::new();
    for meant in subjects.iter().filter_map(|subject| subject.namespace.as_ref()) {
        let is_meant =
            |namespace: &&Namespace| (namespace.inode, namespace.nsid) == (meant.inode, meant.nsid);
        let others = snapshot.namespaces.iter().filter(|namespace| !namespace.host);
        for namespace in others.filter(is_meant) {
            all.extend(connections::end_tcp_orphans(namespace).map_err(|error| match error {
                connections::Error::Unsupported => hinted(
                    format!("{}: {error}", namespace.label()),
                    "wait: the kernel gives such connections up by itself, after six minutes at most",
                ),
                error => anyhow::anyhow!("{}: {error}", namespace.label()),
            })?);
        }
    }
    Ok(all)
}

fn tell(ended: &[EndedConnection]) -> anyhow::Result<()> {
    let mut out = String::from("\n");
    for EndedConnection { local, remote, error } in ended {
        match error {
            None => out.push_str(&format!("ended {local} to {remote}\n")),
            Some(why) => out.push_str(&format!("not ended {local} to {remote}: {why}\n")),
        }
    }
    if ended.is_empty() {
        out.push_str("no TCP connection without a process is in there: nothing was ended\n");
    }
    print(&out)
}
