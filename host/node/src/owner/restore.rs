//! Jobs of an earlier life of this node, rebuilt from what it wrote down.
//!
//! Tasks that had not begun wait as they were. Attempts that ran in the process that ended are lost with it, and the task is tried again
//! if it may be. Attempts on other nodes go on, and are taken up there. Jobs whose driver waits for them wait for the driver, for a while.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use rwasm_history::{
    Kept,
    past::TaskLine,
    work::{CallOf, Opened, Work},
};
use rwasm_runtime::{OnEnd, now_ms};
use rwasm_types::{Code, Error, JobId, JobState, Result, SessionId, TaskState, Tenant, api::TaskCounts};

use tokio::sync::oneshot;

use super::{
    job::{Job, JobCall, JobParts, Unfinished},
    outbox::Pressure,
    tasks::TaskTable,
};
use crate::{
    executor::{Ended, Item},
    node::{CallRequest, Shared, cancelled},
    tally::JobCounters,
};

/// How long a job waits for its driver after the node started anew.
pub(crate) const DRIVER_GRACE_RESTART: Duration = Duration::from_secs(60);
/// How long a job waits for its driver whose connection broke.
pub(crate) const DRIVER_GRACE_BROKEN: Duration = Duration::from_secs(10);

/// A job as it was written down.
struct Written {
    /// The segment that it begins in.
    segment: u64,
    opened: Opened,
    calls: Vec<CallOf>,
    /// Arguments of the tasks that have not ended.
    args: HashMap<u64, Bytes>,
    unfinished: Unfinished,
}

/// Takes up one record; what fits no job, because of a gap, is passed over.
fn take_up(jobs: &mut BTreeMap<SessionId, Written>, segment: u64, work: Work) {
    if let Work::Opened(opened) = work {
        let unfinished = Unfinished { tasks: TaskTable::new(opened.at_ms), ..Unfinished::default() };
        let written = Written { segment, opened, calls: Vec::new(), args: HashMap::new(), unfinished };
        jobs.insert(written.opened.session, written);
        return;
    }
    let session = work.session();
    let Some(job) = jobs.get_mut(&session) else { return };
    let tasks = &mut job.unfinished.tasks;
    match work {
        Work::Opened(_) => {}
        Work::Defined { number, call, .. } => {
            if usize::from(number) == job.calls.len() {
                job.calls.push(*call);
            }
        }
        Work::Submitted { call, first, at_ms, args, .. } => {
            if first == tasks.len() {
                for (sequence, args) in (first..).zip(args) {
                    tasks.push(call, TaskState::Compiling, at_ms);
                    // Of its own, so that a small one does not keep all that was read with it.
                    job.args.insert(sequence, Bytes::copy_from_slice(&args));
                }
            }
        }
        Work::Started { node, at_ms, attempts, .. } => {
            attempts.into_iter().for_each(|(sequence, attempt)| tasks.running(sequence, attempt, node, at_ms));
        }
        Work::Returned { attempts, .. } => attempts.into_iter().for_each(|(sequence, attempt)| {
            tasks.requeued(sequence, attempt);
        }),
        Work::Ended { at_ms, outcomes, .. } => {
            for outcome in outcomes {
                let error = outcome.result.as_ref().err().or(outcome.failed.as_ref());
                // Of an attempt that never began, nothing else was written.
                if tasks.get(outcome.sequence).is_some_and(|entry| entry.attempt < outcome.attempt) {
                    tasks.requeued(outcome.sequence, outcome.attempt);
                }
                let cpu = Duration::from_nanos(outcome.cpu_ns);
                if tasks.ended(outcome.sequence, outcome.attempt, error, cpu, at_ms) {
                    job.args.remove(&outcome.sequence);
                }
            }
        }
        Work::Finished { .. } => job.unfinished.finished = true,
        Work::Stopped { error, .. } => {
            job.unfinished.finished = true;
            job.unfinished.stopped = true;
            if job.unfinished.error.is_none() {
                job.unfinished.error = error;
            }
        }
        Work::Closed { .. } => drop(jobs.remove(&session)),
    }
}

