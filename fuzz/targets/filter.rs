//! Filters of captures, as people write them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| probe::fuzz::filter(text));
