//! A node on which plugins are called, and what it has around it.

use std::path::{Path, PathBuf};

use podplumb_tests::{Answer, Plugin, World, run};
use serde_json::{Value, json};

/// The node's address outside, and that of a machine there.
pub(crate) const NODE: &str = "192.0.2.1";
pub(crate) const OUTSIDE: &str = "192.0.2.2";
pub(crate) const NODE_6: &str = "2001:db8::1";
pub(crate) const OUTSIDE_6: &str = "2001:db8::2";

/// Where plugins keep files.
const STATE: [&str; 4] = ["/var/lib/cni", "/run/podplumb", "/run/cni", "/run/flannel"];

/// A node with a directory of plugins. The calling thread is in its namespaces.
pub(crate) struct Node {
    pub(crate) world: World,
    pub(crate) directory: PathBuf,
}

impl Node {
    pub(crate) fn new(world: World, directory: PathBuf) -> Self {
        Self { world, directory }
    }

    /// A plugin with a configuration of the network "pods".
    pub(crate) fn plugin(&self, config: &Value) -> Plugin {
        let mut config = config.clone();
        config["name"] = "pods".into();
        if config["cniVersion"].is_null() {
            config["cniVersion"] = "1.0.0".into();
        }
        Plugin::of(&self.directory, config)
    }

    /// Plugins that are called in order.
    pub(crate) fn network(&self, configs: &[Value]) -> Network {
        Network { plugins: configs.iter().map(|config| self.plugin(config)).collect(), args: String::new() }
    }

    /// The newest version that a plugin has.
    pub(crate) fn newest(&self, kind: &str) -> String {
        self.versions(kind).last().cloned().expect("a plugin has versions")
    }

    /// The versions that a plugin has.
    pub(crate) fn versions(&self, kind: &str) -> Vec<String> {
        let plugin = self.plugin(&json!({ "type": kind }));
        let answer = plugin.call(&[("CNI_COMMAND", "VERSION")], br#"{"cniVersion":"1.0.0"}"#);
        let list = answer.json["supportedVersions"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|version| version.as_str().map(str::to_owned)).collect()
    }

    /// A machine outside, on the link `uplink`. It knows no way to pods.
    pub(crate) fn outside(&self) {
        if Path::new("/run/netns/outside").exists() {
            return;
        }
        run("ip", &["netns", "add", "outside"]);
        run("ip", &["link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", "outside"]);
        run("ip", &["addr", "add", &format!("{NODE}/24"), "dev", "uplink"]);
        run("ip", &["addr", "add", &format!("{NODE_6}/64"), "dev", "uplink", "nodad"]);
        run("ip", &["link", "set", "uplink", "up"]);
        inside("outside", "ip link set lo up");
        inside("outside", &format!("ip addr add {OUTSIDE}/24 dev eth0"));
        inside("outside", &format!("ip addr add {OUTSIDE_6}/64 dev eth0 nodad"));
        inside("outside", "ip link set eth0 up");
    }

    /// A machine outside that knows the way to pods.
    pub(crate) fn outside_with_routes(&self) {
        self.outside();
        inside("outside", &format!("ip route add 10.0.0.0/8 via {NODE}"));
        inside("outside", &format!("ip -6 route add fd00::/8 via {NODE_6}"));
    }

    /// Everything that plugins may leave: links, files, rules.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mut all = lines("ip", &["-o", "link"], |line| {
            let name = line.split(": ").nth(1).unwrap_or_default();
            format!("link {}", name.split('@').next().unwrap_or_default())
        });
        all.extend(lines("ip", &["rule"], |line| format!("rule {line}")));
        for directory in STATE {
            files(Path::new(directory), &mut all);
        }
        all.extend(lines("nft", &["--stateless", "list", "ruleset"], str::to_owned));
        for save in ["iptables-save", "ip6tables-save"] {
            all.extend(lines(save, &[], |line| line.split(" [").next().unwrap_or_default().to_owned()));
        }
        all.retain(|line| !line.starts_with('#') && !line.trim().is_empty());
        all
    }

    /// What is there and was not there before.
    pub(crate) fn left_since(&self, before: &[String]) -> Vec<String> {
        let mut left = self.traces();
        for line in before {
            if let Some(at) = left.iter().position(|now| now == line) {
                left.swap_remove(at);
            }
        }
        left
    }

    /// Nothing is left but what was there before. A link whose other end went with its namespace goes a moment later.
    #[track_caller]
    pub(crate) fn assert_nothing_since(&self, before: &[String], after: &str) {
        let mut left = self.left_since(before);
        for _ in 0..20 {
            if !left.iter().any(|line| line.starts_with("link ")) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            left = self.left_since(before);
        }
        assert!(left.is_empty(), "after {after} there is left: {left:#?}");
    }
}

