//! Rust types as WIT writes them. Purely by name: see the crate's documentation for why that is safe.

use quote::ToTokens;
use syn::{Error, GenericArgument, PathArguments, PathSegment, Result, Type};

const HINT: &str = "describe the function in a .wit file and use `rwasm::generate!()`";

/// The WIT of a type.
///
/// # Errors
///
/// If the type has no counterpart, at its place in the source, with what to do instead.
pub(crate) fn wit(ty: &Type) -> Result<String> {
    match ty {
        Type::Paren(inner) => wit(&inner.elem),
        Type::Group(inner) => wit(&inner.elem),
        Type::Tuple(tuple) if tuple.elems.is_empty() => Err(Error::new_spanned(ty, "`()` has no counterpart in WIT here")),
        Type::Tuple(tuple) => Ok(format!("tuple<{}>", tuple.elems.iter().map(wit).collect::<Result<Vec<_>>>()?.join(", "))),
        Type::Path(path) if path.qself.is_none() => match path.path.segments.last() {
            Some(segment) => named(segment, ty),
            None => Err(unknown(ty)),
        },
        Type::Reference(_) => Err(Error::new_spanned(ty, "only a parameter as a whole can be a reference; use an owned type here")),
        _ => Err(unknown(ty)),
    }
}

/// The WIT of the type that a reference is given to, for a parameter: `&str` and `&[T]` as well as `&String` and `&Vec<T>`.
pub(crate) fn wit_of_referent(ty: &Type) -> Result<String> {
    match ty {
        Type::Path(path) if path.path.is_ident("str") => Ok("string".to_owned()),
        Type::Slice(slice) => Ok(format!("list<{}>", wit(&slice.elem)?)),
        _ => wit_of_whole(ty),
    }
}

/// The `T` and, where it is written out, the `E` of a `Result`.
pub(crate) fn result(ty: &Type) -> Option<(&Type, Option<&Type>)> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == "Result")?;
    match arguments(segment)[..] {
        [ok] => Some((ok, None)),
        [ok, error] => Some((ok, Some(error))),
        _ => None,
    }
}

/// The WIT of a `result`, where the error is given as WIT already.
pub(crate) fn wit_of_result(ok: &Type, error: Option<String>) -> Result<String> {
    let ok = if is_unit(ok) { None } else { Some(wit_of_whole(ok)?) };
    Ok(match (ok, error) {
        (None, None) => "result".to_owned(),
        (Some(ok), None) => format!("result<{ok}>"),
        (ok, Some(error)) => format!("result<{}, {error}>", ok.as_deref().unwrap_or("_")),
    })
}

/// The type of an object's handle, as WIT has it once it is named by the world.
pub(crate) const OBJECT: &str = "object";

/// Where a type has handles of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handles {
    /// Nowhere.
    None,
    /// It is one: `Object<T>`.
    One,
    /// It is a list of them: `Vec<Object<T>>`.
    Many,
}

/// Where a type has handles of objects; elsewhere than here it cannot have any.
pub(crate) fn handles(ty: &Type) -> Handles {
    let last = |ty: &Type| match ty {
        Type::Path(path) => path.path.segments.last().cloned(),
        _ => None,
    };
    let is_object = |ty: &Type| last(ty).is_some_and(|segment| segment.ident == "Object");
    match last(ty) {
        Some(segment) if segment.ident == "Object" => Handles::One,
        Some(segment) if segment.ident == "Vec" && arguments(&segment).first().is_some_and(|element| is_object(element)) => Handles::Many,
        _ => Handles::None,
    }
}

/// The WIT of a whole parameter or result, which alone can be a handle of an object, or a list of them.
pub(crate) fn wit_of_whole(ty: &Type) -> Result<String> {
    match handles(ty) {
        Handles::None => wit(ty),
        Handles::One => Ok(OBJECT.to_owned()),
        Handles::Many => Ok(format!("list<{OBJECT}>")),
    }
}

/// Whether a type is `()`.
pub(crate) fn is_unit(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty())
}

fn named(segment: &PathSegment, ty: &Type) -> Result<String> {
    let name = segment.ident.to_string();
    let arguments = arguments(segment);
    let simple = match name.as_str() {
        "bool" | "char" | "u8" | "u16" | "u32" | "u64" | "f32" | "f64" => Some(name.clone()),
        "i8" | "i16" | "i32" | "i64" => Some(format!("s{}", &name[1..])),
        "String" => Some("string".to_owned()),
        _ => None,
    };
    match (name.as_str(), simple, &arguments[..]) {
        (_, Some(simple), []) => Ok(simple),
        ("Vec", _, [element]) => Ok(format!("list<{}>", wit(element)?)),
        ("Option", _, [some]) => Ok(format!("option<{}>", wit(some)?)),
        ("Result", _, [ok, error]) => wit_of_result(ok, if is_unit(error) { None } else { Some(wit(error)?) }),
        ("usize" | "isize", ..) => Err(Error::new_spanned(ty, "the size of `usize` differs between machines; use `u32` or `u64`")),
        ("Object", ..) => Err(Error::new_spanned(ty, "only a whole parameter or result can be an `Object` or a `Vec` of them")),
        ("HashMap" | "BTreeMap", ..) => Err(Error::new_spanned(ty, "WIT has no maps; use `Vec<(K, V)>`")),
        _ => Err(unknown(ty)),
    }
}

fn arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return Vec::new() };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

fn unknown(ty: &Type) -> Error {
    let text = ty.to_token_stream().to_string();
    Error::new_spanned(ty, format!("`{text}` is none of the types that `#[rwasm::export]` knows; {HINT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_as_wit() {
        let cases = [
            ("u8", "u8"),
            ("i64", "s64"),
            ("f32", "f32"),
            ("std::string::String", "string"),
            ("Vec<u8>", "list<u8>"),
            ("Option<Vec<(u32, String)>>", "option<list<tuple<u32, string>>>"),
            ("(char,)", "tuple<char>"),
            ("Result<u32, String>", "result<u32, string>"),
            ("Result<(), String>", "result<_, string>"),
            ("Result<u32, ()>", "result<u32>"),
            ("Result<(), ()>", "result"),
        ];
        for (rust, expected) in cases {
            assert_eq!(wit(&syn::parse_str(rust).unwrap()).unwrap(), expected, "{rust}");
        }
    }

    #[test]
    fn what_has_no_counterpart_is_refused() {
        let cases = [
            ("usize", "u32"),
            ("i128", "`i128` is none of"),
            ("HashMap<String, u32>", "Vec<(K, V)>"),
            ("Stats", ".wit file"),
            ("Vec<&str>", "reference"),
            ("Option<()>", "`()`"),
            ("[u8; 4]", "none of"),
            ("impl Iterator<Item = u8>", "none of"),
            ("u8<T>", "none of"),
        ];
        for (rust, expected) in cases {
            let error = wit(&syn::parse_str(rust).unwrap()).unwrap_err().to_string();
            assert!(error.contains(expected), "{rust}: {error}");
        }
    }
}
