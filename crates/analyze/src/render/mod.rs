//! Writing it down for people, at 80 columns.
//!
//! Every renderer takes what an analysis returned and gives a text that ends with a newline. Colour is the caller's
//! decision ([`Paint`]); ids are shortened to the 12 characters by which other tools show them, programs read the JSON.

mod doctor;
mod holders;
mod journal;
mod leaks;
mod logs;
mod map;
mod metrics;
mod pods;
mod rules;
mod sockets;
mod text;
mod trace;
mod versions;
mod who;

pub use doctor::{checks, doctor, explain};
pub use holders::holders;
pub use journal::{JournalLine, journal};
pub use leaks::{applied, leaks, plan, undone};
pub use logs::logs;
pub use map::{Detail, map};
pub use metrics::metrics;
pub use pods::pods;
pub use rules::rules;
pub use sockets::{about_sockets, sockets};
pub use text::{Paint, columns, coverage, printable};
pub use trace::trace;
pub use versions::versions;
pub use who::who;

/// A number of things: `1 port`, `2 ports`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// The width that all texts keep, where names allow it.
pub const COLUMNS: usize = 80;

#[cfg(test)]
mod tests {
    use model::Snapshot;

    use super::*;

    #[test]
    fn nothing_in_another_machines_snapshot_steers_the_terminal() {
        let text = r#"{"version": 1, "taken_at": 0, "node":
            {"hostname": "a\u001b[2Jb", "kernel": "6\n7", "boot_id": "b", "booted_at": 0}, "namespaces": [{"host": true, "readable": true, "links": [
                {"index": 2, "name": "\u001b[2J", "mtu_bytes": 1500, "up": true, "carrier": false, "vxlan":
                    {"id": 1, "port": 1, "learning": false}},
                {"index": 3, "name": "b\u001b[2J", "kind": "bridge", "mtu_bytes": 1500, "up": true, "carrier": false}]}],
            "configs": [{"path": "/\u001b[2J", "network": "n", "plugins": ["\u001b[2J"], "problem": "\u001b[2J"}],
            "leases": [{"path": "/l/10.0.0.2", "network": "n", "address": "10.0.0.2", "container": "7d0c1e5b9a3f4d22",
                "content": "7d0c1e5b9a3f4d22", "since": 0}],
            "runtimes": [{"kind": "docker", "endpoint": "/run/\u001b[2Jx.sock",
                "status": {"state": "answered", "version": "\u001b[2J"},
                "objects": [{"id": "7d0c1e5b9a3f4d22", "kind": "sandbox", "partition": "m\u001b[2Jy",
                    "name": "\u001b[2J", "state": "\u001b[2J", "pid": 7}]}]}"#;
        let snapshot = Snapshot::from_json(text.as_bytes()).unwrap();
        let chains = crate::who::chains(&snapshot);
        let found = crate::leaks(&snapshot, None, std::time::Duration::ZERO);
        assert_eq!(chains.len(), 1);
        for text in [
            map(
                &crate::Map::of(&snapshot, None, &found, &crate::doctor::doctor(&snapshot, |_| true)),
                Detail::Wide,
                Paint::PLAIN,
            ),
            pods(&chains, true),
            who(&crate::who::who(&snapshot, "7d0c1e5b9a3f4d22"), Paint::PLAIN),
            holders(&crate::holders::holders(&snapshot, "7d0c1e5b9a3f4d22"), Paint::PLAIN),
        ] {
            assert!(text.contains("7d0c1e5b9a3f") || text.contains("x.sock"), "{text:?}");
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}
