//! `reclaim --apply` that is killed, or has a system call refused: the next run finishes what it began, nothing that lives is
//! touched, and what was saved can be put back.
//!
//! Killed between two system calls that change nothing, it leaves what it leaves when it is killed at the next one that does: so
//! those that may change something are tried, each of them. Refused are also others, since a look may fail as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use podplumb_tests::{
    Fault, Plugins, Pod, Podplumb, Ruleset, Traced, World, binaries, output, require, run, run_traced_until,
};
use serde_json::Value;
use sys::trace::{End, SystemCall};

use crate::REFUSALS;
use crate::trial::may_be_fatal;

/// A look takes 20 ms, on a machine where many tests run at once some seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of the system calls that only read, one in so many is refused.
const SAMPLE: usize = 61;
const LEASES: &str = "/var/lib/cni/networks/pods";
const CACHE: &str = "/var/lib/cni/results";
const RECORDS: &str = "/run/podplumb/attachments";
const DEAD: &str = "dead0c1e5b9a3f4d22";
const ALIVE: &str = "a11e0c1e5b9a3f4d22";

/// A node with one pod that lives. In each trial there is one that leaked.
struct Node {
    bin_dir: String,
    podplumb: Podplumb,
    alive: Pod,
    /// Somebody in the live one's namespace.
    _socket: std::net::UdpSocket,
    traces_of_alive: BTreeMap<PathBuf, Vec<u8>>,
}

impl Node {
    fn new(world: &World) -> Self {
        world.network("10.66.0.0/24");
        let bin_dir = world.plugin_dir(Plugins::Podplumb).display().to_string();
        let podplumb = Podplumb::default();
        let alive = Pod::new(&name(0xa));
        add(&bin_dir, ALIVE, 0xa);
        let socket = alive.netns.run(|| std::net::UdpSocket::bind("0.0.0.0:0"));
        let socket = socket.expect("it can be entered").expect("a socket");
        let traces_of_alive = files(ALIVE);
        assert_eq!(traces_of_alive.len(), 3, "lease, cache entry, record: {traces_of_alive:?}");
        Self { bin_dir, podplumb, alive, _socket: socket, traces_of_alive }
    }

    fn reclaim(&self) -> Command {
        let mut command = Command::new(binaries().join("podplumb"));
        command.args(["reclaim", "--apply", "--grace", "0s", "--runtime", "none", "--cni-bin-dir"]);
        command.arg(&self.bin_dir);
        command
    }

    /// One trial; says at which call the fault happened.
    fn trial(
        &self,
        fault: Fault,
        is_it: impl FnMut(&SystemCall) -> bool,
    ) -> Result<Option<SystemCall>, String> {
        let _ = std::fs::remove_dir_all("/var/lib/podplumb");
        // Pinned, and open nowhere. A new interface with IPv6 sends for a while, which says that somebody is there.
        run("ip", &["netns", "add", &name(0xd)]);
        let netns = sys::NetNs::open(Path::new("/run/netns").join(name(0xd))).expect("it is there");
        for which in ["all", "default"] {
            let setting = format!("net/ipv6/conf/{which}/disable_ipv6");
            netns.run(|| sys::write_sysctl(&setting, "1")).expect("it can be entered").expect("a setting");
        }
        drop(netns);
        add(&self.bin_dir, DEAD, 0xd);
        let before = files(DEAD);
        let call = run_traced_until(&mut self.reclaim(), b"", PATIENCE, Some(fault), is_it);
        let result = self.judge(&call, fault).and_then(|()| self.finish(&before));
        let at = call.at;
        result
            .map(|()| at)
            .map_err(|why| format!("{fault:?} at {at:?}: {why}\n{}{}", call.stdout, call.stderr))
    }

    /// Removes what a trial left that went wrong: it is not the next one's fault.
    fn scrub(&self) {
        let _ = self.podplumb.run(&["cni", "del", "pods", DEAD, "--bin-dir", &self.bin_dir]);
        let _ = output("ip", &["netns", "del", &name(0xd)]);
        files(DEAD).into_keys().for_each(|path| drop(std::fs::remove_file(path)));
    }

