//! Files that are locked.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::{Deref, DerefMut};

/// A file that is locked (`flock`) as long as the value lives.
///
/// To close the file would not be enough: what another thread is just starting has our open files until it is another program, and with
/// them the lock.
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Waits until nobody else has the file locked.
    ///
    /// # Errors
    /// What the kernel says, such as `Interrupted`.
    pub fn exclusive(file: File) -> io::Result<Self> {
        file.lock().map(|()| Self(file))
    }

    /// Waits until nobody else has the file locked for himself alone.
    ///
    /// # Errors
    /// As of [`Self::exclusive`].
    pub fn shared(file: File) -> io::Result<Self> {
        file.lock_shared().map(|()| Self(file))
    }

    /// `None` when somebody else has it locked.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_exclusive(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // It cannot fail for a file that is open.
        let _ = self.0.unlock();
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_owner_though_others_have_the_file_open() {
        let path = std::env::temp_dir().join(format!("podplumb-locked-{}", std::process::id()));
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let first = Locked::exclusive(open()).unwrap();
        // What a child has between fork and exec.
        let inherited = first.try_clone().unwrap();
        assert!(Locked::try_exclusive(open()).unwrap().is_none());
        drop(first);
        let second = Locked::try_exclusive(open()).unwrap();
        assert!(second.is_some());
        drop((inherited, second));
        let (one, other) = (Locked::shared(open()).unwrap(), Locked::shared(open()).unwrap());
        assert!(Locked::try_exclusive(open()).unwrap().is_none());
        drop((one, other));
        std::fs::remove_file(path).unwrap();
    }
}
