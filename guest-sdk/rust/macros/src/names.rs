//! Names that an export cannot have on some target. An export of a component is a symbol of its program too, so one that is named like a
//! function of the C library takes its place: `exp` would call itself, and `exit` would not exit.
//!
//! Only names of one word can clash, for symbols of C have no hyphens. Exports of an interface have longer symbols and cannot clash either.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::Ident;

/// One section for each scope, each after a line that begins with `#`.
const C_NAMES: &str = include_str!("c_names.txt");

/// An error for the targets on which `name`, as WIT has it, is taken.
pub(crate) fn check(name: &str, ident: &Ident) -> TokenStream {
    let message = format!(
        "`{name}` is also a function that the standard library calls on this target, and an export would take its place; \
         use a name of two words, or a .wit file with an interface"
    );
    match scope(name) {
        None => TokenStream::new(),
        Some(Scope::Wasm) => quote_spanned!(ident.span()=> #[cfg(target_family = "wasm")] ::core::compile_error!(#message);),
        Some(Scope::Wasi) => quote_spanned!(ident.span()=> #[cfg(target_os = "wasi")] ::core::compile_error!(#message);),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Scope {
    Wasm,
    Wasi,
}

fn scope(name: &str) -> Option<Scope> {
    let mut scope = None;
    for line in C_NAMES.lines() {
        if line.starts_with('#') {
            scope = if scope.is_none() { Some(Scope::Wasm) } else { Some(Scope::Wasi) };
        } else if line.split_whitespace().any(|taken| taken == name) {
            return scope;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken() {
        for (name, expected) in [
            ("exp", Some(Scope::Wasm)),
            ("memcpy", Some(Scope::Wasm)),
            ("exit", Some(Scope::Wasi)),
            ("connect", Some(Scope::Wasi)),
            ("greet", None),
            ("word-count", None),
            ("", None),
        ] {
            assert_eq!(scope(name), expected, "{name}");
        }
    }
}
