//! Findings and plans.

use std::time::Duration;

use model::Timestamp;

use super::text::{Paint, columns, hang, printable, shorten};
use crate::hazards::{Hazard, LEFT_ALONE, Severity};
use crate::leaks::{Finding, Leaks};
use crate::plan::{Operation, Phase, Plan};
use crate::verdict::Verdict;

/// Width of the column in which a line says what it is.
const HEAD: usize = 10;

/// The findings: orphans and unknown ones with their evidence, and, with `all`, those in use.
pub fn leaks(leaks: &Leaks, all: bool, paint: Paint) -> String {
    let (orphans, unknown) = (leaks.count(Verdict::Orphan), leaks.count(Verdict::Unknown));
    let in_use = leaks.count(Verdict::InUse);
    let mut out = String::new();
    let shown = leaks.findings.iter().filter(|finding| all || finding.ruling.verdict != Verdict::InUse);
    for finding in shown {
        write_finding(&mut out, finding, leaks.taken_at, paint);
        out.push('\n');
    }
    for hazard in &leaks.hazards {
        write_hazard(&mut out, hazard, paint);
        out.push('\n');
    }
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let orphans = match count(orphans, "orphan", "orphans") {
        text if orphans > 0 => paint.red(&text),
        text => paint.green(&text),
    };
    let unknown = match format!("{unknown} unknown") {
        text if unknown > 0 => paint.yellow(&text),
        text => text,
    };
    let dangers = leaks.hazards.iter().filter(|hazard| hazard.severity == Severity::Danger).count();
    let dangers = match count(dangers, "danger", "dangers") {
        text if dangers > 0 => format!(", {}", paint.red(&text)),
        _ => String::new(),
    };
    out.push_str(&format!("{orphans}, {unknown}, {in_use} in use{dangers}\n"));
    out
}

fn write_hazard(out: &mut String, hazard: &Hazard, paint: Paint) {
    let (word, painted) = match hazard.severity {
        Severity::Danger => ("DANGER", paint.red("DANGER")),
        Severity::Note => ("NOTE", paint.dim("NOTE")),
    };
    let object = paint.bold(&printable(&shorten(&hazard.object)));
    out.push_str(&format!("{painted}{}{object}  {}\n", " ".repeat(HEAD - word.len()), hazard.code));
    hang(out, &" ".repeat(HEAD), HEAD, &shorten(&hazard.text));
    if hazard.hint != LEFT_ALONE {
        hang(out, &format!("  {:<width$}", "hint", width = HEAD - 2), HEAD, hazard.hint);
    }
}

fn write_finding(out: &mut String, finding: &Finding, now: Timestamp, paint: Paint) {
    let (word, painted) = match finding.ruling.verdict {
        Verdict::Orphan => ("ORPHAN", paint.red("ORPHAN")),
        Verdict::Unknown => ("UNKNOWN", paint.yellow("UNKNOWN")),
        Verdict::InUse => ("IN USE", paint.green("IN USE")),
    };
    let mut title = paint.bold(&shorten(&finding.label));
    if let Some(id) = finding.container.as_ref().map(|id| crate::wiring::short_id(id.as_str()))
        && id != finding.label
    {
        title.push_str(&format!("  {id}"));
    }
    // Whoever else knows the pod has made it the label.
    if let Some(pod) = finding.pod.as_ref().map(ToString::to_string).filter(|pod| *pod != finding.label) {
        title.push_str(&format!("  {} by its logs", shorten(&pod)));
    }
    if let Some(age) = finding.since.and_then(|since| since.age_at(now)) {
        title.push_str(&paint.dim(&format!("  since {}", ago(age))));
    }
    out.push_str(&format!("{painted}{}{title}\n", " ".repeat(HEAD - word.len())));
    hang(out, &" ".repeat(HEAD), HEAD, &shorten(&finding.ruling.because.text));
    let rows: Vec<Vec<String>> = finding
        .pieces
        .iter()
        .map(|piece| vec![piece.kind.to_string(), shorten(&piece.object), shorten(&piece.detail)])
        .collect();
    section(out, "has", &pieces(&rows));
    let texts = |list: &[crate::Evidence]| -> Vec<String> {
        let others = list.iter().filter(|evidence| **evidence != finding.ruling.because);
        others.map(|evidence| shorten(&evidence.text)).collect()
    };
    section(out, "for", &texts(&finding.ruling.evidence_for));
    section(out, "against", &texts(&finding.ruling.evidence_against));
    if let Some(heard) = &finding.heard {
        // One space between words: what is in columns is not wrapped.
        let words: Vec<&str> = heard.line.split_whitespace().collect();
        let age = heard.at.and_then(|at| at.age_at(now)).map(|age| format!(", {}", ago(age)));
        let text =
            format!("{} (the last in {}{})", words.join(" "), heard.path.display(), age.unwrap_or_default());
        section(out, "heard", &[shorten(&text)]);
    }
    let steps = finding.steps.iter().map(|step| &step.operation).filter(|operation| is_news(operation));
    section(out, "would", &steps.map(|operation| shorten(&operation.to_string())).collect::<Vec<_>>());
}

