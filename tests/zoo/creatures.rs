//! The 21, in the order of docs/holders.md.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use podplumb_tests::{Podplumb, run, wait_until};
use rustix::mount::OpenTreeFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use sys::NetNs;

use crate::cage::{Cage, Ending, reopened};

/// One way to keep a namespace, or its veth, alive.
pub(crate) struct Creature {
    /// Its name in podplumb's answers.
    pub(crate) kind: &'static str,
    /// What `leaks` has to say, with everything else speaking for an orphan.
    pub(crate) verdict: &'static str,
    /// Makes it.
    pub(crate) make: fn(&mut Cage) -> Ending,
}

const fn creature(kind: &'static str, verdict: &'static str, make: fn(&mut Cage) -> Ending) -> Creature {
    Creature { kind, verdict, make }
}

/// All of them. Pins in other mount namespaces come before the one here, which they would copy.
pub(crate) const CREATURES: [Creature; 21] = [
    creature("process", "in-use", process),
    creature("uninterruptible", "in-use", uninterruptible),
    creature("thread", "in-use", thread),
    creature("last-thread", "in-use", last_thread),
    creature("zombie", "orphan", zombie),
    creature("namespace-fd", "unknown", namespace_fd),
    creature("path-fd", "unknown", path_fd),
    creature("detached-mount", "unknown", detached_mount),
    creature("socket-fd", "in-use", socket_fd),
    creature("tun-fd", "in-use", tun_fd),
    creature("proc-file", "unknown", proc_file),
    creature("io-uring", "unknown", io_uring),
    creature("message", "unknown", message),
    creature("pin-elsewhere", "unknown", pin_elsewhere),
    creature("pin-in-fd", "unknown", pin_in_fd),
    creature("pin", "orphan", pin),
    creature("tcp-orphan", "unknown", tcp_orphan),
    creature("packets", "in-use", packets),
    creature("peer-elsewhere", "unknown", peer_elsewhere),
    creature("host-pair", "orphan", host_pair),
    creature("stale-file", "orphan", stale_file),
];

fn spawn(program: &str, arguments: &[&str]) -> Child {
    let command = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    command.unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// A program in the cage. `nsenter` becomes it, so the child is it.
fn inhabitant(cage: &Cage, command: &[&str]) -> Child {
    let net = format!("--net={}", cage.text_path());
    let arguments: Vec<&str> = [&[net.as_str()], command].concat();
    let child = spawn("nsenter", &arguments);
    let name: String = command[0].rsplit('/').next().unwrap_or_default().chars().take(15).collect();
    wait_until("the program runs", || {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
        comm.trim_end() == name
    });
    child
}

fn ended_by_kill(mut child: Child) -> Ending {
    let pid = Some(child.id());
    let remedy = move |_: &Podplumb| {
        child.kill().expect("a process");
        child.wait().expect("an end");
    };
    Ending { pid, remedy: Box::new(remedy) }
}

/// The state of a process.
fn state(pid: u32) -> Option<char> {
    sys::ProcessStat::read(pid).ok().map(|stat| stat.state)
}

fn process(cage: &mut Cage) -> Ending {
    let child = inhabitant(cage, &["sleep", "600"]);
    cage.open();
    ended_by_kill(child)
}

/// The namespace of this thread, by a path that means it in other processes too.
fn home() -> String {
    format!("/proc/{}/task/{}/ns/net", std::process::id(), rustix::thread::gettid().as_raw_nonzero())
}

const INHABITANT: &str = env!("CARGO_BIN_EXE_zoo-inhabitant");

fn uninterruptible(cage: &mut Cage) -> Ending {
    let child = inhabitant(cage, &[INHABITANT, "uninterruptible", &home()]);
    let pid = child.id();
    wait_until("it waits in the kernel", || state(pid) == Some('D'));
    let children = move || {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.trim().parse::<u32>().ok()
    };
    cage.open();
    let mut child = child;
    let remedy = move |_: &Podplumb| {
        // What it waits for ends, and so does it.
        podplumb_tests::kill(children().expect("a child"));
        child.wait().expect("an end");
    };
    Ending { pid: Some(pid), remedy: Box::new(remedy) }
}

fn thread(cage: &mut Cage) -> Ending {
    let (end, ended) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel::<()>();
    let netns = reopened(cage.netns());
    let thread = std::thread::spawn(move || {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&netns));
        let entered = NetNs::open(path).expect("a namespace").enter().expect("it can be entered");
        drop(netns);
        tell.send(()).expect("somebody waits");
        let _ = ended.recv();
        drop(entered);
    });
    told.recv().expect("a thread");
    cage.open();
    let remedy = move |_: &Podplumb| {
        drop(end);
        thread.join().expect("a thread");
    };
    Ending { pid: Some(std::process::id()), remedy: Box::new(remedy) }
}

