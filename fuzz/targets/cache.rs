//! Files of libcni's cache. In a file the configuration is base64; here it may also be written out.
#![no_main]

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cni::cache::{Cache, Entry};
use cni::{Args, Network};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use model::AttachmentKey;
use serde_json::Value;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    podplumb_fuzz::mutate(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    if let Ok(entry) = Entry::parse(data) {
        check(&entry);
    }
    if let Ok(mut file) = serde_json::from_slice::<Value>(data)
        && file.get("config").is_some_and(|config| !config.is_string())
    {
        file["config"] = STANDARD.encode(file["config"].to_string()).into();
        if let Ok(entry) = Entry::parse(file.to_string().as_bytes()) {
            check(&entry);
        }
    }
});

fn check(entry: &Entry) {
    let directory = Path::new("/var/lib/cni/results");
    assert_eq!(Cache::at(directory).path(&entry.key).parent(), Some(directory), "it is elsewhere");
    assert_eq!(AttachmentKey::from_file_name(&entry.key.file_name()).as_ref(), Some(&entry.key));
    let bytes = entry.to_bytes();
    let again = Entry::parse(&bytes).expect("what was written can be read");
    assert_eq!((&again.key, &again.netns, &again.args), (&entry.key, &entry.netns, &entry.args));
    assert_eq!((&again.config, again.to_bytes()), (&entry.config, bytes));
    assert!(!entry.plugins().is_empty() || entry.config["plugins"] == Value::Array(Vec::new()));
    for error in [Network::from_cached(&entry.config).err(), Args::from_pairs(entry.args.clone()).err()] {
        error.iter().for_each(podplumb_fuzz::check);
    }
    let _ = entry.outcome();
}
