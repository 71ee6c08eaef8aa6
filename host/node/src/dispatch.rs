//! Which waiting task gets a slot of this node next: pure bookkeeping, without IO, clock or threads.
//!
//! Tasks wait in *classes*: those of one call of one job, or those that came in on one lease. All of a class need the same resources.
//! Classes with the highest priority are served first, those of equal priority in turn, so that a job of a million tasks does not hold up
//! a job of one. The ledger here is what admits tasks to run on the node; whatever the head believes, no resource is given out twice.
//!
//! Very short tasks are handed out several at a time, as one *run* that holds one slot, because handing out costs as much as running
//! them. How many follows from how long the class's tasks took so far, so that a run is about [`RUN_TARGET`] long.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rwasm_types::{Priority, ResourceSet};
use rwasm_values::Profile;

/// How long a run of several short tasks should take together.
pub(crate) const RUN_TARGET: Duration = Duration::from_millis(1);

/// The most tasks of one run.
const RUN_TASKS_MAX: usize = 256;

/// Tasks that need the same and are served together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassId(u64);

/// One or more tasks of a class that hold one slot, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RunId(pub(crate) u64);

/// A run that may start now.
#[derive(Debug)]
pub(crate) struct Admission<T, C> {
    pub(crate) run: RunId,
    pub(crate) call: Arc<C>,
    pub(crate) tasks: Vec<T>,
}

#[derive(Debug)]
struct Class<T, C> {
    shape: ResourceSet,
    priority: Priority,
    /// Whether the tasks came from another node.
    foreign: bool,
    /// What the executor needs, and which of the engine's pools its guests live in; absent while the artifact is compiled.
    call: Option<(Arc<C>, Profile)>,
    /// Whoever takes the results is behind; nothing more is started.
    paused: bool,
    /// The tasks may not run on this node; they wait for others.
    elsewhere: bool,
    /// Each task is a run by itself, for it stays: what it takes says nothing of the next.
    stays: bool,
    queue: VecDeque<T>,
    /// Mean duration of a task, in nanoseconds; 0 where none has ended.
    mean_ns: u64,
}

impl<T, C> Class<T, C> {
    fn is_ready(&self) -> bool {
        !self.queue.is_empty() && self.call.is_some() && !self.paused && !self.elsewhere
    }
}

/// How many guests of each profile the engine has room for; a run holds one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) fast: u32,
    pub(crate) asynchronous: u32,
}

impl Places {
    fn of(&mut self, profile: Profile) -> &mut u32 {
        match profile {
            Profile::Fast => &mut self.fast,
            Profile::Async => &mut self.asynchronous,
        }
    }
}

#[derive(Debug)]
struct Run {
    class: ClassId,
    profile: Profile,
    shape: ResourceSet,
    foreign: bool,
    /// Whether it has all of its shape.
    has: Has,
}

/// What of its shape a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    All,
    /// It waits for other tasks, and keeps its memory only.
    Memory,
    /// It goes on, but what it let go of meanwhile is not free yet.
    Owed,
}

impl Run {
    /// What a run that waits lets others have: all but its memory, which it still has things in.
    fn lendable(&self) -> ResourceSet {
        ResourceSet { memory: 0, ..self.shape.clone() }
    }

    fn held(&self) -> ResourceSet {
        if self.has == Has::All { self.shape.clone() } else { ResourceSet { memory: self.shape.memory, ..ResourceSet::default() } }
    }
}

/// The ledger and the queues of a node, over tasks `T` and what the executor needs to run a class, `C`.
#[derive(Debug)]
pub(crate) struct Dispatcher<T, C> {
    capacity: ResourceSet,
    free: ResourceSet,
    free_places: Places,
    classes: BTreeMap<ClassId, Class<T, C>>,
    /// Classes in the order in which they are served next, those of one priority.
    turns: BTreeMap<std::cmp::Reverse<Priority>, VecDeque<ClassId>>,
    runs: HashMap<RunId, Run>,
    /// Runs that are owed what they let others have, in order.
    owed: VecDeque<RunId>,
    /// How many runs wait for other tasks.
    waiting: usize,
    last_class: u64,
    last_run: u64,
    queued: usize,
    /// Nothing more is started.
    draining: bool,
}

