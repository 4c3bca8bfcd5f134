//! What runtimes say about processes, compared with /proc.
//!
//! A runtime may be wrong: its shim died and the pid went to somebody else, its database was restored, it is no runtime at all. A
//! pid that is not the container's would tie it to a stranger's namespace, and its own would look disowned. So what is
//! contradicted is dropped, and the doubt is written down for the verdicts.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use model::{Namespace, NsInode, Runtime, RuntimeObject, Timestamp};
use sys::ProcessStat;

/// `sysconf(_SC_CLK_TCK)` on all that Linux runs on: /proc counts in hundredths of a second.
const TICK_MS: u64 = 10;
/// Both times are rounded, and some runtimes take the time of creation after they have started the process.
const MARGIN: Duration = Duration::from_secs(2);

/// Compares, after namespaces were read. `answered` is how long the machine had been up when the last runtime did.
pub(crate) fn compare(
    runtimes: &mut [Runtime],
    namespaces: &[Namespace],
    booted_at: Timestamp,
    answered: Duration,
) {
    let ids: HashSet<String> = runtimes
        .iter()
        .flat_map(|runtime| &runtime.objects)
        .map(|object| object.id.as_str().into())
        .collect();
    let mut at_path = HashMap::new();
    let mut of_pid = HashMap::new();
    for namespace in namespaces {
        let paths = namespace.own_pins().map(|pin| model::namespace::run_path(&pin.path));
        at_path.extend(paths.map(|path| (path, namespace.inode)));
        let leaders = namespace.tasks.iter().filter(|task| task.tid.is_none());
        of_pid.extend(leaders.map(|task| (task.pid, namespace.inode)));
    }
    for object in runtimes.iter_mut().flat_map(|runtime| &mut runtime.objects) {
        let Some(pid) = object.pid else { continue };
        let path = object.netns.as_ref().map(|path| model::namespace::run_path(path));
        let claim = Claim {
            object,
            process: Process::read(pid),
            lives_in: of_pid.get(&pid).copied().flatten(),
            pinned: path.and_then(|path| *at_path.get(&path)?),
            answered,
            booted_at,
        };
        let (doubt, keep) = match claim.judge(&ids) {
            None => continue,
            Some(Doubt::Gone) => (format!("its process {pid} is not there"), true),
            Some(Doubt::Stranger(why)) => (format!("its process {pid} is somebody else's: {why}"), false),
        };
        object.doubt = Some(doubt);
        object.pid = object.pid.filter(|_| keep);
    }
}

/// What /proc says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    /// How long the machine had been up when it started.
    started: Duration,
    /// /proc/PID/cgroup.
    cgroups: String,
}

impl Process {
    /// `None` when there is none, or only a zombie.
    fn read(pid: u32) -> Option<Self> {
        let started = started(&ProcessStat::read(pid).ok()?)?;
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Some(Self { started, cgroups })
    }
}

/// When a process started; `None` for a zombie.
fn started(stat: &ProcessStat) -> Option<Duration> {
    (!stat.has_ended()).then(|| Duration::from_millis(stat.started.saturating_mul(TICK_MS)))
}

enum Doubt {
    Gone,
    Stranger(String),
}

struct Claim<'a> {
    object: &'a RuntimeObject,
    process: Option<Process>,
    /// The namespace in which the process was seen.
    lives_in: Option<NsInode>,
    /// The namespace that is pinned where the runtime says that the container's is.
    pinned: Option<NsInode>,
    answered: Duration,
    booted_at: Timestamp,
}

impl Claim<'_> {
    fn judge(&self, ids: &HashSet<String>) -> Option<Doubt> {
        let Some(process) = &self.process else {
            // That an exited container has no process is no news.
            let runs = ["running", "Ready", "paused"].contains(&self.object.state.as_str());
            return runs.then_some(Doubt::Gone);
        };
        let stranger = |why: &str| Some(Doubt::Stranger(why.to_owned()));
        let id = self.object.id.as_str();
        // Rounded down, so it really is later.
        if process.started > self.answered {
            return stranger("it started after the runtime had answered");
        }
        if process.cgroups.contains(id) {
            return None;
        }
        if let Some(other) = named_by(&process.cgroups, ids) {
            return stranger(&format!("its cgroup is that of {}", other.get(..12).unwrap_or(other)));
        }
        let after_boot = i64::try_from(process.started.as_millis()).unwrap_or(i64::MAX);
        let started = Timestamp(self.booted_at.0.saturating_add(after_boot));
        let age = self.object.created.and_then(|created| started.age_at(created));
        if age.is_some_and(|age| age > MARGIN) {
            return stranger("it is older than the container");
        }
        if self.lives_in.zip(self.pinned).is_some_and(|(lives_in, pinned)| lives_in != pinned) {
            return stranger("it lives in another network namespace");
        }
        None
    }
}

