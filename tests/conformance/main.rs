//! What every directory of CNI plugins has to do, driven by nothing but environment and stdin.
//!
//! The cases were written against Debian's reference plugins: what they are known to fail is listed, so that a case which nobody
//! can pass is noticed. `PODPLUMB_CONFORMANCE_DIR` chooses any other directory, `PODPLUMB_CONFORMANCE_ONLY` the cases
//! ([`case::only`]).
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod bridge;
mod case;
mod dhcp;
mod firewall;
mod flannel;
mod host_local;
mod known;
mod links;
mod node;
mod peer;
mod portmap;
mod protocol;
mod ptp;
mod setup;
mod tuned;

use podplumb_tests::{Plugins, require};

use crate::case::{Case, Directory, Report};

const NEEDS: [&str; 9] =
    ["ip", "nft", "nsenter", "unshare", "bridge", "tc", "iptables", "iptables-save", "busybox"];

/// Plugins that the reference has only in later versions than Debian's.
const LATER: [&str; 3] = ["dummy", "flannel", "tap"];

fn cases() -> Vec<Case> {
    let all = [
        protocol::cases(),
        bridge::cases(),
        ptp::cases(),
        links::cases(),
        host_local::cases(),
        dhcp::cases(),
        flannel::cases(),
        portmap::cases(),
        firewall::cases(),
        tuned::cases(),
    ];
    all.into_iter().flatten().collect()
}

/// Runs all cases; what is known to fail has to fail, and everything else to pass.
fn judge(directory: &Directory, known: &[(&str, &str)]) -> Report {
    let report = case::run(cases(), directory);
    eprintln!("{report}");
    let is_known = |name: &str| known.iter().any(|(known, _)| *known == name);
    let unexpected: Vec<&str> = report.failed().into_iter().filter(|name| !is_known(name)).collect();
    assert!(unexpected.is_empty(), "these fail: {unexpected:#?}");
    let passed: Vec<&str> =
        known.iter().map(|(name, _)| *name).filter(|name| report.has_passed(name)).collect();
    assert!(passed.is_empty(), "these pass, strike them from the list: {passed:#?}");
    let named = |name: &str| report.0.iter().any(|(have, _)| have == name);
    let unknown: Vec<&str> = known.iter().map(|(name, _)| *name).filter(|name| !named(name)).collect();
    assert!(unknown.is_empty() || case::only().is_some(), "these are no cases: {unknown:#?}");
    // A machine of tests/vm has a kernel with everything: what is skipped there would run nowhere.
    let whole = std::env::var_os("PODPLUMB_WHOLE_KERNEL").is_some();
    assert!(!whole || report.skipped().is_empty(), "these need a kernel with more: {:#?}", report.skipped());
    report
}

#[test]
fn the_reference_plugins_pass_all_but_what_is_known() {
    if !require(&NEEDS) {
        return;
    }
    let report = judge(&Directory::Of(Plugins::Reference), known::REFERENCE);
    let mut not_there = report.not_there();
    not_there.retain(|plugin| !LATER.contains(plugin));
    assert!(not_there.is_empty(), "these are not there: {not_there:?}");
}

#[test]
fn ours_pass_all_but_what_is_known() {
    if !require(&NEEDS) {
        return;
    }
    let report = judge(&Directory::Of(Plugins::Podplumb), known::OURS);
    assert!(report.not_there().is_empty(), "these are not there: {:?}", report.not_there());
}

#[test]
fn a_chosen_directory_passes_all() {
    let Ok(directory) = std::env::var("PODPLUMB_CONFORMANCE_DIR") else { return };
    if require(&NEEDS) {
        judge(&Directory::At(directory), &[]);
    }
}
