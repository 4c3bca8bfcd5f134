//! Journals as journald's own writer makes them, whole and broken.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

const WRITER: &str = "/lib/systemd/systemd-journal-remote";
const POD: &str = "7d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d22";
const OTHER: &str = "00ff1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d22";

/// How a file of the journal is written.
#[derive(Debug, Clone, Copy)]
struct Layout {
    compact: bool,
    keyed: bool,
    compressed: bool,
}

const LAYOUTS: [Layout; 4] = [
    Layout { compact: true, keyed: true, compressed: true },
    Layout { compact: false, keyed: true, compressed: true },
    Layout { compact: false, keyed: false, compressed: true },
    Layout { compact: false, keyed: false, compressed: false },
];

/// One entry, in the export format.
struct Said<'a> {
    at_s: u64,
    fields: &'a [(&'a str, &'a str)],
    message: &'a str,
}

fn export(said: &[Said<'_>]) -> Vec<u8> {
    let mut text = Vec::new();
    for (number, entry) in said.iter().enumerate() {
        let at_us = entry.at_s * 1_000_000;
        writeln!(
            text,
            "__CURSOR=s=1;i={number:x}\n__REALTIME_TIMESTAMP={at_us}\n__MONOTONIC_TIMESTAMP={}\n\
             _BOOT_ID=5d9df5e8c5d24f3a9e6e3a3f0b7c1d2e\nPRIORITY=6",
            number + 1
        )
        .unwrap();
        for (name, value) in entry.fields {
            writeln!(text, "{name}={value}").unwrap();
        }
        // By length, so that it may have several lines.
        text.extend(b"MESSAGE\n");
        text.extend((entry.message.len() as u64).to_le_bytes());
        text.extend(entry.message.as_bytes());
        text.extend(b"\n\n");
    }
    text
}

/// Writes a journal below the directory, as that of a machine; `false` where there is no writer of journals.
#[allow(clippy::disallowed_methods, reason = "journald's own writer makes the journals that are read here")]
fn write(directory: &Path, name: &str, layout: Layout, said: &[Said<'_>]) -> bool {
    if !Path::new(WRITER).exists() {
        assert!(std::env::var_os("CI").is_none(), "missing: {WRITER} (xtask/install test installs it)");
        eprintln!("SKIPPED: this test needs {WRITER} (xtask/install test installs it)");
        return false;
    }
    let machine = directory.join("5d9df5e8c5d24f3a9e6e3a3f0b7c1d2e");
    std::fs::create_dir_all(&machine).unwrap();
    let switch = |on: bool| if on { "1" } else { "0" };
    let mut writer = Command::new(WRITER)
        .arg(format!("--output={}", machine.join(name).display()))
        .arg(if layout.compressed { "--compress=yes" } else { "--compress=no" })
        .arg("-")
        .env("SYSTEMD_JOURNAL_COMPACT", switch(layout.compact))
        .env("SYSTEMD_JOURNAL_KEYED_HASH", switch(layout.keyed))
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(&export(said)).unwrap();
    assert!(writer.wait().unwrap().success());
    let header = std::fs::read(machine.join(name)).unwrap();
    let flags = u32::from_le_bytes(header[12..16].try_into().unwrap());
    let expected =
        u32::from(layout.compressed) << 3 | u32::from(layout.keyed) << 2 | u32::from(layout.compact) << 4;
    assert_eq!(flags, expected, "{layout:?} is what was written");
    true
}

fn look(directory: &Path, ids: &[&str]) -> BTreeMap<String, Heard> {
    let budget = Budget::new(Duration::from_secs(60), BLOCKS);
    search(&[directory], &Wanted::new(ids.iter().copied()), &budget)
}

const KUBELET: &[(&str, &str)] = &[("_SYSTEMD_UNIT", "kubelet.service"), ("SYSLOG_IDENTIFIER", "kubelet")];
const CONTAINERD: &[(&str, &str)] = &[("_SYSTEMD_UNIT", "containerd.service")];
const DOCKER: &[(&str, &str)] = &[("SYSLOG_IDENTIFIER", "dockerd"), ("_SYSTEMD_UNIT", "docker.service")];
const LOGGED_BY_DOCKER: &[(&str, &str)] =
    &[("SYSLOG_IDENTIFIER", "web"), ("_SYSTEMD_UNIT", "docker.service")];

#[test]
fn the_last_line_about_a_container_is_found_in_every_layout() {
    for layout in LAYOUTS {
        let directory = tempfile::tempdir().unwrap();
        let (setup, teardown) =
            (format!("RunPodSandbox returns sandbox id {POD}"), format!("StopPodSandbox for \"{POD}\""));
        let long = format!("DEL of {OTHER} failed: cni {}", "reason ".repeat(300));
        let lines = format!("first line\nnetwork of {POD}: one\nnetwork of {POD}: two\nend");
        let mut said = vec![Said { at_s: 1_700_000_000, fields: CONTAINERD, message: &setup }];
        // More than one array of entries, and others in between.
        let chatter: Vec<String> = (0..3000).map(|n| format!("sync loop {n} of the network")).collect();
        for (n, message) in chatter.iter().enumerate() {
            let fields = if n % 3 == 0 { KUBELET } else { &[("SYSLOG_IDENTIFIER", "web")] };
            said.push(Said { at_s: 1_700_000_001 + n as u64, fields, message });
            if n == 1000 {
                said.push(Said { at_s: 1_700_001_500, fields: KUBELET, message: &teardown });
                said.push(Said { at_s: 1_700_001_501, fields: DOCKER, message: &long });
                // A container may say what it likes.
                said.push(Said { at_s: 1_700_001_502, fields: LOGGED_BY_DOCKER, message: &setup });
            }
        }
        if !write(directory.path(), "system.journal", layout, &said) {
            return;
        }
        let heard = look(directory.path(), &[POD, OTHER]);
        let [pod, other] =
            [POD, OTHER].map(|id| heard.get(id).unwrap_or_else(|| panic!("{layout:?} {heard:?}")));
        assert_eq!(
            (pod.line.as_str(), pod.at),
            (teardown.as_str(), Some(Timestamp(1_700_001_500_000))),
            "{layout:?}"
        );
        assert!(pod.path.ends_with("5d9df5e8c5d24f3a9e6e3a3f0b7c1d2e/system.journal"));
        assert_eq!(other.line, long.chars().take(600).collect::<String>(), "{layout:?}");

        // What was written later, to another file, is newer; the last line of several is.
        let later = [Said { at_s: 1_700_100_000, fields: CONTAINERD, message: &lines }];
        assert!(write(directory.path(), "system@1-2-3.journal", layout, &later));
        let heard = look(directory.path(), &[POD, OTHER]);
        assert_eq!(heard[POD].line, format!("network of {POD}: two"), "{layout:?}");
        assert_eq!(heard[OTHER], *other);
        assert_eq!(look(directory.path(), &[&"ab".repeat(32)]).len(), 0);
    }
}

#[test]
fn a_journal_that_is_cut_or_damaged_anywhere_costs_lines_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<String> =
        (0..40).map(|n| format!("network of {POD}: {n} {}", "long ".repeat(n * 10))).collect();
    let said = |(n, message): (usize, &'static str)| Said {
        at_s: 1_700_000_000 + n as u64,
        fields: if n % 2 == 0 { KUBELET } else { CONTAINERD },
        message,
    };
    let said: Vec<Said<'_>> = lines.iter().map(|line| &*line.clone().leak()).enumerate().map(said).collect();
    for (at, layout) in LAYOUTS.into_iter().enumerate() {
        let name = format!("{at}.journal");
        if !write(directory.path(), &name, layout, &said) {
            return;
        }
        let path = directory.path().join("5d9df5e8c5d24f3a9e6e3a3f0b7c1d2e").join(name);
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let hear = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            let budget = Budget::new(Duration::from_secs(10), BLOCKS);
            let mut found = BTreeMap::new();
            if let Some(mut journal) = Journal::open(file, &budget) {
                read(&mut journal, &path, &Wanted::new([POD].into_iter()), &budget, &mut found);
            }
            assert!(!budget.is_spent(), "a small file was read for ever");
            found.remove(POD).map(|heard: Heard| heard.line)
        };
        let newest = super::super::shortened(&lines[39]);
        assert_eq!(hear(&whole[..used]).as_ref(), Some(&newest), "{layout:?}");
        for cut in (0..used).step_by(used / 60) {
            if let Some(line) = hear(&whole[..cut]) {
                assert!(lines.iter().any(|said| said.starts_with(&line)), "{layout:?} {cut}: {line}");
            }
        }
        // Damage that makes offsets and lengths wrong: eight bytes at a time, with what hurts.
        let mut bytes = whole[..used].to_vec();
        for (n, place) in (0..used - 8).step_by(8 * (used / 8 / 500 + 1)).enumerate() {
            let kept: [u8; 8] = bytes[place..place + 8].try_into().unwrap();
            let hurt = [0, u64::MAX, place as u64, 0x0100_0000_0000_0001, used as u64 - 8][n % 5];
            bytes[place..place + 8].copy_from_slice(&hurt.to_le_bytes());
            hear(&bytes);
            bytes[place..place + 8].copy_from_slice(&kept);
        }
    }
}

#[test]
fn what_is_no_journal_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let machine = directory.path().join("machine");
    std::fs::create_dir_all(machine.join("system.journal")).unwrap();
    std::fs::write(machine.join("empty.journal"), "").unwrap();
    std::fs::write(machine.join("text.journal"), "LPKSHHRH".repeat(1000)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", machine.join("zero.journal")).unwrap();
    let fifo = machine.join("pipe.journal~");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, fifo, kind, mode, 0).unwrap();
    assert_eq!(look(directory.path(), &[POD]), BTreeMap::new());
}
