//! One job at its owner: calls, tasks, results on their way to the driver, output on its way to the log.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::{Mutex, RwLock};
use rwasm_engine::Output;
use rwasm_types::{
    ArtifactDigest, Attempt, Code, Error, Grants, JobId, JobState, NodeId, ResourceSet, Result, TaskId, TaskOptions, TaskState, Tenant,
    api::{JobRecord, TaskCounts, TaskRecord, UnixMs},
};
use rwasm_values::{
    Export, Role,
    codec::{ArgsView, Limits},
};
use rwasm_wire::{convert, msg};
use tokio::sync::Notify;

use super::tasks::{TaskEntry, TaskTable};
use crate::{
    batch,
    clock::now_ms,
    dispatch::ClassId,
    executor::{Ended, Item, Taker},
    logs::JobLog,
    tally::JobCounters,
};

/// Result bytes that wait for a driver before the job's tasks are held back, and below which they go on.
const OUTBOX_BYTES_HIGH: usize = 64 << 20;
const OUTBOX_BYTES_LOW: usize = 16 << 20;

/// What a driver said of a call, checked.
pub(crate) struct JobCall {
    pub(crate) number: u16,
    pub(crate) artifact: ArtifactDigest,
    pub(crate) export: Export,
    /// Which of the artifact's exports.
    pub(crate) export_index: usize,
    pub(crate) options: TaskOptions,
    pub(crate) grants: Arc<Grants>,
    /// How often a lost task is tried again.
    pub(crate) retries_max: u32,
    /// What one task holds while it runs.
    pub(crate) shape: ResourceSet,
    pub(crate) class: ClassId,
    /// Whether the artifact is compiled, or why it cannot be.
    pub(crate) ready: RwLock<Option<Result<()>>>,
}

impl JobCall {
    /// Checks that arguments fit the export, before anything is queued.
    pub(crate) fn check(&self, args: &bytes::Bytes) -> Result<()> {
        if self.export.role == Role::Command {
            return if args.is_empty() { Ok(()) } else { Err(Error::new(Code::WRONG_ARITY, "a command takes its arguments after `--`")) };
        }
        ArgsView::parse(&self.export.signature, args, &Limits { bytes: args.len(), ..Limits::default() }).map(drop)
    }
}

/// A job.
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) tenant: Tenant,
    pub(crate) name: String,
    pub(crate) detached: bool,
    /// The node that owns it: this one.
    node: NodeId,
    pub(crate) submitted_ms: UnixMs,
    pub(super) state: Mutex<State>,
    pub(super) calls: RwLock<Vec<Arc<JobCall>>>,
    counters: JobCounters,
    pub(crate) outbox: Outbox,
    pub(crate) log: Arc<JobLog>,
}

pub(super) struct State {
    pub(super) tasks: TaskTable,
    /// The driver submits no more.
    finished: bool,
    /// Somebody stopped it.
    stopped: bool,
    /// Why it ended before its tasks did.
    error: Option<Error>,
    pub(super) ended_ms: Option<UnixMs>,
}

/// Results that wait for the driver's session to take them.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    outcomes: VecDeque<msg::Outcome>,
    bytes: usize,
    /// Whether tasks are held back because the driver is behind.
    full: bool,
    /// Nobody takes results: they are dropped. So for detached jobs without a session.
    closed: bool,
    /// The session that takes them, told when there is something to take.
    session: Option<Arc<Notify>>,
}

/// What a change of the outbox asks of the dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    Unchanged,
    HoldBack,
    LetGo,
}

impl Outbox {
    /// From now on a session is told of results.
    pub(crate) fn attach(&self, session: &Arc<Notify>) {
        self.waiting.lock().session = Some(Arc::clone(session));
        session.notify_one();
    }

