//! Everything that is wrong with a network configuration, where [`Network`](crate::Network) stops at the first thing.

use model::NetworkName;
use serde_json::{Map, Value};

use crate::chain;
use crate::{MAX_CONFIG_BYTES, Version};

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where: a JSON pointer, empty for the whole.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Problem {
    /// A problem at a place.
    pub fn new(at: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into(), hint: hint.into() }
    }
}

/// Capabilities that the plugins of the reference suite have, beyond those of the IPAM plugin that they call. What is declared
/// for a plugin that does not have it never has an effect.
const CAPABILITIES: [(&str, &[&str]); 15] = [
    ("bandwidth", &["bandwidth"]),
    ("bridge", &["mac"]),
    ("dummy", &[]),
    ("firewall", &[]),
    ("host-device", &["deviceID"]),
    ("ipvlan", &[]),
    ("loopback", &[]),
    ("macvlan", &["mac"]),
    ("portmap", &["portMappings"]),
    ("ptp", &[]),
    ("sbr", &[]),
    ("tap", &["mac"]),
    ("tuning", &["mac"]),
    ("vlan", &[]),
    ("vrf", &[]),
];
const IPAM_CAPABILITIES: [(&str, &[&str]); 3] =
    [("dhcp", &[]), ("host-local", &["ipRanges", "ips"]), ("static", &["ips"])];
/// Plugins that work on what another one made.
const CHAINED: [&str; 6] = ["bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"];
/// Plugins that only others call.
const IPAM: [&str; 3] = ["dhcp", "host-local", "static"];

/// What is wrong with a list (`.conflist`) or, with `is_list` false, a single plugin's configuration.
pub fn problems(text: &[u8], is_list: bool) -> Vec<Problem> {
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return vec![Problem::new("", "it is larger than 4 MiB", "is this a network configuration?")];
    }
    let object = match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => {
            return vec![Problem::new(
                "",
                "it is not a JSON object",
                "write {\"cniVersion\": …, \"name\": …}",
            )];
        }
        Err(error) if error.is_eof() => {
            return vec![Problem::new("", format!("it is cut: {error}"), "write the file again")];
        }
        Err(error) => return vec![Problem::new("", format!("it is not JSON: {error}"), "mend it there")],
    };
    let mut found = Finder::default();
    found.head(&object);
    if is_list {
        found.list(&object);
    } else if object.contains_key("plugins") && !object.contains_key("type") {
        found.add(
            "/plugins",
            "it is a list of plugins in a file for a single one",
            "rename it to *.conflist",
        );
    } else {
        found.plugin("", &object, 0);
    }
    found.problems
}

/// What is wrong with a plugin's configuration in the folder of a network, `at` its place in the chain.
pub fn plugin_problems(text: &[u8], at: usize) -> Vec<Problem> {
    let mut found = Finder::default();
    match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(plugin)) => found.plugin("", &plugin, at),
        Ok(_) => found.add("", "it is not a JSON object", "write {\"type\": …}"),
        Err(error) => {
            found.add("", format!("it is not JSON: {error}"), "write the file again, or mend it there")
        }
    }
    found.problems
}

#[derive(Default)]
struct Finder {
    problems: Vec<Problem>,
}

