//! What is wrong with a node, and what each check is about.

use std::collections::BTreeMap;
use std::time::Duration;

use super::text::{Paint, hang, printable, shorten};
use crate::doctor::{Check, Diagnosis, Finding, Severity};

/// Width of the column in which a line says what it is.
const HEAD: usize = 9;

/// The findings, the worst first; what was not checked; and a line that sums it up.
pub fn doctor(diagnosis: &Diagnosis, took: Duration, paint: Paint) -> String {
    let mut out = String::new();
    for finding in &diagnosis.findings {
        write(&mut out, finding, paint);
        out.push('\n');
    }
    let blind: Vec<_> = diagnosis.checks.iter().filter(|made| !made.not_checked.is_empty()).collect();
    if !blind.is_empty() {
        write_blind(&mut out, diagnosis);
        out.push('\n');
    }
    let count = |severity, one: &str, many: &str| match diagnosis.count(severity) {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    let paint_if =
        |severity, text: String, painted: fn(Paint, &str) -> String| match diagnosis.count(severity) {
            0 => text,
            _ => painted(paint, &text),
        };
    let errors = paint_if(Severity::Error, count(Severity::Error, "error", "errors"), Paint::red);
    let warnings =
        paint_if(Severity::Warning, count(Severity::Warning, "warning", "warnings"), Paint::yellow);
    let notices = count(Severity::Notice, "notice", "notices");
    let complete = diagnosis.checks.len() - blind.len();
    let checks = match blind.len() {
        0 if complete == 1 => "the check was made".to_owned(),
        0 => format!("all {complete} checks made"),
        _ => format!("{complete} of {} checks made in full", diagnosis.checks.len()),
    };
    out.push_str(&format!("{errors}, {warnings}, {notices}; {checks} ({} ms)\n", took.as_millis()));
    out
}

fn write(out: &mut String, finding: &Finding, paint: Paint) {
    let word = finding.severity.as_str().to_uppercase();
    let painted = match finding.severity {
        Severity::Error => paint.red(&word),
        Severity::Warning => paint.yellow(&word),
        Severity::Notice => paint.dim(&word),
    };
    let object = paint.bold(&printable(&shorten(&finding.object)));
    out.push_str(&format!("{painted}{}{object}  {}\n", " ".repeat(HEAD - word.len()), finding.check));
    hang(out, &" ".repeat(HEAD), HEAD, &shorten(&finding.found));
    hang(out, &format!("  {:<width$}", "fix", width = HEAD - 2), HEAD, &shorten(&finding.fix));
}

/// What was not checked, by why: one reason often stops several checks.
fn write_blind(out: &mut String, diagnosis: &Diagnosis) {
    let mut by_why: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for made in &diagnosis.checks {
        for why in &made.not_checked {
            by_why.entry(why).or_default().push(made.check);
        }
    }
    out.push_str("not checked, or not completely:\n");
    const SHOWN: usize = 12;
    for (why, checks) in by_why.iter().take(SHOWN) {
        hang(out, "  ", 4, &format!("{}: {}", printable(&shorten(why)), checks.join(", ")));
    }
    if by_why.len() > SHOWN {
        out.push_str(&format!("  and {} more reasons (-o json has them)\n", by_why.len() - SHOWN));
    }
}

/// What a check is about.
pub fn explain(check: &Check, paint: Paint) -> String {
    let mut out = format!("{}  {}\n", paint.bold(check.id), check.severity.as_str());
    hang(&mut out, "", 0, &format!("Fine when {}.", check.title));
    for (head, text) in [("why", check.why), ("see", check.see), ("fix", check.fix), ("source", check.source)]
    {
        out.push('\n');
        hang(&mut out, &format!("{head:<HEAD$}"), HEAD, text);
    }
    out
}

/// All checks, a line each.
pub fn checks(checks: impl Iterator<Item = &'static Check>) -> String {
    let mut out = String::new();
    for check in checks {
        let head = format!("{:<23}{:<9}", check.id, check.severity.as_str());
        hang(&mut out, &head, head.chars().count(), check.title);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::COLUMNS;

    fn sick() -> Diagnosis {
        let finding = |severity, object: &str, found: &str| Finding {
            check: "veth-mtu",
            severity,
            object: object.into(),
            found: found.into(),
            fix: "ip link set veth0 mtu 1500".into(),
        };
        let made = |check, why: &[&str]| crate::doctor::Made {
            check,
            not_checked: why.iter().map(|why| (*why).to_owned()).collect(),
            findings: 0,
        };
        Diagnosis {
            taken_at: model::Timestamp(0),
            findings: vec![
                finding(
                    Severity::Error,
                    "veth\x1b[2J0",
                    "one \u{202e}end has MTU 1400, and the other one 1500",
                ),
                finding(Severity::Notice, "eth0", "is there"),
            ],
            checks: vec![
                made("veth-mtu", &[]),
                made("ip-forward", &["/x could\nnot be entered"]),
                made("pod-mtu", &["/x could\nnot be entered"]),
            ],
        }
    }

    #[test]
    fn findings_are_told_in_80_columns_and_steer_no_terminal() {
        let text = doctor(&sick(), Duration::from_millis(12), Paint::PLAIN);
        assert_eq!(
            text,
            "\
ERROR    veth\u{fffd}[2J0  veth-mtu
         one \u{fffd}end has MTU 1400, and the other one 1500
  fix    ip link set veth0 mtu 1500

NOTICE   eth0  veth-mtu
         is there
  fix    ip link set veth0 mtu 1500

not checked, or not completely:
  /x could\u{fffd}not be entered: ip-forward, pod-mtu

1 error, 0 warnings, 1 notice; 1 of 3 checks made in full (12 ms)
"
        );
    }

    #[test]
    fn explanations_and_the_list_fit_80_columns() {
        for check in crate::doctor::checks() {
            let text = explain(check, Paint::PLAIN);
            let long = text.lines().find(|line| {
                line.chars().count() > COLUMNS
                    && line.trim_start().contains(' ')
                    && !line.contains("https://")
            });
            assert_eq!(long, None);
        }
        let list = checks(crate::doctor::checks());
        let long: Vec<&str> = list.lines().filter(|line| line.chars().count() > COLUMNS).collect();
        assert_eq!(long, [""; 0]);
    }
}
