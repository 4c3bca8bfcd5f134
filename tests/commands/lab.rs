//! `podplumb lab` as people call it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use podplumb_tests::{Podplumb, World, binaries, require};

const PAIR: &str = "\
name: pair
hosts: {a: , b: {run: sleep 1000}}
links: [a -- b]
expect: [ping a -> b]
";

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_error_in_a_file_says_where_and_what_to_do_and_nothing_is_made() {
    if !require(&[]) {
        return;
    }
    let world = World::enter();
    let file = world.path().join("lab.yaml");
    std::fs::write(&file, "hosts: [alpha, beta]\nlinks:\n  - alpha -- beat\n").expect("a file");
    let said = Podplumb::default().run(&["lab", "up", &file.display().to_string()]);
    assert_eq!(said.status.code(), Some(1));
    let place =
        format!("podplumb: {}:3:5: there is no machine `beat`\nhint: did you mean `beta`?\n", file.display());
    assert_eq!(String::from_utf8_lossy(&said.stderr), place);
    assert!(!Path::new("/run/podplumb/labs").exists());
}

#[test]
fn an_expectation_that_does_not_hold_is_a_finding() {
    if !require(&[]) {
        return;
    }
    let world = World::enter();
    let file = world.path().join("lab.yaml");
    std::fs::write(&file, PAIR.replace("ping a -> b", "no ping a -> b")).expect("a file");
    let file = file.display().to_string();
    let podplumb = Podplumb::default();
    podplumb.expect(0, &["lab", "up", &file]);
    let said = podplumb.expect(3, &["lab", "verify", &file]);
    assert!(said.contains("FAILED") && said.contains("no ping a -> b"), "{said}");
    podplumb.expect(0, &["lab", "down", "pair"]);
}

#[test]
fn people_without_root_have_labs_of_their_own() {
    if !require(&["setpriv", "sleep"]) {
        return;
    }
    let world = World::enter();
    // Everybody may read the program and write the directory.
    let (directory, runtime) = (world.path().join("user"), world.path().join("runtime"));
    for path in [&directory, &runtime] {
        std::fs::create_dir(path).expect("a directory");
        rustix::fs::chown(path, Some(rustix::process::Uid::from_raw(NOBODY)), None).expect("an owner");
    }
    for path in [world.path(), &directory, &runtime] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("permissions");
    }
    let program = directory.join("podplumb");
    std::fs::copy(binaries().join("podplumb"), &program).expect("a copy");
    std::fs::write(directory.join("lab.yaml"), PAIR).expect("a file");
    let podplumb = |arguments: &[&str]| {
        let user = NOBODY.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(&program).args(arguments);
        command.env("XDG_RUNTIME_DIR", &runtime).current_dir(&directory);
        command.output().expect("setpriv")
    };
    let up = podplumb(&["lab", "up", "lab.yaml"]);
    // EPERM and ENOSPC are how kernels say that users may not.
    let refused = ["os error 1)", "os error 28)"].iter().any(|errno| text(&up).contains(errno));
    if refused && std::env::var_os("CI").is_none() {
        eprintln!("SKIPPED: users may not have namespaces here: {}", text(&up));
        return;
    }
    assert!(up.status.success(), "{}", text(&up));
    assert!(text(&podplumb(&["lab", "up", "lab.yaml"])).contains("nothing to change"));
    let verified = podplumb(&["lab", "verify", "pair", "--within", "60s"]);
    assert!(verified.status.success(), "{}", text(&verified));
    assert!(text(&podplumb(&["lab", "list"])).contains("pair"));
    assert_eq!(Podplumb::default().expect(0, &["lab", "list"]), "no labs\n", "root has others");
    let down = podplumb(&["lab", "down", "pair"]);
    assert!(text(&down).contains("2 namespaces gone, 1 process ended"), "{}", text(&down));
    assert!(!runtime.join("podplumb/keeper.json").exists());
}

/// Debian's user without rights.
const NOBODY: u32 = 65_534;

#[test]
fn a_capture_in_a_lab_takes_a_filter() {
    if !require(&["tshark"]) {
        return;
    }
    let world = World::enter();
    let file = world.path().join("lab.yaml");
    std::fs::write(&file, PAIR).expect("a file");
    let podplumb = Podplumb::default();
    podplumb.expect(0, &["lab", "up", &file.display().to_string()]);
    let said = podplumb.run(&["lab", "capture", "pair", "b", "--", "icpm"]);
    assert_eq!(said.status.code(), Some(2), "{}", text(&said));
    assert!(text(&said).contains("\n  icpm\n  ^^^^\nhint: did you mean `icmp`?"), "{}", text(&said));
    let path = world.path().join("x.pcapng").display().to_string();
    let mut capture = Command::new(binaries().join("podplumb"))
        .args(["lab", "capture", "pair", "b", "eth0", "-w", &path, "-c", "2", "--for", "90s", "--", "icmp"])
        .spawn()
        .expect("podplumb");
    // The file is made when it listens. Of all that comes meanwhile, such as ARP, only this is kept.
    podplumb_tests::wait_until("the capture listens", || Path::new(&path).exists());
    podplumb.expect(0, &["lab", "verify", "pair", "--within", "60s"]);
    assert!(capture.wait().expect("it ends").success());
    let kinds = podplumb_tests::run("tshark", &["-r", &path, "-T", "fields", "-e", "icmp.type"]);
    assert_eq!(kinds.split_whitespace().collect::<Vec<&str>>(), ["8", "0"]);
    podplumb.expect(0, &["lab", "down", "pair"]);
}
