//! `podplumb cni list`

use std::path::PathBuf;

use anyhow::Context;
use cni::cache::{Cache, Contents, Entry};
use cni::{Network, Version};
use serde::Serialize;
use serde_json::Value;

use super::dirs;
use super::origin::{self, Origin};
use crate::arguments::{Format, ListOptions};
use crate::output::{Ended, print, print_json};

/// A file of the configuration directory, in the order in which runtimes read them.
#[derive(Debug, Serialize)]
struct Line {
    file: PathBuf,
    network: Option<String>,
    version: Option<&'static str>,
    plugins: Vec<PluginLine>,
    attachments: Vec<AttachmentLine>,
    /// Runtimes that take this network, as they are configured by default.
    taken_by: Vec<&'static str>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct PluginLine {
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    origin: Origin,
}

#[derive(Debug, Serialize)]
struct AttachmentLine {
    container: String,
    ifname: String,
    netns: Option<PathBuf>,
    addresses: Vec<String>,
}

pub(super) fn run(options: &ListOptions) -> anyhow::Result<Ended> {
    let place = &options.place;
    let files = cni::files(&place.conf_dir, &["conf", "conflist", "json"])
        .with_context(|| format!("cannot read {}", place.conf_dir.display()))?;
    let contents = Cache::at(&place.cache_dir).contents().unwrap_or_else(|error| {
        // Only root may read it; the networks are there for everybody.
        eprintln!("attachments are not known: cannot read {}: {error}", place.cache_dir.display());
        Contents::default()
    });
    let mut lines: Vec<Line> =
        files.into_iter().map(|file| line(file, &dirs(&place.bin_dir), &contents)).collect();
    take(&mut lines);
    let is_listed =
        |entry: &&Entry| lines.iter().any(|line| line.network.as_deref() == Some(entry.key.network.as_str()));
    let (_, unlisted): (Vec<&Entry>, Vec<&Entry>) = contents.entries.iter().partition(is_listed);
    if options.output == Format::Json {
        let unlisted: Vec<Value> = unlisted
            .iter()
            .map(|entry| serde_json::json!({ "network": entry.key.network, "attachment": attachment(entry) }))
            .collect();
        print_json(&serde_json::json!({ "networks": lines, "without_configuration": unlisted }))?;
        return Ok(Ended::Fine);
    }
    if lines.is_empty() {
        eprintln!("there is no network configuration in {}", place.conf_dir.display());
    } else {
        print(&text(&lines, options.output == Format::Wide))?;
    }
    for entry in unlisted {
        eprintln!("attached, but without a configuration: {}", entry.key);
    }
    for (path, why) in &contents.unreadable {
        eprintln!("not readable: {}: {why}", path.display());
    }
    Ok(Ended::Fine)
}

fn line(file: PathBuf, dirs: &[PathBuf], contents: &Contents) -> Line {
    let mut line = Line {
        network: None,
        version: None,
        plugins: Vec::new(),
        attachments: Vec::new(),
        taken_by: Vec::new(),
        problem: None,
        file,
    };
    match Network::load(&line.file) {
        Ok(network) => {
            for plugin in &network.plugins {
                let kind = plugin["type"].as_str().unwrap_or_default().to_owned();
                line.plugins.push(PluginLine { origin: origin::of(&kind, dirs), kind });
            }
            let own = contents.entries.iter().filter(|entry| entry.key.network == network.name);
            line.attachments = own.map(attachment).collect();
            line.version = Some(network.version.as_str());
            line.network = Some(network.name.to_string());
        }
        Err(error) => line.problem = Some(error.to_string()),
    }
    line
}

fn attachment(entry: &Entry) -> AttachmentLine {
    let outcome = cni::Outcome::from_json(&entry.result, Version::NEWEST).unwrap_or_default();
    AttachmentLine {
        container: entry.key.container.to_string(),
        ifname: entry.key.ifname.to_string(),
        netns: entry.netns.clone(),
        addresses: outcome.ips.iter().map(|ip| ip.address.to_string()).collect(),
    }
}

/// Says who takes what, as go-cni and ocicni have it: containerd takes the first file, and if that is broken, none. CRI-O goes on
/// to the first that is fine and whose plugins are all there.
fn take(lines: &mut [Line]) {
    if let Some(first) = lines.first_mut().filter(|line| line.problem.is_none()) {
        first.taken_by.push("containerd");
    }
    let is_there =
        |plugin: &PluginLine| matches!(plugin.origin, Origin::Ours { .. } | Origin::Foreign { .. });
    let is_fine = |line: &&mut Line| line.problem.is_none() && line.plugins.iter().all(is_there);
    if let Some(first) = lines.iter_mut().find(is_fine) {
        first.taken_by.push("CRI-O");
    }
}

fn text(lines: &[Line], is_wide: bool) -> String {
    let heads = ["FILE", "NETWORK", "VERSION", "ATTACHED", "TAKEN BY", "PLUGINS"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for line in lines {
        let plugins: Vec<String> =
            line.plugins.iter().map(|plugin| format!("{} ({})", plugin.kind, plugin.origin)).collect();
        let file = line.file.file_name().unwrap_or_default().to_string_lossy();
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        rows.push(vec![
            file.into_owned(),
            dash(line.network.clone().unwrap_or_default()),
            dash(line.version.unwrap_or_default().to_owned()),
            line.attachments.len().to_string(),
            dash(line.taken_by.join(", ")),
            line.problem.as_ref().map_or(plugins.join(", "), |problem| format!("broken: {problem}")),
        ]);
    }
    let printable = |cell: &String| analyze::render::printable(cell);
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(printable).collect()).collect();
    let mut out = String::new();
    analyze::render::columns(&mut out, 0, &rows);
    for line in lines.iter().filter(|line| is_wide && !line.attachments.is_empty()) {
        out.push_str(&format!("\n{}\n", line.network.as_deref().unwrap_or_default()));
        let cells = |at: &AttachmentLine| {
            let netns = at.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            vec![at.container.clone(), at.ifname.clone(), at.addresses.join(" "), netns]
        };
        let rows: Vec<Vec<String>> = line
            .attachments
            .iter()
            .map(|at| cells(at).iter().map(|cell| analyze::render::printable(cell)).collect())
            .collect();
        analyze::render::columns(&mut out, 2, &rows);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(problem: Option<&str>, origins: &[Origin]) -> Line {
        let plugins = origins.iter().cloned().map(|origin| PluginLine { kind: "x".into(), origin });
        Line {
            file: PathBuf::new(),
            network: None,
            version: None,
            plugins: plugins.collect(),
            attachments: Vec::new(),
            taken_by: Vec::new(),
            problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn containerd_stops_at_a_broken_file_and_cri_o_passes_it_over() {
        let foreign = Origin::Foreign { path: PathBuf::new() };
        let taken = |mut lines: Vec<Line>| -> Vec<String> {
            take(&mut lines);
            lines.iter().map(|line| line.taken_by.join("+")).collect()
        };
        let fine = || line(None, std::slice::from_ref(&foreign));
        assert_eq!(taken(vec![fine(), fine()]), ["containerd+CRI-O", ""]);
        assert_eq!(taken(vec![line(Some("cut"), &[]), fine()]), ["", "CRI-O"]);
        assert_eq!(taken(vec![line(None, &[Origin::Missing]), fine()]), ["containerd", "CRI-O"]);
        assert!(taken(Vec::new()).is_empty());
    }
}
