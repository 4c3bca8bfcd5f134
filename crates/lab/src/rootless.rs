//! Labs of people without root: all of a user's labs are in one user namespace, which a process keeps.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::record::Labs;

/// The process that keeps a user's namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Keeper {
    pid: u32,
    /// When it started, in clock ticks after the boot: the number alone may be another's by now.
    started: u64,
}

/// Enters the user's own namespaces, and returns where his labs are; makes them if `make`. `None` when there are none.
///
/// For a process that has started no thread.
pub fn enter(make: bool) -> Result<Option<Labs>> {
    let directory = directory();
    let labs = directory.join("labs");
    let what = || format!("{}", directory.display());
    let keeper = match keeper(&directory) {
        Some(keeper) => keeper,
        None if !make => return Ok(None),
        None => start(&directory, &labs)?,
    };
    // In the other mount namespace one is at its root.
    let here = std::env::current_dir().map_err(Error::io("the current directory"))?;
    sys::enter_keeper(keeper.pid).map_err(Error::io(what()))?;
    std::env::set_current_dir(&here).map_err(Error::io(here.display().to_string()))?;
    Ok(Some(Labs::below(labs)))
}

/// Ends the keeper when there is no lab any more, and with it the namespaces.
pub fn leave(labs: &Labs) -> Result<()> {
    // Not by the user's number, which is root's in here.
    let directory = labs.base().parent().unwrap_or(labs.base());
    if labs.names()?.is_empty() {
        if let Some(keeper) = keeper(directory) {
            crate::site::end_one(keeper.pid, || {
                crate::site::start_of(keeper.pid).ok() == Some(keeper.started)
            });
        }
        let _ = std::fs::remove_file(directory.join("keeper.json"));
    }
    Ok(())
}

/// Where a user's files that end with the session are.
fn directory() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    given.unwrap_or_else(|| format!("/tmp/podplumb-{uid}").into()).join("podplumb")
}

fn keeper(directory: &Path) -> Option<Keeper> {
    let text = std::fs::read(directory.join("keeper.json")).ok()?;
    let keeper: Keeper = serde_json::from_slice(&text).ok()?;
    (crate::site::start_of(keeper.pid).ok()? == keeper.started).then_some(keeper)
}

fn start(directory: &Path, labs: &Path) -> Result<Keeper> {
    use std::os::unix::fs::DirBuilderExt;
    let what = || format!("a user namespace of one's own ({})", directory.display());
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(labs);
    made.and_then(|()| own(directory)).map_err(Error::io(what()))?;
    let lock = File::create(directory.join("keeper.lock")).map_err(Error::io(what()))?;
    lock.lock().map_err(Error::io(what()))?;
    // Another one may have been faster.
    if let Some(keeper) = keeper(directory) {
        return Ok(keeper);
    }
    let pid = sys::start_keeper(|| {
        Ok(rustix::mount::mount("podplumb-labs", labs, "tmpfs", MountFlags::empty(), Some(c"mode=0700"))?)
    });
    let pid = pid.map_err(Error::io(what()))?;
    let keeper =
        crate::site::start_of(pid).map(|started| Keeper { pid, started }).map_err(Error::io(what()))?;
    let text = serde_json::to_vec(&keeper).expect("two numbers");
    std::fs::write(directory.join("keeper.json"), text).map_err(Error::io(what()))?;
    Ok(keeper)
}

/// In /tmp anybody may have made a directory of this name first.
fn own(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let is_ours = |path: &Path| -> io::Result<bool> {
        let stat = std::fs::symlink_metadata(path)?;
        Ok(stat.is_dir() && stat.uid() == rustix::process::geteuid().as_raw())
    };
    let parent = directory.parent().unwrap_or(directory);
    match is_ours(directory)? && is_ours(parent)? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else")),
    }
}
