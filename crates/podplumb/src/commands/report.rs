//! `podplumb report`

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use analyze::doctor::doctor;
use analyze::redact::Redactor;
use analyze::render::{Detail, Paint, printable};
use analyze::{Map, render, versions};
use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use model::{RuntimeStatus, Snapshot};

use crate::arguments::ReportOptions;
use crate::commands::{look_at_everything, require_root, whole_snapshot_of};
use crate::output::{Ended, hinted, note, print};

/// What is younger is in flight, not leaked.
const GRACE: Duration = Duration::from_secs(60);

/// A file of the archive.
struct Part {
    name: &'static str,
    what: &'static str,
    text: String,
}

pub(crate) fn run(options: &ReportOptions) -> anyhow::Result<Ended> {
    require_root(&options.node, "report")?;
    let taken = match &options.node.from {
        Some(_) => whole_snapshot_of(&options.node)?,
        None => with_logs(look_at_everything(&options.node.live)?),
    };
    let (snapshot, redacted) = if options.redact {
        let redactor = Redactor::new(&taken, sys::random().context("cannot get a random key")?);
        let snapshot =
            redactor.snapshot(&taken).context("cannot replace addresses and names; nothing was written")?;
        (snapshot, Some(redactor))
    } else {
        (taken, None)
    };
    let parts = parts(&snapshot, redacted.as_ref())?;
    note(contents(&parts, &snapshot, redacted.as_ref()));
    if options.list {
        return Ok(Ended::Fine);
    }
    let file = options.file.clone().unwrap_or_else(|| default_name(&snapshot));
    write(&file, &parts, &snapshot)?;
    print(&format!("{}\n", printable(&file.display().to_string())))?;
    Ok(Ended::Fine)
}

/// The snapshot, with what logs say of those of its containers that nobody is known to use.
fn with_logs(mut snapshot: Snapshot) -> Snapshot {
    let leaks = analyze::leaks(&snapshot, None, GRACE);
    let suspects = leaks.findings.iter().filter(|finding| finding.is_suspect());
    let containers: Vec<&str> =
        suspects.filter_map(|finding| Some(finding.container.as_ref()?.as_str())).collect();
    snapshot.log = Some(observe::excerpt(&containers, snapshot.taken_at));
    snapshot
}

/// Everything that goes into the archive. What is computed is computed from the snapshot that is in it, so nothing of another one gets in.
fn parts(snapshot: &Snapshot, redacted: Option<&Redactor>) -> anyhow::Result<Vec<Part>> {
    let leaks = analyze::leaks(snapshot, None, GRACE);
    let begun = Instant::now();
    let ills = doctor(snapshot, |_| true);
    let took = begun.elapsed();
    let map = Map::of(snapshot, None, &leaks, &ills);
    let part = |name, what, text| Part { name, what, text };
    let mut parts = vec![
        part("versions.txt", "versions, and what is known to go wrong with them", versions_text(snapshot)),
        part(
            "map.txt",
            "networks, uplinks, tunnels, bridges and pods",
            render::map(&map, Detail::Wide, Paint::PLAIN),
        ),
        part(
            "doctor.txt",
            "what is wrong with pods' network, and what to do",
            render::doctor(&ills, took, Paint::PLAIN),
        ),
        part(
            "leaks.txt",
            "each attachment, whether it is in use, and why",
            render::leaks(&leaks, true, Paint::PLAIN),
        ),
        part("rules.txt", "nftables and both iptables, of node and pods", rules(snapshot)),
        part("logs.txt", "what logs say of these, and of CNI's errors", render::logs(snapshot, &leaks)),
        part("doctor.json", "what is wrong, for programs", serde_json::to_string_pretty(&ills)?),
        part("map.json", "the map for programs", serde_json::to_string_pretty(&map)?),
        part("leaks.json", "the leaks for programs", serde_json::to_string_pretty(&leaks)?),
        part("snapshot.json", "all that was seen; for podplumb's --from", snapshot.to_json()),
    ];
    let head = contents(&parts, snapshot, redacted);
    parts.insert(0, part("CONTENTS.txt", "this list", head));
    Ok(parts)
}

