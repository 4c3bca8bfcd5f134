//! Leases of an earlier boot: what tells that their containers are gone, and the journal of those that were given to somebody else.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use ::ipam::{LeaseFile, Past, Store, Takeover};
use cni::cache::{Cache, Contents};
use model::{AttachmentKey, BootId, ContainerId, TakeoverEvent, Timestamp};
use sys::LineFile;

use crate::record;

/// Where the journal is.
const DIRECTORY: &str = "/var/lib/podplumb";

/// Takeovers by one attachment.
pub(crate) struct Takeovers {
    by: AttachmentKey,
    past: Boots,
    journal: Option<Journal>,
}

/// What tells about earlier boots. It is looked for when it is needed first: almost no ADD does.
#[derive(Default)]
pub(crate) struct Boots(Option<Evidence>);

/// Traces of containers, read once.
struct Evidence {
    /// Containers that have a record of this boot.
    recorded: HashSet<ContainerId>,
    cache: Contents,
}

/// The journal, open. It stays locked until the plugin has its addresses.
struct Journal {
    file: LineFile,
    boot_id: BootId,
    run: String,
    count: usize,
}

impl Takeovers {
    pub(crate) fn by(key: AttachmentKey) -> Self {
        Self { by: key, past: Boots::default(), journal: None }
    }
}

impl Past for Boots {
    fn earliest(&self) -> Option<Timestamp> {
        sys::earliest_of_boot()
    }

    fn is_gone(&mut self, container: &ContainerId) -> bool {
        if self.0.is_none() {
            self.0 = Evidence::read();
        }
        self.0.as_ref().is_some_and(|evidence| evidence.is_gone(container))
    }
}

impl Takeover for Takeovers {
    fn past(&mut self) -> &mut dyn Past {
        &mut self.past
    }

    fn begin(&mut self, store: &Store, lease: &LeaseFile) -> io::Result<()> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            none => none.insert(Journal::open()?),
        };
        journal.count += 1;
        journal.write(TakeoverEvent::TakeoverBegun {
            lease_dir: store.path().to_owned(),
            address: lease.address,
            content: lease.content.clone(),
            since: lease.changed,
            by: self.by.clone(),
        })
    }

    fn end(&mut self, error: Option<String>) {
        if let Some(journal) = &mut self.journal {
            // Without this line the takeover shows as interrupted, and the lease says that it was not.
            let _ = journal.write(TakeoverEvent::TakeoverEnded { error });
        }
    }
}

impl Evidence {
    /// `None` when something cannot be read: then nobody is known to be gone.
    fn read() -> Option<Self> {
        let recorded = record::all().ok()?.into_iter().map(|(key, _)| key.container).collect();
        let cache = Cache::at(cni::cache::DIRECTORY).contents().ok()?;
        Some(Self { recorded, cache })
    }

    /// Nothing of this boot knows the container, and wherever libcni's cache knows it from, its namespace is not there any more.
    fn is_gone(&self, container: &ContainerId) -> bool {
        let names = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().contains(container.as_str()))
        };
        let mut own = self.cache.entries.iter().filter(|entry| entry.key.container == *container);
        !self.recorded.contains(container)
            && !self.cache.unreadable.iter().any(|(path, _)| names(path))
            && own.all(|entry| entry.netns.as_deref().is_some_and(is_missing))
    }
}

fn is_missing(path: &Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    let found = path.symlink_metadata();
    path.is_absolute() && found.is_err_and(|error| matches!(error.kind(), NotFound | NotADirectory))
}

impl Journal {
    fn open() -> io::Result<Self> {
        let file = LineFile::open(&Path::new(DIRECTORY).join(model::Takeover::FILE))?;
        let run = format!("{:x}-{:x}", Timestamp::now().0, std::process::id());
        Ok(Self { file, boot_id: sys::boot_id()?, run, count: 0 })
    }

    fn write(&mut self, event: TakeoverEvent) -> io::Result<()> {
        let id = format!("{}.{}", self.run, self.count);
        let line = model::Takeover { id, at: Timestamp::now(), boot_id: self.boot_id.clone(), event };
        self.file.append(&serde_json::to_vec(&line)?)
    }
}
