//! The store of containers on disk that Podman, Buildah and CRI-O share (containers/storage), read without running any of them.
//!
//! Podman has no daemon: what exists is what its store lists, whether or not its API is served. Each container is in
//! `ROOT/DRIVER-containers/containers.json`, one of `podman run --rm` in newer versions in
//! `RUNROOT/DRIVER-containers/volatile-containers.json`; `ID/userdata` has its OCI configuration, which names its network
//! namespace, and the pid of its process. Both lists are replaced by renaming, so what is read is whole.
//!
//! A store elsewhere (`podman --root`, a user's own) is found by its conmon, the process that Podman and CRI-O leave beside each
//! running container.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use model::{ContainerId, Gap, PodName, Runtime, RuntimeKind, RuntimeObject, RuntimeObjectKind, Source};
use model::{RuntimeStatus, Timestamp};
use rustix::fs::OFlags;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::discovery::Process;
use super::traces;

/// A list of containers may be long, an OCI configuration is some 20 kB.
const LARGEST_BYTES: u64 = 64 << 20;
/// The process that Podman and CRI-O leave beside each running container.
pub(super) const KEEPER: &str = "conmon";
/// The lists of a directory of containers.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];
/// Where the store is unless a configuration says otherwise (containers-storage.conf(5)).
const ROOTS: [&str; 2] = ["/var/lib/containers/storage", "/run/containers/storage"];
const CONFIGURATIONS: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    /// JSON of whoever made it.
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Metadata {
    created_at: i64,
    /// Only CRI-O's have these.
    pod_id: String,
    pod_name: String,
    pod: bool,
    uid: String,
    namespace: String,
    metadata_name: String,
}

#[derive(Deserialize)]
struct Configuration {
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    r#type: String,
    path: Option<PathBuf>,
}

/// A process that keeps a container for Podman or CRI-O.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conmon {
    pid: u32,
    container: ContainerId,
    /// Where its store is.
    roots: Vec<Root>,
    /// The directory with its OCI configuration.
    bundle: Option<PathBuf>,
    crio: bool,
}

/// The directory of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Root {
    /// The path by which its owner calls it.
    told: PathBuf,
    /// The path by which we see it: that of another mount namespace leads through one of its processes.
    seen: PathBuf,
    /// A user's own, who could write anything into it, or one inside a container.
    foreign: bool,
}

/// What was found of stores.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) runtimes: Vec<Runtime>,
    /// Users' stores that could not be read.
    pub(super) gaps: Vec<Gap>,
}

/// Reads all stores, each on a thread of its own that is not waited for longer than `timeout`: a home directory may be on a server
/// that does not answer. Objects that a runtime listed itself are not listed again.
pub(super) fn read(asked: &[Runtime], processes: &[Process], timeout: Duration) -> Found {
    let keepers = processes.iter().filter(|process| process.comm == KEEPER);
    let conmons: Vec<Conmon> = keepers.filter_map(conmon).collect();
    let mut roots: Vec<Root> = configured();
    for root in conmons.iter().flat_map(|conmon| &conmon.roots) {
        if !roots.contains(root) {
            roots.push(root.clone());
        }
    }
    let mut found = Found::default();
    let mut known: HashSet<ContainerId> = ids(asked).collect();
    let until = Instant::now() + timeout;
    let answers: Vec<_> = roots.into_iter().map(|root| (root.clone(), spawn(root))).collect();
    for (root, answer) in answers {
        let late = |_| Err(format!("could not be read within {} s", timeout.as_secs()));
        match answer.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap_or_else(late) {
            Ok(None) => {}
            Ok(Some(mut objects)) => {
                // A store that nobody used since the node started does not make a Podman.
                let is_used = !objects.is_empty() || traces::of_podman() && !root.foreign;
                objects.retain(|(_, object)| known.insert(object.id.clone()));
                if is_used {
                    add(&mut found.runtimes, &root, objects);
                }
            }
            Err(why) if root.foreign => {
                let object = root.told.display().to_string();
                found.gaps.push(Gap { source: Source::Runtime, object, why });
            }
            Err(why) => found.runtimes.push(super::silent(RuntimeKind::Podman, root.told, why)),
        }
    }
    // One that its store does not list (yet, or any more) while its conmon runs.
    for conmon in conmons {
        let kind = if conmon.crio { RuntimeKind::CriO } else { RuntimeKind::Podman };
        let state = format!("kept by conmon {}", conmon.pid);
        if let Some(root) = conmon.roots.first().filter(|_| known.insert(conmon.container.clone())) {
            let mut kept = object(conmon.container, state);
            // What a user's home directory says can wait, and might.
            kept.netns = conmon.bundle.filter(|_| !root.foreign).and_then(|bundle| netns(&bundle));
            add(&mut found.runtimes, root, vec![(kind, kept)]);
        }
    }
    found
}

