//! What a node counts and measures, put together when somebody asks.

use std::sync::{Arc, Weak};

use rwasm_types::{
    JobState, TaskState, Tenant,
    api::TaskCounts,
    metrics::{Family, Kind, Sample},
};

use crate::{node::Shared, owner::job::Job};

/// The metrics of a node, for as long as it runs. Clones are the same.
#[derive(Clone)]
pub struct NodeMetrics(Weak<Shared>);

impl std::fmt::Debug for NodeMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NodeMetrics").finish()
    }
}

impl NodeMetrics {
    pub(crate) fn of(shared: &Weak<Shared>) -> Self {
        Self(Weak::clone(shared))
    }

    /// All families; none once the node has ended.
    pub fn families(&self) -> Vec<Family> {
        self.0.upgrade().map(|shared| shared.families()).unwrap_or_default()
    }
}

impl NodeMetrics {
    /// What tenants did here: one, or all of them. Nobody is shown another tenant's but operators.
    pub fn of_tenants(&self, only: Option<&Tenant>) -> Vec<Family> {
        self.0.upgrade().map(|shared| shared.tally.of_tenants(only)).unwrap_or_default()
    }
}

impl Shared {
    fn families(&self) -> Vec<Family> {
        let mut families = Vec::from(self.owned());
        families.extend(self.tally.families());
        families.extend(self.slots());
        families.extend(self.compiling());
        families.extend(self.objects.families());
        families.extend(rwasm_runtime::machine_metrics(&self.state_dir));
        families
    }

    /// Jobs and tasks that are remembered here.
    fn owned(&self) -> [Family; 2] {
        let mut tasks = TaskCounts::default();
        let mut jobs = JobState::ALL.map(|state| (state, 0.0));
        // Aside from the table: a job that is looked through holds up nobody but those who look at it.
        let known: Vec<Arc<Job>> = self.jobs.read().values().map(Arc::clone).collect();
        for (state, counts) in known.iter().map(|job| job.glance()) {
            tasks += counts;
            jobs.iter_mut().filter(|(known, _)| *known == state).for_each(|(_, count)| *count += 1.0);
        }
        let tasks = TaskState::ALL.map(|state| (state, *tasks.of(state) as f64));
        [
            Family::labelled(Kind::Gauge, "rwasm_tasks", "Tasks of jobs that this node owns and remembers, by state.", "state", tasks),
            Family::labelled(Kind::Gauge, "rwasm_jobs", "Jobs that this node owns and remembers, by state.", "state", jobs),
        ]
    }

    /// What waits and runs here, whoever owns it.
    fn slots(&self) -> [Family; 3] {
        let dispatcher = self.dispatcher.lock();
        let (used, capacity) = (dispatcher.used(), dispatcher.capacity().clone());
        let (queued, running) = (dispatcher.queued() as f64, dispatcher.running() as f64);
        drop(dispatcher);
        let sample = |resource: &str, state: &str, value: f64| Sample::new(value).with("resource", resource).with("state", state);
        let of = |state: &str, set: &rwasm_types::ResourceSet| {
            [sample("cpu", state, set.cpu.as_f64()), sample("gpu", state, set.gpu.as_f64()), sample("memory", state, set.memory as f64)]
        };
        let samples = of("used", &used).into_iter().chain(of("capacity", &capacity)).collect();
        [
            Family::gauge("rwasm_tasks_queued", "Tasks that wait on this node for a slot.", queued),
            Family::gauge("rwasm_slots_busy", "Slots of this node that tasks hold, its own and those of other owners.", running),
            Family {
                name: "rwasm_resources",
                help: "What tasks of this node hold and what it gives: cores, graphics processors, bytes of memory.",
                kind: Kind::Gauge,
                samples,
            },
        ]
    }

    fn compiling(&self) -> [Family; 2] {
        let counts = self.engine.compile_counts();
        let by = [("found", counts.found as f64), ("compiled", counts.compiled as f64), ("failed", counts.failed as f64)];
        [
            Family::labelled(Kind::Counter, "rwasm_compiles_total", "Artifacts that were made ready, by how.", "result", by),
            Family::counter("rwasm_compile_seconds_total", "Time that compile workers took.", counts.time.as_secs_f64()),
        ]
    }
}
