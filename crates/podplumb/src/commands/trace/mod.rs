//! `podplumb trace A B`

mod live;

use analyze::trace::{Question, Refusal, Verdict, trace};
use model::Snapshot;

use crate::arguments::{Shape, TraceOptions};
use crate::commands::{look_by, read, tell_coverage};
use crate::output::{Ended, hinted, paint, print, print_json};

pub(crate) fn run(options: &TraceOptions) -> anyhow::Result<Ended> {
    let snapshots = snapshots(options)?;
    let question = Question {
        from: options.a.clone(),
        to: options.b.clone(),
        protocol: options.port.protocol,
        port: options.port.port,
        v6: if options.v4 || options.v6 { Some(options.v6) } else { None },
    };
    let mut found = trace(&snapshots, &question).map_err(|refusal| {
        snapshots.iter().for_each(tell_coverage);
        told(&refusal)
    })?;
    if options.live {
        found.seen = live::send(&snapshots, &found, options.timeout)?;
    }
    match options.output {
        Shape::Text => print(&analyze::render::trace(&found, options.verbose, paint()))?,
        Shape::Json => print_json(&found)?,
    }
    let verdict = found.verdict();
    if verdict != Verdict::Arrives {
        snapshots.iter().for_each(tell_coverage);
    }
    // What was seen counts more than what was computed.
    let arrives = match found.seen.as_slice() {
        [] => verdict == Verdict::Arrives,
        seen => seen.iter().all(|probe| probe.arrived),
    };
    Ok(if arrives { Ended::Fine } else { Ended::Found })
}

fn snapshots(options: &TraceOptions) -> anyhow::Result<Vec<Snapshot>> {
    if !options.from.is_empty() {
        return options.from.iter().map(|file| read(file)).collect();
    }
    if !sys::is_root() {
        let what = "trace needs root: it has to look into other people's namespaces";
        return Err(hinted(what, "sudo podplumb trace, or give it snapshots with --from"));
    }
    Ok(vec![look_by(observe::observe, &options.node, true)?])
}

fn told(refusal: &Refusal) -> anyhow::Error {
    let printable = analyze::render::printable;
    match refusal {
        Refusal::Nobody { name } => hinted(
            format!("nothing goes by {name:?}"),
            "give a pod, container, veth, pid, namespace, address or `host`; `podplumb pods` lists what is here",
        ),
        Refusal::Several { name, found } => {
            let mut text = format!("{name:?} may be any of {}, so nothing was done:", found.len());
            for (label, node, unique) in found {
                let line = format!("{label} on {node}: {unique}");
                text.push_str(&format!("\n  {}", printable(&line)));
            }
            hinted(text, "say which by one of these paths, by its address, or by NAMESPACE/NAME")
        }
        Refusal::NoAddress { label, v6 } => {
            let family = match v6 {
                Some(true) => "IPv6 address",
                Some(false) => "IPv4 address",
                None => "address",
            };
            hinted(format!("{} has no {family}", printable(label)), "give the address that you mean")
        }
        Refusal::Families { from, to } => hinted(
            format!("{} and {} have no family of addresses in common", printable(from), printable(to)),
            "give addresses of one family",
        ),
        Refusal::NoInterface { label, name, has } => hinted(
            format!("{} has no interface {name:?}", printable(label)),
            format!("what stands behind % is one of the sender's: {}", printable(&has.join(", "))),
        ),
        Refusal::NoScope { address } => hinted(
            format!("{address} is on every link"),
            format!("say on which of the sender's interfaces: {address}%eth0"),
        ),
    }
}