type Objects = Vec<(RuntimeKind, RuntimeObject)>;

fn spawn(root: Root) -> Receiver<Result<Option<Objects>, String>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody receives what comes too late.
        let _ = sender.send(containers(&root));
    });
    receiver
}

fn ids(runtimes: &[Runtime]) -> impl Iterator<Item = ContainerId> {
    runtimes.iter().flat_map(|runtime| &runtime.objects).map(|object| object.id.clone())
}

/// Adds objects to the store's runtimes, of which there is one for each kind that has something in it. An empty store is Podman's.
fn add(runtimes: &mut Vec<Runtime>, root: &Root, objects: Objects) {
    let podman = objects.is_empty().then_some(RuntimeKind::Podman);
    let kinds: Vec<RuntimeKind> = objects.iter().map(|(kind, _)| *kind).chain(podman).collect();
    let is_own = |runtime: &Runtime, kind| {
        (runtime.kind, &runtime.endpoint, runtime.foreign) == (kind, &root.told, root.foreign)
    };
    for kind in kinds {
        if !runtimes.iter().any(|runtime| is_own(runtime, kind)) {
            let (endpoint, foreign) = (root.told.clone(), root.foreign);
            let status = RuntimeStatus::Answered { version: String::new() };
            runtimes.push(Runtime { kind, endpoint, status, objects: Vec::new(), foreign });
        }
    }
    for (kind, object) in objects {
        let own = runtimes.iter_mut().find(|runtime| is_own(runtime, kind));
        own.expect("made above").objects.push(object);
    }
}

/// The usual roots, and those that the configuration names.
fn configured() -> Vec<Root> {
    let mut paths: Vec<PathBuf> = ROOTS.iter().map(PathBuf::from).collect();
    for file in CONFIGURATIONS {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        paths.extend(text.lines().filter_map(root_of_line).map(PathBuf::from));
    }
    let mut seen = HashSet::new();
    paths.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    paths.into_iter().map(|path| Root { seen: path.clone(), told: path, foreign: false }).collect()
}

/// `graphroot = "/var/lib/containers/storage"`, and `runroot` alike.
fn root_of_line(line: &str) -> Option<&str> {
    let (key, value) = line.split_once('=')?;
    let path = value.trim().strip_prefix(['"', '\''])?.split(['"', '\'']).next()?;
    (["graphroot", "runroot"].contains(&key.trim()) && path.starts_with('/')).then_some(path)
}

/// All containers below a root; `None` when there never was one.
fn containers(root: &Root) -> Result<Option<Objects>, String> {
    let Root { told, seen, foreign } = root;
    let entries = match std::fs::read_dir(seen) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut found = None;
    for entry in entries {
        let directory = entry.map_err(|error| error.to_string())?.path();
        if !directory.to_string_lossy().ends_with("-containers") {
            continue;
        }
        for list in LISTS {
            let path = directory.join(list);
            let failed = |why: String| {
                format!("{}: {why}", told.join(path.strip_prefix(seen).unwrap_or(&path)).display())
            };
            let listed: Vec<Listed> = match json(&path) {
                Ok(listed) => listed,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error.to_string())),
            };
            let found: &mut Vec<_> = found.get_or_insert_default();
            for listed in listed {
                let own = directory.join(&listed.id).join("userdata");
                found.push(container(listed, &own, *foreign).map_err(failed)?);
            }
        }
    }
    Ok(found)
}

