//! Random numbers from a seed that a failed test prints.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

/// `PODPLUMB_SEED`, or the time.
pub(crate) fn seeded() -> Random {
    let given =
        std::env::var("PODPLUMB_SEED").ok().map(|text| text.parse().expect("PODPLUMB_SEED is a number"));
    let seed = given.unwrap_or_else(|| sys::since_boot().as_micros() as u64);
    eprintln!("PODPLUMB_SEED={seed}");
    Random(seed)
}

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}