fn contents(parts: &[Part], snapshot: &Snapshot, redacted: Option<&Redactor>) -> String {
    let mut text =
        format!("podplumb report of {}, {}\n\n", printable(&snapshot.node.hostname), snapshot.taken_at);
    let heads = ["FILE", "LINES", "   KB", "WHAT"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(heads)
        .chain(parts.iter().map(|part| {
            vec![
                part.name.to_owned(),
                format!("{:>5}", part.text.lines().count()),
                format!("{:>5}", part.text.len().div_ceil(1_000)),
                part.what.to_owned(),
            ]
        }))
        .collect();
    render::columns(&mut text, 2, &rows);
    text.push('\n');
    text.push_str(&match redacted {
        Some(redactor) => format!(
            "Addresses, and the names of the node, its pods, their Kubernetes namespaces and\n\
             their containers ({} in all), are replaced, the same always by the same. Subnets\n\
             stay subnets. Kept are ids, and names of interfaces, networks and processes.\n",
            redactor.names()
        ),
        None => "Addresses and names are in it as they are. --redact replaces them.\n".to_owned(),
    });
    text
}

fn versions_text(snapshot: &Snapshot) -> String {
    let mut text =
        format!("podplumb {}\nLinux {}\n", env!("CARGO_PKG_VERSION"), printable(&snapshot.node.kernel));
    for runtime in &snapshot.runtimes {
        let state = match &runtime.status {
            RuntimeStatus::Answered { version } => version.clone(),
            RuntimeStatus::Silent { why } => format!("silent: {why}"),
        };
        text.push_str(&format!("{} {}\n", runtime.kind, printable(&state)));
    }
    for plugin in &snapshot.plugins {
        let version = plugin.version.as_deref().unwrap_or("of unknown version");
        text.push_str(&format!(
            "plugin {} {}\n",
            printable(&plugin.path.display().to_string()),
            printable(version)
        ));
    }
    text.push_str(&render::versions(&versions::versions(snapshot)));
    text
}

/// Of the node, and of those pods that have rules of their own.
fn rules(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for namespace in &snapshot.namespaces {
        let Some(ruleset) = snapshot.stack_of(namespace).and_then(|stack| stack.ruleset.as_ref()) else {
            continue;
        };
        if namespace.host || !ruleset.tables.is_empty() || !ruleset.gaps.is_empty() {
            text.push_str(&format!("== {}\n\n{}\n", printable(&namespace.label()), render::rules(ruleset)));
        }
    }
    text
}

/// The node's name may be one that is no file's.
fn default_name(snapshot: &Snapshot) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let node: String = snapshot.node.hostname.chars().map(plain).take(64).collect();
    let at: String = snapshot.taken_at.to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    format!("podplumb-{node}-{at}.tar.gz").into()
}

/// Writes the archive, for its owner alone. Half of one is removed again.
fn write(file: &Path, parts: &[Part], snapshot: &Snapshot) -> anyhow::Result<()> {
    let about = || format!("cannot write {}", file.display());
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let opened = opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            hinted(format!("{}: {error}", about()), "give another name: a report does not replace a file")
        }
        _ => anyhow::Error::from(error).context(about()),
    })?;
    let written = archive(opened, parts, snapshot);
    if written.is_err() {
        let _ = std::fs::remove_file(file);
    }
    written.with_context(about)
}

fn archive(file: File, parts: &[Part], snapshot: &Snapshot) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(io::BufWriter::new(file), Compression::default()));
    for part in parts {
        let mut header = tar::Header::new_ustar();
        header.set_size(part.text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(snapshot.taken_at.0 / 1_000).unwrap_or_default());
        archive.append_data(
            &mut header,
            Path::new("podplumb-report").join(part.name),
            part.text.as_bytes(),
        )?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.get_ref().sync_all()
}
