//! GC, which removes whatever it was not told to keep.

use podplumb_tests::run;
use serde_json::json;

use crate::{Rig, bridge, cache, can_run, nothing, traces};

fn ping(container: &str) {
    run("nsenter", &[&format!("--net=/run/netns/{container}"), "ping", "-c", "1", "-W", "2", "10.66.0.1"]);
}

#[test]
fn what_is_valid_stays_and_everything_else_goes() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.recorder("records", r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.1.0","dns":{}}'; true"#);
    rig.network("1.1.0", &[bridge(), json!({ "type": "records" })]);
    for container in ["live", "stale", "forgotten"] {
        rig.add(container);
    }
    // An attachment that no cache knows of: only its plugin can find it.
    std::fs::remove_file(cache("forgotten")).unwrap();
    let before = traces();
    let (stdout, _) = rig.cni(0, &["gc", "pods", "--valid", "live:eth0", "--dry-run"]);
    assert_eq!((stdout.as_str(), traces()), ("would delete pods stale eth0\n", before));
    rig.calls();

    let (stdout, _) = rig.cni(0, &["gc", "pods", "--valid", "live:eth0"]);
    assert_eq!(stdout, "deleted pods stale eth0\n");
    ping("live");
    let calls = rig.calls();
    assert_eq!(calls.iter().map(|call| call.command()).collect::<Vec<_>>(), ["DEL", "GC"]);
    assert_eq!(calls[0].variable("CNI_CONTAINERID"), "stale");
    let list = json!([{ "containerID": "live", "ifname": "eth0" }]);
    assert_eq!(calls[1].config["cni.dev/valid-attachments"], list);
    assert_eq!(calls[1].config["cni.dev/attachments"], list);
    assert_eq!(
        traces().iter().filter(|trace| trace.contains("stale") || trace.contains("forgotten")).count(),
        0
    );
    rig.cni(0, &["gc", "pods", "--nothing-valid"]);
    assert_eq!(traces(), nothing());
}

#[test]
fn from_the_cache_what_it_knows_stays() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.1.0", &[bridge()]);
    for container in ["live", "forgotten"] {
        rig.add(container);
    }
    std::fs::remove_file(cache("forgotten")).unwrap();
    // An entry that cannot be read may be of an attachment that lives.
    std::fs::write(cache("forgotten"), "").unwrap();
    let before = traces();
    let (_, stderr) = rig.cni(1, &["gc", "pods", "--from-cache"]);
    assert!(stderr.contains("cannot tell which attachments are valid"), "{stderr}");
    ping("live");
    ping("forgotten");
    assert_eq!(traces(), before);
    std::fs::remove_file(cache("forgotten")).unwrap();
    rig.cni(0, &["gc", "pods", "--from-cache"]);
    ping("live");
    assert!(!traces().iter().any(|trace| trace.contains("forgotten")), "{:?}", traces());
    rig.cni(0, &["del", "pods", "live"]);
    assert_eq!(traces(), nothing());
}

#[test]
fn without_being_told_what_is_valid_it_does_nothing() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.1.0", &[bridge()]);
    rig.add("a");
    let before = traces();
    let (_, stderr) = rig.cni(2, &["gc", "pods"]);
    assert!(stderr.contains("--valid"), "{stderr}");
    rig.cni(2, &["gc", "pods", "--valid", "a"]);
    rig.cni(2, &["gc", "pods", "--valid", "a:eth0", "--from-cache"]);
    let list = json!({ "cniVersion": "1.1.0", "name": "pods", "disableGC": true, "plugins": [bridge()] });
    std::fs::write("/etc/cni/net.d/10-pods.conflist", list.to_string()).unwrap();
    let (_, stderr) = rig.cni(0, &["gc", "pods", "--nothing-valid"]);
    assert!(stderr.contains("disableGC"), "{stderr}");
    assert_eq!(traces(), before);
    ping("a");
}

#[test]
fn a_plugin_that_fails_does_not_keep_the_others_from_collecting() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.script(
        "fails",
        r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.1.0","dns":{}}' && exit 0; exit 1"#,
    );
    rig.network("1.1.0", &[bridge(), json!({ "type": "fails" })]);
    rig.add("a");
    rig.add("b");
    std::fs::remove_file(cache("b")).unwrap();
    let (_, stderr) = rig.cni(1, &["gc", "pods", "--nothing-valid"]);
    assert!(stderr.contains("pods a eth0: DEL of fails") && stderr.contains("GC of fails"), "{stderr}");
    assert_eq!(traces(), ["pods-a-eth0"], "the entry stays for another try");
    rig.network("1.0.0", &[bridge()]);
    rig.script("fails", "true");
    let (stdout, stderr) = rig.cni(0, &["gc", "pods", "--nothing-valid"]);
    assert!(
        stdout.contains("deleted pods a eth0") && stderr.contains("GC needs cniVersion 1.1.0"),
        "{stderr}"
    );
    assert_eq!(traces(), nothing());
}

#[test]
fn it_waits_until_nobody_works_on_the_network() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let (begun, done, after) =
        (rig.world.path().join("begun"), rig.world.path().join("done"), rig.world.path().join("after"));
    let text = format!(
        "case $CNI_COMMAND in\nADD) echo '{{\"cniVersion\":\"1.1.0\",\"dns\":{{}}}}' ;;\n\
         DEL) touch {}; sleep 1; touch {} ;;\nGC) [ -e {} ] && touch {} ;;\nesac; true",
        begun.display(),
        done.display(),
        done.display(),
        after.display()
    );
    rig.script("slow", &text);
    rig.network("1.1.0", &[json!({ "type": "slow" })]);
    rig.add("a");
    let binary = podplumb_tests::binaries().join("podplumb");
    let mut del = std::process::Command::new(binary);
    del.args(["cni", "del", "pods", "a", "--bin-dir", rig.scripts().to_str().unwrap()]);
    let mut del = del.spawn().unwrap();
    podplumb_tests::wait_until("DEL has begun", || begun.exists());
    rig.cni(0, &["gc", "pods", "--valid", "a:eth0"]);
    assert!(del.wait().unwrap().success());
    assert!(after.exists(), "GC came after the DEL");
}
