//! Reading what is in deploy/.

use std::path::{Path, PathBuf};

use podplumb_tests::run;
use serde_json::Value;

pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// A systemd unit.
pub(crate) struct Unit(pub(crate) String);

pub(crate) fn unit(name: &str) -> Unit {
    Unit(std::fs::read_to_string(directory().join(name)).expect("a unit"))
}

impl Unit {
    /// The values of a key.
    pub(crate) fn values(&self, key: &str) -> Vec<String> {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.map(str::to_owned).collect()
    }

    /// As setpriv names them, sorted.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let all = self.values("CapabilityBoundingSet").join(" ");
        let mut names: Vec<String> =
            all.split(' ').filter_map(|name| name.strip_prefix("CAP_")).map(str::to_lowercase).collect();
        names.sort();
        names
    }
}

/// A Kubernetes manifest.
pub(crate) struct Manifest(pub(crate) Value);

pub(crate) fn manifest(name: &str) -> Manifest {
    let path = directory().join("kubernetes").join(name).display().to_string();
    // The parser of Debian's python3-yaml: xtask/install test installs it.
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    Manifest(serde_json::from_str(&run("/usr/bin/python3", &["-c", script, &path])).expect("JSON"))
}

impl Manifest {
    /// The specification of its pods.
    pub(crate) fn pod(&self) -> &Value {
        let template = match self.0["kind"].as_str() {
            Some("CronJob") => &self.0["spec"]["jobTemplate"]["spec"]["template"],
            _ => &self.0["spec"]["template"],
        };
        &template["spec"]
    }

    /// The containers, with those that come first.
    pub(crate) fn containers(&self) -> Vec<&Value> {
        let of = |list: &str| self.pod()[list].as_array().into_iter().flatten();
        of("initContainers").chain(of("containers")).collect()
    }

    /// What a container may do, as setpriv names it, sorted.
    pub(crate) fn capabilities(&self, container: &str) -> Vec<String> {
        let containers = self.containers();
        let own = containers.iter().find(|own| own["name"] == container).expect("a container of this name");
        let added = own["securityContext"]["capabilities"]["add"].as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> = added.iter().map(|name| name.as_str().unwrap().to_lowercase()).collect();
        names.sort();
        names
    }
}
