//! Several runtimes on one node, each of which knows its own containers only.

use std::time::Duration;

use model::{Runtime, RuntimeKind, RuntimeObjectKind};
use observe::RuntimeSources;
use podplumb_tests::{
    Backend, Containerd, Docker, Finding, Plugins, Podman, Podplumb, World, output, remove_cgroups, require,
    run, serve_v1alpha2, wait_until,
};

const NEEDS: [&str; 9] =
    ["containerd", "ctr", "runc", "dockerd", "docker", "podman", "conmon", "busybox", "iptables"];
const GRACE: &str = "2s";
const CRIO: &str = "/run/crio/crio.sock";

fn of<'a>(findings: &'a [Finding], netns: &str) -> (&'a str, &'a str) {
    let own = findings.iter().find(|finding| finding.0["pieces"].to_string().contains(netns));
    let own = own.unwrap_or_else(|| panic!("no finding about {netns}: {findings:#?}"));
    (own.verdict(), own.because())
}

#[test]
fn containerd_docker_and_podman_answer_for_their_own_and_silence_counts_for_their_own() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Reference, "10.66.0.0/24");
    let web = containerd.run_sandbox("web");
    let mut podman = Podman::new(&world, Backend::Netavark);
    let mail = podman.run_container("mail");
    containerd.crash_sandbox(&web);
    containerd.forget_sandbox(&web);
    podman.crash(&mail);
    let mut docker = Docker::start(&world);
    let shop = docker.run_container("shop");
    std::thread::sleep(Duration::from_secs(2));

    let podplumb = Podplumb::default();
    let all = podplumb.findings(GRACE);
    assert_eq!(of(&all, &web.netns), ("orphan", "pinned-only"));
    assert_eq!(of(&all, &shop.netns), ("in-use", "runtime-lists"));
    assert_eq!(of(&all, &mail.netns), ("in-use", "runtime-lists"));

    docker.crash_with(&shop);
    std::thread::sleep(Duration::from_secs(2));
    let all = podplumb.findings(GRACE);
    assert_eq!(of(&all, &web.netns), ("orphan", "pinned-only"), "what CNI's runtime made is not Docker's");
    assert_eq!(of(&all, &shop.netns), ("unknown", "runtime-silent"));

    containerd.stop();
    let all = podplumb.findings(GRACE);
    assert_eq!(of(&all, &web.netns), ("unknown", "runtime-silent"));
    podman.remove(&mail);
}

