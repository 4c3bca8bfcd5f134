//! What a command works in: one namespace, found by whatever name it has, with no more of the node looked at than that takes.

use std::path::{Path, PathBuf};

use analyze::meant::{Meant, container, meant, on_host_network};
use analyze::render::printable;
use analyze::who::{Chain, ContainerLine, who};
use model::{NsInode, Snapshot};
use observe::glimpse;
use sys::{NetNs, Process};

use crate::arguments::LiveOptions;
use crate::commands::{look, look_by, tell_coverage};
use crate::output::hinted;

/// Inodes of namespaces begin here (`PROC_DYNAMIC_FIRST`, fs/proc/generic.c): no pid and no interface index is so large.
const FIRST_INODE: u64 = 0xF000_0000;

/// A namespace, held open.
#[derive(Debug)]
pub(crate) struct Target {
    /// What to call it; harmless on a terminal.
    pub(crate) label: String,
    pub(crate) netns: NetNs,
    /// What belongs to it, where that was looked for.
    pub(crate) chain: Option<Chain>,
    question: String,
    /// The process that was asked for.
    pid: Option<u32>,
}

impl Target {
    /// Finds what `question` means, as `who` understands it.
    ///
    /// A process, a path and an inode are opened, and nothing is looked at. For a name the runtimes are asked, and for what they do not
    /// know, an address or an interface, the node is looked at.
    pub(crate) fn find(question: &str, live: &LiveOptions) -> anyhow::Result<Self> {
        if let Some(target) = Self::direct(question)? {
            return Ok(target);
        }
        let is_address =
            question.parse::<std::net::IpAddr>().is_ok() || question.parse::<model::MacAddr>().is_ok();
        // Where it could be several things, all have to be known.
        let is_name = !is_address && forced(question).is_none() && !question.starts_with('/');
        if is_name && !is_number(question) && !glimpse::has_interface(question) {
            let names = look_by(|sources| glimpse::names(sources, question), live, false)?;
            let found = who(&names, question);
            if matches!(meant(&found), Meant::One(_) | Meant::Several(_)) {
                return Self::meant(question, &names, meant(&found));
            }
            if let Some((label, pid)) = on_host_network(&names, question) {
                return Err(host_network(&label, pid));
            }
        }
        let snapshot = look(live)?;
        Self::meant(question, &snapshot, meant(&who(&snapshot, question)))
    }

    /// What can be opened as it is; `None` for what has to be looked for.
    fn direct(question: &str) -> anyhow::Result<Option<Self>> {
        match forced(question) {
            Some(("pid", number)) => return Self::of_process(question, number).map(Some),
            Some((_, inode)) => return Ok(Self::of_inode(question, inode.into())),
            None => {}
        }
        if let Ok(number) = question.parse::<u64>() {
            if number >= FIRST_INODE {
                return Ok(Self::of_inode(question, number));
            }
            let pid = u32::try_from(number).unwrap_or_default();
            let there = Self::of_process(question, pid).ok();
            let elsewhere =
                there.filter(|target| NetNs::current().is_ok_and(|here| !is_same(&here, &target.netns)));
            // With an interface of that index, it may mean either.
            return Ok(elsewhere.filter(|_| !glimpse::has_interface(question)));
        }
        let path = Path::new(question);
        let Some(netns) = path.is_absolute().then(|| NetNs::open(path).ok()).flatten() else {
            return Ok(None);
        };
        let pid = question.strip_prefix("/proc/").and_then(|rest| rest.split('/').next()?.parse().ok());
        Ok(Some(Self { label: printable(question), netns, chain: None, question: question.into(), pid }))
    }

    fn of_process(question: &str, pid: u32) -> anyhow::Result<Self> {
        let netns = NetNs::open(netns_path(pid)).map_err(|error| {
            let what = match Path::new("/proc").join(pid.to_string()).exists() {
                false => format!("there is no process {pid}"),
                true if error.kind() == std::io::ErrorKind::NotFound => format!("process {pid} has ended"),
                true => format!("cannot enter process {pid}: {error}"),
            };
            hinted(what, "`podplumb pods` lists the processes of pods")
        })?;
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let label = format!("process {pid} ({})", printable(command.trim_end()));
        Ok(Self { label, netns, chain: None, question: question.into(), pid: Some(pid) })
    }

