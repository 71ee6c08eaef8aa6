//! The face of a component: its exports with their roles, its imports, its profile and its memory.

use rwasm_types::{Code, Error};
use rwasm_values::{Export, ExportName, Import, InterfaceName, Label, Profile, ResourceName};
use wasmparser::{
    ComponentTypeRef, Parser, Payload, TypeBounds,
    component_types::{ComponentEntityType, ComponentFuncType, ComponentFuncTypeId},
    types::TypesRef,
};

use crate::{
    AnalyseLimits, features, imports,
    role::Roles,
    types::{Converted, Converter, Origin, Resources},
};

/// What is read from a component.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) exports: Vec<Export>,
    pub(crate) imports: Vec<Import>,
    pub(crate) profile: Profile,
    pub(crate) memory_initial_bytes: u64,
}

/// Validates a component and reads its face.
pub(crate) fn read(component: &[u8], limits: &AnalyseLimits) -> Result<Face, Error> {
    let types = features::validate(component)?;
    let types = types.as_ref();
    let outline = Outline::read(component, limits)?;
    let resources = outline.resources(types);
    let functions = outline.functions(types, limits)?;
    let mut converter = Converter::new(types, &resources);
    let converted: Vec<(ExportName, Converted)> = functions.into_iter().map(|(name, func)| (name, converter.signature(func))).collect();
    let roles = Roles::new(converted.iter().map(|(name, converted)| (name, &converted.signature)));
    let export = |(name, converted)| Export { role: roles.role(&name, &converted), name, signature: converted.signature };
    let exports = converted.into_iter().map(export).collect();
    let imports: Vec<Import> = outline.imports.iter().filter_map(import).collect();
    let fast = features::is_fast(component) && !imports.iter().any(|import| imports::is_wasi_03(&import.name));
    let profile = if fast { Profile::Fast } else { Profile::Async };
    Ok(Face { exports, imports, profile, memory_initial_bytes: outline.memory_initial_bytes })
}

/// What the outermost level of a component says, and the memories of all levels.
struct Outline<'a> {
    imports: Vec<(&'a str, ComponentTypeRef)>,
    exports: Vec<&'a str>,
    memory_initial_bytes: u64,
}

impl<'a> Outline<'a> {
    /// Reads a valid component.
    fn read(component: &'a [u8], limits: &AnalyseLimits) -> Result<Self, Error> {
        let mut outline = Self { imports: Vec::new(), exports: Vec::new(), memory_initial_bytes: 0 };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(component) {
            match payload.map_err(features::malformed)? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(features::malformed)?;
                        check_name(import.name.name)?;
                        outline.imports.push((import.name.name, import.ty));
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let name = export.map_err(features::malformed)?.name.name;
                        check_name(name)?;
                        outline.exports.push(name);
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory.map_err(features::malformed)?;
                        let bytes = memory.initial.saturating_mul(1 << memory.page_size_log2.unwrap_or(16));
                        outline.memory_initial_bytes = outline.memory_initial_bytes.saturating_add(bytes);
                    }
                }
                _ => {}
            }
        }
        limits.check_imports(outline.imports.len())?;
        Ok(outline)
    }

    /// All resources that an import or export gives a name.
    fn resources(&self, types: TypesRef<'_>) -> Resources {
        let mut resources = Resources::default();
        let imports = self.imports.iter().map(|(name, _)| (*name, types.component_item_for_import(name), Origin::Imported));
        let exports = self.exports.iter().map(|name| (*name, types.component_item_for_export(name), Origin::Exported));
        for (outer, item, origin) in imports.chain(exports) {
            let Some(item) = item else { continue };
            resources.add(&item.ty, || resource_name(None, outer), origin);
            if let ComponentEntityType::Instance(id) = item.ty {
                for (inner, item) in &types[id].exports {
                    resources.add(&item.ty, || resource_name(Some(outer), inner), origin);
                }
            }
        }
        resources
    }

    /// All functions that are exported, at the top level and in interfaces.
    fn functions<'t>(&self, types: TypesRef<'t>, limits: &AnalyseLimits) -> Result<Vec<(ExportName, &'t ComponentFuncType)>, Error> {
        let mut functions = Vec::new();
        let mut add = |interface: Option<&InterfaceName>, func: &str, id: ComponentFuncTypeId| {
            check_name(func)?;
            let name = ExportName { interface: interface.cloned(), func: func.to_owned() };
            if let Some(func) = types.get(id) {
                functions.push((name, func));
            }
            limits.check_exports(functions.len())
        };
        for outer in &self.exports {
            match types.component_item_for_export(outer).map(|item| item.ty) {
                Some(ComponentEntityType::Func(id)) => add(None, outer, id)?,
                Some(ComponentEntityType::Instance(instance)) => {
                    let interface: InterfaceName = outer.parse()?;
                    for (inner, item) in &types[instance].exports {
                        if let ComponentEntityType::Func(id) = item.ty {
                            add(Some(&interface), inner, id)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(functions)
    }
}

fn resource_name(interface: Option<&str>, name: &str) -> Option<ResourceName> {
    let interface = match interface {
        Some(interface) => Some(interface.parse().ok()?),
        None => None,
    };
    Some(ResourceName { interface, name: name.parse().ok()? })
}

/// What an import needs; nothing if it only names a type that is known anyway.
fn import((name, ty): &(&str, ComponentTypeRef)) -> Option<Import> {
    match ty {
        ComponentTypeRef::Instance(_) => Some(imports::interface(name)),
        ComponentTypeRef::Type(TypeBounds::Eq(_)) => None,
        _ => Some(imports::missing(name)),
    }
}

/// Names travel with the artifact's face, and so are kept short.
fn check_name(name: &str) -> Result<(), Error> {
    if name.len() <= Label::BYTES_MAX {
        return Ok(());
    }
    let message = format!("the artifact has a name of {} bytes, but {} are the most", name.len(), Label::BYTES_MAX);
    Err(Error::new(Code::LIMIT, message))
}
