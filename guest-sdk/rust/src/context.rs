//! Who is running, where, and until when.
//!
//! On the host, in tests, these are the values of [`testing::set_context`](crate::testing::set_context).

use std::time::Duration;

#[cfg(target_family = "wasm")]
use crate::imports::context as source;
#[cfg(not(target_family = "wasm"))]
use crate::testing::context as source;

/// The running task, as `rwasm why` and `rwasm list tasks` name it: `t3-17-42`.
pub fn task_id() -> String {
    source::task_id()
}

/// The job that the task belongs to: `j3-17`.
pub fn job_id() -> String {
    source::job_id()
}

/// Which execution of the task this is, from 1. It is larger than 1 after a node was lost.
pub fn attempt() -> u32 {
    source::attempt()
}

/// The node that the task runs on: `n3`.
pub fn node_id() -> String {
    source::node_id()
}

/// The tenant that the task belongs to.
pub fn tenant() -> String {
    source::tenant()
}

/// The time that is left until the task's wall-clock deadline.
pub fn time_left() -> Duration {
    Duration::from_millis(source::deadline_ms())
}

/// Whether somebody asked the task to end. A guest that returns soon after may tidy up first; one that does not is stopped.
pub fn cancelled() -> bool {
    source::cancelled()
}
