//! The way of a packet: a line for each thing that it passes, with the facts that decide there.

use std::collections::BTreeSet;

use super::text::{Paint, hang, printable, shorten};
use crate::trace::live::Seen;
use crate::trace::{End, Hop, Outcome, Step, Trace, Verdict, Way};

/// Where an interface's name begins: behind the hop's number and what happens there.
const NAME: usize = 18;
/// Where the time begins at which a packet was seen.
const TIME: usize = 65;
/// Where what is known begins.
const FACT: usize = NAME + 11;

/// The way there, the way back where it is another, and what comes of both. `all` facts, or those that do not go without saying.
pub fn trace(trace: &Trace, all: bool, paint: Paint) -> String {
    let mut out = String::new();
    let port = trace.packet.port.filter(|_| trace.back.is_some() || trace.packet.port.is_some());
    let kind = match port {
        Some(port) => format!("{}/{port}", trace.packet.protocol.as_str()),
        None => trace.packet.protocol.as_str().to_owned(),
    };
    let head = format!("{} → {}", end(&trace.from), end(&trace.to));
    out.push_str(&format!("{}  {kind}\n", paint.bold(&head)));
    out.push('\n');
    way(&mut out, &trace.there, trace.seen.first(), all, paint);
    let back_arrives = trace.back.as_ref().is_some_and(|back| back.outcome == Outcome::Arrives);
    if let Some(back) = trace.back.as_ref().filter(|_| all || trace.back_differs.is_some() || !back_arrives) {
        if !back.hops.is_empty() {
            out.push_str(&format!("{}\n\n", paint.bold("the answer")));
        }
        way(&mut out, back, None, all, paint);
    }
    conclusion(&mut out, trace, all, paint);
    out
}

fn end(end: &End) -> String {
    let label = shorten(&end.label);
    match end.address {
        Some(address) if address.to_string() != label => format!("{label} {address}"),
        _ => label,
    }
}

fn way(out: &mut String, way: &Way, seen: Option<&Seen>, all: bool, paint: Paint) {
    let mut last: Option<(&str, &str)> = None;
    let nodes: BTreeSet<&str> = way.hops.iter().map(|hop| hop.node.as_str()).collect();
    for (at, hop) in way.hops.iter().enumerate() {
        let here = (hop.node.as_str(), hop.namespace.as_str());
        if last != Some(here) {
            let namespace = shorten(&hop.namespace);
            let head = match (hop.step, hop.namespace == hop.node || nodes.len() == 1) {
                (Step::Between, _) | (_, true) => namespace,
                _ => format!("{namespace} on {}", printable(&hop.node)),
            };
            out.push_str(&format!("{}\n", paint.bold(&head)));
            last = Some(here);
        }
        let time = seen.map(|seen| time_of(seen, at)).unwrap_or_default();
        write_hop(out, at, hop, &time, all, paint);
    }
    if !way.hops.is_empty() {
        out.push('\n');
    }
}

/// When a packet was seen at a hop.
fn time_of(seen: &Seen, at: usize) -> String {
    match seen.hops_ns.get(at).copied().flatten() {
        Some(ns) => milliseconds(ns),
        None if seen.unwatched.contains(&at) => String::new(),
        None => "not seen".to_owned(),
    }
}

fn write_hop(out: &mut String, at: usize, hop: &Hop, time: &str, all: bool, paint: Paint) {
    let name = hop.interface.as_deref().map(printable).unwrap_or_default();
    let mtu = match (hop.mtu_bytes, hop.tunnel_bytes) {
        (Some(mtu), 0) => format!("mtu {mtu}"),
        (Some(mtu), tunnel) => format!("mtu {mtu}, {tunnel} of it for the tunnel"),
        (None, _) => String::new(),
    };
    let head = format!("{:>3} {:<14}{name:<11}", at + 1, word(hop.step));
    let gap = TIME.saturating_sub(head.chars().count() + mtu.chars().count());
    let line = format!("{head}{}{:gap$}{time:>9}", paint.dim(&mtu), "");
    out.push_str(&format!("{}\n", line.trim_end()));
    for fact in hop.facts.iter().filter(|fact| all || !fact.usual) {
        let head = format!("{:NAME$}{:<11}", "", fact.about);
        hang(out, &head, FACT, &shorten(&fact.text));
    }
}

fn word(step: Step) -> &'static str {
    match step {
        Step::Sent => "sent",
        Step::In => "in",
        Step::Forwarded => "forwarded",
        Step::Bridged => "bridged",
        Step::Out => "out",
        Step::Encapsulated => "into tunnel",
        Step::Decapsulated => "out of tunnel",
        Step::Between => "between",
        Step::Delivered => "delivered",
    }
}

