//! A node with networks, and what its attachments have at this moment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use podplumb_tests::{Pod, Ruleset, World, traces};
use serde_json::{Value, json};

use crate::call::{Answer, call};

/// Where the reference plugins are.
const REFERENCE: &str = "/usr/lib/cni";

/// A network: plugins in order, and where they are.
pub(crate) struct Network {
    plugins: Vec<Value>,
    directory: PathBuf,
    /// The reference plugins of the distribution know none after 1.0.0.
    version: &'static str,
}

/// An attachment of a network: a number that nobody else has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attachment(pub(crate) usize);

impl Attachment {
    pub(crate) fn id(self) -> String {
        format!("pod{}", self.0)
    }
}

fn bridge(ipam: &str, masquerade: bool, sets: &Value) -> Value {
    json!({
        "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": masquerade,
        "ipam": { "type": ipam, "ranges": sets },
    })
}

/// Sets of as many addresses, after the gateway's.
fn ipv4(addresses: usize) -> Value {
    json!([{ "subnet": "10.66.0.0/24", "rangeEnd": format!("10.66.0.{}", addresses + 1) }])
}

fn ipv6(addresses: usize) -> Value {
    json!([{ "subnet": "fd66::/112", "rangeEnd": format!("fd66::{:x}", addresses + 1) }])
}

impl Network {
    /// Our bridge with our host-local, masqueraded, dual stack.
    pub(crate) fn plain(world: &World, addresses: usize) -> Self {
        let plugins = vec![bridge("host-local", true, &json!([ipv4(addresses), ipv6(addresses)]))];
        Self { plugins, directory: world.shipped_dir(), version: "1.1.0" }
    }

    /// The same with all that is usually chained to it.
    pub(crate) fn chain(world: &World, addresses: usize) -> Self {
        let mut network = Self::plain(world, addresses);
        network.plugins.extend([
            json!({ "type": "portmap", "capabilities": { "portMappings": true } }),
            json!({ "type": "firewall" }),
            json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }),
        ]);
        network
    }

    /// One network by three sets of plugins that share leases and bridge: ours, our bridge with the reference host-local, the reference
    /// bridge with its own; and whether a plugin of ours can be killed without one of somebody else's going on alone.
    pub(crate) fn shared(world: &World, addresses: usize) -> [(Self, bool); 3] {
        let sets = json!([ipv4(addresses)]);
        let directory = world.shipped_dir();
        let theirs = directory.join("their-local");
        std::os::unix::fs::symlink(format!("{REFERENCE}/host-local"), theirs).expect("a link");
        let network =
            |ipam, directory, version| Self { plugins: vec![bridge(ipam, false, &sets)], directory, version };
        [
            (network("host-local", directory.clone(), "1.1.0"), true),
            (network("their-local", directory, "1.0.0"), false),
            (network("host-local", REFERENCE.into(), "1.0.0"), false),
        ]
    }

    pub(crate) fn length(&self) -> usize {
        self.plugins.len()
    }

    /// Calls a plugin about an attachment.
    pub(crate) fn call(
        &self,
        attachment: Attachment,
        command: &str,
        at: usize,
        previous: &Value,
        doom: Option<Duration>,
    ) -> Answer {
        let mut config = self.config(at);
        let port = 20_000 + attachment.0;
        let rates = json!({ "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000 });
        for (name, _) in config["capabilities"].clone().as_object().into_iter().flatten() {
            config["runtimeConfig"][name] = match name.as_str() {
                "portMappings" => json!([{ "hostPort": port, "containerPort": 80, "protocol": "tcp" }]),
                _ => rates.clone(),
            };
        }
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        let id = attachment.id();
        let environment = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", &id),
            ("CNI_NETNS", &format!("/run/netns/{id}")),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", &self.path()),
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ];
        call(&self.program(at), &environment, &config, doom)
    }

    /// ADD of the whole chain, to which nothing happens.
    pub(crate) fn add(&self, attachment: Attachment) -> Result<Value, String> {
        (0..self.length()).try_fold(Value::Null, |previous, at| {
            match self.call(attachment, "ADD", at, &previous, None) {
                Answer::Success(result) => Ok(result),
                other => Err(format!("ADD {} of {}: {other:?}", self.kind(at), attachment.id())),
            }
        })
    }

    /// DEL of the whole chain, to which nothing happens.
    pub(crate) fn del(&self, attachment: Attachment, result: &Value) -> Result<(), String> {
        (0..self.length()).rev().try_for_each(|at| match self.call(attachment, "DEL", at, result, None) {
            Answer::Success(_) => Ok(()),
            other => Err(format!("DEL {} of {}: {other:?}", self.kind(at), attachment.id())),
        })
    }

    /// GC, to which nothing happens, and which has to succeed.
    pub(crate) fn gc(&self, valid: impl Iterator<Item = Attachment>) {
        let valid: Vec<Value> =
            valid.map(|attachment| json!({ "containerID": attachment.id(), "ifname": "eth0" })).collect();
        for at in 0..self.length() {
            let mut config = self.config(at);
            config["cni.dev/valid-attachments"] = valid.clone().into();
            let environment = [("CNI_COMMAND", "GC"), ("CNI_PATH", &self.path())];
            call(&self.program(at), &environment, &config, None).expect("GC");
        }
    }

    fn kind(&self, at: usize) -> &str {
        self.plugins[at]["type"].as_str().expect("a type")
    }

    fn program(&self, at: usize) -> PathBuf {
        self.directory.join(self.kind(at))
    }

    fn path(&self) -> String {
        self.directory.display().to_string()
    }

    fn config(&self, at: usize) -> Value {
        let mut config = self.plugins[at].clone();
        config["name"] = "pods".into();
        config["cniVersion"] = self.version.into();
        config
    }
}

