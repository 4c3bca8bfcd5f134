//! The lines of logs that a report has: the last about each container that leaks or is not known, and errors of CNI plugins.
//!
//! kubelet, runtimes and what they call write to the same logs as for [`super::heard`]. How many lines there are, how long, how far back
//! is read and for how long is limited; where a limit was reached, the excerpt says so.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use model::{LogExcerpt, LogLine, Timestamp};

use super::{files, hex_runs, journal, shortened, tail};

/// A container that cannot be removed is told of again and again.
const LINES_OF_EACH: usize = 20;
/// Errors that name none of the containers.
const MOST_ERRORS: usize = 200;
/// More would bury those that matter; the journal of the node has them all.
const MOST_BYTES: usize = 1 << 20;
/// How old an error may be.
const ERRORS_OF: Duration = Duration::from_secs(3600);
/// Who asks for a report can wait; not for a disk that is broken.
const TIME: Duration = Duration::from_secs(2);
/// 128 MiB of journals.
const BLOCKS: u32 = 8192;

/// Who speaks of networks of containers: libcni, runtimes about it, and plugins.
const SPEAKERS: [&str; 5] = ["plugin type=", "CNI", "cni", "network for sandbox", "network for pod"];
/// Not an error, whatever words are in it: containerd tells its whole configuration when it starts.
const CHATTER: [&str; 2] = ["level=info", "level=debug"];
/// What they say when something went wrong.
const COMPLAINTS: [&str; 5] = ["fail", "Fail", "error", "Error", "cannot"];

/// Reads what logs say of these containers (of each only ids that runtimes make are found in a log), and of errors of CNI plugins in the
/// hour before `now`.
pub fn excerpt(containers: &[&str], now: Timestamp) -> LogExcerpt {
    let mut collector = Collector::new(containers, now);
    let until = Instant::now() + TIME;
    let budget = journal::Budget::new(TIME, BLOCKS);
    journal::lines(&journal::DIRECTORIES.map(Path::new), &budget, |path, at, line| {
        collector.offer(path, Some(at), line);
        collector.wants_more()
    });
    if budget.is_spent() {
        collector.unread.push("the journal: only its end was read, there is too much of it".to_owned());
    }
    collector.journal_ends();
    for path in files() {
        if Instant::now() >= until {
            collector.unread.push(format!("{}: no time was left for it", path.display()));
            continue;
        }
        match tail(&path) {
            Ok((_, text)) => {
                let mut lines = text.rsplit(|byte| *byte == b'\n');
                let _ = lines.try_for_each(|line| {
                    if let Ok(line) = std::str::from_utf8(line) {
                        collector.offer(&path, time_of(line), line);
                    }
                    if Instant::now() >= until {
                        collector.unread.push(format!("{}: only its end was read", path.display()));
                        return ControlFlow::Break(());
                    }
                    collector.wants_more()
                });
            }
            // Not every node has each of these.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => collector.unread.push(format!("{}: {error}", path.display())),
        }
    }
    collector.excerpt()
}

struct Collector<'a> {
    /// By what a log has of a container's id: the id, and how many lines of it are there.
    wanted: BTreeMap<&'a str, (&'a str, usize)>,
    errors: usize,
    errors_since: Timestamp,
    bytes: usize,
    lines: Vec<LogLine>,
    /// What the journal said: syslog may have got the same.
    said: HashSet<String>,
    unread: Vec<String>,
}