fn last_thread(cage: &mut Cage) -> Ending {
    let child = inhabitant(cage, &[INHABITANT, "last-thread", &home()]);
    let pid = child.id();
    wait_until("its main thread has ended", || state(pid) == Some('Z'));
    cage.open();
    ended_by_kill(child)
}

fn zombie(cage: &mut Cage) -> Ending {
    let mut child = inhabitant(cage, &["sleep", "600"]);
    child.kill().expect("a process");
    let pid = child.id();
    wait_until("it is a zombie", || state(pid) == Some('Z'));
    cage.open();
    cage.question = Some(format!("pid:{pid}"));
    // It holds nothing: the namespace ends while it is still there.
    cage.expect_gone("zombie", std::time::Duration::from_secs(90));
    let remedy = move |_: &Podplumb| {
        child.wait().expect("an end");
    };
    Ending { pid: Some(pid), remedy: Box::new(remedy) }
}

fn namespace_fd(cage: &mut Cage) -> Ending {
    let held = reopened(cage.netns());
    cage.open();
    Ending::release(held)
}

fn path_fd(cage: &mut Cage) -> Ending {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&cage.netns().as_fd()));
    let held = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).expect("a descriptor");
    cage.open();
    Ending::release(held)
}

fn detached_mount(cage: &mut Cage) -> Ending {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let held = rustix::mount::open_tree(rustix::fs::CWD, cage.path(), flags).expect("open_tree()");
    cage.open();
    Ending::release(held)
}