    /// Puts results in; says whether the job's tasks are to be held back from now on.
    fn put(&self, outcomes: Vec<msg::Outcome>) -> Pressure {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Pressure::Unchanged;
        }
        waiting.bytes += outcomes.iter().map(size).sum::<usize>();
        waiting.outcomes.extend(outcomes);
        waiting.tell();
        if waiting.bytes > OUTBOX_BYTES_HIGH && !waiting.full {
            waiting.full = true;
            return Pressure::HoldBack;
        }
        Pressure::Unchanged
    }

    /// Takes the results that have waited longest, as many as go into one message; says whether tasks may go on.
    pub(crate) fn take(&self) -> (Vec<msg::Outcome>, Pressure) {
        let mut waiting = self.waiting.lock();
        let count = batch::length(&waiting.outcomes, size);
        let taken: Vec<msg::Outcome> = waiting.outcomes.drain(..count).collect();
        waiting.bytes -= taken.iter().map(size).sum::<usize>();
        let go_on = waiting.full && waiting.bytes < OUTBOX_BYTES_LOW;
        waiting.full &= !go_on;
        (taken, if go_on { Pressure::LetGo } else { Pressure::Unchanged })
    }

    /// Nobody will take results any more.
    pub(crate) fn close(&self) -> Pressure {
        let mut waiting = self.waiting.lock();
        let full = waiting.full;
        *waiting = Waiting { closed: true, ..Waiting::default() };
        if full { Pressure::LetGo } else { Pressure::Unchanged }
    }

    /// Tells the session that something changed.
    fn tell(&self) {
        self.waiting.lock().tell();
    }
}

impl Waiting {
    fn tell(&self) {
        if let Some(session) = &self.session {
            session.notify_one();
        }
    }
}

/// About how many bytes a result takes in a message.
pub(crate) fn size(outcome: &msg::Outcome) -> usize {
    match &outcome.result {
        Some(msg::outcome::Result::Value(value)) => 64 + value.len(),
        _ => 64,
    }
}

/// What a job is opened with.
pub(crate) struct JobOptions {
    pub(crate) id: JobId,
    pub(crate) tenant: Tenant,
    pub(crate) name: String,
    pub(crate) detached: bool,
    pub(crate) node: NodeId,
    pub(crate) log: Arc<JobLog>,
    pub(crate) counters: JobCounters,
}

impl Job {
    pub(crate) fn new(options: JobOptions) -> Self {
        let JobOptions { id, tenant, name, detached, node, log, counters } = options;
        let submitted_ms = now_ms();
        let state = State { tasks: TaskTable::new(submitted_ms), finished: false, stopped: false, error: None, ended_ms: None };
        Self {
            id,
            tenant,
            name,
            detached,
            node,
            submitted_ms,
            state: Mutex::new(state),
            calls: RwLock::default(),
            counters,
            outbox: Outbox::default(),
            log,
        }
    }

    pub(crate) fn call(&self, number: u16) -> Option<Arc<JobCall>> {
        self.calls.read().get(usize::from(number)).map(Arc::clone)
    }

    pub(crate) fn calls(&self) -> Vec<Arc<JobCall>> {
        self.calls.read().clone()
    }

    /// Adds a call; its number must be the next.
    pub(crate) fn add_call(&self, call: JobCall) -> Result<Arc<JobCall>> {
        let mut calls = self.calls.write();
        if usize::from(call.number) != calls.len() {
            return Err(convert::malformed("a call has not the next number"));
        }
        let call = Arc::new(call);
        calls.push(Arc::clone(&call));
        Ok(call)
    }

