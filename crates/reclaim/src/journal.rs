//! The journal: what was about to be done, and what came of it.
//!
//! One JSON object a line, each on disk before the next thing happens. A `begun` without its `ended` is an operation during
//! which reclaim was killed: whether it took place has to be looked at, and the next observation does.

use std::io;
use std::path::{Path, PathBuf};

use analyze::plan::Step;
use model::{BootId, Takeover, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sys::LineFile;

use crate::Error;

/// Where reclaim keeps what it needs to be undone.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Default for Store {
    fn default() -> Self {
        Self::at("/var/lib/podplumb")
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Operation: the run's id, a dot, the operation's place in it.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// In which boot.
    pub boot_id: BootId,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// An operation is about to be carried out.
    Begun {
        /// The operation.
        step: Box<Step>,
    },
    /// An operation ended.
    Ended {
        /// How.
        outcome: Outcome,
    },
    /// Something that an operation had removed was put back.
    Undone {
        /// What was put back.
        path: PathBuf,
    },
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// There was nothing left to do: an earlier operation, usually a plugin's DEL, had done it.
    AlreadyGone,
    /// It was not carried out, because the object is not the one of the plan any more.
    Changed {
        /// What is different.
        why: String,
    },
    /// It could not be tried; other operations do without it.
    Skipped {
        /// Why.
        why: String,
    },
    /// It was tried and failed.
    Failed {
        /// Why.
        why: String,
    },
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::AlreadyGone => f.write_str("was gone"),
            Outcome::Changed { why } => write!(f, "left alone: {why}"),
            Outcome::Skipped { why } => write!(f, "skipped: {why}"),
            Outcome::Failed { why } => write!(f, "failed: {why}"),
        }
    }
}

impl Store {
    /// A store in this directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where the copies of one operation are.
    pub fn quarantine(&self, id: &str) -> PathBuf {
        self.directory.join("quarantine").join(id)
    }

    fn journal(&self) -> PathBuf {
        self.directory.join("journal")
    }

    /// All lines. A last line that was cut (reclaim was killed while it wrote) is left out; a broken one in the middle
    /// is an error, because what follows it cannot be trusted to be complete.
    pub fn read(&self) -> Result<Vec<Entry>, Error> {
        read_lines(&self.journal())
    }

    /// What the plugins noted about leases of earlier boots that they gave to somebody else.
    pub fn takeovers(&self) -> Result<Vec<Takeover>, Error> {
        read_lines(&self.directory.join(Takeover::FILE))
    }

    /// Opens the journal for one run; nobody else can at the same time.
    pub fn open(&self) -> Result<Journal, Error> {
        let path = self.journal();
        let fail = |error| Error::file(&path, error);
        let Some(file) = LineFile::try_open(&path).map_err(fail)? else {
            let pid = sys::line_writer(&path).filter(|pid| *pid != std::process::id());
            return Err(Error::Busy { path, pid });
        };
        let boot_id = sys::boot_id().map_err(fail)?;
        let started = Timestamp::now();
        let run = format!("{:x}-{:x}", started.0, std::process::id());
        Ok(Journal { store: self.clone(), file, run, boot_id })
    }
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file(path, error)),
    };
    let lines = sys::whole_lines(&text).split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty());
    let parse = |(at, line)| {
        serde_json::from_slice(line).map_err(|error| Error::Journal {
            path: path.to_owned(),
            line: at + 1,
            error,
        })
    };
    lines.map(parse).collect()
}

/// An open journal, locked for one run.
#[derive(Debug)]
pub struct Journal {
    store: Store,
    file: LineFile,
    run: String,
    boot_id: BootId,
}

impl Journal {
    /// The run's id.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The store that it belongs to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The id of this run's operation at `place`, counted from 1 as the plan prints them.
    pub fn id(&self, place: usize) -> String {
        format!("{}.{place}", self.run)
    }

    /// The boot in which it is written.
    pub fn boot_id(&self) -> &BootId {
        &self.boot_id
    }

    /// Appends a line and waits until it is on disk.
    pub fn write(&mut self, id: &str, event: Event) -> Result<(), Error> {
        self.write_all([(id.to_owned(), event)])
    }

    /// Appends a line for each event and waits once until all are on disk. After an error none of them is in the journal.
    pub fn write_all(&mut self, events: impl IntoIterator<Item = (String, Event)>) -> Result<(), Error> {
        let at = Timestamp::now();
        let line = |(id, event)| {
            let entry = Entry { id, at, boot_id: self.boot_id.clone(), event };
            serde_json::to_vec(&entry).map_err(|error| Error::Encode { error })
        };
        let lines = events.into_iter().map(line).collect::<Result<Vec<_>, _>>()?;
        self.file.append_all(&lines).map_err(|error| Error::file(&self.store.journal(), error))
    }
}
