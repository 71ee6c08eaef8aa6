//! A checked, borrowed value in its stored form, so that an engine can take whole buffers without decoding.

use rwasm_types::Error;

use super::Decoder;
use crate::{Scalar, Type};

/// A value that was checked and is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A `string`.
    Text(&'a str),
    /// A `list` of scalars: a multiple of the width, and values throughout.
    Flat(Scalar, &'a [u8]),
    /// Anything else, in the codec.
    Encoded(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// The stored form: what an object of this value holds.
    pub fn stored(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Flat(_, bytes) | Self::Encoded(bytes) => bytes,
        }
    }

    /// Reads a value inside a message.
    pub(crate) fn read(input: &mut Decoder<'a>, ty: &Type) -> Result<Self, Error> {
        match ty {
            Type::String => input.string().map(Self::Text),
            Type::List(element) if let Some(scalar) = element.scalar() => Ok(Self::Flat(scalar, input.flat(scalar)?)),
            _ => {
                let rest = input.rest();
                let start = input.offset();
                input.skip(ty)?;
                Ok(Self::Encoded(&rest[..input.offset() - start]))
            }
        }
    }

    /// Reads the value of an object, which is the whole input.
    pub(crate) fn read_stored(input: &mut Decoder<'a>, ty: &Type) -> Result<Self, Error> {
        let length = input.remaining();
        match ty {
            Type::String => input.text(length).map(Self::Text),
            Type::List(element) if let Some(scalar) = element.scalar() => {
                let bytes = input.elements(scalar, length / scalar.width())?;
                input.finish()?;
                Ok(Self::Flat(scalar, bytes))
            }
            _ => {
                let bytes = input.rest();
                input.skip(ty)?;
                input.finish()?;
                Ok(Self::Encoded(bytes))
            }
        }
    }
}
