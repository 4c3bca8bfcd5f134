//! What the kernel was built with.

use std::collections::BTreeSet;

use super::{Check, Findings, Ground, Severity};

/// What plugins of the reference suite need.
const NEEDS: [(&str, &[&str]); 9] = [
    ("bandwidth", &["CONFIG_NET_SCH_TBF", "CONFIG_IFB"]),
    ("bridge", &["CONFIG_BRIDGE", "CONFIG_VETH"]),
    ("dummy", &["CONFIG_DUMMY"]),
    ("ipvlan", &["CONFIG_IPVLAN"]),
    ("macvlan", &["CONFIG_MACVLAN"]),
    ("ptp", &["CONFIG_VETH"]),
    ("tap", &["CONFIG_TUN"]),
    ("vlan", &["CONFIG_VLAN_8021Q"]),
    ("vrf", &["CONFIG_NET_VRF"]),
];

pub(super) const CHECKS: &[Check] = &[Check {
    id: "kernel-option",
    title: "the kernel has what the configured plugins need",
    severity: Severity::Error,
    why: "A network configuration names a plugin for which the kernel was built without the option that it needs: each ADD fails with `operation not supported`. Minimal kernels of virtual machines and appliances lack some.",
    see: "zgrep CONFIG_X /proc/config.gz, or grep CONFIG_X /boot/config-$(uname -r)",
    fix: "a kernel with the option (distributions' kernels have all of them as modules; on Debian and Ubuntu's cloud kernels, linux-modules-extra has some), or another plugin",
    source: "https://docs.kernel.org/kbuild/kconfig.html",
    run: kernel_option,
}];

fn kernel_option(ground: &Ground<'_>, findings: &mut Findings) {
    let options = &ground.snapshot.kernel_options;
    let mut told = BTreeSet::new();
    for config in &ground.snapshot.configs {
        for kind in &config.plugins {
            let Some((_, needs)) = NEEDS.iter().find(|(plugin, _)| plugin == kind) else { continue };
            if options.is_empty() {
                findings
                    .blind("the kernel's configuration could not be read (/proc/config.gz, /boot/config-*)");
                continue;
            }
            let missing = needs.iter().filter(|option| !options.contains_key(**option));
            for option in missing.filter(|option| told.insert((kind, **option))) {
                findings.add(
                    config.path.display().to_string(),
                    format!("names {kind}, which needs {option}, and this kernel was built without it"),
                    "a kernel with that option, or another plugin",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{NetworkConfig, Snapshot};

    use super::super::testing::*;

    fn with(kind: &'static str) -> impl FnOnce(&mut Snapshot) {
        move |s| {
            s.configs.push(NetworkConfig { plugins: vec![kind.into()], ..NetworkConfig::default() });
            s.kernel_options = [("CONFIG_VETH".into(), "m".into())].into();
        }
    }

    #[test]
    fn an_option_that_is_missing_is_found_if_a_plugin_needs_it() {
        assert_eq!(diagnosis("kernel-option", with("vlan")).findings.len(), 1);
        assert_eq!(found("kernel-option", with("ptp")), [""; 0]);
        assert_eq!(found("kernel-option", with("cilium-cni")), [""; 0]);
        assert!(is_blind("kernel-option", |s| {
            with("vlan")(s);
            s.kernel_options.clear();
        }));
    }
}