    fn of_inode(question: &str, inode: u64) -> Option<Self> {
        let netns = glimpse::by_inode(NsInode(inode))?;
        Some(Self {
            label: format!("net:[{inode}]"),
            netns,
            chain: None,
            question: question.into(),
            pid: None,
        })
    }

    fn meant(question: &str, snapshot: &Snapshot, meant: Meant<'_>) -> anyhow::Result<Self> {
        let lists = "`podplumb pods` lists what is here";
        match meant {
            Meant::One(chain) => Self::of_chain(question, chain),
            Meant::Several(chains) => {
                let lines: Vec<String> = chains.iter().map(|chain| line(chain)).collect();
                let what = format!("{question:?} fits {}:\n{}", chains.len(), lines.join("\n"));
                Err(hinted(what, "give NAMESPACE/POD, more of an id, or inode:N; nothing was done"))
            }
            Meant::Gone(chain) => {
                let label = printable(&chain.label);
                Err(hinted(
                    format!("{label} has no network namespace any more, or none that can be seen"),
                    lists,
                ))
            }
            Meant::Host(what) => {
                let what = printable(&what);
                let hint = "pid:N enters whatever a process has of its own";
                Err(hinted(format!("{what} is the host's own: there is no network to enter"), hint))
            }
            Meant::Nothing => {
                if let Some((label, pid)) = on_host_network(snapshot, question) {
                    return Err(host_network(&label, pid));
                }
                tell_coverage(snapshot);
                Err(hinted(format!("nothing on this node goes by {question:?}"), lists))
            }
        }
    }

    /// Opens the namespace of a chain, and makes sure that it is the one that was seen.
    fn of_chain(question: &str, chain: &Chain) -> anyhow::Result<Self> {
        let label = printable(&chain.label);
        let namespace = chain.namespace.as_ref();
        let is_it = |netns: &NetNs| {
            namespace.is_some_and(|seen| {
                netns.inode().ok() == seen.inode && netns.id() == seen.ns_id.or(netns.id())
            })
        };
        let of_tasks = chain.tasks.iter().map(|task| task.netns_path());
        let paths = namespace.and_then(|namespace| namespace.path.clone()).into_iter().chain(of_tasks);
        let by_path = paths.filter_map(|path| NetNs::open(path).ok()).find(is_it);
        let by_id = || {
            let (id, inode) = namespace.and_then(|namespace| namespace.ns_id.zip(namespace.inode))?;
            NetNs::by_id(id, inode).ok()
        };
        let netns = by_path.or_else(by_id).ok_or_else(|| {
            let what =
                format!("{label} went away while it was looked for, or nothing leads to its namespace");
            hinted(what, "`podplumb holders` says what is left of it")
        })?;
        Ok(Self { label, netns, chain: Some(chain.clone()), question: question.into(), pid: None })
    }

    /// A process in it, held by a handle: that which was asked for, the container's, or, where no runtime knows it, the first.
    pub(crate) fn process(&self) -> anyhow::Result<Option<(u32, Process)>> {
        let pid = match (self.pid, &self.chain) {
            (Some(pid), _) => Some(pid),
            (None, Some(chain)) => container(chain, &self.question)
                .map_err(|several| self.which(&several))?
                .and_then(|one| one.pid),
            (None, None) => None,
        };
        if let Some(pid) = pid {
            return self.hold(pid).map(Some);
        }
        self.first()
    }

    /// Whether a process was asked for, or a runtime says which one the pod lives by.
    pub(crate) fn is_of_process(&self) -> bool {
        self.owner_pid().is_some()
    }

    fn owner_pid(&self) -> Option<u32> {
        let containers = || self.chain.iter().flat_map(|chain| &chain.containers);
        // Containers of a pod come and go; its sandbox is what it lives by.
        let of_sandbox = || containers().find(|container| container.sandbox && container.pid.is_some());
        let any = || containers().find(|container| container.pid.is_some());
        self.pid.or_else(|| of_sandbox().or_else(any)?.pid)
    }

