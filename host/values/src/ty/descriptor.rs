//! The canonical binary form of a type, its descriptor, and the hash of it. The form is specified in `docs/values.md`; its tags are
//! those of the component model's own binary format.

use std::{fmt, str::FromStr, sync::Arc};

use rwasm_types::{Code, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Budget, Case, Field, Resource, ResultType, Type};
use crate::{
    Label, ResourceName,
    codec::{Decoder, put_leb128},
};

/// The first byte of every descriptor.
const VERSION: u8 = 1;

/// The BLAKE3 digest of a type's descriptor: two artifacts mean the same type where the hashes agree. It is written as 64 hexadecimal
/// digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeHash(pub [u8; 32]);

impl fmt::Display for TypeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for TypeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TypeHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        let hash = blake3::Hash::from_hex(text).ok().filter(|_| lower);
        let error = || Error::new(Code::INVALID_ARGUMENT, "a type's hash is 64 hexadecimal digits");
        hash.map(|hash| Self(*hash.as_bytes())).ok_or_else(error)
    }
}

impl Serialize for TypeHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TypeHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Type {
    /// The most bytes of a descriptor that is read.
    pub const DESCRIPTOR_BYTES_MAX: usize = 1 << 20;

    /// The descriptor.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_type(&mut out, self);
        out
    }

    /// Reads a descriptor. Only what [`Type::encode`] writes is read, and only within the limits of a type.
    ///
    /// # Errors
    ///
    /// [`Code::MALFORMED_VALUE`] with the field `offset`, or [`Code::VALUE_TOO_LARGE`] beyond a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > Self::DESCRIPTOR_BYTES_MAX {
            let message = format!("a type's descriptor has {} bytes, but may have {}", bytes.len(), Self::DESCRIPTOR_BYTES_MAX);
            return Err(Error::new(Code::VALUE_TOO_LARGE, message));
        }
        let mut reader = Reader { input: Decoder::plain(bytes), budget: Budget::default() };
        match reader.input.u8()? {
            VERSION => {}
            other => return Err(reader.input.malformed(0, format!("version {other} of a type's descriptor is not known"))),
        }
        let ty = reader.ty(1)?;
        reader.input.finish()?;
        Ok(ty)
    }

    /// The hash of the descriptor.
    pub fn hash(&self) -> TypeHash {
        TypeHash(*blake3::hash(&self.encode()).as_bytes())
    }
}

impl Serialize for Type {
    /// Writes the WIT text, which is exact and which people can read.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn put_type(out: &mut Vec<u8>, ty: &Type) {
    out.push(tag(ty));
    match ty {
        Type::List(ty) | Type::Option(ty) => put_type(out, ty),
        Type::FixedList(ty, length) => {
            put_type(out, ty);
            put_leb128(out, *length);
        }
        Type::Map(pair) => [&pair.0, &pair.1].into_iter().for_each(|ty| put_type(out, ty)),
        Type::Record(fields) => {
            put_count(out, fields.len());
            for field in &**fields {
                put_text(out, &field.name);
                put_type(out, &field.ty);
            }
        }
        Type::Tuple(elements) => {
            put_count(out, elements.len());
            elements.iter().for_each(|ty| put_type(out, ty));
        }
        Type::Variant(cases) => {
            put_count(out, cases.len());
            for case in &**cases {
                put_text(out, &case.name);
                put_maybe(out, case.ty.as_ref());
            }
        }
        Type::Enum(names) | Type::Flags(names) => {
            put_count(out, names.len());
            names.iter().for_each(|name| put_text(out, name));
        }
        Type::Result(result) => [&result.ok, &result.err].into_iter().for_each(|ty| put_maybe(out, ty.as_ref())),
        Type::Own(resource) | Type::Borrow(resource) => put_resource(out, resource),
        Type::Stream(ty) | Type::Future(ty) => put_maybe(out, ty.as_deref()),
        _ => {}
    }
}

/// The first byte of a type's descriptor.
fn tag(ty: &Type) -> u8 {
    match ty {
        Type::Elided => 0x00,
        Type::Map(_) => 0x63,
        Type::ErrorContext => 0x64,
        Type::Future(_) => 0x65,
        Type::Stream(_) => 0x66,
        Type::FixedList(..) => 0x67,
        Type::Borrow(_) => 0x68,
        Type::Own(_) => 0x69,
        Type::Result(_) => 0x6a,
        Type::Option(_) => 0x6b,
        Type::Enum(_) => 0x6d,
        Type::Flags(_) => 0x6e,
        Type::Tuple(_) => 0x6f,
        Type::List(_) => 0x70,
        Type::Variant(_) => 0x71,
        Type::Record(_) => 0x72,
        Type::String => 0x73,
        Type::Char => 0x74,
        Type::F64 => 0x75,
        Type::F32 => 0x76,
        Type::U64 => 0x77,
        Type::S64 => 0x78,
        Type::U32 => 0x79,
        Type::S32 => 0x7a,
        Type::U16 => 0x7b,
        Type::S16 => 0x7c,
        Type::U8 => 0x7d,
        Type::S8 => 0x7e,
        Type::Bool => 0x7f,
    }
}

