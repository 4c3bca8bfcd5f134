//! libcni, in the real containerd, and the runner on the same attachments.

use std::path::Path;

use podplumb_tests::{Containerd, Plugins, require, run};
use serde_json::{Value, json};

use crate::{NEEDS, Rig};

fn can_run() -> bool {
    require(&NEEDS) && require(&["containerd", "ctr", "runc", "busybox"])
}

/// containerd with ours and a recorder in its chain.
fn start(rig: &Rig) -> Containerd {
    let dir = rig.world.plugin_dir(Plugins::Podplumb);
    let containerd = Containerd::start(&rig.world, Plugins::Podplumb, "10.66.0.0/24");
    rig.recorder("records", "");
    run("cp", &[&rig.scripts().join("records").display().to_string(), &dir.display().to_string()]);
    containerd
}

#[test]
fn podplumb_reads_what_libcni_wrote_and_libcni_what_podplumb_wrote() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let mut containerd = start(&rig);
    let web = containerd.run_sandbox("web");
    let cache = format!("/var/lib/cni/results/pods-{}-eth0", web.id);
    let libcnis: Value = serde_json::from_slice(&std::fs::read(&cache).unwrap()).unwrap();

    // libcni's entry tells podplumb arguments and result; this libcni does not write the namespace down.
    assert!(libcnis.get("netns").is_none(), "{libcnis}");
    let (_, stderr) = rig.cni(1, &["check", "pods", &web.id]);
    assert!(stderr.contains("CHECK needs the network namespace"), "{stderr}");
    rig.cni(0, &["check", "pods", &web.id, &web.netns]);
    let (stdout, _) = rig.cni(0, &["list", "--output", "json"]);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["networks"][0]["attachments"][0]["container"], web.id.as_str());
    rig.cni(0, &["del", "pods", &web.id]);
    assert!(!Path::new(&cache).exists());

    // The same attachment by podplumb: the same entry, but for what is new.
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web";
    let (stdout, _) = rig.cni(0, &["add", "pods", &web.id, &web.netns, "--args", args]);
    let result: Value = serde_json::from_str(&stdout).unwrap();
    let ours: Value = serde_json::from_slice(&std::fs::read(&cache).unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut libcnis_keys: Vec<String> = keys(&libcnis);
    libcnis_keys.retain(|key| key != "capabilityArgs");
    let mut our_keys = keys(&ours);
    our_keys.retain(|key| key != "netns");
    assert_eq!(our_keys, libcnis_keys);
    for key in ["kind", "containerId", "ifName", "networkName"] {
        assert_eq!(ours[key], libcnis[key], "{key}");
    }
    assert_eq!(keys(&ours["result"]), keys(&libcnis["result"]));

    // containerd's DEL reads it: what libcni gives to a plugin as the previous result is what podplumb remembered.
    let list = std::fs::read_to_string("/etc/cni/net.d/10-pods.conflist").unwrap();
    let mut list: Value = serde_json::from_str(&list).unwrap();
    list["plugins"].as_array_mut().unwrap().push(json!({ "type": "records" }));
    std::fs::write("/etc/cni/net.d/10-pods.conflist", list.to_string()).unwrap();
    containerd.restart();
    rig.calls();
    containerd.remove_sandbox(&web);
    let calls = rig.calls();
    let del = calls.iter().find(|call| call.command() == "DEL").expect("a DEL");
    assert_eq!(del.config["prevResult"]["ips"], result["ips"]);
    assert_eq!(del.config["prevResult"]["interfaces"], result["interfaces"]);
    assert!(!Path::new(&cache).exists(), "libcni removed the entry");
    assert!(!run("ip", &["link"]).contains("veth"));
}
