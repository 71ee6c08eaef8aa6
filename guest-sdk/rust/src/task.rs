//! Tasks that a task starts: calls of functions that the cluster runs, here or on other nodes, side by side.
//!
//! ```
//! use rwasm::task::{self, Task};
//!
//! /// How many numbers below `end`, from `start` on, are prime.
//! #[rwasm::export]
//! fn count_primes(start: u64, end: u64) -> u64 {
//!     (start.max(2)..end).filter(|n| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count() as u64
//! }
//!
//! /// The same, by as many tasks as there are thousands.
//! #[rwasm::export]
//! fn count_all_primes(end: u64) -> Result<u64, task::Error> {
//!     let parts: Vec<Task<u64>> =
//!         (0..end).step_by(1000).map(|start| count_primes::submit(start, end.min(start + 1000))).collect::<Result<_, _>>()?;
//!     parts.iter().map(Task::get).sum()
//! }
//!
//! # fn main() {
//! assert_eq!(count_all_primes(3000), Ok(430));
//! # }
//! ```
//!
//! [`#[rwasm::export]`](macro@crate::export) gives each function a type of its name, which starts tasks of it: `count_primes::submit(…)`, or
//! `count_primes::with(options).submit(…)` with [`Options`]. [`import!`](crate::import) does the same for the functions of other artifacts,
//! from their WIT. Either way the compiler checks the call.
//!
//! An argument is a value; or, in the place of one, `&Object<T>` or `&Task<T>`, which give the value of that object, or the result of that
//! task, without carrying it through this one. The new task starts when they are ready.
//!
//! # Waiting
//!
//! [`Task::get`] waits for one task, and [`wait`] for so many of several. While a task waits, others run in its place; what it has in memory
//! stays. What a task starts ends with it where it fails or is cancelled, and has no more rights than itself.
//!
//! On the host, in tests, `submit` runs the function at once; see [`testing`](mod@crate::testing) for those of other artifacts.

mod argument;
mod options;

use std::{cell::OnceCell, fmt, time::Duration};

pub use argument::{Argument, Arguments};
pub use options::Options;

#[cfg(target_family = "wasm")]
use crate::imports::tasks;
#[cfg(not(target_family = "wasm"))]
use crate::testing::tasks;
use crate::{
    Object,
    bindings::objects as source,
    object::{self, Failure},
    value::Value,
};

/// A task that was started, whose result is a `T`. Dropped, it goes on.
pub struct Task<T> {
    handle: tasks::Task,
    output: OnceCell<Object<T>>,
}

/// Why there is no task, or no result of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The call was refused, or the task failed or was cancelled.
    Failed(Failure),
    /// The result is there, but not to be had.
    Result(object::Error),
    /// The function returned an error.
    Returned(String),
}

impl Error {
    /// The stable code of what failed, which `rwasm explain` tells about: `RW0411`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Failed(failure) => Some(&failure.code),
            Self::Result(_) | Self::Returned(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Result(error) => error.fmt(f),
            Self::Returned(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for Error {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What most functions have as their error, so that `?` passes it on: `task.get()??`.
impl From<String> for Error {
    fn from(error: String) -> Self {
        Self::Returned(error)
    }
}

impl From<object::Error> for Error {
    fn from(error: object::Error) -> Self {
        match error {
            object::Error::Failed(failure) => Self::Failed(failure),
            error => Self::Result(error),
        }
    }
}

#[cfg(target_family = "wasm")]
impl From<source::Failure> for Error {
    fn from(failure: source::Failure) -> Self {
        Self::Failed(failure.into())
    }
}

impl<T> Task<T> {
    pub(crate) fn new(handle: tasks::Task) -> Self {
        Self { handle, output: OnceCell::new() }
    }

    /// Its id, as `rwasm list tasks` names it.
    pub fn id(&self) -> String {
        self.handle.id()
    }

    /// Its result, as an object that is there when the task has ended.
    pub fn output(&self) -> &Object<T> {
        self.output.get_or_init(|| Object::from_handle(self.handle.output()))
    }

    /// Its result, as an object that is there when the task has ended, to be passed on or returned.
    pub fn into_output(mut self) -> Object<T> {
        self.output.take().unwrap_or_else(|| Object::from_handle(self.handle.output()))
    }

    /// Ends it, and what it has started. Nothing happens if it has ended.
    pub fn cancel(&self) {
        self.handle.cancel();
    }
}

impl<T: Value> Task<T> {
    /// Its result; waits until it has ended.
    ///
    /// A function that returns a `Result` has that as its result, whichever it returned: `task.get()??` is the value, and passes
    /// errors on.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the task failed or was cancelled; else why its result is not to be had.
    pub fn get(&self) -> Result<T, Error> {
        Ok(self.output().get()?)
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.id()).finish()
    }
}

/// What [`wait`] waits for: tasks, and objects.
pub trait Pending {
    #[doc(hidden)]
    fn handle(&self) -> &source::Object;
}

impl<T> Pending for Task<T> {
    fn handle(&self) -> &source::Object {
        self.output().handle()
    }
}

impl<T> Pending for Object<T> {
    fn handle(&self) -> &source::Object {
        self.handle()
    }
}

impl<P: Pending + ?Sized> Pending for &P {
    fn handle(&self) -> &source::Object {
        (**self).handle()
    }
}

/// Waits until `count` of them are ready, or can never be, or until the time is over; gives the positions of those that are, in order. All of
/// them, if `count` is larger. Tasks of different types are a list of `&dyn Pending`.
///
/// ```
/// # use rwasm::task::{self, Task};
/// # #[rwasm::export]
/// # fn square(n: u64) -> u64 { n * n }
/// # fn main() -> Result<(), task::Error> {
/// let mut tasks: Vec<Task<u64>> = (0..10).map(square::submit).collect::<Result<_, _>>()?;
/// let mut sum = 0;
/// while !tasks.is_empty() {
///     for position in task::wait(&tasks, 1, None)?.into_iter().rev() {
///         sum += tasks.swap_remove(position).get()?;
///     }
/// }
/// assert_eq!(sum, 285);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::Failed`] if they cannot be waited for.
pub fn wait<P: Pending>(of: &[P], count: usize, timeout: Option<Duration>) -> Result<Vec<usize>, Error> {
    let handles: Vec<_> = of.iter().map(Pending::handle).collect();
    let timeout = timeout.map(options::milliseconds);
    let ready = tasks::wait(&handles, u32::try_from(count).unwrap_or(u32::MAX), timeout)?;
    Ok(ready.into_iter().map(|position| position as usize).collect())
}

/// Starts a call of an export.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn start<T: Value>(artifact: Option<&str>, export: &str, arguments: Arguments<'_>, options: &Options) -> Result<Task<T>, Error> {
    let (bytes, refs) = arguments.finish();
    Ok(Task::new(tasks::submit(&options.target(artifact, export), &bytes, &refs, &options.told())?))
}

/// Runs a call of an export at once.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
pub fn start<T: Value>(
    arguments: Arguments<'_>,
    run: impl FnOnce(&tasks::Received) -> Result<tasks::Stored, Failure>,
) -> Result<Task<T>, Error> {
    let (bytes, refs) = arguments.finish();
    Ok(Task::new(tasks::submit(bytes, &refs, run)?))
}
