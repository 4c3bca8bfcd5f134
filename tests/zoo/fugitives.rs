//! Links that lead out of where pins are.

use podplumb_tests::{Podplumb, World, require, run};

/// A stale file's name, given to something else by whoever may write there.
#[test]
fn a_symlink_planted_in_run_netns_is_never_followed_to_something_that_is_removed() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let precious = world.path().join("precious");
    std::fs::write(&precious, "").unwrap();
    let directory = world.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    run("ip", &["netns", "add", "mine"]);
    let name = |n: u8| format!("/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e{n:02}");
    let targets = [
        precious.display().to_string(),
        directory.display().to_string(),
        "/run/netns/mine".to_owned(),
        "/proc/self/ns/net".to_owned(),
        "/nowhere".to_owned(),
        name(5),
    ];
    for (n, target) in targets.iter().enumerate() {
        std::os::unix::fs::symlink(target, name(n as u8)).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    assert!(podplumb.orphans("0s").is_empty());
    assert_eq!(podplumb.expect(0, &["reclaim", "--apply", "--grace", "1s"]), "nothing to reclaim\n");
    for n in 0..targets.len() {
        assert!(std::fs::symlink_metadata(name(n as u8)).unwrap().is_symlink(), "{n}");
    }
    assert!(precious.exists() && directory.exists());
    run("ip", &["netns", "exec", "mine", "true"]);

    // A file that was stale at the first look is a link at the moment of removal.
    let swapped = name(77);
    std::fs::write(&swapped, "").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let reclaim = {
        let podplumb = podplumb.clone();
        move || podplumb.run(&["reclaim", "--apply", "--grace", "3s"])
    };
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(reclaim);
        std::thread::sleep(std::time::Duration::from_secs(1));
        std::fs::remove_file(&swapped).unwrap();
        std::os::unix::fs::symlink(&precious, &swapped).unwrap();
        run.join().unwrap()
    });
    assert!(run.status.code().is_some());
    assert!(precious.exists(), "{}", String::from_utf8_lossy(&run.stdout));
    assert!(std::fs::symlink_metadata(&swapped).unwrap().is_symlink());
}
