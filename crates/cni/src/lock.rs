//! Who works on an attachment, and on a network: the specification wants GC to be alone, and an ADD of an attachment that is
//! being deleted would have its wiring removed again.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::{AttachmentKey, NetworkName};

/// Locks that end with this value; those of attachments leave no file.
#[derive(Debug)]
pub(crate) struct Held {
    attachment: Option<PathBuf>,
    _files: Vec<File>,
}

/// Waits until nobody else works on the attachment, or collects its network's garbage.
pub(crate) fn attachment(dir: &Path, key: &AttachmentKey) -> io::Result<Held> {
    let network = open(dir, key.network.as_str())?;
    network.lock_shared()?;
    let (name, path) = (key.file_name(), dir.join(key.file_name()));
    loop {
        let own = open(dir, &name)?;
        own.lock()?;
        // Whoever had the lock may have removed the file while we waited.
        if own.metadata()?.nlink() > 0 {
            return Ok(Held { attachment: Some(path), _files: vec![own, network] });
        }
    }
}

/// Waits until nobody else works on the network.
pub(crate) fn network(dir: &Path, name: &NetworkName) -> io::Result<Held> {
    let network = open(dir, name.as_str())?;
    network.lock()?;
    Ok(Held { attachment: None, _files: vec![network] })
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

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(path) = &self.attachment {
            let _ = std::fs::remove_file(path);
        }
    }
}