impl Shared {
    /// Rebuilds the jobs that earlier lives of this node left, and goes on with them.
    ///
    /// # Errors
    ///
    /// If what was written down cannot be read at all.
    pub(crate) async fn restore_jobs(self: &Arc<Self>) -> Result<()> {
        let (read, reading) = oneshot::channel();
        let ledger = Arc::clone(&self.ledger);
        // On a thread of its own: there may be much to read, and the head takes a node that is silent meanwhile for lost.
        let reader = move || {
            let mut jobs = BTreeMap::new();
            let outcome = ledger.replay(|segment, work| take_up(&mut jobs, segment, work));
            // Whoever waits for it may have been told to end.
            let _ = read.send(outcome.map(|()| jobs));
        };
        let started = thread::Builder::new().name("replay".to_owned()).spawn(reader);
        started.map_err(|error| Error::new(Code::NO_CAPACITY, format!("the thread that reads earlier work does not start: {error}")))?;
        let jobs = reading.await.map_err(|_| Error::internal("the thread that reads earlier work ended"))??;
        let count = jobs.len();
        let mut calls = Vec::new();
        for (session, written) in jobs {
            self.ledger.restored(session, written.segment);
            self.restore(written, &mut calls);
        }
        for (job, call, items) in calls {
            self.call_actor(&job, &call, items);
        }
        // Those of tenants that were deleted meanwhile; of one that is deleted from now on, the head's word is heard.
        let mut gone: Vec<Tenant> = self.jobs.read().values().map(|job| job.tenant.clone()).collect();
        gone.sort_unstable();
        gone.dedup();
        gone.retain(|tenant| self.access.there(tenant).is_err());
        self.purge(&gone);
        self.end_lost_jobs()?;
        self.ledger.sweep();
        self.pump();
        self.scope.spawn("reclaim", OnEnd::Continue, Arc::clone(self).reclaim());
        if count > 0 {
            tracing::info!(jobs = count, "went on with jobs of an earlier life");
        }
        Ok(())
    }

    /// Goes on with a job; calls of actors that wait are left for when all jobs are there.
    fn restore(self: &Arc<Self>, written: Written, calls: &mut Vec<(Arc<Job>, Arc<JobCall>, Vec<Item>)>) {
        let Written { opened, calls: defined, mut args, unfinished, .. } = written;
        let id = JobId { owner: self.id, session: opened.session };
        let tasks = &unfinished.tasks;
        // Of one that has ended, the last output may have reached the file and not been acknowledged.
        let elsewhere = |sequence, attempt| {
            tasks.get(sequence).is_some_and(|entry| entry.attempt == attempt && entry.node.is_some_and(|node| node != self.id))
        };
        let log = self.logs.reopen(&opened.tenant, self.outputs.path(&opened.tenant, id), self.limits.log_bytes, elsewhere);
        let counters = self.tally.job_of(&opened.tenant);
        let job = Job::restored(self.id, opened, unfinished, log, self.job_parts(counters));
        self.jobs.write().insert(job.id, Arc::clone(&job));
        for (number, call) in (0..).zip(defined) {
            let CallOf { artifact, export, options, grants, actor } = call;
            if let Err(error) = self.define_again(&job, number, CallRequest { artifact, export, options, grants, actor }) {
                tracing::error!(tenant = %job.tenant, job = %job.id, %error, "a job cannot go on");
                job.stop(Some(error));
                break;
            }
        }
        let lost = Error::new(Code::NODE_LOST, format!("node {} ended while it ran", self.id)).with("node", self.id);
        let mut waiting: BTreeMap<u16, Vec<Item>> = BTreeMap::new();
        let mut over = Vec::new();
        for (sequence, call, attempt, node) in job.unended() {
            let item = Item::new(job.id.task(sequence), attempt, args.remove(&sequence).unwrap_or_default());
            if let Some(call) = job.call(call).filter(|call| call.makes_actor()) {
                job.makes_actor_again(sequence, &call);
            }
            let again = match (node, job.call(call)) {
                (None, _) => Some(item),
                (Some(node), Some(call)) if node != self.id => {
                    self.spread.expect(node, &job, call, item);
                    None
                }
                (Some(_), _) => job.lost(item, &lost),
            };
            match again {
                Some(item) if job.is_stopped() || job.call(call).is_none() => over.push(Ended::unrun(&item, cancelled())),
                Some(item) => waiting.entry(call).or_default().push(item),
                None => {}
            }
        }
        for (number, items) in waiting {
            let Some(call) = job.call(number) else { continue };
            if call.actor.is_some() {
                // Its actor may be of a job that is yet to be restored.
                calls.push((Arc::clone(&job), call, items));
                continue;
            }
            let orphans = self.dispatcher.lock().enqueue(call.class, items).err().unwrap_or_default();
            self.end(&job, orphans, &cancelled());
        }
        let pressure = job.end(over);
        debug_assert_eq!(pressure, Pressure::Unchanged, "nobody takes results yet");
        job.settle();
        if !job.detached {
            self.await_driver(&job, DRIVER_GRACE_RESTART);
        }
    }

    /// Ends a job if its driver is away now and does not come back in time.
    pub(crate) fn await_driver(self: &Arc<Self>, job: &Arc<Job>, grace: Duration) {
        let (since, _) = job.outbox.away_since();
        let (shared, job) = (Arc::clone(self), Arc::clone(job));
        self.scope.spawn("driver-grace", OnEnd::Continue, async move {
            tokio::time::sleep(grace).await;
            if job.outbox.away_since() == (since, true) {
                shared.driver_left(&job, None);
            }
        });
    }

