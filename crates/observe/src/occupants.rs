//! The last look into namespaces before they are taken away.
//!
//! Minutes may have passed since the observation: plugins of other orphans were called meanwhile. What an observation shows as a
//! holder counts here as well: tasks, descriptors, sockets and tun devices.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use model::NsInode;
use netlink::{Socket, link, nsid};
use sys::NetNs;

use crate::processes::{self, Processes};

/// A socket that was closed is freed after an RCU grace period (up to 30 ms); plugins whose DEL has just ended had some. Another podplumb
/// that looks at the same moment has the namespace open for a while.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);
/// Devices of which somebody outside may have the other end open.
const TAPS: [&str; 3] = ["tun", "macvtap", "ipvtap"];

/// Says of each namespace who is in it, or why that is not known; `None`: nobody. What only passes by is waited for.
pub fn occupants(namespaces: &[&NetNs]) -> Vec<Option<String>> {
    let mut found: Vec<Option<String>> = namespaces.iter().map(|_| Some(String::new())).collect();
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(BETWEEN_LOOKS);
        }
        let processes = processes::scan(crate::Depth::Usual);
        for (netns, found) in namespaces.iter().zip(&mut found).filter(|(_, found)| found.is_some()) {
            *found = occupant(netns, &processes);
        }
        if found.iter().all(Option::is_none) {
            break;
        }
    }
    found
}

fn occupant(netns: &NetNs, processes: &Processes) -> Option<String> {
    let unread =
        |what: &str, error: &dyn std::fmt::Display| Some(format!("{what} could not be read: {error}"));
    let inode = match netns.inode() {
        Ok(inode) => inode,
        Err(error) => return unread("the namespace", &error),
    };
    if let Some(gap) = processes.gaps.iter().find(|gap| gap.source.hides_holders()) {
        return unread(&gap.object, &gap.why);
    }
    if let Some(holder) = in_proc(inode, processes) {
        return Some(holder);
    }
    match netns.run(crate::sockets::count) {
        Ok(Ok(sockets)) if sockets.held() == 0 => {}
        Ok(Ok(sockets)) => return Some(format!("{} sockets are in it", sockets.held())),
        Ok(Err(error)) | Err(error) => return unread("its sockets", &error),
    }
    match tap(netns) {
        Ok(None) => None,
        Ok(Some(name)) => Some(format!("somebody may have its device {name} open")),
        Err(error) => unread("its interfaces", &error),
    }
}

fn in_proc(inode: NsInode, processes: &Processes) -> Option<String> {
    if let Some(task) = processes.tasks.get(&inode).and_then(|tasks| tasks.first()) {
        return Some(format!("{task} is in it"));
    }
    // We have it open ourselves, which a scan does not count.
    if let Some(other) = processes.descriptors.get(&inode).and_then(|descriptors| descriptors.first()) {
        return Some(format!("{} has it open as fd {}", other.task, other.fd));
    }
    let holders = processes.holders.get(&inode).into_iter().flatten();
    let (keeper, fd) = holders.filter_map(|holder| holder.descriptor()).next()?;
    Some(format!("{} holds it by fd {fd}", keeper.task))
}

/// A tun device. Without a number of the namespace in ours, its names are read first: a socket of our own in there is freed late, and
/// would be taken for somebody's at the next look.
fn tap(netns: &NetNs) -> io::Result<Option<String>> {
    let mut socket = Socket::route().map_err(io::Error::other)?;
    let links = match nsid::of(&mut socket, netns.as_fd()).map_err(io::Error::other)? {
        Some(nsid) => link::list(&mut socket, Some(nsid)).map_err(io::Error::other)?,
        None => netns.run(|| match only_loopback()? {
            true => Ok(Vec::new()),
            false => {
                Socket::route().and_then(|mut inside| link::list(&mut inside, None)).map_err(io::Error::other)
            }
        })??,
    };
    Ok(links.into_iter().find(|link| TAPS.contains(&link.kind.as_str())).map(|link| link.name))
}

/// Whether /proc/net/dev (two lines of headings) lists `lo` at most.
fn only_loopback() -> io::Result<bool> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    Ok(table.lines().skip(2).all(|line| line.trim_start().starts_with("lo:")))
}
