//! Answers to questions about this node's own jobs and tasks, and the way of the others through the head.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_types::{
    Code, Error, JobId, JobState, NodeId, Result, TaskId, TaskState, Tenant,
    api::{Ask, JobRecord, LIMIT_MAX, Listing, Order, Query, Reason, TaskRecord, UnixMs},
    view::{Cursor, JobPage, Span, Summary},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    node::Shared,
    owner::{job::Job, listing::Wanted},
};

impl Shared {
    /// Answers a driver's question or carries out its order: here where this node knows, else through the head.
    pub(crate) async fn answer(self: &Arc<Self>, tenant: &Tenant, ask: &Ask, key: Bytes) -> Result<Vec<u8>> {
        match owner(ask) {
            Some(owner) if owner == self.id => self.answer_here(tenant, ask),
            // Lists are put together by the head; without it, this node's part is better than nothing.
            None => match (self.head.ask(tenant, ask, key).await, ask) {
                (Err(error), Ask::Query(query)) if error.code() == Code::DEADLINE => self.part(tenant, query, &error),
                (answer, _) => answer.map(|answer| answer.to_vec()),
            },
            Some(_) => self.head.ask(tenant, ask, key).await.map(|answer| answer.to_vec()),
        }
    }

    /// This node's part of a list, marked as such.
    fn part(self: &Arc<Self>, tenant: &Tenant, query: &Query, error: &Error) -> Result<Vec<u8>> {
        fn mark<T: Serialize + DeserializeOwned>(answer: &[u8], error: &Error) -> Result<Vec<u8>> {
            let mut listing: Listing<T> =
                serde_json::from_slice(answer).map_err(|error| Error::internal(format!("an answer is no list: {error}")))?;
            listing.missing.push(format!("other nodes: {}", error.message()));
            json(&listing)
        }
        let answer = self.answer_here(tenant, &Ask::Query(query.clone()));
        match query {
            Query::Jobs { .. } => mark::<JobRecord>(&answer?, error),
            Query::Tasks { .. } => mark::<TaskRecord>(&answer?, error),
            _ => Err(error.clone()),
        }
    }

    /// Answers from what this node knows itself.
    pub(crate) fn answer_here(self: &Arc<Self>, tenant: &Tenant, ask: &Ask) -> Result<Vec<u8>> {
        match ask {
            Ask::Query(Query::Jobs { state, limit, page }) => json(&self.jobs(tenant, *state, page, (*limit).min(LIMIT_MAX))),
            Ask::Query(Query::Job { job }) => json(&self.job(tenant, *job)?.record()),
            Ask::Query(Query::Tasks { job, state, limit, page }) => {
                json(&self.tasks(tenant, *job, Wanted { state: *state, page }, (*limit).min(LIMIT_MAX))?)
            }
            Ask::Query(Query::Task { task }) => json(&self.task(tenant, *task)?),
            Ask::Query(Query::Why { task }) => json(&Reason { why: self.why(tenant, *task)? }),
            Ask::Query(Query::Timeline { job, from_ms, to_ms, limit }) => {
                let mut listing = Listing::default();
                for job in self.jobs_of(tenant, *job)? {
                    let (rows, total) = job.spans(*from_ms, *to_ms, (*limit).min(LIMIT_MAX));
                    listing.merge(Listing { rows, total, missing: Vec::new() });
                    keep_longest(&mut listing.rows, *to_ms, (*limit).min(LIMIT_MAX));
                }
                json(&listing)
            }
            Ask::Query(Query::Summary) => json(&self.summary(tenant)),
            Ask::Query(Query::Artifacts { limit, digest }) => json(&self.list_artifacts(tenant, digest.as_ref(), (*limit).min(LIMIT_MAX))),
            Ask::Query(Query::Status | Query::Nodes | Query::Artifact { .. } | Query::Tags { .. }) => {
                Err(Error::internal("a node was asked what only the head knows"))
            }
            Ask::Order(Order::StopJob { job }) => {
                let job = self.job(tenant, *job)?;
                self.stop(&job, None);
                json(&job.record())
            }
            Ask::Order(Order::DrainNode { node, within_ms }) if *node == self.id => {
                self.drain(Duration::from_millis(*within_ms));
                // Before the answer, so that whoever hears that answer knows what runs here from now on.
                self.head.report_now(self);
                json(&())
            }
            Ask::Order(Order::UndrainNode { node }) if *node == self.id => {
                self.undrain();
                self.head.report_now(self);
                json(&())
            }
            Ask::Order(Order::RemoveArtifact { artifact, force }) => {
                let digest = artifact.whole().ok_or_else(|| Error::internal("a node was told a part of a digest"))?;
                json(&self.remove_if_unused(tenant, digest, *force)?)
            }
            Ask::Order(Order::CollectArtifacts { unused_for_ms, dry_run, keep }) => {
                json(&self.collect_artifacts(tenant, Duration::from_millis(*unused_for_ms), *dry_run, keep)?)
            }
            Ask::Order(Order::DrainNode { .. } | Order::UndrainNode { .. } | Order::TagArtifact { .. } | Order::Untag { .. }) => {
                Err(Error::internal("a node was given an order that is not for it"))
            }
        }
    }

