//! `podplumb cni validate`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::chain::{self, Request};
use cni::{Code, Command, Config, Environment, Network, Problem};
use serde::Serialize;
use serde_json::{Value, json};

use super::dirs;
use super::origin::{self, Origin};
use crate::arguments::{Shape, ValidateOptions};
use crate::output::{Ended, hinted, print, print_json};

/// VERSION does nothing but print.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct Finding {
    file: PathBuf,
    #[serde(flatten)]
    problem: Problem,
}

/// Findings, and what was learned on the way.
struct Validation {
    dirs: Vec<PathBuf>,
    findings: Vec<Finding>,
    /// Networks by their name, and the file that a runtime would take it from.
    names: BTreeMap<String, PathBuf>,
    count: usize,
}

pub(super) fn run(options: &ValidateOptions) -> anyhow::Result<Ended> {
    let mut validation =
        Validation { dirs: dirs(&options.bin_dir), findings: Vec::new(), names: BTreeMap::new(), count: 0 };
    for path in &options.paths {
        validation.path(path)?;
    }
    let Validation { findings, count, .. } = &validation;
    match options.output {
        Shape::Json => print_json(findings)?,
        Shape::Text => {
            let text: String = findings.iter().map(text).collect();
            print(&text)?;
            let found = if findings.len() == 1 {
                "1 problem".to_owned()
            } else {
                format!("{} problems", findings.len())
            };
            let files = if *count == 1 { "1 file".to_owned() } else { format!("{count} files") };
            eprintln!("{found} in {files}");
        }
    }
    Ok(if findings.is_empty() { Ended::Fine } else { Ended::Found })
}

fn text(finding: &Finding) -> String {
    let Finding { file, problem } = finding;
    let place = if problem.at.is_empty() { String::new() } else { format!(" at {}", problem.at) };
    let printable = analyze::render::printable;
    format!(
        "{}{}: {}\n    {}\n",
        printable(&file.display().to_string()),
        printable(&place),
        printable(&problem.what),
        printable(&problem.hint)
    )
}

impl Validation {
    fn add(&mut self, file: &Path, problem: Problem) {
        self.findings.push(Finding { file: file.to_owned(), problem });
    }

    fn path(&mut self, path: &Path) -> anyhow::Result<()> {
        if !path.is_dir() {
            if !path.exists() {
                return Err(hinted(
                    format!("there is no {}", path.display()),
                    "give a configuration file, or a directory like /etc/cni/net.d",
                ));
            }
            self.file(path);
            return Ok(());
        }
        // In the order in which a network of a name is looked for: lists first.
        for extensions in [&["conflist"][..], &["conf", "json"]] {
            let files = cni::files(path, extensions);
            for file in files.map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))? {
                self.file(&file);
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &Path) {
        self.count += 1;
        let text = match cni::read(file) {
            Ok(text) => text,
            Err(error) => {
                let hint = "runtimes stop at it: remove it, or give it another ending";
                return self.add(file, Problem::new("", format!("cannot be read: {error}"), hint));
            }
        };
        let is_single = file.extension().is_some_and(|extension| extension == "conf" || extension == "json");
        let problems = cni::problems(&text, !is_single);
        let before = self.findings.len();
        problems.into_iter().for_each(|problem| self.add(file, problem));
        let own: Value = serde_json::from_slice(&text).unwrap_or_default();
        let name = own.get("name").and_then(Value::as_str);
        let is_first = name.is_none_or(|name| self.take(file, name));
        if !is_single && is_first {
            self.folder(file, &own);
        }
        // Settings make sense only of what can be loaded.
        match if is_single { Network::parse_single(&text) } else { Network::load(file) } {
            Ok(network) => self.network(file, &network, is_single),
            // What the tables above do not know of is still a reason why nothing can use this file.
            Err(error) if self.findings.len() == before => {
                let hint = "runtimes refuse this file";
                self.add(file, Problem::new("", error.to_string(), hint));
            }
            Err(_) => {}
        }
    }

    /// Whether this is the file that a network of this name is taken from.
    fn take(&mut self, file: &Path, name: &str) -> bool {
        let taken = self.names.get(name).filter(|other| other.parent() == file.parent()).cloned();
        if let Some(other) = &taken {
            let what = format!("the network {name:?} is in {} already, which comes first", other.display());
            self.add(file, Problem::new("/name", what, "give one of them another name, or remove it"));
        } else {
            self.names.insert(name.to_owned(), file.to_owned());
        }
        taken.is_none()
    }

