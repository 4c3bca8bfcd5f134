//! `podplumb expose X [NAME]`

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use model::NsInode;
use sys::NetNs;

use crate::arguments::{ExposeOptions, Format};
use crate::exposure::{self, Anchor, DIRECTORY, Exposure, made_valid};
use crate::output::{Ended, hinted, note, print, print_json};
use crate::target::Target;

pub(crate) fn run(options: &ExposeOptions) -> anyhow::Result<Ended> {
    if !sys::is_root() {
        return Err(hinted(
            "expose needs root: it names other people's namespaces",
            "sudo podplumb expose …",
        ));
    }
    let question = options.question.as_deref().unwrap_or_default();
    if options.list {
        return list(options.output);
    }
    if options.remove {
        return remove(question, options);
    }
    exposure::sweep().with_context(|| format!("cannot tidy {DIRECTORY}"))?;
    let target = Target::find(question, &options.live)?;
    let anchor = anchor(&target)?;
    let name = options.name.clone().unwrap_or_else(|| made_valid(&name_of(&target)));
    let until = match &anchor {
        Anchor::Process(pid, _) => format!("until process {pid} ends"),
        Anchor::Pin(path) => {
            format!("until {} goes", analyze::render::printable(&path.display().to_string()))
        }
    };
    match exposure::make(&name, &target.netns, &anchor) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => already(&name, &target)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let what = format!("{} went away while it was named", target.label);
            return Err(hinted(what, "it may be restarted: try again"));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot make {DIRECTORY}/{name}")),
    }
    note(format_args!("{}: ip netns exec {name} …, {until}", target.label));
    print(&format!("{name}\n"))?;
    Ok(Ended::Fine)
}

/// What the namespace lives by: the process that a runtime says or that was asked for, else a pin, else the first process.
fn anchor(target: &Target) -> anyhow::Result<Anchor> {
    match (target.owner(), target.pin()) {
        (Ok(Some((pid, process))), None) => Ok(Anchor::Process(pid, process)),
        (Ok(Some((pid, process))), _) if target.is_of_process() => Ok(Anchor::Process(pid, process)),
        // Also when its process has died, and only the pin is left.
        (_, Some(path)) => Ok(Anchor::Pin(path)),
        (Err(error), None) => Err(error),
        (Ok(None), None) => Err(hinted(
            format!("{} has no process and no mount here that could keep a name", target.label),
            "`podplumb exec` enters it all the same; `podplumb holders` says who keeps it",
        )),
    }
}

/// What to call it: its pod, or what leads to it.
fn name_of(target: &Target) -> String {
    let of_chain = target.chain.as_ref().map(|chain| {
        let pod = chain.pod.as_ref().map(|pod| pod.name.clone());
        pod.unwrap_or_else(|| {
            Path::new(&chain.label).file_name().unwrap_or_default().to_string_lossy().into_owned()
        })
    });
    of_chain.unwrap_or_else(|| target.short_name())
}

/// Something has the name: fine if it is this namespace.
fn already(name: &str, target: &Target) -> anyhow::Result<()> {
    let path = Path::new(DIRECTORY).join(name);
    let there = NetNs::open(&path).and_then(|netns| netns.inode()).ok();
    if there.is_some() && there == target.netns.inode().ok() {
        return Ok(());
    }
    Err(hinted(
        format!("{} is something else already", path.display()),
        "give another name: podplumb expose X NAME",
    ))
}

/// Removes the name, or every name of what `question` means.
fn remove(question: &str, options: &ExposeOptions) -> anyhow::Result<Ended> {
    let all = exposure::list().with_context(|| format!("cannot read {DIRECTORY}"))?;
    let by_name: Vec<&Exposure> = all.iter().filter(|exposure| exposure.name == question).collect();
    let meant: Vec<&Exposure> = if by_name.is_empty() {
        let inode = Target::find(question, &options.live)?.netns.inode()?;
        let leads_there =
            |exposure: &&Exposure| exposure.netns().is_some_and(|netns| netns.inode().ok() == Some(inode));
        all.iter().filter(leads_there).collect()
    } else {
        by_name
    };
    if meant.is_empty() {
        return Err(hinted(
            format!("{question:?} has no name that podplumb gave"),
            "`podplumb expose --list` lists them",
        ));
    }
    for exposure in meant {
        exposure.remove().with_context(|| format!("cannot remove {}", exposure.path.display()))?;
    }
    exposure::sweep().with_context(|| format!("cannot tidy {DIRECTORY}"))?;
    Ok(Ended::Fine)
}

/// A line of the list.
#[derive(serde::Serialize)]
struct Line {
    name: String,
    /// What it is there for; none: its keeper was killed, and it leads nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<NsInode>,
}

fn list(output: Format) -> anyhow::Result<Ended> {
    let all = exposure::list().with_context(|| format!("cannot read {DIRECTORY}"))?;
    let line = |exposure: Exposure| Line {
        source: exposure.source(),
        inode: exposure.netns().and_then(|netns| netns.inode().ok()),
        name: exposure.name,
    };
    let lines: Vec<Line> = all.into_iter().map(line).collect();
    if output == Format::Json {
        print_json(&lines)?;
        return Ok(Ended::Fine);
    }
    let mut rows = vec![["NAME", "LEADS TO", "NAMESPACE"].map(str::to_owned).to_vec()];
    rows.extend(lines.into_iter().map(|line| {
        let source = line.source.map(|path| analyze::render::printable(&path.display().to_string()));
        vec![
            analyze::render::printable(&line.name),
            source.unwrap_or_else(|| "nothing: its keeper was killed".into()),
            line.inode.map_or_else(|| "-".into(), |inode| format!("net:[{inode}]")),
        ]
    }));
    let mut out = String::new();
    analyze::render::columns(&mut out, 0, &rows);
    print(&out)?;
    Ok(Ended::Fine)
}
