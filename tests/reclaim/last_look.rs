//! Between the second look and the removal, plugins of other orphans may take minutes: whoever comes meanwhile is seen.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use podplumb_tests::{binaries, require, run, wait_until};

use crate::leak::{Leaked, cached, pinned, plugin};

const NEEDS: [&str; 2] = ["ip", "nsenter"];

/// Runs reclaim with an orphan whose plugin waits, lets `arrive` move into another orphan meanwhile, and returns what reclaim printed.
fn while_a_plugin_works<T>(arrive: impl FnOnce(&Leaked) -> T) -> (String, Leaked, T) {
    let world = crate::leak::alone();
    let (began, go_on) = ("/run/plugin-began", "/run/plugin-may-go-on");
    let script = format!("touch {began}; while [ ! -e {go_on} ]; do sleep 0.02; done");
    let bin_dir = plugin(&world, "slow", &script);
    let (leaked, slow) = (pinned(0), pinned(1));
    let entry = cached("3d9a0f7b1c2e4d55", "slow", &slow.netns);
    let program = Command::new(binaries().join("podplumb"))
        .args(["reclaim", "--apply", "--grace", "0s", "--runtime", "none", "--cni-bin-dir", &bin_dir])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("podplumb");
    wait_until("the plugin is called", || Path::new(began).exists());
    let arrived = arrive(&leaked);
    File::create(go_on).expect("a file");
    let output = program.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!entry.exists(), "the other orphan is gone: {text}{}", String::from_utf8_lossy(&output.stderr));
    (text, leaked, arrived)
}

/// Reclaim printed it in columns.
fn says(text: &str, part: &str) -> bool {
    text.split_whitespace().collect::<Vec<_>>().join(" ").contains(part)
}

#[test]
fn without_anybody_it_is_removed() {
    if !require(&NEEDS) {
        return;
    }
    let (text, leaked, ()) = while_a_plugin_works(|_| ());
    assert!(leaked.is_gone(), "{text}");
}

#[test]
fn a_process_that_moved_in_keeps_namespace_and_veth() {
    if !require(&NEEDS) {
        return;
    }
    let (text, leaked, mut process): (_, _, Child) = while_a_plugin_works(|leaked| {
        let netns = format!("--net={}", leaked.netns.display());
        let process = Command::new("nsenter").args([&netns, "sleep", "600"]).spawn().expect("nsenter");
        let link = format!("/proc/{}/ns/net", process.id());
        let home = std::fs::read_link("/proc/thread-self/ns/net").expect("procfs");
        wait_until("it is inside", || std::fs::read_link(&link).is_ok_and(|inside| inside != home));
        process
    });
    assert!(leaked.is_whole() && says(&text, "is in use by now: "), "{text}");
    process.kill().and_then(|()| process.wait()).expect("it was ours");
}

#[test]
fn a_single_thread_that_moved_in_keeps_them() {
    if !require(&NEEDS) {
        return;
    }
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (text, leaked, thread) = while_a_plugin_works(|leaked| {
        let netns = sys::NetNs::open(&leaked.netns).expect("it is there");
        let (entered, inside) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            netns
                .run(move || {
                    entered.send(()).expect("the test waits");
                    let _ = stopped.recv();
                })
                .expect("it can be entered");
        });
        inside.recv().expect("it enters");
        thread
    });
    assert!(leaked.is_whole() && says(&text, "is in it"), "{text}");
    drop(stop);
    thread.join().expect("it ends");
}

#[test]
fn a_socket_alone_keeps_them() {
    if !require(&NEEDS) {
        return;
    }
    let (text, leaked, socket) = while_a_plugin_works(|leaked| {
        let netns = sys::NetNs::open(&leaked.netns).expect("it is there");
        netns.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).expect("it can be entered").expect("a socket")
    });
    assert!(leaked.is_whole() && says(&text, "1 sockets are in it"), "{text}");
    drop(socket);
}

#[test]
fn a_tun_device_keeps_them() {
    if !require(&NEEDS) || !Path::new("/dev/net/tun").exists() {
        return;
    }
    let (text, leaked, ()) = while_a_plugin_works(|leaked| {
        let name = leaked.netns.file_name().expect("a name").to_string_lossy().into_owned();
        run("ip", &["netns", "exec", &name, "ip", "tuntap", "add", "tun0", "mode", "tun"]);
    });
    assert!(leaked.is_whole() && says(&text, "its device tun0 open"), "{text}");
}
