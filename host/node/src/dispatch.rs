//! Which waiting task gets a slot of this node next: pure bookkeeping, without IO, clock or threads.
//!
//! Tasks wait in *classes*: those of one call of one job, or those that came in on one lease. All of a class need the same resources.
//! Classes with the highest priority are served first, those of equal priority in turn, so that a job of a million tasks does not hold up
//! a job of one. The ledger here is what admits tasks to run on the node; whatever the head believes, no resource is given out twice.
//!
//! Very short tasks are handed out several at a time, as one *run* that holds one slot, because handing out costs as much as running
//! them. How many follows from how long the class's tasks took so far, so that a run is about [`RUN_TARGET`] long.

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
        self.runs.values().for_each(|run| used.give(&run.shape));
        used
    }

    /// What runs of this node's own jobs hold.
    pub(crate) fn used_locally(&self) -> ResourceSet {
        let mut used = ResourceSet::default();
        self.runs.values().filter(|run| !run.foreign).for_each(|run| used.give(&run.shape));
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
        let class = Class { shape, priority, foreign, call: None, paused: false, elsewhere: false, stays: false, queue: VecDeque::new(), mean_ns: 0 };
        self.classes.insert(id, class);
        self.turns.entry(std::cmp::Reverse(priority)).or_default().push_back(id);
        id
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
        self.free.give(&run.shape);
        *self.free_places.of(run.profile) += 1;
        self.observe(run.class, tasks, took);
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
            self.runs.insert(run, Run { class: id, profile, shape: class.shape.clone(), foreign: class.foreign });
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rwasm_types::Quantity;

    use super::*;

    type Sut = Dispatcher<u32, ()>;

    const PLACES: Places = Places { fast: 1_000, asynchronous: 1_000 };

    fn ready_class(sut: &mut Sut, cpus: &str, priority: i8) -> ClassId {
        let shape = ResourceSet { cpu: cpus.parse().unwrap(), ..ResourceSet::default() };
        let class = sut.add_class(shape, Priority::new(priority).unwrap(), false);
        sut.set_call(class, Arc::new(()), Profile::Fast);
        class
    }

    fn admitted(sut: &mut Sut) -> Vec<(RunId, Vec<u32>)> {
        let mut out = Vec::new();
        sut.admit(&mut out);
        out.into_iter().map(|admission| (admission.run, admission.tasks)).collect()
    }

    #[test]
    fn classes_take_turns_and_priority_goes_first() {
        let mut sut = Sut::new(ResourceSet::cpus(4), PLACES);
        let a = ready_class(&mut sut, "1", 0);
        let b = ready_class(&mut sut, "1", 0);
        let urgent = ready_class(&mut sut, "1", 5);
        sut.enqueue(a, [1, 2, 3, 4]).unwrap();
        sut.enqueue(b, [11, 12]).unwrap();
        sut.enqueue(urgent, [99]).unwrap();
        let order: Vec<u32> = admitted(&mut sut).into_iter().flat_map(|(_, tasks)| tasks).collect();
        assert_eq!(order, [99, 1, 11, 2]);
        assert!(sut.free().cpu.is_zero() && sut.queued() == 3);
    }

    #[test]
    fn a_large_task_is_not_starved_by_small_ones_of_lower_priority() {
        let mut sut = Sut::new(ResourceSet::cpus(2), PLACES);
        let large = ready_class(&mut sut, "2", 1);
        let small = ready_class(&mut sut, "1", 0);
        sut.enqueue(small, [1, 2, 3]).unwrap();
        let runs = admitted(&mut sut);
        assert_eq!(runs.len(), 2);
        sut.enqueue(large, [50]).unwrap();
        sut.finish(runs[0].0, 1, Duration::from_secs(1));
        assert!(admitted(&mut sut).is_empty(), "the freed cpu is kept for the large task");
        sut.finish(runs[1].0, 1, Duration::from_secs(1));
        assert_eq!(admitted(&mut sut)[0].1, [50]);
    }

    #[test]
    fn short_tasks_run_together_but_leave_no_slot_empty() {
        let mut sut = Sut::new(ResourceSet::cpus(2), PLACES);
        let class = ready_class(&mut sut, "1", 0);
        sut.enqueue(class, [0]).unwrap();
        let run = admitted(&mut sut).remove(0).0;
        sut.finish(run, 1, Duration::from_micros(10));
        sut.enqueue(class, 0..1000).unwrap();
        let lengths: Vec<usize> = admitted(&mut sut).into_iter().map(|(_, tasks)| tasks.len()).collect();
        assert_eq!(lengths, [100, 100]);
        assert_eq!(run_length(10_000, 6, 2), 3);
        assert_eq!(run_length(1, 1_000_000, 2), RUN_TASKS_MAX);
        assert_eq!(run_length(5_000_000_000, 10, 2), 1);
    }

    #[test]
    fn nothing_starts_before_its_artifact_or_while_paused() {
        let mut sut = Sut::new(ResourceSet::cpus(1), PLACES);
        let class = sut.add_class(ResourceSet::cpus(1), Priority::default(), true);
        sut.enqueue(class, [1]).unwrap();
        assert!(admitted(&mut sut).is_empty());
        sut.set_paused(class, true);
        sut.set_call(class, Arc::new(()), Profile::Fast);
        assert!(admitted(&mut sut).is_empty() && sut.take(class, 1).is_empty());
        sut.set_paused(class, false);
        assert_eq!(admitted(&mut sut).len(), 1);
    }

    #[test]
    fn a_draining_node_starts_nothing_and_gives_up_nothing() {
        let mut sut = Sut::new(ResourceSet::cpus(1), PLACES);
        let class = ready_class(&mut sut, "1", 0);
        sut.enqueue(class, [1, 2, 3]).unwrap();
        let run = admitted(&mut sut).remove(0).0;
        sut.set_draining(true);
        assert_eq!((sut.runs(), sut.slots(&ResourceSet::cpus(1))), (vec![(run, class)], 0));
        sut.finish(run, 1, Duration::from_secs(1));
        assert!(admitted(&mut sut).is_empty());
        assert_eq!(sut.take(class, 1), [3], "others may have what waits");
        sut.set_draining(false);
        assert_eq!(admitted(&mut sut)[0].1, [2]);
    }

    #[test]
    fn what_may_not_run_here_waits_for_other_nodes_and_holds_up_nobody() {
        let mut sut = Sut::new(ResourceSet::cpus(1), PLACES);
        let (away, here) = (ready_class(&mut sut, "1", 5), ready_class(&mut sut, "1", 0));
        sut.send_away(away);
        sut.enqueue(away, [1, 2]).unwrap();
        sut.enqueue(here, [11]).unwrap();
        assert_eq!(admitted(&mut sut)[0].1, [11]);
        assert_eq!((sut.may_run_here(away), sut.may_run_here(here), sut.take(away, 2)), (false, true, vec![1, 2]));
    }

    #[test]
    fn tasks_wait_for_a_place_in_the_engine() {
        let mut sut = Sut::new(ResourceSet::cpus(4), Places { fast: 2, asynchronous: 1 });
        let (many, other) = (ready_class(&mut sut, "0.1", 0), ready_class(&mut sut, "0.1", 0));
        sut.set_call(other, Arc::new(()), Profile::Async);
        sut.enqueue(many, [1, 2, 3]).unwrap();
        sut.enqueue(other, [11, 12]).unwrap();
        let runs = admitted(&mut sut);
        assert_eq!(runs.iter().map(|(_, tasks)| tasks[0]).collect::<Vec<_>>(), [1, 11, 2]);
        sut.finish(runs[0].0, 1, Duration::from_secs(1));
        assert_eq!(admitted(&mut sut)[0].1, [3]);
        sut.finish(runs[1].0, 1, Duration::from_secs(1));
        assert_eq!(admitted(&mut sut)[0].1, [12]);
    }

    #[test]
    fn tasks_for_elsewhere_come_from_the_end() {
        let mut sut = Sut::new(ResourceSet::cpus(1), PLACES);
        let class = ready_class(&mut sut, "1", 0);
        sut.enqueue(class, 0..10).unwrap();
        assert_eq!(sut.take(class, 3), [7, 8, 9]);
        sut.put_back(class, vec![8, 9]).unwrap();
        assert_eq!(sut.take_if(class, |task| *task < 2), [0, 1]);
        assert_eq!(sut.remove_class(class), [8, 9, 2, 3, 4, 5, 6]);
        assert_eq!((sut.queued(), sut.enqueue(class, [1])), (0, Err(vec![1])));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enqueue(usize, u32),
        Finish(usize),
        Take(usize, usize),
        Pause(usize, bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0usize..3, 1u32..20).prop_map(|(class, count)| Step::Enqueue(class, count)),
            (0usize..8).prop_map(Step::Finish),
            (0usize..3, 0usize..4).prop_map(|(class, count)| Step::Take(class, count)),
            (0usize..3, any::<bool>()).prop_map(|(class, paused)| Step::Pause(class, paused)),
        ];
        proptest::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn no_slot_is_oversold_and_no_task_lost_or_doubled(steps in steps()) {
            let mut sut = Sut::new(ResourceSet::cpus(3), PLACES);
            let classes = [ready_class(&mut sut, "1", 0), ready_class(&mut sut, "0.5", 0), ready_class(&mut sut, "2", 1)];
            let weight = [10_000, 5_000, 20_000];
            let (mut next, mut held, mut seen) = (0u32, Vec::new(), std::collections::BTreeSet::new());
            for step in steps {
                match step {
                    Step::Enqueue(class, count) => {
                        // The class is kept in the task's lowest digit.
                        sut.enqueue(classes[class], (next..next + count).map(|number| number * 10 + class as u32)).unwrap();
                        next += count;
                    }
                    Step::Finish(index) if index < held.len() => {
                        let (run, tasks): (RunId, Vec<u32>) = held.remove(index);
                        sut.finish(run, tasks.len(), Duration::from_micros(20));
                    }
                    Step::Finish(_) => {}
                    Step::Take(class, count) => {
                        for task in sut.take(classes[class], count) {
                            prop_assert!(seen.insert(task));
                        }
                    }
                    Step::Pause(class, paused) => sut.set_paused(classes[class], paused),
                }
                for (run, tasks) in admitted(&mut sut) {
                    for task in &tasks {
                        prop_assert!(seen.insert(*task));
                    }
                    held.push((run, tasks));
                }
                let used: u64 = held.iter().map(|(_, tasks)| weight[(tasks[0] % 10) as usize]).sum();
                prop_assert!(used <= 30_000);
                prop_assert_eq!(sut.free().cpu, Quantity::from_parts(30_000 - used).unwrap());
                prop_assert_eq!(seen.len() + sut.queued(), next as usize);
                prop_assert_eq!(sut.running(), held.len());
            }
        }
    }
}
