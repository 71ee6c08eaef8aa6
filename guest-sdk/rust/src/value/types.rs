//! The types that are values.

use super::{Decoder, Encoder, Refs, Value, type_text};
use crate::{Object, object::Error};

macro_rules! numbers {
    (@ u8) => {
        fn bare(values: &[Self]) -> Option<&[u8]> {
            Some(values)
        }

        fn from_bare(bytes: Vec<u8>) -> Result<Vec<Self>, Vec<u8>> {
            Ok(bytes)
        }
    };
    (@ $number:tt) => {};
    ($($number:tt = $name:literal $(, $canonical:ident)?;)*) => {$(
        impl Value for $number {
            const WIDTH: usize = size_of::<Self>();

            fn describe(text: &mut String) {
                text.push_str($name);
            }

            fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
                let number = *self;
                $(let number = $canonical!(number);)?
                into.bytes(&number.to_le_bytes());
            }

            fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
                let number = Self::from_le_bytes(from.array()?);
                $(let number = $canonical!(number);)?
                Ok(number)
            }

            // In lists, NaNs are what they are: a list is moved as a whole.
            fn encode_all<'a>(values: &'a [Self], into: &mut Encoder<'a>) {
                match Self::bare(values) {
                    Some(bytes) => into.bytes(bytes),
                    None => into.bytes.extend(values.iter().flat_map(|number| number.to_le_bytes())),
                }
            }

            fn decode_all(count: usize, from: &mut Decoder<'_>) -> Result<Vec<Self>, Error> {
                let bytes = from.bytes(count.checked_mul(Self::WIDTH).ok_or(Error::Malformed)?)?;
                let (numbers, _) = bytes.as_chunks();
                Ok(numbers.iter().map(|number| Self::from_le_bytes(*number)).collect())
            }

            numbers!(@ $number);
        }
    )*};
}

/// A NaN as it is written and read where it stands alone.
macro_rules! canonical {
    ($number:ident) => {
        if $number.is_nan() { Self::NAN } else { $number }
    };
}

numbers! {
    u8 = "u8";
    i8 = "s8";
    u16 = "u16";
    i16 = "s16";
    u32 = "u32";
    i32 = "s32";
    u64 = "u64";
    i64 = "s64";
    f32 = "f32", canonical;
    f64 = "f64", canonical;
}

/// Of `bool` and `char`, whose bytes are not all values.
macro_rules! checked {
    ($($ty:ty = $name:literal, $width:literal, $write:expr, $read:expr;)*) => {$(
        impl Value for $ty {
            const WIDTH: usize = $width;

            fn describe(text: &mut String) {
                text.push_str($name);
            }

            fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
                into.bytes(&$write(*self));
            }

            fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
                $read(from.array()?).ok_or(Error::Malformed)
            }
        }
    )*};
}

checked! {
    bool = "bool", 1, |bool| [u8::from(bool)], |[byte]: [u8; 1]| (byte < 2).then_some(byte == 1);
    char = "char", 4, |char| u32::from(char).to_le_bytes(), |bytes| Self::from_u32(u32::from_le_bytes(bytes));
}

impl Value for String {
    fn describe(text: &mut String) {
        text.push_str("string");
    }

    fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
        into.number(self.len());
        into.bytes(self.as_bytes());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
        let length = from.count(1)?;
        std::str::from_utf8(from.bytes(length)?).map(str::to_owned).map_err(|_| Error::Malformed)
    }

    fn store<'a>(&'a self, into: &mut Encoder<'a>) {
        into.bytes(self.as_bytes());
    }

    fn stored(&self) -> Option<&[u8]> {
        Some(self.as_bytes())
    }

    fn load(bytes: Vec<u8>, _refs: &Refs<'_>) -> Result<Self, Error> {
        Self::from_utf8(bytes).map_err(|_| Error::Malformed)
    }
}

impl<T: Value> Value for Vec<T> {
    fn describe(text: &mut String) {
        text.push_str("list<");
        T::describe(text);
        text.push('>');
    }

    fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
        into.number(self.len());
        T::encode_all(self, into);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
        let count = from.count(T::WIDTH)?;
        T::decode_all(count, from)
    }

    fn store<'a>(&'a self, into: &mut Encoder<'a>) {
        if T::WIDTH > 0 { T::encode_all(self, into) } else { self.encode(into) }
    }

    fn stored(&self) -> Option<&[u8]> {
        T::bare(self)
    }

    fn load(bytes: Vec<u8>, refs: &Refs<'_>) -> Result<Self, Error> {
        let bytes = match T::from_bare(bytes) {
            Ok(list) => return Ok(list),
            Err(bytes) => bytes,
        };
        let mut from = Decoder::new(&bytes, refs);
        let list = match from.left().checked_div(T::WIDTH) {
            Some(count) => T::decode_all(count, &mut from)?,
            None => Self::decode(&mut from)?,
        };
        from.end()?;
        Ok(list)
    }
}

impl<T: Value, const N: usize> Value for [T; N] {
    fn describe(text: &mut String) {
        text.push_str("list<");
        T::describe(text);
        text.push_str(&format!(", {N}>"));
    }

    fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
        T::encode_all(self, into);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
        T::decode_all(N, from)?.try_into().map_err(|_| Error::Malformed)
    }
}

impl<T: Value> Value for Option<T> {
    fn describe(text: &mut String) {
        text.push_str("option<");
        T::describe(text);
        text.push('>');
    }

    fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
        match self {
            None => into.bytes(&[0]),
            Some(value) => {
                into.bytes(&[1]);
                value.encode(into);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
        if from.tag(2)? == 0 { Ok(None) } else { T::decode(from).map(Some) }
    }
}

impl<T: Value, E: Value> Value for Result<T, E> {
    fn describe(text: &mut String) {
        text.push_str(&match (T::unit(), E::unit()) {
            (Some(_), Some(_)) => "result".to_owned(),
            (None, Some(_)) => format!("result<{}>", type_text::<T>()),
            (Some(_), None) => format!("result<_, {}>", type_text::<E>()),
            (None, None) => format!("result<{}, {}>", type_text::<T>(), type_text::<E>()),
        });
    }

    fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
        into.bytes(&[self.is_err().into()]);
        match self {
            Ok(value) if T::unit().is_none() => value.encode(into),
            Err(error) if E::unit().is_none() => error.encode(into),
            _ => {}
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
        Ok(if from.tag(2)? == 0 {
            Ok(T::unit().map_or_else(|| T::decode(from), Ok)?)
        } else {
            Err(E::unit().map_or_else(|| E::decode(from), Ok)?)
        })
    }
}

/// What a function without a result returns is a `result`, and is `ok`.
impl Value for () {
    fn describe(text: &mut String) {
        text.push_str("result");
    }

    fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
        into.bytes(&[0]);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
        from.tag(1).map(drop)
    }

    fn unit() -> Option<Self> {
        Some(())
    }
}

impl<T> Value for Object<T> {
    const HANDLE: bool = true;

    fn describe(text: &mut String) {
        text.push_str("own<rwasm:core/objects.object>");
    }

    fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
        into.handle(self.handle());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
        from.handle().map(Self::from_handle)
    }
}

macro_rules! tuples {
    ($($first:ident $($other:ident)*;)*) => {$(
        impl<$first: Value, $($other: Value),*> Value for ($first, $($other,)*) {
            fn describe(text: &mut String) {
                text.push_str("tuple<");
                $first::describe(text);
                $(
                    text.push_str(", ");
                    $other::describe(text);
                )*
                text.push('>');
            }

            #[expect(non_snake_case, reason = "the elements are named like their types")]
            fn encode<'a>(&'a self, into: &mut Encoder<'a>) {
                let ($first, $($other,)*) = self;
                $first.encode(into);
                $($other.encode(into);)*
            }

            fn decode(from: &mut Decoder<'_>) -> Result<Self, Error> {
                Ok(($first::decode(from)?, $($other::decode(from)?,)*))
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
    A B C D E F G H I;
    A B C D E F G H I J;
    A B C D E F G H I J K;
    A B C D E F G H I J K L;
}