    /// Adds tasks of a call; the first must have the next number. Gives back what is to be queued.
    pub(crate) fn submit(&self, call: &JobCall, first_sequence: u64, args: Vec<bytes::Bytes>) -> Result<Vec<Item>> {
        let now = now_ms();
        let mut state = self.state.lock();
        if first_sequence != state.tasks.len() {
            return Err(convert::malformed("a task has not the next number"));
        }
        if state.finished {
            return Err(convert::malformed("tasks were submitted after the job was finished"));
        }
        let first = if call.ready.read().is_some() { TaskState::Queued } else { TaskState::Compiling };
        let mut items = Vec::with_capacity(args.len());
        for (sequence, args) in (first_sequence..).zip(args) {
            state.tasks.push(call.number, first, now);
            items.push(Item { task: self.id.task(sequence), attempt: Attempt::FIRST, args });
        }
        self.counters.submitted(items.len());
        Ok(items)
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

    /// Marks attempts as sent to a node.
    pub(crate) fn running(&self, items: &[Item], node: NodeId) {
        let now = now_ms();
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
                self.state.lock().tasks.requeued(item.task.sequence, attempt).then_some(Item { attempt, ..item })
            }
            None => {
                let tried = format!("{} (attempt {})", error.message(), item.attempt.0);
                let mut failed = Error::new(error.code(), tried).hint("raise --max-retries if the work may be repeated");
                for (key, value) in error.fields() {
                    failed = failed.with(key, value);
                }
                self.end(vec![Ended::unrun(&item, failed)]);
                None
            }
        }
    }

    /// Marks an attempt as never begun: it waits again as it was.
    pub(crate) fn requeued(&self, item: &Item) {
        self.state.lock().tasks.requeued(item.task.sequence, item.attempt);
    }

    /// The call that a task is of.
    pub(crate) fn task_call(&self, sequence: u64) -> Option<Arc<JobCall>> {
        let call = self.state.lock().tasks.get(sequence)?.call;
        self.call(call)
    }

    /// Takes ends of attempts; the newest attempt's first end is the task's.
    pub(crate) fn end(&self, ended: Vec<Ended>) -> Pressure {
        let now = now_ms();
        let mut outcomes = Vec::with_capacity(ended.len());
        let (over, pressure) = {
            let mut state = self.state.lock();
            for end in ended {
                let error = end.result.as_ref().err().or(end.failed.as_ref());
                if state.tasks.ended(end.task.sequence, end.attempt, error, end.cpu, now) {
                    self.counters.ended(error.map(Error::code), end.wall, end.cpu, now);
                    outcomes.push(end.into_message());
                }
            }
            // Under the lock, and before the job can have ended: whoever sees its end takes what is there for the last of its results.
            let pressure = self.outbox.put(outcomes);
            (state.settle(now), pressure)
        };
        if over {
            self.announce();
        }
        pressure
    }

    /// The driver submits no more.
    pub(crate) fn finish(&self) {
        let over = {
            let mut state = self.state.lock();
            state.finished = true;
            state.settle(now_ms())
        };
        if over {
            self.announce();
        }
    }

    /// Nothing more is to run, with the reason where it is not the driver's wish. The caller cancels what waits and runs.
    pub(crate) fn stop(&self, error: Option<Error>) {
        let over = {
            let mut state = self.state.lock();
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
        self.outbox.tell();
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

/// What is told when a job's driver falls behind or has caught up.
pub(crate) type OnPressure = dyn Fn(&Job, Pressure) + Send + Sync;

/// Takes what a job's attempts write and how they end, when they run on this node.
pub(crate) struct JobTaker {
    pub(crate) job: Arc<Job>,
    /// Told when the driver falls behind.
    pub(crate) pressure: Arc<OnPressure>,
}

impl Taker for JobTaker {
    fn started(&self, items: &[Item]) {
        self.job.running(items, self.job.node);
    }

    fn ended(&self, ended: Vec<Ended>) {
        let pressure = self.job.end(ended);
        if pressure != Pressure::Unchanged {
            (self.pressure)(&self.job, pressure);
        }
    }

    fn lost(&self, items: Vec<Item>, error: &Error) -> Vec<Item> {
        items.into_iter().filter_map(|item| self.job.lost(item, error)).collect()
    }

    fn output(&self, task: TaskId, attempt: Attempt) -> Arc<dyn Output> {
        self.job.log.writer(task.sequence, attempt)
    }
}
