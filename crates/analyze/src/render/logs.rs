//! What logs say, for a report.

use model::{LogLine, Snapshot};

use super::text::printable;
use crate::leaks::Leaks;
use crate::verdict::Verdict;

/// The lines about each container that leaks, is not known or in flight, and then those about errors of CNI plugins.
pub fn logs(snapshot: &Snapshot, leaks: &Leaks) -> String {
    let mut out = String::new();
    let lines = || snapshot.log.iter().flat_map(|log| &log.lines);
    for finding in leaks.findings.iter().filter(|finding| finding.is_suspect()) {
        let Some(id) = finding.container.as_ref().map(|id| id.as_str()) else { continue };
        let own: Vec<&LogLine> = lines().filter(|line| line.containers.iter().any(|one| one == id)).collect();
        // A snapshot that no report made has the last line only.
        let heard = snapshot.heard.get(id).filter(|_| own.is_empty()).map(|heard| LogLine {
            at: heard.at,
            path: heard.path.clone(),
            containers: Vec::new(),
            line: heard.line.clone(),
        });
        let verdict = match finding.ruling.verdict {
            Verdict::Orphan => "leaked",
            Verdict::Unknown => "unknown",
            Verdict::InUse => "in flight",
        };
        // Where nothing else names it, the label is the id.
        let label = Some(printable(&finding.label)).filter(|label| !id.starts_with(label.as_str()));
        let label = label.map(|label| format!("{label}, ")).unwrap_or_default();
        let head = format!("{label}{verdict}, {}", printable(id));
        section(&mut out, &head, own.into_iter().chain(&heard));
    }
    section(
        &mut out,
        "errors of CNI plugins in the last hour",
        lines().filter(|line| line.containers.is_empty()),
    );
    if out.is_empty() {
        out.push_str(
            "No log says anything of what leaks, is not known or in flight, nor of errors of plugins.\n",
        );
    }
    let unread = snapshot.log.iter().flat_map(|log| &log.unread);
    section_of(&mut out, "not read", unread.map(|what| printable(what)));
    out
}

fn section<'l>(out: &mut String, head: &str, lines: impl Iterator<Item = &'l LogLine>) {
    let mut path = None;
    let texts = lines.flat_map(|line| {
        let at = line.at.map(|at| format!("{at}  ")).unwrap_or_default();
        let text = format!("  {at}{}", printable(&line.line));
        // Most lines in a row are of the same log.
        let log = (path != Some(&line.path)).then(|| printable(&line.path.display().to_string()));
        path = Some(&line.path);
        log.into_iter().chain([text]).collect::<Vec<_>>()
    });
    section_of(out, head, texts);
}

fn section_of(out: &mut String, head: &str, texts: impl Iterator<Item = String>) {
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&format!("== {head}\n"));
    for text in texts {
        out.push_str(&format!("{text}\n"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_stand_below_what_they_are_about_and_steer_no_terminal() {
        let leaked = "7d0c1e5b9a3f4d22".repeat(4);
        let line = |at: i64, containers: &[&str], line: &str| serde_json::json!({"at": at, "path": "/var/log/syslog", "containers": containers, "line": line});
        let snapshot = Snapshot::from_json(
            serde_json::json!({
                "version": 1, "taken_at": 1_000_000, "namespaces": [], "runtime_none": true,
                "node": {"hostname": "n", "kernel": "6", "boot_id": "b", "booted_at": 0},
                "leases": [{"path": "/l/10.0.0.2", "network": "n", "address": "10.0.0.2", "container": leaked,
                    "content": leaked, "since": 0}],
                "log": {"unread": ["/var/log/messages: Permission denied"], "lines": [
                    line(1000, &[leaked.as_str()], "stop it"), line(2000, &[leaked.as_str()], "failed \u{1b}[2J"),
                    line(3000, &[], "plugin type=\"bridge\" failed"), line(4000, &["another"], "not asked for")]},
            })
            .to_string()
            .as_bytes(),
        )
        .unwrap();
        let text = logs(&snapshot, &crate::leaks(&snapshot, None, Duration::ZERO));
        let wanted = format!(
            "== leaked, {leaked}\n/var/log/syslog\n  1970-01-01T00:00:01Z  stop it\n  1970-01-01T00:00:02Z  failed \u{fffd}[2J\n\n\
             == errors of CNI plugins in the last hour\n/var/log/syslog\n  1970-01-01T00:00:03Z  plugin type=\"bridge\" failed\n\n\
             == not read\n/var/log/messages: Permission denied\n"
        );
        assert_eq!(text, wanted, "{text}");
    }
}
