//! Podman, which has no daemon: what exists is what its store on disk lists.

use std::path::Path;
use std::time::Duration;

use podplumb_tests::{Backend, Podman, PodmanContainer, Podplumb, World, output, require, run};

const NEEDS: [&str; 6] = ["podman", "conmon", "runc", "busybox", "iptables", "nsenter"];
const GRACE: &str = "2s";
const STORE: &str = "/var/lib/containers/storage/vfs-containers/containers.json";

fn verdict(container: &PodmanContainer) -> (String, String) {
    let finding = Podplumb::default().finding_of(&container.id, GRACE);
    (finding.verdict().to_owned(), finding.because().to_owned())
}

fn is(verdict: &str, because: &str) -> (String, String) {
    (verdict.to_owned(), because.to_owned())
}

fn crash_and_remove(backend: Backend) {
    let world = World::enter();
    let mut podman = Podman::new(&world, backend);
    let (web, cart) = (podman.run_container("web"), podman.run_container("cart"));
    let podplumb = Podplumb::default();
    assert!(podplumb.orphans(GRACE).is_empty());
    let answer = podplumb.expect(0, &["who", "web"]);
    for part in [&web.id, &web.netns, &web.ip, "Podman", "/var/lib/containers/storage"] {
        assert!(answer.contains(part), "who web tells {part}:\n{answer}");
    }

    podman.crash(&web);
    std::thread::sleep(Duration::from_secs(2));
    // Podman will clean up after it, when the container is started or removed.
    let finding = podplumb.finding_of(&web.id, GRACE);
    assert_eq!((finding.verdict(), finding.because()), ("in-use", "runtime-lists"));
    let left: &[&str] = match backend {
        Backend::Netavark => &["namespace", "veth"],
        Backend::Cni => &["namespace", "veth", "lease", "cache", "rules"],
    };
    assert_eq!(finding.kinds(), left, "what is left is named");
    assert!(finding.0["pieces"].to_string().contains(&web.netns));
    assert_eq!(podplumb.expect(0, &["reclaim", "--apply", "--grace", GRACE]), "nothing to reclaim\n");
    assert!(Path::new(&web.netns).exists());

    // While the store cannot be read, nobody knows whose it is.
    let list = std::fs::read_to_string(STORE).unwrap();
    std::fs::write(STORE, &list[..list.len() / 2]).unwrap();
    let findings = podplumb.findings(GRACE);
    let own = findings.iter().find(|finding| finding.0["pieces"].to_string().contains(&web.netns)).unwrap();
    assert_eq!((own.verdict(), own.because()), ("unknown", "runtime-silent"));
    // Nor is it an orphan where the store was thrown away.
    std::fs::write(STORE, "[]").unwrap();
    let findings = podplumb.findings(GRACE);
    let own = findings.iter().find(|finding| finding.0["pieces"].to_string().contains(&web.netns)).unwrap();
    assert_eq!((own.verdict(), own.because()), ("unknown", "store-unknown"));
    assert_eq!(verdict(&cart), is("in-use", "runtime-lists"), "its conmon tells of it");
    std::fs::write(STORE, list).unwrap();

    podman.remove(&web);
    assert!(!Path::new(&web.netns).exists(), "Podman cleaned up after its own");
    let ping = ["--net", "ping", "-c", "1", "-W", "2", &web.ip];
    let netns = format!("--net={}", cart.netns);
    assert!(!output("nsenter", &[&[netns.as_str()][..], &ping[1..]].concat()).status.success());
    assert_eq!(verdict(&cart), is("in-use", "runtime-lists"));
    podman.remove(&cart);
}

#[test]
fn a_crashed_container_of_podman_with_netavark_is_podmans_to_clean_up() {
    if require(&NEEDS) {
        crash_and_remove(Backend::Netavark);
    }
}

#[test]
fn a_crashed_container_of_podman_with_cni_is_podmans_to_clean_up() {
    if require(&NEEDS) {
        crash_and_remove(Backend::Cni);
    }
}

#[test]
fn a_store_elsewhere_is_found_by_its_conmon_and_without_one_nothing_is_an_orphan() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut podman = Podman::elsewhere(&world, Backend::Cni);
    let (web, cart) = (podman.run_container("web"), podman.run_container("cart"));
    podman.crash(&web);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(verdict(&web), is("in-use", "runtime-lists"), "the other one's conmon leads to the store");
    podman.crash(&cart);
    assert_eq!(verdict(&web), is("unknown", "store-unknown"));
    assert_eq!(
        Podplumb::default().expect(0, &["reclaim", "--apply", "--grace", GRACE]),
        "nothing to reclaim\n"
    );
    podman.remove(&web);
    podman.remove(&cart);
}

