//! Age: the output of jobs that ended long ago is removed, and so is what it takes on disk.

use std::{sync::Arc, time::Duration};

use crate::node::Shared;
use rwasm_runtime::now_ms;

/// How often is looked for output that is too old: as often as is worth it for the age, from every second to every minute.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Shared {
    /// Removes output of jobs that ended too long ago, for as long as the node runs.
    pub(crate) async fn expire_outputs(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.limits.log_age.clamp(LOOK_EVERY.0, LOOK_EVERY.1));
        loop {
            ticks.tick().await;
            let age_ms = u64::try_from(self.limits.log_age.as_millis()).unwrap_or(u64::MAX);
            let before = now_ms().saturating_sub(age_ms);
            let old = |ended_ms: Option<u64>| ended_ms.is_some_and(|ended_ms| ended_ms < before);
            let jobs: Vec<_> = self.jobs.read().values().filter(|job| job.has_ended()).map(Arc::clone).collect();
            for job in jobs.iter().filter(|job| job.log.written() > 0 && old(job.record().ended_ms)) {
                tracing::info!(tenant = %job.tenant, job = %job.id, "a job's output is too old and is removed");
                job.log.expire();
            }
            // And what is on disk only.
            self.ledger.sweep();
        }
    }
}
