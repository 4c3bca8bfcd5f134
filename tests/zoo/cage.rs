//! The namespace of one creature, tied to a pod as podplumb's plugins do it, so that nothing but the creature speaks against an
//! orphan.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{AttachmentKey, AttachmentRecord, NsId, NsInode, Timestamp};
use podplumb_tests::{Podplumb, run};
use sys::NetNs;

/// What ends a creature.
pub(crate) struct Ending {
    /// The process that has to be named.
    pub(crate) pid: Option<u32>,
    /// The least destructive way to end it.
    pub(crate) remedy: Box<dyn FnOnce(&Podplumb)>,
}

impl Ending {
    /// The test itself holds something, and lets go.
    pub(crate) fn release<T: 'static>(held: T) -> Self {
        Self { pid: Some(std::process::id()), remedy: Box::new(move |_| drop(held)) }
    }
}

/// A namespace with a veth to the world, stamped and recorded.
pub(crate) struct Cage {
    number: usize,
    netns: Option<NetNs>,
    id: Option<NsId>,
    inode: NsInode,
    /// What else has to be gone afterwards.
    pub(crate) file: Option<PathBuf>,
    /// What `holders` is asked for, instead of the veth.
    pub(crate) question: Option<String>,
    /// The finding's name, where it is not the container's.
    pub(crate) label: Option<String>,
}

impl Cage {
    pub(crate) fn new(number: usize) -> Self {
        let netns = NetNs::create().expect("a namespace");
        let path = Path::new("/run/netns").join(name(number));
        std::fs::write(&path, "").expect("a file to mount on");
        let source = format!("/proc/thread-self/fd/{}", netns.as_fd().as_raw_fd());
        rustix::mount::mount_bind(source, &path).expect("a pin");
        let (id, inode) = (netns.id(), netns.inode().expect("an inode"));
        let cage = Self { number, netns: Some(netns), id, inode, file: None, question: None, label: None };
        let veth = cage.veth();
        run("ip", &["link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &name(number)]);
        run("ip", &["link", "set", &veth, "up", "alias", &cage.key().alias()]);
        cage.inside(|| {
            run("ip", &["link", "set", "eth0", "up"]);
        });
        cage.record();
        cage
    }

    /// What a dead pod left: the record that names its namespace.
    pub(crate) fn of_dead(number: usize, id: NsId, inode: NsInode) -> Self {
        let cage = Self { number, netns: None, id: Some(id), inode, file: None, question: None, label: None };
        cage.record();
        cage
    }

    fn key(&self) -> AttachmentKey {
        AttachmentKey {
            network: "pods".parse().expect("a name"),
            container: self.container().parse().expect("an id"),
            ifname: "eth0".parse().expect("a name"),
        }
    }

    fn container(&self) -> String {
        format!("zoo{:02}0123456789abcdef", self.number)
    }

    /// The record that podplumb's bridge would have written.
    fn record(&self) {
        let key = self.key();
        let record = AttachmentRecord {
            version: AttachmentRecord::VERSION,
            plugin: "bridge".into(),
            chained: false,
            boot_id: sys::boot_id().expect("a boot"),
            netns: self.path(),
            ns_id: self.id,
            ns_inode: Some(self.inode),
            host_interface: Some(self.veth().parse().expect("a name")),
            host_mac: None,
            kind: Some("veth".into()),
            mac: None,
            bridge: None,
            lease_dir: None,
            addresses: None,
            rules: Vec::new(),
            before: None,
            pod: None,
            created: Timestamp::now(),
            seen: None,
            key,
        };
        let directory = Path::new("/run/podplumb/attachments");
        std::fs::create_dir_all(directory).expect("a directory");
        let text = serde_json::to_string(&record).expect("JSON");
        std::fs::write(directory.join(record.file_name()), text).expect("a record");
    }

    /// Its namespace, as long as the test has it open.
    pub(crate) fn netns(&self) -> &NetNs {
        self.netns.as_ref().expect("closed")
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns().run(work).expect("the namespace can be entered")
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(name(self.number))
    }

    pub(crate) fn text_path(&self) -> String {
        self.path().display().to_string()
    }

    pub(crate) fn veth(&self) -> String {
        format!("cage{}", self.number)
    }

    /// Removes the pin and the test's own handle: from now on only the creature keeps the namespace alive.
    pub(crate) fn open(&mut self) {
        self.unmount();
        std::fs::remove_file(self.path()).expect("a file");
    }

    /// The same, but leaves the file: to remove it would unmount it in every other mount namespace (Linux 3.15).
    pub(crate) fn unmount(&mut self) {
        rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH).expect("a pin");
        self.netns = None;
    }

    /// Closes the test's own handle, and leaves the pin.
    pub(crate) fn leave_pinned(&mut self) {
        self.netns = None;
    }

    pub(crate) fn identity(&self) -> (Option<NsId>, NsInode) {
        (self.id, self.inode)
    }

    /// What its finding is found by.
    pub(crate) fn finding(&self) -> String {
        self.label.clone().unwrap_or_else(|| self.container())
    }

    pub(crate) fn question(&self) -> String {
        self.question.clone().unwrap_or_else(|| self.veth())
    }

    /// The namespace ends as soon as nobody holds it, and takes its veth along.
    pub(crate) fn expect_gone(&self, kind: &str, within: Duration) {
        let start = Instant::now();
        let is_there = || {
            let file = self.file.as_ref().is_some_and(|file| file.exists());
            let output = podplumb_tests::output("ip", &["link", "show", &self.veth()]);
            file || output.status.success()
        };
        while is_there() {
            if start.elapsed() > within {
                let podplumb = Podplumb::with(&["--runtime", "none"]);
                let said = podplumb.run(&["holders", &self.veth()]);
                let said = String::from_utf8_lossy(&said.stdout);
                panic!("after its remedy, the namespace of {kind} is still there:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(id) = self.id {
            let gone = || NetNs::by_id(id, self.inode).is_err();
            while !gone() {
                assert!(
                    start.elapsed() < within,
                    "after its remedy, the namespace of {kind} still has an id"
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Names that only runtimes give.
fn name(number: usize) -> String {
    format!("cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d{number:04}")
}

/// A descriptor that keeps a namespace, to be let go of.
pub(crate) fn reopened(netns: &NetNs) -> std::os::fd::OwnedFd {
    netns.as_fd().try_clone_to_owned().expect("a descriptor")
}