/// The copies to the quarantine go without saying; they are in the plan.
fn is_news(operation: &Operation) -> bool {
    operation.phase() != Phase::Copies
}

fn pieces(rows: &[Vec<String>]) -> Vec<String> {
    let mut text = String::new();
    // A long path and a detail do not fit one line: the detail goes below.
    let narrow: Vec<Vec<String>> = rows.iter().map(|row| row[..2].to_vec()).collect();
    columns(&mut text, 0, &narrow);
    let mut lines = Vec::new();
    for (line, row) in text.lines().zip(rows) {
        let room = super::COLUMNS - HEAD;
        let detail = &row[2];
        if detail.is_empty() {
            lines.push(line.to_owned());
        } else if line.chars().count() + 2 + detail.chars().count() <= room {
            lines.push(format!("{line}  {detail}"));
        } else {
            lines.push(line.to_owned());
            lines.push(format!("{:11}{detail}", ""));
        }
    }
    lines
}

fn section(out: &mut String, head: &str, lines: &[String]) {
    for (at, line) in lines.iter().enumerate() {
        let head = if at == 0 { head } else { "" };
        let head = format!("  {head:<width$}", width = HEAD - 2);
        if line.contains("  ") {
            // Columns: wrapping would take them apart.
            out.push_str(&format!("{head}{line}\n"));
        } else {
            hang(out, &head, HEAD, line);
        }
    }
}

fn ago(age: Duration) -> String {
    format!("{} ago", model::time::short(age))
}

/// What reclaim would do, by orphan.
pub fn plan(plan: &Plan, paint: Paint) -> String {
    let mut out = String::new();
    let mut seen: Vec<&str> = Vec::new();
    for step in &plan.steps {
        if seen.contains(&step.target.as_str()) {
            continue;
        }
        seen.push(&step.target);
        out.push_str(&format!("{}\n", paint.bold(&printable(&shorten(&step.target)))));
        for own in plan.steps.iter().filter(|own| own.target == step.target) {
            hang(&mut out, "  ", 4, &shorten(&own.operation.to_string()));
        }
    }
    out
}

/// One operation that reclaim carried out.
pub fn applied(id: &str, operation: &Operation, outcome: &str, paint: Paint) -> String {
    let place = id.rsplit('.').next().unwrap_or(id);
    let painted = match outcome {
        "done" => paint.green(outcome),
        _ => paint.yellow(&shorten(outcome)),
    };
    let mut out = String::new();
    let head = format!("{place:>4}  ");
    hang(&mut out, &head, head.len(), &format!("{}: {painted}", shorten(&operation.to_string())));
    out
}

/// One operation that undo looked at.
pub fn undone(object: &str, result: &str) -> String {
    let mut out = String::new();
    hang(&mut out, "", 4, &shorten(&format!("{object}: {result}")));
    out
}
