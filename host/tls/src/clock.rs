//! The clock that certificates are judged by: the machine's, which tests may set wrong.

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use rwasm_runtime::fault;

/// The time in handshakes.
#[derive(Debug)]
pub(crate) struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(now())
    }
}

pub(crate) fn now() -> UnixTime {
    let since = std::time::Duration::from_secs(UnixTime::now().as_secs().saturating_add_signed(fault::clock_ahead_ms() / 1_000));
    UnixTime::since_unix_epoch(since)
}
