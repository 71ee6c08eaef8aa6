//! Values: the Rust types that have a counterpart in WIT, and the bytes of their values in objects and calls.
//!
//! The format is described in `docs/values.md` of rwasm, sections 2 to 4. [`Value`] is implemented for what
//! [`#[rwasm::export]`](macro@crate::export) knows, and by [`import!`](crate::import) for the types of other people's contracts; there is no
//! need to implement it by hand.
//!
//! | in Rust | in WIT |
//! |---|---|
//! | `bool`, `char`, `u8` … `u64`, `i8` … `i64`, `f32`, `f64` | `bool`, `char`, `u8` … `u64`, `s8` … `s64`, `f32`, `f64` |
//! | `String`, `Vec<T>`, `[T; N]` | `string`, `list<T>`, `list<T, N>` |
//! | `Option<T>`, `(A, B)`, `Result<T, E>` | `option<T>`, `tuple<A, B>`, `result<T, E>` |
//! | `()` | `result`, or nothing as a part of a `Result` |
//! | [`Object<T>`](crate::Object) | `own<object>` of `rwasm:core/objects` |

mod codec;
mod types;

pub use codec::{Decoder, Encoder, Refs};

use crate::object::Error;

/// A type whose values can be in objects, in arguments of tasks and in their results.
///
/// What is not documented here is for this crate and for the code that its macros generate.
pub trait Value: Sized {
    /// Whether it is a handle by itself, and so has no value that a task could be given in its place.
    #[doc(hidden)]
    const HANDLE: bool = false;

    /// Bytes of each value in a list, where lists of it are stored bare; else 0.
    #[doc(hidden)]
    const WIDTH: usize = 0;

    /// Adds the type as WIT has it: `list<u8>`.
    fn describe(text: &mut String);

    /// Adds the bytes of the value.
    fn encode<'a>(&'a self, into: &mut Encoder<'a>);

    /// Takes a value.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if the bytes are none, or why the objects that it names are not to be had.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, Error>;

    /// The value of a type that has but one, and no bytes as a part of a `Result`.
    #[doc(hidden)]
    fn unit() -> Option<Self> {
        None
    }

    /// Adds the bytes of the value as an object holds it: a text, or a list of scalars, without its length.
    #[doc(hidden)]
    fn store<'a>(&'a self, into: &mut Encoder<'a>) {
        self.encode(into);
    }

    /// The bytes of the value as an object holds it, where they are in memory just so.
    #[doc(hidden)]
    fn stored(&self) -> Option<&[u8]> {
        None
    }

    /// The value of all bytes of an object.
    #[doc(hidden)]
    fn load(bytes: Vec<u8>, refs: &Refs<'_>) -> Result<Self, Error> {
        let mut from = Decoder::new(&bytes, refs);
        let value = Self::decode(&mut from)?;
        from.end()?;
        Ok(value)
    }

    /// Adds the values of a list, without their number.
    #[doc(hidden)]
    fn encode_all<'a>(values: &'a [Self], into: &mut Encoder<'a>) {
        for value in values {
            value.encode(into);
        }
    }

    /// Takes so many values of a list.
    #[doc(hidden)]
    fn decode_all(count: usize, from: &mut Decoder<'_>) -> Result<Vec<Self>, Error> {
        /// Beyond so many, room is made as values come: a count alone costs nothing.
        const AT_ONCE: usize = 4096;
        let mut values = Vec::with_capacity(count.min(AT_ONCE));
        for _ in 0..count {
            values.push(Self::decode(from)?);
        }
        Ok(values)
    }

    /// The bytes of a list, where they are in memory as they are stored.
    #[doc(hidden)]
    fn bare(_values: &[Self]) -> Option<&[u8]> {
        None
    }

    /// The list that these bytes are, for types that are one byte which can be anything.
    #[doc(hidden)]
    fn from_bare(bytes: Vec<u8>) -> Result<Vec<Self>, Vec<u8>> {
        Err(bytes)
    }
}

/// A type as WIT has it, on one line: `option<list<u8>>`.
pub fn type_text<T: Value>() -> String {
    let mut text = String::new();
    T::describe(&mut text);
    text
}
