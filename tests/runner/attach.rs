//! ADD, DEL and CHECK of a whole chain.

use std::os::unix::fs::PermissionsExt;

use podplumb_tests::{Podplumb, run};
use serde_json::{Value, json};

use crate::{Rig, bridge, cache, can_run, nothing, traces};

const RESULT: &str = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.3/24"}],"dns":{}}"#;
const OTHER: &str = r#"{"ips":[{"address":"10.1.2.4/24"}],"dns":{}}"#;

/// One answers with a result, two with one that has no version of its own.
fn two_recorders(rig: &Rig) {
    rig.recorder("one", &format!("[ $CNI_COMMAND = ADD ] && echo '{RESULT}'; true"));
    rig.recorder("two", &format!("[ $CNI_COMMAND = ADD ] && echo '{OTHER}'; true"));
    rig.network(
        "1.0.0",
        &[
            json!({ "type": "one", "own": [1], "capabilities": { "mac": true, "ips": false } }),
            json!({ "type": "two", "capabilities": { "portMappings": true } }),
        ],
    );
}

#[test]
fn plugins_are_called_with_what_libcni_passes() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    two_recorders(&rig);
    let capabilities = r#"{"mac":"02:00:00:00:00:01","ips":["10.0.0.9"],"portMappings":[{"hostPort":80}]}"#;
    let arguments = ["--args", "IgnoreUnknown=1;K8S_POD_NAME=web", "--capability-args", capabilities];
    let (stdout, _) = rig
        .cni(0, &[&["add", "pods", "c1", "/proc/self/ns/net", "--ifname", "net1"][..], &arguments].concat());
    let mut last: Value = serde_json::from_str(OTHER).unwrap();
    last["cniVersion"] = "1.0.0".into();
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap(), last, "the result is the last plugin's");

    let calls = rig.calls();
    let of = |plugin: &str| calls.iter().find(|call| call.plugin == plugin).unwrap();
    assert_eq!(calls.iter().map(|call| call.plugin.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    for call in &calls {
        for (name, value) in [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/proc/self/ns/net"),
            ("CNI_IFNAME", "net1"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web"),
            ("CNI_PATH", rig.scripts().to_str().unwrap()),
        ] {
            assert_eq!(call.variable(name), value, "{name} of {}", call.plugin);
        }
    }
    let one = json!({
        "type": "one", "own": [1], "capabilities": { "mac": true, "ips": false }, "name": "pods", "cniVersion": "1.0.0",
        "runtimeConfig": { "mac": "02:00:00:00:00:01" },
    });
    assert_eq!(of("one").config, one);
    let result: Value = serde_json::from_str(RESULT).unwrap();
    let two = json!({
        "type": "two", "capabilities": { "portMappings": true }, "name": "pods", "cniVersion": "1.0.0",
        "runtimeConfig": { "portMappings": [{ "hostPort": 80 }] }, "prevResult": result,
    });
    assert_eq!(of("two").config, two);

    // CHECK and DEL get the last result and, unless told otherwise, what ADD was called with.
    let expected = |command: &str, order: [&str; 2]| {
        let calls = rig.calls();
        assert_eq!(calls.iter().map(|call| call.plugin.as_str()).collect::<Vec<_>>(), order);
        for call in calls {
            assert_eq!(call.command(), command);
            assert_eq!(call.config["prevResult"], last, "{command}");
            assert_eq!(call.variable("CNI_NETNS"), "/proc/self/ns/net");
            assert_eq!(call.variable("CNI_ARGS"), "IgnoreUnknown=1;K8S_POD_NAME=web");
            assert!(call.config["runtimeConfig"].is_object());
        }
    };
    rig.cni(0, &["check", "pods", "c1", "--ifname", "net1"]);
    expected("CHECK", ["one", "two"]);
    rig.cni(0, &["del", "pods", "c1", "--ifname", "net1"]);
    expected("DEL", ["two", "one"]);
    assert_eq!(traces(), nothing());
    // A second DEL knows of nothing any more, and succeeds.
    rig.cni(0, &["del", "pods", "c1", "--ifname", "net1"]);
    let calls = rig.calls();
    assert!(
        calls.len() == 2 && calls.iter().all(|call| call.config.get("prevResult").is_none()),
        "{calls:?}"
    );
    assert_eq!(calls[0].variable("CNI_NETNS"), "");
}

#[test]
fn cnitools_environment_variables_mean_the_same_here() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    two_recorders(&rig);
    let conf = rig.world.path().join("conf");
    std::fs::create_dir(&conf).unwrap();
    std::fs::copy("/etc/cni/net.d/10-pods.conflist", conf.join("10-pods.conflist")).unwrap();
    std::fs::remove_file("/etc/cni/net.d/10-pods.conflist").unwrap();
    let binary = podplumb_tests::binaries().join("podplumb").display().to_string();
    let variables = [
        format!("NETCONFPATH={}", conf.display()),
        format!("CNI_PATH=/nowhere::{}", rig.scripts().display()),
        "CNI_IFNAME=net7".to_owned(),
        "CNI_ARGS=A=B".to_owned(),
        r#"CAP_ARGS={"mac":"x"}"#.to_owned(),
    ];
    let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
    run("env", &[&variables[..], &[&binary, "cni", "add", "pods", "c", "/proc/self/ns/net"]].concat());
    let call = &rig.calls()[0];
    assert_eq!((call.variable("CNI_IFNAME"), call.variable("CNI_ARGS")), ("net7", "A=B"));
    assert_eq!(call.config["runtimeConfig"], json!({ "mac": "x" }));
}

#[test]
fn what_is_remembered_is_private_and_complete() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.0.0", &[bridge()]);
    let result = rig.add("a");
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("/var/lib/cni/results"), 0o700);
    assert_eq!(mode(cache("a").to_str().unwrap()), 0o600);
    let entry: Value = serde_json::from_slice(&std::fs::read(cache("a")).unwrap()).unwrap();
    assert_eq!(entry["kind"], "cniCacheV1");
    assert_eq!((&entry["containerId"], &entry["ifName"]), (&json!("a"), &json!("eth0")));
    assert_eq!((&entry["networkName"], &entry["netns"]), (&json!("pods"), &json!("/run/netns/a")));
    assert_eq!(entry["result"], result);
    rig.cni(0, &["del", "pods", "a"]);
    assert_eq!(traces(), nothing());
}

