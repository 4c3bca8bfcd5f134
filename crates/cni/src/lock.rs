//! Who works on an attachment, and on a network: the specification wants GC to be alone, and an ADD of an attachment that is
//! being deleted would have its wiring removed again.

use std::fs::File;
use std::io;
use std::path::Path;

use model::{AttachmentKey, NetworkName};
use sys::Locked;

/// Attachments of a network share this many locks. A file for each would stay behind whoever is killed.
const SLOTS: u64 = 256;

/// Locks that end with this value.
#[derive(Debug)]
pub(crate) struct Held {
    _files: Vec<Locked>,
}

/// Waits until nobody else works on the attachment, or collects its network's garbage.
pub(crate) fn attachment(dir: &Path, key: &AttachmentKey) -> io::Result<Held> {
    let network = Locked::shared(open(dir, key.network.as_str())?)?;
    let slot = model::attachment::digest(key.file_name().as_bytes()) % SLOTS;
    // No network has a colon in its name.
    let own = Locked::exclusive(open(dir, &format!("{}:{slot:02x}", key.network))?)?;
    Ok(Held { _files: vec![own, network] })
}

/// Waits until nobody else works on the network.
pub(crate) fn network(dir: &Path, name: &NetworkName) -> io::Result<Held> {
    Ok(Held { _files: vec![Locked::exclusive(open(dir, name.as_str())?)?] })
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
