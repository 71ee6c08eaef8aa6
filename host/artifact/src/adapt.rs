//! Makes components of core modules: of those of WASI preview 1 with the adapter that wasmtime publishes, of those without imports by
//! giving their numeric functions types.
//!
//! A module's exports are written anew first, so that `wit-component`, which gives some names a meaning of its own, sees only what is
//! meant: the functions under their new names, and what WASI needs.

use std::{borrow::Cow, collections::HashSet};

use rwasm_types::{Code, Error};
use rwasm_values::{ArtifactKind, Export, ExportName, Label, Param, Role, Signature, Type};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as REACTOR_ADAPTER,
};
use wasm_encoder::{ExportKind, ExportSection, RawSection};
use wasmparser::{Parser, Payload, ValType};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::{
    AnalyseLimits, exit, features,
    kebab::kebab,
    module::{Function, Module},
    source::one_line,
};

/// The most parameters that the component model passes as numbers.
const PARAMS_MAX: usize = 16;

/// The most characters that are shown of a core function's name.
const NAME_CHARS_MAX: usize = 256;

/// The most foreign imports that an error lists.
const LISTED_MAX: usize = 8;

/// A component that was made of a module.
#[derive(Debug)]
pub(crate) struct Adapted {
    pub(crate) kind: ArtifactKind,
    pub(crate) component: Vec<u8>,
    /// The functions that could not be given types.
    pub(crate) refused: Vec<Export>,
}

/// Makes a component of a core module.
pub(crate) fn adapt(wasm: &[u8], limits: &AnalyseLimits) -> Result<Adapted, Error> {
    let module = Module::read(wasm)?;
    limits.check_exports(module.functions.len())?;
    let uses_wasi = module.imports.iter().any(|(from, ..)| from == PREVIEW1);
    if module.has_component_types {
        return complete(wasm, &module, uses_wasi);
    }
    check_imports(&module)?;
    if module.function("_start").is_some_and(|start| start.is(&[], &[])) {
        let kept = Exports::of_wasi(&module, "_start").rewrite(wasm)?;
        let component = encode(&module, &kept, Some(COMMAND_ADAPTER))?;
        return Ok(Adapted { kind: ArtifactKind::Preview1Command, component, refused: Vec::new() });
    }
    let kind = if uses_wasi { ArtifactKind::Preview1Reactor } else { ArtifactKind::CoreModule };
    let mut exports = Exports::of_wasi(&module, "_initialize");
    let refused = exports.add_functions(&module);
    let mut typed = exports.rewrite(wasm)?;
    embed_types(&mut typed, &exports.wit)?;
    let component = encode(&module, &typed, uses_wasi.then_some(REACTOR_ADAPTER))?;
    Ok(Adapted { kind, component, refused })
}

/// Makes a component of a module that carries the component's types, as a compiler leaves it before `wasm-tools component new`.
fn complete(wasm: &[u8], module: &Module, uses_wasi: bool) -> Result<Adapted, Error> {
    check_threads_and_preview0(module)?;
    let starts = module.function("_start").is_some();
    let (kind, adapter) = match (uses_wasi, starts) {
        (true, true) => (ArtifactKind::Preview1Command, Some(COMMAND_ADAPTER)),
        (true, false) => (ArtifactKind::Preview1Reactor, Some(REACTOR_ADAPTER)),
        (false, _) => (ArtifactKind::CoreModule, None),
    };
    Ok(Adapted { kind, component: encode(module, wasm, adapter)?, refused: Vec::new() })
}

fn encode(module: &Module, wasm: &[u8], adapter: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let wasm = if module.exits { Cow::Owned(exit::keep_status(wasm)?) } else { Cow::Borrowed(wasm) };
    let encoder = ComponentEncoder::default().module(&wasm);
    let encoder = match adapter {
        Some(adapter) => encoder.and_then(|encoder| encoder.adapter(PREVIEW1, adapter)),
        None => encoder,
    };
    encoder.and_then(|mut encoder| encoder.encode()).map_err(|error| {
        let chain: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
        no_component(&chain.join(": "))
    })
}

