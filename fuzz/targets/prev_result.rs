//! Results of every version: what plugins of others print, and what comes back as `prevResult`.
#![no_main]

use cni::{Config, Outcome, Version};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use serde_json::{Value, json};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    podplumb_fuzz::mutate(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    for version in Version::ALL {
        let raw = json!({ "cniVersion": version.as_str(), "name": "n", "type": "t", "prevResult": value });
        let config = Config::from_value(raw);
        match Outcome::from_json(&value, version) {
            Ok(outcome) => {
                let previous = config.expect("a result is a previous result").previous;
                assert!(previous == Some(outcome.clone()) || value.is_null());
                round_trips(&outcome);
            }
            Err(error) => {
                podplumb_fuzz::check(&error);
                assert!(config.is_err() || value.is_null());
            }
        }
    }
});

/// The newest version says everything; what an older one cannot say is lost once, not bit by bit.
fn round_trips(outcome: &Outcome) {
    for version in Version::ALL {
        let written = outcome.to_json(version);
        let read = Outcome::from_json(&written, Version::NEWEST).expect("what was written can be read");
        assert_eq!(read.to_json(version), written, "{version}");
        if version == Version::NEWEST {
            assert_eq!(&read, outcome);
        }
    }
}
