//! Taking the place of other plugins, and giving it back.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use podplumb_tests::{binaries, output, run};

use crate::{Rig, can_run, names};

/// Every name with its inode, mode, and target if it is a link. The directory of the backup apart.
fn state(dir: &Path) -> BTreeMap<String, (u64, u32, String)> {
    let stat = |name: String| {
        let path = dir.join(&name);
        let stat = path.symlink_metadata().unwrap();
        let target = std::fs::read_link(&path).unwrap_or_default().display().to_string();
        (name, (stat.ino(), stat.mode(), target))
    };
    names(dir).into_iter().filter(|name| name != ".podplumb-backup").map(stat).collect()
}

/// A directory with the reference plugins, some of them as links.
fn reference(rig: &Rig) -> std::path::PathBuf {
    let dir = rig.world.path().join("bin");
    std::fs::create_dir(&dir).unwrap();
    for name in ["bridge", "host-local", "portmap"] {
        std::fs::copy(Path::new("/usr/lib/cni").join(name), dir.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("/usr/lib/cni/loopback", dir.join("loopback")).unwrap();
    std::fs::write(dir.join("somebody-elses"), "").unwrap();
    dir
}

/// What `bridge` in the directory answers to VERSION.
fn version(dir: &Path) -> String {
    let command = format!("CNI_COMMAND=VERSION {}/bridge < /dev/null", dir.display());
    let output = output("sh", &["-c", &command]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_suite_takes_the_place_of_the_reference_one_and_gives_it_back() {
    if !can_run() {
        return;
    }
    let rig = Rig { podplumb: podplumb_tests::Podplumb::default(), ..Rig::new() };
    let dir = reference(&rig);
    let path = dir.display().to_string();
    let before = state(&dir);
    assert!(!version(&dir).contains("1.1.0"), "Debian's is of before 1.1.0");
    for _ in 0..2 {
        rig.cni(0, &["install", "--bin-dir", &path]);
        assert!(version(&dir).contains("1.1.0"));
        assert!(names(&dir).contains(&"host-local".to_owned()));
    }
    // A runtime finds ours there.
    rig.network("1.1.0", &[crate::bridge()]);
    let (stdout, _) = rig.cni(0, &["list", "--bin-dir", &path]);
    assert!(stdout.contains("bridge (ours)"), "{stdout}");
    rig.cni(0, &["install", "--bin-dir", &path, "--undo"]);
    assert_eq!(state(&dir), before);
    assert!(!dir.join(".podplumb-backup").exists());
    let (_, stderr) = rig.cni(1, &["install", "--bin-dir", &path, "--undo"]);
    assert!(stderr.contains("nothing is installed"), "{stderr}");
    let (_, stderr) = rig.cni(1, &["install", "--bin-dir", &path, "--plugin", "/no/such/file"]);
    assert!(stderr.contains("hint: --plugin"), "{stderr}");
    assert_eq!(state(&dir), before);
}

#[test]
fn killed_at_any_step_no_name_is_missing_and_both_ways_can_be_repeated() {
    if !can_run() {
        return;
    }
    let rig = Rig { podplumb: podplumb_tests::Podplumb::default(), ..Rig::new() };
    let dir = reference(&rig);
    let path = dir.display().to_string();
    let before = state(&dir);
    let binary = binaries().join("podplumb").display().to_string();
    // Everything that changes a directory or a file in it.
    let syscalls = [
        "mkdir",
        "open,openat",
        "link,linkat",
        "rename",
        "symlink",
        "unlink",
        "rmdir",
        "write",
        "fsync",
        "fchmod",
    ];
    let mut kills = 0;
    for undo in [false, true] {
        for syscall in syscalls {
            for at in 1.. {
                if undo {
                    rig.cni(0, &["install", "--bin-dir", &path]);
                }
                let inject = format!("inject={syscall}:signal=KILL:when={at}");
                let arguments = [
                    "-o",
                    "/dev/null",
                    "-e",
                    "trace=all",
                    "-e",
                    &inject,
                    &binary,
                    "cni",
                    "install",
                    "--bin-dir",
                    &path,
                ];
                let arguments = [&arguments[..], if undo { &["--undo"][..] } else { &[] }].concat();
                let ended = output("strace", &arguments);
                for name in before.keys() {
                    assert!(dir.join(name).metadata().is_ok(), "{name} is missing after {inject}");
                }
                let was_killed = !ended.status.success();
                kills += usize::from(was_killed);
                // Both ways lead home: install, then undo; or undo again.
                if !undo {
                    rig.cni(0, &["install", "--bin-dir", &path]);
                    assert!(version(&dir).contains("1.1.0"), "after {inject}");
                }
                if dir.join(".podplumb-backup/manifest.json").exists() {
                    rig.cni(0, &["install", "--bin-dir", &path, "--undo"]);
                }
                assert_eq!(state(&dir), before, "after {inject} undo={undo}");
                if !was_killed {
                    break;
                }
            }
        }
    }
    assert!(kills > 50, "{kills} kills");
    run("rm", &["-rf", &path]);
}
