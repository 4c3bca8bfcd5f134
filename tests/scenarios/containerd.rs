//! containerd, with the reference plugins and with podplumb's.

use std::path::Path;

use podplumb_tests::{Containerd, Docker, Plugins, Podplumb, Sandbox, World, output, require, run};

const NEEDS: [&str; 6] = ["containerd", "ctr", "runc", "busybox", "ip", "ping"];
const GRACE: &str = "2s";

fn ping(from: &Sandbox, to: &str) -> bool {
    let netns = format!("--net={}", from.netns);
    output("nsenter", &[&netns, "ping", "-c", "1", "-W", "2", to]).status.success()
}

fn lease(ip: &str) -> String {
    format!("/var/lib/cni/networks/pods/{ip}")
}

/// Pings all the while, ten times a second; the returned closure says how many were lost.
fn traffic(from: &Sandbox, to: &Sandbox) -> impl FnOnce() -> String {
    let netns = format!("--net={}", from.netns);
    let child = std::process::Command::new("nsenter")
        .args([&netns, "ping", "-i", "0.1", "-W", "2", "-w", "60", &to.ip])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("ping");
    move || {
        // ping prints its summary on SIGINT.
        run("kill", &["-INT", &child.id().to_string()]);
        let output = child.wait_with_output().expect("ping ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find(|line| line.contains("packet loss")).expect("a summary").to_owned()
    }
}

fn crash_and_reclaim(plugins: Plugins) {
    let world = World::enter();
    // An address that somebody has anywhere on the machine is in use: of each test its own.
    let net = match plugins {
        Plugins::Reference => "10.66.1",
        Plugins::Podplumb => "10.66.2",
    };
    let mut containerd = Containerd::start(&world, plugins, &format!("{net}.0/24"));
    let pods: Vec<Sandbox> =
        ["web", "cart", "search", "mail"].iter().map(|name| containerd.run_sandbox(name)).collect();
    let [forgotten, listed, alive, other] = pods.as_slice() else { panic!("four pods") };
    assert!(
        ping(alive, &other.ip) && ping(alive, &format!("{net}.1")),
        "pods reach each other and their gateway"
    );
    let bin_dir = world.plugin_dir(plugins).display().to_string();
    let podplumb = Podplumb::default();
    assert!(podplumb.orphans(GRACE).is_empty(), "nothing is an orphan while all live");

    containerd.crash_sandbox(forgotten);
    containerd.crash_sandbox(listed);
    containerd.forget_sandbox(forgotten);
    let loss = traffic(alive, other);
    std::thread::sleep(std::time::Duration::from_secs(2));

    let orphans = podplumb.orphans(GRACE);
    assert_eq!(orphans.len(), 1, "{orphans:#?}");
    let orphan = &orphans[0];
    assert_eq!(orphan.0["container"], forgotten.id.as_str());
    assert_eq!((orphan.because(), orphan.0["label"].as_str()), ("pinned-only", Some("shop/web")));
    let mut wanted = vec!["namespace", "veth", "lease", "cache"];
    // The network is masqueraded: by elements of ours, or by a chain of iptables.
    match plugins {
        Plugins::Podplumb => wanted.extend(["record", "element"]),
        Plugins::Reference => wanted.push("rules"),
    }
    assert_eq!(orphan.kinds(), wanted);
    let veth = orphan.0["pieces"].as_array().unwrap().iter().find(|piece| piece["kind"] == "veth").unwrap();
    assert!(
        veth["detail"].as_str().unwrap().starts_with("UP, port of cni0"),
        "what shell scripts take for healthy"
    );
    let heard = orphan.0["heard"]["line"].as_str().expect("containerd logged something of it");
    assert!(heard.contains(&forgotten.id) && heard.contains("PodSandbox"), "{heard}");
    assert!(orphan.0["heard"]["path"].as_str().unwrap().ends_with("containerd.log"));
    assert!(orphan.0["heard"].get("pod").is_none(), "its cache entry has its name");
    let saved = podplumb.finding_of(&listed.id, GRACE);
    assert_eq!((saved.verdict(), saved.because()), ("in-use", "runtime-lists"), "CRI lists it as NotReady");
    assert_eq!(podplumb.finding_of(&alive.id, GRACE).verdict(), "in-use");

    // Dry run first: nothing changes.
    podplumb.expect(3, &["reclaim", "--grace", GRACE, "--cni-bin-dir", &bin_dir]);
    assert!(Path::new(&lease(&forgotten.ip)).exists());
    let reclaimed = podplumb.run(&["reclaim", "--apply", "--grace", GRACE, "--cni-bin-dir", &bin_dir]);
    assert!(reclaimed.status.success() && podplumb.orphans(GRACE).is_empty(), "{reclaimed:?}");
    assert!(!Path::new(&forgotten.netns).exists(), "the pin is gone");
    assert!(!Path::new(&lease(&forgotten.ip)).exists(), "the lease is gone");
    let cache = |id: &str| format!("/var/lib/cni/results/pods-{id}-eth0");
    assert!(!Path::new(&cache(&forgotten.id)).exists(), "the cache entry is gone");
    let veth = veth["object"].as_str().unwrap();
    assert!(!output("ip", &["link", "show", veth]).status.success(), "the veth is gone");
    for kept in [listed, alive, other] {
        assert!(
            Path::new(&kept.netns).exists() && Path::new(&lease(&kept.ip)).exists(),
            "{kept:?} is untouched"
        );
    }
    let loss = loss();
    assert!(loss.contains(" 0% packet loss"), "the others' traffic went on: {loss}");

    // The journal restores the lease; then it is reclaimed by hand, and allocated again.
    let journal = podplumb.expect(0, &["journal"]);
    let run_id = journal
        .lines()
        .find_map(|line| line.strip_prefix("run "))
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    podplumb.expect(0, &["undo", &format!("{run_id}.1")]);
    assert!(std::fs::read_to_string(lease(&forgotten.ip)).unwrap().starts_with(&forgotten.id));
    std::fs::remove_file(lease(&forgotten.ip)).unwrap();
    allocate(&world, plugins, &forgotten.ip);

    containerd.remove_sandbox(alive);
    containerd.remove_sandbox(other);
    containerd.remove_sandbox(listed);
    assert!(!Path::new(&lease(&alive.ip)).exists());
}

/// ADDs an attachment that asks for this address.
fn allocate(world: &World, plugins: Plugins, ip: &str) {
    run("ip", &["netns", "add", "again"]);
    let config = r#"{"cniVersion":"1.0.0","name":"pods","type":"bridge","bridge":"cni0","isDefaultGateway":true,
        "ipam":{"type":"host-local","ranges":[[{"subnet":"NET.0/24"}]]}}"#;
    let config = config.replace("NET", ip.rsplit_once('.').expect("an address").0);
    let mut plugin = std::process::Command::new(world.plugin_dir(plugins).join("bridge"))
        .env_clear()
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", "again")
        .env("CNI_NETNS", "/run/netns/again")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", format!("IgnoreUnknown=1;IP={ip}"))
        .env("CNI_PATH", world.plugin_dir(plugins))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the plugin");
    std::io::Write::write_all(&mut plugin.stdin.take().unwrap(), config.as_bytes()).unwrap();
    let output = plugin.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains(ip), "the address can be leased again: {text}");
}

