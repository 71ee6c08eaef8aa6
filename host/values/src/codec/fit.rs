//! Walks a value along its type: the one place that says which values fit, which both writes them and, with an encoder that only
//! counts, checks them.

use super::{Encoder, Limits};
use crate::{
    Case, Flat, Ref, Resource, ResultType, Type, Value,
    fault::{Fault, Fit, Step},
};

/// Checks a value without writing it, and says how many bytes it takes.
pub(crate) fn measure(ty: &Type, value: &Value, refs: &[Ref], limits: &Limits) -> Fit<usize> {
    let mut encoder = Encoder::counting(limits);
    encoder.fit(ty, value, refs)?;
    Ok(encoder.len())
}

impl Encoder {
    /// Writes a value if it fits.
    pub(crate) fn fit(&mut self, ty: &Type, value: &Value, refs: &[Ref]) -> Fit<()> {
        match (ty, value) {
            (Type::Bool, Value::Bool(v)) => self.scalar(*v)?,
            (Type::S8, Value::S8(v)) => self.scalar(*v)?,
            (Type::U8, Value::U8(v)) => self.scalar(*v)?,
            (Type::S16, Value::S16(v)) => self.scalar(*v)?,
            (Type::U16, Value::U16(v)) => self.scalar(*v)?,
            (Type::S32, Value::S32(v)) => self.scalar(*v)?,
            (Type::U32, Value::U32(v)) => self.scalar(*v)?,
            (Type::S64, Value::S64(v)) => self.scalar(*v)?,
            (Type::U64, Value::U64(v)) => self.scalar(*v)?,
            (Type::F32, Value::F32(v)) => self.scalar(*v)?,
            (Type::F64, Value::F64(v)) => self.scalar(*v)?,
            (Type::Char, Value::Char(v)) => self.scalar(*v)?,
            (Type::String, Value::String(text)) => self.string(text)?,
            (Type::List(element), Value::Flat(flat)) => {
                same_element(ty, element, flat)?;
                self.flat(flat.scalar(), flat.bytes())?;
            }
            (Type::FixedList(element, length), Value::Flat(flat)) => {
                same_length(ty, *length as usize, flat.len())?;
                same_element(ty, element, flat)?;
                self.raw(flat.bytes())?;
            }
            (Type::List(element) | Type::FixedList(element, _), Value::List(_)) if element.scalar().is_some() => {
                return Err(Fault::ty(ty, "a list that is not flat"));
            }
            (Type::List(element), Value::List(values)) => {
                self.leb128(values.len())?;
                each(values, |value| self.fit(element, value, refs))?;
            }
            (Type::FixedList(element, length), Value::List(values)) => {
                same_length(ty, *length as usize, values.len())?;
                each(values, |value| self.fit(element, value, refs))?;
            }
            (Type::Map(pair), Value::Map(pairs)) => {
                self.leb128(pairs.len())?;
                each(pairs, |(key, value)| {
                    self.fit(&pair.0, key, refs).map_err(|fault| fault.at(Step::Word("key")))?;
                    self.fit(&pair.1, value, refs).map_err(|fault| fault.at(Step::Word("value")))
                })?;
            }
            (Type::Option(some), Value::Option(payload)) => {
                self.tag(payload.is_some())?;
                payload.as_deref().map_or(Ok(()), |value| self.fit(some, value, refs))?;
            }
            (Type::Flags(names), Value::Flags(bits)) => {
                check_flags(ty, names.len(), *bits)?;
                self.flags(names.len(), *bits)?;
            }
            (Type::Own(resource) | Type::Borrow(resource), Value::Handle(index)) => {
                check_handle(ty, resource, *index, refs)?;
                self.leb128(*index as usize)?;
            }
            _ => self.fit_parts(ty, value, refs)?,
        }
        Ok(())
    }