fn lines(program: &str, arguments: &[&str], show: impl Fn(&str) -> String) -> Vec<String> {
    run(program, arguments).lines().map(show).collect()
}

fn files(directory: &Path, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, all),
            _ => all.push(format!("file {}", path.display())),
        }
    }
}

/// Runs a command line in a pod's namespace.
#[track_caller]
pub(crate) fn inside(id: &str, command: &str) -> String {
    let netns = format!("--net=/run/netns/{id}");
    let arguments: Vec<&str> = std::iter::once(netns.as_str()).chain(command.split(' ')).collect();
    run("nsenter", &arguments)
}

/// A new namespace.
pub(crate) fn make_namespace(id: &str) {
    if !Path::new("/run/netns").join(id).exists() {
        run("ip", &["netns", "add", id]);
    }
}

/// Plugins that are called one after the other, as a runtime calls those of a configuration list.
pub(crate) struct Network {
    pub(crate) plugins: Vec<Plugin>,
    /// `CNI_ARGS`.
    pub(crate) args: String,
}

impl Network {
    /// Calls one of them about the attachment of container `id` in the namespace of that name.
    pub(crate) fn call(&self, at: usize, command: &str, id: &str, previous: &Value) -> Answer {
        self.call_in(at, command, id, &format!("/run/netns/{id}"), previous)
    }

    /// The same in any namespace.
    pub(crate) fn call_in(
        &self,
        at: usize,
        command: &str,
        id: &str,
        netns: &str,
        previous: &Value,
    ) -> Answer {
        let mut plugin = self.plugins[at].clone();
        if !previous.is_null() {
            plugin.config["prevResult"] = previous.clone();
        }
        let environment = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", &self.args),
            // The reference plugins look for iptables and nft there.
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ];
        plugin.call(&environment, plugin.config.to_string().as_bytes())
    }

    /// ADD in the namespace of that name, which is made if need be; stops at the first plugin that fails.
    pub(crate) fn try_add(&self, id: &str) -> Answer {
        make_namespace(id);
        let mut answer = self.call(0, "ADD", id, &Value::Null);
        for at in 1..self.plugins.len() {
            if answer.ok {
                let previous = answer.json;
                answer = self.call(at, "ADD", id, &previous);
            }
        }
        answer
    }

    /// ADD that has to succeed; the result.
    #[track_caller]
    pub(crate) fn add(&self, id: &str) -> Value {
        let answer = self.try_add(id);
        assert!(answer.ok, "ADD of {id}: {:#}", answer.json);
        answer.json
    }

    /// DEL in reverse order, each of which has to succeed.
    #[track_caller]
    pub(crate) fn del(&self, id: &str, previous: &Value) {
        self.del_in(id, &format!("/run/netns/{id}"), previous);
    }

    /// The same in any namespace, or in none.
    #[track_caller]
    pub(crate) fn del_in(&self, id: &str, netns: &str, previous: &Value) {
        for at in (0..self.plugins.len()).rev() {
            let answer = self.call_in(at, "DEL", id, netns, previous);
            assert!(answer.ok, "DEL of {id} by {}: {:#}", self.plugins[at].config["type"], answer.json);
        }
    }

    /// Whether CHECK of each plugin is content.
    pub(crate) fn is_fine(&self, id: &str, previous: &Value) -> bool {
        (0..self.plugins.len()).all(|at| self.call(at, "CHECK", id, previous).ok)
    }
}

/// The addresses of a result, without prefix lengths.
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().cloned().unwrap_or_default();
    let address = |ip: &Value| Some(ip["address"].as_str()?.split('/').next()?.to_owned());
    ips.iter().filter_map(address).collect()
}
