//! A test's own world: namespaces in which it may change links, mounts and state directories.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::mount::MountFlags;

use crate::process::run;

/// Which CNI plugins a scenario runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugins {
    /// The reference ones, from Debian's package.
    Reference,
    /// podplumb's.
    Podplumb,
}

/// The names of all plugins that a node needs.
pub const PLUGINS: [&str; 19] = [
    "bandwidth",
    "bridge",
    "dhcp",
    "dummy",
    "firewall",
    "flannel",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tap",
    "tuning",
    "vlan",
    "vrf",
];

/// Longer than the margin that is left for clocks that are set.
const BEFORE_THE_BOOT: std::time::Duration = std::time::Duration::from_secs(11);

/// Directories that runtimes, plugins and podplumb write to.
const PRIVATE: [&str; 7] = [
    "/run",
    "/var/lib/cni",
    "/etc/cni",
    "/var/lib/podplumb",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/containers",
];

/// Network and mount namespaces of the test's own, entered by its thread for good; the programs that it starts are in them too.
#[derive(Debug)]
pub struct World {
    directory: tempfile::TempDir,
}

/// Whether a test can run here. In CI (`CI` is set) what is missing is a failure, elsewhere a skip that is reported.
pub fn require(programs: &[&str]) -> bool {
    let directories = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let is_there = |program: &&&str| !directories.iter().any(|dir| Path::new(dir).join(program).exists());
    let mut missing: Vec<String> = programs.iter().filter(is_there).map(ToString::to_string).collect();
    if !sys::is_root() {
        missing.push("root".to_owned());
    }
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(std::env::var_os("CI").is_none(), "missing: {missing} (xtask/install test installs it)");
    eprintln!("SKIPPED: this test needs {missing} (xtask/install test installs it)");
    false
}

impl World {
    /// Moves the calling thread into a new world.
    pub fn enter() -> Self {
        // Made before the mounts, so that it can be removed after them.
        let directory = tempfile::Builder::new().prefix("podplumb-test-").tempdir().expect("a directory");
        binaries();
        sys::isolate_thread().expect("root may make namespaces");
        // A directory that is not there is made in an overlay over its parent, never on the machine's disk. All overlays come
        // first: a later one would hide what was mounted below.
        let missing = PRIVATE.iter().map(Path::new).filter(|path| !path.is_dir());
        let parents: BTreeSet<&Path> = missing.filter_map(|path| path.parent()).collect();
        for parent in parents {
            overlay_empty(parent, directory.path());
        }
        for path in PRIVATE.map(Path::new) {
            std::fs::create_dir_all(path).expect("a private directory");
            mount_tmpfs(path);
        }
        for path in ["/run/netns", "/etc/cni/net.d", "/run/lock"] {
            std::fs::create_dir_all(path).expect("a private directory");
        }
        run("ip", &["link", "set", "lo", "up"]);
        // The first `ip netns add` of a boot binds /run/netns onto itself. Were it to come later, the pins that are there by then
        // would exist twice, and containerd could not unlink them.
        run("ip", &["netns", "add", "first"]);
        run("ip", &["netns", "del", "first"]);
        Self { directory }
    }

    /// Hides the processes that are in other tests' worlds by now, with all the namespaces that are pinned there: a test that
    /// looks at the node hundreds of times need not wait for them each time.
    pub fn hide_others(&self) {
        self.hide_processes();
        self.hide_list();
    }

    /// Hides the kernel's own list of namespaces, which has those of all other tests: without its types podplumb cannot read it.
    pub fn hide_list(&self) {
        rustix::mount::mount_bind(self.empty(), "/sys/kernel/btf").expect("a mount");
    }

    /// An empty directory.
    fn empty(&self) -> PathBuf {
        let empty = self.path().join("hidden");
        std::fs::create_dir_all(&empty).expect("a directory");
        empty
    }