fn socket_fd(cage: &mut Cage) -> Ending {
    let held = cage.inside(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    cage.open();
    Ending::release(held)
}

fn tun_fd(cage: &mut Cage) -> Ending {
    let held = cage.inside(|| sys::Tap::new("tap0", false)).expect("/dev/net/tun");
    cage.open();
    Ending::release(held)
}

fn proc_file(cage: &mut Cage) -> Ending {
    // Of a process that is gone by the time that anybody looks.
    let mut child = inhabitant(cage, &["sleep", "600"]);
    let held = File::open(format!("/proc/{}/net/dev", child.id())).expect("a file");
    child.kill().expect("a process");
    child.wait().expect("an end");
    cage.open();
    Ending::release(held)
}

fn io_uring(cage: &mut Cage) -> Ending {
    let held = sys::zoo::ring_with(cage.netns().as_fd()).expect("io_uring");
    cage.open();
    Ending::release(held)
}

fn message(cage: &mut Cage) -> Ending {
    let (sender, receiver) = UnixStream::pair().expect("sockets");
    send(&sender, cage.netns().as_fd());
    cage.open();
    Ending::release((sender, receiver))
}

/// A message with a descriptor, which waits for whoever reads the other end.
pub(crate) fn send(sender: &UnixStream, descriptor: BorrowedFd<'_>) {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    rustix::net::sendmsg(sender, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).expect("sent");
}

fn pin_elsewhere(cage: &mut Cage) -> Ending {
    let mut child = spawn("unshare", &["--mount", "--propagation", "private", "sleep", "600"]);
    let pid = child.id();
    wait_until("sleep runs", || {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
    });
    cage.unmount();
    let path = cage.text_path();
    cage.file = Some(cage.path());
    let remedy = move |_: &Podplumb| {
        run("nsenter", &["-t", &pid.to_string(), "-m", "umount", &path]);
        child.kill().expect("a process");
        child.wait().expect("an end");
        std::fs::remove_file(path).expect("a file");
    };
    Ending { pid: Some(pid), remedy: Box::new(remedy) }
}

fn pin_in_fd(cage: &mut Cage) -> Ending {
    // A copy of this mount namespace, pin included, in which nobody is left.
    let maker = std::thread::spawn(|| {
        sys::isolate_thread().expect("a mount namespace");
        File::open("/proc/thread-self/ns/mnt").expect("a descriptor")
    });
    let held = maker.join().expect("a thread");
    cage.unmount();
    cage.file = Some(cage.path());
    let path = cage.path();
    let remedy = move |_: &Podplumb| {
        drop(held);
        std::fs::remove_file(path).expect("a file");
    };
    Ending { pid: Some(std::process::id()), remedy: Box::new(remedy) }
}

fn pin(cage: &mut Cage) -> Ending {
    cage.leave_pinned();
    let path = cage.path();
    cage.file = Some(path.clone());
    let remedy = move |_: &Podplumb| {
        run("umount", &[&path.display().to_string()]);
        std::fs::remove_file(path).expect("a file");
    };
    Ending { pid: None, remedy: Box::new(remedy) }
}

/// Addresses on both ends of the veth.
fn addressed(cage: &Cage, net: u8) {
    run("ip", &["addr", "add", &format!("10.77.{net}.1/24"), "dev", &cage.veth()]);
    cage.inside(|| {
        run("ip", &["addr", "add", &format!("10.77.{net}.2/24"), "dev", "eth0"]);
    });
}

/// A connection that was closed with bytes that the other end has no room for. The other end is to be kept for as long.
pub(crate) fn leave_tcp_orphan(cage: &Cage, net: u8) -> TcpStream {
    addressed(cage, net);
    let listener = TcpListener::bind(format!("10.77.{net}.1:0")).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let mut stream = cage.inside(|| TcpStream::connect(address)).expect("a connection");
    let (silent, _) = listener.accept().expect("a connection");
    stream.set_nonblocking(true).expect("a mode");
    wait_until("the other end's window is shut", || {
        let full = stream.write(&[0; 65536]).is_err();
        if full {
            // What is on its way arrives, and may make room.
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        full && stream.write(&[0; 65536]).is_err()
    });
    silent
}

fn tcp_orphan(cage: &mut Cage) -> Ending {
    let silent = leave_tcp_orphan(cage, 1);
    cage.open();
    let veth = cage.veth();
    let remedy = move |podplumb: &Podplumb| {
        let said = podplumb.expect(0, &["holders", &veth, "--kill-orphans"]);
        assert!(said.contains("\nended 10.77.1.2:"), "{said}");
        drop(silent);
    };
    Ending { pid: None, remedy: Box::new(remedy) }
}

fn packets(cage: &mut Cage) -> Ending {
    addressed(cage, 2);
    let neighbour = ["neigh", "add", "10.77.2.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0"];
    cage.inside(|| {
        run("ip", &neighbour);
        run(
            "tc",
            &["qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "8bit", "burst", "1600", "limit", "1m"],
        );
        let socket = UdpSocket::bind("10.77.2.2:0").expect("a socket");
        for _ in 0..8 {
            socket.send_to(&[0; 1400], "10.77.2.1:9").expect("sent");
        }
    });
    let found = cage.identity();
    cage.open();
    let remedy = move |_: &Podplumb| {
        let (Some(id), inode) = found else { panic!("this kernel finds no namespace by its id") };
        let netns = NetNs::by_id(id, inode).expect("the namespace lives");
        netns.run(|| run("tc", &["qdisc", "del", "dev", "eth0", "root"])).expect("it can be entered");
    };
    Ending { pid: None, remedy: Box::new(remedy) }
}

fn peer_elsewhere(cage: &mut Cage) -> Ending {
    let other = NetNs::create().expect("a namespace");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&other.as_fd());
    let place = format!("/proc/{}/fd/{fd}", std::process::id());
    cage.inside(|| {
        run("ip", &["link", "set", "eth0", "netns", &place]);
    });
    cage.open();
    Ending { pid: None, remedy: Box::new(move |_| drop(other)) }
}

fn host_pair(cage: &mut Cage) -> Ending {
    // An ADD that ended between making the veth and moving its end.
    let this = home();
    let end = format!("{}p", cage.veth());
    cage.inside(|| {
        run("ip", &["link", "set", "eth0", "name", &end, "netns", &this]);
    });
    cage.open();
    let veth = cage.veth();
    let remedy = move |_: &Podplumb| {
        run("ip", &["link", "del", &veth]);
    };
    Ending { pid: None, remedy: Box::new(remedy) }
}

fn stale_file(cage: &mut Cage) -> Ending {
    cage.open();
    let path = cage.path();
    std::fs::write(&path, "").expect("a file");
    (cage.file, cage.question) = (Some(path.clone()), Some(path.display().to_string()));
    cage.label = Some(path.display().to_string());
    Ending { pid: None, remedy: Box::new(move |_| std::fs::remove_file(path).expect("a file")) }
}
