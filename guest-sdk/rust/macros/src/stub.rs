//! What starts tasks of a function: a type of the function's name, for types and functions have separate names, with `submit` and `with`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

/// A function that tasks can be started of.
pub(crate) struct Stub<'a> {
    pub(crate) visibility: TokenStream,
    pub(crate) name: &'a Ident,
    pub(crate) documentation: String,
    /// The artifact that has it, if it is not the running one.
    pub(crate) artifact: Option<&'a str>,
    /// Its name in WIT, with the interface.
    pub(crate) export: &'a str,
    /// Names and types of the parameters, each a `Value`.
    pub(crate) parameters: Vec<(Ident, TokenStream)>,
    /// What it returns, a `Value`.
    pub(crate) output: TokenStream,
    /// How it is called in this program, with arguments of the names and types above, where this program has it.
    pub(crate) call: Option<TokenStream>,
}

impl Stub<'_> {
    pub(crate) fn tokens(&self) -> TokenStream {
        let Self { visibility, name, documentation, artifact, export, output, .. } = self;
        let (names, types): (Vec<_>, Vec<_>) = self.parameters.iter().map(|(name, ty)| (name, ty)).unzip();
        let artifact = match artifact {
            Some(artifact) => quote!(::core::option::Option::Some(#artifact)),
            None => quote!(::core::option::Option::None),
        };
        // A parameter may have any name.
        let arguments = Ident::new("arguments", Span::mixed_site());
        let started = quote!(::core::result::Result<::rwasm::task::Task<#output>, ::rwasm::task::Error>);
        let read = quote!(let (#(#names,)*) = received.read(|taken| ::core::result::Result::Ok((#(taken.argument::<#types>()?,)*)))?;);
        let stored = |call: &TokenStream| quote!(::core::result::Result::Ok(::rwasm::__private::tasks::Stored::new::<#output>(&#call)));
        let (run, answer) = match &self.call {
            Some(call) => {
                let stored = stored(call);
                (quote!(|received| { #read #stored }), TokenStream::new())
            }
            None => {
                let stored = stored(&quote!(answer(#(#names),*)));
                let answer = quote! {
                    /// Says what its tasks return, in tests on this thread.
                    #[cfg(not(target_family = "wasm"))]
                    pub fn answer(answer: impl Fn(#(#types),*) -> #output + 'static) {
                        ::rwasm::__private::tasks::set_answer(#artifact, #export, move |received| { #read #stored });
                    }
                };
                (quote!(|received| ::rwasm::__private::tasks::answer(#artifact, #export, received)), answer)
            }
        };
        quote! {
            #[doc = #documentation]
            #[allow(dead_code, non_camel_case_types, missing_debug_implementations, unreachable_pub, clippy::all, reason = "generated")]
            #visibility enum #name {}

            #[allow(dead_code, missing_docs, missing_debug_implementations, unreachable_pub, unused_variables, clippy::all, clippy::pedantic, reason = "generated")]
            const _: () = {
                /// A call with options.
                pub struct Call(::rwasm::task::Options);

                impl #name {
                    /// Starts a task.
                    pub fn submit(#(#names: impl ::rwasm::task::Argument<#types>),*) -> #started {
                        Self::with(::rwasm::task::Options::new()).submit(#(#names),*)
                    }

                    /// The same with options, to be followed by `submit`.
                    pub fn with(options: ::rwasm::task::Options) -> Call {
                        Call(options)
                    }

                    #answer
                }

                impl Call {
                    /// Starts a task.
                    pub fn submit(self, #(#names: impl ::rwasm::task::Argument<#types>),*) -> #started {
                        let mut #arguments = ::rwasm::__private::Arguments::default();
                        #(#arguments.add::<#types>(&#names);)*
                        #[cfg(target_family = "wasm")]
                        {
                            ::rwasm::__private::start(#artifact, #export, #arguments, &self.0)
                        }
                        #[cfg(not(target_family = "wasm"))]
                        {
                            ::rwasm::__private::start(#arguments, #run)
                        }
                    }
                }
            };
        }
    }
}
