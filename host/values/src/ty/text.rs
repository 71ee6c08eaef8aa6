//! Types as WIT text, on one line, and back. Records and the like are written in place, and a resource by its full name:
//! `record { x: u32, y: option<string> }`, `own<demo:bank/accounts@1.2.0.account>`.
//!
//! The text is exact: it reads back as the same type. What WIT cannot say in place is close to what it says elsewhere.

use std::{fmt, str::FromStr, sync::Arc};

use rwasm_types::{Code, Error};

use super::{Budget, Case, Field, Resource, ResultType, Type};
use crate::{Label, Param, ResourceName, Signature, fault::one_line};

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::S8 => f.write_str("s8"),
            Self::U8 => f.write_str("u8"),
            Self::S16 => f.write_str("s16"),
            Self::U16 => f.write_str("u16"),
            Self::S32 => f.write_str("s32"),
            Self::U32 => f.write_str("u32"),
            Self::S64 => f.write_str("s64"),
            Self::U64 => f.write_str("u64"),
            Self::F32 => f.write_str("f32"),
            Self::F64 => f.write_str("f64"),
            Self::Char => f.write_str("char"),
            Self::String => f.write_str("string"),
            Self::ErrorContext => f.write_str("error-context"),
            Self::Elided => f.write_str("..."),
            Self::List(ty) => write!(f, "list<{ty}>"),
            Self::FixedList(ty, length) => write!(f, "list<{ty}, {length}>"),
            Self::Map(pair) => write!(f, "map<{}, {}>", pair.0, pair.1),
            Self::Option(ty) => write!(f, "option<{ty}>"),
            Self::Own(resource) => write!(f, "own<{resource}>"),
            Self::Borrow(resource) => write!(f, "borrow<{resource}>"),
            Self::Stream(None) => f.write_str("stream"),
            Self::Stream(Some(ty)) => write!(f, "stream<{ty}>"),
            Self::Future(None) => f.write_str("future"),
            Self::Future(Some(ty)) => write!(f, "future<{ty}>"),
            Self::Result(result) => match (&result.ok, &result.err) {
                (None, None) => f.write_str("result"),
                (Some(ok), None) => write!(f, "result<{ok}>"),
                (None, Some(err)) => write!(f, "result<_, {err}>"),
                (Some(ok), Some(err)) => write!(f, "result<{ok}, {err}>"),
            },
            Self::Tuple(elements) => join(f, "tuple<", elements.iter(), ">"),
            Self::Record(fields) => {
                join(f, "record { ", fields.iter().map(|field| fmt::from_fn(|f| write!(f, "{}: {}", field.name.wit(), field.ty))), " }")
            }
            Self::Variant(cases) => join(f, "variant { ", cases.iter().map(|case| fmt::from_fn(|f| write_case(f, case))), " }"),
            Self::Enum(names) => join(f, "enum { ", names.iter().map(Label::wit), " }"),
            Self::Flags(names) => join(f, "flags { ", names.iter().map(Label::wit), " }"),
        }
    }
}

fn write_case(f: &mut fmt::Formatter<'_>, case: &Case) -> fmt::Result {
    write!(f, "{}", case.name.wit())?;
    case.ty.iter().try_for_each(|ty| write!(f, "({ty})"))
}

fn join(f: &mut fmt::Formatter<'_>, open: &str, parts: impl Iterator<Item = impl fmt::Display>, close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (index, part) in parts.enumerate() {
        write!(f, "{}{part}", if index == 0 { "" } else { ", " })?;
    }
    f.write_str(close)
}

impl fmt::Display for Signature {
    /// `func(x: u32, y: string) -> option<u32>`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = self.params.iter().map(|param| fmt::from_fn(|f| write!(f, "{}: {}", param.name.wit(), param.ty)));
        join(f, "func(", params, ")")?;
        self.result.iter().try_for_each(|ty| write!(f, " -> {ty}"))
    }
}

impl FromStr for Type {
    type Err = Error;

