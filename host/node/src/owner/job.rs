//! One job at its owner: calls, tasks, results on their way to the driver, output on its way to the log.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rwasm_history::work::{Batch, CallOf, Opened};
use rwasm_runtime::{fault, now_ms};
use rwasm_types::{
    ActorId, ArtifactDigest, Attempt, Code, Error, JobId, JobState, NodeId, Result, TaskState, Tenant,
    api::{JobRecord, TaskCounts, TaskRecord, UnixMs},
};
use rwasm_wire::convert;
use tokio::sync::{Notify, mpsc::UnboundedSender};

use super::{
    child::Waiting,
    ledger::Ledger,
    outbox::{Outbox, Pressure},
    received::Received,
    tasks::{TaskEntry, TaskTable},
};
use crate::{
    actors::{Actors, Event},
    executor::{Ended, HeldObjects, Item},
    logs::JobLog,
    objects::Objects,
    tally::JobCounters,
};

pub(crate) use super::{call::JobCall, taker::JobTaker};

/// A job.
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) tenant: Tenant,
    pub(crate) name: String,
    pub(crate) detached: bool,
    /// The driver's key: the same again is the same job.
    pub(crate) key: Bytes,
    /// Of a job for what tasks start: the driver's job that it belongs to, and what its arguments take.
    pub(super) child_of: Option<(JobId, Mutex<Waiting>)>,
    /// This one, for those who are told of it.
    me: Weak<Self>,
    pub(super) submitted_ms: UnixMs,
    pub(super) state: Mutex<State>,
    pub(super) calls: RwLock<Vec<Arc<JobCall>>>,
    pub(super) counters: JobCounters,
    pub(crate) outbox: Outbox,
    pub(crate) log: Arc<JobLog>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) actors: Arc<Actors>,
    /// Told when it is over.
    over: UnboundedSender<JobId>,
    /// Whether its past is written.
    archived: AtomicBool,
    /// Whether its driver has everything, or nobody will ask.
    released: AtomicBool,
}

pub(super) struct State {
    pub(super) tasks: TaskTable,
    /// Tasks that make actors and have not ended.
    actors: BTreeSet<u64>,
    /// The driver submits no more.
    pub(super) finished: bool,
    /// Somebody stopped it.
    stopped: bool,
    /// Why it ended before its tasks did.
    error: Option<Error>,
    /// Why its call was refused, while it has none: then that is why it ended.
    refused: Option<Error>,
    pub(super) ended_ms: Option<UnixMs>,
}

/// What of its node a job uses.
pub(crate) struct JobParts<'a> {
    pub(crate) ledger: &'a Arc<Ledger>,
    pub(crate) objects: &'a Arc<Objects>,
    pub(crate) actors: &'a Arc<Actors>,
    pub(crate) counters: JobCounters,
    pub(crate) over: &'a UnboundedSender<JobId>,
}

/// What of a job was written down and is still to be done.
#[derive(Default)]
pub(crate) struct Unfinished {
    pub(crate) tasks: TaskTable,
    pub(crate) finished: bool,
    pub(crate) stopped: bool,
    pub(crate) error: Option<Error>,
}

impl Job {
    /// Opens a job, once that is written down.
    ///
    /// # Errors
    ///
    /// If it cannot be written down.
    pub(crate) fn open(owner: NodeId, opened: Opened, log: Arc<JobLog>, parts: JobParts<'_>) -> Result<Arc<Self>> {
        parts.ledger.opened(&opened)?;
        let unfinished = Unfinished { tasks: TaskTable::new(opened.at_ms), ..Unfinished::default() };
        let job = Self::new(owner, opened, unfinished, (Outbox::default(), None), log, parts);
        job.ledger.job_began(&job);
        Ok(job)
    }

    /// Opens a job for what tasks of another start. Nothing of it is written down before it is past: what started its tasks starts them again.
    pub(crate) fn child(owner: NodeId, opened: Opened, root: JobId, log: Arc<JobLog>, parts: JobParts<'_>) -> Arc<Self> {
        let unfinished = Unfinished { tasks: TaskTable::new(opened.at_ms), ..Unfinished::default() };
        let job = Self::new(owner, opened, unfinished, (Outbox::restored(true), Some(root)), log, parts);
        job.ledger.job_began(&job);
        job
    }

