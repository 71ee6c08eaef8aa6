//! What an owner writes down: its unfinished work, so that it survives the owner's process, and what is left of it afterwards.
//!
//! ```text
//! STATE/work/0000000007.seg     jobs that have not ended: calls, arguments, which node got which attempt, results      [Log of Work]
//! STATE/past/0000000003.seg     jobs and their tasks, without arguments and results: what lists show                 [Log of Past]
//! STATE/past/index.redb         where each job of the past stands; made anew from the segments if it is lost           [Index]
//! STATE/shipped/n2/0000000003.seg  at the head: the past of other nodes, byte for byte as they have it               [Shipped]
//! STATE/shipped/index.redb      where each job of it stands
//! ```
//!
//! Both are logs of the same format ([`segment`]): appended to by one process, in files that are removed whole. An append is a `write`
//! before its effect, so a process that is killed loses nothing; the disk is told to keep it within [`log::SYNC_WITHIN`], so a power cut
//! loses at most that. The work of a job is removed when its driver has everything. Its past is kept by age and size.
//!
//! This room reads no clock, spawns no async task and knows no wire: it is given records and gives them back.

mod coding;
mod crc;
pub mod index;
pub mod log;
pub mod past;
pub mod segment;
pub mod ship;
pub mod shipped;
mod store;
mod view;
pub mod work;

pub use self::{
    log::{Appended, Log},
    segment::{Gap, LogKind, Origin, Position},
    ship::PastBatch,
    shipped::Shipped,
    store::{PastStore, Retention},
    view::{Found, Kept, View},
};
