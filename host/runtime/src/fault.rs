//! Named points at which a test has a process die, as a power cut or the kernel's killer has it.
//!
//! They exist in builds with debug assertions only; elsewhere [`point`] is nothing. So does a clock that goes wrong.

/// The variable that names a point: `NAME`, or `NAME:3` for the third time that it is reached.
pub const VARIABLE: &str = "RWASM_FAULT_POINT";

/// Kills this process if [`VARIABLE`] names this point, and it is reached the right time.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    };
    static WANTED: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, times) = text.split_once(':').map_or((text.as_str(), 1), |(name, times)| (name, times.parse().unwrap_or(1)));
        Some((name.to_owned(), AtomicU32::new(times)))
    });
    if let Some((wanted, left)) = wanted
        && wanted == name
        && left.fetch_sub(1, Relaxed) == 1
    {
        // Not `abort`, which would leave a core.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub const fn point(_name: &str) {}

/// The variable that says how far this process' wall clock is ahead of the machine's, in milliseconds; behind if it is negative.
pub const CLOCK_VARIABLE: &str = "RWASM_FAULT_CLOCK_MS";

/// How far the wall clock goes wrong, in milliseconds.
#[cfg(debug_assertions)]
pub fn clock_ahead_ms() -> i64 {
    static AHEAD: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *AHEAD.get_or_init(|| std::env::var(CLOCK_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub const fn clock_ahead_ms() -> i64 {
    0
}
