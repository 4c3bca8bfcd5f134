//! `podplumb exec`: the machine's tools in a pod's namespaces.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use podplumb_tests::{Containerd, Docker, Plugins, Pod, Podplumb, World, binaries, require, run, wait_until};

use crate::guest::Guest;

/// What was printed, without the line's end.
fn said(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

#[test]
fn a_command_runs_in_a_namespace_and_its_exit_code_is_passed_on() {
    if !require(&["ip"]) {
        return;
    }
    let _world = World::enter();
    let pod = Pod::new("web");
    let podplumb = Podplumb::default();
    let inode = pod.netns.inode().expect("an inode").to_string();
    for question in ["/run/netns/web", &format!("inode:{inode}"), &inode, &format!("net:[{inode}]")] {
        let which = ["exec", question, "--", "stat", "-Lc", "%i", "/proc/self/ns/net"];
        assert_eq!(said(&podplumb.run(&which)), (inode.clone(), String::new(), Some(0)), "{question}");
    }
    let in_pod = |script: &str| podplumb.run(&["exec", "/run/netns/web", "--", "sh", "-c", script]);
    assert_eq!(in_pod("exit 7").status.code(), Some(7));
    // It is the command: what kills it kills what was started.
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(in_pod("kill -TERM $$").status.signal(), Some(15));
}

#[test]
fn a_command_that_cannot_be_run_is_named_with_the_exit_codes_of_shells() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    let _pod = Pod::new("web");
    let podplumb = Podplumb::default();
    let files = [("plain", "text", 0o644), ("script", "#!/no/such/interpreter\n", 0o755)];
    for (name, content, mode) in files {
        use std::os::unix::fs::PermissionsExt;
        let file = world.path().join(name);
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let own = |name: &str| world.path().join(name).display().to_string();
    for (program, code, says) in [
        (
            "no-such-tool".to_owned(),
            127,
            "cannot run no-such-tool: there is no such program on this machine\nhint: it was looked for in /",
        ),
        ("/no/such/program".to_owned(), 127, "cannot run /no/such/program: there is no such program"),
        ("tool\u{1b}[2J".to_owned(), 127, "cannot run tool\u{fffd}[2J"),
        (own("plain"), 126, "it is not executable"),
        (own("script"), 126, "what interprets it is not there"),
        ("/".to_owned(), 126, "it is not executable"),
    ] {
        let (out, error, ended) = said(&podplumb.run(&["exec", "/run/netns/web", "--", &program]));
        assert!(
            out.is_empty() && ended == Some(code) && error.contains(says),
            "{program}: {ended:?} {error}"
        );
    }
    assert_eq!(podplumb.run(&["exec", "/run/netns/web"]).status.code(), Some(2), "no command");
}

#[test]
fn a_name_that_fits_two_pods_runs_nothing_and_one_that_fits_none_neither() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.network("10.167.0.0/24");
    let bin_dir = world.plugin_dir(Plugins::Podplumb).display().to_string();
    let podplumb = Podplumb::default();
    let pods = ["abc1", "abc2"].map(|id| {
        let pod = Pod::new(id);
        podplumb.expect(0, &["cni", "add", "pods", &format!("{id}f00d"), id, "--bin-dir", &bin_dir]);
        pod
    });
    let run = |question: &str| {
        said(&podplumb.run(&["exec", question, "--runtime", "none", "--", "touch", "/run/touched"]))
    };
    let (_, error, code) = run("abc");
    assert!(code == Some(1) && error.contains("fits 2:\n  abc"), "{error}");
    for pod in &pods {
        let inode = format!("inode:{}", pod.netns.inode().unwrap());
        assert!(error.contains(&inode), "{error}");
    }
    assert!(error.ends_with("nothing was done"), "{error}");
    for (question, says) in [
        ("zzzz", "nothing on this node goes by \"zzzz\""),
        ("\u{1b}[2J", "nothing on this node goes by \"\\u{1b}[2J\""),
        ("lo", "interface lo is the host's own"),
        ("pid:4194305", "there is no process 4194305"),
        ("/etc/passwd", "nothing on this node goes by"),
    ] {
        let (_, error, code) = run(question);
        assert!(
            code == Some(1) && error.contains(says) && error.contains("\nhint: "),
            "{question:?}: {error}"
        );
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
    assert!(!Path::new("/run/touched").exists());
    // An address and an interface are looked for on the whole node.
    for question in ["abc2", "10.167.0.3"] {
        let output =
            podplumb.run(&["exec", question, "--runtime", "none", "--", "ip", "-br", "-4", "address"]);
        let (out, error, code) = said(&output);
        assert!(code == Some(0) && out.contains("10.167.0.3/24"), "{question}: {out} {error}");
    }
    let name = "abc1";
    let links = run_in(&podplumb, name, &["cat", "/sys/class/net/eth0/iflink"]);
    let veth = podplumb_tests::run("ip", &["-br", "link"]);
    let veth =
        veth.lines().find(|line| line.starts_with("veth")).and_then(|line| line.split(['@', ' ']).next());
    let out = run_in(&podplumb, veth.expect("a veth"), &["ip", "-br", "-4", "address"]);
    assert!(out.contains("10.167.0."), "{links} {out}");
}

fn run_in(podplumb: &Podplumb, question: &str, command: &[&str]) -> String {
    let all = [&["exec", question, "--runtime", "none", "--"], command].concat();
    podplumb.expect(0, &all)
}

#[test]
fn all_of_a_process_s_namespaces_are_entered_on_request() {
    if !require(&["unshare", "sleep"]) {
        return;
    }
    let _world = World::enter();
    let guest = Guest::start(&["--net", "--uts", "--ipc", "--mount", "--pid", "--cgroup", "--mount-proc"]);
    let podplumb = Podplumb::default();
    let kinds = ["net", "uts", "ipc", "mnt", "pid", "cgroup"];
    let script =
        "for kind in net uts ipc mnt pid cgroup; do readlink /proc/self/ns/$kind; done; readlink /proc/1/exe";
    let target = format!("pid:{}", guest.pid);
    let output = podplumb.run(&["exec", &target, "--all", "--", "sh", "-c", &format!("{script}; exit 9")]);
    let (out, error, code) = said(&output);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines.len()), (Some(9), 7), "{out} {error}");
    assert_eq!(lines[..6], kinds.map(|kind| guest.namespace(kind)), "{error}");
    assert!(lines[6].ends_with("sleep"), "the first process in there: {out}");
    // Only those that were asked for.
    let ours = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap().display().to_string();
    let (out, ..) = said(&podplumb.run(&["exec", &target, "--uts", "--", "sh", "-c", script]));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[1], lines[3]), (guest.namespace("uts").as_str(), ours.as_str()));
    // With --pid somebody has to wait for it: what it is told, and how it ends, are passed on.
    let killed = podplumb.run(&["exec", &target, "--pid", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(killed.status.code(), Some(137));
    let mut waiting = Command::new(binaries().join("podplumb"))
        .args([
            "exec",
            &target,
            "--pid",
            "--",
            "sh",
            "-c",
            "trap 'exit 5' TERM; while :; do sleep 0.05; done",
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let is_trapping = || {
        let names = std::fs::read_dir("/proc").expect("procfs").flatten().map(|entry| entry.file_name());
        let mut pids = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
        // Bit 14 of the caught signals is SIGTERM (proc_pid_status(5)).
        pids.any(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let is_child = status.contains(&format!("\nPPid:\t{}\n", waiting.id()));
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
            is_child
                && caught
                    .and_then(|mask| u64::from_str_radix(mask, 16).ok())
                    .is_some_and(|mask| mask & 1 << 14 != 0)
        })
    };
    wait_until("it traps SIGTERM", is_trapping);
    let child = rustix::process::Pid::from_raw(i32::try_from(waiting.id()).unwrap()).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::TERM).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(5));
    // One that ended is not entered, and whoever takes its number neither.
    let pid = guest.pid;
    podplumb_tests::kill(pid);
    wait_until("it is gone or a zombie", || {
        !Path::new(&format!("/proc/{pid}/ns/net")).exists() || guest_ended(pid)
    });
    let (_, error, code) = said(&podplumb.run(&["exec", &target, "--all", "--", "true"]));
    assert!(
        code == Some(1) && (error.contains("has ended") || error.contains("there is no process")),
        "{error}"
    );
}

