//! CNI's state on disk: leases, libcni's cache, configurations, podplumb's records.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::cache::Entry;
use ipam::Store;
use model::attachment::{RecordSeen, digest};
use model::{AttachmentRecord, CacheEntry, Gap, Lease, NetworkConfig, PodName, Source, Timestamp};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde_json::Value;

use crate::capacity;

/// Cache entries and configurations are a few kilobytes.
const LARGEST_BYTES: u64 = 4 << 20;
/// An ADD takes a few milliseconds. A lock that is held at each of several looks over this time is held by something that
/// works, or hangs, there.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Where CNI's state is.
#[derive(Debug, Clone)]
pub struct CniPaths {
    /// Directories with network configurations.
    pub conf_dirs: Vec<PathBuf>,
    /// libcni's caches.
    pub cache_dirs: Vec<PathBuf>,
    /// host-local's data directories, besides those that configurations name.
    pub data_dirs: Vec<PathBuf>,
    /// podplumb's attachment records.
    pub record_dir: PathBuf,
}

impl Default for CniPaths {
    fn default() -> Self {
        Self {
            conf_dirs: vec!["/etc/cni/net.d".into()],
            cache_dirs: vec![cni::cache::DIRECTORY.into()],
            data_dirs: vec![ipam::store::DATA_DIR.into()],
            record_dir: "/run/podplumb/attachments".into(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) leases: Vec<Lease>,
    pub(crate) cache: Vec<CacheEntry>,
    pub(crate) configs: Vec<NetworkConfig>,
    pub(crate) records: Vec<AttachmentRecord>,
    pub(crate) gaps: Vec<Gap>,
}

pub(crate) fn read(paths: &CniPaths) -> State {
    let mut state = read_but_leases(paths);
    for dir in state.data_dirs(paths) {
        state.leases(&dir);
    }
    state
}

/// The same without leases, which have no names.
pub(crate) fn read_but_leases(paths: &CniPaths) -> State {
    let mut state = State::default();
    for dir in &paths.conf_dirs {
        state.configs(dir);
    }
    for dir in &paths.cache_dirs {
        state.cache(dir);
    }
    state.records(&paths.record_dir);
    state
}

/// One entry of libcni's cache; `None` when it is gone, or none of libcni's.
pub(crate) fn read_cache_entry(path: &Path) -> Option<CacheEntry> {
    let (content, since) = small_file(path).ok()??;
    Some(cache_entry(path.to_owned(), &content, since))
}

/// One record, without its lock being tried; `None` when it is gone, or cannot be understood.
pub(crate) fn read_record(path: &Path) -> Option<AttachmentRecord> {
    let (content, _) = small_file(path).ok()??;
    let mut record = AttachmentRecord::parse(&content).ok()?;
    record.seen = Some(RecordSeen { path: path.to_owned(), locked: false });
    Some(record)
}

impl State {
    /// Where host-local keeps leases: the directories that are given, and those that configurations, cache entries and records
    /// name.
    pub(crate) fn data_dirs(&self, paths: &CniPaths) -> BTreeSet<PathBuf> {
        let named = self.configs.iter().flat_map(|config| &config.data_dirs);
        let cached = self.cache.iter().flat_map(|entry| &entry.data_dirs);
        let recorded = self.records.iter().filter_map(|record| record.lease_dir.as_deref()?.parent());
        let given = paths.data_dirs.iter().chain(named).chain(cached).cloned();
        given.chain(recorded.map(Path::to_owned)).collect()
    }

    fn gap(&mut self, source: Source, object: impl AsRef<Path>, why: impl ToString) {
        self.gaps.push(Gap { source, object: object.as_ref().display().to_string(), why: why.to_string() });
    }

    /// The files of a directory, by name; a directory that does not exist has none.
    fn files(&mut self, source: Source, dir: &Path) -> Vec<PathBuf> {
        match std::fs::read_dir(dir) {
            Ok(entries) => {
                let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                files.sort();
                files
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.gap(source, dir, error);
                Vec::new()
            }
        }
    }

    fn configs(&mut self, dir: &Path) {
        let is_config = |path: &PathBuf| {
            path.extension().is_some_and(|extension| {
                extension == "conf" || extension == "conflist" || extension == "json"
            })
        };
        for path in self.files(Source::Configs, dir).into_iter().filter(is_config) {
            let text = match small_file(&path) {
                Ok(Some((text, _))) => text,
                Ok(None) => continue,
                Err(error) => {
                    self.gap(Source::Configs, &path, error);
                    continue;
                }
            };
            let mut config = NetworkConfig { path, ..NetworkConfig::default() };
            match serde_json::from_slice::<Value>(&text) {
                Ok(value) => {
                    let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
                    match name.parse() {
                        Ok(network) => config.network = Some(network),
                        Err(error) => config.problem = Some(error.to_string()),
                    }
                    (config.plugins, config.data_dirs) = chain(&value);
                    let version = value.get("cniVersion").and_then(Value::as_str);
                    config.version = version.filter(|version| !version.is_empty()).map(str::to_owned);
                    config.ipam = ipam_of(&value);
                    let plugins = cni::cache::plugins(&value);
                    config.masquerade =
                        plugins.iter().any(|plugin| plugin.get("ipMasq") == Some(&Value::Bool(true)));
                    if let Some(pool) = capacity::of(&value) {
                        config.capacity = Some(pool.capacity);
                        config.subnets = pool.subnets;
                    }
                }
                Err(error) => config.problem = Some(error.to_string()),
            }
            self.configs.push(config);
        }
    }

    fn cache(&mut self, dir: &Path) {
        for path in self.files(Source::Cache, dir) {
            match small_file(&path) {
                Ok(Some((content, since))) => self.cache.push(cache_entry(path, &content, since)),
                // A subdirectory or a symlink: not libcni's.
                Ok(None) => {}
                Err(error) => self.gap(Source::Cache, &path, error),
            }
        }
    }

    fn records(&mut self, dir: &Path) {
        for path in self.files(Source::Records, dir) {
            let text = match small_file(&path) {
                Ok(Some((text, _))) => text,
                Ok(None) => continue,
                Err(error) => {
                    self.gap(Source::Records, &path, error);
                    continue;
                }
            };
            // The file's name is what DEL and GC find it by: a record that says something else is not trusted.
            let named = path.file_name().and_then(|name| name.to_str());
            if named.and_then(AttachmentRecord::from_file_name).is_none() {
                self.gap(Source::Foreign, &path, "is no record");
                continue;
            }
            match AttachmentRecord::parse(&text) {
                Ok(record) if Some(record.file_name().as_str()) != named => {
                    self.gap(Source::Records, &path, "is about another attachment than its name says");
                }
                Ok(mut record) => {
                    let locked = is_held(|| is_locked(&path));
                    record.seen = Some(RecordSeen { path, locked });
                    self.records.push(record);
                }
                Err(why) => self.gap(Source::Records, &path, why),
            }
        }
    }

    /// Every network's directory below a data directory.
    fn leases(&mut self, data_dir: &Path) {
        for path in self.files(Source::Leases, data_dir) {
            let Some(network) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
                continue;
            };
            let is_directory = std::fs::symlink_metadata(&path).is_ok_and(|stat| stat.is_dir());
            if !is_directory {
                continue;
            }
            let read = Store::look(&path).and_then(|store| {
                let locked = is_held(|| store.is_locked());
                Ok((locked, store.leases()?))
            });
            let (locked, (leases, foreign)) = match read {
                Ok(read) => read,
                Err(error) => {
                    self.gap(Source::Leases, &path, error);
                    continue;
                }
            };
            for name in foreign {
                self.gap(Source::Foreign, path.join(name), "is no lease");
            }
            self.leases.extend(leases.into_iter().map(|file| {
                let owner = file.owner();
                Lease {
                    path: path.join(file.address.to_string()),
                    network: Clone::clone(&network),
                    address: file.address,
                    container: owner.as_ref().map(|(container, _)| container.clone()),
                    ifname: owner.and_then(|(_, ifname)| ifname),
                    content: file.content,
                    since: file.changed,
                    locked,
                }
            }));
        }
    }
}

fn cache_entry(path: PathBuf, content: &[u8], since: Timestamp) -> CacheEntry {
    let mut entry = CacheEntry {
        path,
        key: None,
        netns: None,
        pod: None,
        addresses: Vec::new(),
        host_interfaces: Vec::new(),
        container_interfaces: Vec::new(),
        plugins: Vec::new(),
        ipam: Vec::new(),
        data_dirs: Vec::new(),
        problem: None,
        digest: digest(content),
        since,
    };
    match Entry::parse(content) {
        Ok(parsed) => {
            let outcome = parsed.outcome().unwrap_or_default();
            entry.addresses = outcome.ips.iter().map(|ip| ip.address.addr()).collect();
            let (on_host, inside): (Vec<_>, Vec<_>) =
                outcome.interfaces.into_iter().partition(|interface| interface.sandbox.is_empty());
            entry.host_interfaces = on_host.into_iter().map(|found| (found.name, found.mac)).collect();
            entry.container_interfaces = inside.into_iter().map(|found| (found.name, found.mac)).collect();
            entry.pod =
                PodName::from_cni_args(parsed.args.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            (entry.plugins, entry.data_dirs) = chain(&parsed.config);
            entry.ipam = ipam_of(&parsed.config);
            entry.netns = parsed.netns;
            entry.key = Some(parsed.key);
        }
        Err(error) => entry.problem = Some(error.to_string()),
    }
    entry
}

/// The types of a configuration's plugins, and where their IPAM keeps its leases if not in the usual place.
fn chain(config: &Value) -> (Vec<String>, Vec<PathBuf>) {
    let plugins = cni::cache::plugins(config);
    let text = |value: Option<&Value>| {
        value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let kinds = plugins.iter().filter_map(|plugin| text(plugin.get("type"))).collect();
    let dirs = plugins.iter().filter_map(|plugin| text(plugin.get("ipam")?.get("dataDir")));
    (kinds, dirs.map(PathBuf::from).collect())
}

/// The types of a configuration's IPAM plugins.
fn ipam_of(config: &Value) -> Vec<String> {
    let plugins = cni::cache::plugins(config);
    let kinds = plugins.iter().filter_map(|plugin| plugin.pointer("/ipam/type")?.as_str());
    kinds.filter(|kind| !kind.is_empty()).map(str::to_owned).collect()
}

/// Content and ctime of a regular file; `None` when it is gone or something else. Symlinks are not followed.
pub(crate) fn small_file(path: &Path) -> io::Result<Option<(Vec<u8>, Timestamp)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let stat = file.metadata()?;
    if !stat.is_file() {
        return Ok(None);
    }
    if stat.len() > LARGEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} bytes is too much", stat.len())));
    }
    // One more than it has: the end is found without growing.
    let mut content = Vec::with_capacity(stat.len() as usize + 1);
    file.take(LARGEST_BYTES).read_to_end(&mut content)?;
    Ok(Some((content, Timestamp::from_stat(stat.ctime(), stat.ctime_nsec()))))
}

fn is_locked(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return false };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

fn is_held(look: impl Fn() -> bool) -> bool {
    (0..LOOKS).all(|at| {
        if at > 0 {
            std::thread::sleep(BETWEEN_LOOKS);
        }
        look()
    })
}
