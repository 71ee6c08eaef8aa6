//! The binary codec: how values travel between guests, nodes and drivers, and how objects hold them. It is specified, for SDKs in other
//! languages, in `docs/values.md`, and `tests/vectors.json` has examples of everything.
//!
//! ```text
//! stored form     the value of one object; a string or a flat list is its bare bytes
//! message form    version, ref table, then the arguments of a call or its result
//!
//! Value  ── encode_* ──▶  bytes  ── decode_* ──▶  Value
//!                           │
//!                           └── ArgsView, ResultView ──▶  Payload, borrowed: the stored form of each part, checked and not copied
//! ```
//!
//! Everything is driven by a type, and reading is strict: what is read is encoded back to the same bytes, but for the bits of a NaN.

mod args;
mod decoder;
mod encoder;
mod fit;
mod flat_writer;
mod payload;
mod result;
mod stored;
mod walk;

use rwasm_types::{Code, Error};

pub use self::{
    args::{ArgView, ArgsView, decode_args, encode_args, inline_args, map_refs, refs_of},
    decoder::{Decoder, RefsView},
    encoder::Encoder,
    flat_writer::FlatWriter,
    payload::Payload,
    result::{ResultView, decode_result, encode_result},
    stored::{check_stored, decode_stored, encode_stored, is_application_error},
};
pub(crate) use self::{
    encoder::{leb128_len, put_leb128},
    fit::{measure, same_length, unused_flags},
};

/// The first byte of every message.
pub const VERSION: u8 = 1;

/// What a message or value may cost whoever reads it. All limits are checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message, of a stored value or of a JSON text. Default 128 MiB.
    pub bytes: usize,
    /// Parts of a value that is decoded, where every value that is not an element of a flat list counts one. A part takes 40 to 80
    /// bytes of memory, so this bounds what a small message can grow to. Default 4 million. Views do not decode, and have no such limit.
    pub parts: usize,
}

impl Limits {
    /// The most refs of a message.
    pub const REFS_MAX: u32 = 100_000;

    /// No limit, for values that are in memory already.
    pub(crate) const NONE: Self = Self { bytes: usize::MAX, parts: usize::MAX };

    /// Checks a size against the limit.
    pub(crate) fn check_bytes(&self, bytes: usize, what: &str) -> Result<(), Error> {
        if bytes <= self.bytes {
            return Ok(());
        }
        Err(Error::new(Code::VALUE_TOO_LARGE, format!("{what} has {bytes} bytes, but may have {}", self.bytes)))
    }

    /// Counts one part against what is left of the limit.
    pub(crate) fn take_part(left: &mut usize) -> Result<(), Error> {
        *left = left.checked_sub(1).ok_or_else(|| Error::new(Code::VALUE_TOO_LARGE, "the value has more parts than may be decoded"))?;
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 128 << 20, parts: 4_000_000 }
    }
}
