//! The world of a benchmark, and how it measures.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use podplumb_tests::World;
use sys::NetNs;

pub(crate) fn enter() -> World {
    assert!(sys::is_root(), "benchmarks need root: they make namespaces");
    World::enter()
}

/// A new namespace, pinned under `/run/netns`.
pub(crate) fn pinned(name: &str) -> NetNs {
    let netns = NetNs::create().expect("a namespace");
    let path = PathBuf::from("/run/netns").join(name);
    std::fs::write(&path, "").expect("a file to mount on");
    let source = format!(
        "/proc/thread-self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&netns))
    );
    rustix::mount::mount_bind(source, &path).expect("a pin");
    netns
}

/// Times of one thing.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Runs and measures.
    pub(crate) fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.0.push(start.elapsed());
        result
    }

    /// What something measured itself.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The middle one, in milliseconds.
    pub(crate) fn median_ms(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

/// The peak resident set of a program that runs to its end, in MB.
pub(crate) fn peak_rss_mb(program: &mut Command) -> f64 {
    // The program's exit code does not matter (leaks exits with 3).
    let mut all =
        vec!["time".to_owned(), "-v".to_owned(), program.get_program().to_string_lossy().into_owned()];
    all.extend(program.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    let output =
        Command::new("busybox").args(all).stdin(Stdio::null()).output().expect("busybox is installed");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Maximum resident set size (kbytes): "));
    // busybox takes ru_maxrss for pages (coreutils/time.c, `ptok`), but Linux counts in kilobytes.
    line.and_then(|kb| kb.trim().parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 4.0 / 1024.0)
}
