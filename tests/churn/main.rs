//! Pods come and go, some of them by force, while `reclaim --apply --grace 0s` runs in a loop: no live one is ever touched, and
//! nothing of the dead is left.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod direct;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use direct::{Direct, Node};
use podplumb_tests::{Containerd, Plugins, Podplumb, Random, Ruleset, Sandbox, World, require, seed, traces};

/// Workers that call CNI themselves, and how many pods each of them makes.
const DIRECT: (usize, usize) = (6, 240);
/// Workers that ask containerd.
const SANDBOXES: (usize, usize) = (2, 30);
/// Pods that a worker has at the same time.
const TOGETHER: usize = 4;

/// Whether somebody is there: nobody listens, so a living pod's kernel refuses the connection.
fn answers(address: IpAddr) -> bool {
    // The first packet may get lost while the neighbours find each other.
    (0..3).any(|_| {
        let refused = TcpStream::connect_timeout(&SocketAddr::new(address, 1), Duration::from_secs(2));
        refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

/// What a person would look at.
fn state(address: IpAddr) -> String {
    let show = |program: &str, arguments: &[&str]| {
        let output = podplumb_tests::output(program, arguments);
        format!("# {program} {}\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stdout))
    };
    let address = address.to_string();
    let journal = std::fs::read_dir("/var/lib/podplumb/journal").into_iter().flatten().flatten();
    let journal = journal.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default());
    let about: Vec<String> = journal
        .flat_map(|text| {
            text.lines().filter(|line| line.contains(&address)).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    [
        show("ip", &["neigh", "show", &address]),
        show("ip", &["-s", "link"]),
        show("bridge", &["fdb"]),
        about.join("\n"),
    ]
    .concat()
}

/// What happened.
#[derive(Debug, Default)]
struct Tally {
    adds: AtomicUsize,
    dels: AtomicUsize,
    killed: AtomicUsize,
    crashed: AtomicUsize,
    heartbeats: AtomicUsize,
    refused: AtomicUsize,
    reclaims: AtomicUsize,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// As runtimes call namespaces. What nothing but a name ties to a container could be anybody's.
fn name(worker: usize, number: usize) -> String {
    format!("cni-00000000-0000-0000-{worker:04}-{number:012}")
}

fn direct_worker(node: &Node, worker: usize, mut random: Random) {
    let mut pods: Vec<Direct> = Vec::new();
    for number in 0..DIRECT.1 {
        let doom = (random.below(20) == 0).then(|| random.moment());
        pods.extend(node.start(&name(worker, number), doom));
        for pod in &pods {
            assert!(
                answers(pod.address()),
                "{} was alive and does not answer\n{}",
                pod.name(),
                state(pod.address())
            );
            count(&node.tally.heartbeats);
        }
        std::thread::sleep(Duration::from_millis(random.below(100) as u64));
        if pods.len() == TOGETHER || number + 1 == DIRECT.1 {
            let end = if number + 1 == DIRECT.1 { 0 } else { random.below(TOGETHER) };
            while pods.len() > end {
                let pod = pods.swap_remove(random.below(pods.len()));
                match random.below(20) {
                    0 => node.crash(pod),
                    1 => node.end(pod, Some(random.moment())),
                    _ => node.end(pod, None),
                }
            }
        }
    }
}

/// Pods that crashed, of which containerd has yet to forget.
fn sandbox_worker(containerd: &Containerd, tally: &Tally, worker: usize, mut random: Random) -> Vec<Sandbox> {
    let (mut pods, mut crashed): (Vec<Sandbox>, Vec<Sandbox>) = (Vec::new(), Vec::new());
    for number in 0..SANDBOXES.1 {
        // With a grace period of nothing, a sandbox may be taken for abandoned between its ADD and its first process.
        match containerd.try_run_sandbox(&format!("sandbox-{worker}-{number}")) {
            Ok(pod) => pods.push(pod),
            Err(_) => count(&tally.refused),
        }
        count(&tally.adds);
        for pod in &pods {
            assert!(answers(pod.ip.parse().expect("an address")), "{pod:?} was alive and does not answer");
            count(&tally.heartbeats);
        }
        if pods.len() == TOGETHER {
            let pod = pods.swap_remove(random.below(TOGETHER));
            if random.below(4) == 0 {
                containerd.crash_sandbox(&pod);
                count(&tally.crashed);
                crashed.push(pod);
            } else {
                containerd.remove_sandbox(&pod);
                count(&tally.dels);
            }
        }
    }
    for pod in pods {
        containerd.remove_sandbox(&pod);
        count(&tally.dels);
    }
    crashed
}

/// Sets a flag when the churn is over, however it ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn reclaim_in_a_loop_touches_nothing_alive_and_leaves_nothing_dead() {
    if !require(&["containerd", "ctr", "runc", "busybox", "ip", "nsenter"]) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Podplumb, "10.66.0.0/16");
    let node = Node::new(&world);
    let mut ruleset = Ruleset::open();
    let usual = usual(&node, &containerd, &mut ruleset);

    let seed = seed();
    let over = AtomicBool::new(false);
    let tally = &node.tally;
    let crashed: Vec<Sandbox> = std::thread::scope(|scope| {
        let (node, containerd, over) = (&node, &containerd, &over);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                node.reclaim();
                count(&tally.reclaims);
            }
        });
        let _over = Over(over);
        let direct: Vec<_> = (0..DIRECT.0)
            .map(|worker| scope.spawn(move || direct_worker(node, worker, Random::new(seed, worker))))
            .collect();
        let sandboxes: Vec<_> = (0..SANDBOXES.0)
            .map(|worker| {
                let random = Random::new(seed, 100 + worker);
                scope.spawn(move || sandbox_worker(containerd, tally, worker, random))
            })
            .collect();
        direct
            .into_iter()
            .for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let crashed = sandboxes.into_iter().map(|worker| worker.join());
        crashed.flat_map(|crashed| crashed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    eprintln!("{tally:?}");
    let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    assert!(
        of(&tally.adds) + of(&tally.dels) >= 2_500 && of(&tally.reclaims) > 8,
        "this was no churn: {tally:?}"
    );
    assert!(of(&tally.refused) < SANDBOXES.0 * SANDBOXES.1 / 4, "containerd could not work: {tally:?}");

    for sandbox in &crashed {
        containerd.forget(sandbox);
    }
    containerd.restart();
    node.reclaim();
    // What looked alive at the last look, such as a port of a process that was just being reaped.
    node.reclaim();
    let mut left: Vec<String> = traces(&mut ruleset, []);
    // Locks stay, a fixed number of them.
    left.retain(|trace| !usual.contains(trace) && !trace.starts_with("file /run/podplumb/cni/"));
    left.extend(
        std::fs::read_dir("/run/netns").expect("pins").flatten().map(|pin| pin.path().display().to_string()),
    );
    assert!(
        left.is_empty(),
        "{} things are left: {left:#?}\n{}",
        left.len(),
        Podplumb::default().expect(0, &["leaks", "--all"])
    );
}

/// What a node has after pods came and went: the bridges, the table, the locks.
fn usual(node: &Node, containerd: &Containerd, ruleset: &mut Ruleset) -> Vec<String> {
    let sandbox = containerd.try_run_sandbox("first").expect("a sandbox");
    let pod = node.start(&name(9, 0), None).expect("a pod");
    assert!(answers(pod.address()) && answers(sandbox.ip.parse().expect("an address")));
    node.end(pod, None);
    containerd.remove_sandbox(&sandbox);
    traces(ruleset, [])
}
