//! From the types of a validated component to those of `rwasm-values`, which have names for resources and limits for everything.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use rwasm_values::{Case, Field, Label, Param, Resource, ResourceName, ResultType, Signature, Type};
use wasmparser::{
    PrimitiveValType,
    component_types::{
        AliasableResourceId, ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType, ComponentFuncType,
        ComponentValType, ResourceId,
    },
    names::KebabString,
    types::TypesRef,
};

/// The most nodes of all signatures of a component together.
const NODES_MAX: usize = 250_000;

/// The most bytes of the names in all signatures of a component together.
const NAME_BYTES_MAX: usize = 16 << 20;

/// Whose a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The component imports it.
    Imported,
    /// The component exports it, and so makes it.
    Exported,
}

/// The resources of a component that have names.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    /// Two resources may share a name, where a component imports and exports one interface.
    names: HashMap<ResourceId, (ResourceName, Origin)>,
}

impl Resources {
    /// Notes the resource that an item is, if it is one. The first name stays: imports come before exports, which may pass them on.
    pub(crate) fn add(&mut self, item: &ComponentEntityType, name: impl FnOnce() -> Option<ResourceName>, origin: Origin) {
        let ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } = item else { return };
        if let Entry::Vacant(entry) = self.names.entry(id.resource())
            && let Some(name) = name()
        {
            entry.insert((name, origin));
        }
    }
}

/// A signature as it can be shown, and what cannot be seen in it.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) signature: Signature,
    /// A resource in it that the component imports, other than an object's handle.
    pub(crate) imported: Option<ResourceName>,
}

/// Converts the types of one component.
pub(crate) struct Converter<'a> {
    types: TypesRef<'a>,
    resources: &'a Resources,
    /// What is left for all signatures.
    left: Budget,
}

/// How much may still be made.
#[derive(Clone, Copy)]
struct Budget {
    nodes: usize,
    name_bytes: usize,
}

impl Budget {
    /// Takes a node, and a name of so many bytes, if both are left; else nothing is left from here on.
    fn take(&mut self, nodes: usize, name_bytes: usize) -> bool {
        match (self.nodes.checked_sub(nodes), self.name_bytes.checked_sub(name_bytes)) {
            (Some(nodes), Some(name_bytes)) => {
                *self = Self { nodes, name_bytes };
                true
            }
            _ => {
                self.nodes = 0;
                false
            }
        }
    }
}

impl<'a> Converter<'a> {
    pub(crate) fn new(types: TypesRef<'a>, resources: &'a Resources) -> Self {
        Self { types, resources, left: Budget { nodes: NODES_MAX, name_bytes: NAME_BYTES_MAX } }
    }

    /// The signature of a function. What is beyond the limits of a type, or of all signatures together, is left out.
    pub(crate) fn signature(&mut self, func: &ComponentFuncType) -> Converted {
        // One signature is within the limits of one type, so that each type in it is.
        let granted = Budget { nodes: self.left.nodes.min(Type::NODES_MAX), name_bytes: self.left.name_bytes.min(Type::NAME_BYTES_MAX) };
        let mut one = One { types: self.types, resources: self.resources, left: granted, imported: None };
        let params = func.params.iter().map(|(name, ty)| {
            let name = label(name).filter(|name| one.left.take(0, name.len()))?;
            Some(Param { name, ty: one.value(*ty, 1) })
        });
        let signature = match params.collect() {
            Some(params) => Signature { params, result: func.result.map(|ty| one.value(ty, 1)) },
            // Parameters whose names are too long leave nothing to be shown.
            None => Signature { params: Vec::new(), result: Some(Type::Elided) },
        };
        self.left.nodes -= granted.nodes - one.left.nodes;
        self.left.name_bytes -= granted.name_bytes - one.left.name_bytes;
        Converted { signature, imported: one.imported }
    }
}

fn label(name: &KebabString) -> Option<Label> {
    Label::new(name.as_str()).ok()
}

/// Converts the types of one signature.
struct One<'a> {
    types: TypesRef<'a>,
    resources: &'a Resources,
    left: Budget,
    /// The first imported resource that was met.
    imported: Option<ResourceName>,
}

