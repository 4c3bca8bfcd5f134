//! What every directory of CNI plugins has to do, driven by nothing but environment and stdin.
//!
//! The cases were written against Debian's reference plugins: what they are known to fail is listed, so that a case which nobody
//! can pass is noticed. `PODPLUMB_CONFORMANCE_DIR` chooses any other directory, `PODPLUMB_CONFORMANCE_ONLY` the cases whose
//! names contain it.
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

use podplumb_tests::{PLUGINS, Plugins, require};

use crate::case::{Case, Directory, Report};
use crate::known::KNOWN;

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

fn report(directory: &Directory) -> Report {
    let report = case::run(cases(), directory);
    eprintln!("{report}");
    report
}

#[test]
fn the_reference_plugins_pass_all_but_what_is_known() {
    if !require(&NEEDS) {
        return;
    }
    let report = report(&Directory::Of(Plugins::Reference));
    let known: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
    let unexpected: Vec<&str> = report.failed().into_iter().filter(|name| !known.contains(name)).collect();
    assert!(unexpected.is_empty(), "these fail: {unexpected:#?}");
    let passed: Vec<&str> = known.into_iter().filter(|name| report.has_passed(name)).collect();
    assert!(passed.is_empty(), "these pass, strike them from the list: {passed:#?}");
    let not_there: Vec<&str> =
        report.not_there().into_iter().filter(|plugin| !LATER.contains(plugin)).collect();
    assert!(not_there.is_empty(), "these are not there: {not_there:?}");
}

#[test]
fn ours_pass_all() {
    if !require(&NEEDS) {
        return;
    }
    let report = report(&Directory::Of(Plugins::Podplumb));
    assert!(report.failed().is_empty(), "these fail: {:#?}", report.failed());
    for plugin in report.not_there() {
        assert!(PLUGINS.contains(&plugin), "{plugin} is no plugin");
    }
}

#[test]
fn a_chosen_directory_passes_all() {
    let Ok(directory) = std::env::var("PODPLUMB_CONFORMANCE_DIR") else { return };
    if !require(&NEEDS) {
        return;
    }
    let report = report(&Directory::At(directory));
    assert!(report.failed().is_empty(), "these fail: {:#?}", report.failed());
}