#[test]
fn our_plugins_attach_check_and_detach_without_any_plugin_directory() {
    if !can_run() {
        return;
    }
    let rig = Rig { podplumb: Podplumb::with(&["--bin-dir", "/nowhere"]), ..Rig::new() };
    rig.network("1.1.0", &[bridge()]);
    rig.add("a");
    run("nsenter", &["--net=/run/netns/a", "ping", "-c", "1", "-W", "2", "10.66.0.1"]);
    rig.cni(0, &["check", "pods", "a"]);
    run("nsenter", &["--net=/run/netns/a", "ip", "addr", "flush", "dev", "eth0"]);
    let (_, stderr) = rig.cni(1, &["check", "pods", "a"]);
    assert!(stderr.contains("CHECK of bridge"), "{stderr}");
    // The configuration may be gone, and the namespace, too.
    std::fs::remove_file("/etc/cni/net.d/10-pods.conflist").unwrap();
    run("ip", &["netns", "del", "a"]);
    rig.cni(0, &["del", "pods", "a"]);
    assert_eq!(traces(), nothing());
}

#[test]
fn with_exec_the_plugin_directory_decides() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.recorder("bridge", &format!("echo '{RESULT}'"));
    rig.network("1.0.0", &[bridge()]);
    rig.cni(0, &["add", "pods", "a", "/proc/self/ns/net", "--exec"]);
    assert_eq!(rig.calls().len(), 1);
    rig.cni(0, &["del", "pods", "a", "--exec"]);
    assert_eq!(traces(), nothing());
}