    fn judge(&self, call: &Traced, fault: Fault) -> Result<(), String> {
        journal()?;
        match (call.end, call.at, fault) {
            _ if call.hung => Err("it hangs".into()),
            (_, Some(_), Fault::Kill) | (End::Exited(0 | 1), ..) => Ok(()),
            // A thread that cannot be started, memory that is not given: it ends as if it had been killed.
            (_, Some(refused), _) if may_be_fatal(&refused) || is_taken_to_work(&refused) => Ok(()),
            (end, ..) => Err(format!("{end:?}")),
        }?;
        self.is_alive()
    }

    /// The next run leaves nothing, touches nothing that lives, and all that there was on disk can be put back.
    fn finish(&self, before: &BTreeMap<PathBuf, Vec<u8>>) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let next = output_of(self.reclaim());
            let left = left();
            if left.is_empty() {
                break;
            }
            // Other tests' namespaces come and go: while one cannot be read, a pod without its own might be in there.
            if start.elapsed() > PATIENCE {
                return Err(format!("after the next run there is {left:?}: {next}"));
            }
        }
        self.is_alive()?;
        let mut runs: Vec<String> = Vec::new();
        for line in journal()? {
            let run =
                line["id"].as_str().unwrap_or_default().split('.').next().unwrap_or_default().to_owned();
            if !runs.contains(&run) {
                runs.push(run);
            }
        }
        // What one run cannot put back, another can: killed before its copies, it has none.
        for run in &runs {
            let _ = self.podplumb.run(&["undo", run]);
        }
        for (path, content) in before.iter().filter(|(path, _)| !path.starts_with(RECORDS)) {
            if std::fs::read(path).ok().as_ref() != Some(content) {
                return Err(format!("undo of {runs:?} does not bring {} back", path.display()));
            }
            std::fs::remove_file(path).map_err(|error| error.to_string())?;
        }
        let strange: Vec<PathBuf> =
            list(CACHE).into_iter().chain(list(LEASES)).filter(|path| is_strange(path)).collect();
        if strange.is_empty() { Ok(()) } else { Err(format!("there are {strange:?}")) }
    }

    fn is_alive(&self) -> Result<(), String> {
        let links = self.alive.netns.run(|| {
            let mut socket = netlink::Socket::route().expect("rtnetlink");
            netlink::link::list(&mut socket, None).expect("links").iter().any(|link| link.name == "eth0")
        });
        if !links.expect("it can be entered") {
            return Err("the live pod has lost its interface".into());
        }
        match files(ALIVE) == self.traces_of_alive && Path::new("/run/netns").join(name(0xa)).exists() {
            true => Ok(()),
            false => Err(format!("the live pod had {:?}, and has {:?}", self.traces_of_alive, files(ALIVE))),
        }
    }
}

fn name(n: usize) -> String {
    format!("cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3e{n:04x}")
}

/// Attaches a pod: veth, lease, cache entry and record.
fn add(bin_dir: &str, id: &str, n: usize) {
    Podplumb::default().expect(0, &["cni", "add", "pods", id, &name(n), "--bin-dir", bin_dir]);
}

fn list(directory: &str) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Neither of a pod nor one of host-local's own: a temporary file, say.
fn is_strange(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.')
}

/// What is on disk about a container.
fn files(id: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = [LEASES, CACHE, RECORDS].into_iter().flat_map(list);
    let read = all.filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?)));
    read.filter(|(path, content)| {
        path.to_string_lossy().contains(id) || String::from_utf8_lossy(content).contains(id)
    })
    .collect()
}

/// What is left of the leaked pod.
fn left() -> Vec<String> {
    let mut left: Vec<String> = files(DEAD).into_keys().map(|path| path.display().to_string()).collect();
    left.extend(
        list("/run/netns")
            .into_iter()
            .map(|path| path.display().to_string())
            .filter(|p| p.ends_with(&name(0xd))),
    );
    let links = String::from_utf8_lossy(&output("ip", &["-d", "link"]).stdout).into_owned();
    left.extend(links.lines().filter(|line| line.contains(DEAD)).map(str::to_owned));
    left.extend(Ruleset::open().list().into_iter().filter(|element| element.contains(DEAD)));
    left
}

