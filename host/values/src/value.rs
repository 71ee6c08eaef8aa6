//! Values of every storable type. A value does not name its type: field, case and flag names live in the [`Type`] alone.

use bytes::Bytes;

use crate::{
    Element, Field, Flat, Scalar, Type,
    fault::{Fault, Fit},
};

/// A value of a storable type, 40 bytes wide.
///
/// Two values are equal if they encode alike: a NaN equals a NaN, and 0 does not equal −0.
#[derive(Clone, Debug)]
pub enum Value {
    /// `bool`
    Bool(bool),
    /// `s8`
    S8(i8),
    /// `u8`
    U8(u8),
    /// `s16`
    S16(i16),
    /// `u16`
    U16(u16),
    /// `s32`
    S32(i32),
    /// `u32`
    U32(u32),
    /// `s64`
    S64(i64),
    /// `u64`
    U64(u64),
    /// `f32`
    F32(f32),
    /// `f64`
    F64(f64),
    /// `char`
    Char(char),
    /// `string`
    String(String),
    /// A `list` or fixed-length list of scalars.
    Flat(Flat),
    /// Any other `list` or fixed-length list.
    List(Vec<Self>),
    /// `map`: pairs in the order given. A key may come more than once; readers that need one take the last.
    Map(Vec<(Self, Self)>),
    /// `record`: the fields in the order of the type.
    Record(Vec<Self>),
    /// `tuple`
    Tuple(Vec<Self>),
    /// `variant`: the number of the case, from 0, and its payload.
    Variant(u32, Option<Box<Self>>),
    /// `enum`: the number of the case, from 0.
    Enum(u32),
    /// `option`
    Option(Option<Box<Self>>),
    /// `result`
    Result(Result<Option<Box<Self>>, Option<Box<Self>>>),
    /// `flags`: bit 0 is the first name.
    Flags(u32),
    /// `own` or `borrow`: an index into the ref table of the message.
    Handle(u32),
}

