//! Calls of any shape, through wasmtime's dynamic values: straight from the codec into those values and back, following the type.

use bytes::Bytes;
use rwasm_types::{Error, Result};
use rwasm_values::{
    Element, Field, Label, Scalar, Signature, Type,
    codec::{ArgView, ArgsView, Decoder, Encoder, Limits, Payload, RefsView, VERSION},
};
use wasmtime::component::Val;

/// The parameters of a call.
pub(super) fn params(signature: &Signature, view: &ArgsView<'_>) -> Result<Vec<Val>> {
    let limits = Limits::default();
    let one = |(param, arg): (&rwasm_values::Param, &ArgView<'_>)| match arg {
        ArgView::Inline(Payload::Text(text)) => Ok(Val::String((*text).to_owned())),
        ArgView::Inline(Payload::Flat(scalar, bytes)) => Ok(Val::List(scalars(*scalar, bytes))),
        ArgView::Inline(Payload::Encoded(bytes)) => read(&mut Decoder::new(bytes, RefsView::default(), &limits), &param.ty),
        ArgView::Ref(_) => Err(Error::internal("an argument was given by ref and not resolved")),
    };
    signature.params.iter().zip(view.params()).map(one).collect()
}

/// Room for the results of a call.
pub(super) fn results(signature: &Signature) -> Vec<Val> {
    signature.result.iter().map(|_| Val::Bool(false)).collect()
}

/// The result's message.
pub(super) fn message(signature: &Signature, results: &[Val], limits: &Limits) -> Result<Bytes> {
    let mut out = Encoder::new(limits);
    out.raw(&[VERSION, 0])?;
    if let (Some(ty), [value]) = (&signature.result, results) {
        write(&mut out, ty, value)?;
    }
    Ok(out.into_bytes().into())
}

/// The elements of a flat list.
fn scalars(scalar: Scalar, bytes: &[u8]) -> Vec<Val> {
    fn all<T: Element>(bytes: &[u8], val: fn(T) -> Val) -> Vec<Val> {
        bytes.chunks_exact(T::SCALAR.width()).filter_map(T::read).map(val).collect()
    }
    match scalar {
        Scalar::Bool => all(bytes, Val::Bool),
        Scalar::S8 => all(bytes, Val::S8),
        Scalar::U8 => all(bytes, Val::U8),
        Scalar::S16 => all(bytes, Val::S16),
        Scalar::U16 => all(bytes, Val::U16),
        Scalar::S32 => all(bytes, Val::S32),
        Scalar::U32 => all(bytes, Val::U32),
        Scalar::S64 => all(bytes, Val::S64),
        Scalar::U64 => all(bytes, Val::U64),
        Scalar::F32 => all(bytes, Val::Float32),
        Scalar::F64 => all(bytes, Val::Float64),
        Scalar::Char => all(bytes, Val::Char),
    }
}

fn read(input: &mut Decoder<'_>, ty: &Type) -> Result<Val> {
    Ok(match ty {
        Type::Bool => Val::Bool(input.scalar()?),
        Type::S8 => Val::S8(input.scalar()?),
        Type::U8 => Val::U8(input.scalar()?),
        Type::S16 => Val::S16(input.scalar()?),
        Type::U16 => Val::U16(input.scalar()?),
        Type::S32 => Val::S32(input.scalar()?),
        Type::U32 => Val::U32(input.scalar()?),
        Type::S64 => Val::S64(input.scalar()?),
        Type::U64 => Val::U64(input.scalar()?),
        Type::F32 => Val::Float32(input.scalar()?),
        Type::F64 => Val::Float64(input.scalar()?),
        Type::Char => Val::Char(input.scalar()?),
        Type::String => Val::String(input.string()?.to_owned()),
        Type::List(element) => match element.scalar() {
            Some(scalar) => Val::List(scalars(scalar, input.flat(scalar)?)),
            None => Val::List(read_list(input, element)?),
        },
        Type::FixedList(element, count) => match element.scalar() {
            Some(scalar) => Val::FixedLengthList(scalars(scalar, input.elements(scalar, *count as usize)?)),
            None => Val::FixedLengthList((0..*count).map(|_| read(input, element)).collect::<Result<_>>()?),
        },
        Type::Map(pair) => {
            let count = input.count(1)?;
            Val::Map((0..count).map(|_| Ok((read(input, &pair.0)?, read(input, &pair.1)?))).collect::<Result<_>>()?)
        }
        Type::Record(fields) => {
            let field = |field: &Field| Ok((field.name.to_string(), read(input, &field.ty)?));
            Val::Record(fields.iter().map(field).collect::<Result<_>>()?)
        }
        Type::Tuple(elements) => Val::Tuple(elements.iter().map(|ty| read(input, ty)).collect::<Result<_>>()?),
        Type::Variant(cases) => {
            let case = &cases[input.case(cases.len())? as usize];
            Val::Variant(case.name.to_string(), read_payload(input, case.ty.as_ref())?)
        }
        Type::Enum(names) => Val::Enum(names[input.case(names.len())? as usize].to_string()),
        Type::Option(some) => Val::Option(if input.tag()? { Some(Box::new(read(input, some)?)) } else { None }),
        Type::Result(types) => Val::Result(if input.tag()? {
            Err(read_payload(input, types.err.as_ref())?)
        } else {
            Ok(read_payload(input, types.ok.as_ref())?)
        }),
        Type::Flags(names) => {
            let bits = input.flags(names.len())?;
            Val::Flags(set_names(names, bits).collect())
        }
        Type::Own(_) | Type::Borrow(_) | Type::Stream(_) | Type::Future(_) | Type::ErrorContext | Type::Elided => {
            return Err(not_a_value(ty));
        }
    })
}

