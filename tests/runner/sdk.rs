//! The plugin of docs/write-a-cni-plugin.md, as its reader would try it.

use std::path::{Path, PathBuf};

use podplumb_tests::{Containerd, Plugins, binaries, output, require, run};
use serde_json::{Value, json};

use crate::{NEEDS, Rig, bridge, can_run, names, nothing, traces};

const HOSTS: &str = "/run/pod-hosts";

/// The example, built.
fn built() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run(cargo, &["build", "--quiet", "--locked", "-p", "pod-hosts"]);
    let own = std::env::current_exe().expect("a test has a path");
    own.ancestors().nth(2).expect("target/debug/deps/test").join("pod-hosts")
}

fn install(dir: &Path) {
    run("cp", &[&built().display().to_string(), &dir.display().to_string()]);
}

fn chained() -> Value {
    json!({ "type": "pod-hosts", "directory": HOSTS })
}

#[test]
fn the_guide_shows_the_example_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guide = std::fs::read_to_string(root.join("docs/write-a-cni-plugin.md")).unwrap();
    let example = std::fs::read_to_string(root.join("examples/pod-hosts/src/main.rs")).unwrap();
    assert!(guide.contains(&format!("```rust,no_run\n{example}```\n")));
    assert!(example.lines().count() <= 40);
}

#[test]
fn the_example_gives_each_pod_its_entry_and_takes_it_back() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    install(&rig.scripts());
    rig.network("1.1.0", &[bridge(), chained()]);
    rig.cni(0, &["validate"]);
    run("ip", &["netns", "add", "a"]);
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web";
    rig.cni(0, &["add", "pods", "a", "a", "--args", args]);
    let entry = format!("{HOSTS}/pods:a:eth0");
    assert_eq!(std::fs::read_to_string(&entry).unwrap(), "10.66.0.2 web.shop\n");
    rig.cni(0, &["check", "pods", "a"]);
    std::fs::write(&entry, "10.66.0.9 web.shop\n").unwrap();
    let (_, stderr) = rig.cni(1, &["check", "pods", "a"]);
    assert!(stderr.contains("CHECK of pod-hosts: the pod's entry is not right (code 101)"), "{stderr}");
    rig.cni(0, &["status", "pods"]);
    rig.add("b");
    assert_eq!(std::fs::read_to_string(format!("{HOSTS}/pods:b:eth0")).unwrap(), "10.66.0.3 b\n");
    rig.cni(0, &["gc", "pods", "--valid", "b:eth0"]);
    assert_eq!(names(HOSTS), ["pods:b:eth0"]);
    // GC finds what no cache knows of, and leaves another network's alone.
    std::fs::write(&entry, "").unwrap();
    std::fs::write(format!("{HOSTS}/other:a:eth0"), "").unwrap();
    rig.cni(0, &["gc", "pods", "--valid", "b:eth0"]);
    assert_eq!(names(HOSTS), ["other:a:eth0", "pods:b:eth0"]);
    rig.cni(0, &["del", "pods", "b"]);
    rig.cni(0, &["del", "pods", "b"]);
    assert_eq!((names(HOSTS), traces()), (vec!["other:a:eth0".to_owned()], nothing()));
    // A pod's name comes from an API: it must not write lines of its own.
    for name in ["a\n10.0.0.1 evil", "a b", "a#b"] {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}");
        rig.cni(0, &["add", "pods", "a", "a", "--args", &args]);
        let text = std::fs::read_to_string(&entry).unwrap();
        assert!(text.ends_with(" a\n") && text.lines().count() == 1, "{text}");
        rig.cni(0, &["del", "pods", "a"]);
    }
    // On its own it has nothing to work on, and says so.
    rig.network("1.1.0", &[chained()]);
    let (_, stderr) = rig.cni(1, &["add", "pods", "a", "a"]);
    assert!(stderr.contains("has no prevResult"), "{stderr}");
}

#[test]
fn the_example_killed_at_any_step_leaves_nothing_after_one_del() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let program = built().display().to_string();
    let config = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "pod-hosts", "directory": HOSTS,
        "prevResult": { "cniVersion": "1.1.0", "ips": [{ "address": "10.66.0.2/24" }] },
    });
    let file = rig.world.path().join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let call = |command: &str, prefix: &str| {
        let variables = "CNI_CONTAINERID=a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0";
        let line = format!("CNI_COMMAND={command} {variables} {prefix} {program} < {}", file.display());
        output("sh", &["-c", &line])
    };
    let mut kills = 0;
    for syscall in ["mkdir", "open,openat", "link,linkat", "write", "fchmod", "close", "unlink,unlinkat"] {
        for command in ["ADD", "DEL"] {
            for at in 1.. {
                if command == "DEL" {
                    assert!(call("ADD", "").status.success());
                }
                let strace = format!("strace -o /dev/null -e inject={syscall}:signal=KILL:when={at}");
                let was_killed = !call(command, &strace).status.success();
                kills += usize::from(was_killed);
                // Whole, or not there.
                for name in names(HOSTS) {
                    let text = std::fs::read_to_string(format!("{HOSTS}/{name}")).unwrap();
                    assert_eq!((name.as_str(), text.as_str()), ("pods:a:eth0", "10.66.0.2 a\n"));
                }
                assert!(call("DEL", "").status.success(), "{syscall} {at}");
                assert_eq!(names(HOSTS), nothing(), "{command} {syscall} {at}");
                if !was_killed {
                    break;
                }
            }
        }
    }
    assert!(kills > 20, "{kills} kills");
    assert!(binaries().exists());
}

#[test]
fn under_containerd_a_pod_has_its_entry_as_long_as_it_lives() {
    if !(require(&NEEDS) && require(&["containerd", "ctr", "runc", "busybox"])) {
        return;
    }
    let rig = Rig::new();
    install(&rig.world.plugin_dir(Plugins::Podplumb));
    let mut containerd = Containerd::start(&rig.world, Plugins::Podplumb, "10.66.0.0/24");
    let list = std::fs::read_to_string("/etc/cni/net.d/10-pods.conflist").unwrap();
    let mut list: Value = serde_json::from_str(&list).unwrap();
    list["plugins"].as_array_mut().unwrap().push(chained());
    std::fs::write("/etc/cni/net.d/10-pods.conflist", list.to_string()).unwrap();
    containerd.restart();
    let (web, cart) = (containerd.run_sandbox("web"), containerd.run_sandbox("cart"));
    let entry = |id: &str| format!("{HOSTS}/pods:{id}:eth0");
    assert_eq!(std::fs::read_to_string(entry(&web.id)).unwrap(), format!("{} web.shop\n", web.ip));
    assert_eq!(std::fs::read_to_string(entry(&cart.id)).unwrap(), format!("{} cart.shop\n", cart.ip));
    containerd.remove_sandbox(&web);
    assert_eq!(names(HOSTS), [format!("pods:{}:eth0", cart.id)]);
    containerd.remove_sandbox(&cart);
    assert_eq!(names(HOSTS), nothing());
}
