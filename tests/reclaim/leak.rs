//! Things that leaked, made for real.

use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use podplumb_tests::{Podplumb, World, output, run};
use serde_json::json;

/// A world in which no other test of this program looks at the same time: a podplumb that looks has every namespace of the machine open
/// for a moment, and reclaim leaves alone what somebody has open.
pub(crate) fn alone() -> Alone {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has had its turn.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Alone { world: World::enter(), _turn: turn }
}

pub(crate) struct Alone {
    world: World,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Alone {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// podplumb on a node without a runtime: what no process and no socket holds is an orphan.
pub(crate) fn podplumb() -> Podplumb {
    Podplumb::with(&["--runtime", "none"])
}

/// The name that a runtime would give to the n-th namespace.
pub(crate) fn netns_name(n: usize) -> String {
    format!("cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d{n:04x}")
}

/// A namespace that a runtime's name pins, with a veth into it.
pub(crate) fn pinned(n: usize) -> Leaked {
    let name = netns_name(n);
    run("ip", &["netns", "add", &name]);
    let veth = format!("veth{n}");
    run("ip", &["link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &name]);
    Leaked { netns: Path::new("/run/netns").join(name), veth }
}

pub(crate) struct Leaked {
    pub(crate) netns: PathBuf,
    pub(crate) veth: String,
}

impl Leaked {
    pub(crate) fn is_whole(&self) -> bool {
        self.netns.exists() && self.has_veth()
    }

    pub(crate) fn is_gone(&self) -> bool {
        !self.netns.exists() && !self.has_veth()
    }

    fn has_veth(&self) -> bool {
        output("ip", &["link", "show", &self.veth]).status.success()
    }
}

/// The container of the n-th pod.
pub(crate) fn id(n: usize) -> String {
    format!("{n:04x}7d0c1e5b9a3f4d2200000000000000000000000000000000000000000000")
}

/// Writes an entry of libcni's cache for a chain of one plugin.
pub(crate) fn cached(container: &str, plugin: &str, netns: &Path) -> PathBuf {
    cached_chain(container, &[plugin], netns)
}

/// Writes an entry of libcni's cache.
pub(crate) fn cached_chain(container: &str, plugins: &[&str], netns: &Path) -> PathBuf {
    let plugins: Vec<_> = plugins.iter().map(|plugin| json!({ "type": plugin })).collect();
    let key = model::AttachmentKey::from_file_name(&format!("old:{container}:eth0")).expect("a key");
    let entry = cni::cache::Entry {
        key: key.clone(),
        netns: Some(netns.to_owned()),
        args: Vec::new(),
        capability_args: json!({}),
        config: json!({ "cniVersion": "1.0.0", "name": "old", "plugins": plugins }),
        result: json!({ "cniVersion": "1.0.0" }),
    };
    cni::cache::Cache::at(cni::cache::DIRECTORY).write(&entry).expect("an entry");
    Path::new(cni::cache::DIRECTORY).join(format!("old-{container}-eth0"))
}

/// Installs a script as a plugin, in a directory of its own; `$config` is what it reads.
pub(crate) fn plugin(world: &World, name: &str, script: &str) -> String {
    let directory = world.path().join("scripts");
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\nconfig=$(cat)\n{script}\n")).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    directory.display().to_string()
}

/// The journal's lines.
pub(crate) fn journal() -> Vec<serde_json::Value> {
    let text = std::fs::read("/var/lib/podplumb/journal").unwrap_or_default();
    let lines = sys::whole_lines(&text).split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}