impl<T, C> Dispatcher<T, C> {
    pub(crate) fn new(capacity: ResourceSet, places: Places) -> Self {
        Self {
            free: capacity.clone(),
            free_places: places,
            capacity,
            classes: BTreeMap::new(),
            turns: BTreeMap::new(),
            runs: HashMap::new(),
            owed: VecDeque::new(),
            waiting: 0,
            last_class: 0,
            last_run: 0,
            queued: 0,
            draining: false,
        }
    }

    /// All the node has.
    pub(crate) fn capacity(&self) -> &ResourceSet {
        &self.capacity
    }

    /// How many tasks of a shape this node can run at once; a shape that asks for nothing counts as one.
    pub(crate) fn slots(&self, shape: &ResourceSet) -> u64 {
        if self.draining { 0 } else { self.capacity.count_of(shape).unwrap_or(1) }
    }

    /// Starts nothing more, or starts tasks again.
    pub(crate) fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// What no run holds.
    pub(crate) fn free(&self) -> &ResourceSet {
        &self.free
    }

    /// What runs hold.
    pub(crate) fn used(&self) -> ResourceSet {
        let mut used = ResourceSet::default();
        self.runs.values().for_each(|run| used.give(&run.held()));
        used
    }

    /// What runs of this node's own jobs hold.
    pub(crate) fn used_locally(&self) -> ResourceSet {
        let mut used = ResourceSet::default();
        self.runs.values().filter(|run| !run.foreign).for_each(|run| used.give(&run.held()));
        used
    }

    /// Tasks that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Runs that hold slots.
    pub(crate) fn running(&self) -> usize {
        self.runs.len()
    }

    /// Makes a class; nothing of it starts before [`Dispatcher::set_call`].
    pub(crate) fn add_class(&mut self, shape: ResourceSet, priority: Priority, foreign: bool) -> ClassId {
        self.last_class += 1;
        let id = ClassId(self.last_class);
        let class = Class {
            shape,
            priority,
            foreign,
            call: None,
            paused: false,
            elsewhere: false,
            stays: false,
            queue: VecDeque::new(),
            mean_ns: 0,
        };
        self.classes.insert(id, class);
        self.turns.entry(std::cmp::Reverse(priority)).or_default().push_back(id);
        id
    }

    /// A class that no task ever waits in, for calls that are worked off elsewhere: it takes no turns.
    pub(crate) fn name_class(&mut self) -> ClassId {
        self.last_class += 1;
        ClassId(self.last_class)
    }

    /// Memory that each task of a class holds, in bytes; 0 if there is no such class any more.
    pub(crate) fn memory_of(&self, class: ClassId) -> u64 {
        self.classes.get(&class).map_or(0, |class| class.shape.memory)
    }

    /// The artifact is ready.
    pub(crate) fn set_call(&mut self, class: ClassId, call: Arc<C>, profile: Profile) {
        if let Some(class) = self.classes.get_mut(&class) {
            class.call = Some((call, profile));
        }
    }

    /// Nothing of a class may run on this node.
    pub(crate) fn send_away(&mut self, class: ClassId) {
        if let Some(class) = self.classes.get_mut(&class) {
            class.elsewhere = true;
        }
    }

    /// The tasks of a class make actors.
    pub(crate) fn set_stays(&mut self, class: ClassId) {
        if let Some(class) = self.classes.get_mut(&class) {
            class.stays = true;
        }
    }

    /// The class of a run.
    pub(crate) fn class_of(&self, run: RunId) -> Option<ClassId> {
        self.runs.get(&run).map(|run| run.class)
    }

    /// Whether tasks of a class may run on this node.
    pub(crate) fn may_run_here(&self, class: ClassId) -> bool {
        self.classes.get(&class).is_some_and(|class| !class.elsewhere)
    }

    /// Holds a class back, or lets it go on.
    pub(crate) fn set_paused(&mut self, class: ClassId, paused: bool) {
        if let Some(class) = self.classes.get_mut(&class) {
            class.paused = paused;
        }
    }

    /// Adds tasks to the end of a class's queue; gives them back if the class is gone.
    pub(crate) fn enqueue(&mut self, class: ClassId, tasks: impl IntoIterator<Item = T>) -> Result<(), Vec<T>> {
        let Some(class) = self.classes.get_mut(&class) else { return Err(tasks.into_iter().collect()) };
        let before = class.queue.len();
        class.queue.extend(tasks);
        self.queued += class.queue.len() - before;
        Ok(())
    }

