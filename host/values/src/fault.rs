//! What does not fit, and where: one error for checks, WAVE and JSON alike, so that each names the parameter, the place in it, the type
//! expected there and what was given.
//!
//! A fault is made where it is found, and each type around it adds a step on the way out; what fits costs nothing.

use std::fmt::{self, Write};

use rwasm_types::{Code, Error};

use crate::{Label, Type};

/// `Result` of fitting a value to a type.
pub(crate) type Fit<T> = Result<T, Box<Fault>>;

/// Why a value does not fit its type.
#[derive(Debug)]
pub(crate) struct Fault {
    why: Why,
    /// From the innermost place outwards.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Why {
    /// Something here does not fit. `says` goes on after the name of the place.
    Unfit { code: Code, expected: String, given: String, says: String },
    /// Something that is about no place in the value, such as a limit.
    Other(Error),
}

/// One step from a value into a part of it.
#[derive(Debug)]
pub(crate) enum Step {
    /// A field, case or flag.
    Name(Label),
    /// An element.
    Index(usize),
    /// The success or the failure of a result; the key or value of a map's pair.
    Word(&'static str),
}

/// What the value is that a fault was found in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Root<'a> {
    /// An argument, by its index, and the name of its parameter.
    Param(usize, &'a str),
    /// A value by itself.
    Value,
}

impl Fault {
    /// Something of another type.
    pub(crate) fn ty(ty: &Type, given: impl fmt::Display) -> Box<Self> {
        let given = shown(given);
        let says = format!("must be `{}`, but {given} was given", brief(ty));
        Self::new(Code::WRONG_TYPE, ty, given, says)
    }

    /// A number beyond its type.
    pub(crate) fn range(ty: &Type, given: impl fmt::Display) -> Box<Self> {
        let given = shown(given);
        let range = range(ty).map(|(least, most)| format!(" ({least} to {most})")).unwrap_or_default();
        let says = format!("must be `{}`{range}, but {given} was given", brief(ty));
        Self::new(Code::OUT_OF_RANGE, ty, given, says)
    }

    /// Anything else; `says` goes on after the name of the place, as in `has no field x`.
    pub(crate) fn says(ty: &Type, given: impl fmt::Display, says: impl Into<String>) -> Box<Self> {
        Self::new(Code::WRONG_TYPE, ty, shown(given), says.into())
    }

    /// A record without a field that it must have.
    pub(crate) fn lacks(ty: &Type, field: &str) -> Box<Self> {
        Self::says(ty, "a record without it", format!("lacks the field `{field}` of `{}`", brief(ty)))
    }

    /// A record with a field that its type does not have.
    pub(crate) fn unknown_field(ty: &Type, field: &str) -> Box<Self> {
        let field = shown(field);
        let says = format!("has the field `{field}`, which is not in `{}`", brief(ty));
        Self::says(ty, field, says)
    }

    fn new(code: Code, ty: &Type, given: String, says: String) -> Box<Self> {
        Box::new(Self { why: Why::Unfit { code, expected: ty.to_string(), given, says }, steps: Vec::new() })
    }

    /// The same fault, seen from one step further out.
    pub(crate) fn at(mut self: Box<Self>, step: Step) -> Box<Self> {
        self.steps.push(step);
        self
    }

    /// The fault as an error.
    pub(crate) fn into_error(self, root: Root<'_>) -> Error {
        let path = self.path(root);
        let place = match root {
            Root::Param(_, name) if self.steps.is_empty() => format!("parameter `{name}`"),
            Root::Param(_, name) => format!("`{path}` of parameter `{name}`"),
            Root::Value if self.steps.is_empty() => "the value".to_owned(),
            Root::Value => format!("`{path}`"),
        };
        let error = match self.why {
            Why::Other(error) => return error,
            Why::Unfit { code, expected, given, says } => {
                Error::new(code, format!("{place} {says}")).with("expected", expected).with("given", given).with("path", path)
            }
        };
        match root {
            Root::Param(_, name) => error.with("parameter", name),
            Root::Value => error,
        }
    }

    /// The place, as in `args[1].items[3].x`.
    fn path(&self, root: Root<'_>) -> String {
        let mut path = match root {
            Root::Param(index, _) => format!("args[{index}]"),
            Root::Value => "value".to_owned(),
        };
        for step in self.steps.iter().rev() {
            // Writing to a string does not fail.
            let _ = match step {
                Step::Name(name) => write!(path, ".{name}"),
                Step::Index(index) => write!(path, "[{index}]"),
                Step::Word(word) => write!(path, ".{word}"),
            };
        }
        path
    }
}

impl From<Error> for Box<Fault> {
    fn from(error: Error) -> Self {
        Self::new(Fault { why: Why::Other(error), steps: Vec::new() })
    }
}

/// The smallest and the largest value of an integer type.
fn range(ty: &Type) -> Option<(i128, i128)> {
    Some(match ty {
        Type::S8 => (i8::MIN.into(), i8::MAX.into()),
        Type::U8 => (0, u8::MAX.into()),
        Type::S16 => (i16::MIN.into(), i16::MAX.into()),
        Type::U16 => (0, u16::MAX.into()),
        Type::S32 => (i32::MIN.into(), i32::MAX.into()),
        Type::U32 => (0, u32::MAX.into()),
        Type::S64 => (i64::MIN.into(), i64::MAX.into()),
        Type::U64 => (0, u64::MAX.into()),
        _ => return None,
    })
}

/// The text of a type or signature, cut to what a line can carry.
pub(crate) fn brief(of: impl fmt::Display) -> String {
    cut(of.to_string(), 160)
}

/// What was given, on one line and short.
fn shown(given: impl fmt::Display) -> String {
    one_line(&given.to_string(), 80)
}

/// The first characters of a text from outside, fit for one line of a message.
pub(crate) fn one_line(text: &str, chars: usize) -> String {
    let fit = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        _ if c.is_control() => char::REPLACEMENT_CHARACTER,
        _ => c,
    };
    cut(text.chars().take(chars + 1).map(fit).collect(), chars)
}

fn cut(mut text: String, chars: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(chars) {
        text.truncate(end);
        text.push('…');
    }
    text
}
