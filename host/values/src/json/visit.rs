//! Reads one value of a type from a parser, token by token.
//!
//! A visitor can only fail with the parser's kind of error. So what does not fit is kept in the [`Context`], where it gains its path on
//! the way out, and is taken from there at the end.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as ParserError, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    REF_KEY,
    scalar::{self, Number},
    write::is_nullable,
};
use crate::{
    Case, Field, Flat, Ref, Type, Value,
    check::by_ref,
    codec::{Limits, same_length},
    fault::{Fault, Fit, Step, one_line},
    index::NameIndex,
    refs::RefTable,
};

/// What all values of one text share.
#[derive(Debug)]
pub(super) struct Context<'t> {
    pub(super) table: RefTable,
    names: NameIndex<'t>,
    parts_left: usize,
    /// Why reading stopped, if it was not for the syntax.
    pub(super) fault: Option<Box<Fault>>,
    /// The index of the ref that the last whole argument was given by. The value that was read is of no account then.
    pub(super) by_ref: Option<u32>,
}

impl<'t> Context<'t> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { table: RefTable::default(), names: NameIndex::default(), parts_left: limits.parts, fault: None, by_ref: None }
    }

    /// What fits, or an error for the parser, with the reason kept.
    pub(super) fn keep<T, E: ParserError>(&mut self, fit: Fit<T>) -> Result<T, E> {
        fit.map_err(|fault| {
            self.fault = Some(fault);
            E::custom("the value does not fit")
        })
    }

    /// Adds a step to what was kept.
    fn step<T, E>(&mut self, result: Result<T, E>, step: impl FnOnce() -> Step) -> Result<T, E> {
        if result.is_err() {
            self.fault = self.fault.take().map(|fault| fault.at(step()));
        }
        result
    }
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is a whole argument, which can be given by ref.
    Whole,
    /// It is part of another.
    Part,
    /// It is an element of a flat list, and so no part of its own.
    Element,
}

/// Reads a value.
pub(super) struct Seed<'c, 't> {
    pub(super) context: &'c mut Context<'t>,
    pub(super) ty: &'t Type,
    pub(super) place: Place,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        if self.place != Place::Element {
            let part = Limits::take_part(&mut self.context.parts_left).map_err(Box::from);
            self.context.keep(part)?;
        }
        if matches!(self.ty, Type::Option(_)) { input.deserialize_option(self) } else { input.deserialize_any(self) }
    }
}

