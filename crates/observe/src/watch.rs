//! Hearing of attachments as they come and go: links by rtnetlink, leases, cache entries and records by inotify.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Call, Caller, Claim, ClaimKind, Event};
use netlink::Socket;
use netlink::monitor::{Heard, Monitor};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::cni::{self, CniPaths, State};
use crate::processes;

/// Names of up to 255 bytes, a few dozen at once.
const INOTIFY_BYTES: usize = 16 * 1024;

/// Why nothing can be heard.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// rtnetlink.
    #[error("{0}")]
    Netlink(#[from] netlink::Error),
    /// inotify, poll or a signal.
    #[error("cannot {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// What ended a wait.
#[derive(Debug)]
pub enum Woken {
    /// This happened; nothing, when time was up.
    Events(Vec<Event>),
    /// A signal asks to end, or nobody reads what is written any more.
    Stopped,
}

/// What a watched directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Directory {
    Cache,
    Records,
    /// The leases of one network.
    Leases,
    /// The parent of such directories, in which they may appear.
    Above,
}

/// Hears of everything from the moment when it was made.
#[derive(Debug)]
pub struct Watcher {
    monitor: Monitor,
    inotify: OwnedFd,
    signals: OwnedFd,
    paths: CniPaths,
    /// Data directories of leases, those that configurations name included.
    data_dirs: BTreeSet<PathBuf>,
    watched: BTreeMap<i32, (PathBuf, Directory)>,
}

impl Watcher {
    /// Begins. The first call of [`Watcher::wait`] tells everything that there is. For the main thread, before there are others
    /// (see [`sys::stop_signals`]).
    pub fn new(paths: CniPaths) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let signals = sys::stop_signals().map_err(system("wait for signals"))?;
        let monitor = Monitor::links()?;
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(|errno| system("watch directories")(errno.into()))?;
        let (data_dirs, watched) = (BTreeSet::new(), BTreeMap::new());
        Ok(Self { monitor, inotify, signals, paths, data_dirs, watched })
    }

    /// Everything that there is now.
    pub fn everything(&mut self, missed: Option<String>) -> Result<Event, Error> {
        // Watched first, read then: what comes in between is told twice, not never.
        self.watch();
        let state = cni::read(&self.paths);
        let more: BTreeSet<PathBuf> = state.data_dirs(&self.paths);
        if more != self.data_dirs {
            self.data_dirs = more;
            self.watch();
        }
        // What was written meanwhile is in what is read now.
        let state = cni::read(&self.paths);
        let links = netlink::link::list(&mut Socket::route()?, None)?;
        Ok(Event::Everything { links, claims: claims(state), missed })
    }

    /// Waits until something happens, but not longer than this.
    pub fn wait(&mut self, patience: Option<Duration>) -> Result<Woken, Error> {
        let stdout = io::stdout();
        let mut polled = [
            PollFd::new(&self.monitor, PollFlags::IN),
            PollFd::new(&self.inotify, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            // Nothing is asked for: that the other end was closed is told in any case.
            PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty()),
        ];
        let timeout = patience.map(|patience| Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        });
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::System { what: "wait", source: errno.into() }),
        }
        let closed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        if polled[2].revents().contains(PollFlags::IN) || polled[3].revents().intersects(closed) {
            return Ok(Woken::Stopped);
        }
        let mut events = Vec::new();
        match self.monitor.heard() {
            Ok(heard) if heard.is_empty() => {}
            Ok(heard) => {
                events.push(Event::Calls(calls()));
                events.extend(heard.into_iter().map(event));
            }
            Err(error) if error.is_overrun() => {
                let missed = "the kernel had more to tell about links than its buffer holds";
                return self.again(missed);
            }
            Err(error) => return Err(error.into()),
        }
        match self.files() {
            Some(files) => events.extend(files),
            None => return self.again("more files changed than the kernel keeps in mind"),
        }
        Ok(Woken::Events(events))
    }

    fn again(&mut self, missed: &str) -> Result<Woken, Error> {
        // What is left in the queues is older than what is read now.
        while self.monitor.heard().is_err_and(|error| error.is_overrun()) {}
        let _ = self.files();
        Ok(Woken::Events(vec![self.everything(Some(missed.to_owned()))?]))
    }

    /// What happened to files; `None` when something was missed.
    fn files(&mut self) -> Option<Vec<Event>> {
        let mut seen: Vec<(i32, ReadFlags, Option<PathBuf>)> = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); INOTIFY_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| {
                PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.to_bytes()))
            });
            seen.push((event.wd(), event.events(), name));
        }
        let mut events = Vec::new();
        let mut tree_changed = false;
        for (watch, flags, name) in seen {
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                return None;
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.watched.remove(&watch);
                tree_changed = true;
                continue;
            }
            let Some((directory, what)) = self.watched.get(&watch) else { continue };
            let Some(path) = name.map(|name| directory.join(name)) else { continue };
            match what {
                Directory::Above => tree_changed = true,
                _ if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) => {
                    events.push(Event::Released(path));
                }
                what => events.extend(claim(&path, what).map(Event::Claimed)),
            }
        }
        if tree_changed {
            for directory in self.watch() {
                let what = &directory.1;
                let files = std::fs::read_dir(&directory.0).into_iter().flatten().flatten();
                events.extend(files.filter_map(|file| claim(&file.path(), what)).map(Event::Claimed));
            }
        }
        Some(events)
    }

    /// Watches the directories that exist, and above those that do not; returns those that were not watched before.
    fn watch(&mut self) -> Vec<(PathBuf, Directory)> {
        let mut wanted: Vec<(PathBuf, Directory)> =
            self.paths.cache_dirs.iter().map(|dir| (dir.clone(), Directory::Cache)).collect();
        wanted.push((self.paths.record_dir.clone(), Directory::Records));
        for data_dir in self.paths.data_dirs.iter().chain(&self.data_dirs) {
            wanted.push((data_dir.clone(), Directory::Above));
            let networks = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
            let networks = networks.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            wanted.extend(networks.map(|entry| (entry.path(), Directory::Leases)));
        }
        let mut new = Vec::new();
        for (path, what) in wanted {
            let mut place = path.as_path();
            let mut as_what = what;
            loop {
                match self.add(place, &as_what) {
                    Ok(true) if as_what != Directory::Above => new.push((path.clone(), as_what)),
                    Ok(_) => {}
                    Err(_) => {
                        let Some(parent) = place.parent() else { break };
                        (place, as_what) = (parent, Directory::Above);
                        continue;
                    }
                }
                break;
            }
        }
        new
    }

    /// Whether the directory was not watched before.
    fn add(&mut self, path: &Path, what: &Directory) -> io::Result<bool> {
        if self.watched.values().any(|(other, as_what)| other == path && as_what == what) {
            return Ok(false);
        }
        let flags = match what {
            // libcni writes a new entry and closes it; podplumb links or renames a file that has its content already.
            Directory::Cache | Directory::Records | Directory::Leases => {
                WatchFlags::CREATE
                    | WatchFlags::CLOSE_WRITE
                    | WatchFlags::MOVED_TO
                    | WatchFlags::MOVED_FROM
                    | WatchFlags::DELETE
            }
            Directory::Above => WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MASK_ADD,
        };
        let watch = inotify::add_watch(&self.inotify, path, flags | WatchFlags::ONLYDIR)?;
        Ok(match self.watched.get(&watch) {
            // One directory has one watch: what lies in it matters more than what may appear in it.
            Some((_, known)) if *known != Directory::Above => false,
            _ => {
                self.watched.insert(watch, (path.to_owned(), what.clone()));
                true
            }
        })
    }
}

