//! Writes values as JSON, without white space.

use std::{
    collections::HashSet,
    io::{self, Write},
};

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use rwasm_types::{Code, Error};

use super::{REF_KEY, SAFE_INTEGER_MAX};
use crate::{Arg, Args, Case, Field, Flat, Ref, Returned, Scalar, Signature, Type, Value, check, codec::Limits};

/// 7.038531e-26, the one `f32` (with its negative) whose shortest text, read as an `f64` and then rounded, is its neighbour. All of them
/// were tried. It is written as the `f64` that it is, whose text is longer and safe.
const ROUNDED_TWICE: u32 = 0x15ae_43fd;

/// Writes a result or an object's value; `null` if there is none.
///
/// # Errors
///
/// As [`Signature::check_result`], or [`Code::IO`] if it cannot be written.
pub fn write_value(out: &mut dyn Write, ty: Option<&Type>, returned: &Returned) -> Result<(), Error> {
    check::result(ty, returned, &Limits::NONE)?;
    let mut writer = Writer { out, refs: &returned.refs };
    match (ty, &returned.value) {
        (Some(ty), Some(value)) => writer.value(ty, value),
        _ => writer.out.write_all(b"null"),
    }
    .map_err(failed)
}

/// Writes the arguments of a call, as an array.
///
/// # Errors
///
/// As [`Signature::check_args`], or [`Code::IO`] if it cannot be written.
pub fn write_args(out: &mut dyn Write, signature: &Signature, args: &Args) -> Result<(), Error> {
    signature.check_args(args)?;
    let mut writer = Writer { out, refs: &args.refs };
    let mut params = signature.params.iter().zip(&args.params);
    writer
        .list(b'[', b']', &mut params, |writer, (param, arg)| match arg {
            Arg::Value(value) => writer.value(&param.ty, value),
            Arg::Ref(index) => writer.reference(*index),
        })
        .map_err(failed)
}

/// As [`write_value`], into a string.
///
/// # Errors
///
/// As [`Signature::check_result`].
pub fn to_string(ty: Option<&Type>, returned: &Returned) -> Result<String, Error> {
    into_string(|out| write_value(out, ty, returned))
}

/// As [`write_args`], into a string.
///
/// # Errors
///
/// As [`Signature::check_args`].
pub fn args_to_string(signature: &Signature, args: &Args) -> Result<String, Error> {
    into_string(|out| write_args(out, signature, args))
}

fn into_string(write: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<String, Error> {
    let mut out = Vec::new();
    write(&mut out)?;
    String::from_utf8(out).map_err(|_| Error::internal("JSON was written that is not UTF-8"))
}

fn failed(error: io::Error) -> Error {
    Error::new(Code::IO, format!("the JSON cannot be written: {error}"))
}

/// Writes values of which is known that they fit; what does not is an error of kind `InvalidData`.
struct Writer<'a> {
    out: &'a mut dyn Write,
    refs: &'a [Ref],
}

