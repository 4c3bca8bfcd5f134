//! systemd's journal: the last that kubelet and runtimes say to it of a container's network.
//!
//! Its files are read as files, from the newest entry backwards. An index in each file leads to the entries of one unit or
//! program, so what all others say costs nothing, however large a file is.

mod compressed;
mod file;
mod hash;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Heard, Timestamp};
use rustix::fs::OFlags;

use self::file::Entries;
pub(super) use self::file::{Budget, Journal};
use super::Wanted;

/// In memory until the disk is there (or for good), and on disk; in each a directory for each machine.
pub(super) const DIRECTORIES: [&str; 2] = ["/run/log/journal", "/var/log/journal"];
/// journald keeps a hundred (`SystemMaxFiles=`).
const MOST_FILES: usize = 512;
/// What the journal itself knows of a writer, so nobody else can pretend to be it. docker.service is not among them: containers
/// that log to the journal do so through dockerd.
const UNITS: [&str; 12] = [
    "kubelet",
    "containerd",
    "crio",
    "cri-docker",
    "k3s",
    "k3s-agent",
    "rke2-server",
    "rke2-agent",
    "k0scontroller",
    "k0sworker",
    "snap.microk8s.daemon-containerd",
    "snap.microk8s.daemon-kubelite",
];
/// What a writer calls itself, for those who are no unit of that name.
const IDENTIFIERS: [&str; 8] =
    ["kubelet", "containerd", "dockerd", "cri-dockerd", "crio", "k3s", "rke2", "kubelite"];
/// Of a journal of 500 MB, a line among the last thousands is found in 2 ms. Where there is none, it takes 20 until
/// all blocks are used up, and as long as a disk needs for them if they are not in memory.
const TIME: Duration = Duration::from_millis(200);
/// 32 MiB: the last 75,000 entries where kubelet and runtime are the only ones who say much.
const BLOCKS: u32 = 2048;

/// The last line about each of the ids.
pub(super) fn heard(wanted: &Wanted<'_>) -> BTreeMap<String, Heard> {
    search(&DIRECTORIES.map(Path::new), wanted, &Budget::new(TIME, BLOCKS))
}

fn search(directories: &[&Path], wanted: &Wanted<'_>, budget: &Budget) -> BTreeMap<String, Heard> {
    let mut found = BTreeMap::new();
    each(directories, budget, |journal, path| {
        if !wanted.all_in(&found) {
            read(journal, path, wanted, budget, &mut found);
        }
    });
    found
}

/// Shows each line of kubelet and runtimes, the newest of each file first, until `tell` has heard enough of it.
pub(super) fn lines(
    directories: &[&Path],
    budget: &Budget,
    mut tell: impl FnMut(&Path, Timestamp, &str) -> ControlFlow<()>,
) {
    each(directories, budget, |journal, path| {
        entries(journal, budget, |at, text| text.lines().rev().try_for_each(|line| tell(path, at, line)));
    });
}

/// Opens the journals, the one that was written to last first.
fn each<'b>(directories: &[&Path], budget: &'b Budget, mut visit: impl FnMut(&mut Journal<'b>, &Path)) {
    let paths = directories.iter().flat_map(|directory| files(directory));
    let opened = paths.filter_map(|path| {
        let journal = Journal::open(open(&path).ok()?, budget)?;
        Some((journal.newest(), path, journal))
    });
    let mut journals: Vec<_> = opened.take(MOST_FILES).collect();
    journals.sort_by_key(|(newest, ..)| std::cmp::Reverse(*newest));
    for (_, path, mut journal) in journals {
        if budget.is_spent() {
            break;
        }
        visit(&mut journal, &path);
    }
}

/// Adds what a journal says of ids that nothing newer was heard of.
pub(super) fn read(
    journal: &mut Journal<'_>,
    path: &Path,
    wanted: &Wanted<'_>,
    budget: &Budget,
    found: &mut BTreeMap<String, Heard>,
) {
    if wanted.all_in(found) {
        return;
    }
    entries(journal, budget, |at, text| {
        // The last of several lines is the newest.
        for line in text.lines().rev() {
            for id in wanted.ids_in(line) {
                let heard = found.entry(id.to_owned()).or_insert_with(|| Heard {
                    path: path.to_owned(),
                    line: super::shortened(line),
                    at: Some(at),
                    pod: None,
                });
                if heard.pod.is_none() {
                    heard.pod = wanted.pod_in(line, id);
                }
            }
        }
        if wanted.all_in(found) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
}

/// Shows what kubelet and runtimes say in a journal, from the newest entry backwards.
fn entries(
    journal: &mut Journal<'_>,
    budget: &Budget,
    mut tell: impl FnMut(Timestamp, &str) -> ControlFlow<()>,
) {
    let units = UNITS.iter().map(|unit| format!("_SYSTEMD_UNIT={unit}.service"));
    let fields = units.chain(IDENTIFIERS.iter().map(|name| format!("SYSLOG_IDENTIFIER={name}")));
    let found_fields: Vec<Entries> =
        fields.filter_map(|field| journal.entries_with(field.as_bytes())).collect();
    let mut last = Newest::of(found_fields, journal);
    while let Some(entry) = last.next(journal) {
        if budget.is_spent() {
            return;
        }
        let Some(message) = journal.message(entry) else { continue };
        let Ok(text) = std::str::from_utf8(&message.text) else { continue };
        let at = Timestamp(i64::try_from(message.at_us / 1000).unwrap_or(i64::MAX));
        if tell(at, text).is_break() {
            return;
        }
    }
}

/// Several lists of entries as one, the newest first. A file is only ever appended to: what is further back in it is newer.
struct Newest(Vec<(u64, Entries)>);

impl Newest {
    fn of(lists: Vec<Entries>, journal: &mut Journal<'_>) -> Self {
        let with_last = |mut list: Entries| list.previous(journal).map(|last| (last, list));
        Self(lists.into_iter().filter_map(with_last).collect())
    }

    fn next(&mut self, journal: &mut Journal<'_>) -> Option<u64> {
        let newest = self.0.iter().map(|(last, _)| *last).max()?;
        // An entry of a unit that also calls itself so is in two lists.
        self.0.retain_mut(|(last, list)| {
            if *last == newest {
                match list.previous(journal) {
                    Some(before) if before < newest => *last = before,
                    _ => return false,
                }
            }
            true
        });
        Some(newest)
    }
}

/// The journals of the system, also those of which journald thinks that they may be broken (`.journal~`): it was killed, or the
/// node crashed.
fn files(directory: &Path) -> Vec<PathBuf> {
    let list =
        |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten().take(MOST_FILES);
    let machines = list(directory).map(|machine| machine.path());
    let is_of_system = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !name.starts_with("user-") && (name.ends_with(".journal") || name.ends_with(".journal~"))
    };
    machines.flat_map(|machine| list(&machine).map(|file| file.path())).filter(is_of_system).collect()
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).expect("flags are an int to the kernel");
    File::options().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests;