    /// A job that an earlier life of this node left.
    pub(crate) fn restored(owner: NodeId, opened: Opened, unfinished: Unfinished, log: Arc<JobLog>, parts: JobParts<'_>) -> Arc<Self> {
        let outbox = Outbox::restored(opened.detached);
        let job = Self::new(owner, opened, unfinished, (outbox, None), log, parts);
        job.ledger.job_began(&job);
        job
    }

    fn new(
        owner: NodeId,
        opened: Opened,
        unfinished: Unfinished,
        (outbox, root): (Outbox, Option<JobId>),
        log: Arc<JobLog>,
        parts: JobParts<'_>,
    ) -> Arc<Self> {
        let Opened { session, tenant, name, detached, key, at_ms } = opened;
        let Unfinished { tasks, finished, stopped, error } = unfinished;
        Arc::new_cyclic(|me| Self {
            id: JobId { owner, session },
            tenant,
            name,
            detached,
            key: key.into(),
            child_of: root.map(|root| (root, Mutex::default())),
            me: Weak::clone(me),
            submitted_ms: at_ms,
            state: Mutex::new(State { tasks, actors: BTreeSet::new(), finished, stopped, error, refused: None, ended_ms: None }),
            calls: RwLock::default(),
            outbox,
            counters: parts.counters,
            log,
            ledger: Arc::clone(parts.ledger),
            objects: Arc::clone(parts.objects),
            actors: Arc::clone(parts.actors),
            over: parts.over.clone(),
            archived: AtomicBool::new(false),
            // A detached job's driver does not come back for results.
            released: AtomicBool::new(detached),
        })
    }

    /// The job that a driver opened, which may be this one.
    pub(crate) fn root(&self) -> JobId {
        self.child_of.as_ref().map_or(self.id, |(root, _)| *root)
    }

    /// Writes down what happens in any case.
    fn note(&self, fill: impl FnOnce(&mut Batch) -> Result<()>) {
        if self.child_of.is_none() {
            self.ledger.note(fill);
        }
    }

    pub(crate) fn set_archived(&self) {
        self.archived.store(true, Release);
    }

    pub(crate) fn is_archived(&self) -> bool {
        self.archived.load(Acquire)
    }

