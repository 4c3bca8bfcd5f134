//! Logs of runtimes and of kubelet: the last that they say of a container's network. And kubelet's own directories.
//!
//! systemd's journal is asked first, since it says when; log files for what it does not say.

mod excerpt;
mod journal;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::{Heard, PodName};
use rustix::fs::OFlags;

use crate::cni::State;
use crate::processes;

pub use self::excerpt::excerpt;

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
/// Of a pod's uid, which has four dashes besides if it is no static pod's.
const UID_DIGITS: usize = 32;
/// A node has some hundred.
const MOST_PODS: usize = 1 << 14;

/// The ids to listen for.
struct Wanted<'a> {
    /// By what a log may have of them.
    runs: BTreeMap<&'a str, &'a str>,
    ids: usize,
    /// Those whose pod nobody knows.
    unnamed: BTreeSet<&'a str>,
    /// The pods that kubelet keeps logs of, by their uids.
    pods: BTreeMap<String, PodName>,
}

impl<'a> Wanted<'a> {
    fn new(ids: impl Iterator<Item = &'a str>) -> Self {
        let runs: BTreeMap<&str, &str> = ids.flat_map(|id| hex_runs(id).map(move |run| (run, id))).collect();
        let ids = runs.values().collect::<BTreeSet<_>>().len();
        Self { runs, ids, unnamed: BTreeSet::new(), pods: BTreeMap::new() }
    }

    /// Listens for names, too.
    fn and_pods(mut self, is_named: impl Fn(&str) -> bool, pods: BTreeMap<String, PodName>) -> Self {
        if !pods.is_empty() {
            self.unnamed = self.runs.values().copied().filter(|id| !is_named(id)).collect();
            self.pods = pods;
        }
        self
    }

    /// Those that a line about a container's network has.
    fn ids_in(&self, line: &str) -> impl Iterator<Item = &'a str> {
        let mut ids = hex_runs(line).filter_map(|run| self.runs.get(run).copied()).peekable();
        // Most lines are about nobody who is wanted.
        let is_about_networks = ids.peek().is_some() && WORDS.iter().any(|word| line.contains(word));
        ids.filter(move |_| is_about_networks)
    }

    /// The one pod whose uid the line has, if the id has no name yet.
    fn pod_in(&self, line: &str, id: &str) -> Option<PodName> {
        if !self.unnamed.contains(id) {
            return None;
        }
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let mut pods = words.filter_map(|word| self.pods.get(word));
        let pod = pods.next()?;
        pods.all(|other| other == pod).then(|| pod.clone())
    }

    fn all_in(&self, found: &BTreeMap<String, Heard>) -> bool {
        let is_named = |id: &&str| found.get(*id).is_some_and(|heard| heard.pod.is_some());
        found.len() >= self.ids && self.unnamed.iter().all(is_named)
    }
}