impl<'t> Seed<'_, 't> {
    fn part(&mut self, ty: &'t Type) -> Seed<'_, 't> {
        Seed { context: self.context, ty, place: Place::Part }
    }

    fn keep<E: ParserError>(self, fit: Fit<Value>) -> Result<Value, E> {
        self.context.keep(fit)
    }

    fn unfit<E: ParserError>(self, given: impl fmt::Display) -> Result<Value, E> {
        let fault = Fault::ty(self.ty, given);
        self.context.keep(Err(fault))
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", self.ty)
    }

    fn visit_none<E: ParserError>(self) -> Result<Value, E> {
        Ok(Value::none())
    }

    fn visit_some<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        match self.ty {
            Type::Option(some) if !is_nullable(some) => Seed { ty: some, ..self }.deserialize(input).map(Value::some),
            _ => input.deserialize_any(self),
        }
    }

    fn visit_unit<E: ParserError>(self) -> Result<Value, E> {
        self.unfit("`null`")
    }

    fn visit_bool<E: ParserError>(self, given: bool) -> Result<Value, E> {
        if *self.ty == Type::Bool { Ok(Value::Bool(given)) } else { self.unfit(format_args!("`{given}`")) }
    }

    fn visit_u64<E: ParserError>(self, given: u64) -> Result<Value, E> {
        let fit = scalar::number(self.ty, Number::Whole(given.into()));
        self.keep(fit)
    }

    fn visit_i64<E: ParserError>(self, given: i64) -> Result<Value, E> {
        let fit = scalar::number(self.ty, Number::Whole(given.into()));
        self.keep(fit)
    }

    fn visit_f64<E: ParserError>(self, given: f64) -> Result<Value, E> {
        let fit = scalar::number(self.ty, Number::Float(given));
        self.keep(fit)
    }

    fn visit_str<E: ParserError>(self, given: &str) -> Result<Value, E> {
        let ty = self.ty;
        let unfit = || Fault::ty(ty, format_args!("{given:?}"));
        let fit = match ty {
            Type::Enum(names) => self.context.names.find(names, given).map(Value::Enum).ok_or_else(unfit),
            Type::Variant(cases) => match self.context.names.find(cases, given) {
                Some(number) if cases[number as usize].ty.is_none() => Ok(Value::Variant(number, None)),
                Some(_) => Err(Fault::says(ty, given, format!("is the case `{given}`, which has a payload: write `{{\"{given}\": …}}`"))),
                None => Err(unfit()),
            },
            _ => scalar::text(ty, given),
        };
        self.keep(fit)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, input: A) -> Result<Value, A::Error> {
        match self.ty {
            Type::List(element) => self.list(input, element, None),
            Type::FixedList(element, length) => self.list(input, element, Some(*length as usize)),
            Type::Tuple(types) => self.tuple(input, types.iter()).map(Value::Tuple),
            Type::Map(pair) => self.pairs(input, pair),
            Type::Flags(_) => self.flags(input),
            _ => self.unfit("an array"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut input: A) -> Result<Value, A::Error> {
        let key: Option<String> = input.next_key()?;
        if key.as_deref() == Some(REF_KEY) {
            return self.reference(input);
        }
        match (self.ty, key) {
            (Type::Record(fields), key) => self.record(input, fields, key),
            (Type::Map(pair), key) if pair.0 == Type::String => self.map(input, &pair.1, key),
            (Type::Variant(cases), Some(key)) => self.variant(input, cases, &key),
            (Type::Result(result), Some(key)) => {
                let payload = |this: &mut Self, input: &mut A, ty, step| this.payload(input, ty, Step::Word(step));
                let value = match &*key {
                    "ok" => Value::Result(Ok(payload(&mut self, &mut input, result.ok.as_ref(), "ok")?)),
                    "err" => Value::Result(Err(payload(&mut self, &mut input, result.err.as_ref(), "err")?)),
                    _ => return self.unfit(format_args!("an object with the key {key:?}")),
                };
                self.end(input, value)
            }
            (Type::Option(some), Some(key)) if key == "some" => {
                let payload = input.next_value_seed(self.part(some))?;
                self.end(input, Value::some(payload))
            }
            _ => self.unfit("an object"),
        }
    }
}

impl<'t> Seed<'_, 't> {
    fn list<'de, A: SeqAccess<'de>>(self, mut input: A, element: &'t Type, length: Option<usize>) -> Result<Value, A::Error> {
        let context = self.context;
        let (mut bytes, mut values, mut count) = (Vec::new(), Vec::new(), 0);
        let scalar = element.scalar();
        let place = if scalar.is_some() { Place::Element } else { Place::Part };
        loop {
            let next = input.next_element_seed(Seed { context, ty: element, place });
            let Some(value) = context.step(next, || Step::Index(count))? else { break };
            count += 1;
            match scalar {
                Some(_) => value.write_scalar(&mut bytes),
                None => values.push(value),
            }
        }
        context.keep(same_length(self.ty, length, count))?;
        Ok(scalar.map_or(Value::List(values), |scalar| Value::Flat(Flat::trusted(scalar, bytes.into()))))
    }

    fn tuple<'de, A: SeqAccess<'de>>(self, mut input: A, types: impl ExactSizeIterator<Item = &'t Type>) -> Result<Vec<Value>, A::Error> {
        let (context, expected) = (self.context, types.len());
        let mut values = Vec::with_capacity(expected);
        for (index, ty) in types.enumerate() {
            let next = input.next_element_seed(Seed { context, ty, place: Place::Part });
            match context.step(next, || Step::Index(index))? {
                Some(value) => values.push(value),
                None => context.keep(same_length(self.ty, expected, index))?,
            }
        }
        let mut given = expected;
        while input.next_element::<IgnoredAny>()?.is_some() {
            given += 1;
        }
        context.keep(same_length(self.ty, expected, given))?;
        Ok(values)
    }

    fn pairs<'de, A: SeqAccess<'de>>(self, mut input: A, pair: &'t (Type, Type)) -> Result<Value, A::Error> {
        let (context, mut pairs) = (self.context, Vec::new());
        loop {
            let next = input.next_element_seed(Pair { context, ty: self.ty, pair });
            match context.step(next, || Step::Index(pairs.len()))? {
                Some(pair) => pairs.push(pair),
                None => return Ok(Value::Map(pairs)),
            }
        }
    }

    fn flags<'de, A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let Self { context, ty, .. } = self;
        let Type::Flags(names) = ty else { return context.keep(Err(Fault::ty(ty, "an array"))) };
        let (mut bits, mut index) = (0, 0);
        loop {
            let next = input.next_element_seed(Seed { context, ty: &Type::String, place: Place::Element });
            let Some(Value::String(name)) = context.step(next, || Step::Index(index))? else { return Ok(Value::Flags(bits)) };
            index += 1;
            let bit = match context.names.find(names, &name) {
                Some(number) if bits >> number & 1 == 0 => Ok(1 << number),
                Some(_) => Err(Fault::says(ty, &name, format!("has the flag `{name}` twice"))),
                None => Err(Fault::ty(ty, format_args!("{name:?}"))),
            };
            bits |= context.keep::<u32, A::Error>(bit)?;
        }
    }

    fn record<'de, A: MapAccess<'de>>(self, mut input: A, fields: &'t [Field], first: Option<String>) -> Result<Value, A::Error> {
        let Self { context, ty, .. } = self;
        let mut values = vec![None; fields.len()];
        let mut key = first;
        while let Some(name) = key {
            let number = context.names.find(fields, &name).ok_or_else(|| Fault::unknown_field(ty, &name));
            let number = context.keep::<u32, A::Error>(number)? as usize;
            if values[number].is_some() {
                return context.keep(Err(Fault::says(ty, &name, format!("has the field `{name}` twice"))));
            }
            let field = &fields[number];
            let value = input.next_value_seed(Seed { context, ty: &field.ty, place: Place::Part });
            values[number] = Some(context.step(value, || Step::Name(field.name.clone()))?);
            key = input.next_key()?;
        }
        context.keep(Value::record(ty, fields, values))
    }

    fn map<'de, A: MapAccess<'de>>(self, mut input: A, value: &'t Type, first: Option<String>) -> Result<Value, A::Error> {
        let Self { context, ty, .. } = self;
        let (mut pairs, mut seen) = (Vec::new(), HashSet::new());
        let mut key = first;
        while let Some(name) = key {
            if name == REF_KEY || !seen.insert(name.clone()) {
                return context.keep(Err(Fault::says(ty, &name, format!("has the key {name:?} twice, or where it means a ref"))));
            }
            let value = input.next_value_seed(Seed { context, ty: value, place: Place::Part });
            let value = context.step(value, || Step::Word("value"));
            let value = context.step(value, || Step::Index(pairs.len()))?;
            pairs.push((Value::String(name), value));
            key = input.next_key()?;
        }
        Ok(Value::Map(pairs))
    }

    fn variant<'de, A: MapAccess<'de>>(mut self, mut input: A, cases: &'t [Case], key: &str) -> Result<Value, A::Error> {
        let Some(number) = self.context.names.find(cases, key) else {
            return self.unfit(format_args!("an object with the key {key:?}"));
        };
        let case = &cases[number as usize];
        let payload = self.payload(&mut input, case.ty.as_ref(), Step::Name(case.name.clone()))?;
        self.end(input, Value::Variant(number, payload))
    }

    /// Reads the payload of a case; `null` where it has none.
    fn payload<'de, A: MapAccess<'de>>(&mut self, input: &mut A, ty: Option<&'t Type>, step: Step) -> Result<Option<Box<Value>>, A::Error> {
        let payload = match ty {
            Some(ty) => input.next_value_seed(self.part(ty)).map(|value| Some(Box::new(value))),
            None => match input.next_value::<Option<IgnoredAny>>()? {
                None => Ok(None),
                Some(_) => self.context.keep(Err(Fault::says(self.ty, "a payload", "takes no payload: write `null`"))),
            },
        };
        self.context.step(payload, || step)
    }

    /// Reads what follows the key of a ref.
    fn reference<'de, A: MapAccess<'de>>(mut self, mut input: A) -> Result<Value, A::Error> {
        let Value::String(id) = input.next_value_seed(self.part(&Type::String))? else { return self.unfit("an object") };
        let fit = self.fit_reference(&id);
        let value = self.context.keep(fit)?;
        self.end(input, value)
    }

    fn fit_reference(&mut self, id: &str) -> Fit<Value> {
        let entry = id
            .parse::<Ref>()
            .map_err(|error| Fault::says(self.ty, id, format!("has a ref that is none: {}", one_line(&error.to_string(), 160))))?;
        match self.ty {
            Type::Own(resource) | Type::Borrow(resource) if resource.takes(entry) => {}
            _ if self.place == Place::Whole => {
                by_ref(self.ty, entry)?;
                self.context.by_ref = Some(self.context.table.index(entry)?);
            }
            _ => return Err(Fault::ty(self.ty, format_args!("the ref {entry}"))),
        }
        Ok(Value::Handle(self.context.table.index(entry)?))
    }

    /// Ends an object of one key.
    fn end<'de, A: MapAccess<'de>>(self, mut input: A, value: Value) -> Result<Value, A::Error> {
        match input.next_key::<String>()? {
            None => Ok(value),
            Some(key) => self.unfit(format_args!("an object with the further key {key:?}")),
        }
    }
}

/// Reads a key and its value, as an array of two.
struct Pair<'c, 't> {
    context: &'c mut Context<'t>,
    ty: &'t Type,
    pair: &'t (Type, Type),
}

impl<'de> DeserializeSeed<'de> for Pair<'_, '_> {
    type Value = (Value, Value);

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(Value, Value), D::Error> {
        input.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_, '_> {
    type Value = (Value, Value);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key and a value, in an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, input: A) -> Result<(Value, Value), A::Error> {
        let Self { context, ty, pair } = self;
        let seed = Seed { context: &mut *context, ty, place: Place::Part };
        let parts = seed.tuple(input, [&pair.0, &pair.1].into_iter())?;
        match <[Value; 2]>::try_from(parts) {
            Ok([key, value]) => Ok((key, value)),
            Err(_) => context.keep(Err(Fault::ty(ty, "an array"))),
        }
    }
}
