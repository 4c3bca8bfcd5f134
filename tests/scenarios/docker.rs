//! Docker.

use std::path::Path;

use podplumb_tests::{Docker, Podplumb, World, output, require};

const NEEDS: [&str; 6] = ["dockerd", "docker", "containerd", "runc", "busybox", "iptables"];
const GRACE: &str = "2s";

#[test]
fn a_container_that_docker_forgot_is_reclaimed_and_a_live_one_is_not() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut docker = Docker::start(&world);
    let podplumb = Podplumb::default();
    let (dead, _) = (docker.run_container("web"), docker.run_container("idle"));
    assert!(podplumb.orphans(GRACE).is_empty());
    let answer = podplumb.expect(0, &["who", "web"]);
    for part in [&dead.id, &dead.netns, &dead.ip, "Docker", "docker0"] {
        assert!(answer.contains(part), "who web tells {part}:\n{answer}");
    }

    docker.crash_with(&dead);
    docker.forget(&dead);
    let waiting = podplumb.findings("0s");
    assert!(
        waiting.iter().all(|finding| finding.verdict() != "orphan"),
        "while Docker is down: {waiting:#?}"
    );
    docker.start_again();
    let alive = docker.run_container("cart");
    std::thread::sleep(std::time::Duration::from_secs(3));

    let orphans = podplumb.orphans(GRACE);
    let pinned =
        |path: &str| orphans.iter().filter(|orphan| orphan.0["pieces"].to_string().contains(path)).count();
    assert_eq!((orphans.len(), pinned(&dead.netns)), (1, 1), "{orphans:#?}");
    assert_eq!(orphans[0].kinds(), ["namespace", "veth"]);
    podplumb.expect(0, &["reclaim", "--apply", "--grace", GRACE]);
    assert!(!Path::new(&dead.netns).exists());
    assert!(podplumb.orphans(GRACE).is_empty());
    assert!(Path::new(&alive.netns).exists());
    let netns = format!("--net={}", alive.netns);
    assert!(output("nsenter", &[&netns, "ping", "-c", "1", "-W", "2", "10.77.0.1"]).status.success());
}

#[test]
fn while_docker_is_stopped_its_containers_are_unknown() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut docker = Docker::start(&world);
    let dead = docker.run_container("web");
    docker.crash_with(&dead);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let podplumb = Podplumb::default();
    let findings = podplumb.findings(GRACE);
    let own = findings.iter().find(|finding| finding.0["pieces"].to_string().contains(&dead.netns));
    let own = own.unwrap_or_else(|| panic!("{findings:#?}"));
    assert_eq!((own.verdict(), own.because()), ("unknown", "runtime-silent"));
    docker.stop();
}