    /// Reads a type within the limits: what [`Type`] displays, with any white space between words.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut reader = Reader::new(text)?;
        let ty = reader.ty(1)?;
        reader.finish()?;
        Ok(ty)
    }
}

impl FromStr for Signature {
    type Err = Error;

    /// Reads what [`Signature`] displays.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut reader = Reader::new(text)?;
        reader.expect("func")?;
        let mut params = Vec::new();
        reader.list("(", ")", true, |reader| {
            let name = reader.label()?;
            reader.expect(":")?;
            params.push(Param { name, ty: reader.ty(1)? });
            Ok(())
        })?;
        let result = if reader.take("->") { Some(reader.ty(1)?) } else { None };
        reader.finish()?;
        Ok(Self { params, result })
    }
}

/// Reads words and signs from a text, left to right.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    budget: Budget,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Self, Error> {
        if text.len() > Type::DESCRIPTOR_BYTES_MAX {
            return Err(Error::new(Code::VALUE_TOO_LARGE, format!("a type's text has more than {} bytes", Type::DESCRIPTOR_BYTES_MAX)));
        }
        Ok(Self { text, rest: text.trim_start(), budget: Budget::default() })
    }

    /// What was expected where the text goes on with `rest`.
    fn error(&self, rest: &str, expected: &str) -> Error {
        let at = self.text.len() - rest.len();
        let found = if rest.is_empty() { "it ends".to_owned() } else { format!("`{}` was found", one_line(rest, 20)) };
        Error::new(Code::INVALID_ARGUMENT, format!("the type does not parse: {expected} was expected at byte {at}, but {found}"))
            .with("offset", at)
    }

    fn finish(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error(self.rest, "the end")) }
    }

    /// Takes a sign, or a word that ends there.
    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let Some(rest) = rest.filter(|rest| !token.ends_with(word) || !rest.starts_with(word)) else { return false };
        self.rest = rest.trim_start();
        true
    }

    fn expect(&mut self, token: &str) -> Result<(), Error> {
        if self.take(token) { Ok(()) } else { Err(self.error(self.rest, &format!("`{token}`"))) }
    }

    /// Takes all characters that fit.
    fn word(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    /// Reads parts between `open` and `close`, divided by commas, of which one may stand at the end.
    fn list(&mut self, open: &str, close: &str, empty: bool, mut part: impl FnMut(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        self.expect(open)?;
        if empty && self.take(close) {
            return Ok(());
        }
        loop {
            part(self)?;
            let more = self.take(",");
            if self.take(close) {
                return Ok(());
            }
            if !more {
                return Err(self.error(self.rest, &format!("`,` or `{close}`")));
            }
        }
    }

    fn label(&mut self) -> Result<Label, Error> {
        let start = self.rest;
        self.rest = self.rest.strip_prefix('%').unwrap_or(self.rest);
        let word = self.word(|c| c.is_ascii_alphanumeric() || c == '-');
        let name = Label::new(word).map_err(|_| self.error(start, "a name"))?;
        self.budget.name(&name)?;
        Ok(name)
    }

    fn labels(&mut self) -> Result<Arc<[Label]>, Error> {
        let mut labels = Vec::new();
        self.list("{", "}", false, |reader| {
            labels.push(reader.label()?);
            Ok(())
        })?;
        Ok(labels.into())
    }

    fn ty(&mut self, depth: usize) -> Result<Type, Error> {
        self.budget.enter(depth)?;
        let start = self.rest;
        if self.take("...") {
            return Ok(Type::Elided);
        }
        let word = self.word(|c| c.is_ascii_alphanumeric() || c == '-');
        let ty = match word {
            "bool" => Type::Bool,
            "s8" => Type::S8,
            "u8" => Type::U8,
            "s16" => Type::S16,
            "u16" => Type::U16,
            "s32" => Type::S32,
            "u32" => Type::U32,
            "s64" => Type::S64,
            "u64" => Type::U64,
            "f32" => Type::F32,
            "f64" => Type::F64,
            "char" => Type::Char,
            "string" => Type::String,
            "error-context" => Type::ErrorContext,
            "enum" => Type::Enum(self.labels()?),
            "flags" => Type::Flags(self.labels()?),
            "record" => self.record(depth)?,
            "variant" => self.variant(depth)?,
            "own" => Type::Own(self.resource()?),
            "borrow" => Type::Borrow(self.resource()?),
            "list" | "map" | "option" | "tuple" | "result" | "stream" | "future" => self.generic(word, depth)?,
            _ => return Err(self.error(start, "a type")),
        };
        ty.check_rules().map_err(|why| self.error(start, &format!("another type ({why})")))?;
        Ok(ty)
    }

    fn record(&mut self, depth: usize) -> Result<Type, Error> {
        let mut fields = Vec::new();
        self.list("{", "}", false, |reader| {
            let name = reader.label()?;
            reader.expect(":")?;
            fields.push(Field { name, ty: reader.ty(depth + 1)? });
            Ok(())
        })?;
        Ok(Type::Record(fields.into()))
    }

    fn variant(&mut self, depth: usize) -> Result<Type, Error> {
        let mut cases = Vec::new();
        self.list("{", "}", false, |reader| {
            let name = reader.label()?;
            let ty = if reader.take("(") { Some(reader.ty(depth + 1)?) } else { None };
            if ty.is_some() {
                reader.expect(")")?;
            }
            cases.push(Case { name, ty });
            Ok(())
        })?;
        Ok(Type::Variant(cases.into()))
    }

    fn resource(&mut self) -> Result<Resource, Error> {
        self.expect("<")?;
        let start = self.rest;
        let word = self.word(|c| c != '>' && !c.is_whitespace());
        let name: ResourceName = word.parse().map_err(|_| self.error(start, "a resource, such as `demo:bank/accounts@1.2.0.account`"))?;
        self.expect(">")?;
        let resource = Resource::from(name);
        self.budget.resource(&resource)?;
        Ok(resource)
    }

    /// The types with parameters in `<>`, after their word.
    fn generic(&mut self, word: &str, depth: usize) -> Result<Type, Error> {
        let bare = !self.rest.starts_with('<');
        match word {
            "result" if bare => return Ok(Type::result(None, None)),
            "stream" if bare => return Ok(Type::Stream(None)),
            "future" if bare => return Ok(Type::Future(None)),
            _ => {}
        }
        if word == "tuple" {
            let mut elements = Vec::new();
            self.list("<", ">", false, |reader| {
                elements.push(reader.ty(depth + 1)?);
                Ok(())
            })?;
            return Ok(Type::Tuple(elements.into()));
        }
        self.expect("<")?;
        let ty = match word {
            "list" => {
                let element = Arc::new(self.ty(depth + 1)?);
                if self.take(",") { Type::FixedList(element, self.number()?) } else { Type::List(element) }
            }
            "map" => {
                let key = self.ty(depth + 2)?;
                self.expect(",")?;
                Type::Map(Arc::new((key, self.ty(depth + 2)?)))
            }
            "result" => {
                let ok = if self.take("_") { None } else { Some(self.ty(depth + 1)?) };
                let err = if self.take(",") { Some(self.ty(depth + 1)?) } else { None };
                Type::Result(Arc::new(ResultType { ok, err }))
            }
            "stream" => Type::Stream(Some(Arc::new(self.ty(depth + 1)?))),
            "future" => Type::Future(Some(Arc::new(self.ty(depth + 1)?))),
            _ => Type::option(self.ty(depth + 1)?),
        };
        self.expect(">")?;
        Ok(ty)
    }

    fn number(&mut self) -> Result<u32, Error> {
        let start = self.rest;
        let word = self.word(|c| c.is_ascii_digit());
        word.parse().map_err(|_| self.error(start, "a length from 1 to 4294967295"))
    }
}
