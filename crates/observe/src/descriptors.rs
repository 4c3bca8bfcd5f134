//! Open descriptors of a process: which of them hold a network namespace.
//!
//! Where the kernel tells who has none that matters ([`crate::walk::bystanders`]), only the others' are read.
//! Most are told by the name that procfs gives them. A socket's name says nothing about its namespace, so sockets are asked one by one,
//! and only when somebody wants to know who holds something.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::{ContainerId, Descriptor, Gap, Holder, Keeper, NsInode, Source, Task};
use rustix::fs::{Dir, Mode, OFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};
use sys::{MountNs, NetNs, Process};

use crate::Depth;
use crate::opened::Opened;
use crate::processes::{base_of, is_gone, net_inode};

/// A mount namespace that somebody has open.
#[derive(Debug)]
pub(crate) struct OpenMounts {
    pub(crate) inode: u64,
    pub(crate) keeper: Keeper,
    pub(crate) fd: u32,
    pub(crate) mounts: MountNs,
}

/// An open file of /proc/PID/net: which namespace it is of shows in there only, by its inode.
#[derive(Debug, Clone)]
pub(crate) struct ProcFile {
    pub(crate) inode: u64,
    /// Below `net/`.
    pub(crate) file: PathBuf,
    pub(crate) holder: Holder,
}

/// What descriptors say about network namespaces.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) descriptors: Vec<(NsInode, Descriptor)>,
    pub(crate) holders: Vec<(NsInode, Holder)>,
    pub(crate) unplaced: Vec<Holder>,
    pub(crate) mounts: Vec<OpenMounts>,
    pub(crate) proc_files: Vec<ProcFile>,
    /// Namespaces of which only the inode is known: registered with io_uring, where nothing can be opened.
    pub(crate) registered: Vec<(NsInode, Holder)>,
    pub(crate) gaps: Vec<Gap>,
}

/// A process whose descriptors are looked at.
pub(crate) struct Owner<'a> {
    /// Where procfs has it, or a thread of it that still runs.
    pub(crate) base: &'a str,
    pub(crate) task: &'a Task,
    pub(crate) process: Option<&'a Process>,
    /// The namespace that it lives in.
    pub(crate) own: Option<NsInode>,
    /// The device number of nsfs.
    pub(crate) nsfs: u64,
    pub(crate) depth: Depth,
}