impl Finder {
    fn add(&mut self, at: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(at, what, hint));
    }

    /// A string; where it is something else, that is a problem.
    fn string<'a>(&mut self, prefix: &str, object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
        match object.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.add(format!("{prefix}/{name}"), format!("{name} is not a string"), "put it in quotes");
                Some("")
            }
        }
    }

    fn head(&mut self, object: &Map<String, Value>) {
        match self.string("", object, "name") {
            None => self.add(
                "/name",
                "name is missing",
                "give the network a name: it is what leases and results are kept by",
            ),
            Some(name) => {
                if let (Some(Value::String(_)), Err(error)) =
                    (object.get("name"), name.parse::<NetworkName>())
                {
                    self.add(
                        "/name",
                        error.to_string(),
                        "begin with a letter or digit; then also '_', '.' and '-'",
                    );
                }
            }
        }
        self.version(object);
        for name in ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
            match object.get(name) {
                None | Some(Value::Bool(_)) => {}
                Some(Value::String(text))
                    if ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word)) => {}
                Some(_) => self.add(
                    format!("/{name}"),
                    format!("{name} is neither true nor false"),
                    "write true or false",
                ),
            }
        }
    }

    fn version(&mut self, object: &Map<String, Value>) {
        let all: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
        let hint = format!("one of {}", all.join(", "));
        let list = match object.get("cniVersions") {
            None => &Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                return self.add("/cniVersions", "cniVersions is not a list", "write [\"1.0.0\", \"1.1.0\"]");
            }
        };
        for (at, version) in list.iter().enumerate() {
            let is_number = |text: &str| text.split('.').all(|part| part.parse::<u32>().is_ok());
            if !version.as_str().is_some_and(is_number) {
                self.add(format!("/cniVersions/{at}"), format!("{version} is no version"), hint.clone());
            }
        }
        let is_known = |text: &&str| all.contains(text);
        let has_known = list.iter().filter_map(Value::as_str).any(|text| is_known(&text));
        match self.string("", object, "cniVersion") {
            None | Some("")
                if has_known || object.get("cniVersion").is_some_and(|version| !version.is_string()) => {}
            None | Some("") => self.add(
                "/cniVersion",
                "cniVersion is missing, so it is 0.1.0: one address a family, no CHECK, no GC, no STATUS",
                hint,
            ),
            Some(text) if has_known || is_known(&text) => {}
            Some(text) => {
                let text: String = text.chars().take(40).collect();
                self.add("/cniVersion", format!("cniVersion {text:?} is not supported"), hint);
            }
        }
    }

    fn list(&mut self, object: &Map<String, Value>) {
        let inlined_only = matches!(object.get("loadOnlyInlinedPlugins"), Some(Value::Bool(true)));
        match object.get("plugins") {
            Some(Value::Array(plugins)) if plugins.is_empty() => {
                self.add("/plugins", "plugins is empty", "list at least one plugin");
            }
            Some(Value::Array(plugins)) => {
                for (at, plugin) in plugins.iter().enumerate() {
                    let prefix = format!("/plugins/{at}");
                    match plugin {
                        Value::Object(plugin) => self.plugin(&prefix, plugin, at),
                        _ => self.add(prefix, "it is not a JSON object", "write {\"type\": …}"),
                    }
                }
            }
            Some(_) => self.add("/plugins", "plugins is not a list", "write [{\"type\": …}, …]"),
            None if object.contains_key("type") => self.add(
                "/type",
                "it is a single plugin's configuration in a file for lists",
                "put it into \"plugins\": […], or rename the file to *.conf",
            ),
            None if inlined_only => self.add(
                "/plugins",
                "there are no plugins, and loadOnlyInlinedPlugins forbids to look elsewhere",
                "list plugins, or remove loadOnlyInlinedPlugins",
            ),
            // They may be in the folder of the network's name.
            None => {}
        }
    }

    fn plugin(&mut self, prefix: &str, plugin: &Map<String, Value>, at: usize) {
        let kind = self.string(prefix, plugin, "type");
        match kind {
            None => self.add(
                format!("{prefix}/type"),
                "type is missing",
                "name the plugin, for instance \"bridge\"",
            ),
            Some(kind) if plugin["type"].is_string() => {
                if !chain::is_name(kind) {
                    let hint = "a plugin's name is a file name in the plugin directory, without a path";
                    self.add(format!("{prefix}/type"), format!("{kind:?} is not a plugin's name"), hint);
                } else if at == 0 && CHAINED.contains(&kind) {
                    let what = format!("{kind} works on what another plugin made, but it is the first");
                    self.add(prefix, what, "put it after the plugin that makes the interface");
                } else if IPAM.contains(&kind) {
                    let what =
                        format!("{kind} makes no interface: it manages addresses for a plugin that does");
                    self.add(
                        prefix,
                        what,
                        format!("put \"ipam\": {{\"type\": \"{kind}\", …}} into that plugin's configuration"),
                    );
                }
            }
            Some(_) => {}
        }
        if at > 0 || !prefix.is_empty() {
            for name in ["name", "cniVersion"] {
                self.string(prefix, plugin, name);
            }
        }
        let ipam = match plugin.get("ipam") {
            None | Some(Value::Null) => None,
            Some(Value::Object(ipam)) => {
                let ipam_kind = self.string(&format!("{prefix}/ipam"), ipam, "type").unwrap_or_default();
                if ipam_kind.is_empty() && !ipam.is_empty() {
                    let what = "ipam has settings, but no type: no address would be given";
                    self.add(
                        format!("{prefix}/ipam/type"),
                        what,
                        "name the IPAM plugin, for instance \"host-local\"",
                    );
                } else if !ipam_kind.is_empty() && !chain::is_name(ipam_kind) {
                    let hint = "a plugin's name is a file name in the plugin directory, without a path";
                    self.add(
                        format!("{prefix}/ipam/type"),
                        format!("{ipam_kind:?} is not a plugin's name"),
                        hint,
                    );
                }
                Some(ipam_kind)
            }
            Some(_) => {
                self.add(format!("{prefix}/ipam"), "ipam is not a JSON object", "write {\"type\": …}");
                // Which capabilities it would add cannot be known.
                Some("?")
            }
        };
        self.capabilities(prefix, plugin, kind.unwrap_or_default(), ipam);
    }

    fn capabilities(&mut self, prefix: &str, plugin: &Map<String, Value>, kind: &str, ipam: Option<&str>) {
        let declared = match plugin.get("capabilities") {
            None | Some(Value::Null) => return,
            Some(Value::Object(declared)) => declared,
            Some(_) => {
                return self.add(
                    format!("{prefix}/capabilities"),
                    "capabilities is not a JSON object",
                    "write {\"portMappings\": true}",
                );
            }
        };
        let own = CAPABILITIES.iter().find(|(name, _)| *name == kind).map(|(_, own)| *own);
        let delegated = match ipam.filter(|ipam| !ipam.is_empty()) {
            None => Some(&[][..]),
            Some(ipam) => IPAM_CAPABILITIES.iter().find(|(name, _)| *name == ipam).map(|(_, own)| *own),
        };
        for (name, on) in declared {
            let at = format!("{prefix}/capabilities/{}", name.replace('~', "~0").replace('/', "~1"));
            if !on.is_boolean() {
                let name = name.escape_debug();
                self.add(at, format!("capabilities.{name} is neither true nor false"), "write true or false");
            } else if let (Some(own), Some(delegated), Some(true)) = (own, delegated, on.as_bool())
                && !own.contains(&name.as_str())
                && !delegated.contains(&name.as_str())
            {
                let mut has: Vec<&str> = own.iter().chain(delegated).copied().collect();
                has.sort_unstable();
                let has = if has.is_empty() {
                    "it has none".to_owned()
                } else {
                    format!("it has {}", has.join(", "))
                };
                let name = name.escape_debug();
                self.add(at, format!("{kind} does not have the capability {name}"), has);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Network;

    fn list() -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "pods",
            "plugins": [
                { "type": "bridge", "capabilities": { "ips": true, "mac": true }, "ipam": { "type": "host-local" } },
                { "type": "portmap", "capabilities": { "portMappings": true } },
                { "type": "someone-elses", "capabilities": { "anything": true } },
            ],
        })
    }

    fn of(value: &Value) -> Vec<Problem> {
        problems(value.to_string().as_bytes(), true)
    }

    #[test]
    fn a_good_list_has_none() {
        assert_eq!(of(&list()), []);
    }

    #[test]
    fn every_mistake_is_found_where_it_is() {
        for (at, value, says) in [
            ("/name", json!("../pods"), "must start with"),
            ("/name", json!("a\nb"), "may contain only"),
            ("/name", json!("a\"b"), "may contain only"),
            ("/name", json!(1), "not a string"),
            ("/cniVersion", json!("1.2.0"), "not supported"),
            ("/cniVersion", json!(""), "so it is 0.1.0"),
            ("/cniVersion", json!(1.0), "not a string"),
            ("/disableGC", json!("maybe"), "neither true nor false"),
            ("/plugins", json!([]), "empty"),
            ("/plugins", json!({}), "not a list"),
            ("/plugins/1", json!("portmap"), "not a JSON object"),
            ("/plugins/1/type", json!("../portmap"), "not a plugin's name"),
            ("/plugins/1/type", json!(1), "not a string"),
            ("/plugins/0/ipam", json!([]), "not a JSON object"),
            ("/plugins/0/ipam/type", json!("a/b"), "not a plugin's name"),
            ("/plugins/1/capabilities", json!(true), "not a JSON object"),
            ("/plugins/1/capabilities/portMappings", json!("true"), "neither true nor false"),
            ("/plugins/1/capabilities/mac", json!(true), "portmap does not have the capability mac"),
            (
                "/plugins/0/capabilities/bandwidth",
                json!(true),
                "bridge does not have the capability bandwidth",
            ),
        ] {
            let mut bad = list();
            let (parent, name) = at.rsplit_once('/').unwrap();
            match bad.pointer_mut(parent).unwrap() {
                Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
                other => other[name] = value,
            }
            let found = of(&bad);
            assert!(
                found.len() == 1
                    && found[0].at == at
                    && found[0].what.contains(says)
                    && !found[0].hint.is_empty(),
                "{at}: {found:?}"
            );
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let bad =
            json!({ "cniVersion": "7", "plugins": [{ "type": "portmap" }, { "type": "host-local" }, {}] });
        let places: Vec<String> = of(&bad).into_iter().map(|problem| problem.at).collect();
        assert_eq!(places, ["/name", "/cniVersion", "/plugins/0", "/plugins/1", "/plugins/2/type"]);
    }

    #[test]
    fn what_cannot_be_loaded_has_a_problem() {
        let whole = list().to_string();
        for length in 0..whole.len() {
            let found = problems(&whole.as_bytes()[..length], true);
            assert!(found.len() == 1 && found[0].what.starts_with("it is cut"), "{length}: {found:?}");
        }
        // Each value of the list in turn is replaced by one of each type.
        let pointers = [
            "/name",
            "/cniVersion",
            "/plugins",
            "/plugins/0",
            "/plugins/0/type",
            "/plugins/0/capabilities",
            "/plugins/0/capabilities/ips",
            "/plugins/0/ipam",
            "/plugins/0/ipam/type",
        ];
        for pointer in pointers {
            for value in [
                json!(null),
                json!(true),
                json!(7),
                json!("/"),
                json!([]),
                json!([[]]),
                json!({}),
                json!({ "a": 1 }),
            ] {
                let mut bad = list();
                *bad.pointer_mut(pointer).unwrap() = value.clone();
                let loaded = Network::parse(bad.to_string().as_bytes());
                assert!(loaded.is_ok() || !of(&bad).is_empty(), "{pointer} = {value}: {loaded:?}");
            }
        }
    }

    #[test]
    fn lists_and_single_configurations_in_the_wrong_file_are_told() {
        let single = json!({ "cniVersion": "1.0.0", "name": "n", "type": "bridge" }).to_string();
        assert_eq!(problems(single.as_bytes(), false), []);
        assert!(problems(single.as_bytes(), true)[0].hint.contains("rename"));
        assert!(problems(list().to_string().as_bytes(), false)[0].hint.contains("conflist"));
    }
}
