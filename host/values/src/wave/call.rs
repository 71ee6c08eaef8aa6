//! Calls, argument lists and single values.

use std::ops::Range;

use rwasm_types::{Code, Error};
use wasm_wave::{
    ast::{Node, NodeType},
    lex::Lexer,
    parser::{Parser, ParserError, ParserErrorKind},
    untyped::UntypedValue,
};

use super::{TEXT_BYTES_MAX, read::Reader};
use crate::{
    Arg, Args, Returned, Signature, Type, Value,
    fault::{Root, one_line},
};

/// Splits a call into the name of the export and the text of the arguments, with their parentheses: `ops/add(1, 2)` into `ops/add` and
/// `(1, 2)`. The name is resolved by [`ArtifactInfo::resolve`](crate::ArtifactInfo::resolve), the arguments by [`parse_args`].
///
/// # Errors
///
/// [`Code::CALL_SYNTAX`].
pub fn parse_call(text: &str) -> Result<(&str, &str), Error> {
    let text = text.trim();
    let hint = "write it as in `add(1, 2)` or `demo:math/ops/add(1, 2)`";
    let error = |why: &str| Error::new(Code::CALL_SYNTAX, format!("the call {why}")).hint(hint);
    let Some(open) = text.find('(') else { return Err(error("has no arguments in parentheses")) };
    let (name, args) = (text[..open].trim_end(), &text[open..]);
    if name.is_empty() {
        return Err(error("has no name before its arguments"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-:/@._+[]".contains(c);
    match name.find(|c| !fits(c)) {
        Some(at) => Err(error(&format!("has a name that cannot hold `{}`", name[at..].chars().next().unwrap_or(' ').escape_debug()))),
        None => Ok((name, args)),
    }
}

/// Reads the arguments of a call, as in `(1, "x", @ref(o3-17-42-0))`. Trailing arguments may be left out if their types are `option`.
///
/// # Errors
///
/// [`Code::CALL_SYNTAX`] with the fields `line` and `column`; [`Code::WRONG_ARITY`]; [`Code::WRONG_TYPE`] or [`Code::OUT_OF_RANGE`]
/// with the fields `parameter`, `path`, `expected` and `given`; or [`Code::VALUE_TOO_LARGE`].
pub fn parse_args(text: &str, signature: &Signature) -> Result<Args, Error> {
    let source = Source::new(text)?;
    let parsed = match UntypedValue::parse(&source.text) {
        Ok(parsed) => Some(parsed),
        Err(error) if source.is_empty_list(&error) => None,
        Err(error) => return Err(source.syntax(&error)),
    };
    let nodes: Vec<&Node> = match parsed.as_ref().map(UntypedValue::node) {
        None => Vec::new(),
        Some(node) if node.ty() == NodeType::Tuple => node.as_tuple().map_err(|error| source.syntax(&error))?.collect(),
        Some(_) => return Err(Error::new(Code::CALL_SYNTAX, "the arguments are not in parentheses").hint("write them as in `(1, 2)`")),
    };
    if nodes.len() > signature.params.len() || nodes.len() < signature.required() {
        return Err(signature.wrong_arity(nodes.len()));
    }
    let mut reader = Reader::new(&source.text, &source.refs);
    let mut params = Vec::with_capacity(signature.params.len());
    for (index, param) in signature.params.iter().enumerate() {
        let arg = match nodes.get(index) {
            Some(node) => reader.arg(&param.ty, node).map_err(|fault| fault.into_error(Root::Param(index, &param.name)))?,
            None => Arg::Value(Value::none()),
        };
        params.push(arg);
    }
    Ok(Args { refs: reader.into_refs(), params })
}

/// Reads a value, as in `{x: 1, y: "two"}`.
///
/// # Errors
///
/// As [`parse_args`].
pub fn parse_value(text: &str, ty: &Type) -> Result<Returned, Error> {
    let source = Source::new(text)?;
    let parsed = UntypedValue::parse(&source.text).map_err(|error| source.syntax(&error))?;
    let mut reader = Reader::new(&source.text, &source.refs);
    let value = reader.value(ty, parsed.node()).map_err(|fault| fault.into_error(Root::Value))?;
    Ok(Returned { refs: reader.into_refs(), value: Some(value) })
}

/// A file that a text names in the place of a ref: `@file(data.csv)`, or `@file("my data.csv")` with the escapes of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Where it stands in the text.
    pub range: Range<usize>,
    /// The path.
    pub path: String,
}

/// Finds the files that a text names, outside of string and char literals and comments, in their order. Whoever stores them puts refs in
/// their places.
///
/// # Errors
///
/// [`Code::CALL_SYNTAX`] if one has no end, or no path.
pub fn find_files(text: &str) -> Result<Vec<FileRef>, Error> {
    let mut files: Vec<FileRef> = Vec::new();
    let mut from = 0;
    while let Some(start) = text.get(from..).and_then(|rest| find(rest, "file(")).map(|at| from + at) {
        let inside = start + "@file(".len();
        let bad = || Error::new(Code::CALL_SYNTAX, "`@file(` has no path in parentheses").hint("write it as in `@file(data.csv)`");
        let rest = text.get(inside..).unwrap_or_default();
        let (path, length) = if rest.starts_with('"') {
            let mut read = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let path = read.next().and_then(Result::ok).ok_or_else(bad)?;
            (path, read.byte_offset())
        } else {
            let length = rest.find(')').ok_or_else(bad)?;
            (rest[..length].trim().to_owned(), length)
        };
        if path.is_empty() || !rest[length..].starts_with(')') {
            return Err(bad());
        }
        from = inside + length + 1;
        files.push(FileRef { range: start..from, path });
    }
    Ok(files)
}

/// The first `@` before a word, outside of literals and comments.
fn find(text: &str, word: &str) -> Option<usize> {
    let mut lexer = Lexer::new(text);
    while let Some(token) = lexer.next() {
        let span = lexer.span();
        if token.is_err() && &text[span.clone()] == "@" && text[span.end..].starts_with(word) {
            return Some(span.start);
        }
    }
    None
}

/// A text in which each `@` of a ref is a `%`, so that the parser of WAVE takes it for the label of a case; where they were is kept.
struct Source {
    text: String,
    /// The offsets, in ascending order.
    refs: Vec<usize>,
}

impl Source {
    fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("the text has {} bytes, but may have {TEXT_BYTES_MAX}", text.len());
            return Err(Error::new(Code::VALUE_TOO_LARGE, message).hint("give large values as JSON, or by ref"));
        }
        let refs = if text.contains('@') { find_refs(text) } else { Vec::new() };
        let mut bytes = text.as_bytes().to_vec();
        refs.iter().for_each(|at| bytes[*at] = b'%');
        let text = String::from_utf8(bytes).map_err(|_| Error::internal("a text is no longer UTF-8"))?;
        Ok(Self { text, refs })
    }

    /// Whether the error is that of `()`, which WAVE does not allow as a value.
    fn is_empty_list(&self, error: &ParserError) -> bool {
        let whole = error.kind() == ParserErrorKind::EmptyTuple && error.span().start == 0;
        whole && Parser::new(&self.text[error.span().end..]).finish().is_ok()
    }

    fn syntax(&self, error: &ParserError) -> Error {
        let at = self.text.floor_char_boundary(error.span().start);
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        let rest = &self.text[at..];
        let found = if rest.is_empty() { "its end".to_owned() } else { format!("`{}`", one_line(rest, 20)) };
        let why = match error.kind() {
            ParserErrorKind::UnexpectedEnd => "it ends too soon".to_owned(),
            ParserErrorKind::NestingTooDeep => "it is nested too deep".to_owned(),
            ParserErrorKind::EmptyTuple => "`()` is no value".to_owned(),
            ParserErrorKind::DuplicateField => format!("a field comes twice at {found}"),
            ParserErrorKind::DuplicateFlag => format!("a flag comes twice at {found}"),
            ParserErrorKind::TrailingCharacters => format!("{found} follows its end"),
            _ => format!("{found} does not belong there"),
        };
        Error::new(Code::CALL_SYNTAX, format!("the text is not WAVE at line {line}, column {column}: {why}"))
            .with("line", line)
            .with("column", column)
    }
}

