//! What a runtime would see, and what is wrong with it.

use podplumb_tests::Plugins;
use serde_json::{Value, json};

use crate::{Rig, bridge, can_run};

fn write(name: &str, value: &Value) {
    std::fs::write(format!("/etc/cni/net.d/{name}"), value.to_string()).unwrap();
}

#[test]
fn networks_are_listed_in_a_runtimes_order_with_plugins_and_attachments() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.script("theirs", r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","dns":{}}'; true"#);
    let ours = rig.world.plugin_dir(Plugins::Podplumb).join("loopback");
    std::os::unix::fs::symlink(ours, rig.scripts().join("loopback")).unwrap();
    write("05-single.conf", &json!({ "cniVersion": "0.4.0", "name": "single", "type": "missing" }));
    write(
        "10-pods.conflist",
        &json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [{ "type": "loopback" }, { "type": "theirs" }] }),
    );
    write("20-later.conflist", &json!({ "cniVersion": "1.0.0", "name": "later", "plugins": [bridge()] }));
    std::fs::write("/etc/cni/net.d/30-cut.conflist", "{").unwrap();
    std::fs::write("/etc/cni/net.d/notes.txt", "{").unwrap();
    rig.add("a");
    let (stdout, _) = rig.cni(0, &["list", "--output", "json"]);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    let lines = json["networks"].as_array().unwrap();
    let files: Vec<&str> =
        lines.iter().map(|line| line["file"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(files, ["05-single.conf", "10-pods.conflist", "20-later.conflist", "30-cut.conflist"]);
    assert_eq!((&lines[0]["taken_by"], &lines[1]["taken_by"]), (&json!(["containerd"]), &json!(["CRI-O"])));
    let origins = |line: &Value| -> Vec<String> {
        let plugins = line["plugins"].as_array().unwrap();
        plugins.iter().map(|plugin| plugin["origin"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(origins(&lines[0]), ["missing"]);
    assert_eq!(origins(&lines[1]), ["ours", "foreign"]);
    assert_eq!(origins(&lines[2]), ["not-installed"]);
    assert_eq!(lines[1]["attachments"][0]["container"], "a");
    assert!(lines[3]["problem"].is_string());
    let (stdout, _) = rig.cni(0, &["list", "--output", "wide"]);
    assert!(
        stdout.contains("loopback (ours), theirs (foreign)") && stdout.contains("/run/netns/a"),
        "{stdout}"
    );
    rig.cni(0, &["del", "pods", "a"]);
}

#[test]
fn validate_finds_every_mistake_and_says_what_to_do() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.1.0", &[bridge()]);
    let (stdout, stderr) = rig.cni(0, &["validate"]);
    assert!(stdout.is_empty() && stderr.contains("0 problems in 1 file"), "{stdout}{stderr}");

    rig.script("old", r#"echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}'"#);
    rig.script("mute", "true");
    write(
        "20-bad.conflist",
        &json!({
            "cniVersion": "1.1.0", "name": "bad",
            "plugins": [
                { "type": "bridge", "vlan": 5000, "capabilities": { "portMappings": true } },
                { "type": "old" }, { "type": "mute" }, { "type": "nowhere" },
                { "type": "bridge", "ipam": { "type": "host-local", "subnet": "10.0.0.0/33" } },
            ],
        }),
    );
    write("30-again.conflist", &json!({ "cniVersion": "1.1.0", "name": "pods", "plugins": [bridge()] }));
    std::fs::create_dir("/etc/cni/net.d/pods").unwrap();
    std::fs::write("/etc/cni/net.d/pods/10-x.conf", "{}").unwrap();
    let (stdout, _) = rig.cni(3, &["validate", "--output", "json"]);
    let findings: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    for (file, at, says) in [
        ("20-bad.conflist", "/plugins/0/capabilities/portMappings", "does not have the capability"),
        ("20-bad.conflist", "/plugins/0", "bridge: "),
        ("20-bad.conflist", "/plugins/1/type", "does not support cniVersion 1.1.0"),
        ("20-bad.conflist", "/plugins/2/type", "does not tell which versions"),
        ("20-bad.conflist", "/plugins/3/type", "there is no plugin \"nowhere\""),
        ("20-bad.conflist", "/plugins/4", "bridge: "),
        ("30-again.conflist", "/name", "is in /etc/cni/net.d/10-pods.conflist already"),
        ("pods/10-x.conf", "/type", "type is missing"),
    ] {
        let is_it = |finding: &&Value| {
            finding["file"].as_str().unwrap().ends_with(file)
                && finding["at"] == at
                && finding["what"].as_str().unwrap().contains(says)
                && !finding["hint"].as_str().unwrap().is_empty()
        };
        assert_eq!(findings.iter().filter(is_it).count(), 1, "{file} {at} {says}: {findings:#?}");
    }
    let (stdout, stderr) = rig.cni(3, &["validate", "/etc/cni/net.d/20-bad.conflist"]);
    assert!(
        stdout.starts_with("/etc/cni/net.d/20-bad.conflist at ") && stderr.contains("in 1 file"),
        "{stdout}"
    );
    let (_, stderr) = rig.cni(1, &["validate", "/no/such/file"]);
    assert!(stderr.contains("hint: "), "{stderr}");
}
