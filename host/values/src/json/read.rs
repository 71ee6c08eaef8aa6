//! Reads arguments and values from JSON texts.

use std::fmt;

use rwasm_types::{Code, Error};
use serde::de::{DeserializeSeed, Deserializer, Error as ParserError, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::visit::{Context, Place, Seed};
use crate::{
    Arg, Args, Param, Returned, Signature, Type, Value,
    codec::Limits,
    fault::{Fault, Root, brief, one_line},
};

/// Reads the arguments of a call: an array, or an object by the names of the parameters. Trailing elements of an array, and any keys of
/// an object, may be left out if their types are `option`.
///
/// # Errors
///
/// [`Code::MALFORMED_JSON`] with the fields `line` and `column`; [`Code::WRONG_ARITY`]; [`Code::WRONG_TYPE`] or [`Code::OUT_OF_RANGE`]
/// with the fields `parameter`, `path`, `expected` and `given`; or [`Code::VALUE_TOO_LARGE`].
pub fn parse_args(text: &[u8], signature: &Signature, limits: &Limits) -> Result<Args, Error> {
    limits.check_bytes(text.len(), "the JSON")?;
    let mut context = Context::new(limits);
    let mut at = None;
    let given = parse(text, ArgsSeed { context: &mut context, signature, at: &mut at }).map_err(|error| {
        let root = at.and_then(|index| Some(Root::Param(index, &signature.params.get(index)?.name)));
        stopped(&error, context.fault.take(), root.unwrap_or(Root::Value))
    })?;
    let arg = |(param, arg): (&Param, Option<Arg>)| match (arg, &param.ty) {
        (Some(arg), _) => Ok(arg),
        (None, Type::Option(_)) => Ok(Arg::Value(Value::none())),
        (None, _) => Err(missing(param, signature)),
    };
    let params = signature.params.iter().zip(given).map(arg).collect::<Result<_, _>>()?;
    Ok(Args { refs: context.table.into_refs(), params })
}

/// Reads a value.
///
/// # Errors
///
/// As [`parse_args`].
pub fn parse_value(text: &[u8], ty: &Type, limits: &Limits) -> Result<Returned, Error> {
    limits.check_bytes(text.len(), "the JSON")?;
    let mut context = Context::new(limits);
    let value = parse(text, Seed { context: &mut context, ty, place: Place::Part })
        .map_err(|error| stopped(&error, context.fault.take(), Root::Value))?;
    Ok(Returned { refs: context.table.into_refs(), value: Some(value) })
}

fn parse<'de, S: DeserializeSeed<'de>>(text: &'de [u8], seed: S) -> serde_json::Result<S::Value> {
    let mut input = serde_json::Deserializer::from_slice(text);
    let value = seed.deserialize(&mut input)?;
    input.end()?;
    Ok(value)
}

/// The error of why reading stopped: what was kept, or else the syntax.
fn stopped(error: &serde_json::Error, fault: Option<Box<Fault>>, root: Root<'_>) -> Error {
    if let Some(fault) = fault {
        return fault.into_error(root);
    }
    let (code, what) = if error.is_data() { (Code::WRONG_TYPE, "does not fit") } else { (Code::MALFORMED_JSON, "does not parse") };
    let error = Error::new(code, format!("the JSON {what}: {error}")).with("line", error.line()).with("column", error.column());
    match root {
        Root::Param(_, name) => error.with("parameter", name),
        Root::Value => error,
    }
}

fn missing(param: &Param, signature: &Signature) -> Error {
    Error::new(Code::WRONG_ARITY, format!("parameter `{}` is missing, which is `{}`", param.name, brief(&param.ty)))
        .hint(format!("the function's type is `{}`", brief(signature)))
        .with("parameter", &param.name)
}

/// Reads the arguments that are there, by the index of their parameter.
struct ArgsSeed<'c, 't> {
    context: &'c mut Context<'t>,
    signature: &'t Signature,
    /// The parameter that is being read.
    at: &'c mut Option<usize>,
}

impl<'de> DeserializeSeed<'de> for ArgsSeed<'_, '_> {
    type Value = Vec<Option<Arg>>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'t> ArgsSeed<'_, 't> {
    /// Keeps an error that is about no single value.
    fn refuse<T, E: ParserError>(self, error: Error) -> Result<T, E> {
        self.context.keep(Err(error.into()))
    }

    fn shape<T, E: ParserError>(self) -> Result<T, E> {
        self.refuse(Error::new(Code::WRONG_TYPE, "the arguments are neither an array, nor an object by the names of the parameters"))
    }

    /// How to read the argument of a parameter.
    fn arg(&mut self, index: usize, param: &'t Param) -> Seed<'_, 't> {
        *self.at = Some(index);
        Seed { context: self.context, ty: &param.ty, place: Place::Whole }
    }

    /// The argument that was read.
    fn read(&mut self, value: Value) -> Arg {
        *self.at = None;
        self.context.by_ref.take().map_or(Arg::Value(value), Arg::Ref)
    }
}

impl<'de> Visitor<'de> for ArgsSeed<'_, '_> {
    type Value = Vec<Option<Arg>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array, or an object by the names of the parameters")
    }

    fn visit_bool<E: ParserError>(self, _: bool) -> Result<Self::Value, E> {
        self.shape()
    }

    fn visit_u64<E: ParserError>(self, _: u64) -> Result<Self::Value, E> {
        self.shape()
    }

    fn visit_i64<E: ParserError>(self, _: i64) -> Result<Self::Value, E> {
        self.shape()
    }

    fn visit_f64<E: ParserError>(self, _: f64) -> Result<Self::Value, E> {
        self.shape()
    }

    fn visit_str<E: ParserError>(self, _: &str) -> Result<Self::Value, E> {
        self.shape()
    }

    fn visit_unit<E: ParserError>(self) -> Result<Self::Value, E> {
        self.shape()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut input: A) -> Result<Self::Value, A::Error> {
        let signature = self.signature;
        let mut args = Vec::with_capacity(signature.params.len());
        for (index, param) in signature.params.iter().enumerate() {
            let Some(value) = input.next_element_seed(self.arg(index, param))? else { break };
            args.push(Some(self.read(value)));
        }
        *self.at = None;
        let mut given = args.len();
        while input.next_element::<IgnoredAny>()?.is_some() {
            given += 1;
        }
        if given > signature.params.len() || given < signature.required() {
            return self.refuse(signature.wrong_arity(given));
        }
        args.resize(signature.params.len(), None);
        Ok(args)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut input: A) -> Result<Self::Value, A::Error> {
        let signature = self.signature;
        let mut args = vec![None; signature.params.len()];
        while let Some(key) = input.next_key::<String>()? {
            let Some((index, param)) = signature.params.iter().enumerate().find(|(_, param)| param.name == *key) else {
                return self.refuse(unknown(&key, signature));
            };
            if args[index].is_some() {
                let error = Error::new(Code::MALFORMED_JSON, format!("the argument `{key}` comes twice")).with("parameter", key);
                return self.refuse(error);
            }
            let value = input.next_value_seed(self.arg(index, param))?;
            args[index] = Some(self.read(value));
        }
        Ok(args)
    }
}

fn unknown(key: &str, signature: &Signature) -> Error {
    let key = one_line(key, 80);
    Error::new(Code::WRONG_ARITY, format!("the function has no parameter {key:?}"))
        .hint(format!("its type is `{}`", brief(signature)))
        .with("parameter", key)
}
