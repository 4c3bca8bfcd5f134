//! Up, down, and what lies between.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::Timestamp;
use sys::NetNs;

use crate::error::{Error, Result};
use crate::name::LabName;
use crate::plan::{Found, Plan, still_there};
use crate::record::{Claim, Identity, Labs, Record, State};
use crate::site::{Progress, Site, can_filter_vlans, can_impair, end, move_into, pin};
use crate::topology::nearest;
use crate::wiring::{Device, DeviceKind, Shape, Wiring};

/// How `up` treats what it meets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpOptions {
    /// The topology's file, for the record.
    pub file: Option<PathBuf>,
    /// Leave out what this kernel cannot do.
    pub skip_unsupported: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// What `up` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raised {
    /// Everything was there already.
    Unchanged,
    /// These steps.
    Made(Plan),
}

/// What `down` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// So many namespaces.
    pub namespaces: usize,
    /// So many processes were ended.
    pub processes: usize,
    /// The kernel was asked for each namespace by its identity, and has none of them any more. `false`: it cannot be asked (before
    /// Linux 6.18).
    pub proved: bool,
}

/// A process that a lab did not start, in one of its machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The machine.
    pub machine: String,
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub command: String,
}

/// The kernel takes a second to remove 1,000 namespaces.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long `down` waits for processes that others run in a lab. Plugins leave one in a node for 200 ms after a DEL.
const LEAVING: Duration = Duration::from_millis(500);

impl Labs {
    /// Makes the lab, or makes of it what is wanted.
    ///
    /// # Errors
    /// Nothing has changed then: what was made before the failure is removed, what was removed is made again.
    pub fn up(&self, wanted: &Wiring, options: &UpOptions, progress: Progress<'_>) -> Result<Raised> {
        let wanted = supported(wanted, options.skip_unsupported)?;
        let claim = self.claim(&wanted.lab)?;
        let record = self.record(&wanted.lab)?;
        match record {
            Some(record) if record.state == State::Up || record.before.is_some() => {
                change(&claim, record, wanted, options, progress)
            }
            record => {
                let plan = Plan::between(None, &wanted);
                if options.dry_run {
                    return Ok(Raised::Made(plan));
                }
                // Of one that was killed while it was made, nothing stays.
                tear_down(&claim, record.as_ref())?;
                make(&claim, plan, wanted, options, progress)
            }
        }
    }

    /// Removes a lab, and waits until the kernel has none of its namespaces any more.
    ///
    /// # Errors
    /// [`Error::Guests`] when other processes are in its machines, unless they are to be ended too; nothing is removed then.
    pub fn down(&self, name: &LabName, end_guests: bool) -> Result<Removed> {
        let claim = self.claim(name)?;
        let record = match self.record(name) {
            // Without a record the file system is all that there is.
            Err(Error::Record { .. }) => None,
            record => record?,
        };
        if record.is_none() && !claim.directory.exists() {
            claim.forget();
            return Err(Error::Unknown(name.to_string()));
        }
        if !end_guests {
            let guests = staying_guests(&claim, record.as_ref());
            if !guests.is_empty() {
                return Err(Error::Guests { lab: name.to_string(), guests });
            }
        }
        if let Some(record) = &record {
            // Whoever comes after us if we are killed shall go on. On a full disk it cannot be said; the rest works all the same.
            let _ = claim.write(&Record { state: State::Unfinished, before: None, ..record.clone() });
        }
        let removed = tear_down(&claim, record.as_ref())?;
        claim.forget();
        Ok(removed)
    }

    /// Removes what is left of labs that were killed while they were made or removed. Returns their names.
    pub fn gc(&self) -> Result<Vec<LabName>> {
        let mut removed = Vec::new();
        for name in self.names()? {
            let claim = match self.claim(&name) {
                Err(Error::Busy(_)) => continue,
                claim => claim?,
            };
            // Of another podplumb, which may know more about it: it is for `down` to remove.
            let Ok(record) = self.record(&name) else { continue };
            if record.as_ref().is_none_or(|record| record.state != State::Up) {
                tear_down(&claim, record.as_ref())?;
                claim.forget();
                removed.push(name);
            }
        }
        Ok(removed)
    }