    /// Writes a value of a type with named or numbered parts.
    fn fit_parts(&mut self, ty: &Type, value: &Value, refs: &[Ref]) -> Fit<()> {
        match (ty, value) {
            (Type::Record(fields), Value::Record(values)) => {
                same_length(ty, fields.len(), values.len())?;
                let mut parts = fields.iter().zip(values);
                parts.try_for_each(|(field, value)| {
                    self.fit(&field.ty, value, refs).map_err(|fault| fault.at(Step::Name(field.name.clone())))
                })
            }
            (Type::Tuple(types), Value::Tuple(values)) => {
                same_length(ty, types.len(), values.len())?;
                let mut parts = types.iter().zip(values).enumerate();
                parts.try_for_each(|(index, (ty, value))| self.fit(ty, value, refs).map_err(|fault| fault.at(Step::Index(index))))
            }
            (Type::Variant(cases), Value::Variant(number, payload)) => {
                let Some(Case { name, ty: case }) = cases.get(*number as usize) else {
                    return Err(Fault::ty(ty, format_args!("case {number}")));
                };
                self.leb128(*number as usize)?;
                self.payload(ty, case.as_ref(), payload.as_deref(), refs).map_err(|fault| fault.at(Step::Name(name.clone())))
            }
            (Type::Enum(names), Value::Enum(number)) if (*number as usize) < names.len() => Ok(self.leb128(*number as usize)?),
            (Type::Enum(_), Value::Enum(number)) => Err(Fault::ty(ty, format_args!("case {number}"))),
            (Type::Result(result), Value::Result(value)) => self.result(ty, result, value, refs),
            _ if !ty.is_storable() => Err(Fault::says(ty, value.kind(), format!("is `{ty}`, whose values cannot be passed"))),
            _ => Err(Fault::ty(ty, value.kind())),
        }
    }

    fn result(&mut self, ty: &Type, result: &ResultType, value: &Result<Option<Box<Value>>, Option<Box<Value>>>, refs: &[Ref]) -> Fit<()> {
        self.tag(value.is_err())?;
        let (word, case, payload) = match value {
            Ok(payload) => ("ok", &result.ok, payload),
            Err(payload) => ("err", &result.err, payload),
        };
        self.payload(ty, case.as_ref(), payload.as_deref(), refs).map_err(|fault| fault.at(Step::Word(word)))
    }

    fn payload(&mut self, ty: &Type, case: Option<&Type>, payload: Option<&Value>, refs: &[Ref]) -> Fit<()> {
        match (case, payload) {
            (None, None) => Ok(()),
            (Some(case), Some(payload)) => self.fit(case, payload, refs),
            (Some(case), None) => Err(Fault::ty(case, "nothing")),
            (None, Some(payload)) => Err(Fault::says(ty, payload.kind(), format!("takes no payload, but {} was given", payload.kind()))),
        }
    }
}

fn each<T>(values: &[T], mut part: impl FnMut(&T) -> Fit<()>) -> Fit<()> {
    let mut values = values.iter().enumerate();
    values.try_for_each(|(index, value)| part(value).map_err(|fault| fault.at(Step::Index(index))))
}

fn same_element(ty: &Type, element: &Type, flat: &Flat) -> Fit<()> {
    if element.scalar() == Some(flat.scalar()) {
        return Ok(());
    }
    Err(Fault::ty(ty, Type::list(flat.scalar().into())))
}

/// Checks the number of parts, where it is fixed.
pub(crate) fn same_length(ty: &Type, expected: impl Into<Option<usize>>, given: usize) -> Fit<()> {
    match expected.into() {
        Some(expected) if expected != given => Err(Fault::says(ty, given, format!("must have {expected} parts, but has {given}"))),
        _ => Ok(()),
    }
}

/// Checks that only bits of flags are set.
fn check_flags(ty: &Type, names: usize, bits: u32) -> Fit<()> {
    match unused_flags(names, bits) {
        0 => Ok(()),
        unused => Err(Fault::ty(ty, format_args!("flag {}", unused.trailing_zeros()))),
    }
}

/// The bits that stand for no flag.
pub(crate) fn unused_flags(names: usize, bits: u32) -> u32 {
    u32::try_from(names).ok().and_then(|names| u32::MAX.checked_shl(names)).unwrap_or(0) & bits
}

/// Checks a handle: an object's points at an object, any other at an actor.
fn check_handle(ty: &Type, resource: &Resource, index: u32, refs: &[Ref]) -> Fit<()> {
    match refs.get(index as usize) {
        Some(entry) if resource.takes(*entry) => Ok(()),
        Some(entry) => Err(Fault::ty(ty, entry)),
        None => Err(Fault::ty(ty, "a handle that is not in the table")),
    }
}