    /// Puts tasks back to the front, in their order; gives them back if the class is gone.
    pub(crate) fn put_back(&mut self, class: ClassId, tasks: Vec<T>) -> Result<(), Vec<T>> {
        let Some(class) = self.classes.get_mut(&class) else { return Err(tasks) };
        self.queued += tasks.len();
        for task in tasks.into_iter().rev() {
            class.queue.push_front(task);
        }
        Ok(())
    }

    /// How many tasks of a class wait.
    pub(crate) fn queued_in(&self, class: ClassId) -> usize {
        self.classes.get(&class).map_or(0, |class| class.queue.len())
    }

    /// Mean duration of a class's tasks so far.
    pub(crate) fn mean(&self, class: ClassId) -> Option<Duration> {
        self.classes.get(&class).filter(|class| class.mean_ns > 0).map(|class| Duration::from_nanos(class.mean_ns))
    }

    /// Shapes and numbers of waiting tasks of this node's own jobs.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&ResourceSet, usize)> {
        self.classes.values().filter(|class| !class.queue.is_empty() && !class.foreign).map(|class| (&class.shape, class.queue.len()))
    }

    /// Takes up to `count` tasks off the end of a class's queue, to be run elsewhere; they come in the order in which they waited.
    pub(crate) fn take(&mut self, class: ClassId, count: usize) -> Vec<T> {
        let Some(class) = self.classes.get_mut(&class).filter(|class| !class.paused) else { return Vec::new() };
        let start = class.queue.len() - count.min(class.queue.len());
        let taken: Vec<T> = class.queue.drain(start..).collect();
        self.queued -= taken.len();
        taken
    }

    /// Takes the waiting tasks of a class that a condition names.
    pub(crate) fn take_if(&mut self, class: ClassId, mut condition: impl FnMut(&T) -> bool) -> Vec<T> {
        let Some(class) = self.classes.get_mut(&class) else { return Vec::new() };
        let (taken, kept): (Vec<T>, VecDeque<T>) = {
            let mut taken = Vec::new();
            let mut kept = VecDeque::with_capacity(class.queue.len());
            for task in class.queue.drain(..) {
                if condition(&task) { taken.push(task) } else { kept.push_back(task) }
            }
            (taken, kept)
        };
        class.queue = kept;
        self.queued -= taken.len();
        taken
    }

    /// Forgets a class and gives back what waited in it. Its runs go on and free their slots when they end.
    pub(crate) fn remove_class(&mut self, class: ClassId) -> Vec<T> {
        let Some(removed) = self.classes.remove(&class) else { return Vec::new() };
        if let Some(turns) = self.turns.get_mut(&std::cmp::Reverse(removed.priority)) {
            turns.retain(|id| *id != class);
        }
        self.turns.retain(|_, turns| !turns.is_empty());
        self.queued -= removed.queue.len();
        removed.queue.into()
    }

    /// Runs of a class that hold slots.
    pub(crate) fn runs_of(&self, class: ClassId) -> Vec<RunId> {
        self.runs.iter().filter(|(_, run)| run.class == class).map(|(id, _)| *id).collect()
    }

    /// All runs that hold slots, with their classes.
    pub(crate) fn runs(&self) -> Vec<(RunId, ClassId)> {
        self.runs.iter().map(|(id, run)| (*id, run.class)).collect()
    }

    /// A run ended: its slot is free, and its tasks took so long on average.
    pub(crate) fn finish(&mut self, run: RunId, tasks: usize, took: Duration) {
        let Some(run) = self.runs.remove(&run) else { return };
        self.free.give(&run.held());
        self.waiting -= usize::from(run.has == Has::Memory);
        *self.free_places.of(run.profile) += 1;
        self.pay();
        self.observe(run.class, tasks, took);
    }

    /// A run waits for other tasks: its slot is theirs meanwhile. What it was given and has not begun waits at the front of its class again;
    /// it is given back where that is gone.
    pub(crate) fn block(&mut self, run: RunId, unbegun: Vec<T>) -> Vec<T> {
        let Some(known) = self.runs.get_mut(&run) else { return unbegun };
        if known.has == Has::All {
            self.free.give(&known.lendable());
        }
        self.waiting += usize::from(known.has != Has::Memory);
        known.has = Has::Memory;
        let class = known.class;
        self.owed.retain(|owed| *owed != run);
        self.pay();
        self.put_back(class, unbegun).err().unwrap_or_default()
    }

    /// A run goes on. It does not wait for its slot again, for others may wait for it: it has its slot back as soon as that is free.
    pub(crate) fn resume(&mut self, run: RunId) {
        let Some(known) = self.runs.get_mut(&run).filter(|run| run.has == Has::Memory) else { return };
        known.has = Has::Owed;
        self.waiting -= 1;
        self.owed.push_back(run);
        self.pay();
    }

    /// Gives runs what they are owed, as far as it is free, before anything else starts.
    fn pay(&mut self) {
        while let Some(first) = self.owed.front() {
            if let Some(run) = self.runs.get_mut(first) {
                if !self.free.take(&run.lendable()) {
                    return;
                }
                run.has = Has::All;
            }
            self.owed.pop_front();
        }
    }

    /// The newest run, if all of them wait for other tasks, and there are such that would start here if there were room: what those that wait
    /// keep is what is missing. Tasks that only other nodes can run are not waited for in vain.
    pub(crate) fn stuck(&self) -> Option<RunId> {
        if self.waiting == 0 || self.waiting < self.runs.len() || self.draining {
            return None;
        }
        let lacks_room = |class: &Class<T, C>| class.is_ready() && self.capacity.contains(&class.shape);
        self.runs.keys().max_by_key(|run| run.0).copied().filter(|_| self.classes.values().any(lacks_room))
    }

    /// Tasks of a class took so long together, here or elsewhere.
    pub(crate) fn observe(&mut self, class: ClassId, tasks: usize, took: Duration) {
        let Some(class) = self.classes.get_mut(&class) else { return };
        if tasks > 0 && !class.stays {
            let mean = u64::try_from(took.as_nanos() / tasks as u128).unwrap_or(u64::MAX).max(1);
            // Up at once, down slowly: one long task must not sit before a hundred others in a run.
            class.mean_ns = if mean > class.mean_ns { mean } else { class.mean_ns - (class.mean_ns - mean) / 4 };
        }
    }

    /// Starts whatever fits now. Call it after every change; it is cheap when there is nothing to do.
    pub(crate) fn admit(&mut self, out: &mut Vec<Admission<T, C>>) {
        if self.queued == 0 || self.draining {
            return;
        }
        while let Some(id) = self.next_ready() {
            let Some(class) = self.classes.get_mut(&id) else { return };
            let Some((call, profile)) = class.call.as_ref().map(|(call, profile)| (Arc::clone(call), *profile)) else { return };
            let taken = self.free.take(&class.shape);
            *self.free_places.of(profile) -= 1;
            debug_assert!(taken, "a class was ready that did not fit");
            let count = run_length(class.mean_ns, class.queue.len(), self.capacity.count_of(&class.shape).unwrap_or(1));
            let tasks: Vec<T> = class.queue.drain(..count).collect();
            self.queued -= count;
            self.last_run += 1;
            let run = RunId(self.last_run);
            self.runs.insert(run, Run { class: id, profile, shape: class.shape.clone(), foreign: class.foreign, has: Has::All });
            out.push(Admission { run, call, tasks });
        }
    }

    /// The next class in turn that is ready and fits, moved to the end of its priority.
    ///
    /// A class that is ready and does not fit is passed over for smaller ones of its own priority, but holds back lower priorities:
    /// otherwise a stream of small tasks could keep a large one waiting for ever.
    fn next_ready(&mut self) -> Option<ClassId> {
        for turns in self.turns.values_mut() {
            let mut any_ready = false;
            for position in 0..turns.len() {
                let id = turns[position];
                let Some(class) = self.classes.get(&id).filter(|class| class.is_ready()) else { continue };
                any_ready = true;
                let has_place = class.call.as_ref().is_some_and(|(_, profile)| *self.free_places.of(*profile) > 0);
                if has_place && self.free.contains(&class.shape) {
                    turns.remove(position);
                    turns.push_back(id);
                    return Some(id);
                }
            }
            if any_ready {
                return None;
            }
        }
        None
    }
}

/// How many tasks a run takes: about as many as fill [`RUN_TARGET`], but never so many that other slots of the node stay empty.
fn run_length(mean_ns: u64, queued: usize, slots: u64) -> usize {
    if mean_ns == 0 {
        return 1;
    }
    let fitting = (RUN_TARGET.as_nanos() as u64 / mean_ns).clamp(1, RUN_TASKS_MAX as u64);
    let share = (queued as u64).div_ceil(slots.max(1)).max(1);
    fitting.min(share).min(queued as u64) as usize
}
