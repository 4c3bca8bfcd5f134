//! A node with the living and the dead: containerd, Docker, and pods that were wired by calls of CNI.
//!
//! The living are what nodes have; the dead are what crashed runtimes leave. All of them are made by the reference plugins.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use podplumb_tests::{Containerd, Docker, Plugins, Podplumb, Sandbox, World, output, run, wait_until};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::animal::{Animal, Piece};
use crate::recipe::Recipe;

/// The node. Its fields are dropped in this order: the daemons before the world that they are in.
pub(crate) struct Zoo {
    pub(crate) animals: Vec<Animal>,
    keepers: Vec<Keeper>,
    containerd: Containerd,
    _docker: Docker,
    _world: World,
}

/// What keeps a living namespace alive.
enum Keeper {
    Process(Child),
    Thread(Option<mpsc::Sender<()>>, Option<JoinHandle<()>>),
    Socket(#[expect(dead_code, reason = "it is held, not used")] UdpSocket),
    Descriptor(#[expect(dead_code, reason = "it is held, not used")] OwnedFd),
}

impl Drop for Keeper {
    fn drop(&mut self) {
        match self {
            Keeper::Process(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Keeper::Thread(sender, thread) => {
                drop(sender.take());
                thread.take().into_iter().for_each(|thread| drop(thread.join()));
            }
            Keeper::Socket(_) | Keeper::Descriptor(_) => {}
        }
    }
}

impl Zoo {
    pub(crate) fn build() -> Self {
        let world = World::enter();
        // Before there are daemons of our own. And the addresses are ones that no other test on this machine has: a lease whose
        // address somebody has is in use.
        world.hide_others();
        let mut containerd = Containerd::start(&world, Plugins::Reference, "10.215.0.0/24");
        let docker = Docker::start(&world);
        let routed = json!({ "cniVersion": "1.0.0", "name": "routed", "plugins": [{
            "type": "ptp", "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.216.0.0/24" }]] },
        }]});
        std::fs::write("/etc/cni/net.d/20-routed.conflist", routed.to_string()).expect("a configuration");
        let crashed = containerd.run_sandbox("crashed");
        let crashed_pieces = of_sandbox(&crashed);
        containerd.crash_sandbox(&crashed);
        containerd.forget_sandbox(&crashed);
        let mut zoo =
            Self { animals: Vec::new(), keepers: Vec::new(), containerd, _docker: docker, _world: world };
        zoo.living();
        zoo.dead(
            "crashed",
            "a pod of containerd's that was killed with its shim, and forgotten",
            crashed_pieces,
        );
        zoo.dying();
        zoo
    }

    /// Has a recipe at it.
    pub(crate) fn apply(&mut self, recipe: &Recipe) {
        if recipe.restart {
            return self.containerd.restart();
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:/usr/sbin:/sbin:{path}", podplumb_tests::binaries().display());
        let done =
            Command::new("sh").args(["-c", recipe.script]).env("PATH", path).stdin(Stdio::null()).output();
        let done = done.expect("a shell");
        println!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        // The kernel takes namespaces apart after the call that ended them.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }

    fn add(&mut self, alive: bool, name: &'static str, what: &'static str, pieces: Vec<Piece>) {
        for piece in &pieces {
            assert!(matches!(piece, Piece::Container(_)) || piece.is_there(), "{name}: {piece:?}");
        }
        self.animals.push(Animal { name, what, alive, pieces });
    }

    fn alive(&mut self, name: &'static str, what: &'static str, pieces: Vec<Piece>) {
        self.add(true, name, what, pieces);
    }

    fn dead(&mut self, name: &'static str, what: &'static str, pieces: Vec<Piece>) {
        self.add(false, name, what, pieces);
    }

    fn living(&mut self) {
        let pod = self.containerd.run_sandbox("pod");
        let mut pieces = of_sandbox(&pod);
        pieces.push(Piece::Traffic { from: pod.netns.into(), to: "10.215.0.1".into() });
        self.alive("pod", "a pod of containerd's", pieces);

        let pod = self.containerd.run_sandbox("quiet");
        down(Path::new(&pod.netns));
        self.alive("quiet", "one whose eth0 is down", of_sandbox(&pod));

        let pod = Wired::new("routed", 1);
        self.keepers.push(inhabitant(&pod.netns));
        let mut pieces = pod.pieces();
        pieces.push(Piece::Traffic { from: pod.netns.clone(), to: "10.216.0.1".into() });
        self.alive("routed", "a container in a routed network (ptp): its veth has no master", pieces);

        let pod = Wired::new("routed", 2).renamed("cali0123456789a");
        self.keepers.push(inhabitant(&pod.netns));
        let mut pieces = pod.pieces();
        pieces.push(Piece::Traffic { from: pod.netns.clone(), to: "10.216.0.1".into() });
        self.alive("calico", "one whose veth is called otherwise than veth…", pieces);

        let pod = Wired::new("pods", 3);
        let netns = sys::NetNs::open(&pod.netns).expect("a namespace");
        let (sender, receiver) = mpsc::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let entered = netns.enter().expect("root may enter");
            drop(netns);
            ready.send(()).expect("the test waits");
            let _ = receiver.recv();
            drop(entered);
        });
        is_ready.recv().expect("it enters");
        self.keepers.push(Keeper::Thread(Some(sender), Some(thread)));
        self.alive("thread", "one in which a single thread of a proxy works", pod.pieces());

        let pod = Wired::new("pods", 4);
        let netns = sys::NetNs::open(&pod.netns).expect("a namespace");
        let socket = netns.run(|| UdpSocket::bind("0.0.0.0:53")).expect("a thread").expect("a socket");
        drop(netns);
        self.keepers.push(Keeper::Socket(socket));
        self.alive("socket", "one on whose socket a process elsewhere serves", pod.pieces());

        let pod = Wired::new("pods", 5);
        // By way of the pin: its link in /proc is then the pin's path, and names no namespace.
        let descriptor = rustix::fs::open(&pod.netns, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        self.keepers.push(Keeper::Descriptor(descriptor.expect("a descriptor")));
        self.alive(
            "descriptor",
            "one that a process holds by an O_PATH descriptor, to enter it later",
            pod.pieces(),
        );

        let pod = Wired::new("pods", 6);
        let mut pieces = pod.pieces();
        let pid = self.elsewhere(&pod);
        for piece in &mut pieces {
            if let Piece::Pin { seen_by, .. } = piece {
                *seen_by = Some(pid);
            }
        }
        self.alive("elsewhere", "one that is pinned in another mount namespace only", pieces);

        self.router();
        let backend = ["network", "create", "backend"];
        run("docker", &backend);
        run(
            "docker",
            &["create", "--name", "batch", "--network", "backend", "busybox:1", "/bin/sleep", "1000"],
        );
        let what = "a stopped container of Docker's, with a network of its own";
        self.alive("batch", what, vec![Piece::Container("batch")]);
    }

    /// Moves a pod's pin to a mount namespace that a process has to itself.
    fn elsewhere(&mut self, pod: &Wired) -> u32 {
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare");
        let pid = child.id();
        self.keepers.push(Keeper::Process(child));
        wait_until("it sleeps", || {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
        });
        // The file stays: to unlink it would end the mount over there as well.
        rustix::mount::unmount(&pod.netns, rustix::mount::UnmountFlags::DETACH).expect("it was mounted");
        pid
    }

    /// A namespace that was made by hand, without a process, through which others reach each other.
    fn router(&mut self) {
        run("ip", &["netns", "add", "router"]);
        run("ip", &["link", "add", "left", "type", "veth", "peer", "name", "eth0", "netns", "router"]);
        run("ip", &["link", "set", "left", "up"]);
        run("ip", &["addr", "add", "10.1.0.2/24", "dev", "left"]);
        run("ip", &["-n", "router", "addr", "add", "10.1.0.1/24", "dev", "eth0"]);
        run("ip", &["-n", "router", "link", "set", "eth0", "up"]);
        let netns = PathBuf::from("/run/netns/router");
        let pieces = vec![
            Piece::Veth("left".into()),
            pin(&netns),
            Piece::Traffic { from: "/proc/self/ns/net".into(), to: "10.1.0.1".into() },
        ];
        self.alive("router", "a router in a namespace made by hand: no process, no socket", pieces);
    }

    fn dying(&mut self) {
        let pod = Wired::new("routed", 11);
        self.dead("routed-dead", "a pinned one in a routed network: no master, UP", pod.pieces());

        let pod = Wired::new("pods", 12);
        down(&pod.netns);
        self.dead("quiet-dead", "a pinned one whose eth0 is down", pod.pieces());

        let pod = Wired::new("routed", 13).renamed("cali0123456789b");
        self.dead("calico-dead", "a pinned one whose veth is called otherwise", pod.pieces());

        let pod = Wired::new("pods", 14);
        run("ip", &["netns", "delete", &pod.name]);
        wait_until("its veth is gone", || !Piece::Veth(pod.veth.clone()).is_there());
        let pieces = vec![Piece::Lease(pod.lease.clone()), Piece::Cache(pod.cache.clone())];
        self.dead("lease", "a lease and a cache entry, whose namespace is gone", pieces);

        let file = PathBuf::from("/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e99");
        File::create(&file).expect("a file");
        self.dead("file", "an empty file in /run/netns that pins nothing", vec![Piece::File(file)]);
    }
}

