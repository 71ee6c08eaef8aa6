//! The types of WIT, by structure: names and order count, aliases do not, and resources are compared by name.
//!
//! [`descriptor`] gives each type its one binary form and its hash, [`text`] its WIT text. A [`Type`] can be built freely; whatever
//! comes from outside goes through [`Type::decode`], [`str::parse`] or [`Type::check`], after which it is within the limits.

mod descriptor;
mod text;

use std::{collections::HashSet, fmt, sync::Arc};

use rwasm_types::{Code, Error};

pub use self::descriptor::TypeHash;
use crate::{Label, ResourceName, Scalar};

/// A WIT type. Cheap to clone; equal types are structurally equal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// `bool`
    Bool,
    /// `s8`
    S8,
    /// `u8`
    U8,
    /// `s16`
    S16,
    /// `u16`
    U16,
    /// `s32`
    S32,
    /// `u32`
    U32,
    /// `s64`
    S64,
    /// `u64`
    U64,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`: one Unicode scalar value.
    Char,
    /// `string`
    String,
    /// `list<T>`
    List(Arc<Self>),
    /// `list<T, N>`, with N from 1.
    FixedList(Arc<Self>, u32),
    /// `map<K, V>`, in which K is a `bool`, an integer, a `char` or a `string`. Its values are a list of pairs in any order.
    Map(Arc<(Self, Self)>),
    /// `record`, of at least one field.
    Record(Arc<[Field]>),
    /// `tuple`, of at least one element.
    Tuple(Arc<[Self]>),
    /// `variant`, of at least one case.
    Variant(Arc<[Case]>),
    /// `enum`, of at least one case.
    Enum(Arc<[Label]>),
    /// `option<T>`
    Option(Arc<Self>),
    /// `result<T, E>`
    Result(Arc<ResultType>),
    /// `flags`, of 1 to [`Type::FLAGS_MAX`] names.
    Flags(Arc<[Label]>),
    /// `own<R>`
    Own(Resource),
    /// `borrow<R>`
    Borrow(Resource),
    /// `stream<T>`; not storable.
    Stream(Option<Arc<Self>>),
    /// `future<T>`; not storable.
    Future(Option<Arc<Self>>),
    /// `error-context`; not storable.
    ErrorContext,
    /// What was left out because the whole would be beyond the limits; only in functions that cannot be called. Not storable.
    Elided,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name, unique in the record.
    pub name: Label,
    /// Its type.
    pub ty: Type,
}

/// A case of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// Its name, unique in the variant.
    pub name: Label,
    /// The type of its payload, if it has one.
    pub ty: Option<Type>,
}

/// The payloads of a result's two cases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResultType {
    /// What success carries.
    pub ok: Option<Type>,
    /// What failure carries.
    pub err: Option<Type>,
}

/// The resource of a handle.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// An object of the store: `rwasm:core/objects.object` of any version 0.1, which are all one type.
    Object,
    /// Any other resource; where one can be passed at all, it is an actor.
    Named(Arc<ResourceName>),
}

impl From<ResourceName> for Resource {
    fn from(name: ResourceName) -> Self {
        if name.is_object() { Self::Object } else { Self::Named(Arc::new(name)) }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object => f.write_str("rwasm:core/objects.object"),
            Self::Named(name) => write!(f, "{name}"),
        }
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Type {
    /// The deepest nesting of a type. A `u32` has depth 1, a `list<u32>` 2, a `map<string, u32>` 3, for it is a list of pairs.
    pub const DEPTH_MAX: usize = 64;
    /// The most nodes of a type: every type, field, case and name in it counts one, however often it is shared.
    pub const NODES_MAX: usize = 10_000;
    /// The most bytes of all names in a type together, those of resources included. It keeps descriptors and texts below 1 MiB.
    pub const NAME_BYTES_MAX: usize = 256 << 10;
    /// The most names of a `flags` type, as in the component model.
    pub const FLAGS_MAX: usize = 32;

    /// `list<T>`
    pub fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    /// `option<T>`
    pub fn option(some: Self) -> Self {
        Self::Option(Arc::new(some))
    }

    /// `result<T, E>`
    pub fn result(ok: Option<Self>, err: Option<Self>) -> Self {
        Self::Result(Arc::new(ResultType { ok, err }))
    }

    /// `tuple<…>`
    pub fn tuple(elements: impl IntoIterator<Item = Self>) -> Self {
        Self::Tuple(elements.into_iter().collect())
    }

    /// `record { … }`
    pub fn record(fields: impl IntoIterator<Item = (Label, Self)>) -> Self {
        Self::Record(fields.into_iter().map(|(name, ty)| Field { name, ty }).collect())
    }

    /// The scalar that this is, if it is one.
    pub fn scalar(&self) -> Option<Scalar> {
        Some(match self {
            Self::Bool => Scalar::Bool,
            Self::S8 => Scalar::S8,
            Self::U8 => Scalar::U8,
            Self::S16 => Scalar::S16,
            Self::U16 => Scalar::U16,
            Self::S32 => Scalar::S32,
            Self::U32 => Scalar::U32,
            Self::S64 => Scalar::S64,
            Self::U64 => Scalar::U64,
            Self::F32 => Scalar::F32,
            Self::F64 => Scalar::F64,
            Self::Char => Scalar::Char,
            _ => return None,
        })
    }

    /// The element of a flat list: a `list` or fixed-length list of scalars, whose values are one buffer.
    pub fn flat_element(&self) -> Option<Scalar> {
        match self {
            Self::List(element) | Self::FixedList(element, _) => element.scalar(),
            _ => None,
        }
    }

    /// Whether values of this type can be encoded: no stream, future or error-context in it, and nothing left out.
    pub fn is_storable(&self) -> bool {
        !self.any(&mut |ty| matches!(ty, Self::Stream(_) | Self::Future(_) | Self::ErrorContext | Self::Elided))
    }

    /// Whether values of this type can hold handles, and so refer to the ref table of their message.
    pub fn has_handles(&self) -> bool {
        self.any(&mut |ty| matches!(ty, Self::Own(_) | Self::Borrow(_)))
    }

    /// Whether a condition holds for this type or any type in it, outermost first.
    pub fn any(&self, condition: &mut dyn FnMut(&Self) -> bool) -> bool {
        condition(self) || self.try_children(&mut |child| if child.any(condition) { Err(()) } else { Ok(()) }).is_err()
    }

    /// Visits the types directly inside this one, in order, until one fails.
    fn try_children<E>(&self, visit: &mut dyn FnMut(&Self) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::List(ty) | Self::FixedList(ty, _) | Self::Option(ty) => visit(ty),
            Self::Stream(ty) | Self::Future(ty) => ty.iter().try_for_each(|ty| visit(ty)),
            Self::Map(pair) => visit(&pair.0).and_then(|()| visit(&pair.1)),
            Self::Result(result) => result.ok.iter().chain(&result.err).try_for_each(visit),
            Self::Record(fields) => fields.iter().try_for_each(|field| visit(&field.ty)),
            Self::Variant(cases) => cases.iter().filter_map(|case| case.ty.as_ref()).try_for_each(visit),
            Self::Tuple(elements) => elements.iter().try_for_each(visit),
            _ => Ok(()),
        }
    }

    /// Checks the limits and rules of this type and all types in it. It stops at the first limit, so that a small type that shares
    /// its parts to stand for a huge one costs no more than the limit.
    ///
    /// # Errors
    ///
    /// [`Code::VALUE_TOO_LARGE`] beyond a limit, [`Code::INVALID_ARGUMENT`] for what is no type of WIT, such as an empty record.
    pub fn check(&self) -> Result<(), Error> {
        fn walk(ty: &Type, depth: usize, budget: &mut Budget) -> Result<(), Error> {
            budget.enter(depth)?;
            ty.try_names(&mut |name| budget.name(name))?;
            if let Type::Own(resource) | Type::Borrow(resource) = ty {
                budget.resource(resource)?;
            }
            ty.check_rules().map_err(|why| Error::new(Code::INVALID_ARGUMENT, why))?;
            ty.try_children(&mut |child| walk(child, depth + ty.levels(), budget))
        }
        walk(self, 1, &mut Budget::default())
    }

    /// How many levels of nesting this type adds to the types in it.
    fn levels(&self) -> usize {
        if matches!(self, Self::Map(_)) { 2 } else { 1 }
    }

    /// Visits the names of this type's own fields, cases or flags, until one fails.
    fn try_names(&self, visit: &mut dyn FnMut(&Label) -> Result<(), Error>) -> Result<(), Error> {
        match self {
            Self::Record(fields) => fields.iter().try_for_each(|field| visit(&field.name)),
            Self::Variant(cases) => cases.iter().try_for_each(|case| visit(&case.name)),
            Self::Enum(names) | Self::Flags(names) => names.iter().try_for_each(visit),
            _ => Ok(()),
        }
    }

    /// The rules of this type alone, without the types in it.
    fn check_rules(&self) -> Result<(), &'static str> {
        match self {
            Self::FixedList(_, 0) => Err("a fixed-length list has no elements"),
            Self::Tuple(elements) if elements.is_empty() => Err("a tuple has no elements"),
            Self::Map(pair) if !pair.0.is_map_key() => Err("a map has a key that is neither a bool, an integer, a char nor a string"),
            Self::Record(fields) => check_names(fields.iter().map(|field| &field.name), "a record has no fields"),
            Self::Variant(cases) => check_names(cases.iter().map(|case| &case.name), "a variant has no cases"),
            Self::Enum(names) => check_names(names.iter(), "an enum has no cases"),
            Self::Flags(names) if names.len() > Self::FLAGS_MAX => Err("a flags type has more than 32 names"),
            Self::Flags(names) => check_names(names.iter(), "a flags type has no names"),
            _ => Ok(()),
        }
    }

    fn is_map_key(&self) -> bool {
        matches!(self, Self::String) || self.scalar().is_some_and(|scalar| !matches!(scalar, Scalar::F32 | Scalar::F64))
    }
}

/// Names must be there, and be unique whatever their case.
fn check_names<'a>(names: impl ExactSizeIterator<Item = &'a Label>, empty: &'static str) -> Result<(), &'static str> {
    if names.len() == 0 {
        return Err(empty);
    }
    let mut seen = HashSet::with_capacity(names.len());
    for name in names {
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err("two names of a type are the same, or differ by case alone");
        }
    }
    Ok(())
}

/// What is left of the limits while a type is read or checked.
struct Budget {
    nodes: usize,
    name_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { nodes: Type::NODES_MAX, name_bytes: Type::NAME_BYTES_MAX }
    }
}

impl Budget {
    /// Counts a type at a depth.
    fn enter(&mut self, depth: usize) -> Result<(), Error> {
        if depth > Type::DEPTH_MAX {
            let message = format!("a type is nested more than {} deep", Type::DEPTH_MAX);
            return Err(Error::new(Code::VALUE_TOO_LARGE, message));
        }
        self.node()
    }

    /// Counts the name of a field, case or flag.
    fn name(&mut self, name: &Label) -> Result<(), Error> {
        self.node()?;
        self.bytes(name.len())
    }

    /// Counts the name of a resource.
    fn resource(&mut self, resource: &Resource) -> Result<(), Error> {
        match resource {
            Resource::Object => Ok(()),
            Resource::Named(name) => self.bytes(name.to_string().len()),
        }
    }

    fn node(&mut self) -> Result<(), Error> {
        let left = self.nodes.checked_sub(1);
        self.nodes = left.ok_or_else(|| Error::new(Code::VALUE_TOO_LARGE, format!("a type has more than {} parts", Type::NODES_MAX)))?;
        Ok(())
    }

    fn bytes(&mut self, count: usize) -> Result<(), Error> {
        let left = self.name_bytes.checked_sub(count);
        self.name_bytes = left.ok_or_else(|| {
            let message = format!("the names in a type have more than {} bytes", Type::NAME_BYTES_MAX);
            Error::new(Code::VALUE_TOO_LARGE, message)
        })?;
        Ok(())
    }
}

impl From<Scalar> for Type {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bool => Self::Bool,
            Scalar::S8 => Self::S8,
            Scalar::U8 => Self::U8,
            Scalar::S16 => Self::S16,
            Scalar::U16 => Self::U16,
            Scalar::S32 => Self::S32,
            Scalar::U32 => Self::U32,
            Scalar::S64 => Self::S64,
            Scalar::U64 => Self::U64,
            Scalar::F32 => Self::F32,
            Scalar::F64 => Self::F64,
            Scalar::Char => Self::Char,
        }
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
