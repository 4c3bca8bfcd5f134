//! The place where a lab is built: its namespaces, open, and how plans are carried out in them. Nothing is decided here.

mod attachments;
mod devices;
mod parts;
mod processes;
mod remains;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use model::{IfIndex, IfName};
use netlink::{Socket, addr, link};
use sys::NetNs;

use cni::Command;

use crate::error::{Error, Result};
use crate::plan::{Found, Part, Piece, Plan};

pub(crate) use attachments::move_into;
pub(crate) use devices::{can_filter_vlans, can_impair};
pub use processes::Started;
pub(crate) use processes::{end, end_one, is_running, start_of};

/// A lab's namespaces.
#[derive(Debug)]
pub(crate) struct Site {
    lab: String,
    rooms: BTreeMap<String, Room>,
    /// The directory in which namespaces are pinned; without one they live as long as this.
    directory: Option<PathBuf>,
    /// Without one: where nodes keep the state of CNI plugins.
    temporary: Option<tempfile::TempDir>,
}

/// A namespace of a lab, open.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) netns: NetNs,
    socket: Socket,
    devices: HashMap<IfName, IfIndex>,
    next: u32,
}

/// The loopback interface is the first in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: IfIndex = IfIndex(1);

impl Room {
    /// Takes the namespace of the calling thread.
    fn here(netns: NetNs) -> Result<Self> {
        let socket = Socket::route().map_err(|source| Error::Kernel { piece: "namespace".into(), source })?;
        Ok(Room { netns, socket, devices: HashMap::from([(loopback(), LOOPBACK)]), next: LOOPBACK.0 + 1 })
    }

    fn index(&self, device: &IfName) -> Option<IfIndex> {
        self.devices.get(device).copied()
    }

    /// An index for a new device: given by us, so that nobody has to ask which one it got.
    fn give(&mut self, device: &IfName) -> IfIndex {
        let index = IfIndex(self.next);
        self.next += 1;
        self.devices.insert(device.clone(), index);
        index
    }
}

pub(crate) fn loopback() -> IfName {
    IfName::new("lo").expect("a name")
}

/// Something that a lab's owner may want to see go on.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(usize, usize);

impl Site {
    /// A site without namespaces.
    pub(crate) fn new(lab: &str, directory: Option<PathBuf>) -> Self {
        Site { lab: lab.to_owned(), rooms: BTreeMap::new(), directory, temporary: None }
    }

    /// Opens what is there of the machines: pinned namespaces, and the devices in them.
    pub(crate) fn open(
        lab: &str,
        directory: &Path,
        machines: impl Iterator<Item = String>,
    ) -> Result<(Self, Found)> {
        let mut site = Site::new(lab, Some(directory.to_owned()));
        let mut found = Found::new();
        for machine in machines {
            let Ok(netns) = NetNs::open(pin(directory, &machine)) else {
                if remains::ended_sign(directory, &machine).exists() {
                    found.insert(machine, BTreeMap::new());
                }
                continue;
            };
            let (mut room, seen) = look(netns).map_err(|error| error.of(&machine))?;
            room.next = room.devices.values().map(|index| index.0).max().unwrap_or(1) + 1;
            found.insert(machine.clone(), seen);
            site.rooms.insert(machine, room);
        }
        Ok((site, found))
    }

    /// The namespace of a machine.
    pub(crate) fn netns(&self, machine: &str) -> Option<&NetNs> {
        self.rooms.get(machine).map(|room| &room.netns)
    }

    /// All machines with their namespaces.
    pub(crate) fn machines(&self) -> impl Iterator<Item = (&str, &NetNs)> {
        self.rooms.iter().map(|(name, room)| (name.as_str(), &room.netns))
    }

    /// Carries out a plan, and adds the processes that it starts to `started`.
    ///
    /// # Errors
    /// The first piece that could not be made; what was made before stays.
    pub(crate) fn apply(
        &mut self,
        plan: &Plan,
        started: &mut Vec<Started>,
        progress: Progress<'_>,
    ) -> Result<()> {
        let total = plan.len();
        let mut done = 0;
        for piece in &plan.remove {
            if matches!(piece.part, Part::Cni { .. }) {
                self.attach(piece, Command::Del)?;
            }
            self.remove(piece)?;
            done += 1;
        }
        let fresh: Vec<&str> = namespaces(&plan.add).collect();
        self.make_namespaces(&fresh)?;
        done += fresh.len();
        progress(done, total);
        self.make_devices(&plan.add, &fresh)?;
        done += plan.add.iter().filter(|piece| matches!(piece.part, Part::Device(_))).count();
        progress(done, total);
        for (old, new) in &plan.change {
            self.change_device(old, new)?;
        }
        self.make_parts(&plan.add)?;
        for piece in &plan.add {
            if matches!(piece.part, Part::Cni { .. }) {
                self.attach(piece, Command::Add)?;
            }
        }
        self.start(&plan.add, started)?;
        self.let_end(&plan.add)?;
        progress(total, total);
        Ok(())
    }

