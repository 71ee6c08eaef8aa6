//! From the bytes of a file to binary WebAssembly, or to what the file is instead.

use std::borrow::Cow;

use rwasm_types::{Code, Error};
use wasmparser::Parser;
use wast::{
    Wat,
    parser::{self, ParseBuffer},
};

/// The first bytes of every binary.
const MAGIC: [u8; 4] = *b"\0asm";

/// What other files begin with, and what they are.
const OTHERS: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (b"\x7fELF", "a native program or a precompiled module", "submit the .wasm that it was made of"),
    (b"BC\xc0\xde", "LLVM bitcode", "link it to a .wasm first"),
    (b"!<arch>", "a static library", "link it to a .wasm first"),
    (b"#!", "a script", "compile it to WebAssembly first"),
    (b"<", "a web page", "check the address that it was downloaded from"),
];

/// Binary WebAssembly.
pub(crate) struct Source<'a> {
    /// The binary.
    pub(crate) wasm: Cow<'a, [u8]>,
    /// Whether it was text.
    pub(crate) text: bool,
}

/// Whether a binary with the right first bytes is a component.
pub(crate) fn is_component(wasm: &[u8]) -> bool {
    Parser::is_component(wasm)
}

/// Reads a file.
pub(crate) fn read(bytes: &[u8]) -> Result<Source<'_>, Error> {
    if bytes.is_empty() {
        return Err(Error::new(Code::EMPTY_FILE, "the file is empty"));
    }
    let head = &bytes[..bytes.len().min(MAGIC.len())];
    if MAGIC.starts_with(head) {
        check_header(bytes)?;
        return Ok(Source { wasm: Cow::Borrowed(bytes), text: false });
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if looks_like_text(text) => Ok(Source { wasm: Cow::Owned(assemble(text)?), text: true }),
        _ => Err(not_wasm(bytes)),
    }
}

/// A text out of a file, fit to be shown in a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn check_header(bytes: &[u8]) -> Result<(), Error> {
    if Parser::is_core_wasm(bytes) || Parser::is_component(bytes) {
        return Ok(());
    }
    let message = match bytes.get(4..8) {
        None => "the file ends within the header of WebAssembly".to_owned(),
        Some([version, layer @ ..]) => format!("the file has the header of an unknown version of WebAssembly: {version}, {layer:?}"),
        Some([]) => "the file has no version of WebAssembly".to_owned(),
    };
    Err(Error::new(Code::MALFORMED_WASM, message))
}

/// Whether the first word of a file that is no comment is `(`.
fn looks_like_text(text: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        rest = match rest.strip_prefix(";;") {
            Some(comment) => comment.split_once('\n').map_or("", |(_, rest)| rest).trim_start(),
            None => return rest.starts_with('('),
        };
    }
}

fn assemble(text: &str) -> Result<Vec<u8>, Error> {
    let text = text.trim_start_matches('\u{feff}');
    let error = |error: wast::Error| {
        let (line, column) = error.span().linecol_in(text);
        let (line, column) = (line + 1, column + 1);
        let message = error.message();
        let why = one_line(message.lines().next().unwrap_or_default());
        Error::new(Code::MALFORMED_TEXT, format!("the text does not parse at line {line}, column {column}: {why}"))
            .with("line", line)
            .with("column", column)
    };
    let buffer = ParseBuffer::new(text).map_err(error)?;
    let mut module: Wat<'_> = parser::parse(&buffer).map_err(error)?;
    module.encode().map_err(error)
}

fn not_wasm(bytes: &[u8]) -> Error {
    let known = OTHERS.iter().find(|(magic, ..)| bytes.starts_with(magic));
    match known {
        Some((_, what, hint)) => Error::new(Code::NOT_WASM, format!("the file is {what}, not WebAssembly")).hint(*hint),
        None => Error::new(Code::NOT_WASM, "the file is not WebAssembly").hint("submit a .wasm or .wat file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_by_its_first_word() {
        for text in ["(module)", " \n;; a comment ( \n\t(module)", "\u{feff}(module)", ";;\n;;\n("] {
            assert!(looks_like_text(text), "{text:?}");
        }
        for text in ["", ";;", "module", "{\"a\": (1)}", "x ("] {
            assert!(!looks_like_text(text), "{text:?}");
        }
    }
}