fn conclusion(out: &mut String, trace: &Trace, all: bool, paint: Paint) {
    let verdict = |out: &mut String, head: &str, text: &str| {
        let painted = match head.trim_end() {
            "arrives" => paint.green(head),
            "ends" => paint.red(head),
            _ => paint.yellow(head),
        };
        hang(out, &painted, 9, &shorten(text));
    };
    say(out, "", &trace.there, &verdict);
    if trace.there.outcome == Outcome::Arrives
        && let Some(back) = &trace.back
    {
        match (&back.outcome, &trace.back_differs) {
            (Outcome::Arrives, None) => {
                verdict(out, "answer   ", "comes back by the same interfaces");
            }
            (Outcome::Arrives, Some(other)) => {
                let list = |names: &[String]| names.join(", ");
                let text = match (other.only_there.as_slice(), other.only_back.as_slice()) {
                    (there, []) => format!("comes back, but not by {}", list(there)),
                    ([], back) => format!("comes back, and also passes {}", list(back)),
                    (there, back) => format!("comes back by {} instead of {}", list(back), list(there)),
                };
                verdict(out, "answer   ", &text);
            }
            _ => {}
        }
        if back.outcome != Outcome::Arrives || !back.doubts.is_empty() {
            say(out, "the answer: ", back, &verdict);
        }
    }
    if let Some(narrowest) = &trace.narrowest {
        let hop = &trace.there.hops[narrowest.hop];
        let name = hop.interface.as_deref().unwrap_or("?");
        let mut text = format!(
            "{} bytes at most in one piece: {name} of {} takes {}",
            narrowest.bytes, hop.namespace, narrowest.mtu_bytes
        );
        if narrowest.tunnel_bytes > 0 {
            text.push_str(&format!(", and the tunnel needs {} of them", narrowest.tunnel_bytes));
        }
        hang(out, "size     ", 9, &shorten(&text));
        if narrowest.silent {
            let text = format!(
                "packets of more vanish there, and nobody says so: the sender believes in {}",
                narrowest.sent_bytes
            );
            verdict(out, "size     ", &text);
        }
    }
    for seen in &trace.seen {
        write_seen(out, trace, seen, all, paint);
    }
    for warning in &trace.warnings {
        verdict(out, "note     ", warning);
    }
}

fn say(out: &mut String, whose: &str, way: &Way, verdict: &impl Fn(&mut String, &str, &str)) {
    let last = way.hops.len();
    let arrival = way.hops.iter().rev().find_map(|hop| hop.interface.as_deref().map(|name| (name, hop)));
    match &way.outcome {
        Outcome::Arrives if whose.is_empty() => {
            let head = if way.verdict == Verdict::Arrives { "arrives  " } else { "perhaps  " };
            let text = match arrival {
                Some((name, hop)) => format!("at {} by {name}", hop.namespace),
                None => "where it is".to_owned(),
            };
            verdict(out, head, &text);
        }
        Outcome::Arrives => {}
        Outcome::Ends { why, fix } => {
            let head = if way.verdict == Verdict::Ends { "ends     " } else { "perhaps  " };
            let place = if last == 0 { String::new() } else { format!("at {last}: ") };
            verdict(out, head, &format!("{whose}{place}{why}"));
            if let Some(fix) = fix {
                hang(out, "fix      ", 9, &shorten(fix));
            }
        }
        Outcome::Leaves { why } => verdict(out, "perhaps  ", &format!("{whose}{why}")),
    }
    for doubt in &way.doubts {
        verdict(out, "unknown  ", doubt);
    }
}

/// What was seen of a real packet: when it passed each hop, and where it was last.
fn write_seen(out: &mut String, trace: &Trace, seen: &Seen, all: bool, paint: Paint) {
    let say = |out: &mut String, head: &str, text: &str| hang(out, head, 9, &shorten(text));
    let good = |good: bool, head: &str| if good { paint.green(head) } else { paint.red(head) };
    let head = format!("{} bytes", seen.bytes);
    let name = |at: usize| {
        let hop = &trace.there.hops[at];
        format!("{} {} of {}", at + 1, hop.interface.as_deref().unwrap_or("?"), hop.namespace)
    };
    let text = match (&seen.failed, seen.answered_ns, seen.arrived, seen.last, &seen.answer_last) {
        (Some(failed), ..) => format!("{head}: {failed}"),
        (_, Some(after), ..) => format!("{head}: answered after {}", milliseconds(after)),
        (_, _, true, ..) => format!("{head}: arrived"),
        (_, _, _, _, Some(last)) => format!("{head}: arrived, and the answer was last seen at {last}"),
        (_, _, _, Some(last), _) => format!("{head}: last seen at {}", name(last)),
        (_, _, _, None, _) => format!("{head}: seen nowhere"),
    };
    say(out, &good(seen.arrived, "seen     "), &text);
    let times: Vec<String> = seen
        .hops_ns
        .iter()
        .enumerate()
        .filter_map(|(at, ns)| Some(format!("{} {}", at + 1, milliseconds((*ns)?))))
        .collect();
    // Those of the first stand beside its hops.
    if all && times.len() > 1 {
        say(out, "         ", &format!("at hop {}", times.join(", ")));
    }
    let missed: Vec<String> = (0..seen.last.unwrap_or(0))
        .filter(|at| seen.hops_ns[*at].is_none() && !seen.unwatched.contains(at))
        .map(name)
        .collect();
    if !missed.is_empty() {
        say(out, "         ", &format!("not seen at {}", missed.join(", ")));
    }
    for by in &seen.dropped_by {
        say(out, &paint.red("dropped  "), by);
    }
    for told in &seen.told {
        say(out, "told     ", told);
    }
    if !seen.untraceable.is_empty() && seen.dropped_by.is_empty() {
        let of = seen.untraceable.join(", ");
        say(out, "unknown  ", &format!("iptables-legacy of {of} tells nobody what it drops"));
    }
    const SHOWN: usize = 6;
    if !seen.elsewhere.is_empty() {
        let more = seen.elsewhere.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown: Vec<&str> = seen.elsewhere.iter().take(SHOWN).map(String::as_str).collect();
        say(out, "         ", &format!("also seen at {}{more}", shown.join(", ")));
    }
    match seen.agrees {
        Some(true) => say(out, "         ", "as computed"),
        Some(false) => say(out, &paint.yellow("note     "), "that is not what was computed"),
        None => {}
    }
}

/// `0.042 ms`
fn milliseconds(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000)
}
