//! Answers to questions about this node's own jobs and tasks, and the way of the others through the head.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_types::{
    Code, Error, JobId, NodeId, Result, TaskId, TaskState, Tenant,
    api::{Ask, JobRecord, LIMIT_MAX, Listing, Order, PlaceRequest, Query, Reason, TaskRecord},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::node::{Shared, shape};

impl Shared {
    /// Answers a driver's question or carries out its order: here where this node knows, else through the head.
    pub(crate) async fn answer(self: &Arc<Self>, tenant: &Tenant, ask: &Ask, key: Bytes) -> Result<Vec<u8>> {
        match owner(ask) {
            Some(owner) if owner == self.id => match ask {
                Ask::Query(Query::Why { task }) => self.answer_why(tenant, *task).await,
                _ => self.answer_here(tenant, ask),
            },
            // Lists are put together by the head; without it, this node's part is better than nothing.
            None if matches!(ask, Ask::Query(Query::Plan { .. })) => self.answer_plan(tenant, ask).await,
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
            Ask::Query(Query::Jobs { state, limit }) => {
                let mut rows: Vec<JobRecord> =
                    self.jobs.read().values().filter(|job| job.tenant == *tenant).map(|job| job.record()).collect();
                rows.retain(|row| state.is_none_or(|state| row.state == state));
                rows.sort_by_key(|row| std::cmp::Reverse((row.submitted_ms, row.id)));
                let total = rows.len() as u64;
                rows.truncate((*limit).min(LIMIT_MAX));
                json(&Listing { rows, total, missing: Vec::new() })
            }
            Ask::Query(Query::Job { job }) => json(&self.job(tenant, *job)?.record()),
            Ask::Query(Query::Tasks { job, state, limit }) => json(&self.tasks(tenant, *job, *state, (*limit).min(LIMIT_MAX))?),
            Ask::Query(Query::Task { task }) => json(&self.task(tenant, *task)?),
            Ask::Query(Query::Why { task }) => json(&Reason { why: self.why(tenant, *task)? }),
            Ask::Query(Query::Artifacts { limit, digest }) => json(&self.list_artifacts(tenant, digest.as_ref(), (*limit).min(LIMIT_MAX))),
            Ask::Query(Query::Status | Query::Nodes | Query::Artifact { .. } | Query::Tags { .. })
            | Ask::Query(Query::Demand { .. } | Query::Plan { .. } | Query::Place(_)) => {
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

    fn tasks(&self, tenant: &Tenant, job: Option<JobId>, state: Option<TaskState>, limit: usize) -> Result<Listing<TaskRecord>> {
        let mut jobs = match job {
            Some(job) => vec![self.job(tenant, job)?],
            None => self.jobs.read().values().filter(|job| job.tenant == *tenant).map(Arc::clone).collect(),
        };
        jobs.sort_by_key(|job| std::cmp::Reverse(job.id));
        let mut listing = Listing::default();
        for job in jobs {
            let (rows, total) = job.tasks(state, limit - listing.rows.len());
            listing.merge(Listing { rows, total, missing: Vec::new() });
        }
        Ok(listing)
    }

    fn task(&self, tenant: &Tenant, task: TaskId) -> Result<TaskRecord> {
        let unknown = || Error::new(Code::NOT_FOUND, format!("there is no task {task}")).hint("`rwasm list tasks` shows what there is");
        self.job(tenant, task.job()).map_err(|_| unknown())?.task(task.sequence).ok_or_else(unknown)
    }

    /// Why a task is where it is, with what the head says of the request that it waits for.
    pub(crate) async fn answer_why(self: &Arc<Self>, tenant: &Tenant, task: TaskId) -> Result<Vec<u8>> {
        let mut why = self.why(tenant, task)?;
        let waits = self.task(tenant, task)?.state == TaskState::Queued;
        let call = self.job(tenant, task.job())?.task_call(task.sequence).filter(|_| waits);
        if let Some(request) = call.and_then(|call| self.spread.request_of(call.class)) {
            let ask = Ask::Query(Query::Demand { owner: self.id, request });
            // Without the head, what this node knows is better than nothing.
            if let Ok(answer) = self.head.ask(tenant, &ask, Bytes::new()).await {
                let elsewhere: Reason =
                    serde_json::from_slice(&answer).map_err(|error| Error::internal(format!("the head gives no reason: {error}")))?;
                if !elsewhere.why.is_empty() {
                    why = format!("{why}; elsewhere it {}", elsewhere.why);
                }
            }
        }
        json(&Reason { why })
    }

    /// Where a submit would go: the artifact, which this node has, says what a task needs; the head says where there is room for that.
    async fn answer_plan(self: &Arc<Self>, tenant: &Tenant, ask: &Ask) -> Result<Vec<u8>> {
        let Ask::Query(Query::Plan { artifact, options, tasks }) = ask else { return Err(Error::internal("no plan was asked for")) };
        let info = self.artifacts.info(tenant, *artifact).ok_or_else(|| {
            Error::new(Code::NO_SUCH_ARTIFACT, format!("no artifact {} is stored", artifact.short())).hint("submit the file")
        })?;
        let place = PlaceRequest {
            owner: self.id,
            shape: shape(options, info.memory_initial_bytes)?,
            tasks: *tasks,
            priority: options.priority,
            placement: options.placement.clone(),
        };
        self.head.ask(tenant, &Ask::Query(Query::Place(place)), Bytes::new()).await.map(|answer| answer.to_vec())
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

    fn why_queued(&self, job: &crate::owner::job::Job, task: TaskId) -> String {
        let Some(call) = job.task_call(task.sequence) else { return format!("{task} waits") };
        if self.draining.is_on() {
            return format!("{task} waits for another node: node {} takes no more work (it is drained)", self.id);
        }
        let dispatcher = self.dispatcher.lock();
        let (ahead, free, capacity) = (dispatcher.queued(), dispatcher.free().clone(), dispatcher.capacity().clone());
        drop(dispatcher);
        if !call.options.placement.allows(self.id, self.head.labels()) {
            return format!("{task} may not run on node {} ({} was asked for)", self.id, call.options.placement);
        }
        if !capacity.contains(&call.shape) {
            return format!("{task} needs {}, which node {} does not have ({capacity}); it waits for another node", call.shape, self.id);
        }
        if free.contains(&call.shape) {
            return format!("{task} is next: its resources ({}) are free on node {}", call.shape, self.id);
        }
        format!("{task} waits for {}: node {} has {free} free of {capacity}, and {ahead} tasks wait there", call.shape, self.id)
    }
}

/// The node that alone can answer; `None` for what the whole cluster answers.
fn owner(ask: &Ask) -> Option<NodeId> {
    match ask {
        Ask::Query(Query::Job { job }) | Ask::Order(Order::StopJob { job }) => Some(job.owner),
        Ask::Query(Query::Task { task } | Query::Why { task }) => Some(task.owner),
        Ask::Query(Query::Status | Query::Nodes | Query::Jobs { .. } | Query::Tasks { .. } | Query::Artifacts { .. })
        | Ask::Query(Query::Artifact { .. } | Query::Tags { .. } | Query::Demand { .. } | Query::Plan { .. } | Query::Place(_))
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
