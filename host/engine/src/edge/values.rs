//! Calls of any shape, through wasmtime's dynamic values: straight from the codec into those values and back, following the type. Handles of
//! objects are made where a value has them, and taken back where a result does.

use bytes::Bytes;
use rwasm_types::{Error, Result};
use rwasm_values::{
    Element, Field, Label, Ref, Resource, Scalar, Signature, Type,
    codec::{ArgView, ArgsView, Decoder, Encoder, Limits, Payload, RefsView, VERSION},
};
use wasmtime::{
    StoreContextMut,
    component::{ResourceAny, Val},
};

use crate::{objects::Handles, store::Host};

/// The parameters of a call.
pub(super) fn params(signature: &Signature, view: &ArgsView<'_>, cx: &mut StoreContextMut<'_, Host>) -> Result<Vec<Val>> {
    let limits = Limits::default();
    let one = |(param, arg): (&rwasm_values::Param, &ArgView<'_>)| match arg {
        ArgView::Inline(Payload::Text(text)) => Ok(Val::String((*text).to_owned())),
        ArgView::Inline(Payload::Flat(scalar, bytes)) => Ok(Val::List(scalars(*scalar, bytes))),
        ArgView::Inline(Payload::Encoded(bytes)) => {
            Reader { input: Decoder::new(bytes, view.refs(), &limits), refs: view.refs(), cx: &mut *cx }.read(&param.ty)
        }
        ArgView::Ref(_) => Err(Error::internal("an argument was given by ref and not resolved")),
    };
    signature.params.iter().zip(view.params()).map(one).collect()
}

/// Room for the results of a call.
pub(super) fn results(signature: &Signature) -> Vec<Val> {
    signature.result.iter().map(|_| Val::Bool(false)).collect()
}

/// Takes the resource out of a result that is one, or is the success of a `result`; what is left of that has no payload.
pub(super) fn take_resource(result: &mut Val) -> Option<ResourceAny> {
    match result {
        Val::Resource(made) => Some(*made),
        Val::Result(Ok(payload)) => match payload.take().as_deref() {
            Some(Val::Resource(made)) => Some(*made),
            _ => None,
        },
        _ => None,
    }
}

/// The result's message. What it refers to is kept by [`Handles::returned`].
pub(super) fn message(signature: &Signature, results: &[Val], limits: &Limits, cx: &mut StoreContextMut<'_, Host>) -> Result<Bytes> {
    let mut out = Encoder::new(limits);
    out.raw(&WITHOUT_REFS)?;
    if let (Some(ty), [value]) = (&signature.result, results) {
        write(&mut out, ty, value, cx)?;
    }
    let message = out.into_bytes();
    let refs: Vec<Ref> = cx.data().returned().map(Ref::Object).collect();
    if refs.is_empty() {
        return Ok(message.into());
    }
    let mut out = Encoder::with_capacity(message.len() + 5 + refs.len() * Ref::BYTES, limits);
    out.raw(&[VERSION])?;
    out.leb128(refs.len())?;
    refs.iter().try_for_each(|entry| out.raw(&entry.to_bytes()))?;
    out.raw(&message[WITHOUT_REFS.len()..])?;
    Ok(out.into_bytes().into())
}

/// What a result without refs begins with.
const WITHOUT_REFS: [u8; 2] = [VERSION, 0];

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

/// A value that is read from its message.
struct Reader<'m, 'a, 's> {
    input: Decoder<'m>,
    refs: RefsView<'m>,
    cx: &'a mut StoreContextMut<'s, Host>,
}

