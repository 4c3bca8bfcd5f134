//! Podman's database of leases, of which the sums of the heads are made right: else nothing would get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;

const PAGE_BYTES: usize = 512;

fuzz_target!(|data: &[u8]| {
    let _ = observe::fuzz::podman_leases(data);
    let mut bytes = data.to_vec();
    for head in [0, PAGE_BYTES].map(|place| place + 16) {
        let Some(head) = bytes.get_mut(head..head + 64) else { continue };
        head[..4].copy_from_slice(&0xed0c_daed_u32.to_ne_bytes());
        head[4..8].copy_from_slice(&2_u32.to_ne_bytes());
        head[8..12].copy_from_slice(&(PAGE_BYTES as u32).to_ne_bytes());
        let sum = head[..56].iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        head[56..].copy_from_slice(&sum.to_ne_bytes());
    }
    if let Some(leases) = observe::fuzz::podman_leases(&bytes) {
        assert!(leases.is_sorted());
    }
});