impl<'a> Collector<'a> {
    fn new(containers: &[&'a str], now: Timestamp) -> Self {
        let hour = i64::try_from(ERRORS_OF.as_millis()).unwrap_or(i64::MAX);
        Self {
            wanted: containers.iter().flat_map(|id| hex_runs(id).map(|run| (run, (*id, 0)))).collect(),
            errors: 0,
            errors_since: Timestamp(now.0.saturating_sub(hour)),
            bytes: 0,
            lines: Vec::new(),
            said: HashSet::new(),
            unread: Vec::new(),
        }
    }

    /// Lines come the newest first.
    fn offer(&mut self, path: &Path, at: Option<Timestamp>, line: &str) {
        if self.bytes >= MOST_BYTES || self.is_told(line) {
            return;
        }
        let mut named: Vec<&str> = hex_runs(line).filter(|run| self.wanted.contains_key(run)).collect();
        named.sort_unstable();
        named.dedup();
        let mut is_wanted = false;
        let mut containers = Vec::new();
        for run in named {
            let Some((id, lines)) = self.wanted.get_mut(run) else { continue };
            containers.push((*id).to_owned());
            is_wanted |= *lines < LINES_OF_EACH;
            *lines += 1;
        }
        if containers.is_empty() {
            is_wanted = self.errors < MOST_ERRORS && self.is_error(at, line);
            self.errors += usize::from(is_wanted);
        }
        if !is_wanted {
            return;
        }
        let line = shortened(line);
        self.bytes += line.len();
        self.lines.push(LogLine { at, path: path.to_owned(), containers, line });
    }

    /// One whose time is not known may be one of the last hour.
    fn is_error(&self, at: Option<Timestamp>, line: &str) -> bool {
        at.is_none_or(|at| at >= self.errors_since)
            && COMPLAINTS.iter().any(|word| line.contains(word))
            && !CHATTER.iter().any(|word| line.contains(word))
            && SPEAKERS.iter().any(|word| line.contains(word))
    }

    /// Between the head of a syslog line and what its writer said is `NAME[PID]: `.
    fn is_told(&self, line: &str) -> bool {
        let said = line.split_once("]: ").map_or(line, |(_, said)| said);
        self.said.contains(&shortened(said))
    }

    fn journal_ends(&mut self) {
        self.said = self.lines.iter().map(|line| line.line.clone()).collect();
    }

    fn wants_more(&self) -> ControlFlow<()> {
        if self.bytes < MOST_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn excerpt(mut self) -> LogExcerpt {
        if self.bytes >= MOST_BYTES {
            self.unread.push(format!("older lines: there are more than {} KB of them", MOST_BYTES >> 10));
        }
        // The sort is stable: what has no time stays in the order in which it was written.
        self.lines.reverse();
        self.lines.sort_by_key(|line| line.at);
        LogExcerpt { lines: self.lines, unread: self.unread }
    }
}

/// When a line of a file says that it was written: rsyslog's head, or a field of containerd's and CRI-O's (`time="…"`).
fn time_of(line: &str) -> Option<Timestamp> {
    let field = || Timestamp::from_rfc3339(line.split_once("time=\"")?.1);
    Timestamp::from_rfc3339(line).or_else(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn id(n: u8) -> String {
        format!("{n:02x}").repeat(32)
    }

    fn texts(excerpt: &LogExcerpt) -> Vec<&str> {
        excerpt.lines.iter().map(|line| line.line.as_str()).collect()
    }

    #[test]
    fn the_last_lines_of_a_container_are_kept_the_oldest_first_and_each_once() {
        let (one, prefixed) = (id(1), format!("default-{}", id(2)));
        let mut collector = Collector::new(&[&one, &prefixed], NOW);
        let journal = Path::new("/run/log/journal/x/system.journal");
        for n in (0..50).rev() {
            collector.offer(journal, Some(Timestamp(NOW.0 - 1000 + n)), &format!("stop {one} {one} {n}"));
        }
        collector.offer(journal, None, &format!("about {} only", id(2)));
        collector.offer(journal, Some(NOW), &format!("about {}", id(3)));
        collector.journal_ends();
        let syslog = Path::new("/var/log/syslog");
        collector.offer(syslog, None, &format!("Nov 21 21:00:00 node containerd[77]: about {} only", id(2)));
        collector.offer(syslog, None, &format!("Nov 21 21:00:00 node kubelet[78]: also about {}", id(2)));
        let excerpt = collector.excerpt();
        let lines = texts(&excerpt);
        assert_eq!(lines.len(), LINES_OF_EACH + 2, "{lines:?}");
        assert!(lines[0].contains("kubelet[78]") && lines[1].starts_with("about"), "{lines:?}");
        assert!(lines[2].ends_with(" 30") && lines[21].ends_with(" 49"), "{lines:?}");
        assert_eq!(excerpt.lines[0].containers, [prefixed]);
        assert_eq!(excerpt.lines[2].containers, [one]);
        assert!(excerpt.unread.is_empty());
    }

    #[test]
    fn errors_of_plugins_are_kept_for_an_hour_and_other_lines_are_not() {
        let mut collector = Collector::new(&[], NOW);
        let path = Path::new("/var/log/containerd.log");
        let ago = |minutes: i64| Some(Timestamp(NOW.0 - minutes * 60_000));
        let failed = r#"plugin type="bridge" failed (add): no IP addresses available"#;
        for (at, line, is_kept) in [
            (ago(59), failed, true),
            (ago(61), failed, false),
            (None, "cni config load failed: no network config found", true),
            (ago(1), "plugin type=\"bridge\" added eth0", false),
            (
                ago(1),
                r#"level=info msg="Start cri plugin with config {NetworkPluginConfDir:/cni fail}""#,
                false,
            ),
            (ago(1), "ImagePull failed: no such image", false),
        ] {
            let before = collector.lines.len();
            collector.offer(path, at, line);
            assert_eq!(collector.lines.len() > before, is_kept, "{line}");
        }
        for _ in 0..MOST_ERRORS {
            collector.offer(path, ago(2), failed);
        }
        assert_eq!(collector.lines.len(), MOST_ERRORS);
    }

    #[test]
    fn an_excerpt_does_not_grow_beyond_all_bounds() {
        let ids: Vec<String> = (0..=255).map(id).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut collector = Collector::new(&ids, NOW);
        let filling = "x".repeat(5000);
        'all: for n in 0..1000 {
            for id in &ids {
                collector.offer(Path::new("/x"), None, &format!("{n} {id} {filling}"));
                if collector.wants_more().is_break() {
                    break 'all;
                }
            }
        }
        let excerpt = collector.excerpt();
        assert!(texts(&excerpt).iter().all(|line| line.chars().count() <= 600));
        assert!(texts(&excerpt).iter().map(|line| line.len()).sum::<usize>() <= MOST_BYTES + 600);
        assert_eq!(excerpt.unread, ["older lines: there are more than 1024 KB of them"]);
    }

    #[test]
    fn times_are_those_of_syslog_and_of_containerd() {
        let noon = Timestamp::from_rfc3339("2026-11-21T12:00:00Z");
        assert_eq!(time_of("2026-11-21T13:00:00+01:00 node containerd[1]: x"), noon);
        assert_eq!(time_of(r#"time="2026-11-21T12:00:00Z" level=error msg=x"#), noon);
        assert_eq!(time_of("Nov 21 12:00:00 node kubelet[1]: x"), None);
    }
}