fn container(listed: Listed, userdata: &Path, foreign: bool) -> Result<(RuntimeKind, RuntimeObject), String> {
    let id: ContainerId = listed.id.parse().map_err(|error: model::IdError| error.to_string())?;
    let metadata: Metadata = serde_json::from_str(&listed.metadata).unwrap_or_default();
    let crio = !metadata.pod_id.is_empty();
    let mut object = object(id, "in the store".to_owned());
    object.name = listed.names.into_iter().next();
    object.created = (metadata.created_at > 0).then(|| Timestamp(metadata.created_at.saturating_mul(1000)));
    if crio {
        object.kind = if metadata.pod { RuntimeObjectKind::Sandbox } else { RuntimeObjectKind::Container };
        object.sandbox = metadata.pod_id.parse().ok().filter(|sandbox| *sandbox != object.id);
        let uid = Some(metadata.uid).filter(|uid| !uid.is_empty());
        object.pod = Some(PodName { namespace: metadata.namespace, name: metadata.pod_name, uid })
            .filter(|pod| !pod.namespace.is_empty() && !pod.name.is_empty());
        object.name = Some(metadata.metadata_name).filter(|name| !name.is_empty()).or(object.name);
    }
    object.netns = netns(userdata);
    // A user names only what is his own.
    object.netns = object.netns.filter(|path| !foreign || path.starts_with("/run/user"));
    let kind = if crio { RuntimeKind::CriO } else { RuntimeKind::Podman };
    Ok((kind, object))
}

/// The network namespace that a container's OCI configuration names. What cannot be read here costs a name, not a container.
fn netns(userdata: &Path) -> Option<PathBuf> {
    let configuration: Configuration = json(&userdata.join("config.json")).ok()?;
    let mut namespaces = configuration.linux?.namespaces.into_iter();
    let network = namespaces.find(|namespace| namespace.r#type == "network")?;
    // A pid in such a path is of the time when the container was started.
    network.path.filter(|path| !path.starts_with("/proc"))
}

fn object(id: ContainerId, state: String) -> RuntimeObject {
    RuntimeObject {
        id,
        kind: RuntimeObjectKind::Container,
        partition: None,
        name: None,
        pod: None,
        sandbox: None,
        state,
        pid: None,
        netns: None,
        addresses: Vec::new(),
        created: None,
        doubt: None,
    }
}

/// Reads a JSON file. A user's store may have anything in its place: a pipe would be waited for, a device read for ever.
fn json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).expect("flags are an int to the kernel");
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file"));
    }
    let mut text = Vec::new();
    file.take(LARGEST_BYTES).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// A conmon's container and its store, from its arguments: `-c ID -b ROOT/DRIVER-containers/ID/userdata -p …/pidfile`.
fn conmon(process: &Process) -> Option<Conmon> {
    let (pid, here) = (process.pid, process.here);
    // Not the owner of its directory in /proc, which is root for a process that may not be dumped.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let by_root = status.lines().any(|line| line.starts_with("Uid:\t0\t0\t0\t"));
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let Arguments { container, roots: told, bundle, crio } = arguments(&line)?;
    let outside = PathBuf::from(format!("/proc/{pid}/root"));
    let seen = |path: &PathBuf| match path.strip_prefix("/") {
        Ok(below) if !here => outside.join(below),
        _ => path.clone(),
    };
    let foreign = !(here && by_root);
    let roots = told.into_iter().map(|told| Root { seen: seen(&told), told, foreign }).collect();
    Some(Conmon { pid, container, roots, bundle, crio })
}

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    container: ContainerId,
    roots: Vec<PathBuf>,
    bundle: Option<PathBuf>,
    crio: bool,
}

