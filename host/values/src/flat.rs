//! Flat lists: lists of scalars, which are one buffer in memory, in messages and in objects, so that nothing goes element by element
//! that need not.

use bytes::Bytes;
use rwasm_types::{Code, Error};

use crate::Value;

/// A type of fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// `bool`: one byte, 0 or 1.
    Bool,
    /// `s8`
    S8,
    /// `u8`
    U8,
    /// `s16`
    S16,
    /// `u16`
    U16,
    /// `s32`
    S32,
    /// `u32`
    U32,
    /// `s64`
    S64,
    /// `u64`
    U64,
    /// `f32`, IEEE 754.
    F32,
    /// `f64`, IEEE 754.
    F64,
    /// `char`: a `u32` that is a Unicode scalar value.
    Char,
}

impl Scalar {
    /// The bytes of one value.
    pub const fn width(self) -> usize {
        match self {
            Self::Bool | Self::S8 | Self::U8 => 1,
            Self::S16 | Self::U16 => 2,
            Self::S32 | Self::U32 | Self::F32 | Self::Char => 4,
            Self::S64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// Whether every pattern of bits is a value, so that a buffer needs no check.
    pub const fn is_plain(self) -> bool {
        !matches!(self, Self::Bool | Self::Char)
    }

    /// The offset of the first element of a buffer that is no value, if there is one. The buffer is a multiple of the width.
    pub(crate) fn first_bad(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Bool => bytes.iter().position(|byte| *byte > 1),
            Self::Char => bytes.chunks_exact(4).position(|bytes| char::read(bytes).is_none()).map(|index| index * 4),
            _ => None,
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type whose values are those of a [`Scalar`].
pub trait Element: Copy + sealed::Sealed {
    /// The scalar.
    const SCALAR: Scalar;

    /// Appends the little-endian bytes of the value.
    fn write(self, out: &mut Vec<u8>);

    /// Appends the little-endian bytes of values.
    fn write_all(values: &[Self], out: &mut Vec<u8>) {
        values.iter().for_each(|value| value.write(out));
    }

    /// The value of exactly [`Scalar::width`] little-endian bytes; `None` if they are none.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// The same value, but for a NaN the canonical one of the component model: quiet, positive and without payload.
    #[must_use]
    fn canonical(self) -> Self {
        self
    }
}

macro_rules! elements {
    ($($ty:ty => $scalar:ident $(, $nan:literal)?;)*) => {$(
        impl sealed::Sealed for $ty {}

        impl Element for $ty {
            const SCALAR: Scalar = Scalar::$scalar;

            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            // In place, which the compiler turns into one copy.
            fn write_all(values: &[Self], out: &mut Vec<u8>) {
                let start = out.len();
                out.resize(start + size_of_val(values), 0);
                for (bytes, value) in out[start..].chunks_exact_mut(size_of::<Self>()).zip(values) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }

            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_le_bytes)
            }

            $(fn canonical(self) -> Self {
                if self.is_nan() { Self::from_bits($nan) } else { self }
            })?
        }
    )*};
}

elements! {
    i8 => S8;
    u8 => U8;
    i16 => S16;
    u16 => U16;
    i32 => S32;
    u32 => U32;
    i64 => S64;
    u64 => U64;
    f32 => F32, 0x7fc0_0000;
    f64 => F64, 0x7ff8_0000_0000_0000;
}

impl sealed::Sealed for bool {}

impl Element for bool {
    const SCALAR: Scalar = Scalar::Bool;

    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl sealed::Sealed for char {}

impl Element for char {
    const SCALAR: Scalar = Scalar::Char;

    fn write(self, out: &mut Vec<u8>) {
        u32::from(self).write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        u32::read(bytes).and_then(|code| Self::try_from(code).ok())
    }
}

/// The value of a flat list: its elements one after the other, little-endian, without padding. Cheap to clone.
///
/// Floats keep their bits, NaNs included, and two lists are equal if their bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flat {
    bytes: Bytes,
    scalar: Scalar,
}

impl Flat {
    /// The list of a buffer.
    ///
    /// # Errors
    ///
    /// [`Code::MALFORMED_VALUE`] with the field `offset`, if the buffer is no multiple of the element's width, or an element is no
    /// value of its type.
    pub fn new(scalar: Scalar, bytes: impl Into<Bytes>) -> Result<Self, Error> {
        let bytes = bytes.into();
        let error = |offset: usize, why: String| Err(Error::new(Code::MALFORMED_VALUE, why).with("offset", offset));
        if !bytes.len().is_multiple_of(scalar.width()) {
            let why = format!("{} bytes are no multiple of {}, the width of an element", bytes.len(), scalar.width());
            return error(bytes.len(), why);
        }
        match scalar.first_bad(&bytes) {
            Some(offset) => error(offset, format!("the element at byte {offset} is no {}", crate::Type::from(scalar))),
            None => Ok(Self { bytes, scalar }),
        }
    }

    /// The list of a buffer that was checked already.
    pub(crate) fn trusted(scalar: Scalar, bytes: Bytes) -> Self {
        Self { bytes, scalar }
    }

    /// The list of a slice, which is copied.
    pub fn from_slice<T: Element>(elements: &[T]) -> Self {
        let mut bytes = Vec::with_capacity(elements.len() * T::SCALAR.width());
        T::write_all(elements, &mut bytes);
        Self { bytes: bytes.into(), scalar: T::SCALAR }
    }

    /// The elements' type.
    pub fn scalar(&self) -> Scalar {
        self.scalar
    }

    /// The buffer.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.scalar.width()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements; `None` if they are of another type.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        if T::SCALAR != self.scalar {
            return None;
        }
        self.bytes.chunks_exact(self.scalar.width()).map(T::read).collect()
    }

    /// The elements as values, in order.
    pub fn iter(&self) -> impl Iterator<Item = Value> {
        self.bytes.chunks_exact(self.scalar.width()).filter_map(|bytes| Value::read_scalar(self.scalar, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_checked_and_come_back() {
        fn check<T: Element + PartialEq + std::fmt::Debug>(elements: &[T]) {
            let list = Flat::from_slice(elements);
            assert_eq!(list.to_vec::<T>().unwrap(), elements);
            assert_eq!(Flat::new(T::SCALAR, list.bytes().clone()).unwrap(), list);
            assert_eq!((list.len(), list.iter().count()), (elements.len(), elements.len()));
        }
        check(&[1u8, 2, 255]);
        check(&[-1i64, i64::MIN]);
        check(&[0.5f32, f32::INFINITY]);
        check(&[true, false]);
        check(&['a', '\u{10ffff}']);
        check::<u16>(&[]);
        for (scalar, bytes) in [(Scalar::Bool, &[0, 2][..]), (Scalar::Char, &[0, 0xd8, 0, 0]), (Scalar::U32, &[1, 2, 3])] {
            assert_eq!(Flat::new(scalar, bytes).unwrap_err().code(), Code::MALFORMED_VALUE);
        }
        assert_eq!(Flat::from_slice(&[1u8]).to_vec::<i8>(), None);
    }
}
