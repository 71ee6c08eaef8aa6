//! From the types of a validated component to those of `rwasm-values`, which have names for resources and limits for everything.

use std::{collections::HashMap, sync::Arc};

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
const NODES_MAX: usize = 1_000_000;

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
    names: HashMap<ResourceId, (ResourceName, Origin)>,
    origins: HashMap<ResourceName, Origin>,
}

impl Resources {
    /// Notes the resource that an item is, if it is one. The first name stays: imports come before exports, which may pass them on.
    pub(crate) fn add(&mut self, item: &ComponentEntityType, name: impl FnOnce() -> Option<ResourceName>, origin: Origin) {
        let ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } = item else { return };
        if self.names.contains_key(&id.resource()) {
            return;
        }
        if let Some(name) = name() {
            self.origins.entry(name.clone()).or_insert(origin);
            self.names.insert(id.resource(), (name, origin));
        }
    }

    /// Whose a resource is.
    pub(crate) fn origin(&self, name: &ResourceName) -> Option<Origin> {
        self.origins.get(name).copied()
    }
}

/// Converts the types of one component.
pub(crate) struct Converter<'a> {
    types: TypesRef<'a>,
    resources: &'a Resources,
    /// What is left for all signatures.
    left: usize,
}

impl<'a> Converter<'a> {
    pub(crate) fn new(types: TypesRef<'a>, resources: &'a Resources) -> Self {
        Self { types, resources, left: NODES_MAX }
    }

    /// The signature of a function. What is beyond the limits of a type, or of all signatures together, is left out.
    pub(crate) fn signature(&mut self, func: &ComponentFuncType) -> Signature {
        let mut one = One { types: self.types, resources: self.resources, left: Type::NODES_MAX.min(self.left) };
        let granted = one.left;
        let params = func.params.iter().map(|(name, ty)| Some(Param { name: label(name)?, ty: one.value(*ty, 1) }));
        let signature = match params.collect() {
            Some(params) => Signature { params, result: func.result.map(|ty| one.value(ty, 1)) },
            // A parameter whose name is too long leaves nothing to be shown.
            None => Signature { params: Vec::new(), result: Some(Type::Elided) },
        };
        self.left -= granted - one.left;
        signature
    }
}

fn label(name: &KebabString) -> Option<Label> {
    Label::new(name.as_str()).ok()
}

/// Converts the types of one signature.
struct One<'a> {
    types: TypesRef<'a>,
    resources: &'a Resources,
    /// Nodes that may still be made.
    left: usize,
}

impl One<'_> {
    fn value(&mut self, ty: ComponentValType, depth: usize) -> Type {
        match ty {
            _ if !self.take(1) || depth > Type::DEPTH_MAX => Type::Elided,
            ComponentValType::Primitive(ty) => primitive(ty),
            ComponentValType::Type(id) => self.defined(id, depth).unwrap_or(Type::Elided),
        }
    }

    /// Takes so many nodes from the budget, if they are there.
    fn take(&mut self, count: usize) -> bool {
        let left = self.left.checked_sub(count);
        self.left = left.unwrap_or(0);
        left.is_some()
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
                let elements = tuple.types.iter().map(|ty| if self.left > 0 { Some(self.value(*ty, depth_in)) } else { None });
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

    /// A name in a type, which counts against the budget.
    fn name(&mut self, name: &KebabString) -> Option<Label> {
        if self.take(1) { label(name) } else { None }
    }

    fn resource(&self, id: &AliasableResourceId) -> Option<Resource> {
        self.resources.names.get(&id.resource()).map(|(name, _)| name.clone().into())
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
