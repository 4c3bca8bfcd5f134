//! Container runtimes: found where they put their sockets, asked each in its own protocol, all at once.
//!
//! A runtime that is there and does not answer is part of the result, as silent: what it does not list may still be its own.
//! Adding one means adding a file with an `ask` and a line to [`PLACES`].

pub(crate) mod claims;
mod containerd;
mod cri;
mod discovery;
mod docker;
pub mod grpc;
mod kubelet;
mod store;
mod traces;

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Gap, Runtime, RuntimeKind, RuntimeStatus};

/// Where to look for runtimes.
#[derive(Debug, Clone)]
pub struct RuntimeSources {
    /// CRI sockets that the user named.
    pub cri: Vec<PathBuf>,
    /// Docker API sockets that the user named.
    pub docker: Vec<PathBuf>,
    /// The user said that no runtime works on this node.
    pub none: bool,
    /// How long each may take, from the connection to the last answer. One that hangs must not make `leaks` hang; one that is slow
    /// is silent.
    pub timeout: Duration,
}

impl Default for RuntimeSources {
    fn default() -> Self {
        Self { cri: Vec::new(), docker: Vec::new(), none: false, timeout: Duration::from_secs(10) }
    }
}

/// What has to be known in full, also where that takes a call for each: all, or what goes by one name or begins of an id.
#[derive(Debug, Clone)]
pub(crate) struct Wanted(Option<String>);

impl Wanted {
    /// Whether that is all.
    pub(crate) fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// The one name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether what has this id and these names is.
    pub(crate) fn fits<'n>(&self, id: &str, names: impl IntoIterator<Item = &'n str>) -> bool {
        match &self.0 {
            Some(only) => id.starts_with(only.as_str()) || names.into_iter().any(|name| name == only),
            None => true,
        }
    }
}

/// The user said that there is no runtime, and there is one.
#[derive(Debug, thiserror::Error)]
#[error("--runtime none contradicts {}, on which a runtime answers", socket.display())]
pub struct Contradiction {
    /// The runtime's socket.
    pub socket: PathBuf,
}

/// Sockets by the protocol that is spoken on them, where runtimes and distributions put them. Where two paths lead to one
/// socket (/var/run is /run), it is asked once.
const PLACES: [(RuntimeKind, &str); 8] = [
    (RuntimeKind::Containerd, "/run/containerd/containerd.sock"),
    (RuntimeKind::Containerd, "/run/docker/containerd/containerd.sock"),
    (RuntimeKind::Containerd, "/run/k3s/containerd/containerd.sock"),
    (RuntimeKind::Containerd, "/run/k0s/containerd.sock"),
    (RuntimeKind::CriO, "/run/crio/crio.sock"),
    (RuntimeKind::Cri, "/run/cri-dockerd.sock"),
    (RuntimeKind::Docker, "/run/docker.sock"),
    (RuntimeKind::Podman, "/run/podman/podman.sock"),
];

/// What was found of runtimes.
#[derive(Debug, Default)]
pub struct Found {
    /// Those of the node, answering or not, and what others list.
    pub runtimes: Vec<Runtime>,
    /// What could not be read, and hides nothing of the node's.
    pub gaps: Vec<Gap>,
}

/// Finds and asks all runtimes.
pub fn observe(sources: &RuntimeSources) -> Result<Found, Contradiction> {
    find(sources, &Wanted(None))
}

/// The same, but what does not go by this name may lack its pid, its addresses and its namespace's path.
///
/// containerd asks a shim for each of them: 0.8 ms a pod.
pub(crate) fn named(sources: &RuntimeSources, name: &str) -> Result<Found, Contradiction> {
    find(sources, &Wanted(Some(name.to_owned())))
}

fn find(sources: &RuntimeSources, wanted: &Wanted) -> Result<Found, Contradiction> {
    let processes = discovery::scan();
    let targets = targets(sources, &processes);
    if sources.none {
        let live = targets.iter().find(|(_, socket)| listens(socket));
        return match live {
            Some((_, socket)) => Err(Contradiction { socket: socket.clone() }),
            None => Ok(Found::default()),
        };
    }
    let mut runtimes = ask_all(targets, sources.timeout, wanted);
    let stores = store::read(&runtimes, &processes, sources.timeout);
    traces::add_silent(&mut runtimes, &stores.runtimes);
    runtimes.extend(stores.runtimes);
    runtimes.extend(discovery::unasked(&processes));
    Ok(Found { runtimes, gaps: stores.gaps })
}