#[test]
fn a_crashed_and_forgotten_pod_is_reclaimed_with_reference_plugins() {
    if require(&NEEDS) {
        crash_and_reclaim(Plugins::Reference);
    }
}

#[test]
fn a_crashed_and_forgotten_pod_is_reclaimed_with_our_plugins() {
    if require(&NEEDS) {
        crash_and_reclaim(Plugins::Podplumb);
    }
}

#[test]
fn while_containerd_is_stopped_everything_of_its_is_unknown() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Podplumb, "10.66.3.0/24");
    let (dead, alive) = (containerd.run_sandbox("web"), containerd.run_sandbox("cart"));
    containerd.crash_sandbox(&dead);
    containerd.forget_sandbox(&dead);
    containerd.stop();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let podplumb = Podplumb::default();
    let finding = podplumb.finding_of(&dead.id, GRACE);
    assert_eq!((finding.verdict(), finding.because()), ("unknown", "runtime-silent"));
    assert_eq!(podplumb.finding_of(&alive.id, GRACE).verdict(), "in-use", "its process lives");
    assert_eq!(podplumb.expect(0, &["reclaim", "--apply", "--grace", GRACE]), "nothing to reclaim\n");
    assert!(Path::new(&dead.netns).exists());
}

#[test]
fn the_containerd_of_docker_does_not_answer_for_one_that_is_stopped() {
    if !(require(&NEEDS) && require(&["dockerd", "docker", "iptables"])) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Podplumb, "10.66.4.0/24");
    let web = containerd.run_sandbox("web");
    containerd.crash_sandbox(&web);
    containerd.stop();
    let _ = std::fs::remove_file("/run/containerd/containerd.sock");
    // Without a containerd to use, dockerd starts one of its own.
    let _docker = Docker::start(&world);
    assert!(Path::new("/run/docker/containerd/containerd.sock").exists());
    std::thread::sleep(std::time::Duration::from_secs(2));
    let finding = Podplumb::default().finding_of(&web.id, GRACE);
    assert_eq!((finding.verdict(), finding.because()), ("unknown", "runtime-silent"));
}

#[test]
fn a_runtime_that_listens_elsewhere_is_found_by_its_process() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Podplumb, "10.66.5.0/24");
    let web = containerd.run_sandbox("web");
    containerd.crash_sandbox(&web);
    // The usual path leads nowhere any more, as where an administrator moved the socket.
    std::fs::create_dir("/run/moved").unwrap();
    std::fs::rename("/run/containerd/containerd.sock", "/run/moved/containerd.sock").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let podplumb = Podplumb::default();
    let finding = podplumb.finding_of(&web.id, GRACE);
    assert_eq!(
        (finding.verdict(), finding.because()),
        ("unknown", "runtime-silent"),
        "it listens, but not there"
    );
    let told = Podplumb::with(&["--cri", "/run/moved/containerd.sock"]).finding_of(&web.id, GRACE);
    assert_eq!((told.verdict(), told.because()), ("in-use", "runtime-lists"));
    std::fs::rename("/run/moved/containerd.sock", "/run/containerd/containerd.sock").unwrap();
    containerd.remove_sandbox(&web);
}