impl Writer<'_> {
    fn value(&mut self, ty: &Type, value: &Value) -> io::Result<()> {
        match (ty, value) {
            (_, Value::Bool(v)) => write!(self.out, "{v}"),
            (_, Value::S8(v)) => write!(self.out, "{v}"),
            (_, Value::U8(v)) => write!(self.out, "{v}"),
            (_, Value::S16(v)) => write!(self.out, "{v}"),
            (_, Value::U16(v)) => write!(self.out, "{v}"),
            (_, Value::S32(v)) => write!(self.out, "{v}"),
            (_, Value::U32(v)) => write!(self.out, "{v}"),
            (_, Value::S64(v)) => self.integer(v, v.unsigned_abs()),
            (_, Value::U64(v)) => self.integer(v, *v),
            (_, Value::F32(v)) if v.abs().to_bits() == ROUNDED_TWICE => self.float(f64::from(*v), f64::from(*v)),
            (_, Value::F32(v)) => self.float(v, f64::from(*v)),
            (_, Value::F64(v)) => self.float(v, *v),
            (_, Value::Char(v)) => self.text(v.encode_utf8(&mut [0; 4])),
            (_, Value::String(text)) => self.text(text),
            (Type::List(element) | Type::FixedList(element, _), Value::Flat(flat)) => self.flat(element, flat),
            (Type::List(element) | Type::FixedList(element, _), Value::List(values)) => {
                self.list(b'[', b']', &mut values.iter(), |this, value| this.value(element, value))
            }
            (Type::Map(pair), Value::Map(pairs)) => self.map(pair, pairs),
            (Type::Record(fields), Value::Record(values)) => self.record(fields, values),
            (Type::Tuple(types), Value::Tuple(values)) => {
                self.list(b'[', b']', &mut types.iter().zip(values), |this, (ty, value)| this.value(ty, value))
            }
            (Type::Variant(cases), Value::Variant(number, payload)) => {
                let Case { name, ty } = cases.get(*number as usize).ok_or(io::ErrorKind::InvalidData)?;
                match ty.as_ref().zip(payload.as_deref()) {
                    Some((ty, payload)) => self.wrapped(name, Some(ty), Some(payload)),
                    None => self.text(name),
                }
            }
            (Type::Enum(names), Value::Enum(number)) => self.text(names.get(*number as usize).ok_or(io::ErrorKind::InvalidData)?),
            (Type::Option(_), Value::Option(None)) => self.out.write_all(b"null"),
            (Type::Option(some), Value::Option(Some(value))) if is_nullable(some) => self.wrapped("some", Some(some), Some(value)),
            (Type::Option(some), Value::Option(Some(value))) => self.value(some, value),
            (Type::Result(result), Value::Result(Ok(payload))) => self.wrapped("ok", result.ok.as_ref(), payload.as_deref()),
            (Type::Result(result), Value::Result(Err(payload))) => self.wrapped("err", result.err.as_ref(), payload.as_deref()),
            (Type::Flags(names), Value::Flags(bits)) => {
                let mut set = names.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1);
                self.list(b'[', b']', &mut set, |this, (_, name)| this.text(name))
            }
            (_, Value::Handle(index)) => self.reference(*index),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        Ok(serde_json::to_writer(&mut *self.out, text)?)
    }

    fn integer(&mut self, value: impl std::fmt::Display, size: u64) -> io::Result<()> {
        if size <= SAFE_INTEGER_MAX { write!(self.out, "{value}") } else { write!(self.out, "\"{value}\"") }
    }

    /// Writes the shortest number that reads back as the same float.
    fn float(&mut self, value: impl std::fmt::Debug, size: f64) -> io::Result<()> {
        match size {
            _ if size.is_nan() => self.text("NaN"),
            f64::INFINITY => self.text("Infinity"),
            f64::NEG_INFINITY => self.text("-Infinity"),
            _ => write!(self.out, "{value:?}"),
        }
    }

    fn flat(&mut self, element: &Type, flat: &Flat) -> io::Result<()> {
        if flat.scalar() == Scalar::U8 {
            return write!(self.out, "\"{}\"", Base64Display::new(flat.bytes(), &STANDARD));
        }
        self.list(b'[', b']', &mut flat.iter(), |this, value| this.value(element, &value))
    }

    fn map(&mut self, (key, value): &(Type, Type), pairs: &[(Value, Value)]) -> io::Result<()> {
        if !has_unique_texts(key, pairs) {
            return self.list(b'[', b']', &mut pairs.iter(), |this, (k, v)| {
                this.list(b'[', b']', &mut [(key, k), (value, v)].into_iter(), |this, (ty, value)| this.value(ty, value))
            });
        }
        self.list(b'{', b'}', &mut pairs.iter(), |this, (k, v)| {
            this.value(key, k)?;
            this.out.write_all(b":")?;
            this.value(value, v)
        })
    }

    fn record(&mut self, fields: &[Field], values: &[Value]) -> io::Result<()> {
        self.list(b'{', b'}', &mut fields.iter().zip(values), |this, (field, value)| {
            this.text(&field.name)?;
            this.out.write_all(b":")?;
            this.value(&field.ty, value)
        })
    }

    /// Writes an object of one key.
    fn wrapped(&mut self, key: &str, ty: Option<&Type>, payload: Option<&Value>) -> io::Result<()> {
        self.out.write_all(b"{")?;
        self.text(key)?;
        self.out.write_all(b":")?;
        match ty.zip(payload) {
            Some((ty, payload)) => self.value(ty, payload)?,
            None => self.out.write_all(b"null")?,
        }
        self.out.write_all(b"}")
    }

    fn reference(&mut self, index: u32) -> io::Result<()> {
        let entry = self.refs.get(index as usize).ok_or(io::ErrorKind::InvalidData)?;
        write!(self.out, "{{\"{REF_KEY}\":\"{entry}\"}}")
    }

    fn list<T>(
        &mut self,
        open: u8,
        close: u8,
        parts: &mut dyn Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> io::Result<()>,
    ) -> io::Result<()> {
        self.out.write_all(&[open])?;
        for (index, part) in parts.enumerate() {
            if index > 0 {
                self.out.write_all(b",")?;
            }
            write(self, part)?;
        }
        self.out.write_all(&[close])
    }
}

/// Whether the value of a type can be `null`, so that an option of it needs a wrapper.
pub(super) fn is_nullable(ty: &Type) -> bool {
    matches!(ty, Type::Option(_))
}

/// Whether a map can be an object: its keys are strings, none comes twice, and none would make it a ref.
fn has_unique_texts(key: &Type, pairs: &[(Value, Value)]) -> bool {
    let mut seen = HashSet::with_capacity(pairs.len());
    *key == Type::String && pairs.iter().all(|(key, _)| matches!(key, Value::String(text) if text != REF_KEY && seen.insert(text)))
}