impl Value {
    /// A `list<u8>`, without a copy.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Flat(Flat::trusted(Scalar::U8, bytes.into()))
    }

    /// A flat list of a slice, which is copied.
    pub fn flat<T: Element>(elements: &[T]) -> Self {
        Self::Flat(Flat::from_slice(elements))
    }

    /// `some(value)`
    pub fn some(value: impl Into<Self>) -> Self {
        Self::Option(Some(Box::new(value.into())))
    }

    /// `none`
    pub fn none() -> Self {
        Self::Option(None)
    }

    /// `ok(value)`
    pub fn ok(value: impl Into<Self>) -> Self {
        Self::Result(Ok(Some(Box::new(value.into()))))
    }

    /// `err(value)`
    pub fn err(value: impl Into<Self>) -> Self {
        Self::Result(Err(Some(Box::new(value.into()))))
    }

    /// The record of the fields that a text gave, in the order of the type. One of an `option` type may be missing.
    pub(crate) fn record(ty: &Type, fields: &[Field], values: Vec<Option<Self>>) -> Fit<Self> {
        let field = |(field, value): (&Field, Option<Self>)| match (value, &field.ty) {
            (Some(value), _) => Ok(value),
            (None, Type::Option(_)) => Ok(Self::none()),
            (None, _) => Err(Fault::lacks(ty, &field.name)),
        };
        fields.iter().zip(values).map(field).collect::<Fit<_>>().map(Self::Record)
    }

    /// The value of a scalar's little-endian bytes; `None` if they are none.
    pub(crate) fn read_scalar(scalar: Scalar, bytes: &[u8]) -> Option<Self> {
        Some(match scalar {
            Scalar::Bool => Self::Bool(bool::read(bytes)?),
            Scalar::S8 => Self::S8(i8::read(bytes)?),
            Scalar::U8 => Self::U8(u8::read(bytes)?),
            Scalar::S16 => Self::S16(i16::read(bytes)?),
            Scalar::U16 => Self::U16(u16::read(bytes)?),
            Scalar::S32 => Self::S32(i32::read(bytes)?),
            Scalar::U32 => Self::U32(u32::read(bytes)?),
            Scalar::S64 => Self::S64(i64::read(bytes)?),
            Scalar::U64 => Self::U64(u64::read(bytes)?),
            Scalar::F32 => Self::F32(f32::read(bytes)?),
            Scalar::F64 => Self::F64(f64::read(bytes)?),
            Scalar::Char => Self::Char(char::read(bytes)?),
        })
    }

    /// Appends a scalar's little-endian bytes, as they are in a flat list; nothing if the value is none.
    pub(crate) fn write_scalar(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(v) => v.write(out),
            Self::S8(v) => v.write(out),
            Self::U8(v) => v.write(out),
            Self::S16(v) => v.write(out),
            Self::U16(v) => v.write(out),
            Self::S32(v) => v.write(out),
            Self::U32(v) => v.write(out),
            Self::S64(v) => v.write(out),
            Self::U64(v) => v.write(out),
            Self::F32(v) => v.write(out),
            Self::F64(v) => v.write(out),
            Self::Char(v) => v.write(out),
            _ => {}
        }
    }

    /// Has all handles in it point so many entries further into the ref table.
    pub(crate) fn shift_handles(&mut self, by: u32) {
        match self {
            Self::Handle(index) => *index += by,
            Self::List(values) | Self::Record(values) | Self::Tuple(values) => values.iter_mut().for_each(|value| value.shift_handles(by)),
            Self::Map(pairs) => pairs.iter_mut().for_each(|(_, value)| value.shift_handles(by)),
            Self::Variant(_, payload) | Self::Option(payload) | Self::Result(Ok(payload) | Err(payload)) => {
                if let Some(value) = payload {
                    value.shift_handles(by);
                }
            }
            _ => {}
        }
    }

    /// What kind of value this is, for messages: `a string`, `a list`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a bool",
            Self::S8(_) => "an s8",
            Self::U8(_) => "a u8",
            Self::S16(_) => "an s16",
            Self::U16(_) => "a u16",
            Self::S32(_) => "an s32",
            Self::U32(_) => "a u32",
            Self::S64(_) => "an s64",
            Self::U64(_) => "a u64",
            Self::F32(_) => "an f32",
            Self::F64(_) => "an f64",
            Self::Char(_) => "a char",
            Self::String(_) => "a string",
            Self::Flat(_) | Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Record(_) => "a record",
            Self::Tuple(_) => "a tuple",
            Self::Variant(..) => "a variant",
            Self::Enum(_) => "an enum",
            Self::Option(_) => "an option",
            Self::Result(_) => "a result",
            Self::Flags(_) => "flags",
            Self::Handle(_) => "a handle",
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::S8(a), Self::S8(b)) => a == b,
            (Self::U8(a), Self::U8(b)) => a == b,
            (Self::S16(a), Self::S16(b)) => a == b,
            (Self::U16(a), Self::U16(b)) => a == b,
            (Self::S32(a), Self::S32(b)) => a == b,
            (Self::U32(a), Self::U32(b)) => a == b,
            (Self::S64(a), Self::S64(b)) => a == b,
            (Self::U64(a), Self::U64(b)) => a == b,
            (Self::F32(a), Self::F32(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
            (Self::F64(a), Self::F64(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
            (Self::Char(a), Self::Char(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Flat(a), Self::Flat(b)) => a == b,
            (Self::List(a), Self::List(b)) | (Self::Record(a), Self::Record(b)) | (Self::Tuple(a), Self::Tuple(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Variant(a, p), Self::Variant(b, q)) => a == b && p == q,
            (Self::Option(a), Self::Option(b)) => a == b,
            (Self::Result(a), Self::Result(b)) => a == b,
            (Self::Enum(a), Self::Enum(b)) | (Self::Flags(a), Self::Flags(b)) | (Self::Handle(a), Self::Handle(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

macro_rules! from {
    ($($ty:ty => $variant:ident,)*) => {$(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from! {
    bool => Bool,
    i8 => S8,
    u8 => U8,
    i16 => S16,
    u16 => U16,
    i32 => S32,
    u32 => U32,
    i64 => S64,
    u64 => U64,
    f32 => F32,
    f64 => F64,
    char => Char,
    String => String,
    &str => String,
    Flat => Flat,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_small() {
        assert_eq!(size_of::<Value>(), 40);
    }

    #[test]
    fn equality_is_that_of_the_encoding() {
        assert_eq!(Value::F64(f64::NAN), Value::F64(-f64::NAN));
        assert_ne!(Value::F32(0.0), Value::F32(-0.0));
        assert_ne!(Value::Record(vec![]), Value::Tuple(vec![]));
    }
}
