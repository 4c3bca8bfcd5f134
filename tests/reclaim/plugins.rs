//! DEL of the cached chain, replayed.

use std::path::Path;

use podplumb_tests::{require, wait_until};

use crate::leak::{cached_chain, pinned, plugin, podplumb};

const CALLS: &str = "/run/del-calls";

#[test]
fn every_plugin_of_the_chain_is_called_also_after_one_that_fails_and_the_rest_waits_for_it() {
    if !require(&["ip"]) {
        return;
    }
    let world = crate::leak::alone();
    let mut bin_dir = String::new();
    for (name, then) in [("first", "true"), ("second", "[ -e /run/second-works ]"), ("third", "true")] {
        bin_dir = plugin(&world, name, &format!("echo {name} $CNI_COMMAND >> {CALLS}\n{then}"));
    }
    let leaked = pinned(0x5001);
    let entry = cached_chain("de15e0f7b1c2e4d55", &["first", "second", "third"], &leaked.netns);
    let reclaim = || podplumb().run(&["reclaim", "--apply", "--grace", "0s", "--cni-bin-dir", &bin_dir]);
    let calls = || std::fs::read_to_string(CALLS).unwrap_or_default();
    // Another test's podplumb may have the namespace open at the moment.
    let mut failed = reclaim();
    wait_until("the plugins are called", || {
        let called = !calls().is_empty();
        if !called {
            failed = reclaim();
        }
        called
    });
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert_eq!(calls(), "third DEL\nsecond DEL\nfirst DEL\n");
    assert!(leaked.is_whole() && entry.exists(), "only the plugins know what they made: {failed:?}");
    std::fs::write("/run/second-works", "").unwrap();
    wait_until("the next run finishes", || reclaim().status.success() && leaked.is_gone() && !entry.exists());
    assert_eq!(calls().lines().count(), 6, "once they had succeeded they were not called again");
}

#[test]
fn an_address_that_another_container_has_by_now_is_not_in_the_result_that_plugins_get() {
    if !require(&["ip"]) {
        return;
    }
    let world = crate::leak::alone();
    let bin_dir = plugin(&world, "told", &format!("echo \"$config\" > {CALLS}"));
    let leaked = pinned(0x5002);
    let entry = cached_chain("de15e0f7b1c2e4d66", &["told"], &leaked.netns);
    let text = std::fs::read_to_string(&entry).unwrap();
    let ips = r#""result":{"ips":[{"address":"10.216.0.2/24"},{"address":"10.216.0.3/24"}],"#;
    std::fs::write(&entry, text.replacen(r#""result":{"#, ips, 1)).unwrap();
    // Its own DEL released it; an ADD took it before the cache entry was removed.
    let leases = Path::new("/var/lib/cni/networks/old");
    std::fs::create_dir_all(leases).unwrap();
    std::fs::write(leases.join("10.216.0.2"), "somebody-else\r\neth0").unwrap();
    let reclaim = || podplumb().run(&["reclaim", "--apply", "--grace", "0s", "--cni-bin-dir", &bin_dir]);
    wait_until("the plugin is called", || reclaim().status.success() && Path::new(CALLS).exists());
    let config = std::fs::read_to_string(CALLS).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["prevResult"]["ips"], serde_json::json!([{ "address": "10.216.0.3/24" }]));
}