fn guest_ended(pid: u32) -> bool {
    sys::ProcessStat::read(pid).is_ok_and(|stat| stat.has_ended())
}

#[test]
fn what_is_typed_reaches_the_command_once() {
    if !require(&["unshare", "sleep", "script", "env"]) {
        return;
    }
    use std::io::{BufRead, BufReader, Write};
    let _world = World::enter();
    let guest = Guest::start(&["--net", "--pid"]);
    for option in ["--net", "--pid"] {
        let script = "trap \"echo caught; exit 6\" INT; echo ready; while :; do sleep 0.05; done";
        let podplumb = binaries().join("podplumb");
        // `exec`: a shell that stays between (dash does, bash does not) is interrupted too and ends by that. `env`: whoever started
        // the test in the background may have had SIGINT ignored, which shells cannot trap then.
        let command = format!(
            "exec env --default-signal=INT {} exec pid:{} {option} -- sh -c '{script}'",
            podplumb.display(),
            guest.pid
        );
        let mut terminal = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("script");
        let mut lines = BufReader::new(terminal.stdout.take().expect("piped")).lines().map_while(Result::ok);
        assert!(lines.by_ref().any(|line| line.trim() == "ready"));
        let mut keyboard = terminal.stdin.take().expect("piped");
        keyboard.write_all(b"\x03").expect("a terminal");
        let rest: Vec<String> = lines.collect();
        assert_eq!(rest.iter().filter(|line| line.ends_with("caught")).count(), 1, "{option}: {rest:?}");
        assert_eq!(terminal.wait().expect("it ends").code(), Some(6), "{option}");
    }
}

