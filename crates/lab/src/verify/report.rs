//! What was verified, for people, programs and CI.

use std::fmt::Write as _;
use std::time::Duration;

use analyze::render::{COLUMNS, Paint, printable};
use serde::{Serialize, Serializer};

use super::seconds;
use crate::name::LabName;

/// What came of a lab's sentences.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The lab.
    pub lab: LabName,
    /// Each sentence, in the file's order.
    pub results: Vec<Verified>,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub took: Duration,
}

/// What came of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The sentence, as it was written.
    #[serde(rename = "expectation")]
    pub text: String,
    /// Whether it holds.
    pub status: Status,
    /// What was seen.
    pub seen: String,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub took: Duration,
}

/// Whether a sentence holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It does.
    Passed,
    /// It does not.
    Failed,
    /// Nobody knows: the sentence was not understood, or the check could not be made.
    Unclear,
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Report {
    /// Whether every sentence holds.
    pub fn holds(&self) -> bool {
        self.results.iter().all(|result| result.status == Status::Passed)
    }

    fn count(&self, status: Status) -> usize {
        self.results.iter().filter(|result| result.status == status).count()
    }

    /// A table for people.
    pub fn text(&self, paint: Paint) -> String {
        let mut out = String::new();
        let shown: Vec<String> = self.results.iter().map(|result| printable(&result.text)).collect();
        // Where a sentence is long, what was seen goes below it.
        let short = shown.iter().map(|text| text.chars().count()).filter(|width| *width <= 40);
        let width = short.max().unwrap_or(0);
        for (result, sentence) in self.results.iter().zip(&shown) {
            let mark = match result.status {
                Status::Passed => paint.green("ok     "),
                Status::Failed => paint.red("FAILED "),
                Status::Unclear => paint.yellow("UNCLEAR"),
            };
            let seen = printable(&result.seen);
            let used = sentence.chars().count();
            let pad = " ".repeat(width.saturating_sub(used));
            let fits = used <= width && MARK + width + 2 + seen.chars().count() <= COLUMNS;
            match result.status {
                Status::Passed if fits => {
                    let _ = writeln!(out, "{mark}  {sentence}{pad}  {}", paint.dim(&seen));
                }
                Status::Passed => {
                    let _ = writeln!(out, "{mark}  {sentence}");
                }
                _ => {
                    let _ = writeln!(out, "{mark}  {sentence}");
                    below(&mut out, &seen);
                }
            }
        }
        let (all, passed) = (self.results.len(), self.count(Status::Passed));
        let _ = match (all, passed) {
            (0, _) => writeln!(out, "{}: nothing is expected of it", self.lab),
            (all, passed) if all == passed => {
                writeln!(out, "{}: all {all} hold ({})", self.lab, seconds(self.took))
            }
            _ => writeln!(out, "{}: {passed} of {all} hold ({})", self.lab, seconds(self.took)),
        };
        out
    }

    /// For programs.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers");
        text.push('\n');
        text
    }

    /// For CI: JUnit's XML, as Jenkins and GitLab read it.
    pub fn junit(&self) -> String {
        let time = |time: Duration| format!("{}.{:03}", time.as_secs(), time.subsec_millis());
        let lab = escape(self.lab.as_str());
        let (failed, unclear) = (self.count(Status::Failed), self.count(Status::Unclear));
        let totals = format!(
            "tests=\"{}\" failures=\"{failed}\" errors=\"{unclear}\" time=\"{}\"",
            self.results.len(),
            time(self.took)
        );
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(out, "<testsuites {totals}>\n  <testsuite name=\"{lab}\" {totals} skipped=\"0\">");
        for result in &self.results {
            let name = escape(&result.text);
            let _ = write!(
                out,
                "    <testcase name=\"{name}\" classname=\"lab.{lab}\" time=\"{}\">",
                time(result.took)
            );
            let seen = escape(&result.seen);
            let _ = match result.status {
                Status::Passed => writeln!(out, "<system-out>{seen}</system-out></testcase>"),
                Status::Failed => writeln!(out, "<failure message=\"{seen}\"/></testcase>"),
                Status::Unclear => writeln!(out, "<error message=\"{seen}\"/></testcase>"),
            };
        }
        out.push_str("  </testsuite>\n</testsuites>\n");
        out
    }
}

/// Columns that a line's mark takes, with the blanks behind it.
const MARK: usize = 9;

/// A line below its sentence, wrapped.
fn below(out: &mut String, text: &str) {
    const INDENT: usize = MARK + 2;
    let mut column = COLUMNS;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column + 1 + width > COLUMNS {
            if !out.ends_with('\n') {
                out.push('\n');
            }
            out.push_str(&" ".repeat(INDENT));
            column = INDENT;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}

/// Text for XML 1.0, between quotes too: it has no way to write most control characters.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
