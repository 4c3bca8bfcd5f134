//! Random numbers from a seed that a failed test prints.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

/// The seed of this run: `PODPLUMB_SEED`, or the time.
pub fn seed() -> u64 {
    let given =
        std::env::var("PODPLUMB_SEED").ok().map(|text| text.parse().expect("PODPLUMB_SEED is a number"));
    let seed = given.unwrap_or_else(|| sys::since_boot().as_micros() as u64);
    eprintln!("PODPLUMB_SEED={seed}");
    seed
}

impl Random {
    /// The `stream`th sequence of a seed.
    pub fn new(seed: u64, stream: usize) -> Self {
        let mut random = Self(seed ^ (stream as u64).wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A moment in a plugin's life, which under load takes between one millisecond and a hundred: each scale is as likely as the
    /// next.
    pub fn moment(&mut self) -> Duration {
        let scale = 25 << self.below(11);
        Duration::from_micros(scale + self.next() % scale)
    }
}