/// Refuses imports that neither WASI preview 1 nor anything else provides.
fn check_imports(module: &Module) -> Result<(), Error> {
    check_threads_and_preview0(module)?;
    let known = adapter_functions();
    let foreign = |(from, name, is_func): &&(String, String, bool)| !(*is_func && from == PREVIEW1 && known.contains(&name.as_str()));
    let foreign: Vec<String> =
        module.imports.iter().filter(foreign).map(|(from, name, _)| format!("`{}`", one_line(&format!("{from}.{name}")))).collect();
    if foreign.is_empty() {
        return check_memory(module);
    }
    let mut listed = foreign[..foreign.len().min(LISTED_MAX)].join(", ");
    if foreign.len() > LISTED_MAX {
        listed.push_str(&format!(" and {} more", foreign.len() - LISTED_MAX));
    }
    let message = format!("the module imports what no host provides: {listed}");
    Err(Error::new(Code::FOREIGN_IMPORTS, message).hint(foreign_hint(module)).with("count", foreign.len()))
}

/// Refuses a module that calls WASI without a memory to pass anything in.
fn check_memory(module: &Module) -> Result<(), Error> {
    if module.imports.is_empty() || module.memory.is_some() {
        return Ok(());
    }
    Err(no_component("it uses WASI, but exports no memory").hint("export its memory by the name `memory`"))
}

/// The error of a module that is valid, and still none that a component can be made of.
fn no_component(why: &str) -> Error {
    Error::new(Code::MALFORMED_WASM, format!("no component can be made of the module: {}", one_line(why)))
}

/// What to do about foreign imports, by what most often brings them.
fn foreign_hint(module: &Module) -> &'static str {
    let from = |name: &str| module.imports.iter().any(|(from, ..)| from == name);
    if module.is_object {
        "it is an object file: link it first"
    } else if from("gojs") || from("go") {
        "it was built for a browser: build it with GOOS=wasip1"
    } else if from("wbg") || from("__wbindgen_placeholder__") || module.imports.iter().any(|(from, ..)| from.ends_with("_bg.js")) {
        "it was built for a browser by wasm-bindgen: build it for wasm32-wasip2"
    } else if module.imports.iter().any(|(from, ..)| from.contains(':')) {
        "it was built for the component model, but its `component-type` section is gone: do not strip it before it is a component"
    } else {
        "build it for WASI (for Rust, wasm32-wasip2), or link what it needs into it"
    }
}

fn check_threads_and_preview0(module: &Module) -> Result<(), Error> {
    for (from, name, _) in &module.imports {
        if from == "wasi" && name == "thread-spawn" {
            return Err(features::uses_threads());
        }
        if from == "wasi_unstable" {
            let error =
                Error::new(Code::USES_PREVIEW0, "the module was built for WASI preview 0 (`wasi_unstable`), which is no longer run");
            return Err(error.hint("build it with a toolchain from 2020 or later"));
        }
    }
    Ok(())
}

/// The functions of WASI preview 1, which are those that the adapter exports.
fn adapter_functions() -> Vec<&'static str> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(REACTOR_ADAPTER) {
        if let Ok(Payload::ExportSection(section)) = payload {
            names.extend(section.into_iter().flatten().map(|export| export.name));
        }
    }
    names
}

/// The exports that a module is left with, and the types of the functions among them.
#[derive(Debug, Default)]
struct Exports {
    kept: Vec<(String, ExportKind, u32)>,
    names: HashSet<String>,
    /// The exports of a world, as WIT.
    wit: String,
}

impl Exports {
    /// What the host calls or WASI uses, where it has the right type.
    fn of_wasi(module: &Module, entry: &str) -> Self {
        let mut exports = Self::default();
        let realloc = (&[ValType::I32; 4][..], &[ValType::I32][..]);
        for (name, (params, results)) in [(entry, (&[][..], &[][..])), ("cabi_realloc", realloc)] {
            if let Some(function) = module.function(name).filter(|function| function.is(params, results)) {
                exports.keep(name, ExportKind::Func, function.index);
            }
        }
        if let Some(index) = module.memory {
            exports.keep("memory", ExportKind::Memory, index);
        }
        exports
    }

    /// Keeps an export, if its name is not taken.
    fn keep(&mut self, name: &str, kind: ExportKind, index: u32) -> bool {
        let new = self.names.insert(name.to_owned());
        if new {
            self.kept.push((name.to_owned(), kind, index));
        }
        new
    }

