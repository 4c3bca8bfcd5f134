//! The container's network namespace.

use cni::{Code, Error, Invocation, Result};
use rustix::io::Errno;
use sys::NetNs;

/// A container's namespace, and the plugin's own to return to.
#[derive(Debug)]
pub(crate) struct Container {
    netns: NetNs,
    /// The plugin's own.
    pub(crate) home: NetNs,
}

impl Container {
    /// Opens the namespace at `path`.
    pub(crate) fn open(path: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self { netns: NetNs::open(path)?, home: NetNs::current()? })
    }

    fn is_own(&self) -> std::io::Result<bool> {
        Ok(self.netns.inode()? == self.home.inode()?)
    }
}

impl std::ops::Deref for Container {
    type Target = NetNs;

    fn deref(&self) -> &NetNs {
        &self.netns
    }
}

/// Opens the namespace that ADD or CHECK is about. It must not be the plugin's own: then a mistake of the runtime would
/// rewire the host.
pub(crate) fn open(invocation: &Invocation) -> Result<Container> {
    let path = invocation.netns.as_deref().unwrap_or(std::path::Path::new(""));
    let fail = |error: std::io::Error| {
        Error::new(Code::InvalidNetns, format!("cannot open network namespace {}", path.display()))
            .details(error)
    };
    let container = Container::open(path).map_err(fail)?;
    if container.is_own().map_err(fail)? && !invocation.netns_override {
        return Err(Error::new(
            Code::InvalidNetns,
            format!("network namespace {} is the plugin's own", path.display()),
        )
        .details("a runtime that means it sets CNI_NETNS_OVERRIDE=1"));
    }
    Ok(container)
}

fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    // A process that ended, and a descriptor of one that is a socket's by now (/proc/PID/fd/N).
    let has_ended = || matches!(Errno::from_io_error(error), Some(Errno::SRCH | Errno::NXIO));
    matches!(error.kind(), NotFound | NotADirectory | InvalidInput) || has_ended()
}

/// The namespace that DEL is about, if it still exists.
pub(crate) fn if_there(invocation: &Invocation) -> Result<Option<Container>> {
    match &invocation.netns {
        None => Ok(None),
        Some(path) => match Container::open(path) {
            Ok(container) => {
                // /proc/PID/ns/net of a pid that was reused leads to a host process's, our own: then the container's is gone.
                let is_own = container.is_own().unwrap_or(false);
                Ok(Some(container).filter(|_| !is_own || invocation.netns_override))
            }
            // Gone, or a file that a runtime unmounted but did not remove: then there is nothing in it to delete.
            Err(error) if is_gone(&error) => Ok(None),
            // It may well be there: DEL has to be repeated, not taken for done.
            Err(error) => {
                Err(Error::new(Code::TryAgain, format!("cannot open network namespace {}", path.display()))
                    .details(error))
            }
        },
    }
}

/// Moves this thread into the namespace until the guard is dropped.
pub(crate) fn enter(container: &Container) -> Result<sys::Entered<'_>> {
    container
        .enter_from(&container.home)
        .map_err(|error| Error::new(Code::InvalidNetns, "cannot enter the namespace").details(error))
}
