//! Who works on an attachment, and on a network: the specification wants GC to be alone, and an ADD of an attachment that is
//! being deleted would have its wiring removed again.

use std::fs::File;
use std::io;
use std::path::Path;

use model::{AttachmentKey, NetworkName};

/// Attachments of a network share this many locks. A file for each would stay behind whoever is killed.
const SLOTS: u64 = 256;

/// Locks that end with this value.
#[derive(Debug)]
pub(crate) struct Held {
    _files: Vec<File>,
}

/// Waits until nobody else works on the attachment, or collects its network's garbage.
pub(crate) fn attachment(dir: &Path, key: &AttachmentKey) -> io::Result<Held> {
    let network = open(dir, key.network.as_str())?;
    network.lock_shared()?;
    let slot = model::attachment::digest(key.file_name().as_bytes()) % SLOTS;
    // No network has a colon in its name.
    let own = open(dir, &format!("{}:{slot:02x}", key.network))?;
    own.lock()?;
    Ok(Held { _files: vec![own, network] })
}

/// Waits until nobody else works on the network.
pub(crate) fn network(dir: &Path, name: &NetworkName) -> io::Result<Held> {
    let network = open(dir, name.as_str())?;
    network.lock()?;
    Ok(Held { _files: vec![network] })
}

fn open(dir: &Path, name: &str) -> io::Result<File> {
    let open = || File::options().create(true).append(true).open(dir.join(name));
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir)?;
            open()
        }
        file => file,
    }
}