    pub(crate) fn set_released(&self) {
        self.released.store(true, Release);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Acquire)
    }

    /// The driver has everything, or will not ask for it.
    pub(crate) fn release(&self) {
        if let Some(me) = self.me.upgrade() {
            self.ledger.job_released(&me);
        }
    }

    pub(crate) fn call(&self, number: u16) -> Option<Arc<JobCall>> {
        self.calls.read().get(usize::from(number)).map(Arc::clone)
    }

    pub(crate) fn calls(&self) -> Vec<Arc<JobCall>> {
        self.calls.read().clone()
    }

    /// Adds a call; its number must be the next. It is written down, unless it was before.
    pub(crate) fn add_call(&self, call: JobCall, write: Option<&CallOf>) -> Result<Arc<JobCall>> {
        let mut calls = self.calls.write();
        if usize::from(call.number) != calls.len() {
            return Err(convert::malformed("a call has not the next number"));
        }
        if let Some(said) = write.filter(|_| self.child_of.is_none()) {
            self.ledger.append(|batch| batch.defined(self.id.session, call.number, said))?;
        }
        let call = Arc::new(call);
        calls.push(Arc::clone(&call));
        self.state.lock().refused = None;
        Ok(call)
    }

    /// A call was refused. A job that has no other and ends has failed for that, whatever its driver does next.
    pub(crate) fn refused(&self, error: &Error) {
        if self.calls.read().is_empty() {
            self.state.lock().refused = Some(error.clone());
        }
    }

    /// Adds tasks of a call; the first must have the next number. Gives back what is to be queued.
    pub(crate) fn submit(&self, call: &JobCall, first_sequence: u64, args: Vec<Bytes>) -> Result<Vec<Item>> {
        let now = now_ms();
        let mut state = self.state.lock();
        if first_sequence != state.tasks.len() {
            return Err(convert::malformed("a task has not the next number"));
        }
        if state.finished {
            return Err(convert::malformed("tasks were submitted after the job was finished"));
        }
        self.ledger.append(|batch| batch.submitted(self.id.session, call.number, first_sequence, now, &args))?;
        let first = call.first_state();
        let mut items = Vec::with_capacity(args.len());
        for (sequence, args) in (first_sequence..).zip(args) {
            state.tasks.push(call.number, first, now);
            items.push(Item::new(self.id.task(sequence), Attempt::FIRST, args));
        }
        if call.makes_actor() {
            items.iter().for_each(|item| self.makes_actor(&mut state, item.task.sequence, call));
        }
        self.counters.submitted(items.len());
        Ok(items)
    }

    fn makes_actor(&self, state: &mut State, sequence: u64, call: &JobCall) {
        state.actors.insert(sequence);
        self.actors.own(ActorId(self.id.task(sequence)), &call.options);
    }

    /// A task that an earlier life submitted makes an actor, and has not ended.
    pub(crate) fn makes_actor_again(&self, sequence: u64, call: &JobCall) {
        self.makes_actor(&mut self.state.lock(), sequence, call);
    }

    /// The numbers of tasks that make actors and have not ended.
    pub(crate) fn actors(&self) -> Vec<u64> {
        self.state.lock().actors.iter().copied().collect()
    }

    /// The artifact of a call is compiled: its tasks wait for slots from now on.
    pub(crate) fn compiled(&self, call: &JobCall) {
        let mut state = self.state.lock();
        *call.ready.write() = Some(Ok(()));
        let waiting: Vec<u64> = state
            .tasks
            .newest()
            .filter(|(_, entry)| entry.call == call.number && entry.state == TaskState::Compiling)
            .map(|(sequence, _)| sequence)
            .collect();
        waiting.into_iter().for_each(|sequence| state.tasks.queued(sequence));
    }

    /// Marks attempts as sent to a node; from now on they count as begun.
    pub(crate) fn running(&self, items: &[Item], node: NodeId) {
        let now = now_ms();
        let attempts = items.iter().map(|item| (item.task.sequence, item.attempt));
        self.note(|batch| batch.started(self.id.session, node, now, attempts));
        let mut state = self.state.lock();
        for item in items {
            state.tasks.running(item.task.sequence, item.attempt, node, now);
        }
    }

    /// Marks an attempt as lost. The next attempt, if the task may have one; else it has failed with `error`.
    pub(crate) fn lost(&self, item: Item, error: &Error) -> Option<Item> {
        let again = self.task_call(item.task.sequence).filter(|call| item.attempt.0 <= call.retries_max && !self.is_stopped());
        match again {
            Some(_) => {
                self.counters.tried_again();
                let attempt = item.attempt.next();
                let mut state = self.state.lock();
                if state.actors.contains(&item.task.sequence) {
                    self.actors.tell(Event::Lost(ActorId(item.task), item.attempt, error.clone()));
                }
                state.tasks.requeued(item.task.sequence, attempt).then_some(Item { attempt, ..item })
            }
            None => {
                let tried = format!("{} (attempt {})", error.message(), item.attempt.0);
                let option = if self.makes_actor_of(item.task.sequence) { "--max-restarts" } else { "--max-retries" };
                let mut failed = Error::new(error.code(), tried).hint(format!("raise {option} if the work may be repeated"));
                for (key, value) in error.fields() {
                    failed = failed.with(key, value);
                }
                self.end(vec![Ended::unrun(&item, failed)]);
                None
            }
        }
    }

    fn makes_actor_of(&self, sequence: u64) -> bool {
        self.state.lock().actors.contains(&sequence)
    }

    /// Marks attempts as never begun: they wait again as they were.
    pub(crate) fn requeued(&self, items: &[Item]) {
        let attempts = items.iter().map(|item| (item.task.sequence, item.attempt));
        self.note(|batch| batch.returned(self.id.session, attempts));
        let mut state = self.state.lock();
        for item in items {
            state.tasks.requeued(item.task.sequence, item.attempt);
        }
    }

    /// Whether a call has tasks.
    pub(crate) fn has_tasks_of(&self, number: u16) -> bool {
        self.state.lock().tasks.newest().any(|(_, entry)| entry.call == number)
    }

    /// The call that a task is of.
    pub(crate) fn task_call(&self, sequence: u64) -> Option<Arc<JobCall>> {
        let call = self.state.lock().tasks.get(sequence)?.call;
        self.call(call)
    }

    /// Takes ends of attempts; the newest attempt's first end is the task's.
    pub(crate) fn end(&self, mut ended: Vec<Ended>) -> Pressure {
        let now = now_ms();
        // Let go of at the end, without the lock: by then the job holds what counts.
        let _held: HeldObjects = ended.iter_mut().flat_map(|end| std::mem::take(&mut end.held)).collect();
        let mut results = Vec::new();
        let (over, pressure, holding) = {
            let mut state = self.state.lock();
            let mut counting = |end: &Ended| {
                let error = end.result.as_ref().err().or(end.failed.as_ref());
                let counts = state.tasks.ended(end.task.sequence, end.attempt, error, end.cpu, now);
                if counts {
                    self.counters.ended(error.map(Error::code), end.wall, end.cpu, now);
                }
                counts
            };
            let counted: Vec<Ended> = ended.into_iter().filter(|end| counting(end)).collect();
            for end in &counted {
                if state.actors.remove(&end.task.sequence) {
                    let left = || Error::new(Code::ACTOR_DIED, "it ended as it was told to");
                    let error = end.result.as_ref().err().or(end.failed.as_ref()).cloned().unwrap_or_else(left);
                    self.actors.tell(Event::Ended(ActorId(end.task), error));
                }
            }
            if !counted.is_empty() {
                // Results that nobody will ask for are not kept.
                let results = !self.outbox.is_closed();
                let outcomes: Vec<_> = counted.iter().map(|end| end.outcome(results)).collect();
                self.note(|batch| batch.ended(self.id.session, now, &outcomes));
                fault::point("before-delivery");
            }
            if !self.outbox.is_closed() {
                counted.iter().for_each(|end| self.hold_named(end));
            }
            let holding = self.objects.tasks_ended(counted.iter().map(|end| end.task));
            let pressure = if self.child_of.is_some() {
                results = counted;
                Pressure::Unchanged
            } else {
                // Under the lock, and before the job can have ended: whoever sees its end takes what is there for the last of its results.
                self.outbox.put(counted.into_iter().map(|end| end.into_message().0).collect())
            };
            (self.settled(&mut state, now), pressure, holding)
        };
        self.publish(&results);
        self.objects.let_go(&holding);
        if over {
            self.announce();
        }
        pressure
    }

    /// The driver submits no more.
    pub(crate) fn finish(&self) {
        if self.state.lock().refused.is_some() {
            return self.stop(None);
        }
        let over = {
            let mut state = self.state.lock();
            if !state.finished {
                self.note(|batch| batch.finished(self.id.session));
            }
            state.finished = true;
            self.settled(&mut state, now_ms())
        };
        if over {
            self.announce();
        }
    }

    /// Ends the job if nothing is left to do; says whether it ended just now. Of a job that is not detached, actors are nothing to do.
    fn settled(&self, state: &mut State, now: UnixMs) -> bool {
        if state.settle(now) {
            return true;
        }
        let left = state.tasks.len() - state.tasks.counts().finished();
        if state.finished && !self.detached && left > 0 && left == state.actors.len() as u64 {
            self.actors.tell(Event::OnlyActorsLeft(self.id));
        }
        false
    }

    /// All that was written down of it is done again: it may have ended.
    pub(crate) fn settle(&self) {
        let over = self.settled(&mut self.state.lock(), now_ms());
        if over {
            self.announce();
        }
    }

    /// Nothing more is to run, with the reason where it is not the driver's wish. The caller cancels what waits and runs.
    pub(crate) fn stop(&self, error: Option<Error>) {
        let over = {
            let mut state = self.state.lock();
            let error = state.refused.take().or(error);
            if state.ended_ms.is_none() {
                self.note(|batch| batch.stopped(self.id.session, error.as_ref()));
            }
            state.stopped = true;
            state.finished = true;
            if state.error.is_none() {
                state.error = error;
            }
            state.settle(now_ms())
        };
        if over {
            self.announce();
        }
    }

    fn announce(&self) {
        self.log.close();
        self.objects.job_ended(self.id);
        self.outbox.tell();
        // Nobody hears it when the node ends.
        let _ = self.over.send(self.id);
        if let Some(me) = self.me.upgrade() {
            self.ledger.job_ended(&me);
        }
    }

    /// The driver is back in a new session and says what it has got. Gives the tasks whose results it is still owed, to be read and put into
    /// the outbox.
    pub(crate) fn resume(&self, received: &Received, session: &Arc<Notify>) -> (Vec<u64>, Pressure) {
        let state = self.state.lock();
        let owed = state.tasks.newest().filter(|(sequence, entry)| entry.state.is_final() && !received.contains(*sequence));
        let owed = owed.map(|(sequence, _)| sequence).collect();
        // Under the lock, so that what ends from now on is put in behind.
        (owed, self.outbox.resume(session))
    }

    /// What its driver need not send again: tasks, calls, and that it has finished.
    pub(crate) fn arrived(&self) -> (u64, u32, bool) {
        let calls = self.calls.read().len();
        let state = self.state.lock();
        (state.tasks.len(), u32::try_from(calls).unwrap_or(u32::MAX), state.finished)
    }

    /// Tasks that have not ended, in their order: number, call, attempt, and the node on which that may have begun.
    pub(crate) fn unended(&self) -> Vec<(u64, u16, Attempt, Option<NodeId>)> {
        let state = self.state.lock();
        let unended = state.tasks.newest().filter(|(_, entry)| !entry.state.is_final());
        let mut tasks: Vec<_> = unended.map(|(sequence, entry)| (sequence, entry.call, entry.attempt, entry.under_way())).collect();
        tasks.reverse();
        tasks
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().ended_ms.is_some()
    }

    pub(crate) fn counts(&self) -> TaskCounts {
        *self.state.lock().tasks.counts()
    }

    pub(crate) fn record(&self) -> JobRecord {
        let mut artifacts: Vec<_> = self.calls.read().iter().map(|call| call.artifact).collect();
        artifacts.dedup();
        let state = self.state.lock();
        JobRecord {
            id: self.id,
            name: self.name.clone(),
            tenant: self.tenant.clone(),
            state: state.job_state(),
            tasks: *state.tasks.counts(),
            detached: self.detached,
            parent: self.child_of.as_ref().map(|(root, _)| *root),
            artifacts,
            submitted_ms: self.submitted_ms,
            ended_ms: state.ended_ms,
            error: state.error.as_ref().or_else(|| state.tasks.first_error()).cloned(),
        }
    }

    /// A task's record.
    pub(crate) fn task(&self, sequence: u64) -> Option<TaskRecord> {
        let calls = self.calls.read();
        let state = self.state.lock();
        let entry = state.tasks.get(sequence)?;
        Some(self.task_record(&calls, &state.tasks, sequence, entry))
    }

    pub(super) fn task_record(&self, calls: &[Arc<JobCall>], tasks: &TaskTable, sequence: u64, entry: &TaskEntry) -> TaskRecord {
        let call = calls.get(usize::from(entry.call));
        let started = matches!(entry.state, TaskState::Running) || entry.node.is_some();
        TaskRecord {
            id: self.id.task(sequence),
            job: self.id,
            tenant: self.tenant.clone(),
            export: call.map(|call| call.export.name.to_string()).unwrap_or_default(),
            artifact: call.map_or(ArtifactDigest([0; 32]), |call| call.artifact),
            state: entry.state,
            attempt: entry.attempt,
            node: entry.node,
            job_submitted_ms: self.submitted_ms,
            queued_ms: tasks.at(entry.queued_ms),
            started_ms: started.then(|| tasks.at(entry.started_ms)),
            ended_ms: entry.state.is_final().then(|| tasks.at(entry.ended_ms)),
            cpu_us: entry.cpu_us.into(),
            error: tasks.error(sequence).cloned().or_else(|| entry.error.map(|code| Error::new(code, "the message was not kept"))),
        }
    }
}

impl State {
    /// Ends the job if nothing is left to do; says whether it ended just now.
    fn settle(&mut self, now: UnixMs) -> bool {
        let over = self.ended_ms.is_none() && self.finished && self.tasks.counts().finished() == self.tasks.len();
        if over {
            self.ended_ms = Some(now);
        }
        over
    }

    pub(super) fn job_state(&self) -> JobState {
        let counts = self.tasks.counts();
        match () {
            () if self.ended_ms.is_none() => JobState::Running,
            () if counts.failed > 0 || self.error.is_some() => JobState::Failed,
            () if self.stopped || counts.cancelled > 0 => JobState::Cancelled,
            () => JobState::Succeeded,
        }
    }
}
