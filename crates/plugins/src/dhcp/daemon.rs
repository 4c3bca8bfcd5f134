//! The daemon: listens for plugins and keeps their leases.
//!
//! It needs no end: whatever it knows is on disk before anybody else knows it, so it may be killed at any time.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::arguments::Arguments;
use super::keeper::Shared;
use super::protocol;
use super::registry::Registry;
use super::store::{self, Store};

/// A pause after a connection that could not be taken, for lack of descriptors for instance.
const BREATH: Duration = Duration::from_millis(100);
/// What an answer may take beyond the time for a lease: the end of another conversation of the same keeper.
const MARGIN: Duration = Duration::from_secs(10);

/// Runs the daemon with the arguments after the word `daemon`; returns the process's exit code, if ever.
pub fn daemon(arguments: impl Iterator<Item = OsString>) -> u8 {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("dhcp daemon: {why}\n{}", Arguments::USAGE);
            return 2;
        }
    };
    match run(&arguments) {
        Ok(()) => 0,
        Err((what, error)) => {
            eprintln!("dhcp daemon: {what}: {error}");
            1
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), (String, io::Error)> {
    let on = |what: &str, path: &Path| {
        let what = format!("cannot {what} {}", path.display());
        move |error| (what, error)
    };
    let socket = &arguments.socket;
    let directory = store::directory(socket);
    let parent = socket.parent().unwrap_or(Path::new("/"));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(on("make", parent))?;
    let store = Store::open(&directory).map_err(on("keep leases in", &directory))?;
    if let Some(path) = &arguments.pidfile {
        std::fs::write(path, std::process::id().to_string()).map_err(on("write", path))?;
    }
    let patience = arguments.patience.clone();
    let host_prefix = arguments.host_prefix.clone();
    let registry = Registry::new(Arc::new(Shared { store, patience, host_prefix }));
    let listener = listen(socket, &directory).map_err(on("listen at", socket))?;
    registry.resume().map_err(on("read the leases in", &directory))?;
    eprintln!("dhcp: listening at {}", socket.display());
    let patience = arguments.patience.timeout + MARGIN;
    for stream in listener.incoming() {
        let registry = Arc::clone(&registry);
        let taken = stream.and_then(|stream| {
            std::thread::Builder::new().spawn(move || {
                let served = answer(stream, patience, &registry);
                // A plugin that went away was killed by its runtime; a DEL follows.
                served.unwrap_or_else(|error| eprintln!("dhcp: a plugin's connection: {error}"));
            })
        });
        if let Err(error) = taken {
            eprintln!("dhcp: cannot take a connection: {error}");
            std::thread::sleep(BREATH);
        }
    }
    Ok(())
}

fn answer(stream: UnixStream, patience: Duration, registry: &Arc<Registry>) -> io::Result<()> {
    protocol::serve(stream, patience, |request| registry.carry_out(request).into())
}

/// The socket that a service manager passed, or a new one, for root only.
fn listen(socket: &Path, directory: &Path) -> io::Result<UnixListener> {
    if let Some(listener) = sys::inherited_listener()? {
        return Ok(listener);
    }
    // Made where nobody else can go, and moved when only root may connect. That this replaces the socket of a daemon that was
    // killed is right: the lock on the directory says that there is none that lives.
    let hidden: PathBuf = directory.join(".socket");
    match std::fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, socket)?;
    Ok(listener)
}
