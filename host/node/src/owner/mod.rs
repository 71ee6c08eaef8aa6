//! Ownership: the jobs that came in through this node, their tasks, results and output, and the leases they run on elsewhere.

mod call;
mod child;
pub(crate) mod job;
pub(crate) mod ledger;
pub(crate) mod link;
pub(crate) mod listing;
pub(crate) mod outbox;
pub(crate) mod received;
pub(crate) mod restore;
pub(crate) mod spread;
mod taker;
mod tasks;
