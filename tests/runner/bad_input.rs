//! Configurations and cache files as crashes, typos and ill will make them.

use std::path::Path;

use podplumb_tests::run;
use serde_json::json;

use crate::{Rig, bridge, cache, can_run, nothing, traces};

const DIR: &str = "/etc/cni/net.d";

#[test]
fn configurations_that_cannot_be_loaded_are_refused_with_a_hint_and_validate_says_why() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let good = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [bridge()] }).to_string();
    let huge = format!("{good}{}", " ".repeat(5 << 20));
    let cases = [
        (good[..good.len() / 2].to_owned(), "cut"),
        (String::new(), "cut"),
        (huge, "4 MiB"),
        (good.replace("1.0.0", "3.0.0"), "cniVersion \"3.0.0\" is not supported"),
        (good.replace("\"pods\"", "\"../pods\""), "\"../pods\""),
        (good.replace("\"pods\"", "\"po\\nds\""), "may contain only"),
        (good.replace("\"pods\"", "\"po\\\"ds\""), "may contain only"),
        (good.replace("\"type\":\"bridge\"", "\"type\":7"), "not a string"),
        ("[".repeat(100_000), "not JSON"),
        ("\u{0}\u{1}".to_owned(), "not JSON"),
    ];
    let file = Path::new(DIR).join("10-pods.conflist");
    for (text, says) in &cases {
        std::fs::write(&file, text).unwrap();
        let (_, stderr) = rig.cni(1, &["add", "pods", "a", "a"]);
        assert!(
            stderr.contains("10-pods.conflist") && stderr.contains("hint: `podplumb cni validate"),
            "{says}: {stderr}"
        );
        let (stdout, _) = rig.cni(3, &["validate"]);
        assert!(stdout.contains(says), "{says}: {stdout}");
        let (stdout, _) = rig.cni(0, &["list"]);
        assert!(stdout.contains("broken: "), "{says}: {stdout}");
    }
    assert_eq!(traces(), nothing());
    assert!(!Path::new("/etc/cni/pods").exists());
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.0.0", &[bridge()]);
    run("ip", &["netns", "add", "a"]);
    let odd = Path::new(DIR).join("05-odd.conflist");
    std::os::unix::fs::symlink("/etc", &odd).unwrap();
    let (_, stderr) = rig.cni(1, &["add", "pods", "a", "a"]);
    assert!(
        stderr.contains("05-odd.conflist"),
        "as with libcni, a link to a directory is an error: {stderr}"
    );
    rig.cni(3, &["validate"]);
    std::fs::remove_file(&odd).unwrap();
    run("mkfifo", &[odd.to_str().unwrap()]);
    rig.cni(1, &["add", "pods", "a", "a"]);
    let (stdout, _) = rig.cni(3, &["validate"]);
    assert!(stdout.contains("not a file"), "{stdout}");
    std::fs::remove_file(&odd).unwrap();
    std::fs::create_dir(&odd).unwrap();
    rig.cni(0, &["add", "pods", "a", "a"]);
    rig.cni(0, &["del", "pods", "a"]);
    // The whole directory may be a link.
    std::fs::rename(DIR, "/etc/cni/elsewhere").unwrap();
    std::os::unix::fs::symlink("elsewhere", DIR).unwrap();
    rig.cni(0, &["add", "pods", "a", "a"]);
    rig.cni(0, &["del", "pods", "a"]);
    assert_eq!(traces(), nothing());
}

#[test]
fn a_cache_file_that_is_cut_anywhere_is_not_in_the_way_of_del() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.0.0", &[json!({ "type": "loopback" })]);
    rig.add("a");
    let whole = std::fs::read(cache("a")).unwrap();
    for length in 0..whole.len() {
        std::fs::write(cache("a"), &whole[..length]).unwrap();
        rig.cni(0, &["del", "pods", "a", "a"]);
        assert!(!cache("a").exists(), "{length}");
    }
    assert_eq!(traces(), nothing());
}

#[test]
fn a_cut_cache_file_does_not_make_del_forget_what_it_has_to_remove() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.0.0", &[bridge()]);
    rig.add("a");
    let whole = std::fs::read(cache("a")).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(cache("a"), &whole[..length]).unwrap();
        let (_, stderr) = rig.cni(1, &["check", "pods", "a"]);
        assert!(stderr.contains("the cache does not have it"), "{stderr}");
        rig.cni(0, &["del", "pods", "a", "a"]);
        assert_eq!(traces(), nothing());
        rig.cni(0, &["add", "pods", "a", "a"]);
    }
    // A file of the same name that is about another attachment is not ours to use, and not to overwrite.
    rig.cni(0, &["del", "pods", "a", "a"]);
    let other = String::from_utf8(whole).unwrap().replace("\"containerId\":\"a\"", "\"containerId\":\"b\"");
    std::fs::write(cache("a"), &other).unwrap();
    let (_, stderr) = rig.cni(1, &["add", "pods", "a", "a"]);
    assert!(stderr.contains("attached already"), "{stderr}");
    assert_eq!(std::fs::read_to_string(cache("a")).unwrap(), other);
}

#[test]
fn names_that_are_none_are_usage_errors() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    for arguments in [
        &["add", "../pods", "a", "a"][..],
        &["add", "pods", "a/b", "a"],
        &["add", "pods", "a", "a", "--ifname", "a/b"],
        &["del", "pods", "a\nb"],
        &["add", "pods", "a", "a", "--capability-args", "{"],
        &["gc", "pods"],
    ] {
        let output = podplumb_tests::Podplumb::default().run(&[&["cni"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    rig.network("1.0.0", &[bridge()]);
    let (_, stderr) = rig.cni(1, &["add", "pods", "a", "/no/such/namespace"]);
    assert!(stderr.contains("(code 8)") && stderr.contains("hint: `ip netns add"), "{stderr}");
    let (_, stderr) = rig.cni(1, &["add", "pods", "a", "/proc/self/ns/net"]);
    assert!(stderr.contains("is the plugin's own"), "{stderr}");
    let (_, stderr) = rig.cni(1, &["add", "pods", "a", "a", "--args", "novalue"]);
    assert!(stderr.contains("CNI_ARGS"), "{stderr}");
    let long = "x".repeat(200);
    let (_, stderr) = rig.cni(1, &["add", "pods", &long, "a", "--ifname", "fifteen_bytes_x"]);
    assert!(!stderr.contains("255"), "that fits: {stderr}");
    let list = json!({ "cniVersion": "1.0.0", "name": long, "plugins": [bridge()] });
    std::fs::write("/etc/cni/net.d/20-long.conflist", list.to_string()).unwrap();
    let (_, stderr) = rig.cni(1, &["add", &long, &long, "a"]);
    assert!(stderr.contains("255 bytes"), "{stderr}");
    assert_eq!(traces(), nothing());
}
