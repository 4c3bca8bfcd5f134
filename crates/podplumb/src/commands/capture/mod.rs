//! `podplumb capture WHERE… -- FILTER`

mod line;
mod place;
mod session;

use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use analyze::places::{addresses_of, names, vxlan_ports};
use analyze::render::printable;
use anyhow::Context;
use probe::filter::{Filter, Names, VXLAN_PORTS};
use probe::save::{Described, Opened, Out, Save, Settings};

use crate::arguments::CaptureOptions;
use crate::commands::{look, tell_coverage};
use crate::output::{Ended, hinted, hinted_as, note, paint};
use line::Lines;
use place::Open;
use session::{Limits, Session};

pub(crate) fn run(options: &CaptureOptions) -> anyhow::Result<Ended> {
    if !sys::is_root() {
        return Err(hinted("capture needs root: it looks into pods", "sudo podplumb capture …"));
    }
    let text = options.filter.join(" ");
    // Before the node is looked at, which takes longer; which addresses pods have is not known yet.
    filter(&text, &Names { pod: &|_| vec![IpAddr::from([0; 4])], ..Names::default() })?;
    let out = out(options)?;
    match prepared(options, &text) {
        Ok(prepared) => capture(options, prepared, out),
        Err(error) => {
            if let Some(Out::File(opened)) = out {
                opened.abandon();
            }
            Err(error)
        }
    }
}

/// What has to be known before the first packet comes.
struct Prepared {
    places: Vec<Open>,
    filter: Option<Filter>,
    lines: Lines,
    node: String,
}

fn prepared(options: &CaptureOptions, text: &str) -> anyhow::Result<Prepared> {
    let snapshot = look(&options.live)?;
    let mut ports = vxlan_ports(&snapshot);
    ports.extend(VXLAN_PORTS);
    ports.sort_unstable();
    ports.dedup();
    let filter = filter(text, &Names { pod: &|name| addresses_of(&snapshot, name), vxlan_ports: &ports })?;
    let wanted = place::resolve(&snapshot, &options.places, options.both_ends).inspect_err(|_| {
        tell_coverage(&snapshot);
    })?;
    let places = place::open(&wanted, filter.as_ref(), options.snap)?;
    let lines = Lines::new(names(&snapshot), ports, places.iter().map(|place| place.name.as_str()), paint());
    Ok(Prepared { places, filter, lines, node: snapshot.node.hostname })
}

fn capture(options: &CaptureOptions, prepared: Prepared, out: Option<Out>) -> anyhow::Result<Ended> {
    let Prepared { places, filter, lines, node } = prepared;
    let settings = settings(options, &places, filter.as_ref(), &node);
    let save = out.map(|out| Save::begin(out, settings)).transpose().map_err(session::unsaved)?;
    let stopped = sys::stop_signals().context("signals cannot be waited for")?;
    let at: Vec<String> = places.iter().map(|place| printable(&place.name)).collect();
    note(format_args!("capturing on {}; Ctrl-C ends it", at.join(", ")));
    let lines = (save.is_none() || options.print).then_some(lines);
    let limits = Limits { packets: options.count, until: options.time.map(|time| Instant::now() + time) };
    Session::new(places, save, lines, limits).run(&stopped)
}

/// The filter, unless there is none. One that is not understood is a use of the command that it has not: exit code 2.
pub(crate) fn filter(text: &str, names: &Names<'_>) -> anyhow::Result<Option<Filter>> {
    if text.is_empty() {
        return Ok(None);
    }
    Filter::parse(text, names).map(Some).map_err(|error| {
        let pointed: String = error.pointed(text).lines().map(|line| format!("\n  {line}")).collect();
        let hint = error.hint.clone().unwrap_or_else(|| "docs/capture.md has all words of filters".into());
        hinted_as(2, format!("the filter is not understood: {error}{pointed}"), printable(&hint))
    })
}

/// Makes sure that it can be written where the user wants it.
fn out(options: &CaptureOptions) -> anyhow::Result<Option<Out>> {
    let Some(path) = &options.write else { return Ok(None) };
    if path == Path::new("-") {
        if options.print || options.ring.is_some() {
            return Err(hinted(
                "packets go to stdout as a file, nothing else can",
                "write to a file with -w FILE",
            ));
        }
        if io::stdout().is_terminal() {
            let hint = "write it to a file with -w FILE, or lead it to a reader: `… -w - | tshark -r -`";
            return Err(hinted("a capture is no text for a terminal", hint));
        }
        return Ok(Some(Out::Stream(io::stdout())));
    }
    let opened = Opened::open(path, options.ring.map(usize::from)).map_err(|error| {
        hinted(
            format!("cannot write {}: {error}", path.display()),
            "give a file that can be written with -w FILE",
        )
    })?;
    Ok(Some(Out::File(opened)))
}

fn settings(options: &CaptureOptions, places: &[Open], filter: Option<&Filter>, node: &str) -> Settings {
    let filter = filter.map(|filter| filter.text().to_owned());
    let behind = filter.as_ref().map(|filter| format!(" -- {filter}")).unwrap_or_default();
    let described = |place: &Open| Described {
        name: place.name.clone(),
        description: format!("{}, node {node}", place.description),
        link: place.link,
    };
    Settings {
        comment: format!("podplumb capture {}{behind}", options.places.join(" ")),
        application: format!("podplumb {}", env!("CARGO_PKG_VERSION")),
        os: format!("Linux {}", sys::kernel_release()),
        interfaces: places.iter().map(described).collect(),
        snap_bytes: options.snap,
        filter,
        limit_bytes: options.size,
        files: options.ring.map(usize::from),
    }
}