#[test]
fn containers_of_every_namespace_of_containerd_are_in_use() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Reference, "10.69.0.0/24");
    let pod = containerd.run_sandbox("web");
    let image = world.path().join("image/image.tar").display().to_string();
    let plugins = world.plugin_dir(Plugins::Reference).display().to_string();
    // As nerdctl attaches them: by the process's namespace, and called after containerd's.
    let mut containers = Vec::new();
    for partition in ["default", "team-a"] {
        run("ctr", &["--namespace", partition, "images", "import", "--snapshotter", "native", &image]);
        let (name, id) = (format!("job-of-{partition}"), format!("{partition}-job-of-{partition}"));
        let own = ["--namespace", partition, "run", "--detach", "--snapshotter", "native"];
        let label = ["--label", &format!("nerdctl/name=tool-of-{partition}")];
        let image_and_command = ["localhost/podplumb/busybox:1", &name, "/bin/sleep", "100000"];
        run("ctr", &[&own[..], &label, &image_and_command].concat());
        let tasks = run("ctr", &["--namespace", partition, "tasks", "ls"]);
        let line = tasks.lines().find(|line| line.starts_with(&name)).expect("a task");
        let pid = line.split_whitespace().nth(1).expect("a pid").to_owned();
        let netns = format!("/proc/{pid}/ns/net");
        let podplumb = Podplumb::with(&["--bin-dir", &plugins]);
        podplumb.expect(0, &["cni", "add", "pods", &id, &netns, "--exec"]);
        let lives_in = std::fs::read_link(&netns).expect("a namespace").display().to_string();
        for question in [name.as_str(), &name[..name.len() - 1], &format!("tool-of-{partition}")] {
            let enter = ["exec", question, "--", "readlink", "/proc/self/ns/net"];
            let answer = Podplumb::default().expect(0, &enter);
            assert_eq!(answer.trim_end(), lives_in, "{question}");
        }
        containers.push((partition, name, id));
    }
    let podplumb = Podplumb::default();
    let verdict = |findings: &[Finding], id: &str| {
        let own = findings.iter().find(|finding| finding.0["container"] == id);
        let own = own.unwrap_or_else(|| panic!("no finding about {id}: {findings:#?}"));
        (own.verdict().to_owned(), own.because().to_owned())
    };
    let is = |verdict: &str, because: &str| (verdict.to_owned(), because.to_owned());
    for (partition, name, _) in &containers {
        run("ctr", &["--namespace", partition, "tasks", "kill", "--signal", "SIGKILL", name]);
        wait_until("the task has stopped", || {
            run("ctr", &["--namespace", partition, "tasks", "ls"]).contains("STOPPED")
        });
    }
    std::thread::sleep(Duration::from_secs(2));
    let findings = podplumb.findings(GRACE);
    assert_eq!(verdict(&findings, &pod.id), is("in-use", "runtime-lists"));
    for (partition, _, id) in &containers {
        assert_eq!(verdict(&findings, id), is("in-use", "runtime-lists"), "{partition}: stopped, but listed");
    }
    let answer = podplumb.expect(0, &["who", "job-of-team-a"]);
    assert!(answer.contains("containerd (team-a)"), "{answer}");
    for (partition, name, _) in &containers {
        run("ctr", &["--namespace", partition, "tasks", "rm", name]);
        assert!(output("ctr", &["--namespace", partition, "containers", "rm", name]).status.success());
        remove_cgroups(partition, std::slice::from_ref(name));
    }
    // Other tests' namespaces end while they are read, and what could have lived in one of them is unknown that time.
    let mut last = Vec::new();
    let are_orphans = (0..5).any(|_| {
        last = podplumb.findings(GRACE);
        containers.iter().all(|(_, _, id)| verdict(&last, id) == is("orphan", "namespace-gone"))
    });
    let own = last.iter().filter(|finding| containers.iter().any(|(_, _, id)| finding.0["container"] == *id));
    assert!(are_orphans, "removed without a DEL: {:#?}", own.collect::<Vec<_>>());
    containerd.remove_sandbox(&pod);
}

#[test]
fn a_cri_on_crio_s_socket_is_asked_in_the_version_that_it_knows() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Reference, "10.69.1.0/24");
    let web = containerd.run_sandbox("web");
    // What CRI-O leaves of its own is no answer.
    std::fs::create_dir_all("/run/crio").unwrap();
    std::fs::write("/run/crio/version", "1.30.0").unwrap();
    let found = || observe::runtimes::observe(&RuntimeSources::default()).unwrap().runtimes;
    let of = |runtimes: &[Runtime], kind| {
        runtimes.iter().find(|runtime| runtime.kind == kind).unwrap_or_else(|| panic!("{runtimes:?}")).clone()
    };
    let silent = of(&found(), RuntimeKind::CriO);
    assert!(!silent.answered() && silent.endpoint.ends_with("run/crio"), "{silent:?}");

    serve_v1alpha2(CRIO, "/run/containerd/containerd.sock");
    let runtimes = found();
    let (old, new) = (of(&runtimes, RuntimeKind::CriO), of(&runtimes, RuntimeKind::Containerd));
    assert!(old.answered() && old.endpoint.ends_with("crio.sock"), "{old:?}");
    let sandboxes = |runtime: &Runtime| {
        let own = runtime.objects.iter().filter(|object| object.kind == RuntimeObjectKind::Sandbox);
        own.map(|object| model::RuntimeObject { partition: None, ..object.clone() }).collect::<Vec<_>>()
    };
    assert_eq!(sandboxes(&old), sandboxes(&new), "the messages are the same");
    let [pod] = &sandboxes(&old)[..] else { panic!("{old:?}") };
    assert_eq!((pod.id.as_str(), pod.pid), (web.id.as_str(), Some(web.pid)));
    assert_eq!(pod.pod.as_ref().map(ToString::to_string).as_deref(), Some("shop/web"));
    containerd.remove_sandbox(&web);
}
