//! Reads the parts of the codec one after the other. Nothing is believed: every count is held against the bytes that are left before
//! anything is allocated for it.

use bytes::Bytes;
use rwasm_types::{Code, Error};

use super::Limits;
use crate::{Element, Flat, Ref, Resource, Scalar, Type, Value};

/// A checked ref table inside a message, or beside an object. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct RefsView<'a>(Table<'a>);

#[derive(Clone, Copy, Debug)]
enum Table<'a> {
    /// Entries as they travel, all of which were checked.
    Wire(&'a [u8]),
    List(&'a [Ref]),
}

impl<'a> RefsView<'a> {
    /// How many refs there are.
    pub fn len(&self) -> usize {
        match self.0 {
            Table::Wire(bytes) => bytes.len() / Ref::BYTES,
            Table::List(refs) => refs.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ref at an index.
    pub fn get(&self, index: u32) -> Option<Ref> {
        let index = index as usize;
        match self.0 {
            Table::Wire(bytes) => Ref::from_bytes(*bytes.get(index.checked_mul(Ref::BYTES)?..)?.first_chunk()?),
            Table::List(refs) => refs.get(index).copied(),
        }
    }

    /// All refs, in order.
    pub fn iter(self) -> impl Iterator<Item = Ref> + 'a {
        (0..).map_while(move |index| self.get(index))
    }

    /// All refs, in order.
    pub fn to_vec(self) -> Vec<Ref> {
        self.iter().collect()
    }
}

impl Default for RefsView<'_> {
    /// An empty table.
    fn default() -> Self {
        Self(Table::List(&[]))
    }
}

impl<'a> From<&'a [Ref]> for RefsView<'a> {
    fn from(refs: &'a [Ref]) -> Self {
        Self(Table::List(refs))
    }
}

/// Reads values in the codec, part by part. [`Decoder::value`] reads a whole [`Value`]; the other methods are for code that makes values
/// of its own kind, such as an engine's, and follows a [`Type`] itself.
///
/// Every error is [`Code::MALFORMED_VALUE`] with the field `offset`, from the start of the input, if nothing else is said.
#[derive(Debug)]
pub struct Decoder<'a> {
    input: &'a [u8],
    offset: usize,
    refs: RefsView<'a>,
    parts_left: usize,
    /// The input again, where it is shared, so that buffers in values need no copy.
    shared: Option<&'a Bytes>,
}

impl<'a> Decoder<'a> {
    /// Reads an input whose handles point into `refs`.
    pub fn new(input: &'a [u8], refs: RefsView<'a>, limits: &Limits) -> Self {
        Self { input, offset: 0, refs, parts_left: limits.parts, shared: None }
    }

    /// Reads an input; the buffers of decoded values share its memory.
    pub fn shared(input: &'a Bytes, refs: RefsView<'a>, limits: &Limits) -> Self {
        Self { shared: Some(input), ..Self::new(input, refs, limits) }
    }

    /// Reads an input that holds no values.
    pub(crate) fn plain(input: &'a [u8]) -> Self {
        Self::new(input, RefsView::default(), &Limits::default())
    }