fn put_maybe(out: &mut Vec<u8>, ty: Option<&Type>) {
    out.push(u8::from(ty.is_some()));
    ty.into_iter().for_each(|ty| put_type(out, ty));
}

fn put_resource(out: &mut Vec<u8>, resource: &Resource) {
    match resource {
        Resource::Object => out.push(0),
        Resource::Named(name) => {
            out.push(1);
            put_text(out, &name.interface.as_ref().map_or_else(String::new, ToString::to_string));
            put_text(out, &name.name);
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Writes a count. No type that was read or checked comes near the range of a `u32`.
fn put_count(out: &mut Vec<u8>, count: usize) {
    put_leb128(out, u32::try_from(count).unwrap_or(u32::MAX));
}

struct Reader<'a> {
    input: Decoder<'a>,
    budget: Budget,
}

impl Reader<'_> {
    fn ty(&mut self, depth: usize) -> Result<Type, Error> {
        let start = self.input.offset();
        self.budget.enter(depth)?;
        let ty = match self.input.u8()? {
            0x00 => Type::Elided,
            0x63 => Type::Map(Arc::new((self.ty(depth + 2)?, self.ty(depth + 2)?))),
            0x64 => Type::ErrorContext,
            0x65 => Type::Future(self.maybe(depth + 1)?.map(Arc::new)),
            0x66 => Type::Stream(self.maybe(depth + 1)?.map(Arc::new)),
            0x67 => Type::FixedList(Arc::new(self.ty(depth + 1)?), self.input.leb128()?),
            0x68 => Type::Borrow(self.resource()?),
            0x69 => Type::Own(self.resource()?),
            0x6a => Type::Result(Arc::new(ResultType { ok: self.maybe(depth + 1)?, err: self.maybe(depth + 1)? })),
            0x6b => Type::Option(Arc::new(self.ty(depth + 1)?)),
            0x6d => Type::Enum(self.names(|_, name| Ok(name))?),
            0x6e => Type::Flags(self.names(|_, name| Ok(name))?),
            0x6f => Type::Tuple(self.many(|this| this.ty(depth + 1))?),
            0x70 => Type::List(Arc::new(self.ty(depth + 1)?)),
            0x71 => Type::Variant(self.names(|this, name| Ok(Case { name, ty: this.maybe(depth + 1)? }))?),
            0x72 => Type::Record(self.names(|this, name| Ok(Field { name, ty: this.ty(depth + 1)? }))?),
            0x73 => Type::String,
            0x74 => Type::Char,
            0x75 => Type::F64,
            0x76 => Type::F32,
            0x77 => Type::U64,
            0x78 => Type::S64,
            0x79 => Type::U32,
            0x7a => Type::S32,
            0x7b => Type::U16,
            0x7c => Type::S16,
            0x7d => Type::U8,
            0x7e => Type::S8,
            0x7f => Type::Bool,
            other => return Err(self.input.malformed(start, format!("0x{other:02x} begins no type"))),
        };
        ty.check_rules().map_err(|why| self.input.malformed(start, why))?;
        Ok(ty)
    }

    fn maybe(&mut self, depth: usize) -> Result<Option<Type>, Error> {
        if self.input.bool()? { self.ty(depth).map(Some) } else { Ok(None) }
    }

    fn resource(&mut self) -> Result<Resource, Error> {
        if !self.input.bool()? {
            return Ok(Resource::Object);
        }
        let start = self.input.offset();
        let interface = match self.input.string()? {
            "" => None,
            text => Some(text.parse().map_err(|error: Error| self.input.malformed(start, error.message()))?),
        };
        match Resource::from(ResourceName { interface, name: self.label()? }) {
            Resource::Object => Err(self.input.malformed(start, "the object handle is written by name")),
            named => self.budget.resource(&named).map(|()| named),
        }
    }

    fn label(&mut self) -> Result<Label, Error> {
        let start = self.input.offset();
        Label::new(self.input.string()?).map_err(|error| self.input.malformed(start, error.message()))
    }

    /// Reads a count and so many parts that each begin with a name.
    fn names<T>(&mut self, mut rest: impl FnMut(&mut Self, Label) -> Result<T, Error>) -> Result<Arc<[T]>, Error> {
        self.many(|this| {
            let name = this.label()?;
            this.budget.name(&name)?;
            rest(this, name)
        })
    }

    /// Reads a count and so many parts; each is counted before it is read, so that a large count alone costs nothing.
    fn many<T>(&mut self, mut part: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<Arc<[T]>, Error> {
        let count = self.input.leb128()?;
        let mut parts = Vec::new();
        for _ in 0..count {
            parts.push(part(self)?);
        }
        Ok(parts.into())
    }
}
