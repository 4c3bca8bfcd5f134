//! The command line on input that nobody would give it on purpose.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod bad_input;
mod capture;
mod exec;
mod expose;
mod guest;
mod lab;
mod logs;
mod map;
mod metrics;
mod report;
mod sockets;
mod versions;
mod watch;

use std::path::Path;

use podplumb_tests::{Podplumb, World, require, run};

const NEEDS: [&str; 2] = ["ip", "setpriv"];

#[test]
fn snapshots_that_cannot_be_read_are_refused_with_a_hint() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let podplumb = Podplumb::default();
    let whole = podplumb.expect(0, &["snapshot"]);
    let file = world.path().join("node.json");
    let path = file.display().to_string();
    for command in ["map", "pods", "leaks", "reclaim", "snapshot"] {
        std::fs::write(&file, &whole).unwrap();
        podplumb.expect(0, &[command, "--from", &path]);
        for (content, says) in [
            (whole[..whole.len() / 2].to_owned(), "may be cut"),
            (String::new(), "may be cut"),
            (whole.replacen("\"version\": 1", "\"version\": 2", 1), "take the snapshot again"),
        ] {
            std::fs::write(&file, content).unwrap();
            let output = podplumb.run(&[command, "--from", &path]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command}");
            assert!(stderr.contains("hint: ") && stderr.contains(says), "{stderr}");
            assert!(output.stdout.is_empty());
        }
    }
    let missing = podplumb.run(&["map", "--from", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn a_snapshot_file_gives_the_same_answer_as_the_node() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    run("ip", &["netns", "add", "cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4c01"]);
    let podplumb = Podplumb::default();
    let file = world.path().join("node.json");
    std::fs::write(&file, podplumb.expect(0, &["snapshot"])).unwrap();
    let path = file.display().to_string();
    // Other tests' namespaces are on this machine too: only our own finding counts.
    let verdict = |options: &[&str]| {
        let findings = Podplumb::with(options).findings("0s");
        let own = findings.iter().find(|finding| finding.0["label"].to_string().contains("2c3d4c01"));
        own.expect("a finding").verdict().to_owned()
    };
    assert_eq!(verdict(&["--from", &path]), "unknown", "no runtime is known");
    assert_eq!(verdict(&["--from", &path, "--runtime", "none"]), "orphan");
}

#[test]
fn without_root_leaks_and_reclaim_refuse_and_map_says_what_it_could_not_see() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("podplumb").display().to_string();
    // A copy where nobody may go: the build directory may be root's alone.
    std::fs::copy(&program, "/run/podplumb-bin").unwrap();
    let as_nobody = |command: &[&str]| {
        let base = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/run/podplumb-bin"];
        podplumb_tests::output("setpriv", &[&base, command].concat())
    };
    for command in ["leaks", "reclaim"] {
        let output = as_nobody(&[command]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("needs root") && stderr.contains("hint: "), "{stderr}");
    }
    let map = as_nobody(&["map"]);
    assert!(map.status.success());
    assert!(String::from_utf8_lossy(&map.stdout).contains("not seen:"));
}

#[test]
fn sockets_on_which_nobody_answers_are_silent_runtimes() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    run("ip", &["netns", "add", "cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4c02"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let silent = |options: &[&str], says: &str| {
        let podplumb = Podplumb::with(options);
        let map = podplumb.expect(0, &["map"]);
        assert!(map.contains("silent: ") && map.contains(says), "{map}");
        let findings = podplumb.findings("1s");
        let verdicts: Vec<(&str, &str)> = findings.iter().map(|f| (f.verdict(), f.because())).collect();
        assert!(verdicts.contains(&("unknown", "runtime-silent")), "{findings:#?}");
    };
    silent(&["--cri", "/no/such.sock"], "No such file");
    let dead = world.path().join("dead.sock").display().to_string();
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    silent(&["--docker", &dead], "refused");
    // Something else listens there.
    let garbage = world.path().join("garbage.sock").display().to_string();
    let listener = std::os::unix::net::UnixListener::bind(&garbage).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut &stream, b"220 mail.example ESMTP\r\n");
        }
    });
    silent(&["--docker", &garbage], "GET /version");
    silent(&["--cri", &garbage], "");
    // And saying that there is no runtime, where one listens, is refused.
    let contradiction = Podplumb::default().run(&["leaks", "--runtime", "none", "--docker", &garbage]);
    assert_eq!(contradiction.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&contradiction.stderr).contains("contradicts"));
}

#[test]
fn cut_cache_entries_and_records_are_reported_and_left_alone() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    std::fs::create_dir_all("/var/lib/cni/results").unwrap();
    std::fs::create_dir_all("/run/podplumb/attachments").unwrap();
    let files = [
        ("/var/lib/cni/results/pods-a-eth0", ""),
        ("/var/lib/cni/results/pods-b-eth0", "{\"kind\":\"cniCacheV1\",\"contai"),
        ("/run/podplumb/attachments/pods:a:eth0", "{"),
        ("/run/podplumb/attachments/pods:b:eth0", "{\"version\":9}"),
    ];
    for (path, content) in files {
        std::fs::write(path, content).unwrap();
    }
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let findings = podplumb.findings("0s");
    assert_eq!(findings.iter().filter(|finding| finding.because() == "unreadable-entry").count(), 2);
    let output = podplumb.run(&["leaks"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("pods:a:eth0"),
        "records are part of the coverage"
    );
    podplumb.expect(0, &["reclaim", "--apply", "--grace", "0s"]);
    assert!(files.iter().all(|(path, _)| Path::new(path).exists()));
}

#[test]
fn who_says_what_it_does_not_know_and_usage_errors_exit_with_2() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    let podplumb = Podplumb::default();
    let output = podplumb.run(&["who", "no-such-thing"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("hint: "));
    assert_eq!(podplumb.run(&["leaks", "--grace", "soon"]).status.code(), Some(2));
    assert_eq!(podplumb.run(&["fly"]).status.code(), Some(2));
    let undo = podplumb.run(&["undo", "nothing.1"]);
    assert_eq!(undo.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&undo.stderr).contains("podplumb journal"));
}
