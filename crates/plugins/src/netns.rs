//! The container's network namespace.

use cni::{Code, Error, Invocation, Result};
use sys::NetNs;

/// Opens the namespace that ADD or CHECK is about. It must not be the plugin's own: then a mistake of the runtime would
/// rewire the host.
pub(crate) fn open(invocation: &Invocation) -> Result<NetNs> {
    let path = invocation.netns.as_deref().unwrap_or(std::path::Path::new(""));
    let fail = |error: std::io::Error| {
        Error::new(Code::InvalidNetns, format!("cannot open network namespace {}", path.display()))
            .details(error)
    };
    let netns = NetNs::open(path).map_err(fail)?;
    let own = NetNs::current().and_then(|own| own.inode()).map_err(fail)?;
    if netns.inode().map_err(fail)? == own && !invocation.netns_override {
        return Err(Error::new(
            Code::InvalidNetns,
            format!("network namespace {} is the plugin's own", path.display()),
        )
        .details("a runtime that means it sets CNI_NETNS_OVERRIDE=1"));
    }
    Ok(netns)
}

fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    const ESRCH: i32 = 3;
    matches!(error.kind(), NotFound | NotADirectory | InvalidInput) || error.raw_os_error() == Some(ESRCH)
}

/// The namespace that DEL is about, if it still exists.
pub(crate) fn if_there(invocation: &Invocation) -> Result<Option<NetNs>> {
    match &invocation.netns {
        None => Ok(None),
        Some(path) => match NetNs::open(path) {
            Ok(netns) => {
                // /proc/PID/ns/net of a pid that was reused leads to a host process's, our own: then the container's is gone.
                let own = NetNs::current().and_then(|own| own.inode()).ok();
                let is_own = own.is_some() && netns.inode().ok() == own;
                Ok(Some(netns).filter(|_| !is_own || invocation.netns_override))
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
pub(crate) fn enter(netns: &NetNs) -> Result<sys::Entered> {
    netns.enter().map_err(|error| Error::new(Code::InvalidNetns, "cannot enter the namespace").details(error))
}
