//! What a node counts of the tasks that it owns, for metrics and for whoever looks at how fast work goes.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rwasm_types::{
    Code, Tenant,
    api::UnixMs,
    metrics::{Family, Histogram, Kind},
    view::Summary,
};

/// Seconds that are remembered: what is told, and room for the one that runs and for a clock that is a little off.
const SECONDS: usize = 512;

/// Counts of all tenants together, since the node started.
#[derive(Debug, Default)]
struct Totals {
    jobs_opened: AtomicU64,
    submitted: AtomicU64,
    tried_again: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    cpu_ns: AtomicU64,
    durations: Histogram,
}

/// What a node counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    totals: Arc<Totals>,
    per_second: Mutex<HashMap<Tenant, Arc<PerSecond>>>,
}

/// What a job counts into: the node's totals, and its tenant's part of each second.
#[derive(Clone, Debug)]
pub(crate) struct JobCounters {
    totals: Arc<Totals>,
    per_second: Arc<PerSecond>,
}

/// Counts of the last seconds. A slot holds its second in its upper half and the count in its lower.
#[derive(Debug)]
struct PerSecond {
    slots: [AtomicU64; SECONDS],
}

impl Default for PerSecond {
    fn default() -> Self {
        Self { slots: [const { AtomicU64::new(0) }; SECONDS] }
    }
}

impl PerSecond {
    fn slot(&self, second: u64) -> Option<&AtomicU64> {
        self.slots.get(usize::try_from(second % SECONDS as u64).ok()?)
    }

    fn count(&self, second: u64) {
        let Some(slot) = self.slot(second) else { return };
        let stamp = second << 32;
        let next = |held: u64| Some(if held >> 32 == second & 0xffff_ffff { held + 1 } else { stamp + 1 });
        // The closure always gives a value.
        let _ = slot.fetch_update(Relaxed, Relaxed, next);
    }

    fn of(&self, second: u64) -> u32 {
        let held = self.slot(second).map_or(0, |slot| slot.load(Relaxed));
        // The lower half is the count.
        if held >> 32 == second & 0xffff_ffff { (held & 0xffff_ffff) as u32 } else { 0 }
    }
}

impl Tally {
    /// Counts a job, and gives it what to count its tasks into.
    pub(crate) fn open_job(&self, tenant: &Tenant) -> JobCounters {
        self.totals.jobs_opened.fetch_add(1, Relaxed);
        let per_second = Arc::clone(self.per_second.lock().entry(tenant.clone()).or_default());
        JobCounters { totals: Arc::clone(&self.totals), per_second }
    }

    /// Tasks of a tenant that ended in each of the seconds before `now_s`, the oldest first.
    pub(crate) fn ended_per_second(&self, tenant: &Tenant, now_s: u64) -> Vec<u32> {
        let per_second = self.per_second.lock().get(tenant).map(Arc::clone);
        let first_s = now_s.saturating_sub(Summary::SECONDS as u64);
        (first_s..now_s).map(|second| per_second.as_ref().map_or(0, |counts| counts.of(second))).collect()
    }

    /// The families of metrics.
    pub(crate) fn families(&self) -> Vec<Family> {
        let totals = &*self.totals;
        let count = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        let ended = [("succeeded", count(&totals.succeeded)), ("failed", count(&totals.failed)), ("cancelled", count(&totals.cancelled))];
        let cpu_s = Duration::from_nanos(totals.cpu_ns.load(Relaxed)).as_secs_f64();
        vec![
            Family::counter("rwasm_jobs_opened_total", "Jobs that this node opened.", count(&totals.jobs_opened)),
            Family::counter("rwasm_tasks_submitted_total", "Tasks that were submitted to this node.", count(&totals.submitted)),
            Family::labelled(Kind::Counter, "rwasm_tasks_ended_total", "Tasks of this node that ended, by state.", "state", ended),
            Family::counter(
                "rwasm_task_retries_total",
                "Attempts of this node's tasks that followed a lost one.",
                count(&totals.tried_again),
            ),
            Family::counter("rwasm_task_cpu_seconds_total", "Processor time of this node's tasks, wherever they ran.", cpu_s),
            totals.durations.family("rwasm_task_duration_seconds", "How long tasks of this node ran, wherever they ran."),
        ]
    }
}

impl JobCounters {
    /// Tasks were submitted.
    pub(crate) fn submitted(&self, tasks: usize) {
        self.totals.submitted.fetch_add(tasks as u64, Relaxed);
    }

    /// A task runs again after an attempt was lost.
    pub(crate) fn tried_again(&self) {
        self.totals.tried_again.fetch_add(1, Relaxed);
    }

    /// A task ended.
    pub(crate) fn ended(&self, error: Option<Code>, wall: Duration, cpu: Duration, now_ms: UnixMs) {
        let totals = &*self.totals;
        let counter = match error {
            None => &totals.succeeded,
            Some(Code::CANCELLED) => &totals.cancelled,
            Some(_) => &totals.failed,
        };
        counter.fetch_add(1, Relaxed);
        totals.cpu_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        // What never ran has no duration.
        if !wall.is_zero() {
            totals.durations.observe(wall);
        }
        self.per_second.count(now_ms / 1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_apart_and_forgotten_in_time() {
        let tally = Tally::default();
        let (ours, theirs) = (Tenant::default(), Tenant::new("other").unwrap());
        let job = tally.open_job(&ours);
        let end = |second: u64| job.ended(None, Duration::from_millis(1), Duration::ZERO, second * 1_000 + 999);
        for second in [1_000, 1_000, 1_002, 1_002 - SECONDS as u64] {
            end(second);
        }
        let told = tally.ended_per_second(&ours, 1_003);
        assert_eq!(told.len(), Summary::SECONDS);
        assert_eq!(told[Summary::SECONDS - 3..], [2, 0, 0], "the slot of 1002 was taken by the older second, which is not told");
        assert_eq!(tally.ended_per_second(&theirs, 1_003).iter().sum::<u32>(), 0);
    }

    #[test]
    fn what_did_not_run_has_no_duration() {
        let tally = Tally::default();
        let job = tally.open_job(&Tenant::default());
        job.submitted(2);
        job.ended(Some(Code::CANCELLED), Duration::ZERO, Duration::ZERO, 0);
        job.ended(Some(Code::TRAP), Duration::from_millis(3), Duration::from_millis(2), 0);
        let families = tally.families();
        let of = |name: &str, pick: &str| {
            let family = families.iter().find(|family| family.name == name).unwrap();
            family.samples.iter().find(|sample| sample.suffix == pick || sample.labels.iter().any(|(_, v)| v == pick)).unwrap().value
        };
        assert_eq!((of("rwasm_tasks_ended_total", "failed"), of("rwasm_tasks_ended_total", "cancelled")), (1.0, 1.0));
        assert_eq!(of("rwasm_task_duration_seconds", "_count"), 1.0);
    }
}
