//! Links and pins, with their identity compared at the moment of removal.

use std::path::Path;

use analyze::plan::{LinkIdentity, PinIdentity};
use model::{Link, NsId, NsInode};
use netlink::{Socket, link};
use rustix::mount::UnmountFlags;
use sys::NetNs;

use crate::journal::Outcome;

/// Deletes host interfaces together: the kernel waits for grace periods once a group, not once a link (18 ms each).
///
/// The group is chosen at random among those that no link has, its members are listed and compared after they were put
/// into it, and only then is it deleted.
pub fn remove_links(wanted: &[&LinkIdentity]) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = wanted.iter().map(|_| None).collect();
    if let Err(error) = remove_group(wanted, &mut outcomes) {
        let failed = || Outcome::Failed { why: error.to_string() };
        outcomes.iter_mut().for_each(|outcome| *outcome = Some(outcome.take().unwrap_or_else(failed)));
    }
    outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Done)).collect()
}

fn remove_group(wanted: &[&LinkIdentity], outcomes: &mut [Option<Outcome>]) -> netlink::Result<()> {
    let mut socket = Socket::route()?;
    let all = link::list(&mut socket, None)?;
    let group = free_group(&all);
    let mut joined = Vec::new();
    for (identity, outcome) in wanted.iter().zip(outcomes.iter_mut()) {
        match all.iter().find(|link| link.index == identity.index) {
            None => *outcome = Some(Outcome::AlreadyGone),
            Some(link) if !is(identity, link) => *outcome = Some(changed(identity)),
            Some(link) => {
                let change = link::Change { group: Some(group), ..link::Change::default() };
                match socket.ack(link::change(link.index, &change)) {
                    Ok(()) => joined.push((*identity, link.group)),
                    Err(error) if error.is_gone() => *outcome = Some(Outcome::AlreadyGone),
                    Err(error) => *outcome = Some(Outcome::Failed { why: error.to_string() }),
                }
            }
        }
    }
    if joined.is_empty() {
        return Ok(());
    }
    // Once more, now that they are in the group: it has to contain what we put there and nothing else.
    let members: Vec<Link> =
        link::list(&mut socket, None)?.into_iter().filter(|link| link.group == group).collect();
    let intruder = members.iter().find(|link| !joined.iter().any(|(identity, _)| is(identity, link)));
    if let Some(intruder) = intruder {
        for (identity, before) in &joined {
            let change = link::Change { group: Some(*before), ..link::Change::default() };
            let _ = socket.ack(link::change(identity.index, &change));
        }
        for (identity, outcome) in wanted.iter().zip(outcomes.iter_mut()) {
            let why = format!("{} came into the group of links to delete", intruder.name);
            if outcome.is_none() && joined.iter().any(|(other, _)| other.index == identity.index) {
                *outcome = Some(Outcome::Changed { why });
            }
        }
        return Ok(());
    }
    if members.is_empty() {
        return Ok(());
    }
    socket.ack(link::delete_group(group))
}

fn is(identity: &LinkIdentity, link: &Link) -> bool {
    link.index == identity.index && link.name == identity.name && link.mac == identity.mac
}

fn changed(identity: &LinkIdentity) -> Outcome {
    Outcome::Changed { why: format!("index {} is not {} any more", identity.index, identity.name) }
}

/// A group that no link has. Group 0 is everybody's.
fn free_group(links: &[Link]) -> u32 {
    let mut seed = model::attachment::digest(
        format!("{:?}{}", std::time::SystemTime::now(), std::process::id()).as_bytes(),
    );
    loop {
        let group = (seed >> 32) as u32 | 0x4000_0000;
        if links.iter().all(|link| link.group != group) {
            return group;
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
}

/// Whether a pin leads to this namespace.
pub fn is_pinned(pin: &PinIdentity) -> bool {
    NetNs::open(&pin.path).is_ok_and(|netns| netns.inode().ok() == Some(pin.inode) && netns.id() == pin.ns_id)
}

/// Whether a process moved into the namespace since it was looked at.
pub fn is_inhabited(pin: &PinIdentity) -> bool {
    let wanted = format!("net:[{}]", pin.inode);
    let is_in = |path: std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|link| link.as_os_str() == wanted.as_str())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    pids.any(|entry| is_in(entry.path().join("ns/net")))
}

/// Unmounts a namespace's pin and removes its file.
pub fn unpin(path: &Path, inode: NsInode, ns_id: Option<NsId>) -> Outcome {
    let netns = match NetNs::open(path) {
        Ok(netns) => netns,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Outcome::AlreadyGone,
        Err(error) => return Outcome::Changed { why: format!("{}: {error}", path.display()) },
    };
    if netns.inode().ok() != Some(inode) || netns.id() != ns_id {
        return Outcome::Changed { why: format!("{} leads to another namespace by now", path.display()) };
    }
    drop(netns);
    let failed = |error: std::io::Error| Outcome::Failed { why: format!("{}: {error}", path.display()) };
    // MNT_DETACH, as `ip netns del` does; UMOUNT_NOFOLLOW because the path came from a table, not from us.
    if let Err(errno) = rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        return failed(errno.into());
    }
    // The same pin may be there twice, and another one below.
    match NetNs::open(path) {
        Ok(below) if below.inode().ok() == Some(inode) && below.id() == ns_id => unpin(path, inode, ns_id),
        Ok(_) => Outcome::Done,
        Err(_) => match std::fs::remove_file(path) {
            Ok(()) => Outcome::Done,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Outcome::Done,
            Err(error) => failed(error),
        },
    }
}

/// Opens the namespaces of a plan and keeps them open: on kernels that do not number namespaces (before 6.18), an inode is
/// not reused as long as someone has it open, so that it identifies its namespace across the two observations.
pub fn hold(plan: &analyze::Plan) -> Vec<NetNs> {
    let unnumbered = plan.steps.iter().filter_map(|step| match &step.operation {
        analyze::Operation::Unpin { path, ns_id: None, .. } => Some(path),
        _ => None,
    });
    unnumbered.filter_map(|path| NetNs::open(path).ok()).collect()
}