impl Reader<'_, '_, '_> {
    fn read(&mut self, ty: &Type) -> Result<Val> {
        let Self { input, .. } = self;
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
                None => Val::List(self.read_list(element)?),
            },
            Type::FixedList(element, count) => match element.scalar() {
                Some(scalar) => Val::FixedLengthList(scalars(scalar, input.elements(scalar, *count as usize)?)),
                None => Val::FixedLengthList((0..*count).map(|_| self.read(element)).collect::<Result<_>>()?),
            },
            Type::Map(pair) => {
                let count = input.count(1)?;
                Val::Map((0..count).map(|_| Ok((self.read(&pair.0)?, self.read(&pair.1)?))).collect::<Result<_>>()?)
            }
            Type::Record(fields) => {
                let field = |field: &Field| Ok((field.name.to_string(), self.read(&field.ty)?));
                Val::Record(fields.iter().map(field).collect::<Result<_>>()?)
            }
            Type::Tuple(elements) => Val::Tuple(elements.iter().map(|ty| self.read(ty)).collect::<Result<_>>()?),
            Type::Variant(cases) => {
                let case = &cases[input.case(cases.len())? as usize];
                Val::Variant(case.name.to_string(), self.read_payload(case.ty.as_ref())?)
            }
            Type::Enum(names) => Val::Enum(names[input.case(names.len())? as usize].to_string()),
            Type::Option(some) => Val::Option(if input.tag()? { Some(Box::new(self.read(some)?)) } else { None }),
            Type::Result(types) => Val::Result(if input.tag()? {
                Err(self.read_payload(types.err.as_ref())?)
            } else {
                Ok(self.read_payload(types.ok.as_ref())?)
            }),
            Type::Flags(names) => {
                let bits = input.flags(names.len())?;
                Val::Flags(set_names(names, bits).collect())
            }
            Type::Own(Resource::Object) | Type::Borrow(Resource::Object) => {
                let index = input.handle(&Resource::Object)?;
                match self.refs.get(index) {
                    Some(Ref::Object(id)) => Val::Resource(Handles::enter(self.cx, id)?),
                    _ => return Err(Error::internal("a handle that was checked points at no object")),
                }
            }
            Type::Own(Resource::Named(_))
            | Type::Borrow(Resource::Named(_))
            | Type::Stream(_)
            | Type::Future(_)
            | Type::ErrorContext
            | Type::Elided => {
                return Err(not_a_value(ty));
            }
        })
    }

    fn read_list(&mut self, element: &Type) -> Result<Vec<Val>> {
        let count = self.input.count(1)?;
        (0..count).map(|_| self.read(element)).collect()
    }

    fn read_payload(&mut self, ty: Option<&Type>) -> Result<Option<Box<Val>>> {
        ty.map(|ty| self.read(ty).map(Box::new)).transpose()
    }
}

fn set_names(names: &[Label], bits: u32) -> impl Iterator<Item = String> {
    names.iter().enumerate().filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| name.to_string())
}

fn not_a_value(ty: &Type) -> Error {
    Error::internal(format!("a `{ty}` cannot cross the engine's edge as a value"))
}

fn write(out: &mut Encoder, ty: &Type, value: &Val, cx: &mut StoreContextMut<'_, Host>) -> Result<()> {
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
            values.iter().try_for_each(|value| write(out, element, value, cx))
        }
        (Type::FixedList(element, _), Val::FixedLengthList(values)) => values.iter().try_for_each(|value| write(out, element, value, cx)),
        (Type::Map(pair), Val::Map(pairs)) => {
            out.leb128(pairs.len())?;
            pairs.iter().try_for_each(|(key, value)| write(out, &pair.0, key, cx).and_then(|()| write(out, &pair.1, value, cx)))
        }
        (Type::Record(fields), Val::Record(values)) => {
            fields.iter().zip(values).try_for_each(|(field, (_, value))| write(out, &field.ty, value, cx))
        }
        (Type::Tuple(elements), Val::Tuple(values)) => elements.iter().zip(values).try_for_each(|(ty, value)| write(out, ty, value, cx)),
        (Type::Variant(cases), Val::Variant(name, payload)) => {
            let number = position(cases.iter().map(|case| &case.name), name, ty)?;
            out.leb128(number)?;
            write_payload(out, cases[number].ty.as_ref(), payload.as_deref(), cx)
        }
        (Type::Enum(names), Val::Enum(name)) => out.leb128(position(names.iter(), name, ty)?),
        (Type::Option(some), Val::Option(value)) => {
            out.tag(value.is_some())?;
            write_payload(out, Some(some), value.as_deref(), cx)
        }
        (Type::Result(types), Val::Result(value)) => {
            out.tag(value.is_err())?;
            match value {
                Ok(payload) => write_payload(out, types.ok.as_ref(), payload.as_deref(), cx),
                Err(payload) => write_payload(out, types.err.as_ref(), payload.as_deref(), cx),
            }
        }
        (Type::Own(Resource::Object), Val::Resource(handle)) => {
            let index = Handles::leave(cx, *handle)?;
            out.leb128(index as usize)
        }
        (Type::Flags(names), Val::Flags(set)) => {
            let bits = set.iter().try_fold(0, |bits, name| position(names.iter(), name, ty).map(|bit| bits | 1u32 << bit))?;
            out.flags(names.len(), bits)
        }
        _ => Err(not_a_value(ty)),
    }
}

fn write_payload(out: &mut Encoder, ty: Option<&Type>, value: Option<&Val>, cx: &mut StoreContextMut<'_, Host>) -> Result<()> {
    ty.zip(value).map_or(Ok(()), |(ty, value)| write(out, ty, value, cx))
}

/// The number of a case or flag. wasmtime names what it lifts, so a name that is not there is a bug.
fn position<'a>(mut names: impl Iterator<Item = &'a Label>, name: &str, ty: &Type) -> Result<usize> {
    names.position(|known| known.as_str() == name).ok_or_else(|| Error::internal(format!("`{ty}` has no case `{name}`")))
}