/// The listed container whose id a cgroup's path has as a part of its own (`…/ID`, `…/docker-ID.scope`, `libpod-ID.scope`).
fn named_by<'a>(cgroups: &str, ids: &'a HashSet<String>) -> Option<&'a str> {
    let words = cgroups.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64);
    words.into_iter().find_map(|word| ids.get(word)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d22";
    const OTHER: &str = "00001e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f0000";

    fn object() -> RuntimeObject {
        RuntimeObject {
            id: ID.parse().unwrap(),
            kind: model::RuntimeObjectKind::Container,
            partition: None,
            name: None,
            pod: None,
            sandbox: None,
            state: "running".into(),
            pid: Some(812),
            netns: None,
            addresses: Vec::new(),
            created: Some(Timestamp(1_000_000)),
            doubt: None,
        }
    }

    /// The node booted at 900,000 ms and was asked 200 s later; the container was made 100 s after boot, its process 101 s.
    fn doubt(change: impl FnOnce(&mut RuntimeObject, &mut Claim<'_>)) -> Option<String> {
        let (mut object, fixed) = (object(), object());
        let process = Process { started: Duration::from_secs(101), cgroups: "0::/user.slice".into() };
        let mut claim = Claim {
            object: &fixed,
            process: Some(process),
            lives_in: None,
            pinned: None,
            answered: Duration::from_secs(200),
            booted_at: Timestamp(900_000),
        };
        change(&mut object, &mut claim);
        let claim = Claim { object: &object, ..claim };
        match claim.judge(&HashSet::from([ID.to_owned(), OTHER.to_owned()]))? {
            Doubt::Gone => Some("gone".into()),
            Doubt::Stranger(why) => Some(why),
        }
    }

    #[test]
    fn what_nothing_contradicts_is_believed() {
        assert_eq!(doubt(|_, _| {}), None);
        let own = format!("0::/system.slice/docker-{ID}.scope");
        assert_eq!(doubt(|_, claim| claim.process.as_mut().unwrap().cgroups = own), None);
        let both = format!("0::/kubepods/pod1/{OTHER}/docker/{ID}");
        assert_eq!(doubt(|_, claim| claim.process.as_mut().unwrap().cgroups = both), None, "Docker in a pod");
        assert_eq!(
            doubt(|_, claim| (claim.lives_in, claim.pinned) = (Some(NsInode(1)), Some(NsInode(1)))),
            None
        );
        let exited = |object: &mut RuntimeObject, claim: &mut Claim<'_>| {
            object.state = "exited".into();
            claim.process = None;
        };
        assert_eq!(doubt(exited), None, "an exited container has no process");
    }

    #[test]
    fn a_pid_of_somebody_else_is_told_by_cgroup_age_and_namespace() {
        assert_eq!(doubt(|_, claim| claim.process = None).as_deref(), Some("gone"));
        let other = format!("0::/system.slice/docker-{OTHER}.scope");
        let of_other = doubt(|_, claim| claim.process.as_mut().unwrap().cgroups = other);
        assert_eq!(of_other.as_deref(), Some("its cgroup is that of 00001e5b9a3f"));
        let older = doubt(|object, _| object.created = Some(Timestamp(1_080_000)));
        assert_eq!(older.as_deref(), Some("it is older than the container"));
        let elsewhere =
            doubt(|_, claim| (claim.lives_in, claim.pinned) = (Some(NsInode(1)), Some(NsInode(2))));
        assert_eq!(elsewhere.as_deref(), Some("it lives in another network namespace"));
    }

    #[test]
    fn a_pid_that_was_given_away_between_the_two_reads_is_not_believed_even_in_the_right_cgroup() {
        let reused = doubt(|_, claim| {
            let cgroups = format!("0::/docker/{ID}");
            claim.process = Some(Process { started: Duration::from_secs(201), cgroups });
        });
        assert_eq!(reused.as_deref(), Some("it started after the runtime had answered"));
    }

    #[test]
    fn a_zombie_is_gone_and_machines_run_for_years() {
        let stat = |state, started| ProcessStat { state, parent: 1, group: 812, started };
        assert_eq!(started(&stat('R', 4200)), Some(Duration::from_secs(42)));
        assert_eq!(started(&stat('Z', 4200)), None, "a zombie is gone");
        let years = 5_000_000_000;
        assert_eq!(
            started(&stat('S', years)),
            Some(Duration::from_secs(50_000_000)),
            "more than 32 bits of ticks"
        );
    }
}
