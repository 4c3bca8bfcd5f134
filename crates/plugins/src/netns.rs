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

/// The namespace that DEL is about, if it still exists.
pub(crate) fn if_there(invocation: &Invocation) -> Result<Option<NetNs>> {
    match &invocation.netns {
        None => Ok(None),
        // Gone, or a file that a runtime unmounted but did not remove: then there is nothing in it to delete.
        Some(path) if NetNs::open(path).is_err() => Ok(None),
        Some(_) => open(invocation).map(Some),
    }
}
