//! Why a lab could not be made, changed or removed.

use std::io;
use std::path::PathBuf;

use crate::topology::ReadError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The topology.
    #[error(transparent)]
    Topology(#[from] ReadError),
    /// A piece could not be made or removed.
    #[error("{piece}: {source}")]
    Kernel {
        /// The piece.
        piece: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
    /// Something with a file, a namespace or a process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it did not work.
        source: io::Error,
    },
    /// The kernel was built without it.
    #[error("{what}: not supported by this kernel (needs {option})")]
    Unsupported {
        /// What is missing.
        what: String,
        /// The option that it has to be built with.
        option: &'static str,
    },
    /// A CNI plugin.
    #[error("{piece}: {failures}")]
    Cni {
        /// The attachment.
        piece: String,
        /// What the plugins say.
        failures: String,
    },
    /// Somebody else is at work on the lab.
    #[error("another podplumb is at work on the lab {0}")]
    Busy(String),
    /// There is no such lab.
    #[error("there is no lab {0}")]
    Unknown(String),
    /// There is no such machine in the lab.
    #[error("the lab {lab} has no machine {machine:?}")]
    NoMachine {
        /// The lab.
        lab: String,
        /// The name that was given.
        machine: String,
        /// What was probably meant.
        near: Option<String>,
    },
    /// A pod that is dead in the file.
    #[error("{machine} of the lab {lab} has ended: its namespace is gone")]
    Over {
        /// The lab.
        lab: String,
        /// The pod.
        machine: String,
    },
    /// The record of a lab is no record.
    #[error("{}: {why}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else's processes are in its machines.
    #[error("{} in the lab {lab}: {}", count(guests.len()), named(guests))]
    Guests {
        /// The lab.
        lab: String,
        /// Who.
        guests: Vec<crate::lab::Guest>,
    },
    /// After `down`, these are still there.
    #[error("{} of the lab's namespaces are still alive: {}", alive.len(), alive.join(", "))]
    Alive {
        /// The machines.
        alive: Vec<String>,
    },
}

fn count(processes: usize) -> String {
    if processes == 1 {
        "another process runs".to_owned()
    } else {
        format!("{processes} other processes run")
    }
}

fn named(guests: &[crate::lab::Guest]) -> String {
    let shown = guests.iter().take(5).map(|guest| {
        format!("{} (pid {}, in {})", crate::topology::printable(&guest.command), guest.pid, guest.machine)
    });
    shown.collect::<Vec<_>>().join(", ")
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Topology(error) => error.hint.clone(),
            Error::Unsupported { .. } => {
                Some("leave it out with --skip-unsupported, or use another kernel".into())
            }
            Error::Busy(_) => Some("wait until it is ready".into()),
            Error::Unknown(_) => Some("`podplumb lab list` shows all".into()),
            Error::NoMachine { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Error::NoMachine { lab, .. } => Some(format!("`podplumb lab show {lab}` shows them")),
            Error::Over { .. } => Some("what is left of it is on its node".into()),
            Error::Record { .. } => Some("`podplumb lab down --force LAB` removes it all the same".into()),
            Error::Guests { .. } => Some("end them, or say --force".into()),
            Error::Alive { .. } => Some("somebody has them open: `podplumb holders` says who".into()),
            Error::Kernel { source, .. } if source.raw_os_error() == 1 => {
                Some("a lab needs root, or namespaces of the user's own".into())
            }
            Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("a lab needs root, or namespaces of the user's own".into())
            }
            Error::Kernel { .. } | Error::Io { .. } | Error::Cni { .. } => None,
        }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
