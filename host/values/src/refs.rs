//! What a value can point at without holding it: objects and actors. Values hold indexes into the ref table of their message, never
//! ids, so that a node sees all that a message keeps alive without decoding it.

use std::{collections::HashMap, fmt, str::FromStr};

use rwasm_types::{ActorId, Error, ObjectId, ParseIdError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::check;

/// An entry of a ref table. Its text is that of the id: `o3-17-42-0` or `a3-17-42`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ref {
    /// An object of the store.
    Object(ObjectId),
    /// An actor.
    Actor(ActorId),
}

impl Ref {
    /// The bytes of an entry on the wire: a kind and an id.
    pub const BYTES: usize = 1 + ObjectId::BYTES;

    const OBJECT: u8 = 1;
    const ACTOR: u8 = 2;

    /// The entry on the wire: 1 and the id of an object, or 2 and the id of an actor with the index 0.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let (kind, id) = match self {
            Self::Object(id) => (Self::OBJECT, id),
            Self::Actor(id) => (Self::ACTOR, id.0.object(0)),
        };
        let mut bytes = [kind; Self::BYTES];
        bytes[1..].copy_from_slice(&id.to_bytes());
        bytes
    }

    /// Reads [`Ref::to_bytes`]; `None` for anything else.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let [kind, id @ ..] = bytes;
        let id = ObjectId::from_bytes(id)?;
        match kind {
            Self::OBJECT => Some(Self::Object(id)),
            Self::ACTOR if id.index == 0 => Some(Self::Actor(ActorId(id.task))),
            _ => None,
        }
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(id) => fmt::Display::fmt(id, f),
            Self::Actor(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl fmt::Debug for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ref {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.starts_with('a') { text.parse().map(Self::Actor) } else { text.parse().map(Self::Object) }
    }
}

impl Serialize for Ref {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ref {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A ref table that grows while texts are read; equal refs share an entry.
#[derive(Debug, Default)]
pub(crate) struct RefTable {
    refs: Vec<Ref>,
    indexes: HashMap<Ref, u32>,
}

impl RefTable {
    /// The index of a ref, which is added if it is new.
    pub(crate) fn index(&mut self, entry: Ref) -> Result<u32, Error> {
        if let Some(index) = self.indexes.get(&entry) {
            return Ok(*index);
        }
        check::ref_count(self.refs.len() + 1)?;
        let index = u32::try_from(self.refs.len()).map_err(|_| Error::internal("a ref table has more entries than its limit"))?;
        self.refs.push(entry);
        self.indexes.insert(entry, index);
        Ok(index)
    }

    /// The table.
    pub(crate) fn into_refs(self) -> Vec<Ref> {
        self.refs
    }
}