#[test]
fn del_goes_on_after_a_plugin_that_fails_and_tells_every_failure() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let fail = r#"[ $CNI_COMMAND = DEL ] && { echo '{"code": 11, "msg": "NAME is busy"}'; exit 1; }; cat > /dev/null"#;
    for name in ["first", "third"] {
        rig.recorder(name, &format!("{}; echo '{RESULT}'", fail.replace("NAME", name)));
    }
    rig.recorder("second", &format!("echo '{RESULT}'"));
    rig.network(
        "1.0.0",
        &[bridge(), json!({ "type": "first" }), json!({ "type": "second" }), json!({ "type": "third" })],
    );
    rig.add("a");
    rig.calls();
    let (_, stderr) = rig.cni(1, &["del", "pods", "a"]);
    assert!(
        stderr.contains("DEL of first: first is busy") && stderr.contains("DEL of third: third is busy"),
        "{stderr}"
    );
    assert!(stderr.contains("hint: try again"), "{stderr}");
    assert_eq!(
        rig.calls().iter().map(|call| call.plugin.as_str()).collect::<Vec<_>>(),
        ["third", "second", "first"]
    );
    // The bridge, the last to be called, was called: only what is needed for another try is left.
    assert_eq!(traces(), ["pods-a-eth0"]);
    for name in ["first", "third"] {
        rig.recorder(name, "");
    }
    rig.cni(0, &["del", "pods", "a"]);
    assert_eq!(traces(), nothing());
}

#[test]
fn a_failed_add_is_undone_with_the_result_so_far() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.recorder(
        "fails",
        r#"[ $CNI_COMMAND = ADD ] && { echo '{"code": 999, "msg": "no"}'; exit 1; }; true"#,
    );
    rig.recorder("after", "");
    rig.network("1.0.0", &[bridge(), json!({ "type": "fails" }), json!({ "type": "after" })]);
    run("ip", &["netns", "add", "a"]);
    let (stdout, stderr) = rig.cni(1, &["add", "pods", "a", "a"]);
    assert!(stdout.is_empty() && stderr.contains("ADD of fails: no (code 999)"), "{stderr}");
    assert_eq!(traces(), nothing());
    let calls = rig.calls();
    let order: Vec<String> = calls.iter().map(|call| format!("{} {}", call.command(), call.plugin)).collect();
    assert_eq!(order, ["ADD fails", "DEL after", "DEL fails"]);
    assert!(calls[2].config["prevResult"]["ips"][0]["address"].as_str().unwrap().starts_with("10.66.0."));

    // What cannot be undone is told besides the reason.
    rig.recorder("fails", r#"echo '{"code": 999, "msg": "no"}'; exit 1"#);
    let (_, stderr) = rig.cni(1, &["add", "pods", "a", "a"]);
    assert!(stderr.contains("ADD of fails: no") && stderr.contains("DEL of fails: no"), "{stderr}");
    assert_eq!(traces(), nothing());
    // A plugin that is not there is noticed before anything is called.
    rig.calls();
    rig.network("1.0.0", &[bridge(), json!({ "type": "fails" }), json!({ "type": "missing" })]);
    let (_, stderr) = rig.cni(1, &["add", "pods", "a", "a"]);
    assert!(stderr.contains("\"missing\" was not found") && stderr.contains("hint: --bin-dir"), "{stderr}");
    assert!(rig.calls().is_empty());
}

#[test]
fn a_second_add_is_refused_and_takes_nothing_away() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.0.0", &[bridge()]);
    rig.add("a");
    let before = traces();
    for forgotten in [false, true] {
        if forgotten {
            std::fs::remove_file(cache("a")).unwrap();
        }
        let (_, stderr) = rig.cni(1, &["add", "pods", "a", "a"]);
        assert!(
            stderr.contains("attached already") && stderr.contains("hint: `podplumb cni del"),
            "{stderr}"
        );
        run("nsenter", &["--net=/run/netns/a", "ping", "-c", "1", "-W", "2", "10.66.0.1"]);
    }
    assert_eq!(traces().len(), before.len() - 1, "only the cache entry, which this test removed, is missing");
    rig.cni(0, &["del", "pods", "a", "a"]);
    assert_eq!(traces(), nothing());
}