    /// A tenant's jobs, or one of them.
    fn jobs_of(&self, tenant: &Tenant, job: Option<JobId>) -> Result<Vec<Arc<Job>>> {
        Ok(match job {
            Some(job) => vec![self.job(tenant, job)?],
            None => self.jobs.read().values().filter(|job| job.tenant == *tenant).map(Arc::clone).collect(),
        })
    }

    fn jobs(&self, tenant: &Tenant, state: Option<JobState>, page: &JobPage, limit: usize) -> Listing<JobRecord> {
        let name = page.name.as_ref().map(|name| name.to_lowercase());
        let mut jobs: Vec<Arc<Job>> = self.jobs_of(tenant, None).unwrap_or_default();
        jobs.retain(|job| name.as_ref().is_none_or(|name| job.name.to_lowercase().contains(name)));
        jobs.retain(|job| state.is_none_or(|state| job.job_state() == state));
        let total = jobs.len() as u64;
        let place = |job: &Arc<Job>| Cursor { at_ms: job.submitted_ms, id: job.id };
        jobs.retain(|job| page.after.is_none_or(|after| place(job) < after));
        jobs.sort_by_key(|job| Reverse(place(job)));
        Listing { rows: jobs.iter().take(limit).map(|job| job.record()).collect(), total, missing: Vec::new() }
    }

    /// Tasks from the newest, of all jobs together. A job is looked into only if it may have tasks that are newer than those found.
    fn tasks(&self, tenant: &Tenant, job: Option<JobId>, wanted: Wanted<'_>, limit: usize) -> Result<Listing<TaskRecord>> {
        let glance = |job: Arc<Job>| (job.glance(wanted), job);
        let mut jobs: Vec<_> = self.jobs_of(tenant, job)?.into_iter().map(glance).collect();
        jobs.sort_by_key(|((_, newest), job)| Reverse((*newest, job.id)));
        let mut listing = Listing { rows: Vec::new(), total: jobs.iter().map(|((total, _), _)| total).sum(), missing: Vec::new() };
        for ((total, newest), job) in jobs {
            if listing.rows.len() == limit && listing.rows.last().is_some_and(|last: &TaskRecord| newest < last.queued_ms) {
                break;
            }
            if total > 0 {
                listing.rows.extend(job.tasks(wanted, limit));
                listing.rows.sort_by_key(|row| Reverse(row.cursor()));
                listing.rows.truncate(limit);
            }
        }
        Ok(listing)
    }

    fn summary(&self, tenant: &Tenant) -> Summary {
        let now_s = crate::clock::now_ms() / 1_000;
        let mut summary = Summary { now_s, ended_per_second: self.tally.ended_per_second(tenant, now_s), ..Summary::default() };
        for job in self.jobs_of(tenant, None).unwrap_or_default() {
            *summary.jobs.entry(job.job_state().to_string()).or_default() += 1;
            let mut counts = job.counts();
            for state in TaskState::ALL {
                *summary.tasks.of(state) += *counts.of(state);
            }
        }
        summary
    }

