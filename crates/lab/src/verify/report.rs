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
        let passed = self.results.iter().filter(|result| result.status == Status::Passed);
        let widths = passed.map(|result| result.text.chars().count());
        // Where a sentence is long, what was seen of it is left out, unless something is wrong.
        let width = widths.filter(|width| *width <= LONGEST_SENTENCE).max().unwrap_or(0);
        for result in &self.results {
            let mark = match result.status {
                Status::Passed => paint.green("ok     "),
                Status::Failed => paint.red("FAILED "),
                Status::Unclear => paint.yellow("UNCLEAR"),
            };
            out.push_str(&mark);
            out.push_str("  ");
            let (sentence, seen) = (printable(&result.text), printable(&result.seen));
            let fits = MARK + width + 2 + seen.chars().count() <= COLUMNS;
            if result.status != Status::Passed {
                wrap(&mut out, MARK, &sentence);
                out.push_str(&" ".repeat(MARK + 2));
                wrap(&mut out, MARK + 2, &seen);
            } else if fits && sentence.chars().count() <= width {
                let _ = writeln!(out, "{sentence:width$}  {}", paint.dim(&seen));
            } else {
                wrap(&mut out, MARK, &sentence);
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
/// Sentences that are longer stand alone.
const LONGEST_SENTENCE: usize = 44;

/// Appends a text to a line of which `indent` columns are written, wrapped at its blanks.
fn wrap(out: &mut String, indent: usize, text: &str) {
    let mut column = indent;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > indent && column + 1 + width > COLUMNS {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let result = |text: &str, status, seen: &str| Verified {
            text: text.to_owned(),
            status,
            seen: seen.to_owned(),
            took: Duration::from_millis(1234),
        };
        let long = "a -> http://b:8080/a/path/that/is/longer/than/a/line/of/a/terminal/has/room/for?really=1";
        Report {
            lab: "ring".parse().unwrap(),
            results: vec![
                result("ping a -> b", Status::Passed, "reply after 0.08 ms"),
                result("tcp a -> b:80", Status::Passed, "connected after 0.11 ms"),
                result(&format!("http {long}"), Status::Passed, "status 200, 5 bytes"),
                result(
                    "ping a -> c",
                    Status::Failed,
                    "10.0.0.3: no answer in 5 s; and then there was so much to say that it does not fit into a line",
                ),
                result("tcp a -> \u{1b}[2J\u{202e}\u{ffff}<&\"'>", Status::Unclear, "\u{0}\u{8}]]>"),
            ],
            took: Duration::from_millis(5678),
        }
    }

    #[test]
    fn a_table_is_for_people() {
        let expected = "\
ok       ping a -> b    reply after 0.08 ms
ok       tcp a -> b:80  connected after 0.11 ms
ok       http a ->
         http://b:8080/a/path/that/is/longer/than/a/line/of/a/terminal/has/room/for?really=1
FAILED   ping a -> c
           10.0.0.3: no answer in 5 s; and then there was so much to say that it
           does not fit into a line
UNCLEAR  tcp a -> \u{fffd}[2J\u{fffd}\u{ffff}<&\"'>
           \u{fffd}\u{fffd}]]>
ring: 3 of 5 hold (5.6 s)
";
        assert_eq!(report().text(Paint::PLAIN), expected);
        let empty = Report { results: Vec::new(), ..report() };
        assert_eq!(empty.text(Paint::PLAIN), "ring: nothing is expected of it\n");
        assert!(empty.holds() && !report().holds());
    }

    #[test]
    fn junit_is_well_formed_whatever_is_in_it() {
        let text = report().junit();
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let suite = document.root_element().first_element_child().unwrap();
        for node in [document.root_element(), suite] {
            let totals = ["tests", "failures", "errors", "time"].map(|name| node.attribute(name).unwrap());
            assert_eq!(totals, ["5", "1", "1", "5.678"]);
        }
        assert_eq!(suite.attribute("name"), Some("ring"));
        let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
        assert_eq!(cases.len(), 5);
        assert_eq!(cases[0].attribute("name"), Some("ping a -> b"));
        assert_eq!(
            (cases[0].attribute("time"), cases[0].attribute("classname")),
            (Some("1.234"), Some("lab.ring"))
        );
        let failure = cases[3].first_element_child().unwrap();
        assert!(
            failure.has_tag_name("failure")
                && failure.attribute("message").unwrap().contains("no answer in 5 s")
        );
        assert_eq!(cases[4].attribute("name"), Some("tcp a -> \u{fffd}[2J\u{fffd}\u{fffd}<&\"'>"));
        let error = cases[4].first_element_child().unwrap();
        assert!(error.has_tag_name("error") && error.attribute("message") == Some("\u{fffd}\u{fffd}]]>"));
    }

    #[test]
    fn json_is_for_programs() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(json["lab"], "ring");
        assert_eq!(json["took_ms"], 5678);
        let expected = serde_json::json!({
            "expectation": "ping a -> b", "status": "passed", "seen": "reply after 0.08 ms", "took_ms": 1234
        });
        assert_eq!(json["results"][0], expected);
        assert_eq!(json["results"][4]["status"], "unclear");
    }
}
