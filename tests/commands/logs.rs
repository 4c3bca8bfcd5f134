//! What systemd's journal says of a pod that leaked, beside the finding about it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use podplumb_tests::{Podplumb, World, require};

const NEEDS: [&str; 1] = ["ip"];
const WRITER: &str = "/lib/systemd/systemd-journal-remote";
const POD: &str = "5a1e7d0c1e5b9a3f4d225a1e7d0c1e5b9a3f4d225a1e7d0c1e5b9a3f4d22aaaa";

/// Writes to the journal of this world as the unit, at this time.
fn log(file: &Path, unit: &str, at_s: u64, message: &str) {
    let mut writer = Command::new(WRITER)
        .arg(format!("--output={}", file.display()))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd's writer of journals");
    let entry = format!(
        "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP=1\n_BOOT_ID=5d9df5e8c5d24f3a9e6e3a3f0b7c1d2e\n\
         _SYSTEMD_UNIT={unit}.service\nMESSAGE={message}\n\n",
        at_s * 1_000_000
    );
    writer.stdin.take().expect("a pipe").write_all(entry.as_bytes()).expect("a reader");
    assert!(writer.wait().expect("it was started").success());
}

#[test]
fn the_last_that_the_journal_says_of_a_leaked_pod_is_told_with_its_time() {
    if !require(&NEEDS) {
        return;
    }
    assert!(Path::new(WRITER).exists(), "missing: {WRITER} (xtask/install test installs it)");
    let _world = World::enter();
    let leases = Path::new("/var/lib/cni/networks/pods");
    std::fs::create_dir_all(leases).unwrap();
    std::fs::write(leases.join("10.67.0.9"), format!("{POD}\r\neth0")).unwrap();
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let finding = podplumb.finding_of(POD, "0s");
    assert_eq!(finding.0.get("heard"), None, "nothing was said of it");

    let journal = Path::new("/run/log/journal/5d9df5e8c5d24f3a9e6e3a3f0b7c1d2e");
    std::fs::create_dir_all(journal).unwrap();
    let failed =
        format!("StopPodSandbox for \"{POD}\" failed: \u{1b}[2Jplugin type=\"bridge\": no such network");
    // Each in a file of its own: journald begins a new one now and then.
    log(&journal.join("system.journal"), "containerd", 1_790_000_100, &failed);
    log(
        &journal.join("system@5d9df5e8c5d24f3a9e6e3a3f0b7c1d2e-1-1.journal"),
        "kubelet",
        1_790_000_000,
        &format!("Killing container with a grace period, sandbox {POD}"),
    );
    let heard = podplumb.finding_of(POD, "0s").0["heard"].clone();
    assert_eq!(heard["line"].as_str(), Some(failed.as_str()));
    assert_eq!(heard["at"].as_i64(), Some(1_790_000_100_000));
    // Others' namespaces are on this machine, too.
    let output = podplumb.run(&["leaks", "--grace", "0s"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let own = text.split("\n\n").find(|part| part.contains(&POD[..12])).expect("a finding");
    assert!(
        own.contains("StopPodSandbox") && own.contains("system.journal") && own.contains(" ago)"),
        "{own}"
    );
    assert!(!own.contains('\u{1b}') && own.lines().all(|line| line.chars().count() <= 80), "{own}");
    let who = podplumb.expect(0, &["who", POD]);
    assert!(who.contains("/system.journal\n             at 2026-09-21T14:15:00Z"), "{who}");
}

#[test]
fn a_report_has_what_the_journal_says_of_a_leaked_pod_and_of_plugins_that_failed() {
    if !require(&["ip", "tar", "mount"]) {
        return;
    }
    assert!(Path::new(WRITER).exists(), "missing: {WRITER} (xtask/install test installs it)");
    let world = World::enter();
    let leases = Path::new("/var/lib/cni/networks/pods");
    std::fs::create_dir_all(leases).unwrap();
    std::fs::write(leases.join("10.67.0.10"), format!("{POD}\r\neth0")).unwrap();
    let journal = Path::new("/run/log/journal/5d9df5e8c5d24f3a9e6e3a3f0b7c1d2e");
    std::fs::create_dir_all(journal).unwrap();
    podplumb_tests::run("mount", &["-t", "tmpfs", "none", "/var/log"]);
    let now_s = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let file = |n: u32| journal.join(format!("system@5d9df5e8c5d24f3a9e6e3a3f0b7c1d2e-{n}-1.journal"));
    log(&file(1), "containerd", now_s - 9000, &format!("RunPodSandbox returns sandbox id {POD}"));
    log(&file(2), "kubelet", now_s - 60, &format!("KillPodSandbox of {POD} \u{1b}[2J failed"));
    log(&file(3), "containerd", now_s - 30, "cni config load failed: no network config found");
    log(&file(4), "containerd", now_s - 9000, "cni config load failed: it was two hours ago");
    log(&file(5), "cron", now_s - 30, "cni failed, says somebody else");
    // What syslog got as well is there once; a log that cannot be read is named.
    std::fs::write("/var/log/syslog", format!("node kubelet[7]: KillPodSandbox of {POD} \u{1b}[2J failed\n"))
        .unwrap();
    std::fs::create_dir("/var/log/messages").unwrap();

    let archive = world.path().join("report.tar.gz");
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    podplumb.expect(0, &["report", archive.to_str().unwrap()]);
    let tar = ["xzOf", archive.to_str().unwrap(), "podplumb-report/logs.txt"];
    let text = String::from_utf8(podplumb_tests::output("tar", &tar).stdout).unwrap();
    let own = text.split("\n\n").find(|part| part.starts_with(&format!("== in flight, {POD}\n")));
    let own = own.unwrap_or_else(|| panic!("{text}"));
    let (made, killed) = (own.find("RunPodSandbox"), own.find("KillPodSandbox"));
    assert!(made.is_some() && made < killed, "{text}");
    assert_eq!(own.matches("KillPodSandbox").count(), 1, "{text}");
    let errors = text.split("\n\n").find(|part| part.starts_with("== errors of CNI plugins")).unwrap();
    assert!(errors.contains("no network config found"), "{text}");
    assert!(!text.contains("two hours ago") && !text.contains("somebody else"), "{text}");
    assert!(text.contains("/var/log/messages: ") && !text.contains('\u{1b}'), "{text}");
}
