//! What a core module says about itself: what it imports, which functions it exports, and what built it.

use rwasm_types::Error;
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1;
use wasmparser::{
    CompositeInnerType, ExternalKind, FuncType, Parser, Payload, TypeRef, ValType,
    types::{CoreTypeId, TypesRef},
};

use crate::{exit::PROC_EXIT, features};

/// The outline of a valid core module.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Module, name and kind of each import.
    pub(crate) imports: Vec<(String, String, bool)>,
    /// The functions that it exports, in order.
    pub(crate) functions: Vec<Function>,
    /// The number of the memory that it exports by the name that WASI asks for.
    pub(crate) memory: Option<u32>,
    /// Whether it carries the types of a component that was not made of it yet.
    pub(crate) has_component_types: bool,
    /// Whether it can end itself by WASI preview 1, and imports that with the right type.
    pub(crate) exits: bool,
    /// Whether it is an object file, which a linker has yet to see.
    pub(crate) is_object: bool,
}

/// A function that a core module exports.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its name there.
    pub(crate) name: String,
    /// Its number.
    pub(crate) index: u32,
    /// Its parameters.
    pub(crate) params: Vec<ValType>,
    /// Its results.
    pub(crate) results: Vec<ValType>,
}

impl Function {
    /// Whether it has these parameters and results.
    pub(crate) fn is(&self, params: &[ValType], results: &[ValType]) -> bool {
        self.params == params && self.results == results
    }
}

impl Module {
    /// Validates a core module and reads its outline.
    pub(crate) fn read(wasm: &[u8]) -> Result<Self, Error> {
        let types = features::validate(wasm)?;
        let types = types.as_ref();
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(features::malformed)? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(features::malformed)?;
                        let is_func = matches!(import.ty, TypeRef::Func(_));
                        module.exits |= (import.module, import.name) == (PREVIEW1, PROC_EXIT) && takes_a_number(types, import.ty);
                        module.imports.push((import.module.to_owned(), import.name.to_owned(), is_func));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.map_err(features::malformed)?;
                        module.export(types, export.name, export.kind, export.index);
                    }
                }
                Payload::CustomSection(section) => {
                    module.has_component_types |= section.name().starts_with("component-type");
                    module.is_object |= section.name() == "linking";
                }
                _ => {}
            }
        }
        Ok(module)
    }

    fn export(&mut self, types: TypesRef<'_>, name: &str, kind: ExternalKind, index: u32) {
        match kind {
            ExternalKind::Memory if name == "memory" => self.memory = Some(index),
            ExternalKind::Func => {
                if let Some(func) = func_type(types, types.core_function_at(index)) {
                    let (params, results) = (func.params().to_vec(), func.results().to_vec());
                    self.functions.push(Function { name: name.to_owned(), index, params, results });
                }
            }
            _ => {}
        }
    }

    /// The function of a name.
    pub(crate) fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }
}

/// Whether a function takes one number of 32 bits, and returns nothing.
fn takes_a_number(types: TypesRef<'_>, ty: TypeRef) -> bool {
    let TypeRef::Func(index) = ty else { return false };
    func_type(types, types.core_type_at_in_module(index)).is_some_and(|func| func.params() == [ValType::I32] && func.results().is_empty())
}

/// A type of a valid module, if it is one of functions.
fn func_type(types: TypesRef<'_>, id: CoreTypeId) -> Option<&FuncType> {
    match &types.get(id)?.composite_type.inner {
        CompositeInnerType::Func(func) => Some(func),
        _ => None,
    }
}
