//! A machine for classic BPF programs, as linux/filter.h describes it, and as strict as the kernel's checks.

use sys::FilterStep;

/// How many bytes of the packet are kept.
pub(crate) fn run(program: &[FilterStep], packet: &[u8], outgoing: bool) -> u32 {
    let (mut a, mut x, mut memory) = (0u32, 0u32, [None; 16]);
    let load = |place: u32, width: u32| -> Option<u32> {
        let place = place as usize;
        let bytes = packet.get(place..place.checked_add(width as usize)?)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    let mut at = 0;
    loop {
        let FilterStep { code, jt, jf, k } = program[at];
        at += 1;
        let width = || [4, 2, 1][usize::from(code >> 3 & 3)];
        let jump = |is: bool| usize::from(if is { jt } else { jf });
        match code {
            0x28 if k == 0xffff_f004 => a = if outgoing { 4 } else { 0 },
            0x20 | 0x28 | 0x30 => match load(k, width()) {
                Some(value) => a = value,
                None => return 0,
            },
            0x40 | 0x48 | 0x50 => match load(x.wrapping_add(k), width()) {
                Some(value) => a = value,
                None => return 0,
            },
            0xb1 => match load(k, 1) {
                Some(value) => x = (value & 0xf) * 4,
                None => return 0,
            },
            0x80 => a = packet.len() as u32,
            0x00 => a = k,
            0x61 => x = memory[k as usize].expect("a word of memory that was written"),
            0x02 => memory[k as usize] = Some(a),
            0x54 => a &= k,
            0x64 => a <<= k,
            0x04 => a = a.wrapping_add(k),
            0x0c => a = a.wrapping_add(x),
            0x07 => x = a,
            0x87 => a = x,
            0x05 => at += k as usize,
            0x15 => at += jump(a == k),
            0x25 => at += jump(a > k),
            0x35 => at += jump(a >= k),
            0x45 => at += jump(a & k != 0),
            0x06 => return k,
            code => panic!("{code:#x} is not known"),
        }
    }
}