    /// The namespace of a machine.
    pub fn netns(&self, name: &LabName, machine: &str) -> Result<NetNs> {
        let record = self.record(name)?.ok_or_else(|| Error::Unknown(name.to_string()))?;
        let names = record.wiring.machines.iter().map(|machine| machine.name.as_str());
        match record.wiring.machine(machine) {
            Some(known) if known.is_there() => {}
            Some(_) => return Err(Error::Over { lab: name.to_string(), machine: machine.to_owned() }),
            None => {
                let near = nearest(machine, names).map(str::to_owned);
                return Err(Error::NoMachine { lab: name.to_string(), machine: machine.to_owned(), near });
            }
        }
        self.pinned(name, machine).map_err(Error::io(format!("namespace {machine}")))
    }

    /// Has the calling process, which must have no other thread yet, see a node's own state where plugins keep theirs: leases, cached
    /// results, records. Of other machines, and of nodes without CNI, there is none, and nothing changes.
    pub fn enter_state(&self, name: &LabName, machine: &str) -> Result<()> {
        let state = self.directory(name).join("node").join(machine);
        if !state.is_dir() {
            return Ok(());
        }
        move_into(&state).map_err(Error::io(format!("state of {machine}")))
    }

    /// The namespace that is pinned under a machine's name, whatever the record says.
    pub fn pinned(&self, name: &LabName, machine: &str) -> std::io::Result<NetNs> {
        NetNs::open(pin(&self.directory(name), machine))
    }
}

/// The wiring without what this kernel cannot do, or an error that names it.
fn supported(wanted: &Wiring, skip: bool) -> Result<Wiring> {
    let mut wiring = wanted.clone();
    let devices = || {
        let machines = wanted.machines.iter();
        machines.flat_map(|machine| machine.devices.iter().map(move |device| (machine, device)))
    };
    let is_impaired = |device: &Device| matches!(device.shape, Some(Shape::Impaired { .. }));
    if let Some((machine, device)) = devices().find(|(_, device)| is_impaired(device))
        && !can_impair()?
    {
        if !skip {
            let what = format!("delay and loss at {}:{}", machine.name, device.name);
            return Err(Error::Unsupported { what, option: "CONFIG_NET_SCH_NETEM" });
        }
        for device in wiring.machines.iter_mut().flat_map(|machine| &mut machine.devices) {
            if let Some(Shape::Impaired { bits_per_second, .. }) = device.shape {
                device.shape = (bits_per_second > 0).then_some(Shape::Rate { bits_per_second });
            }
        }
    }
    let filters = |device: &Device| matches!(device.kind, DeviceKind::Bridge { vlan_filtering: true, .. });
    if let Some((machine, device)) = devices().find(|(_, device)| filters(device))
        && !can_filter_vlans()?
    {
        if !skip {
            let what = format!("VLANs of the bridge {}:{}", machine.name, device.name);
            return Err(Error::Unsupported { what, option: "CONFIG_BRIDGE_VLAN_FILTERING" });
        }
        for device in wiring.machines.iter_mut().flat_map(|machine| &mut machine.devices) {
            device.vlans = None;
            if let DeviceKind::Bridge { vlan_filtering, .. } = &mut device.kind {
                *vlan_filtering = false;
            }
        }
    }
    Ok(wiring)
}

fn make(
    claim: &Claim,
    plan: Plan,
    wanted: Wiring,
    options: &UpOptions,
    progress: Progress<'_>,
) -> Result<Raised> {
    let made = (|| {
        claim.make()?;
        let mut record = Record {
            version: Record::VERSION,
            state: State::Unfinished,
            file: options.file.clone(),
            made_at: Timestamp::now(),
            wiring: wanted,
            before: None,
            namespaces: Default::default(),
            processes: Vec::new(),
        };
        claim.write(&record)?;
        let mut site = Site::new(claim.name.as_str(), Some(claim.directory.clone()));
        site.apply(&plan, &mut record.processes, progress)?;
        record.namespaces = identities(&site)?;
        record.state = State::Up;
        claim.write(&record)
    })();
    match made {
        Ok(()) => Ok(Raised::Made(plan)),
        Err(error) => {
            // What went wrong first is what there is to say.
            let _ = tear_down(claim, None);
            Err(error)
        }
    }
}

