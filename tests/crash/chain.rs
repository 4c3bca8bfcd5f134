//! Plugins that are called one after the other, as a runtime does with a configuration list.

use std::path::Path;
use std::process::Command;

use podplumb_tests::{Fault, Traced, run_traced};
use serde_json::{Value, json};

/// A chain with what the runtime passes to it.
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    plugins: Vec<Value>,
    runtime: Value,
}

/// An attachment, and where its plugins are.
pub(crate) struct Attachment<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) id: &'a str,
}

impl Chain {
    pub(crate) fn all() -> Vec<Self> {
        let bridge = || {
            json!({
                "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.66.0.0/24" }], [{ "subnet": "fd66::/64" }]] },
            })
        };
        let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        let firewall = json!({ "type": "firewall" });
        let bandwidth = json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } });
        let ports = json!([
            { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
            { "hostPort": 5353, "containerPort": 53, "protocol": "udp" },
        ]);
        let rates = json!({ "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000 });
        let runtime = json!({ "portMappings": ports, "bandwidth": rates });
        let chain = |name, plugins| Self { name, plugins, runtime: runtime.clone() };
        vec![
            chain("bridge", vec![bridge()]),
            chain("bridge, portmap, firewall, bandwidth", vec![bridge(), portmap, firewall, bandwidth]),
        ]
    }

    /// How many plugins it has.
    pub(crate) fn length(&self) -> usize {
        self.plugins.len()
    }

    /// The type of a plugin.
    pub(crate) fn kind(&self, at: usize) -> &str {
        self.plugins[at]["type"].as_str().expect("a type")
    }

    /// Calls one plugin, to which something may happen.
    pub(crate) fn call(
        &self,
        attachment: &Attachment<'_>,
        command: &str,
        at: usize,
        previous: &Value,
        fault: Option<(usize, Fault)>,
    ) -> Traced {
        let mut config = self.plugins[at].clone();
        config["name"] = "pods".into();
        config["cniVersion"] = "1.1.0".into();
        if command == "GC" {
            config["cni.dev/valid-attachments"] = json!([]);
        } else {
            for (name, _) in config["capabilities"].clone().as_object().into_iter().flatten() {
                config["runtimeConfig"][name] = self.runtime[name].clone();
            }
        }
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        let Attachment { directory, id } = attachment;
        let mut program = Command::new(directory.join(self.kind(at)));
        program.env_clear().env("CNI_COMMAND", command).env("CNI_PATH", directory);
        if command != "GC" {
            program.env("CNI_CONTAINERID", id).env("CNI_NETNS", format!("/run/netns/{id}"));
            program.env("CNI_IFNAME", "eth0");
        }
        run_traced(&mut program, config.to_string().as_bytes(), fault)
    }
}