#[test]
fn containerd_runs_pods_with_our_plugins_and_nothing_is_left() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Podplumb, "10.66.6.0/24");
    let (web, cart) = (containerd.run_sandbox("web"), containerd.run_sandbox("cart"));
    assert!(ping(&web, &cart.ip) && ping(&cart, "10.66.6.1"));
    let podplumb = Podplumb::default();
    let json: serde_json::Value =
        serde_json::from_str(&podplumb.expect(0, &["who", &web.ip, "--output", "json"])).unwrap();
    // Other tests' pods have the same address, in worlds of their own on this machine.
    let found = json.as_array().unwrap().iter().map(|found| &found["chain"]);
    let chain = found.into_iter().find(|chain| chain["sandbox"] == web.id.as_str()).expect("the pod's chain");
    let text = |pointer: &str| chain.pointer(pointer).unwrap().to_string().trim_matches('"').to_owned();
    let questions = [
        web.ip.clone(),
        web.id[..8].to_owned(),
        "shop/web".to_owned(),
        "web".to_owned(),
        web.netns.clone(),
        format!("/proc/{}/ns/net", web.pid),
        format!("pid:{}", web.pid),
        web.pid.to_string(),
        text("/namespace/inode"),
        format!("net:[{}]", text("/namespace/inode")),
        text("/interfaces/0/host/name"),
        text("/interfaces/0/host/mac"),
        text("/interfaces/0/inside/mac"),
        format!("ifindex:{}", text("/interfaces/0/host/index")),
    ];
    for question in &questions {
        let answer = podplumb.expect(0, &["who", question]);
        for part in [&web.id, &web.netns, &lease(&web.ip), "containerd (k8s.io)", "bridge     cni0"] {
            assert!(answer.contains(part), "who {question} tells {part}:\n{answer}");
        }
    }
    let pods = podplumb.expect(0, &["pods"]);
    assert!(
        pods.lines()
            .any(|line| line.starts_with("shop/web") && line.contains("Ready") && line.contains(&web.ip)),
        "{pods}"
    );
    containerd.remove_sandbox(&web);
    containerd.remove_sandbox(&cart);
    let leases = std::fs::read_dir("/var/lib/cni/networks/pods").unwrap().flatten();
    let leases: Vec<_> = leases
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with("10."))
        .collect();
    assert!(leases.is_empty(), "{leases:?}");
    assert_eq!(std::fs::read_dir("/run/podplumb/attachments").unwrap().count(), 0);
    assert!(!run("ip", &["link"]).contains("veth"));
    assert!(
        podplumb.findings(GRACE).is_empty()
            || podplumb.findings(GRACE).iter().all(|f| f.0["container"].is_null())
    );
}

#[test]
fn a_forgotten_pod_without_a_cache_entry_has_its_name_from_logs() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    // Its own /var/log, for this test to write to.
    let logs = world.path().join("logs");
    std::fs::create_dir_all(&logs).unwrap();
    run("mount", &["--bind", &logs.display().to_string(), "/var/log"]);
    let mut containerd = Containerd::start(&world, Plugins::Reference, "10.68.0.0/24");
    let web = containerd.run_sandbox("web");
    containerd.crash_sandbox(&web);
    containerd.forget_sandbox(&web);
    std::fs::remove_dir_all("/var/lib/cni/results").unwrap();
    let podplumb = Podplumb::default();
    let pod = || podplumb.finding_of(&web.id, "0s").0["pod"]["name"].as_str().map(str::to_owned);
    assert_eq!(pod(), None);
    let directory = |name: &str| format!("/var/log/pods/shop_{name}_{}/nginx", podplumb_tests::pod_uid(name));
    std::fs::create_dir_all(directory("cart")).unwrap();
    assert_eq!(pod(), None, "no line has both");
    std::fs::create_dir_all(directory("web")).unwrap();
    assert_eq!(pod().as_deref(), Some("web"), "containerd's line about RunPodSandbox has both");
    // It is told, and decides nothing. What other tests do at the same moment may keep a look from being complete.
    podplumb_tests::wait_until("it is an orphan", || {
        let finding = podplumb.finding_of(&web.id, "0s");
        assert_eq!(finding.0["label"].as_str(), Some(&web.id[..12]));
        finding.verdict() == "orphan"
    });
    let output = podplumb.run(&["leaks", "--grace", "0s"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("{}  shop/web by its logs", &web.id[..12])), "{text}");
    assert!(podplumb.expect(0, &["who", "shop/web"]).contains(&web.id[..12]));
}