    /// How many bytes were read.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.input.len() - self.offset
    }

    /// The bytes that are left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.input[self.offset..]
    }

    /// The error of what stands at an offset.
    pub(crate) fn malformed(&self, offset: usize, why: impl std::fmt::Display) -> Error {
        Error::new(Code::MALFORMED_VALUE, format!("byte {offset}: {why}")).with("offset", offset)
    }

    /// Reads bytes as they are.
    ///
    /// # Errors
    ///
    /// If so many are not left.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], Error> {
        match self.rest().split_at_checked(count) {
            Some((bytes, _)) => {
                self.offset += count;
                Ok(bytes)
            }
            None => {
                let missing = plural(count - self.remaining(), "byte");
                Err(self.malformed(self.input.len(), format_args!("the input ends {missing} too soon")))
            }
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// If bytes are left.
    pub fn finish(&self) -> Result<(), Error> {
        match self.remaining() {
            0 => Ok(()),
            count => {
                Err(self.malformed(self.offset, format_args!("the value ends here, but the input has {} more", plural(count, "byte"))))
            }
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.scalar()
    }

    /// Reads a scalar. A NaN comes as the canonical one.
    ///
    /// # Errors
    ///
    /// If the input ends, or the bytes are no value of the type.
    pub fn scalar<T: Element>(&mut self) -> Result<T, Error> {
        let start = self.offset;
        let bytes = self.raw(T::SCALAR.width())?;
        T::read(bytes).map(T::canonical).ok_or_else(|| self.malformed(start, format_args!("this is no {}", Type::from(T::SCALAR))))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Error> {
        self.scalar()
    }

    /// Reads the tag of an option or result: true for `some` and `err`, false for `none` and `ok`.
    ///
    /// # Errors
    ///
    /// If the input ends, or the byte is neither 0 nor 1.
    pub fn tag(&mut self) -> Result<bool, Error> {
        let start = self.offset;
        self.bool().map_err(|_| self.malformed(start, "a tag is 0 or 1"))
    }

    /// Reads an unsigned LEB128 number: a count, the number of a case, the index of a handle.
    ///
    /// # Errors
    ///
    /// If the input ends, the number is beyond a `u32`, or it is not in its shortest form.
    pub fn leb128(&mut self) -> Result<u32, Error> {
        let start = self.offset;
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = u32::from(self.u8()?);
            let bits = byte & 0x7f;
            if shift == 28 && bits > 0x0f {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                let shortest = bits != 0 || shift == 0;
                return if shortest { Ok(number) } else { Err(self.malformed(start, "a number is not in its shortest form")) };
            }
        }
        Err(self.malformed(start, "a number is larger than 4294967295"))
    }

    /// Reads the count of a list whose elements take at least so many bytes each.
    ///
    /// # Errors
    ///
    /// As [`Decoder::leb128`], or if so many elements cannot follow.
    pub fn count(&mut self, bytes_min: usize) -> Result<usize, Error> {
        let start = self.offset;
        let count = self.leb128()? as usize;
        if count.saturating_mul(bytes_min) > self.remaining() {
            let (announced, left) = (plural(count, "element"), plural(self.remaining(), "byte"));
            return Err(self.malformed(start, format_args!("{announced} cannot follow in {left}")));
        }
        Ok(count)
    }

    /// Reads a string with its length.
    ///
    /// # Errors
    ///
    /// If the input ends, or the bytes are not UTF-8.
    pub fn string(&mut self) -> Result<&'a str, Error> {
        let length = self.count(1)?;
        self.text(length)
    }

    /// Reads so many bytes of UTF-8.
    pub(crate) fn text(&mut self, length: usize) -> Result<&'a str, Error> {
        let start = self.offset;
        let bytes = self.raw(length)?;
        std::str::from_utf8(bytes).map_err(|error| self.malformed(start + error.valid_up_to(), "this is not UTF-8"))
    }

    /// Reads a flat list with its count, as bytes.
    ///
    /// # Errors
    ///
    /// If the input ends, or an element is no value of the type.
    pub fn flat(&mut self, scalar: Scalar) -> Result<&'a [u8], Error> {
        let count = self.count(scalar.width())?;
        self.elements(scalar, count)
    }

    /// Reads so many elements of a flat list.
    ///
    /// # Errors
    ///
    /// As [`Decoder::flat`].
    pub fn elements(&mut self, scalar: Scalar, count: usize) -> Result<&'a [u8], Error> {
        let start = self.offset;
        let bytes = self.raw(count.saturating_mul(scalar.width()))?;
        match scalar.first_bad(bytes) {
            Some(offset) => Err(self.malformed(start + offset, format_args!("this is no {}", Type::from(scalar)))),
            None => Ok(bytes),
        }
    }

    /// Reads the number of a case, of so many.
    ///
    /// # Errors
    ///
    /// As [`Decoder::leb128`], or if there is no such case.
    pub fn case(&mut self, cases: usize) -> Result<u32, Error> {
        let start = self.offset;
        let number = self.leb128()?;
        if (number as usize) < cases { Ok(number) } else { Err(self.malformed(start, format_args!("there is no case {number}"))) }
    }

    /// Reads flags of a type with so many names.
    ///
    /// # Errors
    ///
    /// If the input ends, or a bit is set that stands for no flag.
    pub fn flags(&mut self, names: usize) -> Result<u32, Error> {
        let start = self.offset;
        let mut bits = [0; 4];
        let bytes = self.raw(names.div_ceil(8).min(bits.len()))?;
        bits[..bytes.len()].copy_from_slice(bytes);
        let bits = u32::from_le_bytes(bits);
        if super::unused_flags(names, bits) == 0 { Ok(bits) } else { Err(self.malformed(start, "a bit is set that stands for no flag")) }
    }

    /// Reads a handle, as an index into the refs.
    ///
    /// # Errors
    ///
    /// As [`Decoder::leb128`], or if the index points at nothing, or at a ref of the wrong kind.
    pub fn handle(&mut self, resource: &Resource) -> Result<u32, Error> {
        let start = self.offset;
        let index = self.leb128()?;
        match self.refs.get(index) {
            Some(entry) if resource.takes(entry) => Ok(index),
            Some(entry) => Err(self.malformed(start, format_args!("the handle of {resource} points at {entry}"))),
            None => Err(self.malformed(start, format_args!("there is no ref {index}"))),
        }
    }

    /// Reads a ref table with its count.
    pub(crate) fn ref_table(&mut self) -> Result<RefsView<'a>, Error> {
        let start = self.offset;
        let count = self.leb128()?;
        if count > Limits::REFS_MAX {
            crate::check::ref_count(count as usize).map_err(|error| error.with("offset", start))?;
        }
        let start = self.offset;
        let bytes = self.raw(count as usize * Ref::BYTES)?;
        let (entries, _) = bytes.as_chunks::<{ Ref::BYTES }>();
        match entries.iter().position(|entry| Ref::from_bytes(*entry).is_none()) {
            Some(index) => Err(self.malformed(start + index * Ref::BYTES, "this is no ref")),
            None => Ok(RefsView(Table::Wire(bytes))),
        }
    }

    /// From here on, handles point into another table.
    pub(crate) fn set_refs(&mut self, refs: RefsView<'a>) {
        self.refs = refs;
    }

    /// Counts a part of a value against the limit.
    pub(crate) fn take_part(&mut self) -> Result<(), Error> {
        Limits::take_part(&mut self.parts_left)
    }

    /// A flat list of elements that were read.
    pub(crate) fn buffer(&self, scalar: Scalar, bytes: &'a [u8]) -> Value {
        let bytes = self.shared.map_or_else(|| Bytes::copy_from_slice(bytes), |shared| shared.slice_ref(bytes));
        Value::Flat(Flat::trusted(scalar, bytes))
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
