//! What can stop a run.

use std::io;
use std::path::{Path, PathBuf};

/// A run that could not begin or go on. What happens to one operation is an [`crate::Outcome`], not an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the store.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A line of the journal cannot be understood.
    #[error("{}, line {line}: {error}", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        error: serde_json::Error,
    },
    /// A line of the journal could not be made.
    #[error("cannot write a journal line: {error}")]
    Encode {
        /// Why.
        error: serde_json::Error,
    },
    /// Another reclaim is at work.
    #[error("another reclaim or undo is at work{} and holds the lock of {}", of(*pid), path.display())]
    Busy {
        /// The journal.
        path: PathBuf,
        /// Which process, where that can be told.
        pid: Option<u32>,
    },
    /// The plan is of another boot.
    #[error("the plan was made before the node was restarted")]
    OtherBoot,
    /// No operation has this id.
    #[error("the journal has no operation or run {id:?}")]
    NoSuchId {
        /// The id.
        id: String,
    },
}

fn of(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl Error {
    pub(crate) fn file(path: &Path, error: io::Error) -> Self {
        Self::File { path: path.to_owned(), error }
    }
}
