//! What guests reach of the cluster's objects: the doors that the node fulfils, and the imports of `rwasm:core/objects` that lead to them.
//!
//! ```text
//! guest ── own<object> ──▶ handles ──▶ Object ── bytes ──▶ Sealed ── region ──▶ window (raw.rs)
//!   └──── own<writer> ──▶ handles ──▶ Draft ── seal ──▶ Object
//! ```
//!
//! A task's [`Objects`] are those that it was passed and those that it makes. Who else holds them, where their bytes are and what they
//! cost is the node's business; how they cross into a guest is this room's.

mod error;
mod handles;
mod imports;
mod local;
mod maps;
mod window;

use std::{fmt, pin::Pin, sync::Arc};

pub use rwasm_objects::Region;
use rwasm_types::{Code, Error, ObjectId, Result};
use rwasm_values::Type;

pub use self::local::LocalObjects;
pub(crate) use self::{
    error::Failure,
    handles::{HANDLES_MAX, Handles, Held},
    imports::{INTERFACE, add_to_linker},
};

/// The end of something that may take its time. Dropping it gives it up.
pub type Waits<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The objects of one attempt.
pub trait Objects: Send + Sync + 'static {
    /// The object of a ref that the task was passed.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if it was not passed.
    fn open(&self, id: ObjectId) -> Result<Arc<dyn Object>>;

    /// Begins a value of exactly so many bytes; waits for room.
    fn create<'a>(&'a self, ty: &'a Type, size: u64) -> Waits<'a, Box<dyn Draft>>;
}

/// An object that the task holds, until this is dropped.
pub trait Object: fmt::Debug + Send + Sync + 'static {
    /// Its id.
    fn id(&self) -> ObjectId;

    /// What is known of it; waits until that is known here.
    fn info(&self) -> Waits<'_, Info>;

    /// The objects that its value names, each held from now on; waits until they are known here.
    fn refs(&self) -> Waits<'_, Vec<Arc<dyn Object>>>;

    /// Its bytes; waits until they are on this node.
    fn bytes(&self) -> Waits<'_, Arc<dyn Sealed>>;
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Bytes of its value in the stored form.
    pub size: u64,
    /// The type of its value.
    pub value_type: Type,
}

/// The bytes of an object on this node. They stay what and where they are until this is dropped.
pub trait Sealed: Send + Sync + 'static {
    /// All of them.
    fn bytes(&self) -> &[u8];

    /// Where a file holds them, one that is sealed against shrinking: a page that is gone would end the process, not the guest. `None` where none does, and windows are filled by copying.
    fn region(&self) -> Option<Region<'_>>;
}

/// A value that is being written. Dropped before it is sealed, it leaves nothing.
pub trait Draft: Send + 'static {
    /// Adds bytes at the end. They are never more than it was begun for.
    ///
    /// # Errors
    ///
    /// Why the store cannot take them.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// All of it, when all was added.
    fn bytes(&mut self) -> &[u8];

    /// Makes an object of it, which the task holds. Asked when all was added, and is a value of its type.
    fn seal(self: Box<Self>) -> Waits<'static, Arc<dyn Object>>;
}

/// Where there is no store: every object is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObjects;

impl Objects for NoObjects {
    fn open(&self, id: ObjectId) -> Result<Arc<dyn Object>> {
        Err(absent().with("object", id))
    }

    fn create<'a>(&'a self, _ty: &'a Type, _size: u64) -> Waits<'a, Box<dyn Draft>> {
        Box::pin(async { Err(absent()) })
    }
}

fn absent() -> Error {
    Error::new(Code::OBJECTS_ABSENT, "this node keeps no objects")
}
