//! Types of WIT in Rust: named where they are used, and defined, once each, in the module of the interface that they are of.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use wit_parser::{Handle, InterfaceId, Resolve, Type, TypeDef, TypeDefKind, TypeId, TypeOwner, WorldKey};

/// Where something stands: beside the macro, or in the module of an interface there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Root,
    Interface(InterfaceId),
}

pub(crate) struct Types<'a> {
    resolve: &'a Resolve,
    /// The types that were named and have to be defined, in that order.
    needed: Vec<TypeId>,
    /// Modules that are not called like their interface.
    modules: Vec<(InterfaceId, String)>,
}

impl<'a> Types<'a> {
    pub(crate) fn new(resolve: &'a Resolve) -> Self {
        Self { resolve, needed: Vec::new(), modules: Vec::new() }
    }

    /// Names the module of an interface that a world exports. The second of a name is called by its package, too.
    pub(crate) fn name(&mut self, id: InterfaceId, key: &WorldKey) {
        let name = match key {
            WorldKey::Name(name) => name.clone(),
            WorldKey::Interface(id) => self.resolve.interfaces[*id].name.clone().unwrap_or_default(),
        };
        self.modules.push((id, self.free(id, name)));
    }

    fn free(&self, id: InterfaceId, name: String) -> String {
        if self.modules.iter().any(|(_, taken)| *taken == name)
            && let Some(package) = self.resolve.interfaces[id].package
        {
            let package = &self.resolve.packages[package].name;
            return format!("{}-{}-{name}", package.namespace, package.name);
        }
        name
    }

    /// The module of an interface, which has its name from now on.
    pub(crate) fn module(&mut self, id: InterfaceId) -> Ident {
        if let Some((_, name)) = self.modules.iter().find(|(module, _)| *module == id) {
            return snake(name);
        }
        let name = self.free(id, self.resolve.interfaces[id].name.clone().unwrap_or_default());
        let ident = snake(&name);
        self.modules.push((id, name));
        ident
    }

    /// A type, as code in a scope names it.
    ///
    /// # Errors
    ///
    /// What it has that no task can be called with: "has a stream".
    pub(crate) fn named(&mut self, ty: &Type, scope: Scope) -> Result<TokenStream, String> {
        Ok(match ty {
            Type::Bool => quote!(bool),
            Type::U8 => quote!(u8),
            Type::U16 => quote!(u16),
            Type::U32 => quote!(u32),
            Type::U64 => quote!(u64),
            Type::S8 => quote!(i8),
            Type::S16 => quote!(i16),
            Type::S32 => quote!(i32),
            Type::S64 => quote!(i64),
            Type::F32 => quote!(f32),
            Type::F64 => quote!(f64),
            Type::Char => quote!(char),
            Type::String => quote!(::std::string::String),
            Type::ErrorContext => return Err("has an error-context, which no task can be called with".to_owned()),
            Type::Id(id) => return self.defined(*id, scope),
        })
    }

