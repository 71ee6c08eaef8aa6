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
    metrics::{Family, Histogram, Kind, Sample},
    view::Summary,
};

/// Seconds that are remembered: what is told, and room for the one that runs and for a clock that is a little off.
const SECONDS: usize = 512;

/// Tenants that metrics name; what the others did is told under [`OTHERS`].
const TENANTS_NAMED_MAX: usize = 200;
/// No tenant has this name.
const OTHERS: &str = "(others)";

/// Counts of jobs and tasks since the node started.
#[derive(Debug, Default)]
struct Counts {
    jobs_opened: AtomicU64,
    submitted: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    cpu_ns: AtomicU64,
}

/// What is counted of all tenants together.
#[derive(Debug, Default)]
struct Totals {
    counts: Counts,
    tried_again: AtomicU64,
    durations: Histogram,
}

/// What is counted of one tenant.
#[derive(Debug, Default)]
struct OfTenant {
    /// How many tenants were counted before it.
    place: u64,
    counts: Counts,
    per_second: PerSecond,
}

/// Values of [`Counts`], to be added up.
#[derive(Clone, Copy, Default)]
struct Sum {
    jobs_opened: f64,
    submitted: f64,
    ended: [f64; 3],
    cpu_s: f64,
}

/// The states in [`Sum::ended`].
const ENDED: [&str; 3] = ["succeeded", "failed", "cancelled"];

impl Counts {
    fn sum(&self) -> Sum {
        let count = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        Sum {
            jobs_opened: count(&self.jobs_opened),
            submitted: count(&self.submitted),
            ended: [&self.succeeded, &self.failed, &self.cancelled].map(count),
            cpu_s: Duration::from_nanos(self.cpu_ns.load(Relaxed)).as_secs_f64(),
        }
    }

    fn ended(&self, error: Option<Code>, cpu: Duration) {
        let counter = match error {
            None => &self.succeeded,
            Some(Code::CANCELLED) => &self.cancelled,
            Some(_) => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
        self.cpu_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.jobs_opened += other.jobs_opened;
        self.submitted += other.submitted;
        self.ended.iter_mut().zip(other.ended).for_each(|(sum, other)| *sum += other);
        self.cpu_s += other.cpu_s;
    }
}

/// What a node counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    totals: Arc<Totals>,
    tenants: Mutex<HashMap<Tenant, Arc<OfTenant>>>,
    /// Tenants that were counted, those that are gone included.
    counted: AtomicU64,
}

/// What a job counts into: the node's totals, and its tenant's.
#[derive(Clone, Debug)]
pub(crate) struct JobCounters {
    totals: Arc<Totals>,
    tenant: Arc<OfTenant>,
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
        let counters = self.job_of(tenant);
        counters.both(|counts| &counts.jobs_opened, 1);
        counters
    }

    /// What a job that was opened before this node started counts its tasks into.
    pub(crate) fn job_of(&self, tenant: &Tenant) -> JobCounters {
        let new = || Arc::new(OfTenant { place: self.counted.fetch_add(1, Relaxed), ..OfTenant::default() });
        JobCounters { totals: Arc::clone(&self.totals), tenant: Arc::clone(self.tenants.lock().entry(tenant.clone()).or_insert_with(new)) }
    }

    /// A tenant is gone: nothing is told of it any more.
    pub(crate) fn forget(&self, tenant: &Tenant) {
        self.tenants.lock().remove(tenant);
    }

    /// Tasks of a tenant that ended in each of the seconds before `now_s`, the oldest first.
    pub(crate) fn ended_per_second(&self, tenant: &Tenant, now_s: u64) -> Vec<u32> {
        let counted = self.tenants.lock().get(tenant).map(Arc::clone);
        let first_s = now_s.saturating_sub(Summary::SECONDS as u64);
        (first_s..now_s).map(|second| counted.as_ref().map_or(0, |counted| counted.per_second.of(second))).collect()
    }

    /// The families of metrics that everybody may see.
    pub(crate) fn families(&self) -> Vec<Family> {
        let totals = &*self.totals;
        let Sum { jobs_opened, submitted, ended, cpu_s } = totals.counts.sum();
        let tried_again = totals.tried_again.load(Relaxed) as f64;
        let ended = ENDED.into_iter().zip(ended);
        vec![
            Family::counter("rwasm_jobs_opened_total", "Jobs that this node opened.", jobs_opened),
            Family::counter("rwasm_tasks_submitted_total", "Tasks that were submitted to this node.", submitted),
            Family::labelled(Kind::Counter, "rwasm_tasks_ended_total", "Tasks of this node that ended, by state.", "state", ended),
            Family::counter("rwasm_task_retries_total", "Attempts of this node's tasks that followed a lost one.", tried_again),
            Family::counter("rwasm_task_cpu_seconds_total", "Processor time of this node's tasks, wherever they ran.", cpu_s),
            totals.durations.family("rwasm_task_duration_seconds", "How long tasks of this node ran, wherever they ran."),
        ]
    }

    /// What tenants did: one, or all of them, of which the first are named. Which ones does not change with what they do, so that the sum of
    /// the others only grows, as a counter has to.
    pub(crate) fn of_tenants(&self, only: Option<&Tenant>) -> Vec<Family> {
        let counted = self.tenants.lock();
        let wanted = counted.iter().filter(|(tenant, _)| only.is_none_or(|only| only == *tenant));
        let mut wanted: Vec<(u64, String, Sum)> = wanted.map(|(name, of)| (of.place, name.to_string(), of.counts.sum())).collect();
        drop(counted);
        wanted.sort_by_key(|(place, ..)| *place);
        let mut sums: Vec<(String, Sum)> = wanted.into_iter().map(|(_, name, sum)| (name, sum)).collect();
        if sums.len() > TENANTS_NAMED_MAX {
            let mut others = Sum::default();
            sums.drain(TENANTS_NAMED_MAX..).for_each(|(_, sum)| others.add(sum));
            sums.push((OTHERS.to_owned(), others));
        }
        let family = |kind, name, help, value: fn(&Sum) -> f64| {
            let samples = sums.iter().map(|(tenant, sum)| Sample::new(value(sum)).with("tenant", tenant)).collect();
            Family { name, help, kind, samples }
        };
        let by_state = |(tenant, sum): &(String, Sum)| {
            let sample = |(state, count)| Sample::new(count).with("tenant", tenant).with("state", state);
            ENDED.into_iter().zip(sum.ended).map(sample).collect::<Vec<_>>()
        };
        let ended = Family {
            name: "rwasm_tenant_tasks_ended_total",
            help: "Tasks of this node that ended, by tenant and state.",
            kind: Kind::Counter,
            samples: sums.iter().flat_map(by_state).collect(),
        };
        vec![
            family(Kind::Counter, "rwasm_tenant_jobs_opened_total", "Jobs that this node opened, by tenant.", |sum| sum.jobs_opened),
            family(Kind::Counter, "rwasm_tenant_tasks_submitted_total", "Tasks that were submitted to this node, by tenant.", |sum| {
                sum.submitted
            }),
            ended,
            family(Kind::Counter, "rwasm_tenant_task_cpu_seconds_total", "Processor time of this node's tasks, by tenant.", |sum| {
                sum.cpu_s
            }),
        ]
    }
}

