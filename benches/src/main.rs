//! podplumb and its peers, side by side in one run, interleaved, in a world of its own. Prints medians and ratios.
//!
//! `make bench`, or with the release binaries in `$PODPLUMB_BIN_DIR`: `cargo run --release -p podplumb-benches
//! [plugins|chains|ports|node|reclaim|lab|exec|capture|live|trace|doctor]`
#![allow(clippy::disallowed_methods, reason = "benchmarks run programs")]

mod call;
mod capture;
mod doctor;
mod exec;
mod floor;
mod lab;
mod node;
mod parts;
mod plugins;
mod ports;
mod reclaim;
mod trace;
mod world;

fn main() {
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if let Some(files) = std::env::args().nth(2).filter(|_| only.as_deref() == Some("hold")) {
        node::hold(files.parse().expect("a number"));
    }
    let world = world::enter();
    if wanted("plugins") {
        plugins::run(&world);
    }
    if wanted("chains") {
        plugins::chains(&world);
    }
    if wanted("ports") {
        ports::run(&world);
    }
    if wanted("reclaim") {
        reclaim::run(&world);
    }
    if wanted("lab") {
        lab::run(&world);
    }
    if wanted("exec") {
        exec::run(&world);
    }
    if wanted("capture") {
        capture::run(&world);
    }
    if wanted("live") {
        trace::live(&world);
    }
    if wanted("trace") {
        trace::run(&world);
    }
    if wanted("doctor") {
        doctor::run(&world);
    }
    if wanted("node") {
        node::run(&world);
    }
}
