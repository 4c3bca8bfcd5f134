//! `podplumb gc`: what it tells the plugins to keep, and when it does not say anything.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use podplumb_tests::{Plugins, Podplumb, World, require, run, wait_until};
use serde_json::{Value, json};

use crate::leak::{id, journal, netns_name, plugin};

const NEEDS: [&str; 2] = ["ip", "nsenter"];
const CALLS: &str = "/run/gc-calls";

/// A node with a network of podplumb's bridge and somebody else's plugin, which writes down what it is called with. Of three pods one
/// lives, one has crashed, and one of which the cache knows nothing has crashed.
struct Node {
    options: Vec<String>,
    ids: [usize; 3],
    leases: String,
    process: Child,
}

impl Node {
    fn new(world: &World, own: usize) -> Self {
        let script = format!(
            "mkdir -p {CALLS}; echo \"$config\" > {CALLS}/$CNI_COMMAND-$CNI_CONTAINERID\n\
             [ $CNI_COMMAND = ADD ] && echo '{{\"cniVersion\":\"1.1.0\",\"dns\":{{}}}}'; true"
        );
        let scripts = plugin(world, "records", &script);
        let conflist = json!({ "cniVersion": "1.1.0", "name": "pods", "plugins": [
            { "type": "bridge", "bridge": "cni0", "isDefaultGateway": true,
              "ipam": { "type": "host-local", "ranges": [[{ "subnet": format!("10.214.{own}.0/24") }]] } },
            { "type": "records" },
        ]});
        std::fs::write("/etc/cni/net.d/10-pods.conflist", conflist.to_string()).unwrap();
        let ids = [0, 1, 2].map(|n| own << 8 | 0x8000 | n);
        let bin = world.plugin_dir(Plugins::Podplumb).display().to_string();
        for n in ids {
            run("ip", &["netns", "add", &netns_name(n)]);
            let add =
                ["cni", "add", "pods", &id(n), &netns_name(n), "--bin-dir", &format!("{scripts}:{bin}")];
            Podplumb::default().expect(0, &add);
        }
        std::fs::remove_file(cache(ids[2])).unwrap();
        let netns = format!("--net=/run/netns/{}", netns_name(ids[0]));
        let process = Command::new("nsenter").args([&netns, "sleep", "600"]).stdin(Stdio::null()).spawn();
        let process = process.expect("nsenter");
        let link = format!("/proc/{}/ns/net", process.id());
        let home = std::fs::read_link("/proc/thread-self/ns/net").expect("procfs");
        wait_until("it is inside", || std::fs::read_link(&link).is_ok_and(|inside| inside != home));
        let _ = std::fs::remove_dir_all(CALLS);
        let options = ["--grace", "0s", "--cni-bin-dir", &scripts].map(str::to_owned).to_vec();
        Self { options, ids, leases: "/var/lib/cni/networks/pods".to_owned(), process }
    }

    fn gc(&self, more: &[&str]) -> std::process::Output {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        Podplumb::with(&options).run(&[&["gc"], more].concat())
    }

    fn leases(&self) -> usize {
        let names = std::fs::read_dir(&self.leases).into_iter().flatten().flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().starts_with("10.")).count()
    }

    fn refuses(&self, more: &[&str], why: &str) {
        let refused = self.gc(&[&["--apply"], more].concat());
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        for part in [why, "nothing was changed", "hint: "] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
        assert!(self.leases() == 3 && journal().is_empty() && !Path::new(CALLS).exists(), "{stderr}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn cache(n: usize) -> String {
    format!("/var/lib/cni/results/pods-{}-eth0", id(n))
}

#[test]
fn what_lives_is_valid_and_what_crashed_is_collected_and_can_be_put_back() {
    if !require(&NEEDS) {
        return;
    }
    let world = crate::leak::alone();
    let node = Node::new(&world, 1);
    let [alive, crashed, _] = node.ids;
    let none = ["--runtime", "none"];
    let dry = node.gc(&none);
    let stdout = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert_eq!(dry.status.code(), Some(3), "{dry:?}");
    assert!(stdout.contains(&id(crashed)) && !stdout.contains(&id(alive)), "{stdout}");
    assert!(node.leases() == 3 && journal().is_empty());

    let done = node.gc(&[&["--apply"][..], &none].concat());
    assert!(done.status.success(), "{done:?}");
    assert_eq!(String::from_utf8_lossy(&done.stdout), format!("deleted pods {} eth0\n", id(crashed)));
    assert_eq!(node.leases(), 1, "also that of the pod of which the cache knows nothing");
    assert!(Path::new(&cache(alive)).exists() && !Path::new(&cache(crashed)).exists());
    run("nsenter", &[&format!("--net=/run/netns/{}", netns_name(alive)), "ip", "link", "show", "eth0"]);
    let told: Value = serde_json::from_slice(&std::fs::read(format!("{CALLS}/GC-")).unwrap()).unwrap();
    assert_eq!(told["cni.dev/valid-attachments"], json!([{ "containerID": id(alive), "ifname": "eth0" }]));
    assert!(Path::new(&format!("{CALLS}/DEL-{}", id(crashed))).exists());

    let run_id = journal()[0]["id"].as_str().unwrap().split('.').next().unwrap().to_owned();
    Podplumb::default().expect(0, &["undo", &run_id]);
    assert!(node.leases() == 3 && Path::new(&cache(crashed)).exists());
}

#[test]
fn where_runtimes_say_nothing_or_what_cannot_be_nothing_is_collected() {
    if !require(&NEEDS) {
        return;
    }
    let world = crate::leak::alone();
    let node = Node::new(&world, 2);
    // Somebody else's runtime may run on this machine at the moment; it does not list the pod.
    node.refuses(&[], "cannot be told: no runtime ");
    node.refuses(&["--docker", "/no/such.sock"], "does not answer");
    // A runtime that has lost its state: it answers, and lists nothing.
    let socket = world.path().join("forgetful.sock").display().to_string();
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || listener.incoming().flatten().for_each(forgetful));
    node.refuses(&["--docker", &socket], &format!("no runtime lists {}", &id(node.ids[0])[..12]));
    // Nobody knows whose this entry is, so it would not be in the list of what is valid.
    let broken = "/var/lib/cni/results/pods-broken-eth0";
    std::fs::write(broken, "").unwrap();
    node.refuses(&["--runtime", "none"], "nobody knows whose the cache entry");
    std::fs::remove_file(broken).unwrap();
    node.refuses(&["--runtime", "none", "--max", "1"], "(limit 1)");
}

/// Docker's API without containers.
fn forgetful(mut stream: std::os::unix::net::UnixStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|read| read == 1) {
        request.push(byte[0]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let body = if request.starts_with(b"GET /version") {
            r#"{"Version":"1","ApiVersion":"1.41"}"#
        } else {
            "[]"
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        request.clear();
    }
}