/// Finds each `@` that begins `@ref(`, outside of string and char literals and comments, with the lexer of WAVE itself.
fn find_refs(text: &str) -> Vec<usize> {
    let mut lexer = Lexer::new(text);
    let mut refs = Vec::new();
    while let Some(token) = lexer.next() {
        let span = lexer.span();
        if token.is_err() && &text[span.clone()] == "@" && text[span.end..].starts_with("ref(") {
            refs.push(span.start);
        }
    }
    refs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_outside_of_literals() {
        let found = |text: &str| find_files(text).map(|files| files.into_iter().map(|file| (file.range, file.path)).collect::<Vec<_>>());
        assert_eq!(found("(1, \"@file(x)\", '@')").unwrap(), []);
        assert_eq!(found("(@file(a b.csv), 2)").unwrap(), [(1..15, "a b.csv".to_owned())]);
        let text = "(@file(\"a)\\n\"), [@file(/tmp/it's)], @ref(o1-2-3-0))";
        let paths: Vec<String> = found(text).unwrap().into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["a)\n", "/tmp/it's"]);
        for bad in ["@file(", "@file()", "@file(\"x\"", "@file(\"x\" y)"] {
            assert_eq!(found(bad).unwrap_err().code(), Code::CALL_SYNTAX, "{bad}");
        }
    }
}