impl JobCounters {
    fn both(&self, counter: impl Fn(&Counts) -> &AtomicU64, by: u64) {
        for counts in [&self.totals.counts, &self.tenant.counts] {
            counter(counts).fetch_add(by, Relaxed);
        }
    }

    /// Tasks were submitted.
    pub(crate) fn submitted(&self, tasks: usize) {
        self.both(|counts| &counts.submitted, tasks as u64);
    }

    /// A task runs again after an attempt was lost.
    pub(crate) fn tried_again(&self) {
        self.totals.tried_again.fetch_add(1, Relaxed);
    }

    /// A task ended.
    pub(crate) fn ended(&self, error: Option<Code>, wall: Duration, cpu: Duration, now_ms: UnixMs) {
        self.totals.counts.ended(error, cpu);
        self.tenant.counts.ended(error, cpu);
        // What never ran has no duration.
        if !wall.is_zero() {
            self.totals.durations.observe(wall);
        }
        self.tenant.per_second.count(now_ms / 1_000);
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

    #[test]
    fn tenants_are_told_apart_and_their_number_is_bounded() {
        let tally = Tally::default();
        for number in 0..TENANTS_NAMED_MAX + 5 {
            let job = tally.open_job(&Tenant::new(&format!("t{number:04}")).unwrap());
            job.submitted(1 + usize::from(number == 7));
            job.ended(None, Duration::from_millis(1), Duration::from_secs(1), 0);
        }
        let all = tally.of_tenants(None);
        let values = |families: &[Family], name: &str| -> Vec<(String, f64)> {
            let family = families.iter().find(|family| family.name == name).unwrap();
            family.samples.iter().map(|sample| (sample.labels[0].1.clone(), sample.value)).collect()
        };
        let submitted = values(&all, "rwasm_tenant_tasks_submitted_total");
        assert_eq!(submitted.len(), TENANTS_NAMED_MAX + 1);
        assert_eq!((&submitted[7], &submitted[TENANTS_NAMED_MAX]), (&("t0007".into(), 2.0), &(OTHERS.into(), 5.0)));
        // However busy one of the others is, it stays one of them.
        let late = Tenant::new(&format!("t{:04}", TENANTS_NAMED_MAX + 1)).unwrap();
        tally.job_of(&late).submitted(1_000);
        let submitted = values(&tally.of_tenants(None), "rwasm_tenant_tasks_submitted_total");
        assert_eq!((&submitted[7].0, &submitted[TENANTS_NAMED_MAX]), (&"t0007".to_owned(), &(OTHERS.into(), 1_005.0)));
        assert_eq!(
            values(&all, "rwasm_tenant_task_cpu_seconds_total").iter().map(|(_, value)| value).sum::<f64>(),
            TENANTS_NAMED_MAX as f64 + 5.0
        );
        let one = Tenant::new("t0003").unwrap();
        assert_eq!(values(&tally.of_tenants(Some(&one)), "rwasm_tenant_jobs_opened_total"), [("t0003".to_owned(), 1.0)]);
        tally.forget(&one);
        assert!(values(&tally.of_tenants(Some(&one)), "rwasm_tenant_jobs_opened_total").is_empty());
    }
}
