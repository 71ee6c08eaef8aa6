//! What opening jobs needs: numbers that are given once, and times that do not go back.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_runtime::now_ms;
use rwasm_types::{JobId, Tenant, api::UnixMs};

use crate::{node::Shared, sessions::Sessions};

/// One for each gateway.
pub(super) struct Opener {
    pub(super) sessions: Arc<Mutex<Sessions>>,
    /// Jobs by the key of their opening, so that a repeated opening opens no second job.
    pub(super) keys: Mutex<HashMap<(Tenant, Bytes), JobId>>,
    newest: Newest,
}

/// When the newest job was opened.
#[derive(Debug, Default)]
struct Newest(Mutex<UnixMs>);

impl Newest {
    /// Now, or the time before if the clock was set back since.
    fn next(&self, now_ms: UnixMs) -> UnixMs {
        let mut newest = self.0.lock();
        *newest = now_ms.max(*newest);
        *newest
    }
}

impl Opener {
    /// Goes on behind what an earlier life of the node left.
    pub(super) fn new(shared: &Shared) -> Self {
        let jobs = shared.jobs.read();
        let keys = jobs.values().map(|job| ((job.tenant.clone(), job.key.clone()), job.id)).collect();
        let newest_ms = jobs.values().map(|job| job.place().at_ms).max().unwrap_or_default();
        Self { sessions: Arc::clone(&shared.sessions), keys: Mutex::new(keys), newest: Newest(Mutex::new(newest_ms)) }
    }

    /// When a job is opened: not before the one before it. Places in lists are found by time, and by number, which have to agree.
    pub(super) fn time(&self) -> UnixMs {
        self.newest.next(now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_jobs_do_not_go_back_where_the_clock_does() {
        let newest = Newest::default();
        assert_eq!([5, 7, 3, 7, 8].map(|now| newest.next(now)), [5, 7, 7, 7, 8]);
    }
}