    fn room(&mut self, piece: &Piece) -> Result<&mut Room> {
        let stranger = || stranger(&self.lab, &piece.machine);
        self.rooms.get_mut(&piece.machine).ok_or_else(stranger)
    }

    /// Makes namespaces: each takes the kernel 0.2 ms.
    fn make_namespaces(&mut self, machines: &[&str]) -> Result<()> {
        sys::raise_file_limit();
        let directory = self.directory.as_deref();
        self.rooms.extend(on_all_processors(machines, |machine| fresh_room(machine, directory))?);
        Ok(())
    }
}

fn stranger(lab: &str, machine: &str) -> Error {
    Error::NoMachine { lab: lab.to_owned(), machine: machine.to_owned(), near: None }
}

/// Does the same to each, on as many threads as there are processors, which may go where they like.
fn on_all_processors<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    if threads == 0 {
        return Ok(Vec::new());
    }
    let share = items.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let work = &work;
        let shares = items.chunks(share);
        let workers: Vec<_> = shares
            .map(|share| scope.spawn(move || share.iter().map(work).collect::<Result<Vec<T>>>()))
            .collect();
        let mut done = Vec::new();
        for worker in workers {
            done.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(done)
    })
}

fn namespaces(pieces: &[Piece]) -> impl Iterator<Item = &str> {
    pieces.iter().filter(|piece| matches!(piece.part, Part::Namespace)).map(|piece| piece.machine.as_str())
}

/// Makes a namespace and moves the calling thread, which makes others next, into it.
fn fresh_room(machine: &str, directory: Option<&Path>) -> Result<(String, Room)> {
    let what = || format!("namespace {machine}");
    let netns = NetNs::move_into_new().map_err(Error::io(what()))?;
    match sys::write_sysctl("net/ipv6/conf/default/accept_dad", "0") {
        // Addresses are the lab's own, and until link-local ones are known to be unique, a second after they came, a router
        // asks for no neighbour (ndisc_send_ns in net/ipv6/ndisc.c).
        Ok(()) => {}
        // A kernel without IPv6.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(what())(error)),
    }
    if let Some(directory) = directory {
        let path = pin(directory, machine);
        std::fs::File::create_new(&path).map_err(Error::io(what()))?;
        rustix::mount::mount_bind("/proc/thread-self/ns/net", &path)
            .map_err(|errno| Error::io(what())(errno.into()))?;
    }
    let room = Room::here(netns).map_err(|error| error.of(machine))?;
    Ok((machine.to_owned(), room))
}

/// Where a machine's namespace is pinned.
pub(crate) fn pin(directory: &Path, machine: &str) -> PathBuf {
    directory.join("ns").join(machine)
}

/// What is in a namespace.
fn look(netns: NetNs) -> Result<(Room, BTreeMap<IfName, std::collections::BTreeSet<ipnet::IpNet>>)> {
    let kernel = |source| Error::Kernel { piece: "namespace".into(), source };
    let socket = netns.run(Socket::route).map_err(Error::io("namespace"))?.map_err(kernel)?;
    let mut room = Room { netns, socket, devices: HashMap::new(), next: 0 };
    let mut seen = BTreeMap::new();
    let mut names = HashMap::new();
    for link in link::list(&mut room.socket, None).map_err(kernel)? {
        if let Ok(name) = IfName::new(link.name) {
            names.insert(link.index, name.clone());
            room.devices.insert(name.clone(), link.index);
            seen.insert(name, std::collections::BTreeSet::new());
        }
    }
    for (index, address) in addr::list(&mut room.socket, None).map_err(kernel)? {
        if let Some(addresses) = names.get(&index).and_then(|name| seen.get_mut(name)) {
            addresses.insert(address);
        }
    }
    Ok((room, seen))
}

impl Error {
    /// Names the machine that it is about.
    fn of(self, machine: &str) -> Self {
        match self {
            Error::Kernel { piece, source } if piece == "namespace" => {
                Error::Kernel { piece: format!("namespace {machine}"), source }
            }
            Error::Io { what, source } if what == "namespace" => {
                Error::Io { what: format!("namespace {machine}"), source }
            }
            other => other,
        }
    }
}

impl AsFd for Room {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.netns.as_fd()
    }
}
