//! Somebody to visit.

use std::process::{Child, Command, Stdio};

use podplumb_tests::wait_until;

/// A process in namespaces of its own, ended with the test.
pub(crate) struct Guest {
    unshare: Child,
    /// The first process in there.
    pub(crate) pid: u32,
}

impl Guest {
    pub(crate) fn start(options: &[&str]) -> Self {
        let unshare = Command::new("unshare")
            .args(options)
            .args(["--fork", "--kill-child", "sleep", "1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare");
        let of = unshare.id();
        let mut guest = Self { unshare, pid: 0 };
        // The kernel of a machine may have no list of children (CONFIG_PROC_CHILDREN).
        wait_until("sleep is in there", || {
            let names = std::fs::read_dir("/proc").expect("procfs").flatten().map(|entry| entry.file_name());
            let mut pids = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
            let is_it = |pid: &u32| {
                let is_child = sys::ProcessStat::read(*pid).is_ok_and(|stat| stat.parent == of);
                is_child
                    && std::fs::read_to_string(format!("/proc/{pid}/comm"))
                        .is_ok_and(|name| name == "sleep\n")
            };
            guest.pid = pids.find(is_it).unwrap_or_default();
            guest.pid != 0
        });
        guest
    }

    pub(crate) fn namespace(&self, kind: &str) -> String {
        let link = std::fs::read_link(format!("/proc/{}/ns/{kind}", self.pid)).expect("it lives");
        link.display().to_string()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        podplumb_tests::kill(self.pid);
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}