    /// The first half of [`hide_others`](World::hide_others), for tests that want the list.
    pub fn hide_processes(&self) {
        let empty = self.empty();
        let mounts = |process: &Path| std::fs::read_link(process.join("ns/mnt")).ok();
        // Only this thread is in the new mount namespace.
        let machine = mounts(Path::new("/proc/self")).expect("procfs");
        for process in std::fs::read_dir("/proc").expect("procfs").flatten() {
            let is_pid = process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
            if is_pid && mounts(&process.path()).is_some_and(|other| other != machine) {
                let _ = rustix::mount::mount_bind(&empty, process.path());
            }
        }
    }

    /// Lets a boot pass: what is on disk is older than it, /run is empty, and the kernel says another boot id and time.
    pub fn restart(&self) {
        std::thread::sleep(BEFORE_THE_BOOT);
        mount_tmpfs(Path::new("/run"));
        for path in ["/run/netns", "/run/lock"] {
            std::fs::create_dir_all(path).expect("a directory");
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let stat = format!("cpu  0 0 0\nbtime {}\nprocesses 1\n", now.as_secs());
        let boot_id = format!("{:08x}-0000-4000-8000-{:012x}\n", std::process::id(), now.as_millis());
        for (path, content) in [("/proc/stat", stat), ("/proc/sys/kernel/random/boot_id", boot_id)] {
            let file = self.path().join(path.rsplit('/').next().unwrap_or_default());
            std::fs::write(&file, content).expect("a file");
            rustix::mount::mount_bind(&file, path).expect("another begin of this boot");
        }
    }

    /// A directory on disk for the test's own files.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Connects the world with a router, `gw`, by ens3, and its default route leads there. The router knows 192.0.2.0/24 and nothing of
    /// pods.
    pub fn connect_uplink(&self, mtu_bytes: u32) {
        let mtu = mtu_bytes.to_string();
        for arguments in [
            &["netns", "add", "gw"][..],
            &["link", "add", "ens3", "mtu", &mtu, "type", "veth", "peer", "name", "eth0", "netns", "gw"],
            &["addr", "add", "192.0.2.10/24", "dev", "ens3"],
            &["link", "set", "ens3", "up"],
            &["-n", "gw", "addr", "add", "192.0.2.1/24", "dev", "eth0"],
            &["-n", "gw", "link", "set", "eth0", "up"],
            &["route", "add", "default", "via", "192.0.2.1"],
        ] {
            crate::run("ip", arguments);
        }
    }

    /// The directory of a set of plugins.
    pub fn plugin_dir(&self, plugins: Plugins) -> PathBuf {
        match plugins {
            Plugins::Reference => "/usr/lib/cni".into(),
            Plugins::Podplumb => {
                let dir = self.path().join("plugins");
                if !dir.exists() {
                    link_plugins(&dir, &binaries().join("podplumb-cni"));
                }
                dir
            }
        }
    }

    /// The directory of podplumb's plugins as they are shipped: static, optimised, stripped.
    pub fn shipped_dir(&self) -> PathBuf {
        let dir = self.path().join("shipped");
        if !dir.exists() {
            link_plugins(&dir, shipped());
        }
        dir
    }

    /// Writes the network that pods are in: a bridge with a gateway, masqueraded.
    pub fn network(&self, subnet: &str) {
        let conflist = serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": subnet }]] },
            }],
        });
        std::fs::write("/etc/cni/net.d/10-pods.conflist", conflist.to_string()).expect("a configuration");
    }
}

/// Links the binary to the name of each plugin that it is.
fn link_plugins(dir: &Path, binary: &Path) {
    std::fs::create_dir_all(dir).expect("a directory");
    for name in plugins::names() {
        std::os::unix::fs::symlink(binary, dir.join(name)).expect("a link");
    }
}

