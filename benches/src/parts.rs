//! Where the time of an ADD goes.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use podplumb_tests::{World, binaries};
use sys::UnnamedFile;

use crate::floor::Floor;
use crate::world::Times;

const ROUNDS: usize = 200;

/// Measures the parts by themselves; the rest of `add_ms` is the plugin's own code.
pub(crate) fn run(_: &World, add_ms: f64) {
    let (mut exec, mut files, mut floor) = (Times::default(), Times::default(), Floor::new(98));
    let binary = binaries().join("podplumb-cni");
    let run = std::fs::File::open("/run").expect("/run");
    let state = std::fs::File::open("/var/lib/cni").expect("/var/lib/cni");
    for n in 0..ROUNDS {
        exec.measure(|| {
            let mut version = Command::new(&binary);
            version.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::null()).stdout(Stdio::null());
            assert!(version.status().expect("it starts").success());
        });
        // A record of two lines, a lease, the address that was given last.
        files.measure(|| {
            let (record, lease) = (format!("bench-record-{n}"), format!("bench-lease-{n}"));
            let text = [b'x'; 800];
            UnnamedFile::new(run.as_fd(), &text).and_then(|file| file.link(&record)).expect("a record");
            UnnamedFile::new(state.as_fd(), b"bench").and_then(|file| file.link(&lease)).expect("a lease");
            std::fs::write("/var/lib/cni/bench-last", "10.0.0.1").expect("a file");
        });
        floor.add(n);
        let _ = std::fs::remove_file(format!("/run/bench-record-{n}"));
        let _ = std::fs::remove_file(format!("/var/lib/cni/bench-lease-{n}"));
    }
    let (exec, files, kernel) = (exec.median_ms(), files.median_ms(), floor.times.median_ms());
    let own = add_ms - exec - files - kernel;
    println!(
        "\nan ADD of {add_ms:.2} ms: kernel {kernel:.2}, start and end of the process {exec:.2}, files {files:.2}, own code {own:.2}"
    );
    floor.end();
}
