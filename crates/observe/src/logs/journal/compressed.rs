//! Long values are compressed: those of 512 bytes and more, unless configured otherwise.

use std::io::Read;

use ruzstd::decoding::StreamingDecoder;

/// What makes a longer one is not unpacked: no line about a container has that much.
const LONGEST_BYTES: usize = 256 << 10;

/// How an object's value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    Plain,
    /// systemd 246 and later.
    Zstd,
    /// Before that.
    Lz4,
    /// Where systemd was built without the others, and before 2014. That is not read.
    Xz,
}

impl Storage {
    /// From the flags of an object.
    pub(super) fn of(flags: u8) -> Self {
        match flags & 7 {
            0 => Self::Plain,
            2 => Self::Lz4,
            4 => Self::Zstd,
            _ => Self::Xz,
        }
    }

    /// The value; `None`: broken, too long, or in a format that is not read.
    pub(super) fn unpack(self, stored: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Plain => Some(stored),
            Self::Zstd => {
                let limit = LONGEST_BYTES as u64;
                let decoder = StreamingDecoder::new_with_max_window_size(stored.as_slice(), limit).ok()?;
                let mut value = Vec::new();
                decoder.take(limit).read_to_end(&mut value).ok()?;
                Some(value)
            }
            Self::Lz4 => {
                let (length, block) = stored.split_first_chunk()?;
                let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
                let mut value = vec![0; Some(length).filter(|length| *length <= LONGEST_BYTES)?];
                let written = lz4_flex::block::decompress_into(block, &mut value).ok()?;
                (written == length).then_some(value)
            }
            Self::Xz => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_older_systemds_compressed_is_read() {
        // Debian's writer of journals compresses with zstd only; so this is lz4 by the letter of its description of blocks: one
        // literal, 19 + 21 repetitions of what is one byte before, and the five literals that end every block.
        let block = [&[0x1f, b'a', 1, 0, 21][..], &[0x50], b"bcdef"].concat();
        let value = ["a".repeat(41), "bcdef".into()].concat().into_bytes();
        let stored = |length: u64, block: &[u8]| [&length.to_le_bytes()[..], block].concat();
        assert_eq!(Storage::of(2).unpack(stored(46, &block)), Some(value));
        for broken in [
            stored(45, &block),
            stored(47, &block),
            stored(u64::MAX, &block),
            stored(46, &block[..7]),
            vec![46],
        ] {
            assert_eq!(Storage::Lz4.unpack(broken.clone()), None, "{broken:?}");
        }
    }

    #[test]
    fn a_value_that_would_be_long_is_not_unpacked() {
        // A frame of zstd that says it has 2^40 bytes, all the same.
        let frame =
            [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1_u64 << 40).to_le_bytes(), &[0xfb, 0xff, 0xff, b'a']];
        assert_eq!(Storage::Zstd.unpack(frame.concat()), None);
        assert_eq!(Storage::of(1).unpack(b"anything".to_vec()), None, "xz is not read");
    }
}