/// Mounts that daemons left below the world's directory would keep it from being removed.
impl Drop for World {
    fn drop(&mut self) {
        end_all();
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let mut below: Vec<&str> = points.filter(|point| Path::new(point).starts_with(self.path())).collect();
        below.sort_by_key(|point| std::cmp::Reverse(point.len()));
        for point in below {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Ends every process in the world, and those that came of one: runtimes leave shims, resolvers and containers behind when they are
/// ended, as they should, and with them the world's namespaces would stay.
fn end_all() {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let mounts = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let Ok(own) = std::fs::read_link("/proc/thread-self/ns/mnt") else { return };
    // The test's thread alone has left the machine's mounts; a world that could not be made is the machine's own.
    if mounts(std::process::id()).as_ref() == Some(&own) {
        return;
    }
    let parent = |pid: u32| sys::ProcessStat::read(pid).ok().map(|stat| stat.parent);
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let all: Vec<u32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    let mut ours: BTreeSet<u32> =
        all.iter().copied().filter(|pid| mounts(*pid).as_ref() == Some(&own)).collect();
    loop {
        let is_child =
            |pid: &u32| !ours.contains(pid) && parent(*pid).is_some_and(|parent| ours.contains(&parent));
        let children: Vec<u32> = all.iter().copied().filter(is_child).collect();
        if children.is_empty() {
            break;
        }
        ours.extend(children);
    }
    // The number may be another's by now; while the handle is open it is not. All are opened first: the children of one that ends
    // are init's.
    let handles = ours.iter().filter_map(|pid| {
        let handle = pidfd_open(Pid::from_raw(i32::try_from(*pid).ok()?)?, PidfdFlags::empty()).ok()?;
        let is_still =
            mounts(*pid).as_ref() == Some(&own) || parent(*pid).is_some_and(|parent| ours.contains(&parent));
        is_still.then_some(handle)
    });
    // A parent first, so that it starts nothing new.
    for handle in handles.collect::<Vec<_>>() {
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
}

/// Mounts an overlay over a directory, so that what is made in it is not made on the machine.
fn overlay_empty(directory: &Path, scratch: &Path) {
    let name = directory.display().to_string().replace('/', "_");
    let (upper, work) = (scratch.join(format!("{name}-upper")), scratch.join(format!("{name}-work")));
    for path in [&upper, &work] {
        std::fs::create_dir_all(path).expect("a directory");
    }
    let data =
        format!("lowerdir={},upperdir={},workdir={}", directory.display(), upper.display(), work.display());
    let data = std::ffi::CString::new(data).expect("no NUL");
    rustix::mount::mount("overlay", directory, "overlay", MountFlags::empty(), Some(data.as_c_str()))
        .unwrap_or_else(|errno| panic!("overlay on {}: {errno}", directory.display()));
}

fn mount_tmpfs(path: &Path) {
    rustix::mount::mount("podplumb-test", path, "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>)
        .unwrap_or_else(|errno| panic!("tmpfs on {}: {errno}", path.display()));
}

/// The directory with `podplumb` and `podplumb-cni`: that of `PODPLUMB_BIN_DIR`, or built once for all tests of this process.
pub fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        if let Some(directory) = std::env::var_os("PODPLUMB_BIN_DIR") {
            return directory.into();
        }
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        run(cargo, &["build", "--quiet", "--locked", "-p", "podplumb", "-p", "podplumb-cni"]);
        let own = std::env::current_exe().expect("a test has a path");
        let target = own.ancestors().nth(2).expect("target/debug/deps/test").to_owned();
        assert!(target.join("podplumb").exists(), "podplumb is not in {}", target.display());
        target
    })
}

/// The plugin binary as `make plugin` builds it: built once for all tests of this process.
pub fn shipped() -> &'static Path {
    static SHIPPED: OnceLock<PathBuf> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        if let Some(directory) = std::env::var_os("PODPLUMB_BIN_DIR") {
            return Path::new(&directory).join("podplumb-cni");
        }
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let arguments = [
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "plugin",
            "--target",
            &target,
            "-p",
            "podplumb-cni",
        ];
        run(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), &arguments);
        let own = std::env::current_exe().expect("a test has a path");
        let root = own.ancestors().nth(3).expect("target/debug/deps/test");
        root.join(target).join("plugin/podplumb-cni")
    })
}
