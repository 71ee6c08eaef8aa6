//! `rwasm::import!`: makes stubs of the functions that a WIT file says another artifact exports.

mod types;

use std::path::PathBuf;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, Ident, LitStr, Result, Token, braced, parse::Parse, parse::ParseStream};
use wit_parser::{Function, FunctionKind, InterfaceId, Resolve, WorldId, WorldItem, WorldKey};

use self::types::{Scope, Types, snake};
use crate::{signature::WIT, stub::Stub};

/// The stubs, and the types that they name.
///
/// # Errors
///
/// If the WIT is not to be had or is wrong, or has what tasks cannot be called with.
pub(crate) fn stubs(input: TokenStream) -> Result<TokenStream> {
    let input: Input = syn::parse2(input)?;
    let (resolve, world, files) = input.resolve()?;
    let exports = Exports { resolve: &resolve, artifact: input.artifact.as_ref().map(LitStr::value), types: Types::new(&resolve) };
    let stubs = exports.all(world).map_err(|why| Error::new(input.span, why))?;
    let files = files.iter().map(|file| file.display().to_string());
    // So that the program is built again when they change.
    Ok(quote!(#stubs #(const _: &[u8] = ::core::include_bytes!(#files);)*))
}

/// What stands in the braces.
struct Input {
    artifact: Option<LitStr>,
    path: Option<LitStr>,
    inline: Option<LitStr>,
    world: Option<LitStr>,
    span: Span,
}

impl Parse for Input {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut all = Self { artifact: None, path: None, inline: None, world: None, span: input.span() };
        if input.is_empty() {
            return Ok(all);
        }
        let content;
        braced!(content in input);
        while !content.is_empty() {
            let key: Ident = content.parse()?;
            content.parse::<Token![:]>()?;
            let place = match key.to_string().as_str() {
                "artifact" => &mut all.artifact,
                "path" => &mut all.path,
                "inline" => &mut all.inline,
                "world" => &mut all.world,
                _ => return Err(Error::new(key.span(), "this is none of `artifact`, `path`, `inline` and `world`")),
            };
            let value: LitStr = content.parse()?;
            if matches!(key.to_string().as_str(), "path" | "inline") {
                all.span = value.span();
            }
            if place.replace(value).is_some() {
                return Err(Error::new(key.span(), format!("`{key}` is here twice")));
            }
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        match (&all.path, &all.inline) {
            (Some(_), Some(inline)) => Err(Error::new(inline.span(), "the WIT is either in a file, `path`, or here, `inline`")),
            _ => Ok(all),
        }
    }
}

impl Input {
    /// The world whose exports are meant, and the files that describe it.
    fn resolve(&self) -> Result<(Resolve, WorldId, Vec<PathBuf>)> {
        // A directory may have the interfaces of rwasm among what it depends on; then they are there already, and must not come twice.
        let resolved = match self.resolve_with(false) {
            Err(why) if why.contains("package 'rwasm:core") => self.resolve_with(true),
            resolved => resolved,
        };
        resolved.map_err(|why| Error::new(self.span, why))
    }

    fn resolve_with(&self, core: bool) -> std::result::Result<(Resolve, WorldId, Vec<PathBuf>), String> {
        let mut resolve = Resolve::default();
        if core {
            resolve.push_path(WIT).map_err(|error| format!("{error:#}"))?;
        }
        let (package, files) = match &self.inline {
            Some(inline) => (resolve.push_str("import", &inline.value()).map_err(|error| format!("{error:#}"))?, Vec::new()),
            None => {
                let root = std::env::var("CARGO_MANIFEST_DIR").map_err(|error| format!("CARGO_MANIFEST_DIR: {error}"))?;
                let path = PathBuf::from(root).join(self.path.as_ref().map_or_else(|| "wit".to_owned(), LitStr::value));
                let (package, sources) = resolve.push_path(path).map_err(|error| format!("{error:#}"))?;
                (package, sources.paths().map(PathBuf::from).collect())
            }
        };
        let world = self.world.as_ref().map(LitStr::value);
        let world = resolve.select_world(&[package], world.as_deref()).map_err(|error| format!("{error:#}"))?;
        Ok((resolve, world, files))
    }
}

struct Exports<'a> {
    resolve: &'a Resolve,
    artifact: Option<String>,
    types: Types<'a>,
}

impl Exports<'_> {
    /// What a world exports. Each interface is a module of its name.
    fn all(mut self, world: WorldId) -> std::result::Result<TokenStream, String> {
        let resolve = self.resolve;
        let mut root = TokenStream::new();
        let mut modules: Vec<(InterfaceId, TokenStream)> = Vec::new();
        // All of them before the first type of another is spoken of.
        for (key, item) in &resolve.worlds[world].exports {
            if let WorldItem::Interface { id, .. } = item {
                self.types.name(*id, key);
            }
        }
        for (key, item) in &resolve.worlds[world].exports {
            match item {
                WorldItem::Function(function) => root.extend(self.stub(function, None, Scope::Root)?),
                WorldItem::Interface { id, .. } => {
                    let interface = match key {
                        WorldKey::Name(name) => name.clone(),
                        WorldKey::Interface(id) => resolve.id_of(*id).ok_or("an interface has no name")?,
                    };
                    let mut module = TokenStream::new();
                    for function in resolve.interfaces[*id].functions.values() {
                        module.extend(self.stub(function, Some(&interface), Scope::Interface(*id))?);
                    }
                    modules.push((*id, module));
                }
                WorldItem::Type { .. } => {}
            }
        }
        for (scope, item) in self.types.items()? {
            match scope {
                Scope::Root => root.extend(item),
                Scope::Interface(id) => match modules.iter_mut().find(|(module, _)| *module == id) {
                    Some((_, module)) => module.extend(item),
                    None => modules.push((id, item)),
                },
            }
        }
        if root.is_empty() && modules.is_empty() {
            return Err(format!("the world `{}` exports nothing", resolve.worlds[world].name));
        }
        for (id, module) in modules {
            let name = self.types.module(id);
            let documentation = format!("The interface `{}`.", resolve.id_of(id).as_deref().unwrap_or("of the world"));
            root.extend(quote!(#[doc = #documentation] pub mod #name { #module }));
        }
        Ok(root)
    }

    fn stub(&mut self, function: &Function, interface: Option<&str>, scope: Scope) -> std::result::Result<TokenStream, String> {
        let export = interface.map_or_else(|| function.name.clone(), |interface| format!("{interface}/{}", function.name));
        let refuse = |why: String| {
            format!(
                "`{export}` {why}; if it is not to be called from here, leave it out of a copy of the WIT, which need not have everything that the artifact exports"
            )
        };
        if !matches!(function.kind, FunctionKind::Freestanding | FunctionKind::AsyncFreestanding) {
            return Err(refuse("belongs to a resource, and is called on actors, not as a task".to_owned()));
        }
        let mut parameters = Vec::with_capacity(function.params.len());
        for parameter in &function.params {
            parameters.push((snake(&parameter.name), self.types.named(&parameter.ty, scope).map_err(refuse)?));
        }
        let output = match &function.result {
            Some(ty) => self.types.named(ty, scope).map_err(refuse)?,
            None => quote!(()),
        };
        let name = snake(&function.name);
        let stub = Stub {
            visibility: quote!(pub),
            name: &format_ident!("{name}"),
            documentation: function.docs.contents.clone().unwrap_or_else(|| format!("Starts tasks of `{export}`.")),
            artifact: self.artifact.as_deref(),
            export: &export,
            parameters,
            output,
            call: None,
        };
        Ok(stub.tokens())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wit: &str) -> std::result::Result<String, String> {
        stubs(quote!({ artifact: "a:1", inline: #wit })).map(|tokens| tokens.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_called_is_refused() {
        let cases = [
            ("package a:b; world w { }", "exports nothing"),
            ("package a:b; world w { export f: func(x: stream<u8>); }", "`f` has a stream"),
            ("package a:b; world w { export f: func(x: map<string, u8>); }", "a map"),
            ("package a:b; interface i { resource r; f: func(x: borrow<r>); } world w { export i; }", "`a:b/i/f` has the resource `r`"),
            ("package a:b; interface i { resource r { constructor(); } } world w { export i; }", "called on actors"),
            ("package a:b; world w { export f: func(x: nothing); }", "nothing"),
            ("package a:b; world v { } world w { }", "world"),
        ];
        for (wit, expected) in cases {
            let error = check(wit).unwrap_err();
            assert!(error.contains(expected), "{wit}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_options_is_said() {
        let cases = [
            (quote!({ path: "a", inline: "b" }), "either"),
            (quote!({ wit: "a" }), "none of"),
            (quote!({ world: "a", world: "b" }), "twice"),
            (quote!({ path: "no/such.wit" }), "no/such.wit"),
        ];
        for (input, expected) in cases {
            let error = stubs(input.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }

    #[test]
    fn interfaces_of_one_name_are_told_apart() {
        let wit = "package a:b; interface i { f: func(); } world w { export i; export c:d/i; }
                   package c:d { interface i { record r { x: u8 } f: func(x: r); } }";
        let tokens = check(wit).unwrap();
        for part in ["pub mod i {", "pub mod c_d_i {"] {
            assert!(tokens.contains(part), "{part}: {tokens}");
        }
    }

    #[test]
    fn so_are_those_that_are_only_used() {
        let others = "package c:d { interface types { record p { x: u8 } } } package e:f { interface types { record q { x: u8 } } }";
        let wit = "package a:b; world w { use c:d/types.{p}; use e:f/types.{q}; export f: func(x: p, y: q); }";
        let tokens = check(&format!("{wit} {others}")).unwrap();
        for part in ["pub mod types {", "pub mod e_f_types {", "e_f_types :: Q"] {
            assert!(tokens.contains(part), "{part}: {tokens}");
        }
        // One that is exported has its name before another that is spoken of first.
        let wit = "package a:b; interface one { use c:d/types.{p}; f: func(x: p); } interface types { g: func(); }
                   world w { export one; export types; }";
        let tokens = check(&format!("{wit} {others}")).unwrap();
        for part in ["super :: c_d_types :: P", "pub mod c_d_types {"] {
            assert!(tokens.contains(part), "{part}: {tokens}");
        }
    }

    #[test]
    fn handles_of_objects_are_known_by_their_interface() {
        let wit =
            "package a:b; world w { use rwasm:core/objects@0.1.0.{object}; export f: func(x: object, y: borrow<object>) -> list<object>; }";
        let tokens = check(wit).unwrap();
        for part in ["Argument < :: rwasm :: Object < :: rwasm :: object :: Any > >", "Task < :: std :: vec :: Vec < :: rwasm :: Object"] {
            assert!(tokens.contains(part), "{part}: {tokens}");
        }
    }
}