#[test]
fn a_lease_whose_container_podman_forgot_is_told_and_stays_podmans() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let mut podman = Podman::new(&world, Backend::Netavark);
    let (web, cart) = (podman.run_container("web"), podman.run_container("cart"));
    let podplumb = Podplumb::default();
    let told = || -> Vec<String> {
        let output = podplumb.run(&["leaks", "--output", "json"]);
        let leaks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let hazards = leaks["hazards"].as_array().unwrap().iter();
        let own = hazards.filter(|hazard| hazard["code"] == "forgotten-podman-lease");
        own.map(|hazard| hazard["object"].as_str().unwrap().to_owned()).collect()
    };
    assert!(told().is_empty());
    podman.crash(&web);
    assert!(told().is_empty(), "the store has it");
    podman.crash(&cart);
    podman.lose_store();
    assert!(told().is_empty(), "both addresses are on interfaces");
    run("ip", &["netns", "del", Path::new(&web.netns).file_name().unwrap().to_str().unwrap()]);
    podplumb_tests::wait_until("the one that nobody has is told", || told() == [web.ip.clone()]);
    // Others' namespaces are on this machine, too, and while one goes nothing is told.
    let mut text = String::new();
    podplumb_tests::wait_until("it is told in words", || {
        text = podplumb.expect(0, &["leaks"]);
        text.contains("forgotten-podman-lease")
    });
    let own: Vec<&str> = text.split("\n\n").filter(|part| part.contains("forgotten-podman-lease")).collect();
    let [own] = own[..] else { panic!("{text}") };
    assert!(own.contains(&web.id[..12]) && own.contains("hint"), "{own}");
    assert!(own.lines().all(|line| line.chars().count() <= 80), "{own}");

    // Podman gives it to nobody any more, and podplumb does not write to what is Podman's.
    let rootfs = world.path().join("image/root").display().to_string();
    let refused = podman.refuses(&["run", "--ip", &web.ip, "--rootfs", &rootfs, "/bin/true"]);
    assert!(refused.contains("already allocated"), "{refused}");
    let next = podman.run_container("next");
    let database = Path::new("/run/containers/networks/ipam.db");
    let before = std::fs::read(database).unwrap();
    podplumb.expect(0, &["reclaim", "--apply", "--grace", "0s"]);
    assert!(std::fs::read(database).unwrap() == before);

    // The remedy.
    podman.podman(&["stop", "--time", "0", &next.id]);
    std::fs::remove_file(database).unwrap();
    podman.podman(&["start", &next.id]);
    assert!(told().is_empty());
    assert_eq!(verdict(&next), is("in-use", "runtime-lists"));
    podman.remove(&next);
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
    let again = ["--ip", &web.ip, "--rootfs", &rootfs, "/bin/sleep", "0"];
    podman.podman(&[&["run", "--rm"][..], &limits, &again].concat());

    // What is no database is a gap, and no leak is made of it.
    std::fs::write(database, &before[..before.len() / 16]).unwrap();
    let snapshot = podplumb.expect(0, &["snapshot"]);
    assert!(
        snapshot.contains("\"source\": \"netavark\""),
        "a database without its pages is read as a whole one"
    );
}

/// A user whom only this test's world knows, with a Podman of his own: one container wired by slirp4netns, one by netavark in
/// the user's own namespace.
const ROOTLESS: &str = r#"
set -e
root=/run/rootless
mkdir -p $root/home /run/user/4242 $root/img/bin
cp /etc/passwd $root/passwd; echo 'rootless:x:4242:4242::/run/rootless/home:/bin/sh' >> $root/passwd
cp /etc/group $root/group; echo 'rootless:x:4242:' >> $root/group
echo 'rootless:500000:65536' > $root/subid
cp /bin/busybox $root/img/bin/busybox; ln -s busybox $root/img/bin/sleep
chown -R 4242:4242 $root/home $root/img /run/user/4242
touch /etc/subuid /etc/subgid
mount --bind $root/passwd /etc/passwd; mount --bind $root/group /etc/group
mount --bind $root/subid /etc/subuid; mount --bind $root/subid /etc/subgid
mount -t tmpfs -o mode=1777 shm /dev/shm
mknod -m 666 $root/tun c 10 200; mount --bind $root/tun /dev/net/tun
"#;

fn as_user(script: &str) -> String {
    let podman = "podman --storage-driver vfs --cgroup-manager cgroupfs --events-backend file --runtime runc";
    let limits = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024";
    let script = format!(
        "export HOME=/run/rootless/home XDG_RUNTIME_DIR=/run/user/4242; cd; P='{podman}'; \
         R='{podman} run --detach {limits}'; W='--rootfs /run/rootless/img /bin/sleep 100000'; {script}"
    );
    run("setpriv", &["--reuid", "4242", "--regid", "4242", "--clear-groups", "sh", "-c", &script])
}

#[test]
fn containers_of_a_users_own_podman_are_seen_and_it_disowns_nothing() {
    if !(require(&NEEDS) && require(&["slirp4netns", "newuidmap", "setpriv"])) {
        return;
    }
    let _world = World::enter();
    run("sh", &["-c", ROOTLESS]);
    let ids = as_user("$R --name slirp $W; $R --name bridged --network bridge $W");
    let ids: Vec<&str> = ids.lines().collect();
    let [slirp, bridged] = ids[..] else { panic!("{ids:?}") };
    let podplumb = Podplumb::default();
    let findings = podplumb.findings(GRACE);
    for id in [slirp, bridged] {
        let own = findings.iter().find(|finding| finding.0["container"] == id).expect("a finding");
        assert_eq!((own.verdict(), own.because()), ("in-use", "runtime-lists"), "{own:?}");
        assert!(own.0["pieces"].to_string().contains("net:["), "{own:?}");
        let against = own.0["evidence_against"].to_string();
        assert!(against.contains("no-runtime"), "a user's Podman is not the node's: {against}");
    }
    // The namespace in which netavark works for the user, with the tap of slirp4netns in it.
    let shared = findings.iter().find(|finding| finding.0.to_string().contains("netns/rootless-netns-"));
    let shared = shared.expect("the user's own network is seen");
    assert!(["in-use", "unknown"].contains(&shared.verdict()), "{shared:?}");
    let orphans = findings.iter().filter(|finding| finding.verdict() == "orphan").count();
    assert_eq!(orphans, 0);
    as_user("$P rm --all --force --time 0; $P system migrate");
}
