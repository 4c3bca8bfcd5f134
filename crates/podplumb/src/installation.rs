//! Putting podplumb's plugins in place of others, and taking that back.
//!
//! The plugin directory is one that runtimes look into at any moment, and both ways can be interrupted at any step. So no name is ever
//! missing, each is replaced by a rename; the originals are saved, all of them, before the first is replaced; and both ways can be
//! repeated, also after one that was interrupted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD};
use serde::{Deserialize, Serialize};
use sys::Locked;

/// The plugin binary, in the plugin directory as well: a runtime may see that directory only.
const BINARY: &str = "podplumb-cni";
/// Originals, in the plugin directory: so they are on its file system, and whoever looks there sees what happened.
const BACKUP: &str = ".podplumb-backup";
const MANIFEST: &str = "manifest.json";

/// What was at a name before podplumb came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Before {
    /// A file or link, which is in the backup directory.
    Saved,
    /// Nothing.
    Absent,
}

type Manifest = BTreeMap<String, Before>;

/// What was done about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    /// There was nothing of this name.
    Installed,
    /// What was there is saved here.
    Replaced(PathBuf),
    /// It was podplumb's before.
    Kept,
    /// The original is there again.
    Restored,
    /// There was none.
    Removed,
    /// Nothing, and why.
    LeftAlone(String),
}

/// A plugin directory, and the names in it that are to be podplumb's.
#[derive(Debug)]
pub(crate) struct Installation {
    dir: PathBuf,
    backup: PathBuf,
    names: Vec<String>,
}

