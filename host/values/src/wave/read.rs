//! Fits the untyped syntax tree of WAVE to a type.

use std::str::FromStr;

use wasm_wave::ast::{Node, NodeType};

use crate::{
    Arg, Case, Field, Flat, Ref, Type, Value,
    check::by_ref,
    codec::same_length,
    fault::{Fault, Fit, Step},
    index::NameIndex,
    refs::RefTable,
};

/// Reads the values of one text, which share a ref table.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Where refs are, in ascending order.
    refs_at: &'a [usize],
    table: RefTable,
    names: NameIndex<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, refs_at: &'a [usize]) -> Self {
        Self { text, refs_at, table: RefTable::default(), names: NameIndex::default() }
    }

    pub(super) fn into_refs(self) -> Vec<Ref> {
        self.table.into_refs()
    }

    /// An argument: a value, or the ref of one.
    pub(super) fn arg(&mut self, ty: &'a Type, node: &Node) -> Fit<Arg> {
        let Some(entry) = self.read_ref(ty, node)? else { return self.value(ty, node).map(Arg::Value) };
        if takes_handle(ty, entry) {
            return self.value(ty, node).map(Arg::Value);
        }
        by_ref(ty, entry)?;
        Ok(Arg::Ref(self.table.index(entry)?))
    }

    /// A value.
    pub(super) fn value(&mut self, ty: &'a Type, node: &Node) -> Fit<Value> {
        if let Some(entry) = self.read_ref(ty, node)? {
            return match ty {
                Type::Own(_) | Type::Borrow(_) if takes_handle(ty, entry) => Ok(Value::Handle(self.table.index(entry)?)),
                Type::Option(some) if takes_handle(ty, entry) => self.value(some, node).map(Value::some),
                _ => Err(Fault::ty(ty, self.shown(node))),
            };
        }
        match ty {
            Type::Bool => node.as_bool().map(Value::Bool).map_err(|_| self.unfit(ty, node)),
            Type::S8 => self.integer(ty, node).map(Value::S8),
            Type::U8 => self.integer(ty, node).map(Value::U8),
            Type::S16 => self.integer(ty, node).map(Value::S16),
            Type::U16 => self.integer(ty, node).map(Value::U16),
            Type::S32 => self.integer(ty, node).map(Value::S32),
            Type::U32 => self.integer(ty, node).map(Value::U32),
            Type::S64 => self.integer(ty, node).map(Value::S64),
            Type::U64 => self.integer(ty, node).map(Value::U64),
            Type::F32 => self.float(ty, node, f32::is_infinite).map(Value::F32),
            Type::F64 => self.float(ty, node, f64::is_infinite).map(Value::F64),
            Type::Char => node.as_char(self.text).map(Value::Char).map_err(|_| self.unfit(ty, node)),
            Type::String => node.as_str(self.text).map(|text| Value::String(text.into_owned())).map_err(|_| self.unfit(ty, node)),
            Type::List(element) => self.list(ty, element, None, node),
            Type::FixedList(element, length) => self.list(ty, element, Some(*length as usize), node),
            Type::Map(pair) => self.map(ty, pair, node),
            Type::Record(fields) => self.record(ty, fields, node),
            Type::Tuple(types) => self.tuple(ty, types, node),
            Type::Variant(cases) => self.variant(ty, cases, node),
            Type::Enum(names) => {
                let name = node.as_enum(self.text).map_err(|_| self.unfit(ty, node))?;
                self.names.find(names, name).map(Value::Enum).ok_or_else(|| self.unfit(ty, node))
            }
            Type::Option(some) => match node.ty() {
                NodeType::OptionNone => Ok(Value::none()),
                NodeType::OptionSome => match node.as_option() {
                    Ok(Some(payload)) => self.value(some, payload).map(Value::some),
                    _ => Err(self.unfit(ty, node)),
                },
                _ if is_flattened(some) => self.value(some, node).map(Value::some),
                _ => Err(self.unfit(ty, node)),
            },
            Type::Result(_) => self.result(ty, node),
            Type::Flags(names) => {
                let mut bits = 0;
                for flag in node.as_flags(self.text).map_err(|_| self.unfit(ty, node))? {
                    let number = self.names.find(names, flag.strip_prefix('%').unwrap_or(flag));
                    bits |= 1 << number.ok_or_else(|| self.unfit(ty, node))?;
                }
                Ok(Value::Flags(bits))
            }
            Type::Own(_) | Type::Borrow(_) => {
                Err(Fault::says(ty, self.shown(node), format!("is a handle of `{ty}`, which is written as `@ref(ID)`")))
            }
            Type::Stream(_) | Type::Future(_) | Type::ErrorContext | Type::Elided => {
                Err(Fault::says(ty, self.shown(node), format!("is `{ty}`, whose values cannot be passed")))
            }
        }
    }

    /// The ref that a node is, if it is one.
    fn read_ref(&self, ty: &Type, node: &Node) -> Fit<Option<Ref>> {
        if self.refs_at.binary_search(&node.span().start).is_err() {
            return Ok(None);
        }
        let id = match node.as_variant(self.text) {
            Ok((_, Some(id))) => id.span(),
            _ => return Err(self.unfit(ty, node)),
        };
        self.text[id].parse().map(Some).map_err(|error| Fault::says(ty, self.shown(node), format!("has a ref that is none: {error}")))
    }

    /// The text of a node, as it was typed.
    fn shown(&self, node: &Node) -> String {
        let text: String = self.text[node.span()].chars().take(81).collect();
        let is_ref = self.refs_at.binary_search(&node.span().start).is_ok();
        if is_ref { format!("`{}`", text.replacen('%', "@", 1)) } else { format!("`{text}`") }
    }

    fn unfit(&self, ty: &Type, node: &Node) -> Box<Fault> {
        Fault::ty(ty, self.shown(node))
    }

    fn integer<T: FromStr>(&self, ty: &Type, node: &Node) -> Fit<T> {
        node.as_number(self.text).map_err(|_| {
            let digits = self.text[node.span()].bytes().all(|b| b.is_ascii_digit() || b == b'-');
            if node.ty() == NodeType::Number && digits { Fault::range(ty, self.shown(node)) } else { self.unfit(ty, node) }
        })
    }

    fn float<T: FromStr + Copy>(&self, ty: &Type, node: &Node, is_infinite: impl Fn(T) -> bool) -> Fit<T> {
        let value = node.as_number(self.text).map_err(|_| self.unfit(ty, node))?;
        let overflow = is_infinite(value) && !self.text[node.span()].ends_with("inf");
        if overflow { Err(Fault::range(ty, self.shown(node))) } else { Ok(value) }
    }

    fn list(&mut self, ty: &'a Type, element: &'a Type, length: Option<usize>, node: &Node) -> Fit<Value> {
        let nodes = node.as_list().map_err(|_| self.unfit(ty, node))?;
        same_length(ty, length, nodes.len())?;
        let values = nodes.enumerate().map(|(index, node)| self.value(element, node).map_err(|fault| fault.at(Step::Index(index))));
        let Some(scalar) = element.scalar() else { return values.collect::<Fit<_>>().map(Value::List) };
        let mut bytes = Vec::new();
        for value in values {
            value?.write_scalar(&mut bytes);
        }
        Ok(Value::Flat(Flat::trusted(scalar, bytes.into())))
    }

    fn map(&mut self, ty: &'a Type, pair: &'a (Type, Type), node: &Node) -> Fit<Value> {
        let mut pairs = Vec::new();
        for (index, node) in node.as_list().map_err(|_| self.unfit(ty, node))?.enumerate() {
            let unfit = || Fault::says(ty, self.shown(node), "must be a pair of a key and a value").at(Step::Index(index));
            let parts: Vec<&Node> = node.as_tuple().map_err(|_| unfit())?.collect();
            let [key, value] = parts[..] else { return Err(unfit()) };
            let key = self.value(&pair.0, key).map_err(|fault| fault.at(Step::Word("key")).at(Step::Index(index)))?;
            let value = self.value(&pair.1, value).map_err(|fault| fault.at(Step::Word("value")).at(Step::Index(index)))?;
            pairs.push((key, value));
        }
        Ok(Value::Map(pairs))
    }

    fn record(&mut self, ty: &'a Type, fields: &'a [Field], node: &Node) -> Fit<Value> {
        let mut values = vec![None; fields.len()];
        for (name, node) in node.as_record(self.text).map_err(|_| self.unfit(ty, node))? {
            let number = self.names.find(fields, name).ok_or_else(|| Fault::unknown_field(ty, name))? as usize;
            let Field { name, ty } = &fields[number];
            values[number] = Some(self.value(ty, node).map_err(|fault| fault.at(Step::Name(name.clone())))?);
        }
        Value::record(ty, fields, values)
    }

    fn tuple(&mut self, ty: &'a Type, types: &'a [Type], node: &Node) -> Fit<Value> {
        let nodes = node.as_tuple().map_err(|_| self.unfit(ty, node))?;
        same_length(ty, types.len(), nodes.len())?;
        let parts = types.iter().zip(nodes).enumerate();
        let values = parts.map(|(index, (ty, node))| self.value(ty, node).map_err(|fault| fault.at(Step::Index(index))));
        values.collect::<Fit<_>>().map(Value::Tuple)
    }

    fn variant(&mut self, ty: &'a Type, cases: &'a [Case], node: &Node) -> Fit<Value> {
        let (name, payload) = node.as_variant(self.text).map_err(|_| self.unfit(ty, node))?;
        let number = self.names.find(cases, name).ok_or_else(|| self.unfit(ty, node))?;
        let case = &cases[number as usize];
        let payload = self.payload(ty, case.ty.as_ref(), payload, node).map_err(|fault| fault.at(Step::Name(case.name.clone())))?;
        Ok(Value::Variant(number, payload))
    }

    fn result(&mut self, ty: &'a Type, node: &Node) -> Fit<Value> {
        let Type::Result(result) = ty else { return Err(self.unfit(ty, node)) };
        match (node.as_result(), &result.ok) {
            (Ok(Ok(payload)), ok) => {
                let payload = self.payload(ty, ok.as_ref(), payload, node).map_err(|fault| fault.at(Step::Word("ok")))?;
                Ok(Value::Result(Ok(payload)))
            }
            (Ok(Err(payload)), _) => {
                let payload = self.payload(ty, result.err.as_ref(), payload, node).map_err(|fault| fault.at(Step::Word("err")))?;
                Ok(Value::Result(Err(payload)))
            }
            (Err(_), Some(ok)) if is_flattened(ok) => self.value(ok, node).map(Value::ok),
            _ => Err(self.unfit(ty, node)),
        }
    }

    fn payload(&mut self, ty: &'a Type, case: Option<&'a Type>, payload: Option<&Node>, node: &Node) -> Fit<Option<Box<Value>>> {
        match (case, payload) {
            (None, None) => Ok(None),
            (Some(case), Some(payload)) => self.value(case, payload).map(|value| Some(Box::new(value))),
            (Some(case), None) => Err(Fault::ty(case, "nothing")),
            (None, Some(_)) => Err(Fault::says(ty, self.shown(node), format!("takes no payload, but {} was given", self.shown(node)))),
        }
    }
}

/// Whether a ref stands for a handle here: the type is one that the ref fits, or an option of it, whose `some` may be left out.
fn takes_handle(ty: &Type, entry: Ref) -> bool {
    match ty {
        Type::Own(resource) | Type::Borrow(resource) => resource.takes(entry),
        Type::Option(some) => !matches!(**some, Type::Option(_)) && takes_handle(some, entry),
        _ => false,
    }
}

/// Whether `some(v)` or `ok(v)` may be written as `v`.
fn is_flattened(payload: &Type) -> bool {
    !matches!(payload, Type::Option(_) | Type::Result(_))
}