fn arguments(line: &[u8]) -> Option<Arguments> {
    let words = line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    let words: Vec<&str> = words.collect();
    let value =
        |short, long| words.windows(2).find(|pair| pair[0] == short || pair[0] == long).map(|pair| pair[1]);
    let container = value("-c", "--cid")?.parse().ok()?;
    let bundle = value("-b", "--bundle");
    let below = |file: &str| {
        // ROOT/DRIVER-containers/ID/userdata, and a file in it.
        let root = Path::new(file.get(..file.find("-containers/")?)?).parent()?;
        root.is_absolute().then(|| root.to_owned())
    };
    let files = [bundle, value("-p", "--container-pidfile")];
    let mut roots: Vec<PathBuf> = files.into_iter().flatten().filter_map(below).collect();
    roots.dedup();
    let crio = value("--exit-dir", "--exit-dir").is_some_and(|directory| directory.contains("/crio/"));
    Some(Arguments { container, roots, bundle: bundle.map(PathBuf::from), crio })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "d713cc0d36f06e8395866205dee75e334c8861d7944bfba3e761a292c569e63c";

    #[test]
    fn a_conmon_tells_container_and_store() {
        let line = format!(
            "/usr/bin/conmon\0--api-version\01\0-c\0{ID}\0-r\0/usr/bin/runc\0-b\0/srv/root/vfs-containers/{ID}/userdata\0\
             -p\0/run/containers/storage/vfs-containers/{ID}/userdata/pidfile\0--exit-dir\0/run/libpod/exits\0"
        );
        let Arguments { container, roots, crio, .. } = arguments(line.as_bytes()).unwrap();
        assert_eq!((container.as_str(), crio), (ID, false));
        assert_eq!(roots, [PathBuf::from("/srv/root"), PathBuf::from("/run/containers/storage")]);
        for line in ["", "conmon\0--version\0", "conmon\0-c\0../x\0-b\0/\0", "conmon\0-c"] {
            assert_eq!(arguments(line.as_bytes()), None, "{line:?}");
        }
        let odd = arguments(format!("conmon\0-c\0{ID}\0-b\0relative-containers/x\0").as_bytes()).unwrap();
        assert!(odd.roots.is_empty());
    }

    #[test]
    fn roots_are_read_from_the_configuration() {
        assert_eq!(root_of_line(r#"graphroot = "/srv/containers" # big disk"#), Some("/srv/containers"));
        assert_eq!(root_of_line("runroot='/run/c'"), Some("/run/c"));
        for line in
            ["# graphroot = \"/x\"", "graphroot = x", "rootless_storage_path = \"/x\"", "graphroot", ""]
        {
            assert_eq!(root_of_line(line), None, "{line}");
        }
    }

    #[test]
    fn half_a_list_is_an_error_and_a_pipe_is_not_waited_for() {
        let root = std::env::temp_dir().join(format!("podplumb-store-{}", std::process::id()));
        let directory = root.join("overlay-containers");
        let read = || containers(&Root { told: root.clone(), seen: root.clone(), foreign: false });
        std::fs::create_dir_all(&directory).unwrap();
        assert!(read().unwrap().is_none(), "never used");
        std::fs::write(directory.join(LISTS[0]), format!(r#"[{{"id":"{ID}","names":["web"]}}]"#)).unwrap();
        let whole = read().unwrap().unwrap();
        assert_eq!((whole.len(), whole[0].0, whole[0].1.id.as_str()), (1, RuntimeKind::Podman, ID));
        std::fs::write(directory.join(LISTS[0]), format!(r#"[{{"id":"{ID}","nam"#)).unwrap();
        assert!(read().unwrap_err().contains("containers.json"));
        std::fs::write(directory.join(LISTS[0]), r#"[{"id":"../../etc"}]"#).unwrap();
        assert!(read().is_err());
        std::fs::remove_file(directory.join(LISTS[0])).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            directory.join(LISTS[0]),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from(0o600),
            0,
        )
        .unwrap();
        assert!(read().unwrap_err().contains("not a file"));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_cri_o_wrote_into_the_store_is_cri_os() {
        let metadata = format!(
            r#"{{"pod-name":"web","pod-id":"{ID}","pod":true,"namespace":"shop","uid":"u1","created-at":1700000000}}"#
        );
        let listed = Listed { id: ID.into(), names: vec!["k8s_POD_web".into()], metadata };
        let (kind, object) = container(listed, Path::new("/nowhere"), false).unwrap();
        assert_eq!((kind, object.kind), (RuntimeKind::CriO, RuntimeObjectKind::Sandbox));
        assert_eq!(object.pod.unwrap().to_string(), "shop/web");
        assert_eq!((object.sandbox, object.created), (None, Some(Timestamp(1_700_000_000_000))));
    }
}