#[test]
fn in_a_user_namespace_one_is_root() {
    if !require(&["unshare", "sleep"]) {
        return;
    }
    let _world = World::enter();
    let guest = Guest::start(&["--user", "--map-root-user", "--net"]);
    let podplumb = Podplumb::default();
    let target = format!("pid:{}", guest.pid);
    let script = "readlink /proc/self/ns/user; id -u; ip link set lo up && echo up";
    let (out, error, code) = said(&podplumb.run(&["exec", &target, "--user", "--", "sh", "-c", script]));
    assert_eq!((out, code), (format!("{}\n0\nup", guest.namespace("user")), Some(0)), "{error}");
}

#[test]
fn a_namespace_without_processes_has_only_a_network() {
    if !require(&["ip"]) {
        return;
    }
    let _world = World::enter();
    let _pod = Pod::new("web");
    let podplumb = Podplumb::default();
    let (_, error, code) = said(&podplumb.run(&["exec", "/run/netns/web", "--uts", "--mount", "--", "true"]));
    assert!(code == Some(1) && error.contains("cannot enter --mount, --uts of /run/netns/web"), "{error}");
    assert!(error.contains("no process is in there"), "{error}");
    let (_, error, code) = said(&podplumb.run(&["exec", "/run/netns/web", "--all", "--", "true"]));
    assert!(code == Some(0) && error.contains("only its network is entered"), "{error}");
}

#[test]
fn a_pod_of_containerds_is_entered_by_its_name_with_its_root_until_it_is_gone() {
    if !require(&["containerd", "runc", "ctr", "ip"]) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Podplumb, "10.171.0.0/24");
    let (pod, other) = (containerd.run_sandbox("web"), containerd.run_sandbox("cart"));
    let podplumb = Podplumb::default();
    let (out, ..) = said(&podplumb.run(&["exec", "cart", "--", "ip", "-br", "-4", "address"]));
    assert!(out.contains(&other.ip), "{out}");
    for question in ["web", "shop/web", &pod.id[..10], &pod.ip, &format!("pid:{}", pod.pid), &pod.netns] {
        let (out, error, code) = said(&podplumb.run(&["exec", question, "--", "ip", "-br", "-4", "address"]));
        assert!(code == Some(0) && out.contains(&pod.ip) && error.is_empty(), "{question}: {out} {error}");
    }
    // The image has one program, and no shell.
    let (_, error, code) = said(&podplumb.run(&["exec", "web", "--mount", "--", "ip", "address"]));
    assert!(code == Some(127) && error.contains("no such program in shop/web"), "{error}");
    let inside = run("ls", &[&format!("/proc/{}/root", pod.pid)]);
    assert!(!inside.contains("usr"), "{inside}");
    containerd.remove_sandbox(&pod);
    let (_, error, code) = said(&podplumb.run(&["exec", "web", "--", "true"]));
    assert!(code == Some(1) && error.contains("\"web\""), "{error}");
}

#[test]
fn a_container_of_dockers_is_entered_with_its_own_files_and_processes() {
    if !require(&["dockerd", "docker", "runc", "ip"]) {
        return;
    }
    let world = World::enter();
    let mut docker = Docker::start(&world);
    let (web, other) = (docker.run_container("web"), docker.run_container("cart"));
    let podplumb = Podplumb::default();
    for (name, container) in [("web", &web), ("cart", &other)] {
        let (out, error, _) = said(&podplumb.run(&["exec", name, "--", "ip", "-br", "-4", "address"]));
        assert!(out.contains(&container.ip), "{name}: {out} {error}");
    }
    let script =
        "read name < /proc/sys/kernel/hostname; read comm < /proc/1/comm; echo $name $comm /*; exit 4";
    let (out, error, code) = said(&podplumb.run(&["exec", &web.id[..12], "--all", "--", "sh", "-c", script]));
    assert_eq!(code, Some(4), "{error}");
    assert!(out.starts_with(&format!("{} sleep /bin ", &web.id[..12])) && !out.contains("/usr"), "{out}");
    // One without a network of its own is told from one that is not there.
    let host = ["run", "--detach", "--name", "hosty", "--network", "host", "busybox:1", "/bin/sleep", "1000"];
    docker.docker(&host);
    let (_, error, code) = said(&podplumb.run(&["exec", "hosty", "--", "true"]));
    assert!(code == Some(1) && error.contains("hosty uses the host's network"), "{error}");
    docker.docker(&["rm", "--force", "hosty"]);
}