/// Looks at all descriptors of a process.
pub(crate) fn look(owner: &Owner<'_>, opened: &mut Opened) -> Found {
    let mut found = Found::default();
    let directory = format!("{}/fd", owner.base);
    let gap = |error: &io::Error| Gap {
        source: Source::Descriptors,
        object: directory.clone(),
        why: error.to_string(),
    };
    let opened_directory =
        rustix::fs::open(&directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let listed = opened_directory.and_then(|open| Ok((Dir::read_from(&open)?, open)));
    let (entries, open) = match listed.map_err(io::Error::from) {
        Ok(listed) => listed,
        Err(error) => {
            if !is_gone(&error) {
                found.gaps.push(gap(&error));
            }
            return found;
        }
    };
    let mut denied: Option<io::Error> = None;
    let mut name = Vec::new();
    for entry in entries.flatten() {
        let Some(fd) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        // From the open directory: the way to a process costs as much again.
        let target = rustix::fs::readlinkat(&open, entry.file_name(), std::mem::take(&mut name));
        let looked = target.map_err(io::Error::from).and_then(|target| {
            let looked =
                owner.descriptor(fd, Path::new(OsStr::from_bytes(target.as_bytes())), opened, &mut found);
            name = target.into_bytes();
            looked
        });
        match looked {
            // Closed meanwhile.
            Err(error) if is_gone(&error) || error.raw_os_error() == Some(EBADF) => {}
            Err(error) => denied = denied.or(Some(error)),
            Ok(()) => {}
        }
    }
    found.gaps.extend(denied.as_ref().map(gap));
    found
}

const EBADF: i32 = rustix::io::Errno::BADF.raw_os_error();

impl Owner<'_> {
    fn descriptor(&self, fd: u32, target: &Path, opened: &mut Opened, found: &mut Found) -> io::Result<()> {
        // Rarely needed.
        let path = || format!("{}/fd/{fd}", self.base);
        let name = target.as_os_str().as_bytes();
        if let Some(inode) = target.to_str().and_then(net_inode) {
            let inode = opened.at(inode, path().as_ref())?;
            self.namespace(inode, fd, false, found);
        } else if name.starts_with(b"/") {
            if name.starts_with(b"/proc/") && contains(name, b"/net/") {
                self.proc_file(fd, path().as_ref(), target, found)?;
            } else if name.ends_with(b"/net/tun") {
                self.tun(fd, opened, found)?;
            } else if self.may_be_a_pin(name) && fs::metadata(path())?.dev() == self.nsfs {
                // Opened through a mount, such as the pin in /run/netns: named like that, or `/` when it is attached nowhere.
                // Namespaces of other kinds are none of ours.
                if let Ok(netns) = NetNs::open(path()) {
                    self.namespace(opened.keep(netns)?, fd, name == b"/", found);
                }
            }
        } else if name.starts_with(b"mnt:[") {
            let mounts = MountNs::open(path())?;
            let inode = fs::metadata(path())?.ino();
            found.mounts.push(OpenMounts { inode, keeper: self.keeper(), fd, mounts });
        } else if name == b"anon_inode:[io_uring]" {
            self.ring(fd, opened, found)?;
        } else if name.starts_with(b"socket:[") && self.depth == Depth::Close {
            self.socket(fd, opened, found)?;
        }
        Ok(())
    }

    /// Whether a path is worth a `stat`, of which a node has tens of thousands: where pins are, and what is attached nowhere.
    fn may_be_a_pin(&self, name: &[u8]) -> bool {
        self.depth == Depth::Close || name == b"/" || contains(name, b"/netns/")
    }

    fn namespace(&self, inode: NsInode, fd: u32, detached: bool, found: &mut Found) {
        let descriptor = Descriptor { task: self.task.clone(), fd };
        found.descriptors.push((inode, descriptor));
        let keeper = || self.keeper();
        if detached {
            found.holders.push((inode, Holder::DetachedMount { keeper: keeper(), fd }));
        } else if self.depth == Depth::Close {
            let holder = match self.flags(fd) {
                Some(flags) if flags & O_PATH != 0 => Holder::PathFd { keeper: keeper(), fd },
                _ => Holder::NamespaceFd { keeper: keeper(), fd },
            };
            found.holders.push((inode, holder));
        }
    }

    fn tun(&self, fd: u32, opened: &mut Opened, found: &mut Found) -> io::Result<()> {
        let tun = self.duplicate(fd)?;
        // The descriptor holds the namespace in which it was opened; the device may have been moved since.
        let inode = opened.keep(NetNs::of_socket(&tun).or_else(|_| NetNs::of_tun(&tun))?)?;
        if Some(inode) != self.own {
            found.holders.push((inode, Holder::TunFd { keeper: self.keeper(), fd }));
        }
        Ok(())
    }

    fn proc_file(&self, fd: u32, path: &Path, target: &Path, found: &mut Found) -> io::Result<()> {
        let text = target.to_string_lossy();
        let Some((_, file)) = text.split_once("/net/") else { return Ok(()) };
        let inode = fs::metadata(path)?.ino();
        // A file of the namespace that its owner lives in anyway.
        let own = fs::metadata(format!("{}/net/{file}", self.base));
        if own.is_ok_and(|own| own.ino() == inode) {
            return Ok(());
        }
        let holder = Holder::ProcFile { keeper: self.keeper(), fd, path: target.to_owned() };
        found.proc_files.push(ProcFile { inode, file: file.into(), holder });
        Ok(())
    }

    /// Files that are registered with a ring, by the names that fdinfo gives them.
    fn ring(&self, fd: u32, opened: &mut Opened, found: &mut Found) -> io::Result<()> {
        let information = self.information(fd)?;
        let lines = information.lines().skip_while(|line| !line.starts_with("UserFiles:")).skip(1);
        for line in lines.take_while(|line| line.starts_with(' ')) {
            let Some((_, file)) = line.split_once(": ") else { continue };
            let file = file.trim();
            let holder = Holder::IoUring { keeper: self.keeper(), fd, file: file.to_owned() };
            if let Some(inode) = net_inode(file) {
                match opened.get(inode) {
                    Some(_) => found.holders.push((inode, holder)),
                    None => found.registered.push((inode, holder)),
                }
            } else if file.starts_with('/') {
                let there = format!("/proc/{}/root{file}", self.task.pid);
                match NetNs::open(&there) {
                    Ok(netns) => found.holders.push((opened.keep(netns)?, holder)),
                    // A mount that is attached nowhere any more could be any namespace's.
                    Err(_) if file == "/" => found.unplaced.push(holder),
                    Err(_) => {}
                }
            } else if file.starts_with("socket:[") && self.depth == Depth::Close {
                found.unplaced.push(holder);
            }
        }
        Ok(())
    }

    fn socket(&self, fd: u32, opened: &mut Opened, found: &mut Found) -> io::Result<()> {
        let socket = self.duplicate(fd)?;
        let inode = opened.keep(NetNs::of_socket(&socket)?)?;
        if Some(inode) != self.own {
            let what = describe(&socket);
            found.holders.push((inode, Holder::SocketFd { keeper: self.keeper(), fd, what }));
        }
        if sockopt::socket_domain(&socket)? == AddressFamily::UNIX {
            self.messages(fd, &socket, opened, found)?;
        }
        Ok(())
    }

    /// Descriptors in the queue of a Unix socket.
    fn messages(
        &self,
        fd: u32,
        socket: &impl AsFd,
        opened: &mut Opened,
        found: &mut Found,
    ) -> io::Result<()> {
        let information = self.information(fd)?;
        let waiting = information.lines().find_map(|line| line.strip_prefix("scm_fds:")?.trim().parse().ok());
        let waiting: usize = waiting.unwrap_or(0);
        if waiting == 0 {
            return Ok(());
        }
        let seen = sys::descriptors_in_flight(socket).unwrap_or_default();
        let hidden = waiting.saturating_sub(seen.len());
        let message = |carries: String| Holder::Message { keeper: self.keeper(), fd, carries };
        for descriptor in seen {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&descriptor));
            if let Ok(netns) = NetNs::open(&path) {
                found.holders.push((opened.keep(netns)?, message("its descriptor".into())));
            } else if let Ok(netns) = NetNs::of_socket(&descriptor) {
                let inode = opened.keep(netns)?;
                if Some(inode) != self.own {
                    let what = format!("a socket of it ({})", describe(&descriptor));
                    found.holders.push((inode, message(what)));
                }
            }
        }
        if hidden > 0 {
            found.unplaced.push(message(format!("{hidden} descriptors behind the first message")));
        }
        Ok(())
    }

    fn duplicate(&self, fd: u32) -> io::Result<std::os::fd::OwnedFd> {
        let process = self.process.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        process.descriptor(fd)
    }

    fn information(&self, fd: u32) -> io::Result<String> {
        fs::read_to_string(format!("{}/fdinfo/{fd}", self.base))
    }

    /// The flags that the descriptor was opened with.
    fn flags(&self, fd: u32) -> Option<u32> {
        let information = self.information(fd).ok()?;
        let octal = information.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(octal.trim(), 8).ok()
    }

    fn keeper(&self) -> Keeper {
        keeper_of(self.task)
    }
}

