//! The configuration of networks, and the plugins that it names.

use std::path::Path;

use model::{NetworkConfig, RuntimeKind, Source};

use super::{Check, Findings, Ground, Severity};

const SPEC: &str = "https://www.cni.dev/docs/spec/";
/// All that there are.
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Plugins of the reference suite that work on what another one made.
const CHAINED: [&str; 6] = ["bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"];
/// Plugins that only others call.
const IPAM: [&str; 3] = ["dhcp", "host-local", "static"];

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "cni-config",
        title: "a node with Kubernetes' pods has a network configuration",
        severity: Severity::Error,
        why: "kubelet or a CRI runtime works here, and there is no network configuration: the node stays NotReady with `cni plugin not initialized`, and pods in ContainerCreating. The CNI's agent writes the file once it runs itself.",
        see: "ls /etc/cni/net.d; crictl info | grep -A3 NetworkReady",
        fix: "look why the CNI's agent (a DaemonSet in the host's network) does not run, or install one",
        source: "https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/network-plugins/",
        run: config,
    },
    Check {
        id: "cni-config-broken",
        title: "network configurations can be read and understood",
        severity: Severity::Error,
        why: "A file in the directory of network configurations is no JSON, has no valid name, or cannot be read. A runtime skips it, and takes the next one by name, so pods land in another network, or in none.",
        see: "podplumb cni validate",
        fix: "mend the file; podplumb cni validate says where",
        source: SPEC,
        run: config_broken,
    },
    Check {
        id: "cni-two-configs",
        title: "one network configuration is in force",
        severity: Severity::Notice,
        why: "There is more than one network configuration. containerd and CRI-O take the first by file name for Kubernetes' pods; the others are for whoever names them (Multus, Podman), or were left by a CNI that was replaced, and come into force when the first one goes.",
        see: "podplumb cni list",
        fix: "remove what was left over",
        source: "https://github.com/containerd/containerd/blob/main/docs/cri/config.md",
        run: two_configs,
    },
    Check {
        id: "cni-plugin-missing",
        title: "each plugin that a configuration names is installed",
        severity: Severity::Error,
        why: "A network configuration names a plugin that is not in the runtime's directory of plugins: each ADD of that network fails with `failed to find plugin`.",
        see: "ls /opt/cni/bin /usr/lib/cni; podplumb cni validate",
        fix: "install it (the package containernetworking-plugins, or the CNI's own installer), or take it out of the configuration",
        source: SPEC,
        run: plugin_missing,
    },
    Check {
        id: "cni-plugin-mode",
        title: "plugins can be executed",
        severity: Severity::Error,
        why: "The file of a plugin that a network configuration names is not executable, as after a copy that was cut short or without the mode: each ADD fails with `permission denied`.",
        see: "ls -l /opt/cni/bin",
        fix: "chmod 0755 FILE, and compare its size with the original's",
        source: SPEC,
        run: plugin_mode,
    },
    Check {
        id: "cni-version",
        title: "configurations are of a version of CNI that exists",
        severity: Severity::Error,
        why: "A network configuration has a cniVersion that is none: runtimes and plugins refuse it.",
        see: "grep cniVersion /etc/cni/net.d/*",
        fix: "write 1.0.0, which all that are maintained understand",
        source: SPEC,
        run: version,
    },
    Check {
        id: "cni-chain",
        title: "chains of plugins begin with one that makes an interface",
        severity: Severity::Error,
        why: "The first plugin of a chain makes the pod's interface, the others change what is there: portmap, bandwidth, firewall, tuning, sbr and vrf need the result of one before them, and an IPAM plugin is named in `ipam`, not in the chain.",
        see: "podplumb cni validate",
        fix: "put the plugin that makes the interface (bridge, ptp, macvlan, …) first",
        source: SPEC,
        run: chain,
    },
];

fn name(path: &Path) -> String {
    path.display().to_string()
}

/// Whether a runtime works here that makes Kubernetes' pods, and looks for network configurations in the usual place: those of k3s,
/// MicroK8s and others have sockets and configurations of their own.
fn wants_config(ground: &Ground<'_>) -> bool {
    const USUAL: [&str; 3] = ["containerd/containerd.sock", "crio/crio.sock", "cri-dockerd.sock"];
    let is_usual = |runtime: &&model::Runtime| {
        let path = model::namespace::run_path(&runtime.endpoint);
        !runtime.foreign && USUAL.iter().any(|socket| path == Path::new("/run").join(socket))
    };
    let has_sandboxes = |runtime: &model::Runtime| {
        runtime.objects.iter().any(|object| object.kind == model::RuntimeObjectKind::Sandbox)
    };
    let kubelet = ground.snapshot.kubelet_pods.is_some();
    ground.snapshot.runtimes.iter().filter(is_usual).any(|runtime| match runtime.kind {
        RuntimeKind::CriO | RuntimeKind::Cri => true,
        RuntimeKind::Containerd => kubelet || has_sandboxes(runtime),
        _ => false,
    })
}