    /// Adds all functions that can have a type, and returns the others, with the reason.
    fn add_functions(&mut self, module: &Module) -> Vec<Export> {
        let mut refused = Vec::new();
        for function in &module.functions {
            if is_internal(&function.name) {
                continue;
            }
            if let Err(why) = self.add_function(function) {
                let name = ExportName { interface: None, func: one_line(&function.name).chars().take(NAME_CHARS_MAX).collect() };
                refused.push(Export { name, signature: shown(function), role: Role::NotCallable { why } });
            }
        }
        refused
    }

    fn add_function(&mut self, function: &Function) -> Result<(), String> {
        let signature = typed(function)?;
        let Some(name) = kebab(&function.name) else { return Err("its name cannot be written in WIT".to_owned()) };
        if !self.keep(&name, ExportKind::Func, function.index) {
            return Err(format!("its name in WIT, `{name}`, is taken by another export"));
        }
        self.wit.push_str(&format!("export %{name}: {signature};\n"));
        Ok(())
    }

    /// The module with these exports, and without the types of a component.
    fn rewrite(&self, wasm: &[u8]) -> Result<Vec<u8>, Error> {
        let mut module = wasm_encoder::Module::new();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(features::malformed)?;
            match &payload {
                Payload::ExportSection(_) => {
                    let mut section = ExportSection::new();
                    for (name, kind, index) in &self.kept {
                        section.export(name, *kind, *index);
                    }
                    module.section(&section);
                }
                payload => {
                    if let Some((id, range)) = payload.as_section() {
                        module.section(&RawSection { id, data: &wasm[range] });
                    }
                }
            }
        }
        Ok(module.finish())
    }
}

/// Whether a name is the toolchain's own and none of the module's functions.
fn is_internal(name: &str) -> bool {
    name.starts_with("__") || matches!(name, "_start" | "_initialize" | "cabi_realloc")
}

/// The type of a function, if it has one.
fn typed(function: &Function) -> Result<Signature, String> {
    if function.params.len() > PARAMS_MAX {
        return Err(format!("it has {} parameters, and {PARAMS_MAX} are the most that can be passed", function.params.len()));
    }
    if function.results.len() > 1 {
        return Err(format!("it has {} results", function.results.len()));
    }
    let signature = shown(function);
    let mut types = signature.params.iter().map(|param| &param.ty).chain(&signature.result);
    if types.any(|ty| *ty == Type::Elided) {
        return Err("it takes or returns a vector or a reference, which has no type in WIT".to_owned());
    }
    Ok(signature)
}

/// The type of a function, as well as it can be shown.
fn shown(function: &Function) -> Signature {
    let param = |(index, ty): (usize, &ValType)| Some(Param { name: Label::new(&format!("p{index}")).ok()?, ty: number(*ty) });
    let result = match &function.results[..] {
        [] => None,
        [ty] => Some(number(*ty)),
        types => Some(Type::tuple(types.iter().map(|ty| number(*ty)))),
    };
    Signature { params: function.params.iter().enumerate().filter_map(param).collect(), result }
}

fn number(ty: ValType) -> Type {
    match ty {
        ValType::I32 => Type::S32,
        ValType::I64 => Type::S64,
        ValType::F32 => Type::F32,
        ValType::F64 => Type::F64,
        ValType::V128 | ValType::Ref(_) => Type::Elided,
    }
}

/// Adds the types of a module's exports to it.
fn embed_types(module: &mut Vec<u8>, exports: &str) -> Result<(), Error> {
    embed(module, &format!("package rwasm:adapted;\nworld adapted {{\n{exports}}}\n"), "rwasm:adapted")
}

/// Adds the types of a package's world `adapted` to a module.
pub(crate) fn embed(module: &mut Vec<u8>, wit: &str, package: &str) -> Result<(), Error> {
    let failed = |error: String| Error::internal(format!("the types of `{package}` cannot be written: {error}"));
    let mut resolve = Resolve::default();
    let package = resolve.push_str("adapted.wit", wit).map_err(|error| failed(error.to_string()))?;
    let world = resolve.select_world(&[package], Some("adapted")).map_err(|error| failed(format!("{error:#}")))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8).map_err(|error| failed(format!("{error:#}")))
}