fn event(heard: Heard) -> Event {
    match heard {
        Heard::Link { link } => Event::Link { link },
        Heard::Gone { index, moved } => Event::LinkGone { index, moved },
    }
}

/// The CNI plugins that run at this moment, by their environment.
fn calls() -> Vec<Call> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(call).collect()
}

fn call(pid: u32) -> Option<Call> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |name: &str| {
        let mut variables =
            environment.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
        variables.find_map(|text| text.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let command = value("CNI_COMMAND")?;
    let container = value("CNI_CONTAINERID")?.parse().ok()?;
    let by = Caller { pid, command: comm(pid)?, parent: parent(pid).and_then(comm) };
    Some(Call { command, container, by })
}

fn comm(pid: u32) -> Option<String> {
    processes::comm(format!("/proc/{pid}"))
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn claims(state: State) -> Vec<Claim> {
    let leases = state.leases.into_iter().filter_map(|lease| {
        Some(Claim {
            kind: ClaimKind::Lease,
            container: lease.container?,
            path: lease.path,
            network: lease.network,
            ifname: lease.ifname,
            pod: None,
            host_interfaces: Vec::new(),
        })
    });
    let cache = state.cache.into_iter().filter_map(of_cache);
    let records = state.records.into_iter().filter_map(of_record);
    leases.chain(cache).chain(records).collect()
}

fn of_cache(entry: model::CacheEntry) -> Option<Claim> {
    let key = entry.key?;
    Some(Claim {
        kind: ClaimKind::Cache,
        path: entry.path,
        network: key.network,
        container: key.container,
        ifname: Some(key.ifname),
        pod: entry.pod,
        host_interfaces: entry.host_interfaces,
    })
}

fn of_record(record: model::AttachmentRecord) -> Option<Claim> {
    Some(Claim {
        kind: ClaimKind::Record,
        path: record.seen?.path,
        network: record.key.network,
        container: record.key.container,
        ifname: Some(record.key.ifname),
        pod: record.pod,
        host_interfaces: record
            .host_interface
            .map(|name| (name.to_string(), record.host_mac))
            .into_iter()
            .collect(),
    })
}

/// What a file says, if it says whose it is. One that is only half written is told of again when it is whole.
fn claim(path: &Path, what: &Directory) -> Option<Claim> {
    match what {
        Directory::Above => None,
        Directory::Cache => of_cache(cni::read_cache_entry(path)?),
        Directory::Records => of_record(cni::read_record(path)?),
        Directory::Leases => {
            let address = path.file_name()?.to_str()?.parse().ok()?;
            let lease = ipam::Store::look(path.parent()?).ok()?.lease(address).ok()??;
            let (container, ifname) = lease.owner()?;
            let network = path.parent()?.file_name()?.to_str()?.parse().ok()?;
            let (path, pod) = (path.to_owned(), None);
            let kind = ClaimKind::Lease;
            Some(Claim { path, kind, network, container, ifname, pod, host_interfaces: Vec::new() })
        }
    }
}