/// Adds to an error what it is about.
fn about(what: &str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let what = format!("cannot {what} {}", path.display());
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

impl Installation {
    pub(crate) fn of(dir: &Path, names: &[&str]) -> Self {
        Self {
            dir: dir.to_owned(),
            backup: dir.join(BACKUP),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// Saves what is there, and puts the plugins in place.
    pub(crate) fn install(&self, plugin: &Path) -> io::Result<Vec<(String, Done)>> {
        std::fs::create_dir_all(&self.dir).map_err(about("make", &self.dir))?;
        let _lock = self.lock()?;
        std::fs::create_dir_all(&self.backup).map_err(about("make", &self.backup))?;
        let mut manifest = self.manifest()?.unwrap_or_default();
        let is_in_place = is_same_file(plugin, &self.dir.join(BINARY));
        let mut done = Vec::new();
        for name in self.names.iter().map(String::as_str).chain([BINARY]) {
            let known = manifest.get(name).copied();
            // The binary that is being installed from this very directory is the user's own: it stays when all is undone.
            if name == BINARY && is_in_place {
                continue;
            }
            let is_ours = match (name, known) {
                (_, None) => false,
                // An undo that was interrupted has put it back already.
                (BINARY, Some(Before::Saved)) => self.backup.join(BINARY).symlink_metadata().is_ok(),
                (BINARY, Some(Before::Absent)) => true,
                _ => self.is_ours(name),
            };
            let before = match known {
                Some(before) if is_ours => before,
                _ => self.save(name)?,
            };
            manifest.insert(name.to_owned(), before);
            done.push((
                name.to_owned(),
                match before {
                    _ if is_ours => Done::Kept,
                    Before::Saved => Done::Replaced(self.backup.join(name)),
                    Before::Absent => Done::Installed,
                },
            ));
        }
        self.write_manifest(&manifest)?;
        // The binary first: no link may lead nowhere.
        if !is_in_place {
            let copy = std::fs::read(plugin).map_err(about("read", plugin))?;
            self.write(&self.dir.join(BINARY), &copy, 0o755)?;
        }
        for name in self.names.iter().filter(|name| !self.is_ours(name)) {
            let temporary = self.temporary();
            std::os::unix::fs::symlink(BINARY, &temporary).map_err(about("make", &temporary))?;
            let path = self.dir.join(name);
            std::fs::rename(&temporary, &path).map_err(about("replace", &path))?;
        }
        sync(&self.dir)?;
        Ok(done)
    }

    /// Puts everything back as it was.
    pub(crate) fn undo(&self) -> io::Result<Vec<(String, Done)>> {
        let _lock = self.lock()?;
        let Some(manifest) = self.manifest()? else {
            let nothing = format!(
                "nothing is installed in {} (there is no {MANIFEST} in {BACKUP})",
                self.dir.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, nothing));
        };
        let mut done = Vec::new();
        // The binary last: until then, links lead to it.
        let (binary, links): (Vec<_>, Vec<_>) = manifest.iter().partition(|(name, _)| *name == BINARY);
        for (name, before) in links.into_iter().chain(binary) {
            done.push((name.clone(), self.restore(name, *before)?));
        }
        sync(&self.dir)?;
        // As long as there is a manifest, this can be repeated.
        std::fs::remove_file(self.backup.join(MANIFEST))
            .map_err(about("remove", &self.backup.join(MANIFEST)))?;
        // What could not be put back stays here.
        let _ = std::fs::remove_dir(&self.backup);
        Ok(done)
    }

    fn restore(&self, name: &str, before: Before) -> io::Result<Done> {
        let (path, saved) = (self.dir.join(name), self.backup.join(name));
        let is_there = path.symlink_metadata().is_ok();
        if is_there && name != BINARY && !self.is_ours(name) {
            // An undo that was interrupted has put it back already; or somebody installed another one since.
            return Ok(match saved.symlink_metadata() {
                Ok(_) => Done::LeftAlone(format!(
                    "it was replaced since podplumb was installed; what was there before is {}",
                    saved.display()
                )),
                Err(_) => Done::LeftAlone("it is not podplumb's any more".to_owned()),
            });
        }
        match before {
            Before::Saved if saved.symlink_metadata().is_ok() => {
                std::fs::rename(&saved, &path).map_err(about("put back", &path))?;
                // Between two names of the same file, rename does nothing.
                let _ = std::fs::remove_file(&saved);
                Ok(Done::Restored)
            }
            Before::Saved if is_there => Ok(Done::LeftAlone("it was put back before".to_owned())),
            Before::Saved => Ok(Done::LeftAlone("it is gone, and so is what was saved of it".to_owned())),
            Before::Absent if is_there => {
                std::fs::remove_file(&path).map_err(about("remove", &path))?;
                Ok(Done::Removed)
            }
            Before::Absent => Ok(Done::LeftAlone("it is gone".to_owned())),
        }
    }

    /// Keeps what is at a name, as a second name of the same file.
    fn save(&self, name: &str) -> io::Result<Before> {
        let (path, saved) = (self.dir.join(name), self.backup.join(name));
        let there = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Before::Absent),
            there => there.map_err(about("look at", &path))?,
        };
        if there.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                format!("{} is a directory", path.display()),
            ));
        }
        let is_saved = saved
            .symlink_metadata()
            .is_ok_and(|saved| (saved.dev(), saved.ino()) == (there.dev(), there.ino()));
        if !is_saved {
            let temporary = self.temporary();
            // linkat without AT_SYMLINK_FOLLOW keeps links as links.
            rustix::fs::linkat(CWD, &path, CWD, &temporary, AtFlags::empty())
                .map_err(io::Error::from)
                .map_err(about("save", &path))?;
            std::fs::rename(&temporary, &saved).map_err(about("save", &path))?;
        }
        Ok(Before::Saved)
    }

    fn is_ours(&self, name: &str) -> bool {
        std::fs::read_link(self.dir.join(name)).is_ok_and(|target| target == Path::new(BINARY))
    }

    fn manifest(&self) -> io::Result<Option<Manifest>> {
        let path = self.backup.join(MANIFEST);
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => {
                Ok(Some(serde_json::from_slice(&text.map_err(about("read", &path))?).map_err(|error| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("cannot understand {}: {error}", path.display()),
                    )
                })?))
            }
        }
    }

    fn write_manifest(&self, manifest: &Manifest) -> io::Result<()> {
        self.write(&self.backup.join(MANIFEST), &serde_json::to_vec_pretty(manifest)?, 0o644)?;
        sync(&self.backup)
    }

    /// Writes a file that is complete, and on disk, before it has its name.
    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let temporary = self.temporary();
        let write = || {
            let mut file = File::create_new(&temporary)?;
            file.write_all(content)?;
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        write().map_err(about("write", path))
    }

    /// A name to be renamed. What is left of an interrupted run is in the way, and nobody's: the lock is ours.
    fn temporary(&self) -> PathBuf {
        let path = self.backup.join(".new");
        let _ = std::fs::remove_file(&path);
        path
    }

    fn lock(&self) -> io::Result<Locked> {
        let dir = File::open(&self.dir).map_err(about("open", &self.dir))?;
        Locked::exclusive(dir).map_err(about("lock", &self.dir))
    }
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| path.metadata().map(|stat| (stat.dev(), stat.ino())).ok();
    id(a).is_some() && id(a) == id(b)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(about("sync", dir))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const NAMES: [&str; 3] = ["bridge", "host-local", "portmap"];

    struct Rig {
        _root: tempfile::TempDir,
        dir: PathBuf,
        plugin: PathBuf,
    }

    impl Rig {
        /// A directory with a file, a link and a name that is not there, and others' plugins.
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let (dir, plugin) = (root.path().join("bin"), root.path().join("built"));
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(&plugin, "new").unwrap();
            std::fs::write(dir.join("bridge"), "reference").unwrap();
            std::fs::set_permissions(dir.join("bridge"), std::fs::Permissions::from_mode(0o751)).unwrap();
            std::fs::write(dir.join("calico"), "theirs").unwrap();
            symlink("../elsewhere/host-local", dir.join("host-local")).unwrap();
            Self { _root: root, dir, plugin }
        }

        fn installation(&self) -> Installation {
            Installation::of(&self.dir, &NAMES)
        }

        /// Every name with its inode, mode, and content or target.
        fn state(&self) -> BTreeMap<String, (u64, u32, String)> {
            let mut state = BTreeMap::new();
            for entry in std::fs::read_dir(&self.dir).unwrap().flatten() {
                let stat = entry.path().symlink_metadata().unwrap();
                let content = if stat.is_symlink() {
                    std::fs::read_link(entry.path()).unwrap().display().to_string()
                } else if stat.is_dir() {
                    String::new()
                } else {
                    std::fs::read_to_string(entry.path()).unwrap()
                };
                state.insert(entry.file_name().into_string().unwrap(), (stat.ino(), stat.mode(), content));
            }
            state
        }

        fn assert_installed(&self) {
            for name in NAMES {
                assert_eq!(std::fs::read_to_string(self.dir.join(name)).unwrap(), "new", "{name}");
            }
            assert_eq!(std::fs::read_to_string(self.dir.join("calico")).unwrap(), "theirs");
            assert_eq!(self.dir.join(BINARY).metadata().unwrap().mode() & 0o777, 0o755);
        }
    }

    #[test]
    fn undo_restores_exactly_however_often_it_was_installed() {
        let rig = Rig::new();
        let before = rig.state();
        for rounds in 1..=3 {
            for _ in 0..rounds {
                rig.installation().install(&rig.plugin).unwrap();
                rig.assert_installed();
            }
            rig.installation().undo().unwrap();
            assert_eq!(rig.state(), before, "after {rounds}");
        }
        assert!(rig.installation().undo().is_err(), "there is nothing left to undo");
        assert_eq!(rig.state(), before);
    }

    #[test]
    fn a_newer_binary_replaces_the_older_and_undo_still_restores() {
        let rig = Rig::new();
        let before = rig.state();
        rig.installation().install(&rig.plugin).unwrap();
        std::fs::write(&rig.plugin, "newer").unwrap();
        rig.installation().install(&rig.plugin).unwrap();
        assert_eq!(std::fs::read_to_string(rig.dir.join("bridge")).unwrap(), "newer");
        rig.installation().undo().unwrap();
        assert_eq!(rig.state(), before);
    }

    #[test]
    fn what_somebody_else_installed_since_is_left_alone_or_saved_again() {
        let rig = Rig::new();
        rig.installation().install(&rig.plugin).unwrap();
        // A package's upgrade.
        std::fs::remove_file(rig.dir.join("bridge")).unwrap();
        std::fs::write(rig.dir.join("bridge"), "upgraded").unwrap();
        let done = rig.installation().undo().unwrap();
        assert!(
            done.iter().any(|(name, done)| name == "bridge" && matches!(done, Done::LeftAlone(_))),
            "{done:?}"
        );
        assert_eq!(std::fs::read_to_string(rig.dir.join("bridge")).unwrap(), "upgraded");
        assert_eq!(std::fs::read_to_string(rig.dir.join(BACKUP).join("bridge")).unwrap(), "reference");

        let rig = Rig::new();
        rig.installation().install(&rig.plugin).unwrap();
        std::fs::remove_file(rig.dir.join("bridge")).unwrap();
        std::fs::write(rig.dir.join("bridge"), "upgraded").unwrap();
        rig.installation().install(&rig.plugin).unwrap();
        rig.assert_installed();
        rig.installation().undo().unwrap();
        assert_eq!(std::fs::read_to_string(rig.dir.join("bridge")).unwrap(), "upgraded");
    }

    #[test]
    fn a_binary_that_is_in_the_directory_already_stays_there() {
        let rig = Rig::new();
        std::fs::copy(&rig.plugin, rig.dir.join(BINARY)).unwrap();
        std::fs::set_permissions(rig.dir.join(BINARY), std::fs::Permissions::from_mode(0o755)).unwrap();
        symlink(BINARY, rig.dir.join("portmap")).unwrap();
        let before = rig.state();
        rig.installation().install(&rig.dir.join(BINARY)).unwrap();
        rig.assert_installed();
        rig.installation().undo().unwrap();
        assert_eq!(rig.state(), before);
    }

    #[test]
    fn a_directory_in_the_way_stops_it_before_anything_is_replaced() {
        let rig = Rig::new();
        std::fs::create_dir(rig.dir.join("portmap")).unwrap();
        assert!(rig.installation().install(&rig.plugin).is_err());
        assert_eq!(std::fs::read_to_string(rig.dir.join("bridge")).unwrap(), "reference");
    }
}