fn unread<'a>(ground: &Ground<'a>) -> impl Iterator<Item = &'a model::Gap> + use<'a> {
    ground.snapshot.coverage.iter().filter(|gap| gap.source == Source::Configs)
}

fn tell_unread(ground: &Ground<'_>, findings: &mut Findings) {
    for gap in unread(ground) {
        findings.blind(format!("{} could not be read: {}", gap.object, gap.why));
    }
}

/// Those that can be understood, in the order in which runtimes take them.
fn configs<'a>(ground: &Ground<'a>) -> Vec<&'a NetworkConfig> {
    let mut configs: Vec<&NetworkConfig> =
        ground.snapshot.configs.iter().filter(|config| config.problem.is_none()).collect();
    configs.sort_by_key(|config| config.path.file_name());
    configs
}

fn config(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unread(ground, findings);
    if wants_config(ground) && ground.snapshot.configs.is_empty() && unread(ground).next().is_none() {
        findings.add(
            "/etc/cni/net.d",
            "has no network configuration, and a runtime for Kubernetes' pods works here: no pod gets a network",
            "look why the CNI's agent does not run: it writes the file",
        );
    }
}

fn config_broken(ground: &Ground<'_>, findings: &mut Findings) {
    for gap in unread(ground) {
        findings.add(&gap.object, format!("cannot be read: {}", gap.why), "look at its mode and owner");
    }
    for config in &ground.snapshot.configs {
        if let Some(problem) = &config.problem {
            findings.add(
                name(&config.path),
                format!("cannot be understood: {problem}"),
                "podplumb cni validate says where",
            );
        }
    }
}

fn two_configs(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unread(ground, findings);
    let configs = configs(ground);
    if let [first, others @ ..] = configs.as_slice()
        && !others.is_empty()
        && wants_config(ground)
    {
        let others: Vec<String> = others
            .iter()
            .map(|config| config.path.file_name().unwrap_or_default().to_string_lossy().into_owned())
            .collect();
        findings.add(
            name(&first.path),
            format!(
                "is the one in force; beside it there {} {}",
                if others.len() == 1 { "is" } else { "are" },
                others.join(", ")
            ),
            "remove what was left over",
        );
    }
}

fn plugin_missing(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unread(ground, findings);
    for config in configs(ground) {
        let named: Vec<&String> = config.plugins.iter().chain(&config.ipam).collect();
        let is_there = |kind: &&&String| ground.snapshot.plugins.iter().any(|plugin| plugin.kind == ***kind);
        let missing: Vec<&str> =
            named.iter().filter(|kind| !is_there(kind)).map(|kind| kind.as_str()).collect();
        if missing.is_empty() {
            continue;
        }
        if missing.len() == named.len() {
            findings.blind(format!(
                "no plugin of {} is in the usual directories: the runtime may look elsewhere",
                name(&config.path)
            ));
            continue;
        }
        findings.add(
            name(&config.path),
            format!(
                "names {}, which {} not installed beside the others",
                missing.join(", "),
                if missing.len() == 1 { "is" } else { "are" }
            ),
            "install it, or take it out of the configuration",
        );
    }
}

fn plugin_mode(ground: &Ground<'_>, findings: &mut Findings) {
    const ANYBODY_EXECUTES: u32 = 0o111;
    tell_unread(ground, findings);
    for plugin in &ground.snapshot.plugins {
        match plugin.mode {
            Some(mode) if mode & ANYBODY_EXECUTES == 0 => findings.add(
                name(&plugin.path),
                format!(
                    "is not executable (mode {:04o}), and a network configuration names it",
                    mode & 0o7777
                ),
                format!("chmod 0755 {}", plugin.path.display()),
            ),
            Some(_) => {}
            None => findings.blind("the snapshot does not have the modes of plugins"),
        }
    }
}

fn version(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unread(ground, findings);
    for config in configs(ground) {
        if let Some(version) = config.version.as_ref().filter(|version| !VERSIONS.contains(&version.as_str()))
        {
            findings.add(
                name(&config.path),
                format!("has cniVersion {version:?}, which is none"),
                format!("one of {}", VERSIONS.join(", ")),
            );
        }
    }
}