impl One<'_> {
    fn value(&mut self, ty: ComponentValType, depth: usize) -> Type {
        match ty {
            _ if !self.left.take(1, 0) || depth > Type::DEPTH_MAX => Type::Elided,
            ComponentValType::Primitive(ty) => primitive(ty),
            ComponentValType::Type(id) => self.defined(id, depth).unwrap_or(Type::Elided),
        }
    }

    fn maybe(&mut self, ty: Option<ComponentValType>, depth: usize) -> Option<Type> {
        ty.map(|ty| self.value(ty, depth))
    }

    fn defined(&mut self, id: ComponentDefinedTypeId, depth: usize) -> Option<Type> {
        let types = self.types;
        let depth_in = depth + 1;
        Some(match &types[id] {
            ComponentDefinedType::Primitive(ty) => primitive(*ty),
            ComponentDefinedType::Record(record) => {
                let fields = record.fields.iter().map(|(name, ty)| {
                    let name = self.name(name)?;
                    Some(Field { name, ty: self.value(*ty, depth_in) })
                });
                Type::Record(fields.collect::<Option<_>>()?)
            }
            ComponentDefinedType::Variant(variant) => {
                let cases = variant.cases.iter().map(|(name, case)| {
                    let name = self.name(name)?;
                    Some(Case { name, ty: self.maybe(case.ty, depth_in) })
                });
                Type::Variant(cases.collect::<Option<_>>()?)
            }
            ComponentDefinedType::List { element, .. } => Type::list(self.value(*element, depth_in)),
            ComponentDefinedType::Map { key, value, .. } => {
                Type::Map(Arc::new((self.value(*key, depth_in + 1), self.value(*value, depth_in + 1))))
            }
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                Type::FixedList(Arc::new(self.value(*element, depth_in)), *length)
            }
            ComponentDefinedType::Tuple(tuple) => {
                let elements = tuple.types.iter().map(|ty| if self.left.nodes > 0 { Some(self.value(*ty, depth_in)) } else { None });
                Type::Tuple(elements.collect::<Option<_>>()?)
            }
            ComponentDefinedType::Flags(names) => Type::Flags(names.iter().map(|name| self.name(name)).collect::<Option<_>>()?),
            ComponentDefinedType::Enum(names) => Type::Enum(names.iter().map(|name| self.name(name)).collect::<Option<_>>()?),
            ComponentDefinedType::Option { ty, .. } => Type::option(self.value(*ty, depth_in)),
            ComponentDefinedType::Result { ok, err, .. } => {
                Type::Result(Arc::new(ResultType { ok: self.maybe(*ok, depth_in), err: self.maybe(*err, depth_in) }))
            }
            ComponentDefinedType::Own(id) => Type::Own(self.resource(id)?),
            ComponentDefinedType::Borrow(id) => Type::Borrow(self.resource(id)?),
            ComponentDefinedType::Stream { ty, .. } => Type::Stream(self.maybe(*ty, depth_in).map(Arc::new)),
            ComponentDefinedType::Future { ty, .. } => Type::Future(self.maybe(*ty, depth_in).map(Arc::new)),
        })
    }

    /// A name in a type, if it is left to take.
    fn name(&mut self, name: &KebabString) -> Option<Label> {
        if self.left.take(1, name.as_str().len()) { label(name) } else { None }
    }

    fn resource(&mut self, id: &AliasableResourceId) -> Option<Resource> {
        let (name, origin) = self.resources.names.get(&id.resource())?;
        if !self.left.take(0, name.to_string().len()) {
            return None;
        }
        if *origin == Origin::Imported && !name.is_object() {
            self.imported.get_or_insert_with(|| name.clone());
        }
        Some(name.clone().into())
    }
}

fn primitive(ty: PrimitiveValType) -> Type {
    match ty {
        PrimitiveValType::Bool => Type::Bool,
        PrimitiveValType::S8 => Type::S8,
        PrimitiveValType::U8 => Type::U8,
        PrimitiveValType::S16 => Type::S16,
        PrimitiveValType::U16 => Type::U16,
        PrimitiveValType::S32 => Type::S32,
        PrimitiveValType::U32 => Type::U32,
        PrimitiveValType::S64 => Type::S64,
        PrimitiveValType::U64 => Type::U64,
        PrimitiveValType::F32 => Type::F32,
        PrimitiveValType::F64 => Type::F64,
        PrimitiveValType::Char => Type::Char,
        PrimitiveValType::String => Type::String,
        PrimitiveValType::ErrorContext => Type::ErrorContext,
    }
}
