//! Stand-ins for the cluster, so that guests can be tested with `cargo test`. Not there on Wasm.
//!
//! ```
//! use rwasm::{
//!     log::Level,
//!     testing::{self, Context},
//! };
//!
//! /// Says which attempt this is, if it is not the first.
//! #[rwasm::export]
//! fn tell_attempt() {
//!     match rwasm::context::attempt() {
//!         1 => {}
//!         attempt => rwasm::log::warn!("attempt {attempt}"),
//!     }
//! }
//!
//! # fn main() {
//! testing::set_context(Context { attempt: 2, ..Context::default() });
//! tell_attempt();
//! assert_eq!(testing::take_log(), [(Level::Warn, "attempt 2".to_owned())]);
//! # }
//! ```
//!
//! [Tasks](crate::task) that a function starts run at once, in the place where they are started, and a panic is their failure. Functions of
//! other artifacts are not there, so a test says what they answer, with the closure that `answer` of each takes: see
//! [`import!`](crate::import).
//!
//! Every thread has a context and a log of its own, so tests that run side by side do not meet.

#[doc(hidden)]
pub mod objects;
#[doc(hidden)]
pub mod tasks;

use std::{cell::RefCell, mem, time::Duration};

use crate::log::Level;

/// What [`context`](crate::context) tells. By default the first attempt of task `t1-1-1`, with a day to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The running task.
    pub task_id: String,
    /// The job that the task belongs to.
    pub job_id: String,
    /// Which execution of the task this is, from 1.
    pub attempt: u32,
    /// The node that the task runs on.
    pub node_id: String,
    /// The tenant that the task belongs to.
    pub tenant: String,
    /// The time that is left until the deadline.
    pub time_left: Duration,
    /// Whether somebody asked the task to end.
    pub cancelled: bool,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            task_id: "t1-1-1".to_owned(),
            job_id: "j1-1".to_owned(),
            attempt: 1,
            node_id: "n1".to_owned(),
            tenant: "default".to_owned(),
            time_left: Duration::from_secs(24 * 3600),
            cancelled: false,
        }
    }
}

thread_local! {
    static CONTEXT: RefCell<Context> = RefCell::new(Context::default());
    static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Sets what [`context`](crate::context) tells on this thread.
pub fn set_context(context: Context) {
    CONTEXT.set(context);
}

/// Returns the lines that this thread logged since the last call.
pub fn take_log() -> Vec<(Level, String)> {
    LOG.with_borrow_mut(mem::take)
}

/// The same functions as the bindings of `rwasm:core/context`.
pub(crate) mod context {
    use super::CONTEXT;

    pub(crate) fn task_id() -> String {
        CONTEXT.with_borrow(|context| context.task_id.clone())
    }

    pub(crate) fn job_id() -> String {
        CONTEXT.with_borrow(|context| context.job_id.clone())
    }

    pub(crate) fn attempt() -> u32 {
        CONTEXT.with_borrow(|context| context.attempt)
    }

    pub(crate) fn node_id() -> String {
        CONTEXT.with_borrow(|context| context.node_id.clone())
    }

    pub(crate) fn tenant() -> String {
        CONTEXT.with_borrow(|context| context.tenant.clone())
    }

    pub(crate) fn deadline_ms() -> u64 {
        CONTEXT.with_borrow(|context| context.time_left.as_millis().try_into().unwrap_or(u64::MAX))
    }

    pub(crate) fn cancelled() -> bool {
        CONTEXT.with_borrow(|context| context.cancelled)
    }
}

/// Keeps one line, and shows it to whoever runs the test.
#[expect(clippy::print_stderr, reason = "the test harness captures it, and shows it where a test fails")]
pub(crate) fn log(level: Level, message: &str) {
    eprintln!("{level:5} {message}");
    LOG.with_borrow_mut(|log| log.push((level, message.to_owned())));
}
