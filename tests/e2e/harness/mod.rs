//! What every end-to-end test stands on: homes of their own, commands with a deadline, clusters of real processes.
//!
//! ```text
//! Home     directories of one imaginary user; no process of it outlives it
//!  └ Run → Output     one `rwasm …` to its end; what does not hold is said with all that it printed
//!  └ Run → Running    the same while it runs: signals, what it has printed so far
//! Cluster  a Home with daemons on free ports, and their process numbers
//! Place    a Home that works embedded, or a Cluster: `everywhere` holds a test in both
//! ```
//!
//! Tests wait for conditions, never for time: [`eventually`] looks until something holds.

pub(crate) mod cluster;
pub(crate) mod home;
pub(crate) mod network;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod run;
pub(crate) mod text;
pub(crate) mod work;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{cluster::Cluster, home::Home, place::everywhere};

/// How long anything may take before a test gives up. Far more than it needs, so that a busy machine fails no test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// How long to wait between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The path of a guest that `tools/build-guests.sh` built.
pub(crate) fn guest(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = std::env::var_os("RWASM_GUESTS").map_or_else(|| root.join("target/guests"), PathBuf::from);
    let path = dir.join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is missing: run tools/build-guests.sh", path.display());
    path.to_str().expect("paths of this repository are text").to_owned()
}

/// The path of a guest that is kept as text beside the tests.
pub(crate) fn text_guest(name: &str) -> String {
    format!("{}/tests/e2e/guests/{name}.wat", env!("CARGO_MANIFEST_DIR"))
}

/// Looks until there is something, and gives it.
///
/// # Panics
///
/// When it is not there within [`DEADLINE`].
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, look).unwrap_or_else(|| panic!("{what}: not within {DEADLINE:?}"))
}

/// Looks until there is something, and gives it; `None` if it does not come in time.
pub(crate) fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        // Asked before the look, so that the last look comes after the deadline and not a pause before it.
        let over = Instant::now() >= end;
        if let Some(found) = look() {
            return Some(found);
        }
        if over {
            return None;
        }
        thread::sleep(LOOK_EVERY);
    }
}
