//! Lease directories. The input is a directory: parts with `==` between them; the first is what is asked for, each other one a
//! file's name and its content. A name ends in `/` for a directory, `@` for a symlink to its content, `|` for a socket.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use ipam::{LeaseFile, Past, RangeSets, RangeSpec, Request, Store, allocate, free};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use model::{ContainerId, IfName, NetworkName};
use serde::Deserialize;

#[derive(Deserialize)]
struct Wanted {
    container: ContainerId,
    ifname: IfName,
    #[serde(default)]
    ranges: Vec<Vec<RangeSpec>>,
    #[serde(default)]
    ips: Vec<IpAddr>,
}

const BETWEEN: &str = "\n==\n";

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    podplumb_fuzz::mutate_head(BETWEEN, data, size, max_size, seed)
});

fuzz_target!(|text: &str| {
    let mut parts = text.split(BETWEEN);
    let Ok(wanted) = serde_json::from_str::<Wanted>(parts.next().unwrap_or_default()) else { return };
    // Where symlinks lead: the parent of the data directory.
    let outside = tempfile::tempdir_in("/dev/shm").expect("a directory");
    fs::write(outside.path().join("10.0.0.7"), "7d0c1e5b9a3f4d22\r\neth0").expect("a file");
    let network: NetworkName = "pods".parse().expect("a name");
    let data_dir = outside.path().join("networks");
    let dir = data_dir.join("pods");
    fs::create_dir_all(&dir).expect("a directory");
    for part in parts.take(64) {
        let (name, content) = part.split_once('\n').unwrap_or((part, ""));
        put(&dir, name, content);
    }
    let before = contents(&dir);
    let Ok(store) = Store::open(&data_dir, &network) else {
        // The lock's place is taken; then nothing is done.
        assert_eq!(contents(&dir), before);
        return;
    };
    let (leases, foreign) = store.leases().expect("a directory can be listed");
    check_listing(&leases, &foreign, &before);
    let own = |lease: &&LeaseFile| lease.belongs_to(&wanted.container, &wanted.ifname);
    let held = leases.iter().filter(own).count();
    give(&store, &wanted, &before);
    drop(store);
    let store = Store::open(&data_dir, &network).expect("it was opened before");
    let released = store.release_all(&wanted.container, &wanted.ifname).expect("leases can be released");
    assert!(released >= held, "{released} of {held}");
    assert_eq!(store.release_all(&wanted.container, &wanted.ifname).ok(), Some(0), "released twice");
    let after = contents(&dir);
    for (name, entry) in &before {
        let is_own = leases.iter().filter(own).any(|lease| lease.address.to_string() == *name);
        let is_state = name == "lock" || name.starts_with("last_reserved_ip.");
        assert!(is_own || is_state || after.get(name) == Some(entry), "{name:?} was touched");
    }
    let new = after.keys().filter(|name| !before.contains_key(*name));
    for name in new {
        assert!(name == "lock" || name.starts_with("last_reserved_ip."), "{name:?} was left");
    }
    let untouched = fs::read_to_string(outside.path().join("10.0.0.7")).expect("it is still there");
    assert_eq!(untouched, "7d0c1e5b9a3f4d22\r\neth0");
    assert_eq!(fs::read_dir(outside.path()).expect("a directory").count(), 2, "something was put elsewhere");
});

/// Leases are files that have an address's name, once each; what is something else is said to be.
fn check_listing(leases: &[LeaseFile], foreign: &[String], before: &BTreeMap<String, String>) {
    for (at, lease) in leases.iter().enumerate() {
        let twice = leases[at + 1..].iter().any(|other| other.address == lease.address);
        assert!(!twice, "{} is listed twice", lease.address);
        let content = before.get(&lease.address.to_string()).expect("a lease is a file");
        assert_eq!(content, &format!("file {}", lease.content));
        assert!(lease.content.len() <= 4096);
        if let Some((container, ifname)) = lease.owner() {
            assert!(lease.content.contains(container.as_str()));
            assert!(ifname.is_none_or(|name| lease.content.contains(name.as_str())));
        }
    }
    let is_state = |name: &&String| *name == "lock" || name.starts_with("last_reserved_ip.");
    let others = before.keys().filter(|name| !is_state(name)).count();
    assert_eq!(leases.len() + foreign.len(), others, "{leases:?} {foreign:?}");
}

/// Of earlier boots, nothing is known.
struct Nothing;

impl Past for Nothing {
    fn earliest(&self) -> Option<model::Timestamp> {
        None
    }

    fn is_gone(&mut self, _: &model::ContainerId) -> bool {
        false
    }
}

/// Addresses come from the ranges, are nobody else's and no gateway, and can be given back once.
fn give(store: &Store, wanted: &Wanted, before: &BTreeMap<String, String>) {
    let Ok(sets) = RangeSets::new(&wanted.ranges) else { return };
    let left = free(store, &sets, &mut Nothing).expect("a directory can be listed");
    let request = Request {
        container: &wanted.container,
        ifname: &wanted.ifname,
        requested: &wanted.ips,
        takeover: None,
    };
    let Ok(given) = allocate(store, &sets, request) else { return };
    assert_eq!(given.len(), left.len());
    for ((set, one), left) in sets.iter().zip(&given).zip(left) {
        let address = one.address.addr();
        let range = set.range_of(address).expect("an address of the set");
        assert!(address != range.gateway && one.gateway == range.gateway);
        assert_eq!(one.address.prefix_len(), range.subnet.prefix_len());
        assert!(!before.contains_key(&address.to_string()), "{address} is somebody's");
        assert!(left > 0, "{address} was given where none was left");
    }
    for address in given.iter().map(|one| one.address.addr()) {
        let release = || store.release(address, &wanted.container, &wanted.ifname).expect("a lease");
        assert!(release() && !release(), "{address} cannot be given back once");
    }
}

fn put(dir: &Path, name: &str, content: &str) {
    let is_name = |name: &str| !name.contains(['/', '\0']) && !matches!(name, "" | "." | "..");
    let plain = name.trim_end_matches(['/', '@', '|']);
    if !is_name(plain) {
        return;
    }
    let path = dir.join(plain);
    // A name that is too long, or there already, is not put.
    let _ = match name.as_bytes().last() {
        Some(b'/') => fs::create_dir(path),
        // No further than to what is watched.
        Some(b'@') if content.starts_with('/') || content.matches("..").count() > 2 => Ok(()),
        Some(b'@') => symlink(content, path),
        Some(b'|') => std::os::unix::net::UnixListener::bind(path).map(drop),
        // Not through a symlink of an earlier part.
        _ => fs::File::create_new(path).and_then(|mut file| file.write_all(content.as_bytes())),
    };
}

/// The names of a directory with what they are.
fn contents(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let describe = |entry: fs::DirEntry| {
        let kind = entry.file_type().expect("a type");
        let what = match (kind.is_file(), kind.is_symlink()) {
            (true, _) => format!("file {}", fs::read_to_string(entry.path()).expect("text")),
            (_, true) => format!("link {:?}", fs::read_link(entry.path()).expect("a link")),
            _ => format!("{kind:?}"),
        };
        (entry.file_name().into_string().expect("text"), what)
    };
    entries.map(describe).collect()
}