/// A task, with the container that its cgroup names.
pub(crate) fn keeper_of(task: &Task) -> Keeper {
    let groups = fs::read_to_string(format!("{}/cgroup", base_of(task))).unwrap_or_default();
    Keeper { task: task.clone(), container: container_of(&groups) }
}

/// The inodes of the sockets that a task has open.
pub(crate) fn socket_inodes(task: &Task) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for entry in fs::read_dir(format!("{}/fd", base_of(task)))? {
        // Closed meanwhile.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let name = target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
        inodes.extend(name.and_then(|inode| inode.parse::<u64>().ok()));
    }
    inodes.sort_unstable();
    inodes.dedup();
    Ok(inodes)
}

const O_PATH: u32 = OFlags::PATH.bits();

fn contains(name: &[u8], part: &[u8]) -> bool {
    name.windows(part.len()).any(|window| window == part)
}

/// What kind of socket it is, in a few words.
fn describe(socket: &impl AsFd) -> String {
    let family = sockopt::socket_domain(socket);
    let kind = sockopt::socket_type(socket);
    let suffix = if family == Ok(AddressFamily::INET6) { " over IPv6" } else { "" };
    match (family, kind) {
        (Ok(AddressFamily::INET | AddressFamily::INET6), Ok(kind)) => match kind {
            SocketType::STREAM => format!("TCP{suffix}"),
            SocketType::DGRAM => format!("UDP{suffix}"),
            _ => format!("raw{suffix}"),
        },
        (Ok(AddressFamily::UNIX), _) => "Unix".into(),
        (Ok(AddressFamily::NETLINK), _) => "netlink".into(),
        (Ok(AddressFamily::PACKET), _) => "packet".into(),
        (Ok(family), _) => format!("family {}", family.as_raw()),
        (Err(_), _) => "of an unknown kind".into(),
    }
}

/// The container of a process: runtimes name its cgroup by 64 hexadecimal digits, with something before or after
/// (`cri-containerd-ID.scope`, `docker/ID`, `libpod-ID.scope/container`). The innermost counts.
fn container_of(groups: &str) -> Option<ContainerId> {
    let mut words = groups.rsplit(|c: char| !c.is_ascii_hexdigit());
    words.find(|word| word.len() == 64).and_then(|id| ContainerId::new(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_names_its_container() {
        let id = "7d0c1e5b9a3f4d22".repeat(4);
        for path in [
            format!("0::/kubepods.slice/kubepods-burstable-podaa.slice/cri-containerd-{id}.scope\n"),
            format!("12:pids:/docker/{id}\n0::/docker/{id}\n"),
            format!("0::/machine.slice/libpod-{id}.scope/container\n"),
            format!("0::/kubelet/kubepods/podaa/{}/{id}\n", "0".repeat(64)),
        ] {
            assert_eq!(container_of(&path).map(String::from), Some(id.clone()), "{path}");
        }
        assert_eq!(container_of("0::/system.slice/sshd.service\n"), None);
    }
}