/// A container that was wired by CNI calls, as other runtimes do it.
struct Wired {
    name: String,
    netns: PathBuf,
    veth: String,
    lease: PathBuf,
    cache: PathBuf,
}

impl Wired {
    fn new(network: &str, number: u8) -> Self {
        let name = format!("cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e{number:02}");
        let id = format!("{number:02}").repeat(32);
        run("ip", &["netns", "add", &name]);
        let netns = PathBuf::from("/run/netns").join(&name);
        let call =
            ["cni", "add", network, &id, &netns.display().to_string(), "--exec", "--bin-dir", "/usr/lib/cni"];
        let result: serde_json::Value =
            serde_json::from_str(&Podplumb::default().expect(0, &call)).expect("a result");
        let address =
            result["ips"][0]["address"].as_str().expect("an address").split('/').next().unwrap_or_default();
        Self {
            veth: host_end(&netns),
            lease: format!("/var/lib/cni/networks/{network}/{address}").into(),
            cache: format!("/var/lib/cni/results/{network}-{id}-eth0").into(),
            name,
            netns,
        }
    }

    fn renamed(mut self, name: &str) -> Self {
        run("ip", &["link", "set", &self.veth, "down"]);
        run("ip", &["link", "set", &self.veth, "name", name]);
        run("ip", &["link", "set", name, "up"]);
        // The route went with the link's going down.
        let address = self.lease.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let _ = output("ip", &["route", "replace", address, "dev", name]);
        self.veth = name.to_owned();
        self
    }

