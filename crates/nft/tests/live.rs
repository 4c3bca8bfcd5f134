//! The ruleset in the running kernel, as nft sees it, in a namespace of the test's own.
#![allow(clippy::disallowed_methods, reason = "nft is the witness here")]

use std::net::IpAddr;
use std::process::Command;

use podplumb_nft::masquerade;

fn nft(arguments: &[&str]) -> String {
    let output =
        Command::new("nft").args(arguments).output().expect("nft is installed (make test installs it)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_kernel_has_what_the_text_says_and_pods_come_and_go_as_elements() {
    sys::isolate_thread().expect("tests that change the network need root: run `make test` as root");
    assert!(masquerade::list().unwrap().is_empty(), "no table, no elements");
    masquerade::remove(&["10.0.0.9/24".parse().unwrap()]).unwrap();

    masquerade::add(&["10.0.0.2/24".parse().unwrap(), "fd00::2/64".parse().unwrap()]).unwrap();
    masquerade::add(&["10.0.0.3/24".parse().unwrap()]).unwrap();
    masquerade::add(&["10.0.0.3/24".parse().unwrap()]).unwrap();
    assert_eq!(masquerade::tables().unwrap(), ["inet podplumb"]);
    let mut all = masquerade::list().unwrap();
    all.sort();
    assert_eq!(all, [ip("10.0.0.2"), ip("10.0.0.3"), ip("fd00::2")]);
    let seen = nft(&["list", "ruleset"]);
    for part in ["elements = { 10.0.0.2, 10.0.0.3 }", "10.0.0.2 . 10.0.0.0/24", "fd00::2 . fd00::/64"] {
        assert!(seen.contains(part), "{part} in\n{seen}");
    }
    let rules = || nft(&["-s", "list", "table", "inet", "podplumb"]).matches("masquerade").count();
    assert_eq!(rules(), 2);

    let nets = ["10.0.0.2/24", "10.0.0.3/24", "10.0.0.99/24", "fd00::2/64"].map(|net| net.parse().unwrap());
    masquerade::remove(&nets).unwrap();
    assert!(masquerade::list().unwrap().is_empty());
    assert_eq!(nft(&["list", "table", "inet", "podplumb"]), masquerade::text());
}
