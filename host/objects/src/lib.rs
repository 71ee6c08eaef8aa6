//! The objects of a node: sealed, immutable values in memory that is shared with the processes that read them, and on disk where that runs
//! short. Who holds which object, on this node and on others, is in [`refs`].
//!
//! ```text
//!            create            write, seal             get                region
//! producer ──────────▶ Writer ─────────────▶ object ────────▶ Pin (reader) ───────▶ window of a guest, child process
//!                         │                    │
//!                         ▼ dropped            ▼ deleted, and no pin is left
//!                      nothing is left      its extent is used again
//! ```
//!
//! An object belongs to a tenant, and is not there for others. It has a size from the beginning and bytes that never change once it is
//! sealed. Its memory is part of a segment of its tenant's, in whole pages; see `arena`. What readers can see and touch is in [`Pin`].
//!
//! This room knows no tasks, no nodes and no async runtime, and takes no time from anybody: whoever may have to wait is told so.

mod arena;
mod error;
mod pin;
mod queue;
mod raw;
mod receiver;
mod relieve;
mod spill;
mod state;
mod store;
mod sum;
mod view;
mod waiting;
mod writer;

pub mod refs;

pub use self::{
    error::may_wait,
    pin::{Chunk, Pin, Region},
    receiver::Receiver,
    relieve::Keeper,
    spill::{Spill, SpillTarget, directory::Directory},
    store::{Config, Store},
    sum::{CHUNK_BYTES, Checksum, chunk_range, chunks},
    view::{ObjectInfo, ObjectState, TenantUsage, Usage},
    waiting::{Fetched, Fetching, Reserving, Restore},
    writer::Writer,
};
