//! Files of systemd's journal, which somebody may have damaged.
#![no_main]

use libfuzzer_sys::fuzz_target;

const POD: &str = "7d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d22";
const OTHER: &str = "00ff1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d22";

fuzz_target!(|data: &[u8]| {
    for (id, heard) in observe::fuzz::journal(data, &[POD, OTHER]) {
        assert!(heard.line.chars().count() <= 600 && !heard.line.contains('\n'));
        assert!(heard.line.contains(&id) || heard.line.chars().count() == 600, "{heard:?}");
    }
});
