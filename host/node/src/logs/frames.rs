//! The frames of a job's output file, and how much of each attempt's output is in one.

use std::{collections::HashMap, fs::File, io, path::Path};

use rwasm_runtime::now_ms;
use rwasm_types::{Attempt, Stream};

use super::{HEADER_BYTES, READ_BYTES};

/// Whose output: task, attempt, and the stream as it is in frames.
type Key = (u64, Attempt, u8);

/// How many bytes of each stream of some attempts are in a file.
#[derive(Debug, Default)]
pub(super) struct Written(HashMap<Key, u64>);

impl Written {
    /// What of a piece of output is not in the file: an attempt that went on elsewhere says again what this node had not acknowledged.
    pub(super) fn rest<'a>(&self, sequence: u64, attempt: Attempt, stream: Stream, offset: u64, bytes: &'a [u8]) -> &'a [u8] {
        let written = self.0.get(&(sequence, attempt, code(stream))).copied().unwrap_or(0);
        let known = usize::try_from(written.saturating_sub(offset)).unwrap_or(usize::MAX);
        bytes.get(known..).unwrap_or_default()
    }
}

fn code(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}

/// How many bytes of a file are whole frames, and what of some attempts is in them.
pub(super) fn whole(path: &Path, wanted: impl Fn(u64, Attempt) -> bool) -> io::Result<(u64, Written)> {
    let mut file = io::BufReader::with_capacity(READ_BYTES, File::open(path)?);
    let length = file.get_ref().metadata()?.len();
    let (mut whole, mut header, mut written) = (0, [0; HEADER_BYTES], Written::default());
    while whole + (HEADER_BYTES as u64) <= length {
        io::Read::read_exact(&mut file, &mut header)?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let bytes = word(0);
        if whole + HEADER_BYTES as u64 + u64::from(bytes) > length {
            break;
        }
        let (attempt, sequence) = (Attempt(word(5)), u64::from(word(9)) | u64::from(word(13)) << 32);
        if wanted(sequence, attempt) {
            *written.0.entry((sequence, attempt, header[4])).or_default() += u64::from(bytes);
        }
        file.seek_relative(bytes.into())?;
        whole += HEADER_BYTES as u64 + u64::from(bytes);
    }
    Ok((whole, written))
}

/// Adds a frame.
pub(super) fn push(out: &mut Vec<u8>, sequence: u64, attempt: Attempt, stream: Stream, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.push(code(stream));
    out.extend_from_slice(&attempt.0.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&now_ms().to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_in_the_file_is_passed_over_when_it_is_said_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output.log");
        let mut frames = Vec::new();
        push(&mut frames, 1 << 33, Attempt(2), Stream::Stdout, b"hel");
        push(&mut frames, 1 << 33, Attempt(1), Stream::Stdout, b"an earlier attempt");
        push(&mut frames, 1 << 33, Attempt(2), Stream::Stdout, b"lo");
        push(&mut frames, 1 << 33, Attempt(2), Stream::Stderr, b"e");
        let length = frames.len() as u64;
        push(&mut frames, 1 << 33, Attempt(2), Stream::Stdout, b"was being written");
        frames.pop();
        fs::write(&path, frames).unwrap();
        let (whole, written) = whole(&path, |_, attempt| attempt == Attempt(2)).unwrap();
        assert_eq!(whole, length);
        let rest = |stream, offset, bytes| written.rest(1 << 33, Attempt(2), stream, offset, bytes);
        assert_eq!(rest(Stream::Stdout, 0, b"hello, world"), b", world");
        assert_eq!(rest(Stream::Stdout, 3, b"lo"), b"");
        assert_eq!(rest(Stream::Stdout, 0, b"he"), b"");
        assert_eq!(rest(Stream::Stdout, 5, b", world"), b", world");
        assert_eq!(rest(Stream::Stderr, 0, b"error"), b"rror");
        assert_eq!(written.rest(7, Attempt(2), Stream::Stdout, 0, b"another task"), b"another task");
    }
}
