//! Writes the parts of the codec one after the other.

use rwasm_types::{Code, Error};

use super::Limits;
use crate::{Element, Ref, Scalar, Type, Value, fault::Root};

/// Appends an unsigned LEB128 number in its shortest form.
pub(crate) fn put_leb128(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes values in the codec, part by part. [`Encoder::value`] writes a whole [`Value`]; the other methods are for code that has
/// values of its own kind, such as an engine's, and follows a [`Type`] itself.
#[derive(Debug)]
pub struct Encoder {
    out: Vec<u8>,
    len: usize,
    bytes_max: usize,
    counting: bool,
}

impl Encoder {
    /// An empty buffer that may grow to the limit.
    pub fn new(limits: &Limits) -> Self {
        Self::with_capacity(0, limits)
    }

    /// As [`Encoder::new`], with room for so many bytes.
    pub fn with_capacity(bytes: usize, limits: &Limits) -> Self {
        Self { out: Vec::with_capacity(bytes.min(limits.bytes)), len: 0, bytes_max: limits.bytes, counting: false }
    }

    /// An encoder that counts bytes and writes none.
    pub(crate) fn counting(limits: &Limits) -> Self {
        Self { counting: true, ..Self::new(limits) }
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Appends bytes as they are.
    ///
    /// # Errors
    ///
    /// [`Code::VALUE_TOO_LARGE`] beyond the limit; so for all methods.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.count(bytes.len())?;
        if !self.counting {
            self.out.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes > self.bytes_max.saturating_sub(self.len) {
            return Err(Error::new(Code::VALUE_TOO_LARGE, format!("the encoded value has more than {} bytes", self.bytes_max)));
        }
        self.len += bytes;
        Ok(())
    }

    /// Writes a count, the number of a case, or the index of a handle.
    ///
    /// # Errors
    ///
    /// [`Code::VALUE_TOO_LARGE`] beyond the limit, or beyond a `u32`.
    pub fn leb128(&mut self, number: usize) -> Result<(), Error> {
        let number = u32::try_from(number)
            .map_err(|_| Error::new(Code::VALUE_TOO_LARGE, format!("{number} elements are more than the codec can count")))?;
        self.count(leb128_len(number))?;
        if !self.counting {
            put_leb128(&mut self.out, number);
        }
        Ok(())
    }

    /// Writes a scalar. A NaN is written as the canonical one.
    ///
    /// # Errors
    ///
    /// As [`Encoder::raw`].
    pub fn scalar<T: Element>(&mut self, value: T) -> Result<(), Error> {
        self.count(T::SCALAR.width())?;
        if !self.counting {
            value.canonical().write(&mut self.out);
        }
        Ok(())
    }

    /// Writes the tag of an option or result: 1 for `some` and `err`, 0 for `none` and `ok`.
    ///
    /// # Errors
    ///
    /// As [`Encoder::raw`].
    pub fn tag(&mut self, tag: bool) -> Result<(), Error> {
        self.scalar(tag)
    }

    /// Writes a string with its length.
    ///
    /// # Errors
    ///
    /// As [`Encoder::leb128`].
    pub fn string(&mut self, text: &str) -> Result<(), Error> {
        self.leb128(text.len())?;
        self.raw(text.as_bytes())
    }

    /// Writes a flat list with its count. The bytes are a multiple of the width, and for `bool` and `char` they are values.
    ///
    /// # Errors
    ///
    /// As [`Encoder::leb128`].
    pub fn flat(&mut self, scalar: Scalar, bytes: &[u8]) -> Result<(), Error> {
        self.leb128(bytes.len() / scalar.width())?;
        self.raw(bytes)
    }

    /// Writes flags of a type with so many names.
    ///
    /// # Errors
    ///
    /// As [`Encoder::raw`].
    pub fn flags(&mut self, names: usize, bits: u32) -> Result<(), Error> {
        let bytes = bits.to_le_bytes();
        self.raw(&bytes[..names.div_ceil(8).min(bytes.len())])
    }

    /// Writes a whole value, whose handles are checked against the refs of the message.
    ///
    /// # Errors
    ///
    /// As [`Encoder::leb128`], or [`Code::WRONG_TYPE`] if the value is of another type. What was written until then stays.
    pub fn value(&mut self, ty: &Type, value: &Value, refs: &[Ref]) -> Result<(), Error> {
        self.fit(ty, value, refs).map_err(|fault| fault.into_error(Root::Value))
    }
}

/// The bytes that [`put_leb128`] writes.
pub(crate) fn leb128_len(number: u32) -> usize {
    (32 - number.leading_zeros()).div_ceil(7).max(1) as usize
}