    fn pieces(&self) -> Vec<Piece> {
        let (lease, cache) = (Piece::Lease(self.lease.clone()), Piece::Cache(self.cache.clone()));
        let pin = Piece::Pin { path: self.netns.clone(), inode: inode(&self.netns), seen_by: None };
        vec![Piece::Veth(self.veth.clone()), pin, lease, cache]
    }
}

fn of_sandbox(sandbox: &Sandbox) -> Vec<Piece> {
    let netns = PathBuf::from(&sandbox.netns);
    vec![
        Piece::Veth(host_end(&netns)),
        pin(&netns),
        Piece::Lease(format!("/var/lib/cni/networks/pods/{}", sandbox.ip).into()),
        Piece::Cache(format!("/var/lib/cni/results/pods-{}-eth0", sandbox.id).into()),
    ]
}

fn pin(path: &Path) -> Piece {
    Piece::Pin { path: path.to_owned(), inode: inode(path), seen_by: None }
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).expect("a pin").ino()
}

/// The host's end of a pod's eth0.
fn host_end(netns: &Path) -> String {
    let netns = format!("--net={}", netns.display());
    let inside = run("nsenter", &[&netns, "ip", "-o", "link", "show", "eth0"]);
    // "2: eth0@if7: …": the index of the peer here.
    let index = inside.split("@if").nth(1).and_then(|rest| rest.split(':').next()).expect("a peer");
    let links = run("ip", &["-o", "link"]);
    let own = links.lines().find_map(|line| line.strip_prefix(&format!("{index}: "))).expect("its peer");
    own.split(['@', ':']).next().expect("a name").to_owned()
}

fn down(netns: &Path) {
    run("nsenter", &[&format!("--net={}", netns.display()), "ip", "link", "set", "eth0", "down"]);
}

fn inhabitant(netns: &Path) -> Keeper {
    let flag = format!("--net={}", netns.display());
    let child =
        Command::new("nsenter").args([&flag, "sleep", "600"]).stdin(Stdio::null()).spawn().expect("nsenter");
    let pid = child.id();
    wait_until("it is in its namespace", || {
        std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|stat| stat.ino() == inode(netns))
    });
    Keeper::Process(child)
}
