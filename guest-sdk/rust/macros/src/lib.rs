//! `#[rwasm::export]`: makes a plain function an export of the component, and `rwasm::import!`: makes stubs of those of others.
//!
//! The attribute reads the function's signature, writes the WIT of it and lets `wit-bindgen` generate the bindings, in a small world of
//! the function's own; the linker merges all worlds of a program. It knows the types of WIT by the names they have in Rust and resolves
//! nothing: where a name means something else than it seems to, the generated code does not compile, so the contract is never wrong.

mod import;
mod names;
mod signature;
mod stub;
mod types;

use proc_macro::TokenStream;
use quote::quote;
use syn::{ItemFn, parse_macro_input};

/// Exports a function, so that it can be called as a task.
///
/// Its name and those of its parameters become kebab case in WIT: `word_count` becomes `word-count`. The function itself stays as it is, for
/// tests and other callers.
///
/// | in Rust | in WIT |
/// |---|---|
/// | `bool`, `char`, `u8` … `u64`, `i8` … `i64`, `f32`, `f64` | `bool`, `char`, `u8` … `u64`, `s8` … `s64`, `f32`, `f64` |
/// | `String`, and `&str` as a parameter | `string` |
/// | `Vec<T>`, and `&[T]` as a parameter | `list<T>` |
/// | `Option<T>`, `(A, B)` | `option<T>`, `tuple<A, B>` |
/// | `Result<T, E>` | `result<T, E>` |
/// | a returned `Result<T, E>` or `Result<T>` whose error is none of these | `result<T, string>`, with the error's `Display` text |
///
/// Beside the function there is a type of its name then, which starts tasks of it: `word_count::submit("some text")`, or with options
/// `word_count::with(options).submit("some text")`. See `rwasm::task`. So a module or a type beside the function cannot have its name.
///
/// A function of one word cannot be named like one of the C library, `read` or `exp`, on targets where the standard library calls that one.
///
/// Records, variants, resources and interfaces need a WIT file and [`rwasm::generate!`](macro.generate.html); both ways can be used in
/// one component.
#[proc_macro_attribute]
pub fn export(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let bindings = if options.is_empty() {
        signature::bindings(&function)
    } else {
        Err(syn::Error::new(proc_macro2::Span::call_site(), "`#[rwasm::export]` takes no options"))
    };
    // After an error the function is kept, so that its callers do not fail as well.
    let bindings = bindings.unwrap_or_else(|error| error.into_compile_error());
    quote!(#function #bindings).into()
}

/// Makes stubs of the functions that another artifact exports, by its WIT: they start tasks, and the compiler checks the calls.
///
/// `rwasm::import!({ artifact: "weather:1", path: "weather.wit" })`; the crate's documentation has an example.
///
/// | option | |
/// |---|---|
/// | `artifact` | its tag or digest, as `rwasm submit` takes them; without, the running artifact, for exports that are written down in WIT |
/// | `path` | a WIT file or a directory of them, from the directory of `Cargo.toml` on; `wit` by default |
/// | `inline` | the WIT itself |
/// | `world` | which one, if there are several |
///
/// What the world exports is there beside the macro: functions, and a module for each interface, with its functions and with the types that they
/// use. Records become structs, variants and enums become enums, flags are of `bitflags`. A handle of an object is an
/// `Object<Any>`; `Object::cast` gives it a type. Functions with resources of the artifact's own, streams or futures cannot be called as tasks
/// and are refused; the WIT need not have all that the artifact exports.
///
/// Whether the artifact has such functions is looked at when a task is started, by the types.
#[proc_macro]
pub fn import(options: TokenStream) -> TokenStream {
    import::stubs(options.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
