//! The clock that certificates are judged by: that of all records, which tests may set wrong.

use std::time::Duration;

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// The time in handshakes.
#[derive(Debug)]
pub(crate) struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(now())
    }
}

pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(rwasm_runtime::now_ms()))
}
