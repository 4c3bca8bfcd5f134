//! Every file in examples/labs comes up, does what it says, and is gone afterwards.

use std::path::{Path, PathBuf};

use podplumb_tests::{Plugins, Podplumb, World, binaries, require, run, wait_for, wait_until};

const NEEDS: [&str; 1] = ["ip"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("examples/labs")).expect("the examples");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() > 10, "{files:?}");
    files
}

#[test]
fn examples_come_up_do_what_they_say_and_are_gone() {
    if !require(&NEEDS) {
        return;
    }
    let _quiet = crate::quiet();
    let _world = World::enter();
    let podplumb = Podplumb::default();
    let kernel_tells = sys::NetNs::create().expect("a namespace").id().is_some();
    for file in examples() {
        let path = file.display().to_string();
        podplumb.expect(0, &["lab", "up", &path]);
        podplumb.expect(0, &["lab", "verify", &path, "--within", "60s"]);
        let again = podplumb.expect(0, &["lab", "up", &path]);
        assert!(again.contains("nothing to change"), "{path}: {again}");
        let down = podplumb.expect(0, &["lab", "down", &path]);
        // By their ids (Linux 6.18); an older kernel cannot be asked, and then it is said so.
        let proof = if kernel_tells { "the kernel has none of them any more" } else { "cannot be asked" };
        assert!(down.contains(proof), "{path}: {down}");
        assert_eq!(podplumb.expect(0, &["lab", "list"]), "no labs\n");
    }
}

/// A podplumb in a lab's node.
fn in_node() -> Podplumb {
    let own = binaries().join("podplumb").display().to_string();
    Podplumb::within(&["lab", "exec", "leak-zoo", "node", "--", &own], &["--runtime", "none"])
}

/// The orphans on the lab's node, once there are so many: others come and go on the machine, which makes a look unsure.
fn orphans(node: &Podplumb, number: usize) -> Vec<String> {
    wait_for(&format!("{number} orphans"), || {
        let found = node.findings("0s");
        let orphans = found.iter().filter(|finding| finding.verdict() == "orphan");
        let labels: Vec<_> =
            orphans.map(|orphan| orphan.0["label"].as_str().unwrap_or_default().to_owned()).collect();
        if labels.len() == number {
            return Ok(labels);
        }
        let said = found.iter().map(|finding| {
            let of = |key: &str| finding.0[key].to_string();
            format!("{} {}: {}, {}\n", of("verdict"), of("label"), of("because"), of("pieces"))
        });
        Err(said.collect())
    })
}

#[test]
fn pods_of_a_lab_that_ended_the_wrong_way_are_found_on_their_node_and_reclaimed_there() {
    if !require(&NEEDS) {
        return;
    }
    let _quiet = crate::quiet();
    let world = World::enter();
    let (podplumb, node) = (Podplumb::default(), in_node());
    let file = root().join("examples/labs/leak-zoo.yaml").display().to_string();
    let of_machine = || {
        let listed = |directory: &str| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        ["/var/lib/cni", "/var/lib/podplumb", "/run/netns", "/run/podplumb/attachments"].map(listed)
    };
    podplumb.expect(0, &["lab", "up", &file]);
    let before = of_machine();
    let found = orphans(&node, 6);
    for name in ["node-pinned", "node-killed", "node-half", "node-lease", "node-old", "/run/netns/cni-"] {
        assert!(found.iter().any(|orphan| orphan.starts_with(name)), "{name}: {found:?}");
    }
    // A restart leaves what is on disk, and nothing else.
    let mut old = None;
    wait_until("node-old is an orphan", || {
        old = node.orphans("0s").into_iter().find(|finding| finding.0["label"] == "node-old");
        old.is_some()
    });
    let old = old.expect("node-old").0.to_string();
    let kinds = |finding: &str| {
        let finding: serde_json::Value = serde_json::from_str(finding).expect("JSON");
        let pieces = finding["pieces"].as_array().cloned().unwrap_or_default();
        pieces.iter().map(|piece| piece["kind"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&old), ["\"lease\"", "\"cache\""], "{old}");

    // By the plugins that made it.
    let plugins = world.plugin_dir(Plugins::Podplumb).display().to_string();
    // What a look is unsure of (others come and go on the machine) is left to the next run, as a timer would.
    wait_until("nothing is left", || {
        node.expect(0, &["reclaim", "--apply", "--grace", "0s", "--cni-bin-dir", &plugins]);
        node.findings("0s").iter().all(|finding| finding.verdict() == "in-use")
    });
    podplumb.expect(0, &["lab", "verify", "leak-zoo", "--within", "60s"]);
    assert_eq!(of_machine(), before, "none of it was the machine's");

    // One that rises, one that dies, one that never was.
    let text = std::fs::read_to_string(&file).expect("the example");
    let edited = text
        .replace("killed: {ended: without-del}", "killed: {run: sleep infinity}")
        .replace("half: {ended: half-added}\n", "\n")
        .replace("lease: {ended: lease-left}", "lease: {ended: without-del}");
    let edited_file = world.path().join("leak-zoo.yaml");
    std::fs::write(&edited_file, edited).expect("a file");
    std::fs::copy(root().join("examples/labs/cni.conflist"), world.path().join("cni.conflist"))
        .expect("a copy");
    podplumb.expect(0, &["lab", "up", &edited_file.display().to_string()]);
    assert_eq!(orphans(&node, 1), ["node-lease"]);
    podplumb.expect(0, &["lab", "exec", "leak-zoo", "node-killed", "--", "ip", "route", "get", "10.88.0.1"]);
    let gone = podplumb.run(&["lab", "exec", "leak-zoo", "node-lease", "--", "true"]);
    let said = String::from_utf8_lossy(&gone.stderr);
    assert!(said.contains("node-lease of the lab leak-zoo has ended"), "{said}");
    podplumb.expect(0, &["lab", "down", "leak-zoo"]);
    assert_eq!(of_machine(), before);
}

#[test]
fn a_node_has_a_run_netns_of_its_own_where_the_machine_has_none() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    let pins = Path::new("/run/netns");
    run("umount", &["/run/netns"]);
    std::fs::remove_dir(pins).expect("an empty directory");
    let podplumb = Podplumb::default();
    let file = root().join("examples/labs/leak-zoo.yaml").display().to_string();
    podplumb.expect(0, &["lab", "up", &file]);
    let seen = podplumb.expect(0, &["lab", "exec", "leak-zoo", "node", "--", "ls", "/run/netns"]);
    assert!(seen.starts_with("cni-") && seen.lines().count() == 1, "{seen}");
    podplumb.expect(0, &["lab", "down", "leak-zoo"]);
    assert_eq!(std::fs::read_dir(pins).map(Iterator::count).ok(), Some(0), "the machine's own is empty");
}

#[test]
fn each_example_says_what_it_shows_and_what_to_expect() {
    let page = std::fs::read_to_string(root().join("docs/labs.md")).expect("the page");
    for file in examples() {
        let (name, text) =
            (file.file_name().expect("a name").to_string_lossy(), std::fs::read_to_string(&file));
        let text = text.expect("an example");
        assert!(text.starts_with("# "), "{name} begins with what it shows");
        assert!(text.contains("\nexpect:\n  - "), "{name} says what to expect");
        assert!(page.contains(&format!("examples/labs/{name}")), "docs/labs.md tells of {name}");
    }
}
