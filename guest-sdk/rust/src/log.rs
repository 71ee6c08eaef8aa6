//! Lines for people, which arrive with the task's standard error.
//!
//! ```
//! rwasm::log::warn!("{} of {} rows have no date", 3, 1000);
//! ```
//!
//! `trace!`, `debug!`, `info!`, `warn!` and `error!` take what `format!` takes, and name the [`Level`] of the line.
//!
//! On the host, in tests, lines go to the test's output, and [`testing::take_log`](crate::testing::take_log) returns them.

use std::fmt::{self, Arguments};

pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

#[cfg(target_family = "wasm")]
use crate::imports::log;
#[cfg(not(target_family = "wasm"))]
use crate::testing::log;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step.
    Trace,
    /// For the author.
    Debug,
    /// For whoever runs the job.
    Info,
    /// Something is odd, and the work goes on.
    Warn,
    /// Something failed.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// Writes one line. Line breaks and control characters inside are escaped by the host, and the bytes count against the task's output
/// limit. The macros are shorter.
pub fn write(level: Level, message: Arguments<'_>) {
    match message.as_str() {
        Some(text) => log(level, text),
        None => log(level, &message.to_string()),
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Trace, ::core::format_args!($($argument)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($argument)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Info, ::core::format_args!($($argument)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($argument)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Error, ::core::format_args!($($argument)*)) };
}
