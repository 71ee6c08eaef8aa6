//! Writes the message of a flat result with one copy: the header first, then the bytes as they come.

use bytes::Bytes;
use rwasm_types::{Code, Error};

use super::{Encoder, Limits};
use crate::Scalar;

/// The message of a result that is a `string` or a `list` of scalars, into which its bytes are copied once.
///
/// ```
/// # use rwasm_values::{Scalar, codec::{FlatWriter, Limits}};
/// let mut writer = FlatWriter::list(Scalar::U8, 3, &Limits::default())?;
/// writer.write(&[1, 2, 3])?;
/// assert_eq!(&writer.finish()?[..], [1, 0, 3, 1, 2, 3]);
/// # Ok::<(), rwasm_types::Error>(())
/// ```
#[derive(Debug)]
pub struct FlatWriter {
    out: Vec<u8>,
    start: usize,
    end: usize,
    /// `None` for a string.
    scalar: Option<Scalar>,
}

impl FlatWriter {
    /// A string of so many bytes.
    ///
    /// # Errors
    ///
    /// [`Code::VALUE_TOO_LARGE`] if the message would be beyond the limit.
    pub fn string(bytes: usize, limits: &Limits) -> Result<Self, Error> {
        Self::new(None, bytes, bytes, limits)
    }

    /// A list of so many elements.
    ///
    /// # Errors
    ///
    /// [`Code::VALUE_TOO_LARGE`] if the message would be beyond the limit.
    pub fn list(scalar: Scalar, count: usize, limits: &Limits) -> Result<Self, Error> {
        Self::new(Some(scalar), count, count.saturating_mul(scalar.width()), limits)
    }

    fn new(scalar: Option<Scalar>, count: usize, bytes: usize, limits: &Limits) -> Result<Self, Error> {
        let mut header = Encoder::new(limits);
        header.header(&[])?;
        header.leb128(count)?;
        let start = header.len();
        let end = start.saturating_add(bytes);
        limits.check_bytes(end, "the message")?;
        let mut out = Vec::with_capacity(end);
        out.append(&mut header.into_bytes());
        Ok(Self { out, start, end, scalar })
    }

    /// Appends the next bytes, little-endian.
    ///
    /// # Errors
    ///
    /// [`Code::MALFORMED_VALUE`] if they are more than were announced.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > self.end - self.out.len() {
            return Err(self.wrong_length(self.out.len() + bytes.len()));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// The message, if it is within limits that were not known at the beginning.
    ///
    /// # Errors
    ///
    /// [`Code::VALUE_TOO_LARGE`] if it is not, and as [`FlatWriter::finish`].
    pub fn finish_within(self, limits: &Limits) -> Result<Bytes, Error> {
        limits.check_bytes(self.out.len(), "the message")?;
        self.finish()
    }

    /// The message.
    ///
    /// # Errors
    ///
    /// [`Code::MALFORMED_VALUE`] if bytes are missing or too many, or are no values of the type.
    pub fn finish(self) -> Result<Bytes, Error> {
        if self.out.len() != self.end {
            return Err(self.wrong_length(self.out.len()));
        }
        let bytes = &self.out[self.start..];
        let bad = match self.scalar {
            None => std::str::from_utf8(bytes).err().map(|error| error.valid_up_to()),
            Some(scalar) => scalar.first_bad(bytes),
        };
        match bad {
            Some(offset) => {
                let why = format!("byte {offset} of the result does not belong to its type");
                Err(Error::new(Code::MALFORMED_VALUE, why).with("offset", offset))
            }
            None => Ok(self.out.into()),
        }
    }

    fn wrong_length(&self, length: usize) -> Error {
        let (announced, given) = (self.end - self.start, length - self.start);
        Error::new(Code::MALFORMED_VALUE, format!("{announced} bytes were announced, but {given} were given"))
    }
}

/// Appends bytes as [`FlatWriter::write`] does; too many are found out at the end.
impl Extend<u8> for FlatWriter {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.out.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extending_is_writing() {
        let limits = Limits::default();
        let of = |bytes: &[u8]| {
            let mut writer = FlatWriter::list(Scalar::U8, 3, &limits).unwrap();
            writer.extend(bytes.iter().copied());
            writer
        };
        assert_eq!(of(&[1, 2, 3]).finish().unwrap(), [1, 0, 3, 1, 2, 3][..]);
        for wrong in [&[1, 2][..], &[1, 2, 3, 4]] {
            assert_eq!(of(wrong).finish().unwrap_err().code(), Code::MALFORMED_VALUE);
        }
        let small = Limits { bytes: 5, ..limits };
        assert_eq!(of(&[1, 2, 3]).finish_within(&small).unwrap_err().code(), Code::VALUE_TOO_LARGE);
    }
}
