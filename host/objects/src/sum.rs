//! Checksums: that of an object is the BLAKE3 digest of its bytes, that of a chunk is its part of the same tree.
//!
//! So chunks can be checked one by one, in any order, as they come, and the digest of the whole follows from theirs without another look at
//! the bytes.

use std::{fmt, sync::OnceLock};

use blake3::{
    Hasher,
    hazmat::{self, HasherExt, Mode},
};
use serde::{Deserialize, Serialize};

/// The size of a chunk, but for the last of an object. A power of two, for chunks are whole branches of BLAKE3's tree.
pub const CHUNK_BYTES: u64 = 1 << 20;
const CHUNK: usize = CHUNK_BYTES as usize;

/// The checksum of an object or of one of its chunks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Checksum(pub [u8; 32]);

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many chunks an object of that size has; an empty one has one, which is empty.
pub const fn chunks(size: u64) -> u64 {
    if size == 0 { 1 } else { size.div_ceil(CHUNK_BYTES) }
}

/// The bytes of a chunk of an object of that size: where it begins, and where it ends. `None` if it has not so many.
pub const fn chunk_range(size: u64, index: u64) -> Option<(u64, u64)> {
    if index >= chunks(size) {
        return None;
    }
    let start = index * CHUNK_BYTES;
    let end = start.saturating_add(CHUNK_BYTES);
    Some((start, if end < size { end } else { size }))
}

/// The checksum of one chunk of an object of that size.
pub(crate) fn of_chunk(size: u64, index: u64, bytes: &[u8]) -> Checksum {
    if size <= CHUNK_BYTES {
        return Checksum(*blake3::hash(bytes).as_bytes());
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(index * CHUNK_BYTES);
    hasher.update(bytes);
    Checksum(hasher.finalize_non_root())
}

/// The checksum of an object of that size, from those of all its chunks.
pub(crate) fn of_chunks(size: u64, sums: &[Checksum]) -> Option<Checksum> {
    match sums {
        [] => None,
        [one] => Some(*one),
        all => {
            let (left, right) = halves(size, all)?;
            Some(Checksum(*hazmat::merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()))
        }
    }
}

/// The values of both branches of a tree over that many bytes.
fn halves(size: u64, sums: &[Checksum]) -> Option<([u8; 32], [u8; 32])> {
    let left = hazmat::left_subtree_len(size);
    let (first, rest) = sums.split_at_checked(usize::try_from(left / CHUNK_BYTES).ok()?)?;
    Some((branch(left, first)?, branch(size - left, rest)?))
}

fn branch(size: u64, sums: &[Checksum]) -> Option<[u8; 32]> {
    match sums {
        [one] => Some(one.0),
        _ => halves(size, sums).map(|(left, right)| hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash)),
    }
}

/// The checksums of an object, each computed when it is first asked for and kept from then on.
#[derive(Debug)]
pub(crate) struct Sums {
    size: u64,
    whole: OnceLock<Checksum>,
    chunks: OnceLock<Box<[OnceLock<Checksum>]>>,
}

impl Sums {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, whole: OnceLock::new(), chunks: OnceLock::new() }
    }

    /// Those that somebody has checked already.
    pub(crate) fn known(size: u64, whole: Checksum, chunks: Vec<Checksum>) -> Self {
        let chunks: Box<[_]> = chunks.into_iter().map(OnceLock::from).collect();
        Self { size, whole: OnceLock::from(whole), chunks: OnceLock::from(chunks) }
    }

    /// The checksum of the whole, if it was asked for before.
    pub(crate) fn known_whole(&self) -> Option<Checksum> {
        self.whole.get().copied()
    }

    /// The checksum of the object with these bytes.
    pub(crate) fn whole(&self, bytes: &[u8]) -> Checksum {
        *self.whole.get_or_init(|| {
            let sums: Vec<Checksum> = bytes.chunks(CHUNK).zip(0..).map(|(chunk, index)| self.of(index, chunk)).collect();
            of_chunks(self.size, &sums).unwrap_or_else(|| Checksum(*blake3::hash(bytes).as_bytes()))
        })
    }

    /// The checksum of one chunk of the object with these bytes; `None` if there is no such chunk.
    pub(crate) fn chunk(&self, index: u64, bytes: &[u8]) -> Option<Checksum> {
        let (start, end) = chunk_range(self.size, index)?;
        Some(self.of(index, bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?))
    }

    fn of(&self, index: u64, chunk: &[u8]) -> Checksum {
        let sums = self.chunks.get_or_init(|| (0..chunks(self.size)).map(|_| OnceLock::new()).collect());
        let compute = || of_chunk(self.size, index, chunk);
        usize::try_from(index).ok().and_then(|index| sums.get(index)).map_or_else(compute, |sum| *sum.get_or_init(compute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_chunks_is_the_digest_of_the_whole() {
        let bytes: Vec<u8> = (0..5 * CHUNK + 4321).map(|at| (at * 31 + at / 1_000) as u8).collect();
        for size in [0, 1, 1_024, 1_025, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 7, 4 * CHUNK, 5 * CHUNK, 5 * CHUNK + 4321] {
            let (bytes, length) = (&bytes[..size], size as u64);
            let expected = Checksum(*blake3::hash(bytes).as_bytes());
            let sums: Vec<_> = (0..chunks(length))
                .map(|index| {
                    let (start, end) = chunk_range(length, index).unwrap();
                    of_chunk(length, index, &bytes[start as usize..end as usize])
                })
                .collect();
            assert_eq!(of_chunks(length, &sums), Some(expected), "{size}");
            let lazy = Sums::new(length);
            assert_eq!((lazy.known_whole(), lazy.whole(bytes), lazy.known_whole()), (None, expected, Some(expected)), "{size}");
            let got: Vec<_> = (0..chunks(length)).map(|index| lazy.chunk(index, bytes).unwrap()).collect();
            assert_eq!(got, sums, "{size}");
            assert_eq!(chunk_range(length, chunks(length)), None);
        }
    }

    #[test]
    fn a_chunk_is_checked_at_its_own_place() {
        let size = 3 * CHUNK_BYTES;
        let chunk = vec![7; CHUNK];
        assert_ne!(of_chunk(size, 0, &chunk), of_chunk(size, 1, &chunk));
        assert_eq!(of_chunks(size, &[]), None);
    }
}
