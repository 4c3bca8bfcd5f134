//! Entering a pod: `podplumb exec` against `nsenter`, by a pid, a path, and a pod's name.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use podplumb_tests::{Containerd, Plugins, World, binaries};

use crate::world::Times;

const ROUNDS: usize = 200;
/// Other pods on the node.
const PODS: usize = 30;

pub(crate) fn run(world: &World) {
    println!("\nentering a pod and running `true`, median of {ROUNDS}, milliseconds");
    println!("{:<28} {:>9} {:>9} {:>9}", "", "podplumb", "nsenter", "more");
    let mut containerd = Containerd::start(world, Plugins::Podplumb, "10.81.0.0/24");
    let first = containerd.run_sandbox("web-0");
    let by_first = ["-t", &first.pid.to_string(), "-n", "true"];
    line("a pod's name, 1 pod", &["exec", "web-0", "--", "true"], &by_first);
    let others = (1..PODS).map(|n| containerd.run_sandbox(&format!("web-{n}")));
    let pods: Vec<_> = others.chain([first]).collect();
    let pod = &pods[0];
    let pid = pod.pid.to_string();
    let by_pid = ["-t", &pid, "-n", "true"];
    line("pid:N", &["exec", &format!("pid:{pid}"), "--", "true"], &by_pid);
    line("N", &["exec", &pid, "--", "true"], &by_pid);
    line("/run/netns/…", &["exec", &pod.netns, "--", "true"], &[&format!("--net={}", pod.netns), "true"]);
    let inode = inode(Path::new(&pod.netns));
    line("inode:N", &["exec", &format!("inode:{inode}"), "--", "true"], &by_pid);
    line(
        "pid:N --all",
        &["exec", &format!("pid:{pid}"), "--all", "--", "sh", "-c", ":"],
        &["-t", &pid, "-a", "sh", "-c", ":"],
    );
    line(&format!("a pod's name, {PODS} pods"), &["exec", "web-1", "--", "true"], &by_pid);
    for pod in &pods {
        containerd.remove_sandbox(pod);
    }
}

fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    path.metadata().expect("a namespace").ino()
}

fn line(what: &str, ours: &[&str], theirs: &[&str]) {
    let (mut podplumb, mut nsenter) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        podplumb.measure(|| done(binaries().join("podplumb"), ours));
        nsenter.measure(|| done("nsenter", theirs));
    }
    let (p, n) = (podplumb.median_ms(), nsenter.median_ms());
    println!("{what:<28} {p:>9.2} {n:>9.2} {:>+9.2}", p - n);
}

fn done(program: impl AsRef<Path>, arguments: &[&str]) {
    let mut child: Child = Command::new(program.as_ref())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    assert!(child.wait().expect("it ends").success(), "{arguments:?}");
}
