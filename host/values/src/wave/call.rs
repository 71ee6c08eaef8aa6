//! Calls, argument lists and single values.

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
