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
//! Every thread has a context and a log of its own, so tests that run side by side do not meet.

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

/// The same types and functions as the bindings of `rwasm:core/objects`, with objects in memory of the process. There are no windows.
#[doc(hidden)]
pub mod objects {
    use std::{
        cell::{Cell, RefCell},
        sync::Arc,
    };

    use crate::object::{Error, Info};

    thread_local! {
        static PUT: Cell<u32> = const { Cell::new(0) };
    }

    #[derive(Debug)]
    pub struct Object(Arc<(Info, Vec<u8>)>);

    #[derive(Debug)]
    pub struct Writer {
        size: usize,
        value_type: String,
        bytes: RefCell<Vec<u8>>,
    }

    impl Object {
        pub(crate) fn info(&self) -> Result<Info, Error> {
            Ok(self.0.0.clone())
        }

        pub(crate) fn get(&self) -> Result<Vec<u8>, Error> {
            Ok(self.0.1.clone())
        }

        pub(crate) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
            let range = || Some(usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(length)?).ok()?);
            range().and_then(|range| self.0.1.get(range)).map(<[u8]>::to_vec).ok_or(Error::OutOfRange)
        }

        pub(crate) fn duplicate(&self) -> Result<Self, Error> {
            Ok(Self(Arc::clone(&self.0)))
        }
    }

    impl Writer {
        pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), Error> {
            let mut all = self.bytes.borrow_mut();
            if all.len() + bytes.len() > self.size {
                return Err(Error::TooLarge);
            }
            all.extend_from_slice(bytes);
            Ok(())
        }

        pub(crate) fn seal(this: Self) -> Result<Object, Error> {
            let bytes = this.bytes.into_inner();
            if bytes.len() < this.size { Err(Error::Unfinished) } else { put(&bytes, &this.value_type) }
        }
    }

    pub(crate) fn create(size: u64, value_type: &str) -> Result<Writer, Error> {
        let size = usize::try_from(size).map_err(|_| Error::TooLarge)?;
        Ok(Writer { size, value_type: value_type.to_owned(), bytes: RefCell::default() })
    }

    pub(crate) fn put(bytes: &[u8], value_type: &str) -> Result<Object, Error> {
        if value_type == "string" && std::str::from_utf8(bytes).is_err() {
            return Err(Error::Malformed);
        }
        let index = PUT.replace(PUT.get() + 1);
        let info = Info { id: format!("o1-1-1-{}", index + 1), size: bytes.len() as u64, value_type: value_type.to_owned() };
        Ok(Object(Arc::new((info, bytes.to_vec()))))
    }
}