#[test]
fn of_many_adds_at_once_each_succeeds_and_of_the_same_only_one() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.0.0", &[bridge()]);
    let binary = podplumb_tests::binaries().join("podplumb");
    let start = |container: &str| {
        let mut command = std::process::Command::new(&binary);
        command.args(["cni", "add", "pods", container, container]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let containers = ["a", "a", "a", "b", "b", "c"];
    for name in ["a", "b", "c"] {
        run("ip", &["netns", "add", name]);
    }
    let running: Vec<_> = containers.into_iter().map(|name| (name, start(name))).collect();
    let mut succeeded = Vec::new();
    for (name, mut child) in running {
        if child.wait().unwrap().success() {
            succeeded.push(name);
        }
    }
    succeeded.sort_unstable();
    assert_eq!(succeeded, ["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        run("nsenter", &[&format!("--net=/run/netns/{name}"), "ping", "-c", "1", "-W", "2", "10.66.0.1"]);
        rig.cni(0, &["del", "pods", name]);
    }
    assert_eq!(traces(), nothing());
}

#[test]
fn status_and_check_say_what_a_version_does_not_have() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let full = json!({ "type": "bridge", "bridge": "cni0", "ipam": { "type": "host-local", "subnet": "10.66.0.0/30" } });
    rig.network("1.1.0", std::slice::from_ref(&full));
    rig.cni(0, &["status", "pods"]);
    rig.add("a");
    let (_, stderr) = rig.cni(1, &["status", "pods"]);
    assert!(stderr.contains("STATUS of bridge") && stderr.contains("(code 50)"), "{stderr}");
    rig.cni(0, &["del", "pods", "a"]);
    rig.network("0.3.1", &[full]);
    let (_, stderr) = rig.cni(0, &["status", "pods"]);
    assert!(stderr.contains("STATUS needs cniVersion 1.1.0"), "{stderr}");
    let (_, stderr) = rig.cni(1, &["check", "pods", "a"]);
    assert!(stderr.contains("CHECK needs cniVersion 0.4.0") && stderr.contains("hint: "), "{stderr}");
    rig.network("1.0.0", &[bridge()]);
    let (_, stderr) = rig.cni(1, &["check", "pods", "never-added"]);
    assert!(stderr.contains("the cache does not have it"), "{stderr}");
    let list = json!({ "cniVersion": "1.0.0", "name": "pods", "disableCheck": true, "plugins": [bridge()] });
    std::fs::write("/etc/cni/net.d/10-pods.conflist", list.to_string()).unwrap();
    let (_, stderr) = rig.cni(0, &["check", "pods", "never-added"]);
    assert!(stderr.contains("disableCheck"), "{stderr}");
}

#[test]
fn plugins_in_a_networks_folder_are_called_also_when_the_folder_is_gone() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.recorder("extra", &format!("echo '{RESULT}'"));
    rig.network("1.0.0", &[bridge()]);
    std::fs::create_dir("/etc/cni/net.d/pods").unwrap();
    std::fs::write("/etc/cni/net.d/pods/10-extra.conf", r#"{"type":"extra"}"#).unwrap();
    rig.add("a");
    std::fs::remove_dir_all("/etc/cni/net.d").unwrap();
    rig.cni(0, &["del", "pods", "a"]);
    let commands: Vec<String> = rig.calls().iter().map(|call| call.command().to_owned()).collect();
    assert_eq!(commands, ["ADD", "DEL"]);
    assert_eq!(traces(), nothing());

    // libcni's entries do not tell of the folder: there, what is in it by now counts.
    std::fs::create_dir_all("/etc/cni/net.d/pods").unwrap();
    rig.network("1.0.0", &[bridge()]);
    rig.cni(0, &["add", "pods", "a", "a"]);
    std::fs::write("/etc/cni/net.d/pods/10-extra.conf", r#"{"type":"extra"}"#).unwrap();
    rig.cni(0, &["del", "pods", "a"]);
    assert_eq!(rig.calls().iter().filter(|call| call.command() == "DEL").count(), 1);
    assert_eq!(traces(), nothing());
}