fn read_list(input: &mut Decoder<'_>, element: &Type) -> Result<Vec<Val>> {
    let count = input.count(1)?;
    (0..count).map(|_| read(input, element)).collect()
}

fn read_payload(input: &mut Decoder<'_>, ty: Option<&Type>) -> Result<Option<Box<Val>>> {
    ty.map(|ty| read(input, ty).map(Box::new)).transpose()
}

fn set_names(names: &[Label], bits: u32) -> impl Iterator<Item = String> {
    names.iter().enumerate().filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| name.to_string())
}

fn not_a_value(ty: &Type) -> Error {
    Error::internal(format!("a `{ty}` cannot cross the engine's edge as a value"))
}

fn write(out: &mut Encoder, ty: &Type, value: &Val) -> Result<()> {
    match (ty, value) {
        (Type::Bool, Val::Bool(value)) => out.scalar(*value),
        (Type::S8, Val::S8(value)) => out.scalar(*value),
        (Type::U8, Val::U8(value)) => out.scalar(*value),
        (Type::S16, Val::S16(value)) => out.scalar(*value),
        (Type::U16, Val::U16(value)) => out.scalar(*value),
        (Type::S32, Val::S32(value)) => out.scalar(*value),
        (Type::U32, Val::U32(value)) => out.scalar(*value),
        (Type::S64, Val::S64(value)) => out.scalar(*value),
        (Type::U64, Val::U64(value)) => out.scalar(*value),
        (Type::F32, Val::Float32(value)) => out.scalar(*value),
        (Type::F64, Val::Float64(value)) => out.scalar(*value),
        (Type::Char, Val::Char(value)) => out.scalar(*value),
        (Type::String, Val::String(value)) => out.string(value),
        (Type::List(element), Val::List(values)) => {
            out.leb128(values.len())?;
            values.iter().try_for_each(|value| write(out, element, value))
        }
        (Type::FixedList(element, _), Val::FixedLengthList(values)) => values.iter().try_for_each(|value| write(out, element, value)),
        (Type::Map(pair), Val::Map(pairs)) => {
            out.leb128(pairs.len())?;
            pairs.iter().try_for_each(|(key, value)| write(out, &pair.0, key).and_then(|()| write(out, &pair.1, value)))
        }
        (Type::Record(fields), Val::Record(values)) => {
            fields.iter().zip(values).try_for_each(|(field, (_, value))| write(out, &field.ty, value))
        }
        (Type::Tuple(elements), Val::Tuple(values)) => elements.iter().zip(values).try_for_each(|(ty, value)| write(out, ty, value)),
        (Type::Variant(cases), Val::Variant(name, payload)) => {
            let number = position(cases.iter().map(|case| &case.name), name, ty)?;
            out.leb128(number)?;
            write_payload(out, cases[number].ty.as_ref(), payload.as_deref())
        }
        (Type::Enum(names), Val::Enum(name)) => out.leb128(position(names.iter(), name, ty)?),
        (Type::Option(some), Val::Option(value)) => {
            out.tag(value.is_some())?;
            write_payload(out, Some(some), value.as_deref())
        }
        (Type::Result(types), Val::Result(value)) => {
            out.tag(value.is_err())?;
            match value {
                Ok(payload) => write_payload(out, types.ok.as_ref(), payload.as_deref()),
                Err(payload) => write_payload(out, types.err.as_ref(), payload.as_deref()),
            }
        }
        (Type::Flags(names), Val::Flags(set)) => {
            let bits = set.iter().try_fold(0, |bits, name| position(names.iter(), name, ty).map(|bit| bits | 1u32 << bit))?;
            out.flags(names.len(), bits)
        }
        _ => Err(not_a_value(ty)),
    }
}

fn write_payload(out: &mut Encoder, ty: Option<&Type>, value: Option<&Val>) -> Result<()> {
    ty.zip(value).map_or(Ok(()), |(ty, value)| write(out, ty, value))
}

/// The number of a case or flag. wasmtime names what it lifts, so a name that is not there is a bug.
fn position<'a>(mut names: impl Iterator<Item = &'a Label>, name: &str, ty: &Type) -> Result<usize> {
    names.position(|known| known.as_str() == name).ok_or_else(|| Error::internal(format!("`{ty}` has no case `{name}`")))
}
