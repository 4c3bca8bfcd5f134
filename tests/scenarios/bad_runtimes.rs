//! Runtimes that lie, hang or are something else. Their sockets are fakes: here the fake is the input.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use model::RuntimeStatus;
use observe::RuntimeSources;
use podplumb_tests::{Finding, Podplumb, World, output, require, run};

const NEEDS: [&str; 1] = ["ip"];
const DOCKER: &str = "/run/docker.sock";
const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// What a crashed container of Docker left: an orphan, if Docker answers and does not list it.
const LEFT: &str = "/run/docker/netns/0a6e12c455d1";
const LONG_AGO: u64 = 1_600_000_000;
const LISTED: &str = "7d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d22";
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves each connection on a thread of its own, until the test ends.
fn serve(socket: &str, behave: impl Fn(UnixStream) + Send + Sync + Copy + 'static) {
    let _ = std::fs::remove_file(socket);
    std::fs::create_dir_all(Path::new(socket).parent().unwrap()).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || behave(stream));
        }
    });
}

fn world() -> World {
    let world = World::enter();
    std::fs::create_dir_all("/run/docker/netns").unwrap();
    run("ip", &["netns", "add", "made"]);
    std::fs::write(LEFT, "").unwrap();
    run("mount", &["--bind", "/run/netns/made", LEFT]);
    run("umount", &["/run/netns/made"]);
    std::fs::remove_file("/run/netns/made").unwrap();
    world
}

/// The finding about what is left.
fn judged() -> Finding {
    let findings = Podplumb::with(&["--runtime-timeout", "1s"]).findings("0s");
    let own = findings.iter().find(|finding| finding.0["label"] == LEFT);
    own.cloned().unwrap_or_else(|| panic!("{findings:#?}"))
}

/// Asks as every command does, and returns why the only runtime counts as silent.
fn silence(what: &str) -> String {
    let sources = RuntimeSources { timeout: PATIENCE, ..RuntimeSources::default() };
    let start = Instant::now();
    let runtimes = observe::runtimes::observe(&sources).unwrap().runtimes;
    let took = start.elapsed();
    assert!(took < PATIENCE * 15, "{what}: it took {took:?}");
    let [runtime] = runtimes.as_slice() else { panic!("{what}: {runtimes:?}") };
    match &runtime.status {
        RuntimeStatus::Silent { why } => why.clone(),
        RuntimeStatus::Answered { .. } => panic!("{what}: {runtime:?}"),
    }
}

/// Reads one request; false at the end.
fn request(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).split(' ').nth(1).map(str::to_owned)
}

