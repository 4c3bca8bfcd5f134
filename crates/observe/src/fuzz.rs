//! What fuzz/ calls: the reading of files that others write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use model::{Heard, PodmanLease};
use rustix::fs::{MemfdFlags, memfd_create};

/// Reads a file of systemd's journal, listening for these ids.
pub fn journal(bytes: &[u8], ids: &[&str]) -> BTreeMap<String, Heard> {
    crate::logs::journal_file(file(bytes), ids)
}

/// Reads a database of Podman's netavark backend.
pub fn podman_leases(bytes: &[u8]) -> Option<Vec<PodmanLease>> {
    crate::netavark::parse(bytes)
}

fn file(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.write_all(bytes).expect("room in memory");
    file
}
