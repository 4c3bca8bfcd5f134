//! Questions that cannot be answered.

use podplumb_tests::require;

use crate::site::{NEEDS, Site};
use crate::ways::TUNNEL;

#[test]
fn questions_that_mean_nothing_or_two_things_are_refused() {
    if !require(&NEEDS) {
        return;
    }
    let site = Site::up(TUNNEL, &["ping node1-pod1 -> node2-pod1"]);
    let refused = |code: i32, arguments: &[&str], says: &str| {
        let output = site.podplumb.run(&[&["trace"], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(says), "{says:?} is not in {stderr}");
        assert!(output.stdout.is_empty());
    };
    refused(1, &["node1-pod1", "no-such-pod"], "nothing goes by \"no-such-pod\"");
    refused(1, &["no-such-pod", "host"], "hint: ");
    refused(1, &["node1-pod1", "fe80::1"], "fe80::1%eth0");
    refused(1, &["node1-pod1", "node2-pod1", "-6"], "has no IPv6 address");
    refused(1, &["node1-pod1", "host", "--from", "/no/such/file"], "/no/such/file");
    refused(2, &["node1-pod1", "node2-pod1", "--port", "80"], "not icmp, tcp/PORT or udp/PORT");
    refused(2, &["node1-pod1"], "");
    // Two snapshots with the same pods.
    let file = site.world.path().join("twice.json").display().to_string();
    std::fs::write(&file, site.podplumb.expect(0, &["snapshot"])).unwrap();
    refused(1, &["node1-pod1", "node2-pod1", "--from", &file, "--from", &file], "so nothing was done");
    // Nobody has it, and nobody else can be asked.
    site.trace(3, &["node1-pod1", "10.244.0.99"]);
}
