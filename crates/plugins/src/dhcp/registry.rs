//! All keepers of a daemon, by attachment.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cni::{Code, Error, Result};
use model::{AttachmentKey, ContainerId, IfName, NetworkName, NsInode};

use super::keeper::{Keeper, Order, Shared};
use super::lease::Lease;
use super::protocol::Request;
use super::settings::Identity;
use super::store::Record;

/// A keeper needs little; a node may have a thousand of them.
const STACK_BYTES: usize = 256 << 10;

/// The keepers.
#[derive(Debug)]
pub(super) struct Registry {
    shared: Arc<Shared>,
    keepers: Mutex<BTreeMap<AttachmentKey, Handle>>,
    /// Keepers so far: of two for the same attachment, the number tells which.
    count: AtomicU64,
}

/// How to reach a keeper.
#[derive(Debug, Clone)]
struct Handle {
    number: u64,
    orders: Sender<Order>,
    stop: Arc<AtomicBool>,
}

type Keepers<'a> = MutexGuard<'a, BTreeMap<AttachmentKey, Handle>>;

impl Registry {
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, keepers: Mutex::default(), count: AtomicU64::new(0) })
    }

    /// Goes on with what is on disk.
    pub(super) fn resume(self: &Arc<Self>) -> io::Result<()> {
        for record in self.shared.store.load()? {
            self.spawn(&mut self.keepers(), record, Keeper::resume)?;
        }
        Ok(())
    }

    /// Does what a plugin asks.
    pub(super) fn carry_out(self: &Arc<Self>, request: Request) -> Result<Option<Lease>> {
        match request {
            Request::Add { key, netns, ns_inode, identity } => {
                self.add(&key, netns, ns_inode, &identity).map(Some)
            }
            Request::Del { key } => self.release(&key).map(|()| None),
            Request::Check { key } => self.check(&key).map(Some),
            Request::Gc { network, valid } => self.collect(&network, valid).map(|()| None),
            Request::Status => Ok(None),
        }
    }

    fn add(
        self: &Arc<Self>,
        key: &AttachmentKey,
        netns: PathBuf,
        ns_inode: NsInode,
        identity: &Identity,
    ) -> Result<Lease> {
        let path = netns.display().to_string();
        let invalid = |why: &dyn std::fmt::Display| {
            Error::new(Code::InvalidNetns, format!("the DHCP daemon cannot use network namespace {path}"))
                .details(why)
        };
        let seen = self.shared.open_namespace(&netns).and_then(|netns| netns.inode());
        if seen.map_err(|error| invalid(&error))? != ns_inode {
            let why = "at that path it sees another one: its mounts have to be the host's (-hostprefix)";
            return Err(invalid(&why));
        }
        loop {
            if let Some(answer) = self.show(key, Some(ns_inode)) {
                return answer;
            }
            let (reply, answer) = channel();
            {
                let mut keepers = self.keepers();
                if keepers.contains_key(key) {
                    continue;
                }
                let mut record = self.shared.store.begin(key.clone(), netns.clone(), identity.clone());
                record.ns_inode = ns_inode;
                let begin = move |keeper: Keeper| keeper.begin(&reply);
                let spawned = self.spawn(&mut keepers, record, begin);
                spawned.map_err(|error| Error::new(Code::Io, "cannot start a thread").details(error))?;
            }
            return answer.recv().unwrap_or_else(|_| {
                Err(Error::new(Code::Internal, "the lease's thread ended without an answer"))
            });
        }
    }

    fn check(&self, key: &AttachmentKey) -> Result<Lease> {
        self.show(key, None)
            .unwrap_or_else(|| Err(Error::new(Code::CheckFailed, format!("{key} has no lease"))))
    }

    /// What the attachment's keeper says; `None` when there is none (any more).
    fn show(&self, key: &AttachmentKey, ns_inode: Option<NsInode>) -> Option<Result<Lease>> {
        let handle = self.handle(key)?;
        let (reply, answer) = channel();
        let answered = handle.orders.send(Order::Show { ns_inode, reply }).is_ok();
        let answer = answered.then(|| answer.recv().ok()).flatten();
        if answer.is_none() {
            self.forget(key, handle.number);
        }
        answer
    }

    /// Gives a lease back. There may be none, but there may be a file that no keeper took over.
    fn release(&self, key: &AttachmentKey) -> Result<()> {
        if let Some(handle) = self.handle(key) {
            let (reply, answer) = channel();
            handle.stop.store(true, Ordering::Release);
            let answered = handle.orders.send(Order::Release { reply }).is_ok();
            let answer = answered.then(|| answer.recv().ok()).flatten();
            self.forget(key, handle.number);
            if let Some(answer) = answer {
                return answer;
            }
        }
        let removed = self.shared.store.remove(key);
        removed.map_err(|error| Error::new(Code::Io, "cannot remove the lease").details(error))
    }

    fn collect(&self, network: &NetworkName, valid: Vec<(ContainerId, IfName)>) -> Result<()> {
        let valid: HashSet<(ContainerId, IfName)> = valid.into_iter().collect();
        let is_stale = |key: &AttachmentKey| {
            key.network == *network && !valid.contains(&(key.container.clone(), key.ifname.clone()))
        };
        let stale: Vec<AttachmentKey> = self.keepers().keys().filter(|key| is_stale(key)).cloned().collect();
        Error::all(stale.iter().filter_map(|key| self.release(key).err()).collect())
    }

    fn keepers(&self) -> Keepers<'_> {
        // Nobody panics with the lock held in a way that leaves the map half changed.
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, key: &AttachmentKey) -> Option<Handle> {
        self.keepers().get(key).cloned()
    }

    fn forget(&self, key: &AttachmentKey, number: u64) {
        let mut keepers = self.keepers();
        if keepers.get(key).is_some_and(|handle| handle.number == number) {
            keepers.remove(key);
        }
    }

    fn spawn(
        self: &Arc<Self>,
        keepers: &mut Keepers<'_>,
        record: Record,
        work: impl FnOnce(Keeper) + Send + 'static,
    ) -> io::Result<()> {
        let key = record.key.clone();
        let (orders, receiver) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        let keeper =
            Keeper { record, shared, orders: receiver, stop: Arc::clone(&stop), asked_anybody: false };
        let (registry, its_key) = (Arc::clone(self), key.clone());
        let run = move || {
            work(keeper);
            registry.forget(&its_key, number);
        };
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run)?;
        keepers.insert(key, Handle { number, orders, stop });
        Ok(())
    }
}
