//! What JSON's numbers and strings are as values of a type.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::SAFE_INTEGER_MAX;
use crate::{
    Flat, Scalar, Type, Value,
    codec::same_length,
    fault::{Fault, Fit},
};

/// A number as the parser has it: whole if it is written without fraction and exponent and fits, else the nearest `f64`.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Whole(i128),
    Float(f64),
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "`{number}`"),
            Self::Float(number) => write!(f, "`{number:?}`"),
        }
    }
}

/// The value of a number.
pub(super) fn number(ty: &Type, number: Number) -> Fit<Value> {
    match ty {
        Type::F64 => Ok(Value::F64(as_f64(number))),
        Type::F32 => {
            // Rounding twice is exact for what the writer writes; see there for the one f32 that needs care.
            let value = as_f64(number) as f32;
            if value.is_infinite() { Err(Fault::range(ty, number)) } else { Ok(Value::F32(value)) }
        }
        _ => match number {
            Number::Whole(whole) => integer(ty, whole, number),
            // 3.0 and 3e0 are the number 3; beyond the safe integers, the parser has lost digits.
            Number::Float(float) if float.fract() == 0.0 && float.abs() <= SAFE_INTEGER_MAX as f64 => integer(ty, float as i128, number),
            Number::Float(float) if is_integer(ty) && float.fract() == 0.0 => Err(Fault::range(ty, number)),
            Number::Float(_) => Err(Fault::ty(ty, number)),
        },
    }
}

fn as_f64(number: Number) -> f64 {
    match number {
        Number::Whole(number) => number as f64,
        Number::Float(number) => number,
    }
}

fn is_integer(ty: &Type) -> bool {
    ty.scalar().is_some_and(|scalar| !matches!(scalar, Scalar::Bool | Scalar::Char | Scalar::F32 | Scalar::F64))
}

fn integer(ty: &Type, whole: i128, given: impl std::fmt::Display) -> Fit<Value> {
    let value = match ty {
        Type::S8 => i8::try_from(whole).map(Value::S8),
        Type::U8 => u8::try_from(whole).map(Value::U8),
        Type::S16 => i16::try_from(whole).map(Value::S16),
        Type::U16 => u16::try_from(whole).map(Value::U16),
        Type::S32 => i32::try_from(whole).map(Value::S32),
        Type::U32 => u32::try_from(whole).map(Value::U32),
        Type::S64 => i64::try_from(whole).map(Value::S64),
        Type::U64 => u64::try_from(whole).map(Value::U64),
        _ => return Err(Fault::ty(ty, given)),
    };
    value.map_err(|_| Fault::range(ty, given))
}

/// The value of a string, for all types that do not need names.
pub(super) fn text(ty: &Type, text: &str) -> Fit<Value> {
    let given = format_args!("{text:?}");
    match ty {
        Type::String => Ok(Value::String(text.to_owned())),
        Type::Char => {
            let mut chars = text.chars();
            chars.next().filter(|_| chars.next().is_none()).map(Value::Char).ok_or_else(|| Fault::ty(ty, given))
        }
        Type::F32 => special(text).map(|value| Value::F32(value as f32)).ok_or_else(|| Fault::ty(ty, given)),
        Type::F64 => special(text).map(Value::F64).ok_or_else(|| Fault::ty(ty, given)),
        _ if is_integer(ty) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(Fault::ty(ty, given));
            }
            text.parse().map_err(|_| Fault::range(ty, given)).and_then(|whole| integer(ty, whole, given))
        }
        Type::List(_) | Type::FixedList(..) if ty.flat_element() == Some(Scalar::U8) => {
            let bytes = STANDARD.decode(text).map_err(|error| Fault::says(ty, given, format!("is no base64: {error}")))?;
            if let Type::FixedList(_, length) = ty {
                same_length(ty, *length as usize, bytes.len())?;
            }
            Ok(Value::Flat(Flat::trusted(Scalar::U8, bytes.into())))
        }
        _ => Err(Fault::ty(ty, given)),
    }
}

/// The floats that JSON has no numbers for.
fn special(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}
