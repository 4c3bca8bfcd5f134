//! Attachment records: files in a directory that other plugins may share.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use model::{AttachmentKey, AttachmentRecord};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    podplumb_fuzz::mutate(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    if let Ok(name) = std::str::from_utf8(data)
        && let Some((key, plugin)) = AttachmentRecord::from_file_name(name)
    {
        assert_eq!(AttachmentRecord::name_of(&key, plugin), name);
        assert!(!name.contains('/'));
    }
    match AttachmentRecord::parse(data) {
        Err(why) => assert!(!why.is_empty()),
        Ok(record) => check(&record),
    }
});

fn check(record: &AttachmentRecord) {
    assert_eq!(record.version, AttachmentRecord::VERSION);
    let plugin = record.chained.then_some(record.plugin.as_str());
    let name = record.file_name();
    assert_eq!(AttachmentRecord::from_file_name(&name), Some((record.key.clone(), plugin)), "{name:?}");
    assert_eq!(AttachmentKey::from_alias(&record.key.alias()).as_ref(), Some(&record.key));
    // As a plugin writes it: a line a state, of which the last may be cut.
    let line = serde_json::to_vec(record).expect("a record has string keys only");
    assert_eq!(AttachmentRecord::parse(&line).as_ref(), Ok(record));
    let cut = [&line[..], b"\n", &line[..line.len() / 2]].concat();
    assert_eq!(AttachmentRecord::parse(&cut).as_ref(), Ok(record));
    for rule in &record.rules {
        assert!(!rule.to_string().is_empty());
    }
}
