//! Mount tables: which namespaces are pinned where, and which pins are stale.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::{Gap, Holder, NsInode, Pin, Source, StaleFile, Task, Timestamp};

use crate::descriptors::OpenMounts;
use crate::opened::Opened;
use crate::processes::net_inode;

/// Pins of network namespaces, the observer's own mount namespace first.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    pub(crate) by_inode: HashMap<NsInode, Vec<Pin>>,
    /// Pins in mount namespaces in which nobody lives.
    pub(crate) in_descriptors: Vec<(NsInode, Holder)>,
    pub(crate) gaps: Vec<Gap>,
}

/// Reads the mount table of each mount namespace once.
///
/// A mount that was copied into many mount namespaces (containers that share /run) is listed once for the
/// observer's own and once for the first of the others.
pub(crate) fn pins(mount_namespaces: &[Task], open: &[OpenMounts], opened: &mut Opened) -> Pins {
    let mut pins = Pins::default();
    let mut seen: HashSet<(PathBuf, NsInode)> = HashSet::new();
    let own = [None];
    let others = mount_namespaces.iter().map(Some);
    for task in own.into_iter().chain(others) {
        let file = match task {
            None => "/proc/thread-self/mountinfo".to_owned(),
            Some(task) => format!("/proc/{}/mountinfo", task.pid),
        };
        let table = match std::fs::read(&file) {
            Ok(table) => table,
            // The process ended while we looked.
            Err(error) if task.is_some() && error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => continue,
            Err(error) => {
                pins.gaps.push(Gap { source: Source::Mounts, object: file, why: error.to_string() });
                continue;
            }
        };
        for (path, inode) in namespace_mounts(&table) {
            if seen.insert((path.clone(), inode)) {
                let since = if task.is_none() { pinned_since(&path, inode) } else { None };
                let pin = Pin { path, seen_by: task.cloned(), since };
                pins.by_inode.entry(inode).or_default().push(pin);
            }
        }
    }
    for open in open {
        match open.mounts.table() {
            Ok(table) => {
                let news = |(path, inode): &(PathBuf, NsInode)| seen.insert((path.clone(), *inode));
                let mounts: Vec<_> = namespace_mounts(&table).filter(news).collect();
                pins.in_descriptors.extend(mounts.into_iter().map(|mount| pin_in(open, mount, opened)));
            }
            Err(error) => {
                let object = format!("/proc/{}/fd/{}", open.keeper.task.pid, open.fd);
                pins.gaps.push(Gap { source: Source::Mounts, object, why: error.to_string() });
            }
        }
    }
    pins
}

/// A pin in a mount namespace that only a descriptor leads to. It is opened here: later there is no path to it.
fn pin_in(open: &OpenMounts, (path, inode): (PathBuf, NsInode), opened: &mut Opened) -> (NsInode, Holder) {
    let netns = open.mounts.netns(&path).ok();
    let inode = netns.and_then(|netns| opened.keep(netns).ok()).unwrap_or(inode);
    (inode, Holder::PinInFd { path, keeper: open.keeper.clone(), fd: open.fd })
}

fn pinned_since(path: &Path, inode: NsInode) -> Option<Timestamp> {
    let stat = std::fs::metadata(path).ok().filter(|stat| stat.ino() == inode.0)?;
    Some(Timestamp::from_stat(stat.ctime(), stat.ctime_nsec()))
}

/// The nsfs mounts of network namespaces in a mountinfo table (proc_pid_mountinfo(5)).
fn namespace_mounts(table: &[u8]) -> impl Iterator<Item = (PathBuf, NsInode)> {
    table.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let inode = net_inode(std::str::from_utf8(fields.nth(3)?).ok()?)?;
        let path = fields.next()?;
        let is_nsfs = line.windows(8).any(|window| window == b" - nsfs ");
        is_nsfs.then(|| (unescape(path), inode))
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\')
            .then(|| std::str::from_utf8(tail.get(..3)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &tail[3..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Plain files in directories where only pins belong: what is left when a namespace is unmounted but its file is not
/// removed.
pub(crate) fn stale_files(directories: &[PathBuf], gaps: &mut Vec<Gap>) -> Vec<StaleFile> {
    let mut stale = Vec::new();
    for directory in directories {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let object = directory.display().to_string();
                gaps.push(Gap { source: Source::Mounts, object, why: error.to_string() });
                continue;
            }
        };
        let Ok(device) = std::fs::metadata(directory).map(|stat| stat.dev()) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            // A pin is on nsfs, hence on another device than the directory; a symlink to /proc/PID/ns/net is no file.
            let Ok(stat) = std::fs::symlink_metadata(&path) else { continue };
            if stat.is_file() && stat.dev() == device {
                let since = Timestamp::from_stat(stat.ctime(), stat.ctime_nsec());
                stale.push(StaleFile { path, since, size_bytes: stat.len(), inode: stat.ino() });
            }
        }
    }
    stale.sort_by(|a, b| a.path.cmp(&b.path));
    stale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_namespaces_on_nsfs_are_pins() {
        let table = b"\
36 35 98:0 / /mnt1 rw,noatime master:1 - ext3 /dev/root rw
610 29 0:4 net:[4026532290] /run/netns/cni-1 rw shared:5 - nsfs nsfs rw
611 29 0:4 net:[4026532291] /run/with\\040space rw - nsfs nsfs rw
612 29 0:4 mnt:[4026532292] /run/mnt rw - nsfs nsfs rw
613 29 0:9 net:[4026532293] /lookalike rw - tmpfs tmpfs rw
";
        let found: Vec<_> = namespace_mounts(table).collect();
        assert_eq!(
            found,
            [
                (PathBuf::from("/run/netns/cni-1"), NsInode(4026532290)),
                (PathBuf::from("/run/with space"), NsInode(4026532291)),
            ]
        );
    }
}