/// The journal's whole lines; each can be read.
fn journal() -> Result<Vec<Value>, String> {
    let text = std::fs::read("/var/lib/podplumb/journal").unwrap_or_default();
    let lines = sys::whole_lines(&text).split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|error| format!("the journal: {error}"))).collect()
}

fn output_of(mut command: Command) -> String {
    let output = command.output().expect("podplumb");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether a system call may change something that others see.
fn may_change(call: &SystemCall) -> bool {
    let numbers = [
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_ftruncate,
        libc::SYS_flock,
        libc::SYS_linkat,
        libc::SYS_unlinkat,
        libc::SYS_mkdirat,
        libc::SYS_renameat,
        libc::SYS_umount2,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_link,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename,
    ];
    numbers.iter().any(|number| number.cast_unsigned() == call.number) || is_clone(call)
}

/// Whether it is one on which a change depends.
fn prepares(call: &SystemCall) -> bool {
    let numbers = [libc::SYS_socket, libc::SYS_setns, libc::SYS_pipe2, libc::SYS_wait4, libc::SYS_waitid];
    numbers.iter().any(|number| number.cast_unsigned() == call.number)
}

/// What threads are made of, and closing a directory, which Rust's library takes to work.
fn is_taken_to_work(call: &SystemCall) -> bool {
    let numbers = [libc::SYS_futex, libc::SYS_close];
    is_clone(call) || numbers.iter().any(|number| number.cast_unsigned() == call.number)
}

fn is_clone(call: &SystemCall) -> bool {
    let numbers = [
        libc::SYS_clone,
        libc::SYS_clone3,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_vfork,
    ];
    numbers.iter().any(|number| number.cast_unsigned() == call.number)
}

/// Tries each system call that matters, or every n-th of them, until the program ends before.
fn try_all(fault: Fault) -> Vec<String> {
    let world = World::enter();
    world.hide_others();
    let node = Node::new(&world);
    let mut found = Vec::new();
    let wanted = std::env::var("PODPLUMB_EVERY").ok().and_then(|n| n.parse().ok());
    // A trial takes most of a second: these are a minute or two. Each fault begins elsewhere, so that together they meet more calls.
    let (every, mut number) = match fault {
        Fault::Kill => (wanted.unwrap_or(2), 0),
        Fault::Refuse(errno) => {
            let every = wanted.unwrap_or(23);
            (every, errno.raw_os_error().unsigned_abs() as usize % every)
        }
    };
    let mut trials = 0;
    loop {
        let (mut at, mut reads) = (0, 0);
        let is_it = |call: &SystemCall| {
            let counts = match (may_change(call), fault) {
                (true, _) => true,
                (false, Fault::Kill) => false,
                (false, Fault::Refuse(_)) => {
                    reads += 1;
                    prepares(call) || reads % SAMPLE == 0
                }
            };
            at += usize::from(counts);
            counts && at > number
        };
        match node.trial(fault, is_it) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                found.push(format!("call {number}: {error}"));
                node.scrub();
            }
        }
        assert!(found.len() < 20, "too much goes wrong:\n{}", found.join("\n"));
        trials += 1;
        number += every;
    }
    eprintln!("reclaim, {fault:?}: {trials} trials");
    assert!(number > 60, "{fault:?}: {number} system calls are too few for a reclaim");
    found
}

fn each(faults: &[Fault]) {
    if !require(&["ip"]) {
        return;
    }
    let found: Vec<String> = std::thread::scope(|scope| {
        let started: Vec<_> = faults.iter().map(|fault| scope.spawn(|| try_all(*fault))).collect();
        started.into_iter().flat_map(|one| one.join().unwrap_or_else(|_| vec!["a panic".into()])).collect()
    });
    assert!(found.is_empty(), "{} trials went wrong:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_reclaim_that_is_killed_is_finished_by_the_next() {
    each(&[Fault::Kill]);
}

#[test]
fn a_reclaim_with_a_refused_system_call_leaves_what_the_next_can_finish() {
    each(&REFUSALS.map(Fault::Refuse));
}
