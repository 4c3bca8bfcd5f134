//! Every file in examples/labs comes up, does what it says, and is gone afterwards.

use std::path::{Path, PathBuf};

use podplumb_tests::{Podplumb, World, require};

const NEEDS: [&str; 1] = ["ip"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn examples() -> Vec<PathBuf> {
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
    let _world = World::enter();
    let podplumb = Podplumb::default();
    for file in examples() {
        let path = file.display().to_string();
        podplumb.expect(0, &["lab", "up", &path]);
        podplumb.expect(0, &["lab", "verify", &path]);
        let again = podplumb.expect(0, &["lab", "up", &path]);
        assert!(again.contains("nothing to change"), "{path}: {again}");
        let down = podplumb.expect(0, &["lab", "down", &path]);
        assert!(down.contains("the kernel has none of them any more"), "{path}: {down}");
        assert_eq!(podplumb.expect(0, &["lab", "list"]), "no labs\n");
    }
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
