//! Writing and reading the bytes of values.

use std::fmt;

use crate::{bindings::objects as source, object::Error};

/// Where the handles of a value come from: all that it names, each time anew.
pub type Refs<'a> = dyn Fn() -> Result<Vec<source::Object>, Error> + 'a;

/// Bytes of values in the making, and the objects that they name.
#[derive(Default)]
pub struct Encoder<'a> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) refs: Vec<&'a source::Object>,
}

impl<'a> Encoder<'a> {
    /// Adds bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds the number of what follows, or of a case.
    ///
    /// The format has no numbers beyond 32 bits, and neither has the memory of guests; what a test makes beyond that, no reader takes.
    pub fn number(&mut self, number: usize) {
        let mut left = u32::try_from(number).unwrap_or(u32::MAX);
        while left >= 0x80 {
            self.bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        self.bytes.push(left as u8);
    }

    /// All that was added.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn handle(&mut self, object: &'a source::Object) {
        self.number(self.refs.len());
        self.refs.push(object);
    }
}

impl fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("bytes", &self.bytes.len()).field("refs", &self.refs.len()).finish()
    }
}

/// Bytes of values to be read, from start to end.
pub struct Decoder<'a> {
    left: &'a [u8],
    refs: &'a Refs<'a>,
    /// The handles of the ref table that are not taken.
    handles: Vec<Option<source::Object>>,
}

impl<'a> Decoder<'a> {
    /// Reads these bytes, which name objects among `refs`.
    pub fn new(bytes: &'a [u8], refs: &'a Refs<'a>) -> Self {
        Self { left: bytes, refs, handles: Vec::new() }
    }

    /// Takes so many bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if there are not so many.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (bytes, left) = self.left.split_at_checked(count).ok_or(Error::Malformed)?;
        self.left = left;
        Ok(bytes)
    }

    /// Takes a byte that is one of the first so many.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it is none of them, or not there.
    pub fn tag(&mut self, tags: u8) -> Result<u8, Error> {
        let [tag] = self.array()?;
        if tag < tags { Ok(tag) } else { Err(Error::Malformed) }
    }

    /// Takes a number of 32 bits in its shortest form.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if there is none.
    pub fn number(&mut self) -> Result<u32, Error> {
        let mut number = 0;
        for shift in (0..=28).step_by(7) {
            let [byte] = self.array()?;
            let part = u32::from(byte & 0x7f);
            if shift == 28 && part > 0xf || byte == 0 && shift > 0 {
                return Err(Error::Malformed);
            }
            number |= part << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Error::Malformed)
    }

    /// Takes the number of a case, of so many.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if there is no such case.
    pub fn case(&mut self, cases: u32) -> Result<u32, Error> {
        let case = self.number()?;
        if case < cases { Ok(case) } else { Err(Error::Malformed) }
    }

    /// Takes the number of values that follow, each of which has so many bytes at least.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if there are not so many bytes.
    pub(crate) fn count(&mut self, width: usize) -> Result<usize, Error> {
        let count = self.number()? as usize;
        if count.checked_mul(width.max(1)).is_some_and(|bytes| bytes <= self.left.len()) { Ok(count) } else { Err(Error::Malformed) }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, left) = self.left.split_first_chunk().ok_or(Error::Malformed)?;
        self.left = left;
        Ok(*bytes)
    }

    /// Takes a handle. Few values name an object twice, so the table is asked for again only then.
    pub(crate) fn handle(&mut self) -> Result<source::Object, Error> {
        let index = self.number()? as usize;
        if self.handles.get(index).is_none_or(Option::is_none) {
            self.handles = (self.refs)()?.into_iter().map(Some).collect();
        }
        self.handles.get_mut(index).and_then(Option::take).ok_or(Error::Malformed)
    }

    /// Says that this was all.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if something is left.
    pub fn end(self) -> Result<(), Error> {
        if self.left.is_empty() { Ok(()) } else { Err(Error::Malformed) }
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> usize {
        self.left.len()
    }
}

impl fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("left", &self.left.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_their_shortest_form() {
        for (number, bytes) in
            [(0, &[0][..]), (127, &[0x7f]), (128, &[0x80, 1]), (300, &[0xac, 2]), (u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0xf])]
        {
            let mut encoder = Encoder::default();
            encoder.number(number as usize);
            assert_eq!(encoder.bytes, bytes);
            assert_eq!(Decoder::new(bytes, &|| Ok(Vec::new())).number(), Ok(number));
        }
        for bytes in [&[][..], &[0x80], &[0x80, 0], &[0xff, 0xff, 0xff, 0xff, 0x1f], &[0xff, 0xff, 0xff, 0xff, 0x8f, 0]] {
            assert_eq!(Decoder::new(bytes, &|| Ok(Vec::new())).number(), Err(Error::Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn a_count_is_held_against_the_bytes_that_are_left() {
        let count = |bytes: &[u8], width| Decoder::new(bytes, &|| Ok(Vec::new())).count(width);
        assert_eq!(count(&[2, 0, 0], 1), Ok(2));
        assert_eq!(count(&[3, 0, 0], 1), Err(Error::Malformed));
        assert_eq!(count(&[1, 0, 0], 4), Err(Error::Malformed));
    }
}