/// What shows that a runtime has been started: its socket, whether it answers or not, or its process. What stopped ones left on
/// disk does not.
pub fn started(sources: &RuntimeSources) -> Vec<(RuntimeKind, PathBuf)> {
    let processes = discovery::scan();
    let sockets = targets(sources, &processes).into_iter().filter(|(_, socket)| socket.exists());
    let unasked = discovery::unasked(&processes).into_iter().map(|runtime| (runtime.kind, runtime.endpoint));
    sockets.chain(unasked).collect()
}

/// The sockets to ask: those that the user or kubelet's configuration named, whether they exist or not, those that exist in the usual places, and those on
/// which a runtime's process listens. One on which only systemd does is left alone: its runtime does not run.
fn targets(sources: &RuntimeSources, processes: &[discovery::Process]) -> Vec<(RuntimeKind, PathBuf)> {
    let named = sources.cri.iter().map(|path| (cri_kind(path), path.clone()));
    let named = named.chain(sources.docker.iter().map(|path| (RuntimeKind::Docker, path.clone())));
    let usual = PLACES
        .iter()
        .map(|(kind, path)| (*kind, PathBuf::from(path)))
        .filter(|(_, path)| path.exists() && !discovery::is_dormant(path, processes));
    let mut targets: Vec<(RuntimeKind, PathBuf)> = Vec::new();
    let configured = kubelet::endpoints().into_iter().map(|path| (cri_kind(&path), path));
    for (kind, path) in named.chain(configured).chain(usual).chain(discovery::sockets(processes)) {
        let same =
            |other: &Path| other.canonicalize().ok().filter(|a| path.canonicalize().ok().as_ref() == Some(a));
        if !targets.iter().any(|(_, other)| *other == path || same(other).is_some()) {
            targets.push((kind, path));
        }
    }
    targets
}

/// containerd has more to ask than CRI; it is told by its socket's name, and by answering.
fn cri_kind(path: &Path) -> RuntimeKind {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name {
        name if name.contains("containerd") => RuntimeKind::Containerd,
        name if name.contains("crio") => RuntimeKind::CriO,
        _ => RuntimeKind::Cri,
    }
}

/// Whether somebody listens on a socket. Never waits: connecting to one whose queue is full would, for as long as its owner hangs.
fn listens(socket: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let connected = SocketAddrUnix::new(socket).and_then(|address| {
        let own = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&own, &address)
    });
    matches!(connected, Ok(()) | Err(rustix::io::Errno::AGAIN))
}

/// What a runtime answered.
pub(crate) struct Answer {
    pub(crate) version: String,
    pub(crate) objects: Vec<model::RuntimeObject>,
}

fn ask_all(targets: Vec<(RuntimeKind, PathBuf)>, timeout: Duration, wanted: &Wanted) -> Vec<Runtime> {
    if targets.is_empty() {
        return Vec::new();
    }
    let reactor = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(reactor) => reactor,
        Err(error) => {
            let silent = |(kind, endpoint)| silent(kind, endpoint, format!("no event loop: {error}"));
            return targets.into_iter().map(silent).collect();
        }
    };
    reactor.block_on(async {
        let asked: Vec<_> = targets
            .into_iter()
            .map(|(kind, socket)| tokio::spawn(ask(kind, socket, timeout, wanted.clone())))
            .collect();
        let mut runtimes = Vec::new();
        for answer in asked {
            runtimes.push(answer.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
        }
        runtimes
    })
}

async fn ask(kind: RuntimeKind, socket: PathBuf, timeout: Duration, wanted: Wanted) -> Runtime {
    let answer = tokio::time::timeout(timeout, async {
        match kind {
            RuntimeKind::Containerd => containerd::ask(&socket, &wanted).await,
            RuntimeKind::CriO | RuntimeKind::Cri => cri::ask(&socket, &wanted).await,
            RuntimeKind::Docker | RuntimeKind::Podman => docker::ask(&socket, &wanted).await,
            RuntimeKind::Other => Err("its protocol is not known".to_owned()),
        }
    });
    match answer.await {
        Ok(Ok(Answer { version, objects })) => Runtime {
            kind,
            endpoint: socket,
            status: RuntimeStatus::Answered { version },
            objects,
            foreign: false,
        },
        Ok(Err(why)) => silent(kind, socket, why),
        Err(_) => silent(kind, socket, format!("no complete answer within {} s", timeout.as_secs())),
    }
}

fn silent(kind: RuntimeKind, endpoint: PathBuf, why: String) -> Runtime {
    Runtime { kind, endpoint, status: RuntimeStatus::Silent { why }, objects: Vec::new(), foreign: false }
}
