//! The hashes by which a journal finds a field's value.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// Since systemd 246: keyed with the file's id, so that nobody can make values collide.
pub(super) fn keyed(data: &[u8], file_id: &[u8; 16]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(file_id);
    hasher.write(data);
    hasher.finish()
}

/// Before: Bob Jenkins' lookup3, `hashlittle2` from zeros; the first half is the upper one.
pub(super) fn jenkins(data: &[u8]) -> u64 {
    let start = 0xdead_beef_u32.wrapping_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
    let (mut a, mut b, mut c) = (start, start, start);
    let word = |part: &[u8], at: usize| {
        let byte = |i: usize| u32::from(part.get(at + i).copied().unwrap_or(0)) << (8 * i);
        byte(0) | byte(1) | byte(2) | byte(3)
    };
    let mut rest = data;
    while rest.len() > 12 {
        a = a.wrapping_add(word(rest, 0));
        b = b.wrapping_add(word(rest, 4));
        c = c.wrapping_add(word(rest, 8));
        (a, b, c) = mix(a, b, c);
        rest = &rest[12..];
    }
    if !rest.is_empty() {
        a = a.wrapping_add(word(rest, 0));
        b = b.wrapping_add(word(rest, 4));
        c = c.wrapping_add(word(rest, 8));
        (b, c) = last(a, b, c);
    }
    u64::from(c) << 32 | u64::from(b)
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    (a, c) = (a.wrapping_sub(c) ^ c.rotate_left(4), c.wrapping_add(b));
    (b, a) = (b.wrapping_sub(a) ^ a.rotate_left(6), a.wrapping_add(c));
    (c, b) = (c.wrapping_sub(b) ^ b.rotate_left(8), b.wrapping_add(a));
    (a, c) = (a.wrapping_sub(c) ^ c.rotate_left(16), c.wrapping_add(b));
    (b, a) = (b.wrapping_sub(a) ^ a.rotate_left(19), a.wrapping_add(c));
    (c, b) = (c.wrapping_sub(b) ^ b.rotate_left(4), b.wrapping_add(a));
    (a, b, c)
}

fn last(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32) {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    (b, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup3_is_that_of_its_author() {
        // driver5() of https://burtleburtle.net/bob/c/lookup3.c.
        assert_eq!(jenkins(b""), 0xdead_beef_dead_beef);
        assert_eq!(jenkins(b"Four score and seven years ago"), 0x1777_0551_ce72_26e6);
    }
}
