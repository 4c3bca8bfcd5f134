//! Links and pins, with their identity compared at the moment of removal.

use std::path::Path;

use analyze::plan::{LinkIdentity, PinIdentity};
use model::{Link, NsId, NsInode};
use netlink::{Socket, link};
use rustix::mount::UnmountFlags;
use sys::NetNs;

use crate::journal::Outcome;

/// How many requests go out before their answers are read: the socket has room for about 160.
const AT_ONCE: usize = 64;

/// Deletes host interfaces together: the kernel waits for grace periods once a group, not once a link (18 ms each).
///
/// The group is chosen at random among those that no link has. When the links are in it, `last_look` says which of them have to
/// stay, and why; these get their group back. Then the group's members are listed and compared, and only then is it deleted.
pub fn remove_links(
    wanted: &[&LinkIdentity],
    last_look: impl FnOnce() -> Vec<Option<String>>,
) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = wanted.iter().map(|_| None).collect();
    if let Err(error) = remove_group(wanted, &mut outcomes, last_look) {
        let failed = || Outcome::Failed { why: error.to_string() };
        outcomes.iter_mut().for_each(|outcome| *outcome = Some(outcome.take().unwrap_or_else(failed)));
    }
    outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Done)).collect()
}

/// A link that was put into the group: its place among those wanted, and the group that it had.
struct Joined {
    at: usize,
    before: u32,
}

fn remove_group(
    wanted: &[&LinkIdentity],
    outcomes: &mut [Option<Outcome>],
    last_look: impl FnOnce() -> Vec<Option<String>>,
) -> netlink::Result<()> {
    let mut socket = Socket::route()?;
    let all = link::list(&mut socket, None)?;
    let group = free_group(&all);
    let mut joining = Vec::new();
    for (at, identity) in wanted.iter().enumerate() {
        match all.iter().find(|link| link.index == identity.index) {
            None => outcomes[at] = Some(Outcome::AlreadyGone),
            Some(link) if !is(identity, link) => outcomes[at] = Some(changed(identity)),
            Some(link) => joining.push(Joined { at, before: link.group }),
        }
    }
    let moves: Vec<_> = joining.iter().map(|joined| (wanted[joined.at], group)).collect();
    let answers = regroup(&mut socket, &moves)?;
    let mut joined = Vec::new();
    for (joining, answer) in joining.into_iter().zip(answers) {
        match answer {
            None => joined.push(joining),
            Some(error) if error.is_gone() => outcomes[joining.at] = Some(Outcome::AlreadyGone),
            Some(error) => outcomes[joining.at] = Some(Outcome::Failed { why: error.to_string() }),
        }
    }
    if joined.is_empty() {
        return Ok(());
    }
    let reasons = last_look();
    let (leaving, staying): (Vec<_>, Vec<_>) =
        joined.into_iter().partition(|joined| reasons.get(joined.at).is_none_or(Option::is_some));
    for joined in &leaving {
        let why = reasons.get(joined.at).cloned().flatten().unwrap_or_else(|| "nobody looked".to_owned());
        outcomes[joined.at] = Some(Outcome::Skipped { why });
    }
    regroup(&mut socket, &back(wanted, &leaving))?;
    // Once more: the group has to contain what is to go and nothing else.
    let members: Vec<Link> =
        link::list(&mut socket, None)?.into_iter().filter(|link| link.group == group).collect();
    let is_known = |link: &Link| staying.iter().any(|joined| is(wanted[joined.at], link));
    if let Some(intruder) = members.iter().find(|link| !is_known(link)) {
        for joined in &staying {
            let why = format!("{} came into the group of links to delete", intruder.name);
            outcomes[joined.at] = Some(Outcome::Changed { why });
        }
        return regroup(&mut socket, &back(wanted, &staying)).map(drop);
    }
    if members.is_empty() { Ok(()) } else { socket.ack(link::delete_group(group)) }
}

/// The moves that give links the group back that they had.
fn back<'a>(wanted: &[&'a LinkIdentity], joined: &[Joined]) -> Vec<(&'a LinkIdentity, u32)> {
    joined.iter().map(|joined| (wanted[joined.at], joined.before)).collect()
}

/// Moves each link to a group; says which could not be moved.
fn regroup(
    socket: &mut Socket,
    moves: &[(&LinkIdentity, u32)],
) -> netlink::Result<Vec<Option<netlink::Error>>> {
    let mut answers = Vec::new();
    for some in moves.chunks(AT_ONCE) {
        let request = |(identity, group): &(&LinkIdentity, u32)| {
            link::change(identity.index, &link::Change { group: Some(*group), ..link::Change::default() })
        };
        answers.extend(socket.batch(some.iter().map(request).collect())?.each());
    }
    Ok(answers)
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

/// The namespace of a pin, if it is still that one.
pub fn open(pin: &PinIdentity) -> Option<NetNs> {
    let netns = NetNs::open(&pin.path).ok()?;
    (netns.inode().ok() == Some(pin.inode) && netns.id() == pin.ns_id).then_some(netns)
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
