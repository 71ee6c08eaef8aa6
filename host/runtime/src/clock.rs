//! The wall clock, as records show it.

use std::time::{SystemTime, UNIX_EPOCH};

use rwasm_types::api::UnixMs;

use crate::fault;

/// Milliseconds since 1970; 0 on a machine whose clock is before that.
pub fn now_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    since.saturating_add_signed(fault::clock_ahead_ms())
}
