//! Frames and messages of a DHCP server, up to the result that a runtime gets.
#![no_main]

use cni::{Outcome, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(outcome) = plugins::dhcp::fuzz::frame(data) {
        let written = outcome.to_json(Version::NEWEST);
        assert_eq!(Outcome::from_json(&written, Version::NEWEST).as_ref(), Ok(&outcome));
    }
});