    /// The plugins in the folder of a list's name.
    fn folder(&mut self, file: &Path, list: &Value) {
        let inlined_only =
            list.get("loadOnlyInlinedPlugins").is_some_and(|only| *only == true || *only == "true");
        let name = list.get("name").and_then(Value::as_str).unwrap_or_default();
        if inlined_only || name.parse::<cni::NetworkName>().is_err() {
            return;
        }
        let files = cni::files(&file.with_file_name(name), &["conf"]).unwrap_or_default();
        let own = list.get("plugins").and_then(Value::as_array);
        if own.is_none() && files.is_empty() && list.get("type").is_none() && list.get("plugins").is_none() {
            let what = format!("there are no plugins, neither here nor in {name}/*.conf beside it");
            self.add(file, Problem::new("/plugins", what, "list at least one plugin"));
        }
        let first = own.map_or(0, Vec::len);
        for (at, path) in files.iter().enumerate() {
            match cni::read(path) {
                Ok(text) => {
                    let problems = cni::plugin_problems(&text, first + at);
                    problems.into_iter().for_each(|problem| self.add(path, problem));
                }
                Err(error) => {
                    let hint = format!("the network {name} cannot be loaded: remove the file, or rename it");
                    self.add(path, Problem::new("", format!("cannot be read: {error}"), hint));
                }
            }
        }
    }

    /// What only a look at the plugins tells.
    fn network(&mut self, file: &Path, network: &Network, is_single: bool) {
        for (at, plugin) in network.plugins.iter().enumerate() {
            let prefix = if is_single { String::new() } else { format!("/plugins/{at}") };
            let text = |pointer: &str| plugin.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let (kind, ipam) = (text("/type"), text("/ipam/type"));
            self.plugin(file, &format!("{prefix}/type"), kind, network);
            if !ipam.is_empty() {
                self.plugin(file, &format!("{prefix}/ipam/type"), ipam, network);
            }
            // Others' plugins of the same name have other options.
            let is_ours = !matches!(origin::of(kind, &self.dirs), Origin::Foreign { .. });
            if let Some(problem) = settings(kind, ipam, plugin, network, &prefix).filter(|_| is_ours) {
                self.add(file, problem);
            }
        }
    }

    /// Whether a plugin is there, and speaks the network's version.
    fn plugin(&mut self, file: &Path, at: &str, kind: &str, network: &Network) {
        match origin::of(kind, &self.dirs) {
            Origin::Ours { .. } | Origin::NotInstalled => {}
            Origin::Missing if !chain::is_name(kind) => {}
            Origin::Missing => {
                let dirs: Vec<String> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
                let what = format!("there is no plugin {kind:?} in {}", dirs.join(", "));
                self.add(file, Problem::new(at, what, "install it, or say with --bin-dir where it is"));
            }
            Origin::Foreign { path } => {
                let version = network.version.as_str();
                match versions(kind, &self.dirs) {
                    Ok(versions) if versions.iter().any(|supported| supported == version) => {}
                    Ok(versions) => {
                        let what = format!("{} does not support cniVersion {version}", path.display());
                        let mut hint = format!("it supports {}", versions.join(", "));
                        if plugins::select(kind).is_some() {
                            hint.push_str("; podplumb's supports it: `podplumb cni install`");
                        }
                        self.add(file, Problem::new(at, what, hint));
                    }
                    Err(error) => {
                        let what =
                            format!("{} does not tell which versions it supports: {error}", path.display());
                        self.add(file, Problem::new(at, what, "is it a CNI plugin, and executable?"));
                    }
                }
            }
        }
    }
}

/// What one of podplumb's plugins has to say about its settings: it reads them for STATUS. That the node cannot serve an ADD right
/// now is not the configuration's fault.
fn settings(kind: &str, ipam: &str, plugin: &Value, network: &Network, prefix: &str) -> Option<Problem> {
    let own = plugins::select(kind)?;
    // STATUS would call somebody else's IPAM plugin.
    if !ipam.is_empty() && plugins::select(ipam).is_none() {
        return None;
    }
    let config = Config::from_value(network.plugin_config(plugin, &Value::Null, &Value::Null)).ok()?;
    let error = own.status(&config, &Environment::default()).err()?;
    let is_about_config = [Code::UnsupportedField, Code::Decode, Code::InvalidConfig]
        .iter()
        .any(|code| *code as u32 == error.code);
    let hint = if error.details.is_empty() {
        format!("see the options of {kind} in docs/cni.md")
    } else {
        error.details
    };
    is_about_config.then(|| Problem::new(prefix, format!("{kind}: {}", error.message), hint))
}

/// VERSION of somebody else's plugin.
fn versions(kind: &str, dirs: &[PathBuf]) -> cni::Result<Vec<String>> {
    let request =
        Request { command: Command::Version, container: "", netns: None, ifname: "", args: "", path: dirs };
    let config = json!({ "cniVersion": cni::Version::NEWEST.as_str() });
    let answer = chain::execute_within(kind, &config, &request, PATIENCE)?;
    let versions = answer.get("supportedVersions").and_then(Value::as_array);
    let versions = versions.into_iter().flatten().filter_map(Value::as_str);
    Ok(versions.map(str::to_owned).collect())
}
