//! Writes values as WAVE, on one line, as `wasm-wave` writes them.

use std::fmt::{self, Display, Write};

use rwasm_types::Error;
use wasm_wave::lex::Keyword;

use crate::{Arg, Args, Case, Field, Ref, Returned, Signature, Type, Value, codec::Limits};

/// The value as WAVE, on one line; nothing if there is none.
///
/// # Errors
///
/// As [`Signature::check_result`].
pub fn to_string(ty: Option<&Type>, returned: &Returned) -> Result<String, Error> {
    crate::check::result(ty, returned, &Limits::NONE)?;
    Ok(match (ty, &returned.value) {
        (Some(ty), Some(value)) => Wave { ty, value, refs: &returned.refs }.to_string(),
        _ => String::new(),
    })
}

/// The arguments of a call as WAVE, with their parentheses, on one line.
///
/// # Errors
///
/// As [`Signature::check_args`].
pub fn args_to_string(signature: &Signature, args: &Args) -> Result<String, Error> {
    signature.check_args(args)?;
    let args = signature.params.iter().zip(&args.params).map(|(param, arg)| {
        fmt::from_fn(|f| match arg {
            Arg::Value(value) => Wave { ty: &param.ty, value, refs: &args.refs }.fmt(f),
            Arg::Ref(index) => write_ref(f, &args.refs, *index),
        })
    });
    Ok(fmt::from_fn(|f| join(f, "(", args.clone(), ")")).to_string())
}

/// A value of which is known that it fits its type; what does not would be shown as `?`.
struct Wave<'a> {
    ty: &'a Type,
    value: &'a Value,
    refs: &'a [Ref],
}

impl Display for Wave<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ty, value, refs } = *self;
        let part = |ty, value| Wave { ty, value, refs };
        match (ty, value) {
            (_, Value::Bool(v)) => write!(f, "{v}"),
            (_, Value::S8(v)) => write!(f, "{v}"),
            (_, Value::U8(v)) => write!(f, "{v}"),
            (_, Value::S16(v)) => write!(f, "{v}"),
            (_, Value::U16(v)) => write!(f, "{v}"),
            (_, Value::S32(v)) => write!(f, "{v}"),
            (_, Value::U32(v)) => write!(f, "{v}"),
            (_, Value::S64(v)) => write!(f, "{v}"),
            (_, Value::U64(v)) => write!(f, "{v}"),
            (_, Value::F32(v)) => write_float(f, *v, v.is_nan(), f64::from(*v)),
            (_, Value::F64(v)) => write_float(f, *v, v.is_nan(), *v),
            (_, Value::Char(v)) => write!(f, "'{}'", escaped(*v)),
            (_, Value::String(text)) => {
                f.write_char('"')?;
                text.chars().try_for_each(|c| write!(f, "{}", escaped(c)))?;
                f.write_char('"')
            }
            (Type::List(element) | Type::FixedList(element, _), Value::List(values)) => {
                join(f, "[", values.iter().map(|value| part(element, value)), "]")
            }
            (Type::List(element) | Type::FixedList(element, _), Value::Flat(flat)) => {
                join(f, "[", flat.iter().map(|value| fmt::from_fn(move |f| Wave { ty: element, value: &value, refs }.fmt(f))), "]")
            }
            (Type::Map(pair), Value::Map(pairs)) => {
                let pairs = pairs.iter().map(|(k, v)| fmt::from_fn(move |f| write!(f, "({}, {})", part(&pair.0, k), part(&pair.1, v))));
                join(f, "[", pairs, "]")
            }
            (Type::Record(fields), Value::Record(values)) => write_record(f, fields, values, refs),
            (Type::Tuple(types), Value::Tuple(values)) => join(f, "(", types.iter().zip(values).map(|(ty, v)| part(ty, v)), ")"),
            (Type::Variant(cases), Value::Variant(number, payload)) => match cases.get(*number as usize) {
                Some(Case { name, ty }) => write_case(f, name, ty.as_ref(), payload.as_deref(), refs),
                None => f.write_char('?'),
            },
            (Type::Enum(names), Value::Enum(number)) => match names.get(*number as usize) {
                Some(name) => write_case(f, name, None, None, refs),
                None => f.write_char('?'),
            },
            (Type::Option(_), Value::Option(None)) => f.write_str("none"),
            (Type::Option(some), Value::Option(Some(value))) => write!(f, "some({})", part(some, value)),
            (Type::Result(result), Value::Result(Ok(payload))) => write_plain(f, "ok", result.ok.as_ref(), payload.as_deref(), refs),
            (Type::Result(result), Value::Result(Err(payload))) => write_plain(f, "err", result.err.as_ref(), payload.as_deref(), refs),
            (Type::Flags(names), Value::Flags(bits)) => {
                let set = names.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1);
                join(f, "{", set.map(|(_, name)| name), "}")
            }
            (_, Value::Handle(index)) => write_ref(f, refs, *index),
            _ => f.write_char('?'),
        }
    }
}

/// Writes a float in its shortest exact form, with an exponent where it would be long without.
fn write_float(f: &mut fmt::Formatter<'_>, value: impl Display + fmt::LowerExp, nan: bool, size: f64) -> fmt::Result {
    if nan {
        f.write_str("nan")
    } else if size == 0.0 || size.is_infinite() || (1e-5..1e16).contains(&size.abs()) {
        write!(f, "{value}")
    } else {
        write!(f, "{value:e}")
    }
}

/// A character as it stands in a literal.
fn escaped(c: char) -> impl Display {
    fmt::from_fn(move |f| match c {
        '\\' | '"' | '\'' | '\t' | '\r' | '\n' => write!(f, "{}", c.escape_default()),
        _ if c.is_control() => write!(f, "{}", c.escape_unicode()),
        _ => write!(f, "{}", c.escape_debug()),
    })
}

fn write_record(f: &mut fmt::Formatter<'_>, fields: &[Field], values: &[Value], refs: &[Ref]) -> fmt::Result {
    // A field that is none is left out, and `{}` would be flags.
    let mut given = fields.iter().zip(values).filter(|(_, value)| !matches!(value, Value::Option(None))).peekable();
    if given.peek().is_none() {
        return f.write_str("{:}");
    }
    let given = given.map(|(field, value)| fmt::from_fn(move |f| write!(f, "{}: {}", field.name, Wave { ty: &field.ty, value, refs })));
    join(f, "{", given, "}")
}

fn write_case(f: &mut fmt::Formatter<'_>, name: &str, ty: Option<&Type>, payload: Option<&Value>, refs: &[Ref]) -> fmt::Result {
    if Keyword::decode(name).is_some() {
        f.write_char('%')?;
    }
    write_plain(f, name, ty, payload, refs)
}

fn write_plain(f: &mut fmt::Formatter<'_>, name: &str, ty: Option<&Type>, payload: Option<&Value>, refs: &[Ref]) -> fmt::Result {
    f.write_str(name)?;
    match ty.zip(payload) {
        Some((ty, value)) => write!(f, "({})", Wave { ty, value, refs }),
        None => Ok(()),
    }
}

fn write_ref(f: &mut fmt::Formatter<'_>, refs: &[Ref], index: u32) -> fmt::Result {
    match refs.get(index as usize) {
        Some(entry) => write!(f, "@ref({entry})"),
        None => f.write_char('?'),
    }
}

fn join(f: &mut fmt::Formatter<'_>, open: &str, parts: impl Iterator<Item = impl Display>, close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (index, part) in parts.enumerate() {
        write!(f, "{}{part}", if index == 0 { "" } else { ", " })?;
    }
    f.write_str(close)
}
