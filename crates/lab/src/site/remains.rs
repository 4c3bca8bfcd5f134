//! Pods that ended the wrong way: what real nodes are left with, made the way it comes about there.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni::Command;
use cni::cache::Cache;
use model::IfName;
use netlink::link::{self, Change};
use netlink::nsid;

use super::Site;
use crate::error::{Error, Result};
use crate::plan::{Part, Piece};
use crate::wiring::Ended;

/// The kernel takes some 50 ms to remove a namespace, and its veth with it.
const PATIENCE: Duration = Duration::from_secs(10);

impl Site {
    /// Has the pods among the pieces end.
    pub(super) fn let_end(&mut self, pieces: &[Piece]) -> Result<()> {
        for piece in pieces {
            let Part::Remains { node, ended, .. } = &piece.part else { continue };
            let state = self.state_of(node).map_err(Error::io(piece.to_string()))?;
            match ended {
                Ended::Pinned => {}
                Ended::WithoutDel => self.leave(piece, node)?,
                Ended::HalfAdded => {
                    self.take_back(piece, node)?;
                    self.leave(piece, node)?;
                }
                Ended::LeaseLeft => {
                    let kept = Kept::read(leases_of(&state, &piece.machine));
                    let kept = kept.map_err(Error::io(piece.to_string()))?;
                    self.attach(piece, Command::Del)?;
                    kept.put_back().map_err(Error::io(piece.to_string()))?;
                    self.leave(piece, node)?;
                }
                Ended::Restarted => {
                    let mut files = leases_of(&state, &piece.machine);
                    files.extend(results_of(&state, &piece.machine).map_err(Error::io(piece.to_string()))?);
                    let kept = Kept::read(files).map_err(Error::io(piece.to_string()))?;
                    // A restart ends interfaces, rules and records as DEL does, and leaves what is on disk. How old that is nobody can
                    // make up: the kernel alone sets the time of a file's last change.
                    self.attach(piece, Command::Del)?;
                    kept.put_back().map_err(Error::io(piece.to_string()))?;
                    self.leave(piece, node)?;
                }
                Ended::FileLeft => {
                    self.attach(piece, Command::Del)?;
                    self.leave(piece, node)?;
                    let file = forgotten_file(&state, &piece.machine);
                    let made =
                        file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create(&file));
                    made.map_err(Error::io(piece.to_string()))?;
                }
            }
            if let Some(directory) = &self.directory {
                let sign = ended_sign(directory, &piece.machine);
                let made =
                    sign.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create(&sign));
                made.map_err(Error::io(piece.to_string()))?;
            }
        }
        Ok(())
    }

    /// Takes away what no plugin knows of.
    pub(super) fn clear_remains(&mut self, piece: &Piece) -> Result<()> {
        let Part::Remains { node, .. } = &piece.part else { return Ok(()) };
        let state = self.state_of(node).map_err(Error::io(piece.to_string()))?;
        let sign = self.directory.as_deref().map(|directory| ended_sign(directory, &piece.machine));
        for file in sign.into_iter().chain([forgotten_file(&state, &piece.machine)]) {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(piece.to_string())(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Lets go of a pod's namespace, and waits until its veth has gone from the node.
    fn leave(&mut self, piece: &Piece, node: &str) -> Result<()> {
        let kernel = |source| Error::Kernel { piece: piece.to_string(), source };
        let Some(pod) = self.rooms.remove(&piece.machine) else { return Ok(()) };
        self.unpin(&piece.machine).map_err(Error::io(piece.to_string()))?;
        let Some(host) = self.rooms.get_mut(node) else { return Ok(()) };
        let number = nsid::of(&mut host.socket, pod.as_fd()).map_err(kernel)?;
        let into_pod =
            |link: &model::Link| number.is_some() && link.peer.is_some_and(|peer| peer.nsid == number);
        let mut ends = link::list(&mut host.socket, None).map_err(kernel)?;
        ends.retain(into_pod);
        drop(pod);
        let start = Instant::now();
        let mut is_there = |end: &model::Link| link::by_index(&mut host.socket, end.index, None).is_ok();
        while ends.iter().any(&mut is_there) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Moves a pod's end of its veth to the node.
    fn take_back(&mut self, piece: &Piece, node: &str) -> Result<()> {
        let kernel = |source| Error::Kernel { piece: piece.to_string(), source };
        let Some(pod) = self.rooms.get(&piece.machine) else { return Ok(()) };
        let Some(host) = self.rooms.get(node) else { return Ok(()) };
        // In a namespace of the pod's own socket: the site's knows only the devices that the site made.
        let mut socket =
            pod.netns.run(netlink::Socket::route).map_err(Error::io(piece.to_string()))?.map_err(kernel)?;
        let inside = link::by_name(&mut socket, "eth0").map_err(kernel)?;
        let name = IfName::new(format!("veth{}", &digits(&piece.machine)[..8])).expect("a name");
        let there = Change { name: Some(&name), netns: Some(host.netns.as_fd()), ..Change::default() };
        let down = Change { up: Some(false), ..Change::default() };
        socket.ack(link::change(inside.index, &down)).map_err(kernel)?;
        socket.ack(link::change(inside.index, &there)).map_err(kernel)?;
        Ok(())
    }
}

/// Says that a pod has ended, and is not to be made again.
pub(super) fn ended_sign(directory: &Path, machine: &str) -> PathBuf {
    directory.join("ended").join(machine)
}

/// Where a runtime would have pinned the namespace, in the node's own /run/netns.
fn forgotten_file(state: &Path, machine: &str) -> PathBuf {
    let digits = digits(machine);
    let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..32]];
    state.join("netns").join(format!("cni-{}", groups.join("-")))
}

/// Thirty-two hexadecimal digits that come from a name (FNV-1a).
fn digits(name: &str) -> String {
    let step = |hash: u128, byte: u8| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    };
    let hash = name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step);
    format!("{hash:032x}")
}

/// Files with what they say.
struct Kept(Vec<(PathBuf, Vec<u8>)>);

impl Kept {
    fn read(files: Vec<PathBuf>) -> io::Result<Self> {
        files
            .into_iter()
            .map(|path| fs::read(&path).map(|content| (path, content)))
            .collect::<io::Result<_>>()
            .map(Kept)
    }

    /// Makes them again.
    fn put_back(self) -> io::Result<()> {
        self.0.into_iter().try_for_each(|(path, content)| fs::write(path, content))
    }
}

/// The results that libcni would have cached of a pod's attachments.
fn results_of(state: &Path, container: &str) -> io::Result<Vec<PathBuf>> {
    let cache = Cache::at(state.join("cni/results"));
    let entries = cache.contents()?.entries.into_iter();
    let of_it = entries.filter(|entry| entry.key.container.as_str() == container);
    Ok(of_it.map(|entry| cache.path(&entry.key)).collect())
}

/// The files of host-local that say that a pod has an address.
fn leases_of(state: &Path, container: &str) -> Vec<PathBuf> {
    let inside =
        |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let networks = inside(&state.join("cni/networks"));
    let files = networks.flat_map(|network| inside(&network).collect::<Vec<_>>());
    let is_its =
        |path: &PathBuf| fs::read_to_string(path).is_ok_and(|lease| lease.lines().next() == Some(container));
    files.filter(is_its).collect()
}