    fn task(&self, tenant: &Tenant, task: TaskId) -> Result<TaskRecord> {
        let unknown = || Error::new(Code::NOT_FOUND, format!("there is no task {task}")).hint("`rwasm list tasks` shows what there is");
        self.job(tenant, task.job()).map_err(|_| unknown())?.task(task.sequence).ok_or_else(unknown)
    }

    /// Why a task is where it is, in one line.
    fn why(&self, tenant: &Tenant, task: TaskId) -> Result<String> {
        let record = self.task(tenant, task)?;
        let job = self.job(tenant, task.job())?;
        let on = record.node.map_or_else(|| "no node".to_owned(), |node| format!("node {node}"));
        Ok(match record.state {
            TaskState::Compiling => format!("{task} waits for its artifact {} to be compiled", record.artifact.short()),
            TaskState::Queued => self.why_queued(&job, task),
            TaskState::Running => {
                let since = crate::clock::now_ms().saturating_sub(record.started_ms.unwrap_or_default());
                let since = rwasm_types::format_duration(Duration::from_millis(since));
                format!("{task} has been on {on} for {since} (attempt {})", record.attempt.0)
            }
            TaskState::Succeeded => format!("{task} succeeded on {on}"),
            TaskState::Cancelled => format!("{task} was cancelled"),
            TaskState::Failed => match record.error {
                Some(error) => format!("{task} failed on {on}: {} ({})", error.message(), error.code()),
                None => format!("{task} failed on {on}"),
            },
        })
    }

    fn why_queued(&self, job: &Job, task: TaskId) -> String {
        let Some(call) = job.task_call(task.sequence) else { return format!("{task} waits") };
        if self.draining.is_on() {
            return format!("{task} waits for another node: node {} takes no more work (it is drained)", self.id);
        }
        let dispatcher = self.dispatcher.lock();
        let (ahead, free, capacity) = (dispatcher.queued(), dispatcher.free().clone(), dispatcher.capacity().clone());
        drop(dispatcher);
        if !capacity.contains(&call.shape) {
            return format!("{task} needs {}, which node {} does not have ({capacity}); it waits for another node", call.shape, self.id);
        }
        if free.contains(&call.shape) {
            return format!("{task} is next: its resources ({}) are free on node {}", call.shape, self.id);
        }
        format!("{task} waits for {}: node {} has {free} free of {capacity}, and {ahead} tasks wait there", call.shape, self.id)
    }
}

/// Keeps the longest of what ran.
fn keep_longest(spans: &mut Vec<Span>, now_ms: UnixMs, limit: usize) {
    if spans.len() > limit {
        spans.sort_by_key(|span| Reverse((span.length_ms(now_ms), span.task)));
        spans.truncate(limit);
    }
}

/// The node that alone can answer; `None` for what the whole cluster answers.
fn owner(ask: &Ask) -> Option<NodeId> {
    match ask {
        Ask::Query(Query::Job { job }) | Ask::Order(Order::StopJob { job }) => Some(job.owner),
        Ask::Query(Query::Task { task } | Query::Why { task }) => Some(task.owner),
        Ask::Query(Query::Status | Query::Nodes | Query::Jobs { .. } | Query::Tasks { .. } | Query::Artifacts { .. })
        | Ask::Query(Query::Timeline { .. } | Query::Summary)
        | Ask::Query(Query::Artifact { .. } | Query::Tags { .. })
        | Ask::Order(
            Order::DrainNode { .. }
            | Order::UndrainNode { .. }
            | Order::TagArtifact { .. }
            | Order::Untag { .. }
            | Order::RemoveArtifact { .. }
            | Order::CollectArtifacts { .. },
        ) => None,
    }
}

fn json<T: Serialize>(answer: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(answer).map_err(|error| Error::internal(format!("an answer has no JSON: {error}")))
}