/// The addresses of a result.
pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().expect("addresses").iter();
    let text = ips.map(|ip| ip["address"].as_str().expect("an address"));
    text.map(|text| text.split('/').next().unwrap_or_default().parse().expect("an address")).collect()
}

/// Who has which address at this moment.
#[derive(Default)]
pub(crate) struct Holders(Mutex<HashMap<IpAddr, Attachment>>);

impl Holders {
    /// Notes the addresses of a successful ADD; nobody else may have one of them.
    pub(crate) fn give(&self, attachment: Attachment, result: &Value) {
        let mut held = self.0.lock().expect("no panic");
        let addresses = addresses(result);
        assert!(!addresses.is_empty(), "{result}");
        for address in addresses {
            if let Some(other) = held.insert(address, attachment) {
                // Not while others need the lock to end their work.
                drop(held);
                panic!("{address} is given to {} and {}", other.id(), attachment.id());
            }
        }
    }

    /// Before the first DEL: from now on the addresses may be given to others.
    pub(crate) fn take(&self, result: &Value) {
        let mut held = self.0.lock().expect("no panic");
        for address in addresses(result) {
            held.remove(&address);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }
}

/// What a node has after a pod came and went: the bridge, the table, the locks.
pub(crate) struct Usual {
    ruleset: Ruleset,
    traces: Vec<String>,
}

impl Usual {
    /// Attaches a pod to each network and detaches it.
    pub(crate) fn after<'a>(networks: impl IntoIterator<Item = &'a Network>) -> Self {
        let mut ruleset = Ruleset::open();
        let first = Attachment(9_999);
        let pod = Pod::new(&first.id());
        for network in networks {
            let result = network.add(first).expect("ADD works");
            assert!(
                traces(&mut ruleset, [&pod]).len() > 2,
                "an attachment leaves traces, or this test sees none"
            );
            network.del(first, &result).expect("DEL works");
        }
        let traces = traces(&mut ruleset, [&pod]);
        Self { ruleset, traces }
    }

    /// Nothing is there but what is usual. The pods of a test have one link each, as the first one had.
    pub(crate) fn nothing_else(&mut self, pods: &[Pod]) {
        let all = traces(&mut self.ruleset, pods);
        let left: Vec<&String> = all.iter().filter(|trace| !self.traces.contains(trace)).collect();
        assert!(left.is_empty(), "{} things are left: {left:#?}", left.len());
    }
}