    /// The process that it lives by, or, where no runtime says which, the first one in there.
    pub(crate) fn owner(&self) -> anyhow::Result<Option<(u32, Process)>> {
        match self.owner_pid() {
            Some(pid) => self.hold(pid).map(Some),
            None => self.first(),
        }
    }

    fn first(&self) -> anyhow::Result<Option<(u32, Process)>> {
        let (tasks, _) = glimpse::inhabitants(&self.netns)?;
        let pids = tasks.iter().filter(|task| task.tid.is_none()).map(|task| task.pid);
        pids.min().map(|pid| self.hold(pid)).transpose()
    }

    /// A mount of it, in the mount namespace of the caller.
    pub(crate) fn pin(&self) -> Option<PathBuf> {
        glimpse::pin_of(&self.netns)
    }

    /// A name for what has no pod: of its pin, its process, or its inode.
    pub(crate) fn short_name(&self) -> String {
        let pin = self.pin().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        match (self.pid, pin, self.netns.inode()) {
            (Some(pid), ..) => format!("pid-{pid}"),
            (None, Some(pin), _) => pin,
            (None, None, inode) => format!("net-{}", inode.map_or(0, |inode| inode.0)),
        }
    }

    fn which(&self, several: &[&ContainerLine]) -> anyhow::Error {
        let names: Vec<String> = several
            .iter()
            .map(|container| {
                let name = printable(container.name.as_deref().unwrap_or_default());
                format!("  {name}  {}", container.id.get(..12).unwrap_or(&container.id))
            })
            .collect();
        let what = format!("{} has {} containers:\n{}", self.label, several.len(), names.join("\n"));
        hinted(what, "give the name or the id of one; nothing was run")
    }

    /// The process of this number, if it is in the namespace.
    fn hold(&self, pid: u32) -> anyhow::Result<(u32, Process)> {
        let gone =
            || hinted(format!("process {pid} of {} has ended", self.label), "it may be restarted: try again");
        let process = Process::open(pid).map_err(|_| gone())?;
        // The number may be another's by now; while the handle is open it is not.
        let is_it = NetNs::open(netns_path(pid)).is_ok_and(|now| is_same(&now, &self.netns));
        if !is_it || !process.is_alive() {
            return Err(gone());
        }
        Ok((pid, process))
    }
}

fn host_network(label: &str, pid: u32) -> anyhow::Error {
    let what = format!("{} uses the host's network: it has none of its own", printable(label));
    hinted(what, format!("pid:{pid} is its process: `podplumb exec pid:{pid} --all` enters all that it has"))
}

/// Whether two handles are on one namespace: while both are open, inodes are not reused.
fn is_same(a: &NetNs, b: &NetNs) -> bool {
    a.inode().is_ok_and(|inode| b.inode().is_ok_and(|other| other == inode))
}

fn netns_path(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// `pid:N`, `inode:N` and `net:[N]`.
fn forced(question: &str) -> Option<(&'static str, u32)> {
    let bracketed = question.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
    let inode = question.strip_prefix("inode:").or(bracketed).map(|number| ("inode", number));
    let (kind, number) = question.strip_prefix("pid:").map(|number| ("pid", number)).or(inode)?;
    Some((kind, number.parse().ok()?))
}

fn is_number(question: &str) -> bool {
    question.parse::<u64>().is_ok()
}

/// One of several, so that it can be told from the others.
fn line(chain: &Chain) -> String {
    let mut words = vec![format!("  {}", printable(&chain.label))];
    words.extend(chain.sandbox.as_ref().map(|id| printable(id.get(..12).unwrap_or(id))));
    words.extend(
        chain.namespace.as_ref().and_then(|namespace| namespace.inode).map(|inode| format!("inode:{inode}")),
    );
    words.extend(chain.tasks.first().map(|task| format!("pid:{}", task.pid)));
    words.join("  ")
}
