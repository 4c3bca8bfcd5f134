//! Logs of runtimes and of kubelet: the last that they say of a container's network. And kubelet's own directories.
//!
//! systemd's journal is asked first, since it says when; log files for what it does not say.

mod journal;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::Heard;
use rustix::fs::OFlags;

/// Where distributions put what runtimes and kubelet say.
const FILES: [&str; 9] = [
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/daemon.log",
    "/var/log/kubelet.log",
    "/var/log/containerd.log",
    "/var/log/crio.log",
    "/var/log/docker.log",
    "/var/log/k3s.log",
    "/var/lib/rancher/k3s/agent/containerd/containerd.log",
];
/// Whose standard output may be a file of its own.
const WRITERS: [&str; 5] = ["containerd", "dockerd", "crio", "kubelet", "k3s-server"];
/// Only the end of a file is read: a busy node's last hours.
const TAIL_BYTES: u64 = 8 << 20;
/// A line of containerd about a failed DEL has some 400.
const LONGEST_LINE: usize = 600;
/// A line about a container's network has one of these words.
const WORDS: [&str; 6] = ["etwork", "CNI", "cni", "PodSandbox", "sandbox", "etns"];
/// The digits of an id that runtimes make.
const ID_DIGITS: usize = 64;

/// The ids to listen for.
struct Wanted<'a> {
    /// By what a log may have of them.
    runs: BTreeMap<&'a str, &'a str>,
    ids: usize,
}

impl<'a> Wanted<'a> {
    fn new(ids: impl Iterator<Item = &'a str>) -> Self {
        let runs: BTreeMap<&str, &str> = ids.flat_map(|id| hex_runs(id).map(move |run| (run, id))).collect();
        let ids = runs.values().collect::<BTreeSet<_>>().len();
        Self { runs, ids }
    }

    /// Those that a line about a container's network has.
    fn ids_in(&self, line: &str) -> impl Iterator<Item = &'a str> {
        let mut ids = hex_runs(line).filter_map(|run| self.runs.get(run).copied()).peekable();
        // Most lines are about nobody who is wanted.
        let is_about_networks = ids.peek().is_some() && WORDS.iter().any(|word| line.contains(word));
        ids.filter(move |_| is_about_networks)
    }

    fn all_in(&self, found: &BTreeMap<String, Heard>) -> bool {
        found.len() >= self.ids
    }
}

/// The last line about each of the ids.
pub(crate) fn heard<'a>(ids: impl Iterator<Item = &'a str>) -> BTreeMap<String, Heard> {
    let wanted = Wanted::new(ids);
    let mut heard = journal::heard(&wanted);
    if !wanted.all_in(&heard) {
        for (id, line) in in_files(&wanted) {
            heard.entry(id).or_insert(line);
        }
    }
    heard
}

/// What one file of the journal says, whatever is in it.
#[cfg(feature = "fuzz")]
pub(crate) fn journal_file(file: std::fs::File, ids: &[&str]) -> BTreeMap<String, Heard> {
    let mut found = BTreeMap::new();
    let budget = journal::Budget::new(std::time::Duration::from_secs(1), 512);
    if let Some(mut journal) = journal::Journal::open(file, &budget) {
        let path = Path::new("/run/log/journal/fuzz/system.journal");
        journal::read(&mut journal, path, &Wanted::new(ids.iter().copied()), &budget, &mut found);
    }
    found
}

fn in_files(wanted: &Wanted<'_>) -> BTreeMap<String, Heard> {
    let mut heard = BTreeMap::new();
    let mut files: Vec<(SystemTime, PathBuf, Vec<u8>)> = files()
        .into_iter()
        .filter_map(|path| tail(&path).ok().map(|(time, text)| (time, path, text)))
        .collect();
    // What was written to last has the last word.
    files.sort();
    for (_, path, text) in files {
        for line in text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
            for id in wanted.ids_in(line) {
                let said = Heard { path: path.clone(), line: shortened(line), at: None };
                heard.insert(id.to_owned(), said);
            }
        }
    }
    heard
}

fn shortened(line: &str) -> String {
    line.chars().take(LONGEST_LINE).collect()
}

/// The uids of the pods that kubelet keeps something of; `None` where there is no kubelet, or its directory cannot be read.
pub(crate) fn kubelet_pods() -> Option<BTreeSet<String>> {
    let entries = std::fs::read_dir("/var/lib/kubelet/pods").ok()?;
    entries.map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn hex_runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() == ID_DIGITS)
}

fn files() -> BTreeSet<PathBuf> {
    let mut files: BTreeSet<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in entries.map(|entry| entry.path()) {
        let comm = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
        if WRITERS.contains(&comm.trim_end()) {
            let outputs = ["fd/1", "fd/2"].map(|fd| std::fs::read_link(process.join(fd)));
            // A daemon in a container has its files elsewhere: what is at the same path here is not opened for it.
            let same = |path: &PathBuf| same_file(path, &process);
            files.extend(outputs.into_iter().flatten().filter(|path| path.is_absolute()).filter(same));
        }
    }
    files
}

fn same_file(path: &Path, process: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let key =
        |path: &Path| std::fs::metadata(path).ok().filter(|stat| stat.is_file()).map(|s| (s.dev(), s.ino()));
    let here = key(path);
    here.is_some() && ["fd/1", "fd/2"].iter().any(|fd| key(&process.join(fd)) == here)
}

fn tail(path: &Path) -> io::Result<(SystemTime, Vec<u8>)> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags are an int to the kernel");
    let mut file = std::fs::File::options().read(true).custom_flags(flags).open(path)?;
    let stat = file.metadata()?;
    if !stat.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file"));
    }
    file.seek(SeekFrom::Start(stat.len().saturating_sub(TAIL_BYTES)))?;
    let mut text = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut text)?;
    Ok((stat.modified()?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_lines_and_in_prefixed_names() {
        let id = "7d0c1e5b9a3f4d22".repeat(4);
        let line = format!(r#"TearDown network for sandbox "{id}" successfully, 0123"#);
        assert_eq!(hex_runs(&line).collect::<Vec<_>>(), [id.as_str()]);
        assert_eq!(hex_runs(&format!("default-{id}")).collect::<Vec<_>>(), [id.as_str()]);
        assert_eq!(hex_runs(&format!("{id}00 cafe")).count(), 0);
    }
}