/// The last line about each container that CNI's state names, and its pod where the state does not have that.
pub(crate) fn heard(state: &State) -> BTreeMap<String, Heard> {
    let leased = state.leases.iter().filter_map(|lease| lease.container.as_ref());
    let cached = || state.cache.iter().filter_map(|entry| Some((&entry.key.as_ref()?.container, &entry.pod)));
    let recorded = || state.records.iter().map(|record| (&record.key.container, &record.pod));
    let attached = || cached().chain(recorded());
    let ids = leased.chain(attached().map(|(container, _)| container)).map(|container| container.as_str());
    let named: BTreeSet<&str> =
        attached().filter(|(_, pod)| pod.is_some()).map(|(container, _)| container.as_str()).collect();
    let wanted = Wanted::new(ids).and_pods(|id| named.contains(id), pods_with_logs());
    let mut heard = journal::heard(&wanted);
    if !wanted.all_in(&heard) {
        for (id, other) in in_files(&wanted) {
            match heard.entry(id) {
                Entry::Vacant(entry) => drop(entry.insert(other)),
                Entry::Occupied(mut entry) if entry.get().pod.is_none() => entry.get_mut().pod = other.pod,
                Entry::Occupied(_) => {}
            }
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
                let pod = wanted.pod_in(line, id);
                let said = Heard { path: path.clone(), line: shortened(line), at: None, pod };
                if let Some(before) = heard.insert(id.to_owned(), said)
                    && let Some(heard) = heard.get_mut(id).filter(|heard| heard.pod.is_none())
                {
                    heard.pod = before.pod;
                }
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
    let pods: Option<BTreeSet<String>> =
        entries.map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let mut pods = pods?;
    pods.extend(pods_with_logs().into_keys());
    Some(pods)
}

/// The pods that kubelet keeps logs of, by their uids. Logs stay for a while after their pod.
fn pods_with_logs() -> BTreeMap<String, PodName> {
    let entries = std::fs::read_dir("/var/log/pods").into_iter().flatten().flatten().take(MOST_PODS);
    entries.filter_map(|entry| pod_of_directory(entry.file_name().to_str()?)).collect()
}

/// `NAMESPACE_NAME_UID`; no name in Kubernetes has a `_`. (That of a static pod is a hash.)
fn pod_of_directory(name: &str) -> Option<(String, PodName)> {
    let parts: Vec<&str> = name.split('_').collect();
    let [namespace, name, uid] = parts[..] else { return None };
    let is_name = |part: &str| {
        let is_part_of_one = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        !part.is_empty() && part.chars().all(is_part_of_one)
    };
    let is_uid = (UID_DIGITS..=36).contains(&uid.len()) && !uid.contains('.');
    let pod = || PodName { namespace: namespace.into(), name: name.into(), uid: Some(uid.into()) };
    (is_uid && [namespace, name, uid].into_iter().all(is_name)).then(|| (uid.to_owned(), pod()))
}

fn hex_runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() == ID_DIGITS)
}

fn files() -> BTreeSet<PathBuf> {
    let mut files: BTreeSet<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in entries.map(|entry| entry.path()) {
        let comm = processes::comm(&process).unwrap_or_default();
        if WRITERS.contains(&comm.as_str()) {
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

    const UID: &str = "0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e01";

    #[test]
    fn directories_of_logs_name_pods_and_others_do_not() {
        let (uid, pod) = pod_of_directory(&format!("shop_web-0_{UID}")).unwrap();
        assert_eq!((uid.as_str(), pod.to_string().as_str()), (UID, "shop/web-0"));
        let hash = "7d0c1e5b9a3f4d22".repeat(2);
        assert!(pod_of_directory(&format!("kube-system_etcd-node.example_{hash}")).is_some());
        for name in ["", "shop_web", "shop_web_1", "a_b_c_d"] {
            assert_eq!(pod_of_directory(name), None, "{name}");
        }
        for name in [format!("_web_{UID}"), format!("shop_\u{1b}[2J_{UID}"), format!("shop_web_{UID}_x")] {
            assert_eq!(pod_of_directory(&name), None, "{name:?}");
        }
    }

    #[test]
    fn a_line_names_the_pod_whose_uid_it_has_if_there_is_only_one() {
        let (one, two) = ("7d0c1e5b9a3f4d22".repeat(4), "00ff1e5b9a3f4d22".repeat(4));
        let other = UID.replace("4e01", "4e02");
        let pods = [format!("shop_web_{UID}"), format!("shop_cart_{other}")];
        let pods = pods.iter().filter_map(|name| pod_of_directory(name)).collect();
        let ids = [one.as_str(), two.as_str()].into_iter();
        let wanted = Wanted::new(ids).and_pods(|id| id == two, pods);
        let line = format!("RunPodSandbox for &PodSandboxMetadata{{Name:x,Uid:{UID},}} returns {one} {UID}");
        assert_eq!(wanted.pod_in(&line, &one).unwrap().name, "web", "kubelet's directory has the name");
        assert_eq!(wanted.pod_in(&line, &two), None, "its name is known");
        assert_eq!(wanted.pod_in(&format!("{line} {other}"), &one), None);
        assert_eq!(wanted.pod_in(&line.replace(UID, &format!("{UID}0")), &one), None);
    }
}
