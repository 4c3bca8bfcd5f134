//! Units and manifests are what their readers accept, and say what podplumb understands.

use std::path::Path;

use podplumb_tests::{binaries, output, require};

use crate::files::{directory, manifest, unit};

const MANIFESTS: [&str; 2] = ["daemonset.yaml", "cronjob.yaml"];

/// The calls of podplumb in a text: what follows its name, up to the end of the command.
fn calls(text: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for line in text.lines() {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("/podplumb ") {
            let call = after.split([';', '|', '&', '\'']).next().unwrap_or_default();
            calls.push(call.split_whitespace().map(str::to_owned).collect());
            rest = after;
        }
    }
    calls
}

/// Parses a call as the program does: with --help at its end, everything before it has to be understood.
fn assert_understood(call: &[String]) {
    let mut arguments: Vec<&str> = call.iter().map(String::as_str).collect();
    arguments.push("--help");
    let output = output(binaries().join("podplumb"), &arguments);
    assert!(output.status.success(), "{call:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_flag_that_does_not_exist_would_be_noticed() {
    let wrong = output(binaries().join("podplumb"), &["reclaim", "--no-such-flag", "--help"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(calls("x; /opt/podplumb/podplumb reclaim --apply; sleep"), [["reclaim", "--apply"]]);
}

#[test]
fn every_command_in_units_and_manifests_is_one_of_podplumbs() {
    if !require(&["python3"]) {
        return;
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".service") {
            found.extend(unit(&name).values("ExecStart").iter().flat_map(|line| calls(line)));
        }
    }
    for name in MANIFESTS {
        for container in manifest(name).containers() {
            let words: Vec<&str> =
                container["command"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
            found.extend(
                calls(&words.join(" "))
                    .into_iter()
                    .filter(|call| call.first().is_some_and(|word| !word.starts_with('/'))),
            );
        }
    }
    found.extend(
        calls(&std::fs::read_to_string(directory().join("README.md")).unwrap())
            .into_iter()
            .filter(|call| call[0] == "leaks"),
    );
    assert!(found.len() >= 5, "{found:?}");
    found.iter().for_each(|call| assert_understood(call));
}

#[test]
fn manifests_give_no_more_than_they_say() {
    if !require(&["python3"]) {
        return;
    }
    for name in MANIFESTS {
        let manifest = manifest(name);
        let pod = manifest.pod();
        assert_eq!((&pod["hostPID"], &pod["hostNetwork"]), (&true.into(), &true.into()), "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        let volumes = pod["volumes"].as_array().unwrap();
        assert_eq!((volumes.len(), &volumes[0]["hostPath"]["path"]), (1, &"/opt/podplumb".into()), "{name}");
        for container in manifest.containers() {
            let context = &container["securityContext"];
            assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert!(context["privileged"].is_null(), "{name}");
        }
        assert!(manifest.capabilities("install").is_empty(), "{name}");
    }
}

#[test]
fn systemd_accepts_the_units() {
    if !require(&["systemd-analyze"]) {
        return;
    }
    // Programs have to exist where a unit says: the copy says where they are here.
    let copies = tempfile::tempdir().unwrap();
    let program = binaries().join("podplumb").display().to_string();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let name = entry.file_name().into_string().unwrap();
        if !Path::new(&name)
            .extension()
            .is_some_and(|kind| ["service", "timer", "socket"].map(Some).contains(&kind.to_str()))
        {
            continue;
        }
        let text =
            unit(&name).0.replace("/usr/local/bin/podplumb", &program).replace("/opt/cni/bin/dhcp", &program);
        std::fs::write(copies.path().join(&name), text).unwrap();
        paths.push(copies.path().join(&name).display().to_string());
    }
    assert!(paths.len() >= 5, "{paths:?}");
    // Of the machine's own units it may say what it likes.
    let complaints = |paths: &[String]| -> Vec<String> {
        let verify = ["verify", "--man=no"].into_iter().chain(paths.iter().map(String::as_str));
        let done = output("systemd-analyze", &verify.collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        said.lines().filter(|line| line.contains("podplumb")).map(str::to_owned).collect()
    };
    assert_eq!(complaints(&paths), Vec::<String>::new());
    let wrong = copies.path().join("podplumb-wrong.service");
    std::fs::write(&wrong, format!("[Service]\nType=onceshot\nExecStart={program}\n")).unwrap();
    assert!(!complaints(&[wrong.display().to_string()]).is_empty(), "what is wrong is noticed");
}

#[test]
fn the_boot_unit_comes_before_the_runtimes_and_kubelet_and_nobody_needs_it() {
    let boot = unit("podplumb-boot.service");
    let before = boot.values("Before").join(" ");
    for service in ["containerd.service", "docker.service", "crio.service", "kubelet.service"] {
        assert!(before.split(' ').any(|name| name == service), "{service}");
    }
    assert!(boot.values("RequiredBy").is_empty());
}
