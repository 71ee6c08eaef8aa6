//! A node's side: the ledger that admits tasks, whatever the head believes.

use std::collections::{BTreeMap, VecDeque};

use rwasm_types::{LeaseId, Name, ResourceSet};

/// A task that came in, or that the node's own owner starts here.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) owner: usize,
    /// `None` for the node's own.
    pub(crate) lease: Option<LeaseId>,
    pub(crate) task: usize,
    pub(crate) attempt: u32,
    pub(crate) shape: ResourceSet,
    pub(crate) takes_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) capacity: ResourceSet,
    pub(crate) labels: BTreeMap<Name, String>,
    pub(crate) alive: bool,
    pub(crate) paused_until_ms: u64,
    /// Its process ended, and the next one has not begun.
    pub(crate) down: bool,
    /// Which process it is.
    pub(crate) life: u64,
    pub(crate) free: ResourceSet,
    pub(crate) running: BTreeMap<u64, Arrived>,
    pub(crate) queue: VecDeque<Arrived>,
    last_run: u64,
}

impl Host {
    pub(crate) fn new(capacity: ResourceSet, labels: BTreeMap<Name, String>) -> Self {
        Self {
            free: capacity.clone(),
            capacity,
            labels,
            alive: true,
            paused_until_ms: 0,
            down: false,
            life: 1,
            running: BTreeMap::new(),
            queue: VecDeque::new(),
            last_run: 0,
        }
    }

    /// What its own owner's tasks hold.
    pub(crate) fn local(&self) -> ResourceSet {
        self.held(|run| run.lease.is_none())
    }

    /// What tasks of other owners hold.
    pub(crate) fn foreign(&self) -> ResourceSet {
        self.held(|run| run.lease.is_some())
    }

    fn held(&self, condition: impl Fn(&Arrived) -> bool) -> ResourceSet {
        let mut held = ResourceSet::default();
        self.running.values().filter(|run| condition(run)).for_each(|run| held.give(&run.shape));
        held
    }

    /// Starts a task if it fits; says under which number, and how long it takes.
    pub(crate) fn start(&mut self, task: Arrived) -> Result<(u64, u64), Arrived> {
        if !self.free.take(&task.shape) {
            return Err(task);
        }
        self.last_run += 1;
        let takes_ms = task.takes_ms;
        self.running.insert(self.last_run, task);
        Ok((self.last_run, takes_ms))
    }

    /// Starts what waits and fits.
    pub(crate) fn admit(&mut self) -> Vec<(u64, u64)> {
        let mut started = Vec::new();
        for task in std::mem::take(&mut self.queue) {
            match self.start(task) {
                Ok(run) => started.push(run),
                Err(task) => self.queue.push_back(task),
            }
        }
        started
    }

    pub(crate) fn finish(&mut self, run: u64) -> Option<Arrived> {
        let task = self.running.remove(&run)?;
        self.free.give(&task.shape);
        Some(task)
    }

    /// Ends what a condition names, waiting or running.
    pub(crate) fn drop_tasks(&mut self, condition: impl Fn(&Arrived) -> bool) {
        self.queue.retain(|task| !condition(task));
        let gone: Vec<u64> = self.running.iter().filter(|(_, task)| condition(task)).map(|(run, _)| *run).collect();
        gone.into_iter().for_each(|run| drop(self.finish(run)));
    }
}
