//! WAVE, the text of values that people type: `transfer("a", 100)`, `[1, 2, 3]`, `{x: 1.5, y: none}`.
//!
//! It is the language of the `wasm-wave` crate, whose lexer and parser are used, with two additions. A ref is `@ref(ID)`, as in
//! `@ref(o3-17-42-0)`; it stands for a handle, or for a whole argument that is given by ref. Inside of string and char literals nothing
//! of this is special: `"@ref(x)"` is seven letters and signs. A `map` is a list of pairs: `[("a", 1), ("b", 2)]`.

mod call;
mod read;
mod write;

pub use self::{
    call::{FileRef, find_files, parse_args, parse_call, parse_value},
    write::{args_to_string, to_string},
};

/// The most bytes of a WAVE text, which people type; what is larger is given as JSON or by ref.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
