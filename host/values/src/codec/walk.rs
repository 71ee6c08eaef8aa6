//! Reads whole values along their type: into a [`Value`], or past it, when only its place and its soundness matter.

use rwasm_types::{Code, Error};

use super::Decoder;
use crate::{Element, Type, Value};

impl Decoder<'_> {
    /// Reads a whole value.
    ///
    /// # Errors
    ///
    /// As all methods of [`Decoder`], or [`Code::VALUE_TOO_LARGE`] if it has more parts than the limit.
    pub fn value(&mut self, ty: &Type) -> Result<Value, Error> {
        self.take_part()?;
        Ok(match ty {
            Type::Bool => self.read(Value::Bool)?,
            Type::S8 => self.read(Value::S8)?,
            Type::U8 => self.read(Value::U8)?,
            Type::S16 => self.read(Value::S16)?,
            Type::U16 => self.read(Value::U16)?,
            Type::S32 => self.read(Value::S32)?,
            Type::U32 => self.read(Value::U32)?,
            Type::S64 => self.read(Value::S64)?,
            Type::U64 => self.read(Value::U64)?,
            Type::F32 => self.read(Value::F32)?,
            Type::F64 => self.read(Value::F64)?,
            Type::Char => self.read(Value::Char)?,
            Type::String => Value::String(self.string()?.to_owned()),
            Type::List(element) => match element.scalar() {
                Some(scalar) => {
                    let bytes = self.flat(scalar)?;
                    self.buffer(scalar, bytes)
                }
                None => {
                    let count = self.count(1)?;
                    Value::List(self.many(count, |this| this.value(element))?)
                }
            },
            Type::FixedList(element, length) => match element.scalar() {
                Some(scalar) => {
                    let bytes = self.elements(scalar, *length as usize)?;
                    self.buffer(scalar, bytes)
                }
                None => Value::List(self.many(*length as usize, |this| this.value(element))?),
            },
            Type::Map(pair) => {
                let count = self.count(2)?;
                Value::Map(self.many(count, |this| Ok((this.value(&pair.0)?, this.value(&pair.1)?)))?)
            }
            Type::Record(fields) => Value::Record(fields.iter().map(|field| self.value(&field.ty)).collect::<Result<_, _>>()?),
            Type::Tuple(types) => Value::Tuple(types.iter().map(|ty| self.value(ty)).collect::<Result<_, _>>()?),
            Type::Variant(cases) => {
                let number = self.case(cases.len())?;
                Value::Variant(number, self.maybe(cases[number as usize].ty.as_ref())?)
            }
            Type::Enum(names) => Value::Enum(self.case(names.len())?),
            Type::Option(some) => Value::Option(if self.tag()? { self.maybe(Some(some))? } else { None }),
            Type::Result(result) if self.tag()? => Value::Result(Err(self.maybe(result.err.as_ref())?)),
            Type::Result(result) => Value::Result(Ok(self.maybe(result.ok.as_ref())?)),
            Type::Flags(names) => Value::Flags(self.flags(names.len())?),
            Type::Own(resource) | Type::Borrow(resource) => Value::Handle(self.handle(resource)?),
            Type::Stream(_) | Type::Future(_) | Type::ErrorContext | Type::Elided => return Err(not_storable(ty)),
        })
    }

    /// Reads past a whole value, which is checked as [`Decoder::value`] does. Nothing is allocated.
    ///
    /// # Errors
    ///
    /// As all methods of [`Decoder`].
    pub fn skip(&mut self, ty: &Type) -> Result<(), Error> {
        match ty {
            Type::Bool => self.read(drop::<bool>),
            Type::Char => self.read(drop::<char>),
            Type::String => self.string().map(drop),
            Type::List(element) => match element.scalar() {
                Some(scalar) => self.flat(scalar).map(drop),
                None => {
                    let count = self.count(1)?;
                    (0..count).try_for_each(|_| self.skip(element))
                }
            },
            Type::FixedList(element, length) => match element.scalar() {
                Some(scalar) => self.elements(scalar, *length as usize).map(drop),
                None => (0..*length).try_for_each(|_| self.skip(element)),
            },
            Type::Map(pair) => {
                let count = self.count(2)?;
                (0..count).try_for_each(|_| self.skip(&pair.0).and_then(|()| self.skip(&pair.1)))
            }
            Type::Record(fields) => fields.iter().try_for_each(|field| self.skip(&field.ty)),
            Type::Tuple(types) => types.iter().try_for_each(|ty| self.skip(ty)),
            Type::Variant(cases) => {
                let number = self.case(cases.len())?;
                cases[number as usize].ty.iter().try_for_each(|ty| self.skip(ty))
            }
            Type::Enum(names) => self.case(names.len()).map(drop),
            Type::Option(some) => {
                if self.tag()? {
                    self.skip(some)
                } else {
                    Ok(())
                }
            }
            Type::Result(result) => {
                let payload = if self.tag()? { &result.err } else { &result.ok };
                payload.iter().try_for_each(|ty| self.skip(ty))
            }
            Type::Flags(names) => self.flags(names.len()).map(drop),
            Type::Own(resource) | Type::Borrow(resource) => self.handle(resource).map(drop),
            Type::Stream(_) | Type::Future(_) | Type::ErrorContext | Type::Elided => Err(not_storable(ty)),
            // Numbers: every pattern of bits is a value.
            _ => self.raw(ty.scalar().map_or(0, |scalar| scalar.width())).map(drop),
        }
    }

    fn read<T: Element, V>(&mut self, make: impl FnOnce(T) -> V) -> Result<V, Error> {
        self.scalar().map(make)
    }

    fn maybe(&mut self, ty: Option<&Type>) -> Result<Option<Box<Value>>, Error> {
        ty.map(|ty| self.value(ty).map(Box::new)).transpose()
    }

    /// Reads so many parts. Memory grows with what was read, whatever the count says.
    fn many<T>(&mut self, count: usize, mut part: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        let mut parts = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            parts.push(part(self)?);
        }
        Ok(parts)
    }
}

fn not_storable(ty: &Type) -> Error {
    Error::new(Code::WRONG_TYPE, format!("values of `{ty}` cannot be passed")).with("expected", ty)
}