fn change(
    claim: &Claim,
    mut record: Record,
    wanted: Wiring,
    options: &UpOptions,
    progress: Progress<'_>,
) -> Result<Raised> {
    let (mut site, found) = open(claim, &record)?;
    let sources: Vec<&Wiring> = record.before.iter().chain([&record.wiring]).collect();
    let mut there = still_there(&sources, &found);
    if record.state == State::Unfinished {
        adopt(claim, &mut record);
    }
    forget_dead_processes(there.as_mut(), &mut record);
    let plan = Plan::between(there.as_ref(), &wanted);
    if plan.is_empty() && record.state == State::Up {
        return Ok(Raised::Unchanged);
    }
    if options.dry_run {
        return Ok(Raised::Made(plan));
    }
    let before = record.before.take().unwrap_or_else(|| record.wiring.clone());
    record =
        Record { state: State::Unfinished, wiring: wanted.clone(), before: Some(before.clone()), ..record };
    claim.write(&record)?;
    stop(&plan, &mut record);
    match site.apply(&plan, &mut record.processes, progress) {
        Ok(()) => {
            record.namespaces = identities(&site)?;
            (record.state, record.before) = (State::Up, None);
            record.file = options.file.clone().or(record.file);
            claim.write(&record)?;
            Ok(Raised::Made(plan))
        }
        Err(error) => {
            drop(site);
            roll_back(claim, record, before)?;
            Err(error)
        }
    }
}

/// Makes of a lab in between what it was.
fn roll_back(claim: &Claim, mut record: Record, before: Wiring) -> Result<()> {
    let (mut site, found) = open(claim, &record)?;
    let there = still_there(&[&record.wiring, &before], &found);
    let plan = Plan::between(there.as_ref(), &before);
    stop(&plan, &mut record);
    site.apply(&plan, &mut record.processes, &mut |_, _| {})?;
    record.namespaces = identities(&site)?;
    claim.write(&Record { state: State::Up, wiring: before, before: None, ..record })
}

fn open(claim: &Claim, record: &Record) -> Result<(Site, Found)> {
    let wirings = record.before.iter().chain([&record.wiring]);
    let mut names: Vec<String> =
        wirings.flat_map(|wiring| &wiring.machines).map(|machine| machine.name.clone()).collect();
    names.sort();
    names.dedup();
    Site::open(claim.name.as_str(), &claim.directory, names.into_iter())
}

/// Remembers processes that were started by one who was killed before it could say so: commands of the lab, in their machine, each
/// at the head of a group of its own.
fn adopt(claim: &Claim, record: &mut Record) {
    for guest in guests(claim, Some(record)) {
        let line = std::fs::read(format!("/proc/{}/cmdline", guest.pid)).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let arguments: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
        let wirings = record.before.iter().chain([&record.wiring]);
        let mut commands =
            wirings.filter_map(|wiring| wiring.machine(&guest.machine)).flat_map(|machine| &machine.run);
        let Some(command) = commands.find(|command| **command == arguments).cloned() else { continue };
        if group_of(guest.pid) == Some(guest.pid) {
            record.processes.extend(crate::site::Started::now(&guest.machine, &command, guest.pid));
        }
    }
}

/// Commands that have ended are not there any more.
fn forget_dead_processes(there: Option<&mut Wiring>, record: &mut Record) {
    record.processes.retain(crate::site::is_running);
    let Some(there) = there else { return };
    for machine in &mut there.machines {
        let runs = |command: &Vec<String>| {
            record
                .processes
                .iter()
                .any(|process| process.machine == machine.name && process.command == *command)
        };
        machine.run.retain(runs);
    }
}