    /// What of this node a job uses.
    pub(crate) fn job_parts(&self, counters: JobCounters) -> JobParts<'_> {
        JobParts { ledger: &self.ledger, objects: &self.objects, actors: &self.actors, counters, over: &self.jobs_over }
    }

    /// Nobody waits any more for what is not detached. `refused` is why the driver was sent away, if it was.
    pub(crate) fn driver_left(&self, job: &Arc<Job>, refused: Option<&Error>) {
        if !job.detached && !job.has_ended() {
            let gone = || {
                Error::new(Code::CONNECTION_LOST, "the driver went away before the job ended").hint("submit with --no-wait to let it go on")
            };
            let error = refused.cloned().map_or_else(gone, |error| error.context("the driver's session ended"));
            self.stop(job, Some(error));
        }
        let pressure = job.outbox.close();
        self.relieve(job, pressure);
        job.release();
    }

    /// Ends, in the past, jobs that began and of which nothing else is known any more.
    fn end_lost_jobs(&self) -> Result<()> {
        for (tenant, id) in self.ledger.past().open_jobs()? {
            if self.jobs.read().contains_key(&id) {
                continue;
            }
            if let Some(Kept::Began(mut record)) = self.ledger.past().view().job(&tenant, id)? {
                record.state = JobState::Failed;
                record.tasks = TaskCounts::default();
                record.ended_ms = Some(now_ms());
                record.error = Some(Error::new(Code::NODE_LOST, format!("what node {} knew of the job is lost", self.id)));
                let none = |_, _| Vec::<TaskLine>::new();
                self.ledger.past().ended(*record, Vec::new(), none, now_ms())?;
                self.ledger.written().notify_one();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rwasm_history::work::Outcome;
    use rwasm_types::{ArtifactDigest, Attempt, Grants, NodeId, TaskOptions, Tenant};

    use super::*;

    fn outcome(sequence: u64, attempt: u32, result: Result<Bytes>) -> Outcome {
        Outcome { sequence, attempt: Attempt(attempt), result, failed: None, cpu_ns: 5_000, wall_ns: 0, memory_bytes: 0 }
    }

    /// The life of a job, as it is written down.
    fn life() -> Vec<Work> {
        let session = 7;
        let opened = Opened { session, tenant: Tenant::default(), name: String::new(), detached: false, key: vec![1; 16], at_ms: 1_000 };
        let call = CallOf {
            artifact: ArtifactDigest([1; 32]),
            export: "add".into(),
            options: TaskOptions::default(),
            grants: Grants::default(),
            actor: None,
        };
        let attempts = |sequences: &[u64]| sequences.iter().map(|sequence| (*sequence, Attempt(1))).collect();
        let cancelled = || Err(Error::new(Code::CANCELLED, "x"));
        vec![
            Work::Opened(opened),
            Work::Defined { session, number: 0, call: Box::new(call) },
            Work::Submitted { session, call: 0, first: 0, at_ms: 1_001, args: vec![Bytes::from_static(b"a"); 4] },
            Work::Started { session, node: NodeId::FIRST, at_ms: 1_002, attempts: attempts(&[0, 1, 2]) },
            Work::Ended { session, at_ms: 1_003, outcomes: vec![outcome(0, 1, Ok(Bytes::new()))] },
            Work::Returned { session, attempts: attempts(&[2]) },
            Work::Ended { session, at_ms: 1_004, outcomes: vec![outcome(3, 2, cancelled())] },
            Work::Finished { session },
        ]
    }

    #[test]
    fn what_was_written_is_taken_up() {
        let mut jobs = BTreeMap::new();
        life().into_iter().for_each(|work| take_up(&mut jobs, 3, work));
        let job = jobs.get(&7).unwrap();
        let tasks = &job.unfinished.tasks;
        let states: Vec<TaskState> = (0..4).map(|sequence| tasks.get(sequence).unwrap().state).collect();
        assert_eq!(states, [TaskState::Succeeded, TaskState::Running, TaskState::Queued, TaskState::Cancelled]);
        assert_eq!((job.segment, job.unfinished.finished, tasks.at(tasks.get(0).unwrap().ended_ms)), (3, true, 1_003));
        let mut waiting: Vec<u64> = job.args.keys().copied().collect();
        waiting.sort_unstable();
        assert_eq!(waiting, [1, 2], "arguments of what ended are not kept");
        take_up(&mut jobs, 3, Work::Closed { session: 7 });
        assert!(jobs.is_empty());
    }

    /// Where a part of it is missing, what is left is taken as far as it goes.
    #[test]
    fn a_gap_costs_what_was_in_it_and_nothing_else() {
        for missing in 0..life().len() {
            let mut jobs = BTreeMap::new();
            let rest = life().into_iter().enumerate().filter(|(place, _)| *place != missing).map(|(_, work)| work);
            rest.for_each(|work| take_up(&mut jobs, 1, work));
            let tasks = jobs.get(&7).map(|job| job.unfinished.tasks.len());
            assert_eq!(tasks, if missing == 0 { None } else { Some(if missing == 2 { 0 } else { 4 }) }, "without record {missing}");
        }
    }
}
