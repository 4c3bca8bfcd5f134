//! `podplumb lab capture`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use lab::Labs;
use probe::capture::{Capture, LinkType, Settings};
use probe::filter::Names;
use probe::pcapng::Writer;
use probe::recording::Recording;

use crate::arguments::LabCaptureOptions;
use crate::commands::capture::filter;
use crate::output::{Ended, hinted, note};

/// How often a signal is looked for.
const MOMENT: Duration = Duration::from_millis(100);

pub(crate) fn run(options: &LabCaptureOptions, labs: &Labs) -> anyhow::Result<Ended> {
    let to_stdout = options.write == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        let hint = "write it to a file with -w FILE, or lead it to a reader: `… | tshark -r -`";
        return Err(hinted("a capture is no text for a terminal", hint));
    }
    let name = super::name_of(&options.lab)?;
    let netns = labs.netns(&name, &options.machine).map_err(super::failed)?;
    let filter = filter(&options.filter.join(" "), &Names::default())?;
    let mut settings = Settings { interface: options.interface.clone(), ..Settings::default() };
    if let Some(filter) = filter {
        // A lab's machines have Ethernet.
        settings.filter = filter.program(LinkType::Ethernet, u32::MAX);
    }
    let capture = Capture::open(&netns, &settings).map_err(|failure| {
        let machine = &options.machine;
        let what = format!("cannot capture in {machine} of the lab {name}: {failure}");
        hinted(what, format!("`podplumb lab show {name}` shows its interfaces"))
    })?;
    let out: Box<dyn Write> = match to_stdout {
        true => Box::new(io::stdout().lock()),
        false => {
            let file = File::create(&options.write);
            Box::new(file.with_context(|| format!("cannot write {}", options.write.display()))?)
        }
    };
    let stopped = sys::stop_signals().context("signals cannot be waited for")?;
    let deadline = options.time.map(|time| Instant::now() + time);
    let mut writer = Writer::begin(BufWriter::new(out), &sys::kernel_release(), "podplumb")?;
    let mut recording = Recording::of(capture, &options.machine, settings.snap_bytes);
    let mut left = options.count.unwrap_or(u64::MAX);
    while left > 0 && deadline.is_none_or(|deadline| Instant::now() < deadline) && !is_readable(&stopped) {
        let until = deadline.unwrap_or(Instant::now() + MOMENT).min(Instant::now() + MOMENT);
        let written = recording.write(&mut writer, until, |_| {
            left -= 1;
            left > 0
        });
        match written {
            // Who reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Ended::Fine),
            written => written.with_context(|| format!("cannot write {}", options.write.display()))?,
        }
    }
    let counts = recording.finish(&mut writer)?;
    note(format_args!("{} packets, {} dropped by the kernel", counts.seen, counts.dropped));
    Ok(Ended::Fine)
}

fn is_readable(fd: &std::os::fd::OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now)), Ok(1))
}