/// Answers requests as Docker would, from a function of the path.
fn docker(mut stream: UnixStream, answer: impl Fn(&str) -> String) {
    while let Some(path) = request(&mut stream) {
        let body = answer(&path);
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn version() -> String {
    r#"{"Version":"20.10.24"}"#.to_owned()
}

#[test]
fn a_runtime_that_hangs_or_talks_nonsense_makes_things_unknown_within_its_time() {
    if !require(&NEEDS) {
        return;
    }
    let _world = world();
    // What an honest one brings about, so that the rest proves something.
    serve(DOCKER, |stream| {
        docker(stream, |path| if path == "/version" { version() } else { "[]".into() });
    });
    assert_eq!(judged().verdict(), "orphan");

    type Behaviour = fn(UnixStream);
    let hang: Behaviour = |_stream| std::thread::sleep(PATIENCE * 20);
    let close: Behaviour = drop;
    let garbage: Behaviour = |mut stream| {
        let _ = stream.write_all(&[0xff, 0x00, 0x1b, b'[', b'2', b'J', b'\n'].repeat(1000));
    };
    // Who answers before being asked is told off at once: that is another way to be wrong.
    let trickle: Behaviour = |mut stream| {
        request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let endless: Behaviour = |mut stream| {
        request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while stream.write_all(b"1000\r\n").and_then(|()| stream.write_all(&[b' '; 0x1000])).is_ok() {
            let _ = stream.write_all(b"\r\n");
        }
    };
    for (what, behave) in [("hangs", hang), ("closes", close), ("garbage", garbage), ("trickles", trickle)] {
        for socket in [DOCKER, CONTAINERD] {
            serve(socket, behave);
            let why = silence(&format!("{socket}: {what}"));
            // To HTTP/2, what trickles is garbage as well.
            let in_time =
                !["hangs", "trickles"].contains(&what) || (socket, what) == (CONTAINERD, "trickles");
            assert_eq!(why.contains("no complete answer within 1 s"), !in_time, "{socket}: {what}: {why}");
            assert_ne!(why, "Version: transport error", "{socket}: {what}: that says nothing");
            if (socket, what) == (DOCKER, "hangs") {
                let finding = judged();
                assert_eq!((finding.verdict(), finding.because()), ("unknown", "runtime-silent"));
            }
            std::fs::remove_file(socket).unwrap();
        }
    }
    serve(DOCKER, endless);
    silence("an endless answer");
    serve(DOCKER, |stream| {
        docker(stream, |path| if path == "/version" { version() } else { r#"[{"Id":"#.into() });
    });
    silence("half a list");
    serve(DOCKER, |mut stream| {
        let _ = request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"Version\":");
    });
    silence("closed in the middle of an answer");
    serve(DOCKER, |stream| docker(stream, |_| "{}".into()));
    silence("JSON, but not Docker's");
    serve(DOCKER, |stream| {
        docker(stream, |path| if path == "/version" { "{}".into() } else { "[]".into() });
    });
    silence("something else that lists nothing");
    serve(DOCKER, |stream| {
        docker(stream, |path| match path {
            "/version" => version(),
            _ => r#"[{"Id":"../../etc/passwd","State":"running"}]"#.into(),
        });
    });
    silence("an id that is none");
    std::fs::remove_file(DOCKER).unwrap();
    std::fs::write(DOCKER, "").unwrap();
    silence("a plain file");
}

#[test]
fn a_socket_that_nobody_accepts_from_is_silent_and_contradicts_that_there_is_no_runtime() {
    if !require(&NEEDS) {
        return;
    }
    let _world = world();
    let _listener = UnixListener::bind(DOCKER).unwrap();
    silence("connected, but not accepted");
    // A full queue makes connect wait, where it is allowed to.
    let mut waiting = Vec::new();
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        scope.spawn(move || {
            for _ in 0..129 {
                sender.send(UnixStream::connect(DOCKER)).unwrap();
            }
        });
        while let Ok(stream) = receiver.recv_timeout(Duration::from_secs(1)) {
            waiting.push(stream);
        }
        silence("with a full queue");
        let refused = Podplumb::with(&["--runtime", "none"]).run(&["leaks"]);
        assert_eq!(refused.status.code(), Some(1));

        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(stderr.contains("--runtime none contradicts /run/docker.sock"), "{stderr}");
        // Lets the thread go on.
        let _ = std::fs::remove_file(DOCKER);
        drop(_listener);
    });
}

#[test]
fn a_container_with_a_pid_that_is_not_its_own_leaves_nameless_namespaces_unknown() {
    if !require(&NEEDS) {
        return;
    }
    let world = world();
    run("ip", &["netns", "add", "elsewhere"]);
    let ended = std::process::Command::new("true").spawn().and_then(|mut child| {
        child.wait()?;
        Ok(child.id())
    });
    let ended = ended.unwrap();
    let own = std::process::id();
    let containers = [
        ("a dead pid", ended, "", LONG_AGO, Some("is not there")),
        ("a pid that never was", 4_194_304, "", LONG_AGO, Some("is not there")),
        ("an older process", own, "", 4_000_000_000, Some("it is older than the container")),
        (
            "one elsewhere",
            own,
            "/run/netns/elsewhere",
            LONG_AGO,
            Some("it lives in another network namespace"),
        ),
        ("one that nothing contradicts", own, "", LONG_AGO, None),
        ("an exited one", 0, "/run/netns/elsewhere", LONG_AGO, None),
    ];
    let id = |at: usize| format!("{at:064x}");
    let list = containers.iter().enumerate().map(|(at, (_, _, _, created, _))| {
        let id = id(at);
        format!(r#"{{"Id":"{id}","Names":["/web"],"State":"running","Created":{created}}}"#)
    });
    let list = format!("[{}]", list.collect::<Vec<_>>().join(","));
    let inspected = containers.map(|(_, pid, key, ..)| {
        format!(r#"{{"State":{{"Pid":{pid}}},"NetworkSettings":{{"SandboxKey":"{key}","Networks":{{}}}}}}"#)
    });
    static ANSWERS: std::sync::OnceLock<(String, Vec<String>)> = std::sync::OnceLock::new();
    ANSWERS.set((list, inspected.to_vec())).unwrap();
    serve(DOCKER, |stream| {
        docker(stream, |path| {
            let (list, inspected) = ANSWERS.get().unwrap();
            match path.split('/').collect::<Vec<_>>().as_slice() {
                ["", "version"] => version(),
                ["", "containers", id, "json"] => inspected[usize::from_str_radix(id, 16).unwrap()].clone(),
                _ => list.clone(),
            }
        });
    });
    let file = world.path().join("node.json");
    std::fs::write(&file, Podplumb::default().expect(0, &["snapshot"])).unwrap();
    let snapshot = model::Snapshot::from_json(&std::fs::read(&file).unwrap()).unwrap();
    let objects = &snapshot.runtimes[0].objects;
    assert_eq!(objects.len(), containers.len());
    for (object, (what, pid, _, _, says)) in objects.iter().zip(containers) {
        let doubt = object.doubt.as_deref().unwrap_or_default();
        assert!(says.map_or(doubt.is_empty(), |says| doubt.contains(says)), "{what}: {doubt:?}");
        let believed = doubt.is_empty() || doubt.contains("is not there");
        assert_eq!(object.pid, Some(pid).filter(|pid| believed && *pid > 0), "{what}");
    }
    let findings = Podplumb::with(&["--from", &file.display().to_string()]).findings("0s");
    let left = findings.iter().find(|finding| finding.0["label"] == LEFT).expect("a finding");
    assert_eq!((left.verdict(), left.because()), ("unknown", "runtime-doubted"));
}

#[test]
fn names_with_terminal_escapes_are_never_printed_raw() {
    if !require(&NEEDS) {
        return;
    }
    let world = world();
    run("ip", &["netns", "add", "pod"]);
    serve(DOCKER, |stream| {
        docker(stream, |path| match path {
            "/version" => r#"{"Version":"20\u001b[31m"}"#.to_owned(),
            "/containers/json?all=1" => format!(
                r#"[{{"Id":"{LISTED}","Names":["/web\u001b[2J\u0007\u202e"],"State":"run\u001b]0;x\u0007","Created":1}}]"#
            ),
            _ => r#"{"State":{"Pid":0},"NetworkSettings":{"SandboxKey":"/run/netns/pod","Networks":{}}}"#
                .into(),
        });
    });
    let file = world.path().join("node.json");
    std::fs::write(&file, Podplumb::default().expect(0, &["snapshot"])).unwrap();
    let podplumb = Podplumb::with(&["--from", &file.display().to_string()]);
    for arguments in
        [&["map"][..], &["pods"], &["pods", "--output", "wide"], &["who", LISTED], &["leaks", "--all"]]
    {
        let output = podplumb.run(arguments);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("web") || arguments == ["leaks", "--all"], "{arguments:?}: {text}");
        let bad = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(bad, None, "{arguments:?}: {text:?}");
    }
    assert!(output("ip", &["netns", "del", "pod"]).status.success());
}

#[test]
fn a_runtime_that_systemd_would_start_is_not_started_by_looking() {
    if !(require(&NEEDS) && require(&["systemd-socket-activate"])) {
        return;
    }
    let world = world();
    let mark = world.path().join("started");
    let log = world.path().join("activate.log");
    let arguments = ["--listen", DOCKER, "/usr/bin/touch", &mark.display().to_string()];
    let systemd = podplumb_tests::Daemon::start("systemd-socket-activate", &arguments, &log);
    podplumb_tests::wait_until("systemd listens", || Path::new(DOCKER).exists());
    let finding = judged();
    assert_eq!((finding.verdict(), finding.because()), ("unknown", "no-runtime"), "one that never ran");
    std::fs::create_dir_all("/var/lib/docker/containers/7d0c").unwrap();
    let runtimes = observe::runtimes::observe(&RuntimeSources::default()).unwrap().runtimes;
    assert!(matches!(&runtimes[0].status, RuntimeStatus::Silent { why } if why.contains("nobody listens")));
    let none = RuntimeSources { none: true, ..RuntimeSources::default() };
    assert!(observe::runtimes::observe(&none).is_ok());
    assert!(!mark.exists(), "{}", systemd.log());
    // Were it asked, it would start.
    let _ = UnixStream::connect(DOCKER).unwrap();
    podplumb_tests::wait_until("it is started", || mark.exists());
}
