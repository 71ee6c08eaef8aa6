//! What objects take of this process's memory beside the store, and how much that may be: a part of the store's size.
//!
//! ```text
//! 0 ─────────── a half ─────────── all
//!   rows and small values │ rows alone, values go to the store │ refused
//! ```
//!
//! Rows are what is known of an object: its type, its refs, who holds it. Those of this node's own objects lie in the directory, which counts
//! them; those of values on their way in, and of copies of others' objects, are counted here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rwasm_objects::refs::Directory;
use rwasm_types::{Code, Error, Result, format_bytes};

use super::Objects;

/// The largest value that is kept in the directory instead of in the store, in bytes: smaller ones would fill pages with nothing.
const INLINE_BYTES_MAX: u64 = 100 << 10;
/// Which part of the store's size may be taken beside it.
const PART: u64 = 16;

/// How much there may be, and what of it is not in the directory.
pub(super) struct Beside {
    most_bytes: u64,
    /// Bytes of values on their way in, and of copies.
    taken: Arc<AtomicU64>,
}

/// What a value takes, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    all: Arc<AtomicU64>,
    bytes: u64,
    /// Whether the value itself is in it; else it goes to the store.
    pub(super) inline: bool,
}

impl Beside {
    /// Nothing yet, beside a store of that many bytes.
    pub(super) fn new(store_bytes: u64) -> Self {
        Self { most_bytes: store_bytes / PART, taken: Arc::default() }
    }
}

impl Objects {
    /// Takes what a row of `row` bytes needs, and a value of `size` bytes where it is small and there is room for it.
    ///
    /// # Errors
    ///
    /// [`Code::STORE_FULL`] if there is no room for the row, [`Code::OBJECT_TOO_LARGE`] if there never can be.
    pub(super) fn take_beside(&self, row: u64, size: u64) -> Result<Taken> {
        let Beside { most_bytes, taken } = &self.beside;
        if row > *most_bytes {
            let most = format_bytes(*most_bytes);
            let message = format!("an object whose type and refs take {} can never fit into {most}", format_bytes(row));
            let hint = "have it name fewer objects, or start the node with a larger --object-store-memory";
            return Err(Error::new(Code::OBJECT_TOO_LARGE, message).hint(hint).with("asked", row).with("most", most_bytes));
        }
        // Under the lock, so that no two take the same room.
        let directory = self.directory.lock();
        let before = directory.bytes() + taken.load(Relaxed);
        let inline = size <= INLINE_BYTES_MAX && before + row + size <= most_bytes / 2;
        let bytes = if inline { row + size } else { row };
        self.room_beside(&directory, bytes)?;
        taken.fetch_add(bytes, Relaxed);
        Ok(Taken { all: Arc::clone(taken), bytes, inline })
    }

    /// Whether there is room for so many bytes more beside the store.
    ///
    /// # Errors
    ///
    /// [`Code::STORE_FULL`].
    pub(super) fn room_beside(&self, directory: &Directory, bytes: u64) -> Result<()> {
        let Beside { most_bytes, taken } = &self.beside;
        let before = directory.bytes() + taken.load(Relaxed);
        if before + bytes <= *most_bytes {
            return Ok(());
        }
        let (used, most) = (format_bytes(before), format_bytes(*most_bytes));
        let message = format!("no room for the type and refs of one more object: {used} of {most} are used for those of others");
        let hint = "let go of objects that are not needed, or start the node with a larger --object-store-memory";
        let error = Error::new(Code::STORE_FULL, message).hint(hint);
        Err(error.with("asked", bytes).with("capacity", most_bytes).with("used", before))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}
