//! `leaks --watch` while real plugins attach and detach.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use podplumb_tests::{Plugin, Plugins, Podplumb, World, binaries, require, run};
use serde_json::Value;

const NEEDS: [&str; 1] = ["ip"];

/// A `leaks --watch` and what it prints.
struct Watching {
    child: Child,
    lines: Receiver<Value>,
}

impl Watching {
    fn start() -> Self {
        let mut child = Command::new(binaries().join("podplumb"))
            .args(["leaks", "--watch"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("podplumb");
        let stdout: ChildStdout = child.stdout.take().expect("a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).expect("a JSON line"));
            }
        });
        let watching = Self { child, lines };
        assert_eq!(watching.next("began")["event"], "began");
        watching
    }

    fn next(&self, what: &str) -> Value {
        self.lines.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|_| panic!("no line about: {what}"))
    }

    fn signal(&self, signal: &str) {
        run("kill", &[signal, &self.child.id().to_string()]);
    }

    /// Ends it as a service manager does, and returns what it still had to say.
    fn end(mut self) -> Vec<Value> {
        self.signal("-TERM");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
        self.lines.iter().collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn attach(container: &str, world: &World, plugins: Plugins) -> [String; 4] {
    run("ip", &["netns", "add", container]);
    let (netns, bin) = (format!("/run/netns/{container}"), world.plugin_dir(plugins).display().to_string());
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0";
    let rest = ["--exec", "--bin-dir", &bin, "--args", args];
    let podplumb = Podplumb::with(&rest);
    podplumb.expect(0, &["cni", "add", "pods", container, &netns]);
    [netns, bin, container.to_owned(), args.to_owned()]
}

fn comes_and_goes(plugins: Plugins) {
    let world = World::enter();
    world.network("10.66.0.0/24");
    let watching = Watching::start();
    let [netns, bin, ..] = attach("a1b2c3", &world, plugins);
    let line = watching.next("ADD");
    assert_eq!(
        (&line["event"], &line["attachment"]["container"]),
        (&"appeared".into(), &"a1b2c3".into()),
        "{line}"
    );
    assert_eq!(
        (&line["pod"]["name"], &line["attachment"]["network"]),
        (&"web-0".into(), &"pods".into()),
        "{line}"
    );
    // Ours ends sooner than anybody can look.
    if plugins == Plugins::Reference {
        assert_eq!(
            (&line["by"]["command"], &line["by"]["parent"]),
            (&"bridge".into(), &"podplumb".into()),
            "{line}"
        );
    }
    let veth = line["interface"]["name"].as_str().expect("a name").to_owned();
    assert!(run("ip", &["link", "show", &veth]).contains("veth"));

    Podplumb::with(&["--exec", "--bin-dir", &bin]).expect(0, &["cni", "del", "pods", "a1b2c3", &netns]);
    let line = watching.next("DEL");
    assert_eq!((&line["event"], &line["del"]), (&"vanished".into(), &"seen".into()), "{line}");
    assert_eq!((&line["interface"]["name"], &line["pod"]["name"]), (&veth.into(), &"web-0".into()), "{line}");
    run("ip", &["netns", "del", "a1b2c3"]);

    // A namespace that ends without a DEL takes the veth with it, and leaves lease and cache entry.
    attach("d4e5f6", &world, plugins);
    assert_eq!(watching.next("ADD")["attachment"]["container"], "d4e5f6");
    run("ip", &["netns", "del", "d4e5f6"]);
    let line = watching.next("the end of a namespace");
    assert_eq!((&line["event"], &line["del"]), (&"vanished".into(), &"not-seen".into()), "{line}");
    assert_eq!((&line["attachment"]["container"], &line["by"]), (&"d4e5f6".into(), &Value::Null), "{line}");
    assert!(watching.end().is_empty());
}

#[test]
fn attachments_of_the_reference_plugins_are_told_with_their_pod_their_maker_and_their_del() {
    if require(&NEEDS) {
        comes_and_goes(Plugins::Reference);
    }
}

#[test]
fn attachments_of_our_plugins_are_told_with_their_pod_their_maker_and_their_del() {
    if require(&NEEDS) {
        comes_and_goes(Plugins::Podplumb);
    }
}

#[test]
fn directories_that_come_later_are_watched_and_a_direct_call_is_joined_by_its_stamp() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let watching = Watching::start();
    assert!(!Path::new("/run/podplumb").exists() && !Path::new("/var/lib/cni/networks").exists());
    let plugin = Plugin::bridge(&world, Plugins::Podplumb);
    plugin.add("a1b2c3");
    let line = watching.next("ADD");
    assert_eq!(line["attachment"]["container"], "a1b2c3", "{line}");
    plugin.del("a1b2c3");
    let line = watching.next("DEL");
    assert_eq!((&line["event"], &line["del"]), (&"vanished".into(), &"seen".into()), "{line}");
}

#[test]
fn a_burst_that_the_kernel_drops_is_told_and_made_good() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let watching = Watching::start();
    watching.signal("-STOP");
    let count = 600;
    let batch: String =
        (0..count).map(|n| format!("link add a{n} type veth peer name b{n}\nlink set a{n} up\n")).collect();
    let file = world.path().join("batch");
    std::fs::write(&file, batch).unwrap();
    run("ip", &["-batch", &file.display().to_string()]);
    watching.signal("-CONT");
    let line = watching.next("a resync");
    assert_eq!(line["event"], "resync", "{line}");
    assert!(line["note"].as_str().unwrap().contains("buffer"), "{line}");
    let appeared: Vec<Value> = (0..2 * count).map(|_| watching.next("what was missed")).collect();
    assert!(appeared.iter().all(|line| line["event"] == "appeared" && line["by"].is_null()));
    // And it goes on.
    run("ip", &["link", "del", "a0"]);
    assert_eq!(watching.next("after a resync")["event"], "vanished");
}

#[test]
fn it_ends_when_nobody_reads_any_more_and_tells_what_it_knows_on_a_signal() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    let mut child = Command::new(binaries().join("podplumb"))
        .args(["leaks", "--watch"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("podplumb");
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut first).expect("a line");
    drop(stdout);
    // Nothing happens on the node: it is the closing that ends it.
    podplumb_tests::wait_until("it ends by itself", || child.try_wait().expect("a child").is_some());
    assert!(child.wait().expect("a child").success());

    let watching = Watching::start();
    run("ip", &["link", "add", "mine", "type", "veth", "peer", "name", "other"]);
    // Less than the lines wait for what explains them, and enough for a busy machine to tell of the devices.
    std::thread::sleep(Duration::from_millis(1500));
    let rest = watching.end();
    assert_eq!(rest.len(), 2, "the lines that still waited: {rest:?}");
    assert!(rest.iter().all(|line| line["event"] == "appeared"), "{rest:?}");
}
