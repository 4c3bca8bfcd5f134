//! A name in /run/netns for a namespace that somebody else keeps alive, so that `ip netns` knows it.
//!
//! `ip netns` pins what it names with a mount, and a pin outlives its pod: that would be a leak. So what is made here is a symbolic
//! link, through a process of our own that is a keeper of nothing but a directory: `/proc/KEEPER/fd/N` is the pod's `/proc/PID`, opened
//! with O_PATH. Such a descriptor holds the process's number, not its namespaces, and leads nowhere once it has ended, also when
//! another gets the number. When the keeper is killed the link leads nowhere either. It never leads to somebody else.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::{NetNs, Process};

/// Where `ip netns` looks.
pub(crate) const DIRECTORY: &str = "/run/netns";
/// What a keeper calls itself; the kernel has room for 15 bytes.
const KEEPER: &CStr = c"podplumb-expose";
/// Longest name that is made up: what Kubernetes allows, and a line of `ip netns list` has room for.
const LONGEST: usize = 63;

/// What the namespace lives by; when it goes, the name goes.
#[derive(Debug)]
pub(crate) enum Anchor {
    /// A process in it.
    Process(u32, Process),
    /// A mount of it.
    Pin(PathBuf),
}

/// A link that was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exposure {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    keeper: u32,
    fd: u32,
    /// Below what the keeper has open.
    rest: PathBuf,
}

impl Exposure {
    /// The link at a path, if it is one of these.
    fn read(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_owned();
        let target = std::fs::read_link(path).ok()?;
        let (keeper, rest) = target.to_str()?.strip_prefix("/proc/")?.split_once("/fd/")?;
        let (fd, rest) = rest.split_once('/')?;
        let (keeper, fd) = (keeper.parse().ok()?, fd.parse().ok()?);
        Some(Self { name, path: path.to_owned(), keeper, fd, rest: rest.into() })
    }

    /// Where the keeper found it: `/proc/PID/ns/net`, or a pin; `None` when there is no keeper.
    pub(crate) fn source(&self) -> Option<PathBuf> {
        let comm = std::fs::read(format!("/proc/{}/comm", self.keeper)).ok()?;
        if comm.strip_suffix(b"\n") != Some(KEEPER.to_bytes()) {
            return None;
        }
        let directory = std::fs::read_link(format!("/proc/{}/fd/{}", self.keeper, self.fd)).ok()?;
        Some(directory.join(&self.rest))
    }

    /// The namespace that it leads to.
    pub(crate) fn netns(&self) -> Option<NetNs> {
        NetNs::open(&self.path).ok()
    }

    /// Removes it; its keeper sees that, and ends.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // Whatever has the name by now is left alone, unless it is the very same link.
        if Self::read(&self.path).as_ref() != Some(self) {
            return Ok(());
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// All of them, by name.
pub(crate) fn list() -> io::Result<Vec<Exposure>> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all: Vec<Exposure> =
        entries.flatten().filter_map(|entry| Exposure::read(&entry.path())).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Removes those that lead nowhere because their keeper was killed.
pub(crate) fn sweep() -> io::Result<()> {
    for exposure in list()? {
        if exposure.source().is_none() && exposure.netns().is_none() {
            exposure.remove()?;
        }
    }
    Ok(())
}

/// A name that `ip netns` takes, made of one that may be anything.
pub(crate) fn made_valid(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let plain: String = text.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    let name: String = plain.trim_start_matches(['-', '.']).chars().take(LONGEST).collect();
    if name.is_empty() { "pod".into() } else { name }
}

/// Whether a name can be given: one component of a path that is no option either.
pub(crate) fn valid(text: &str) -> Result<String, String> {
    if text == made_valid(text) && !text.is_empty() {
        return Ok(text.to_owned());
    }
    Err(format!(
        "not a name for ip netns: letters, digits, '.', '-' and '_', at most {LONGEST}, not first '-' or '.'"
    ))
}

/// Makes the link and starts its keeper.
///
/// # Errors
/// `AlreadyExists` when something has the name; `NotFound` when the anchor is gone.
pub(crate) fn make(name: &str, netns: &NetNs, anchor: &Anchor) -> io::Result<()> {
    std::fs::create_dir_all(DIRECTORY)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let goes = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
    inotify::add_watch(&watch, DIRECTORY, goes)?;
    let (directory, rest, ends) = match anchor {
        Anchor::Process(pid, process) => {
            let directory = open(Path::new("/proc").join(pid.to_string()).as_path())?;
            (directory, PathBuf::from("ns/net"), Some(process.as_fd().try_clone_to_owned()?))
        }
        Anchor::Pin(path) => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            inotify::add_watch(&watch, parent, goes)?;
            (open(parent)?, PathBuf::from(name), None)
        }
    };
    // The number, or the pin's name, may be another's by now. What is open is not.
    let there = NetNs::open(Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(&rest))?;
    if there.inode()? != netns.inode()? {
        return Err(io::ErrorKind::NotFound.into());
    }
    drop(there);
    let (answer, report) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let link = Path::new(DIRECTORY).join(name);
    let mut keep = vec![directory.as_raw_fd(), watch.as_raw_fd(), report.as_raw_fd()];
    keep.extend(ends.as_ref().map(AsRawFd::as_raw_fd));
    sys::fork_detached(&keep, move || {
        let _ = rustix::thread::set_name(KEEPER);
        let _ = std::env::set_current_dir("/");
        let target = format!("/proc/{}/fd/{}/{}", std::process::id(), directory.as_raw_fd(), rest.display());
        let made = std::os::unix::fs::symlink(&target, &link);
        let code =
            made.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()));
        let _ = File::from(report).write_all(&code.to_ne_bytes());
        if made.is_ok() {
            wait(&watch, ends.as_ref(), &[link.file_name(), Some(rest.as_os_str())]);
            if std::fs::read_link(&link).is_ok_and(|now| now == Path::new(&target)) {
                let _ = std::fs::remove_file(&link);
            }
        }
    })?;
    let mut code = [0; 4];
    File::from(answer).read_exact(&mut code)?;
    match i32::from_ne_bytes(code) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Waits until the process ends, or one of these names goes.
fn wait(watch: &OwnedFd, ends: Option<&OwnedFd>, names: &[Option<&std::ffi::OsStr>]) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    loop {
        let mut fds = vec![PollFd::new(watch, PollFlags::IN)];
        fds.extend(ends.map(|process| PollFd::new(process, PollFlags::IN)));
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if fds.get(1).is_some_and(|process| !process.revents().is_empty()) => return,
            Ok(_) => {}
        }
        let mut events = Reader::new(watch, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    let gone = ReadFlags::IGNORED | ReadFlags::UNMOUNT | ReadFlags::QUEUE_OVERFLOW;
                    let name = event
                        .file_name()
                        .map(|name| std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes()));
                    if event.events().intersects(gone) || name.is_some() && names.contains(&name) {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_component_of_a_path_and_no_option() {
        for (text, name) in [
            ("web-0", "web-0"),
            ("shop/web", "shop-web"),
            ("../../etc", "etc"),
            ("-n", "n"),
            ("a\u{1b}[2Jb", "a--2Jb"),
            ("..", "pod"),
            ("", "pod"),
        ] {
            assert_eq!(made_valid(text), name, "{text:?}");
            assert_eq!(valid(text).is_ok(), text == name, "{text:?}");
        }
        assert_eq!(made_valid(&"a".repeat(300)).len(), LONGEST);
    }
}