/// Ends the processes that the plan removes.
fn stop(plan: &Plan, record: &mut Record) {
    let goes = |process: &crate::site::Started| {
        plan.remove.iter().any(|piece| {
            piece.machine == process.machine
                && matches!(&piece.part, crate::plan::Part::Process(command) if *command == process.command)
        })
    };
    let (going, staying): (Vec<_>, Vec<_>) = record.processes.drain(..).partition(goes);
    end(&going);
    record.processes = staying;
}

fn identities(site: &Site) -> Result<std::collections::BTreeMap<String, Identity>> {
    let one = |(name, netns): (&str, &NetNs)| {
        let inode = netns.inode().map_err(Error::io(format!("namespace {name}")))?;
        Ok((name.to_owned(), Identity { ns_id: netns.id(), inode }))
    };
    site.machines().map(one).collect()
}

/// The identities of everything that is pinned, whatever the record says.
fn pinned(directory: &Path) -> Vec<(String, Identity)> {
    let entries = std::fs::read_dir(directory.join("ns")).into_iter().flatten().flatten();
    let identity = |entry: std::fs::DirEntry| {
        let netns = NetNs::open(entry.path()).ok()?;
        Some((
            entry.file_name().into_string().ok()?,
            Identity { ns_id: netns.id(), inode: netns.inode().ok()? },
        ))
    };
    entries.filter_map(identity).collect()
}

/// Those of the [`guests`] that do not leave by themselves.
fn staying_guests(claim: &Claim, record: Option<&Record>) -> Vec<Guest> {
    let start = Instant::now();
    loop {
        let guests = guests(claim, record);
        if guests.is_empty() || start.elapsed() > LEAVING {
            return guests;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes in the lab's machines that it did not start.
fn guests(claim: &Claim, record: Option<&Record>) -> Vec<Guest> {
    let own = record.map(|record| record.processes.as_slice()).unwrap_or_default();
    inside(&pinned(&claim.directory))
        .into_iter()
        .filter(|guest| {
            !own.iter().any(|process| process.pid == guest.pid || group_of(guest.pid) == Some(process.pid))
        })
        .collect()
}

fn group_of(pid: u32) -> Option<u32> {
    Some(sys::ProcessStat::read(pid).ok()?.group)
}

/// All other processes in one of the namespaces.
fn inside(namespaces: &[(String, Identity)]) -> Vec<Guest> {
    let own = std::process::id();
    let mut guests = Vec::new();
    if namespaces.is_empty() {
        return guests;
    }
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(machine) = machine_of(pid, namespaces).filter(|_| pid != own) {
            let command = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            guests.push(Guest { machine: machine.to_owned(), pid, command: command.trim_end().to_owned() });
        }
    }
    guests
}

/// The machine that a process is in.
fn machine_of(pid: u32, namespaces: &[(String, Identity)]) -> Option<&str> {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::metadata(format!("/proc/{pid}/ns/net")).ok()?;
    let at = namespaces.iter().find(|(_, identity)| identity.inode.0 == namespace.ino());
    at.map(|(machine, _)| machine.as_str())
}

/// Ends all processes of a lab and in it, and removes everything else.
fn tear_down(claim: &Claim, record: Option<&Record>) -> Result<Removed> {
    let namespaces = pinned(&claim.directory);
    let mut processes = end(record.map(|record| record.processes.as_slice()).unwrap_or_default());
    for guest in inside(&namespaces) {
        processes +=
            usize::from(crate::site::end_one(guest.pid, || machine_of(guest.pid, &namespaces).is_some()));
    }
    claim.unmake()?;
    let start = Instant::now();
    let proved = namespaces.iter().all(|(_, identity)| identity.ns_id.is_some());
    let mut alive: Vec<&(String, Identity)> = namespaces.iter().collect();
    while proved && !alive.is_empty() {
        alive.retain(|(_, identity)| {
            identity.ns_id.is_some_and(|id| NetNs::by_id(id, identity.inode).is_ok())
        });
        if start.elapsed() > PATIENCE {
            return Err(Error::Alive { alive: alive.iter().map(|(name, _)| name.clone()).collect() });
        }
        if !alive.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(Removed { namespaces: namespaces.len(), processes, proved })
}
