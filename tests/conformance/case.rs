//! Cases, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use podplumb_tests::{Plugins, World};

use crate::node::Node;

/// One thing that plugins have to do.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The plugins that it calls.
    plugins: Vec<String>,
    needs: &'static [Need],
    run: Box<dyn Fn(&Node) + Send>,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    /// The directory has no such plugin.
    NotThere(String),
    /// The kernel was built without this.
    Skipped(&'static str),
}

/// Something that not every kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// What it has to be built with.
    option: &'static str,
    /// A link that it then can make.
    link: &'static [&'static str],
}

pub(crate) const DUMMY: Need = Need { option: "CONFIG_DUMMY", link: &["probe", "type", "dummy"] };
pub(crate) const IFB: Need = Need { option: "CONFIG_IFB", link: &["probe", "type", "ifb"] };
pub(crate) const VRF: Need =
    Need { option: "CONFIG_NET_VRF", link: &["probe", "type", "vrf", "table", "10"] };
pub(crate) const MACVLAN: Need =
    Need { option: "CONFIG_MACVLAN", link: &["probe", "link", "lower", "type", "macvlan", "mode", "bridge"] };
pub(crate) const IPVLAN: Need =
    Need { option: "CONFIG_IPVLAN", link: &["probe", "link", "lower", "type", "ipvlan"] };
pub(crate) const VLAN: Need =
    Need { option: "CONFIG_VLAN_8021Q", link: &["probe", "link", "lower", "type", "vlan", "id", "5"] };
pub(crate) const VLAN_FILTERING: Need = Need {
    option: "CONFIG_BRIDGE_VLAN_FILTERING",
    link: &["probe", "type", "bridge", "vlan_filtering", "1"],
};

impl Need {
    /// Whether the kernel has it, tried in a namespace that ends with the trial.
    fn is_met(self) -> bool {
        let script =
            format!("ip link add lower type veth peer name upper && ip link add {}", self.link.join(" "));
        let output = Command::new("unshare").args(["--net", "sh", "-c", &script]).output();
        output.expect("unshare is there").status.success()
    }
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        plugins: &[&str],
        needs: &'static [Need],
        run: impl Fn(&Node) + Send + 'static,
    ) -> Self {
        let plugins = plugins.iter().map(ToString::to_string).collect();
        Self { name: name.into(), plugins, needs, run: Box::new(run) }
    }

    /// Runs it with a set of plugins, in a world and on a thread of its own.
    fn run(self, directory: &Directory, missing: &mut BTreeMap<&'static str, bool>) -> (String, Outcome) {
        let Self { name, plugins, needs, run } = self;
        for need in needs {
            if !*missing.entry(need.option).or_insert_with(|| need.is_met()) {
                return (name, Outcome::Skipped(need.option));
            }
        }
        let directory = directory.clone();
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let world = World::enter();
            let directory = match directory {
                Directory::Of(plugins) => world.plugin_dir(plugins),
                Directory::At(path) => path.into(),
            };
            if let Some(plugin) = plugins.into_iter().find(|plugin| !directory.join(plugin).exists()) {
                return Outcome::NotThere(plugin);
            }
            run(&Node::new(world, directory));
            Outcome::Passed
        });
        let outcome = thread.expect("a thread").join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Outcome::Failed(text.unwrap_or("it panicked").to_owned())
        });
        (name, outcome)
    }
}

/// Where plugins are.
#[derive(Debug, Clone)]
pub(crate) enum Directory {
    Of(Plugins),
    At(String),
}

/// What came of all cases, in their order.
pub(crate) struct Report(pub(crate) Vec<(String, Outcome)>);

/// Which cases are wanted, where not all are: parts of their names or of kernel options that they need, with `|` between them.
pub(crate) fn only() -> Option<String> {
    std::env::var("PODPLUMB_CONFORMANCE_ONLY").ok().filter(|parts| !parts.is_empty())
}

/// Runs cases one after the other: several at once would wait for each other in the kernel.
pub(crate) fn run(cases: Vec<Case>, directory: &Directory) -> Report {
    let only = only().unwrap_or_default();
    let is_wanted = |case: &Case| {
        let has =
            |part: &str| case.name.contains(part) || case.needs.iter().any(|need| need.option.contains(part));
        only.split('|').any(has)
    };
    let mut met = BTreeMap::new();
    let chosen = cases.into_iter().filter(is_wanted);
    Report(chosen.map(|case| case.run(directory, &mut met)).collect())
}

impl Report {
    /// The names of the cases that failed.
    pub(crate) fn failed(&self) -> Vec<&str> {
        let failed = self.0.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
        failed.map(|(name, _)| name.as_str()).collect()
    }

    /// Whether the case of that name passed.
    pub(crate) fn has_passed(&self, name: &str) -> bool {
        self.0.iter().any(|(have, outcome)| have == name && *outcome == Outcome::Passed)
    }

    /// The names of the cases that the kernel is not enough for.
    pub(crate) fn skipped(&self) -> Vec<&str> {
        let skipped = self.0.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Skipped(_)));
        skipped.map(|(name, _)| name.as_str()).collect()
    }

    /// The plugins that are not there.
    pub(crate) fn not_there(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.0.iter().filter_map(|(_, outcome)| outcome.not_there()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Outcome {
    fn not_there(&self) -> Option<&str> {
        match self {
            Self::NotThere(plugin) => Some(plugin),
            _ => None,
        }
    }
}

/// A table, and below it why cases failed.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, outcome) in &self.0 {
            match outcome {
                Outcome::Passed => writeln!(f, "{name:width$}  passed")?,
                Outcome::Failed(_) => writeln!(f, "{name:width$}  FAILED")?,
                Outcome::NotThere(plugin) => writeln!(f, "{name:width$}  not there: {plugin}")?,
                Outcome::Skipped(option) => {
                    writeln!(f, "{name:width$}  skipped: the kernel has no {option}")?
                }
            }
        }
        for (name, outcome) in &self.0 {
            if let Outcome::Failed(why) = outcome {
                writeln!(f, "\n{name}: {why}")?;
            }
        }
        let count = |is: fn(&Outcome) -> bool| self.0.iter().filter(|(_, outcome)| is(outcome)).count();
        let passed = count(|outcome| *outcome == Outcome::Passed);
        let skipped = self.skipped().len();
        let not_there = count(|outcome| outcome.not_there().is_some());
        let failed = self.failed().len();
        write!(f, "\n{passed} passed, {failed} failed, {not_there} not there, {skipped} skipped")
    }
}
