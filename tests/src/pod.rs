//! A pod's namespace, without processes.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use sys::NetNs;

/// A namespace, pinned at /run/netns.
#[derive(Debug)]
pub struct Pod {
    /// The namespace.
    pub netns: NetNs,
    path: PathBuf,
}

impl Pod {
    /// A new one of this name.
    pub fn new(name: &str) -> Self {
        Self::of(NetNs::create().expect("a namespace"), name)
    }

    /// A namespace that is there, pinned by this name.
    pub fn of(netns: NetNs, name: &str) -> Self {
        let path = Path::new("/run/netns").join(name);
        std::fs::write(&path, "").expect("a file to mount on");
        let source = format!("/proc/thread-self/fd/{}", netns.as_fd().as_raw_fd());
        rustix::mount::mount_bind(source, &path).expect("a pin");
        Self { netns, path }
    }

    /// Closes the test's descriptor of it. The pin stays, and is nobody's.
    pub fn leave(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_file(&self.path);
    }
}