    fn defined(&mut self, id: TypeId, scope: Scope) -> Result<TokenStream, String> {
        let resolve = self.resolve;
        let optional = |types: &mut Self, ty: &Option<Type>| ty.as_ref().map_or_else(|| Ok(quote!(())), |ty| types.named(ty, scope));
        Ok(match &resolve.types[id].kind {
            TypeDefKind::Type(ty) => self.named(ty, scope)?,
            TypeDefKind::List(ty) => {
                let element = self.named(ty, scope)?;
                quote!(::std::vec::Vec<#element>)
            }
            TypeDefKind::FixedLengthList(ty, length) => {
                let (element, length) = (self.named(ty, scope)?, *length as usize);
                quote!([#element; #length])
            }
            TypeDefKind::Option(ty) => {
                let some = self.named(ty, scope)?;
                quote!(::core::option::Option<#some>)
            }
            TypeDefKind::Result(result) => {
                let (ok, error) = (optional(self, &result.ok)?, optional(self, &result.err)?);
                quote!(::core::result::Result<#ok, #error>)
            }
            TypeDefKind::Tuple(tuple) if tuple.types.len() > 12 => return Err("has a tuple of more than 12 elements".to_owned()),
            TypeDefKind::Tuple(tuple) => {
                let elements = tuple.types.iter().map(|ty| self.named(ty, scope)).collect::<Result<Vec<_>, _>>()?;
                quote!((#(#elements,)*))
            }
            TypeDefKind::Record(_) | TypeDefKind::Variant(_) | TypeDefKind::Enum(_) | TypeDefKind::Flags(_) => self.item_path(id, scope),
            TypeDefKind::Handle(Handle::Own(resource) | Handle::Borrow(resource)) => self.handle(*resource)?,
            TypeDefKind::Resource => self.handle(id)?,
            TypeDefKind::Map(..) => return Err("has a map, which Rust has no counterpart of here".to_owned()),
            TypeDefKind::Stream(_) => return Err("has a stream, which no task can be called with".to_owned()),
            TypeDefKind::Future(_) => return Err("has a future, which no task can be called with".to_owned()),
            TypeDefKind::Unknown => return Err("has a type that is not known".to_owned()),
        })
    }

    /// A resource; the one that tasks can be passed is the handle of an object.
    fn handle(&self, mut id: TypeId) -> Result<TokenStream, String> {
        while let TypeDefKind::Type(Type::Id(other)) = self.resolve.types[id].kind {
            id = other;
        }
        let TypeDef { name, owner, .. } = &self.resolve.types[id];
        let interface = match owner {
            TypeOwner::Interface(interface) => self.resolve.id_of(*interface).unwrap_or_default(),
            _ => String::new(),
        };
        let name = name.as_deref().unwrap_or_default();
        if name == "object" && interface.starts_with("rwasm:core/objects@0.1.") {
            return Ok(quote!(::rwasm::Object<::rwasm::object::Any>));
        }
        Err(format!("has the resource `{name}`, which stays with its actor"))
    }

    fn item_path(&mut self, id: TypeId, scope: Scope) -> TokenStream {
        if !self.needed.contains(&id) {
            self.needed.push(id);
        }
        let name = self.item_name(id);
        match (scope, self.scope(id)) {
            (from, to) if from == to => quote!(#name),
            (_, Scope::Root) => quote!(super::#name),
            (Scope::Root, Scope::Interface(interface)) => {
                let module = self.module(interface);
                quote!(#module::#name)
            }
            (Scope::Interface(_), Scope::Interface(interface)) => {
                let module = self.module(interface);
                quote!(super::#module::#name)
            }
        }
    }

    fn item_name(&self, id: TypeId) -> Ident {
        camel(self.resolve.types[id].name.as_deref().unwrap_or("unnamed"))
    }

    fn scope(&self, id: TypeId) -> Scope {
        match self.resolve.types[id].owner {
            TypeOwner::Interface(interface) => Scope::Interface(interface),
            _ => Scope::Root,
        }
    }

    /// The definitions of all types that were named, and of those that they name in turn, each with its place.
    pub(crate) fn items(&mut self) -> Result<Vec<(Scope, TokenStream)>, String> {
        let mut items = Vec::new();
        while let Some(id) = self.needed.get(items.len()).copied() {
            let item = self.item(id).map_err(|why| format!("`{}` {why}", self.resolve.types[id].name.as_deref().unwrap_or("a type")))?;
            items.push((self.scope(id), item));
        }
        Ok(items)
    }

    fn item(&mut self, id: TypeId) -> Result<TokenStream, String> {
        let (resolve, scope, name) = (self.resolve, self.scope(id), self.item_name(id));
        let definition = &resolve.types[id];
        let documentation =
            definition.docs.contents.clone().unwrap_or_else(|| format!("`{}`", definition.name.as_deref().unwrap_or_default()));
        let derives = if self.has_handles(&Type::Id(id)) { quote!(Debug) } else { quote!(Clone, Debug, PartialEq) };
        let (defined, value) = match &definition.kind {
            TypeDefKind::Record(record) => {
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    fields.push((field.name.as_str(), snake(&field.name), self.named(&field.ty, scope)?));
                }
                (record_definition(&name, &fields), record_value(&fields))
            }
            TypeDefKind::Variant(variant) => {
                let mut cases = Vec::with_capacity(variant.cases.len());
                for case in &variant.cases {
                    let payload = case.ty.as_ref().map(|ty| self.named(ty, scope)).transpose()?;
                    cases.push((case.name.as_str(), camel(&case.name), payload));
                }
                (variant_definition(&name, &cases), variant_value("variant", &cases))
            }
            TypeDefKind::Enum(names) => {
                let cases: Vec<_> = names.cases.iter().map(|case| (case.name.as_str(), camel(&case.name), None)).collect();
                let defined = variant_definition(&name, &cases);
                (quote!(#[derive(Copy, Eq, Hash)] #defined), variant_value("enum", &cases))
            }
            TypeDefKind::Flags(flags) => {
                let names: Vec<_> = flags.flags.iter().map(|flag| flag.name.as_str()).collect();
                let (defined, value) = (flags_definition(&name, &names), flags_value(&names));
                return Ok(quote!(#defined impl ::rwasm::value::Value for #name { #value }));
            }
            _ => return Err("is not defined by its name".to_owned()),
        };
        Ok(quote! {
            #[doc = #documentation]
            #[derive(#derives)]
            #[allow(dead_code, missing_docs, unreachable_pub, clippy::all, reason = "generated")]
            #defined

            #[allow(clippy::all, clippy::pedantic, reason = "generated")]
            impl ::rwasm::value::Value for #name { #value }
        })
    }

    /// Whether values of a type name objects. Handles cannot be copied or compared.
    fn has_handles(&self, ty: &Type) -> bool {
        let Type::Id(id) = ty else { return false };
        let optional = |ty: &Option<Type>| ty.as_ref().is_some_and(|ty| self.has_handles(ty));
        match &self.resolve.types[*id].kind {
            TypeDefKind::Handle(_) | TypeDefKind::Resource => true,
            TypeDefKind::Type(ty) | TypeDefKind::List(ty) | TypeDefKind::Option(ty) | TypeDefKind::FixedLengthList(ty, _) => {
                self.has_handles(ty)
            }
            TypeDefKind::Record(record) => record.fields.iter().any(|field| self.has_handles(&field.ty)),
            TypeDefKind::Tuple(tuple) => tuple.types.iter().any(|ty| self.has_handles(ty)),
            TypeDefKind::Variant(variant) => variant.cases.iter().any(|case| optional(&case.ty)),
            TypeDefKind::Result(result) => optional(&result.ok) || optional(&result.err),
            _ => false,
        }
    }
}

type Field<'a> = (&'a str, Ident, TokenStream);

fn record_definition(name: &Ident, fields: &[Field<'_>]) -> TokenStream {
    let fields = fields.iter().map(|(_, field, ty)| quote!(pub #field: #ty));
    quote!(pub struct #name { #(#fields),* })
}

fn record_value(fields: &[Field<'_>]) -> TokenStream {
    let (names, types): (Vec<_>, Vec<_>) = fields.iter().map(|(_, name, ty)| (name, ty)).unzip();
    let labels = fields.iter().enumerate().map(|(index, (label, ..))| format!("{}{label}: ", if index == 0 { "record { " } else { ", " }));
    quote! {
        fn describe(text: &mut ::std::string::String) {
            #(text.push_str(#labels); <#types as ::rwasm::value::Value>::describe(text);)*
            text.push_str(" }");
        }

        fn encode<'a>(&'a self, into: &mut ::rwasm::value::Encoder<'a>) {
            #(::rwasm::value::Value::encode(&self.#names, into);)*
        }

        fn decode(from: &mut ::rwasm::value::Decoder<'_>) -> ::core::result::Result<Self, ::rwasm::object::Error> {
            ::core::result::Result::Ok(Self { #(#names: ::rwasm::value::Value::decode(from)?),* })
        }
    }
}

type Case<'a> = (&'a str, Ident, Option<TokenStream>);

fn variant_definition(name: &Ident, cases: &[Case<'_>]) -> TokenStream {
    let cases = cases.iter().map(|(_, case, payload)| match payload {
        Some(ty) => quote!(#case(#ty)),
        None => quote!(#case),
    });
    quote!(pub enum #name { #(#cases),* })
}

fn variant_value(kind: &str, cases: &[Case<'_>]) -> TokenStream {
    let count = cases.len() as u32;
    let described = cases.iter().enumerate().map(|(index, (label, _, payload))| {
        let label = if index == 0 { format!("{kind} {{ {label}") } else { format!(", {label}") };
        let payload = payload.as_ref().map(|ty| quote!(text.push('('); <#ty as ::rwasm::value::Value>::describe(text); text.push(')');));
        quote!(text.push_str(#label); #payload)
    });
    let encoded = cases.iter().enumerate().map(|(index, (_, case, payload))| match payload {
        Some(_) => quote!(Self::#case(value) => { into.number(#index); ::rwasm::value::Value::encode(value, into); }),
        None => quote!(Self::#case => into.number(#index),),
    });
    let decoded = cases.iter().zip(0_u32..).map(|((_, case, payload), index)| match payload {
        Some(_) => quote!(#index => Self::#case(::rwasm::value::Value::decode(from)?)),
        None => quote!(#index => Self::#case),
    });
    quote! {
        fn describe(text: &mut ::std::string::String) {
            #(#described)*
            text.push_str(" }");
        }

        fn encode<'a>(&'a self, into: &mut ::rwasm::value::Encoder<'a>) {
            match self { #(#encoded)* }
        }

        fn decode(from: &mut ::rwasm::value::Decoder<'_>) -> ::core::result::Result<Self, ::rwasm::object::Error> {
            ::core::result::Result::Ok(match from.case(#count)? {
                #(#decoded,)*
                _ => return ::core::result::Result::Err(::rwasm::object::Error::Malformed),
            })
        }
    }
}

fn flags_definition(name: &Ident, names: &[&str]) -> TokenStream {
    let constants = names.iter().zip(0_u32..).map(|(flag, bit)| {
        let constant = Ident::new(&flag.replace('-', "_").to_ascii_uppercase(), proc_macro2::Span::call_site());
        quote!(const #constant = 1 << #bit;)
    });
    quote! {
        ::rwasm::__private::wit_bindgen::rt::bitflags::bitflags! {
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            #[allow(missing_docs, unreachable_pub, reason = "generated")]
            pub struct #name: u32 { #(#constants)* }
        }
    }
}

fn flags_value(names: &[&str]) -> TokenStream {
    let text = format!("flags {{ {} }}", names.join(", "));
    let bytes = names.len().div_ceil(8);
    quote! {
        fn describe(text: &mut ::std::string::String) {
            text.push_str(#text);
        }

        fn encode<'a>(&'a self, into: &mut ::rwasm::value::Encoder<'a>) {
            into.bytes(&self.bits().to_le_bytes()[..#bytes]);
        }

        fn decode(from: &mut ::rwasm::value::Decoder<'_>) -> ::core::result::Result<Self, ::rwasm::object::Error> {
            let mut bits = [0; 4];
            bits[..#bytes].copy_from_slice(from.bytes(#bytes)?);
            Self::from_bits(u32::from_le_bytes(bits)).ok_or(::rwasm::object::Error::Malformed)
        }
    }
}

/// A name of WIT as Rust has it for functions, fields and modules. Words of the language get a `_`, as in the bindings of `wit-bindgen`.
pub(crate) fn snake(name: &str) -> Ident {
    ident(name.replace('-', "_").to_ascii_lowercase())
}

/// A name of WIT as Rust has it for types and cases.
fn camel(name: &str) -> Ident {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + &rest.to_ascii_lowercase()
    };
    ident(name.split('-').map(word).collect())
}

fn ident(name: String) -> Ident {
    syn::parse_str(&name).unwrap_or_else(|_| format_ident!("{name}_"))
}