fn chain(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unread(ground, findings);
    for config in configs(ground) {
        if let Some(first) = config.plugins.first().filter(|kind| CHAINED.contains(&kind.as_str())) {
            findings.add(
                name(&config.path),
                format!("begins with {first}, which needs a plugin before it that makes an interface"),
                "put bridge, ptp, macvlan or the like first",
            );
        }
        if let Some(ipam) = config.plugins.iter().find(|kind| IPAM.contains(&kind.as_str())) {
            findings.add(
                name(&config.path),
                format!("has {ipam} in its chain, which only other plugins call"),
                format!(
                    "write it as \"ipam\": {{\"type\": \"{ipam}\"}} of the plugin that makes the interface"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{PluginBinary, Snapshot};

    use super::super::testing::*;
    use super::*;

    fn bridge(s: &mut Snapshot) {
        s.configs.push(NetworkConfig {
            path: "/etc/cni/net.d/10-pods.conflist".into(),
            network: Some("pods".parse().unwrap()),
            plugins: vec!["bridge".into(), "portmap".into()],
            ipam: vec!["host-local".into()],
            version: Some("1.0.0".into()),
            ..NetworkConfig::default()
        });
        for kind in ["bridge", "portmap", "host-local"] {
            s.plugins.push(PluginBinary {
                kind: kind.into(),
                path: format!("/opt/cni/bin/{kind}").into(),
                package: None,
                version: None,
                mode: Some(0o100_755),
            });
        }
        s.kernel_options =
            [("CONFIG_BRIDGE", "y"), ("CONFIG_VETH", "m")].map(|(k, v)| (k.into(), v.into())).into();
    }

    fn kubelet(s: &mut Snapshot) {
        s.kubelet_pods = Some(Default::default());
        s.runtimes.push(model::Runtime {
            kind: RuntimeKind::Containerd,
            endpoint: "/run/containerd/containerd.sock".into(),
            status: model::RuntimeStatus::Answered { version: "2.1.0".into() },
            objects: Vec::new(),
            foreign: false,
        });
    }

    fn changed(change: impl FnOnce(&mut Snapshot)) -> impl FnOnce(&mut Snapshot) {
        |s| {
            bridge(s);
            change(s);
        }
    }

    #[test]
    fn a_configuration_is_missed_where_a_runtime_wants_one() {
        only(&[], bridge);
        only(&["cni-config"], kubelet);
        // k3s keeps its configurations elsewhere.
        let k3s = |s: &mut Snapshot| {
            kubelet(s);
            s.runtimes[0].endpoint = "/run/k3s/containerd/containerd.sock".into();
        };
        assert_eq!(found("cni-config", k3s), [""; 0]);
        assert_eq!(found("cni-config", changed(kubelet)), [""; 0]);
        let second = changed(|s| {
            kubelet(s);
            s.configs
                .push(NetworkConfig { path: "/etc/cni/net.d/05-other.conf".into(), ..s.configs[0].clone() });
        });
        assert_eq!(found("cni-two-configs", second), ["/etc/cni/net.d/05-other.conf"]);
    }

    #[test]
    fn what_is_wrong_with_a_configuration_is_found() {
        only(
            &["cni-config-broken"],
            changed(|s| s.configs[0].problem = Some("expected value at line 1".into())),
        );
        only(&["cni-plugin-missing"], changed(|s| s.plugins.retain(|plugin| plugin.kind != "host-local")));
        only(&["cni-plugin-mode"], changed(|s| s.plugins[1].mode = Some(0o100_644)));
        only(&["cni-version"], changed(|s| s.configs[0].version = Some("2.0".into())));
        only(&["cni-chain"], changed(|s| s.configs[0].plugins.rotate_left(1)));
        only(&["cni-chain"], changed(|s| s.configs[0].plugins.push("host-local".into())));
    }

    #[test]
    fn what_could_not_be_read_is_told() {
        assert!(is_blind("cni-plugin-missing", changed(|s| s.plugins.clear())));
        assert!(is_blind("cni-plugin-mode", changed(|s| s.plugins[0].mode = None)));
        let gap = |s: &mut Snapshot| {
            let source = Source::Configs;
            s.coverage.push(model::Gap { source, object: "/etc/cni/net.d".into(), why: "denied".into() });
            kubelet(s);
        };
        for check in ["cni-config", "cni-two-configs", "cni-version", "cni-chain"] {
            assert!(is_blind(check, gap), "{check}");
        }
        assert_eq!(found("cni-config-broken", gap), ["/etc/cni/net.d"]);
    }
}
