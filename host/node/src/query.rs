//! Answers to questions about this node's own jobs and tasks, and the way of the others through the head.

use std::{cmp::Reverse, collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_history::{Found, Kept, past};
use rwasm_runtime::{aside, now_ms};
use rwasm_types::{
    Code, Error, JobId, JobState, NodeId, Result, TaskId, TaskState, Tenant, TokenId,
    api::{
        ActorRecord, Ask, JobRecord, LIMIT_MAX, Listing, MemoryRecord, ObjectRecord, Order, PlaceRequest, PolicyRecord, Query, Reason,
        TaskRecord, UnixMs,
    },
    view::{JobsWanted, Span, Summary, TasksWanted, Wanted},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    logs::JobLog,
    node::{Shared, shape},
    owner::job::Job,
};

/// A job, as this node knows it.
pub(crate) enum Known {
    /// It is in memory.
    Here(Arc<Job>),
    /// It is on disk.
    Kept(Kept),
}

impl Known {
    fn record(&self) -> JobRecord {
        match self {
            Self::Here(job) => job.record(),
            Self::Kept(kept) => kept.record().clone(),
        }
    }
}

impl Shared {
    /// Answers a driver's question or carries out its order: here where this node knows, else through the head.
    pub(crate) async fn answer(self: &Arc<Self>, tenant: &Tenant, token: Option<TokenId>, ask: &Ask, key: Bytes) -> Result<Vec<u8>> {
        match owner(ask) {
            Some(owner) if owner == self.id || self.answers_for(tenant, ask) => match ask {
                Ask::Query(Query::Why { task }) => self.answer_why(tenant, *task).await,
                _ => self.answer_aside(tenant, ask).await,
            },
            None if matches!(ask, Ask::Query(Query::Plan { .. })) => self.answer_plan(tenant, token, ask).await,
            // Lists are put together by the head; without it, this node's part is better than nothing.
            None => match (self.head.ask(tenant, token, ask, key).await, ask) {
                (Err(error), Ask::Query(query)) if error.code() == Code::DEADLINE => self.part(tenant, query, &error).await,
                (answer, _) => answer.map(|answer| answer.to_vec()),
            },
            Some(_) => self.head.ask(tenant, token, ask, key).await.map(|answer| answer.to_vec()),
        }
    }

    /// Whether this node has taken the place of an object's owner.
    fn answers_for(&self, tenant: &Tenant, ask: &Ask) -> bool {
        match ask {
            Ask::Query(Query::Object { object }) | Ask::Order(Order::ReleaseObject { object }) => self.objects.decides(tenant, *object),
            _ => false,
        }
    }

    /// This node's part of a list, marked as such.
    async fn part(self: &Arc<Self>, tenant: &Tenant, query: &Query, error: &Error) -> Result<Vec<u8>> {
        fn mark<T: Serialize + DeserializeOwned>(answer: &[u8], error: &Error) -> Result<Vec<u8>> {
            let mut listing: Listing<T> =
                serde_json::from_slice(answer).map_err(|error| Error::internal(format!("an answer is no list: {error}")))?;
            listing.missing.push(format!("other nodes: {}", error.message()));
            json(&listing)
        }
        let answer = self.answer_aside(tenant, &Ask::Query(query.clone())).await;
        match query {
            Query::Jobs { .. } => mark::<JobRecord>(&answer?, error),
            Query::Tasks { .. } => mark::<TaskRecord>(&answer?, error),
            Query::Objects { .. } => mark::<ObjectRecord>(&answer?, error),
            Query::Memory => mark::<MemoryRecord>(&answer?, error),
            Query::Actors { .. } => mark::<ActorRecord>(&answer?, error),
            _ => Err(error.clone()),
        }
    }

    /// Answers from what this node knows itself. Lists look through memory and disk, and nobody is to wait for that.
    pub(crate) async fn answer_aside(self: &Arc<Self>, tenant: &Tenant, ask: &Ask) -> Result<Vec<u8>> {
        aside(async { self.answer_here(tenant, ask) }).await
    }

    /// Answers from what this node knows itself.
    pub(crate) fn answer_here(self: &Arc<Self>, tenant: &Tenant, ask: &Ask) -> Result<Vec<u8>> {
        match ask {
            Ask::Query(Query::Jobs { state, limit, page }) => {
                json(&self.job_list(tenant, Wanted { state: *state, page }, (*limit).min(LIMIT_MAX))?)
            }
            Ask::Query(Query::Job { job }) => json(&self.known(tenant, *job)?.record()),
            Ask::Query(Query::Tasks { job, state, limit, page }) => {
                json(&self.tasks(tenant, *job, Wanted { state: *state, page }, (*limit).min(LIMIT_MAX))?)
            }
            Ask::Query(Query::Task { task }) => json(&self.task(tenant, *task)?),
            Ask::Query(Query::Why { task }) => json(&Reason { why: self.why(tenant, *task)? }),
            Ask::Query(Query::Timeline { job, from_ms, to_ms, limit }) => {
                json(&self.timeline(tenant, *job, *from_ms, *to_ms, (*limit).min(LIMIT_MAX))?)
            }
            Ask::Query(Query::Summary) => json(&self.summary(tenant)?),
            Ask::Query(Query::Artifacts { limit, digest }) => json(&self.list_artifacts(tenant, digest.as_ref(), (*limit).min(LIMIT_MAX))),
            Ask::Query(Query::Policy) => json(&PolicyRecord { tenant: tenant.clone(), policy: self.access.policy(tenant) }),
            Ask::Query(Query::Objects { limit }) => json(&self.objects.list(tenant, (*limit).min(LIMIT_MAX))),
            Ask::Query(Query::Object { object }) => json(&self.objects.record(tenant, *object)?),
            Ask::Query(Query::Memory) => json(&Listing { rows: vec![self.objects.memory(tenant)], total: 1, missing: Vec::new() }),
            Ask::Query(Query::Actors { limit }) => json(&self.actor_list(tenant, (*limit).min(LIMIT_MAX))),
            Ask::Query(Query::Actor { actor }) => json(&self.actor_parts(tenant, *actor)?.2),
            Ask::Order(Order::EndActor { actor, drain }) => json(&self.end_actor(tenant, *actor, *drain)?),
            Ask::Order(Order::ReleaseObject { object }) => json(&self.objects.release(tenant, *object)?),
            Ask::TenantUse => json(&self.tenant_use(tenant)),
            Ask::Query(
                Query::Status
                | Query::Nodes
                | Query::Artifact { .. }
                | Query::Tags { .. }
                | Query::Tenants
                | Query::Tokens { .. }
                | Query::Invitations,
            )
            | Ask::Order(Order::InviteNode { .. } | Order::RevokeInvitation { .. })
            | Ask::Query(Query::Plan { .. } | Query::Groups | Query::NamedActor { .. })
            | Ask::Place(_)
            | Ask::Demand { .. }
            | Ask::NameActor { .. }
            | Ask::UnnameActor { .. }
            | Ask::Offered { .. } => Err(Error::internal("a node was asked what only the head knows")),
            Ask::Order(Order::StopJob { job }) => {
                let known = self.known(tenant, *job)?;
                if let Known::Here(job) = &known {
                    self.stop(job, None);
                }
                json(&known.record())
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
            Ask::Order(
                Order::DrainNode { .. }
                | Order::UndrainNode { .. }
                | Order::TagArtifact { .. }
                | Order::Untag { .. }
                | Order::CreateGroup(_)
                | Order::RemoveGroup { .. }
                | Order::CreateTenant { .. }
                | Order::DeleteTenant { .. }
                | Order::CreateToken { .. }
                | Order::RevokeToken { .. }
                | Order::SetPolicy { .. },
            ) => Err(Error::internal("a node was given an order that is not for it")),
        }
    }

    /// A job that is in memory, or kept on disk.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is none, or it is another tenant's.
    pub(crate) fn known(&self, tenant: &Tenant, id: JobId) -> Result<Known> {
        let unknown = match self.job(tenant, id) {
            Ok(job) => return Ok(Known::Here(job)),
            Err(unknown) => unknown,
        };
        self.ledger.past().view().job(tenant, id)?.map(Known::Kept).ok_or(unknown)
    }

    /// What a job wrote.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is no such job.
    pub(crate) fn log(&self, tenant: &Tenant, id: JobId) -> Result<Arc<JobLog>> {
        Ok(match self.known(tenant, id)? {
            Known::Here(job) => Arc::clone(&job.log),
            Known::Kept(_) => self.logs.ended(tenant, self.outputs.path(tenant, id)),
        })
    }

    fn here(&self, tenant: &Tenant) -> Vec<Arc<Job>> {
        self.jobs.read().values().filter(|job| job.tenant == *tenant).map(Arc::clone).collect()
    }

    /// A tenant's jobs, newest first: those in memory, and of the others what is on disk.
    fn job_list(&self, tenant: &Tenant, wanted: JobsWanted<'_>, limit: usize) -> Result<Listing<JobRecord>> {
        let JobsWanted { state, page } = wanted;
        let mut here = self.here(tenant);
        let known: HashSet<JobId> = here.iter().map(|job| job.id).collect();
        let found = self.ledger.past().view().jobs(tenant, wanted, limit, &known)?;
        here.retain(|job| page.names(&job.name) && state.is_none_or(|state| job.job_state() == state));
        let total = here.len() as u64 + found.total;
        here.retain(|job| page.reaches(job.place()));
        here.sort_by_key(|job| Reverse(job.place()));
        let mut rows: Vec<JobRecord> = here.iter().take(limit).map(|job| job.record()).collect();
        rows.extend(found.rows);
        rows.sort_by_key(|row| Reverse(row.cursor()));
        rows.truncate(limit);
        Ok(Listing { rows, total, missing: found.missing })
    }

    /// Tasks, those of the newest jobs first.
    fn tasks(&self, tenant: &Tenant, job: Option<JobId>, wanted: TasksWanted<'_>, limit: usize) -> Result<Listing<TaskRecord>> {
        if let Some(job) = job {
            return Ok(listing(match self.known(tenant, job)? {
                Known::Here(job) => job.tasks(wanted, limit),
                Known::Kept(Kept::Ended(job)) => self.ledger.past().view().tasks_of(&job, wanted, limit)?,
                Known::Kept(Kept::Began(_)) => Found::default(),
            }));
        }
        let mut here = self.here(tenant);
        here.sort_by_key(|job| Reverse(job.place()));
        let known: HashSet<JobId> = here.iter().map(|job| job.id).collect();
        let mut all = Listing::default();
        for job in here {
            all.merge(listing(job.tasks(wanted, limit - all.rows.len())));
        }
        all.merge(listing(self.ledger.past().view().tasks(tenant, wanted, limit, &known)?));
        all.rows.sort_by_key(|row: &TaskRecord| Reverse(row.cursor()));
        all.rows.truncate(limit);
        Ok(all)
    }

    /// What ran between two times, the longest first.
    fn timeline(&self, tenant: &Tenant, job: Option<JobId>, from_ms: UnixMs, to_ms: UnixMs, limit: usize) -> Result<Listing<Span>> {
        if let Some(job) = job {
            return Ok(listing(match self.known(tenant, job)? {
                Known::Here(job) => job.spans(from_ms, to_ms, limit),
                Known::Kept(Kept::Ended(job)) => self.ledger.past().view().spans_of(&job, from_ms, to_ms, limit)?,
                Known::Kept(Kept::Began(_)) => Found::default(),
            }));
        }
        let here = self.here(tenant);
        let known: HashSet<JobId> = here.iter().map(|job| job.id).collect();
        let mut all = listing(self.ledger.past().view().spans(tenant, from_ms, to_ms, limit, &known)?);
        for job in here {
            all.merge(listing(job.spans(from_ms, to_ms, limit)));
            Span::keep_longest(&mut all.rows, to_ms, limit);
        }
        Ok(all)
    }

    /// Jobs and tasks by state, and what ended lately.
    fn summary(&self, tenant: &Tenant) -> Result<Summary> {
        let now_s = now_ms() / 1_000;
        let mut summary = Summary { now_s, ended_per_second: self.tally.ended_per_second(tenant, now_s), ..Summary::default() };
        let here = self.here(tenant);
        let known: HashSet<JobId> = here.iter().map(|job| job.id).collect();
        let totals = self.ledger.past().view().totals(tenant, &known)?;
        for state in JobState::ALL {
            let count = totals.jobs(Some(state));
            if count > 0 {
                summary.jobs.insert(state.to_string(), count);
            }
        }
        summary.tasks += totals.ended_tasks();
        for (state, counts) in here.iter().map(|job| job.glance()) {
            *summary.jobs.entry(state.to_string()).or_default() += 1;
            summary.tasks += counts;
        }
        Ok(summary)
    }

    fn task(&self, tenant: &Tenant, task: TaskId) -> Result<TaskRecord> {
        let unknown = || Error::new(Code::NOT_FOUND, format!("there is no task {task}")).hint("`rwasm list tasks` shows what there is");
        let job = self.known(tenant, task.job()).map_err(|error| if error.code() == Code::NOT_FOUND { unknown() } else { error })?;
        let record = match job {
            Known::Here(job) => job.task(task.sequence),
            Known::Kept(Kept::Ended(job)) => self.ledger.past().view().task_of(&job, task.sequence)?,
            Known::Kept(Kept::Began(_)) => None,
        };
        record.ok_or_else(unknown)
    }

    /// Why a task is where it is, with what the head says of the request that it waits for.
    pub(crate) async fn answer_why(self: &Arc<Self>, tenant: &Tenant, task: TaskId) -> Result<Vec<u8>> {
        let mut why = self.why(tenant, task)?;
        let waits = self.task(tenant, task)?.state == TaskState::Queued;
        // What ended may be on disk alone.
        let job = if waits { self.job(tenant, task.job()).ok() } else { None };
        let call = job.and_then(|job| job.task_call(task.sequence));
        if let Some(request) = call.and_then(|call| self.spread.request_of(call.class)) {
            let ask = Ask::Demand { owner: self.id, request };
            // Without the head, what this node knows is better than nothing.
            if let Ok(answer) = self.head.ask(tenant, None, &ask, Bytes::new()).await {
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
    async fn answer_plan(self: &Arc<Self>, tenant: &Tenant, token: Option<TokenId>, ask: &Ask) -> Result<Vec<u8>> {
        let Ask::Query(Query::Plan { artifact, options, needs, tasks }) = ask else { return Err(Error::internal("no plan was asked for")) };
        let info = self.artifacts.info(tenant, *artifact).ok_or_else(|| {
            Error::new(Code::NO_SUCH_ARTIFACT, format!("no artifact {} is stored", artifact.short())).hint("submit the file")
        })?;
        let place = PlaceRequest {
            owner: self.id,
            shape: shape(options, info.memory_initial_bytes)?,
            tasks: *tasks,
            priority: options.priority,
            placement: options.placement.clone(),
            needs: needs.clone(),
        };
        self.head.ask(tenant, token, &Ask::Place(place), Bytes::new()).await.map(|answer| answer.to_vec())
    }

    /// Why a task is where it is, in one line.
    fn why(&self, tenant: &Tenant, task: TaskId) -> Result<String> {
        let record = self.task(tenant, task)?;
        Ok(match record.state {
            TaskState::Compiling => format!("{task} waits for its artifact {} to be compiled", record.artifact.short()),
            TaskState::Queued => self.why_queued(&*self.job(tenant, task.job())?, task),
            TaskState::Running => {
                let since = now_ms().saturating_sub(record.started_ms.unwrap_or_default());
                let since = rwasm_types::format_duration(Duration::from_millis(since));
                let on = record.node.map_or_else(|| "no node".to_owned(), |node| format!("node {node}"));
                format!("{task} has been on {on} for {since} (attempt {})", record.attempt.0)
            }
            TaskState::Succeeded | TaskState::Cancelled | TaskState::Failed => past::why(&record),
        })
    }

    fn why_queued(&self, job: &Job, task: TaskId) -> String {
        let Some(call) = job.task_call(task.sequence) else { return format!("{task} waits") };
        if let Some(actor) = call.actor {
            return self.why_call_waits(&job.tenant, task, actor);
        }
        if self.draining.is_on() {
            return format!("{task} waits for another node: node {} takes no more work (it is drained)", self.id);
        }
        let dispatcher = self.dispatcher.lock();
        let (ahead, free, capacity) = (dispatcher.queued(), dispatcher.free().clone(), dispatcher.capacity().clone());
        drop(dispatcher);
        if let Some(lacking) = self.lacks(&call.grants.needs()) {
            return format!("{task} waits for a node that offers {lacking} and has {}; node {} does not offer it", call.shape, self.id);
        }
        if !self.may_run_here(&call.options.placement) {
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

fn listing<T>(found: Found<T>) -> Listing<T> {
    Listing { rows: found.rows, total: found.total, missing: found.missing }
}

/// The node that alone can answer; `None` for what the whole cluster answers.
fn owner(ask: &Ask) -> Option<NodeId> {
    match ask {
        Ask::Query(Query::Job { job }) | Ask::Order(Order::StopJob { job }) => Some(job.owner),
        Ask::Query(Query::Task { task } | Query::Why { task }) => Some(task.owner),
        Ask::Query(Query::Actor { actor }) | Ask::Order(Order::EndActor { actor, .. }) => Some(actor.0.owner),
        Ask::Query(Query::Object { object }) | Ask::Order(Order::ReleaseObject { object }) => Some(object.task.owner),
        Ask::Query(
            Query::Status
            | Query::Nodes
            | Query::Jobs { .. }
            | Query::Tasks { .. }
            | Query::Timeline { .. }
            | Query::Summary
            | Query::Artifacts { .. }
            | Query::Artifact { .. }
            | Query::Tags { .. }
            | Query::Tenants
            | Query::Tokens { .. }
            | Query::Invitations
            | Query::Policy
            | Query::Groups
            | Query::Plan { .. }
            | Query::Objects { .. }
            | Query::Actors { .. }
            | Query::NamedActor { .. }
            | Query::Memory,
        )
        | Ask::Order(
            Order::DrainNode { .. }
            | Order::UndrainNode { .. }
            | Order::TagArtifact { .. }
            | Order::Untag { .. }
            | Order::RemoveArtifact { .. }
            | Order::CollectArtifacts { .. }
            | Order::CreateGroup(_)
            | Order::RemoveGroup { .. }
            | Order::CreateTenant { .. }
            | Order::DeleteTenant { .. }
            | Order::CreateToken { .. }
            | Order::RevokeToken { .. }
            | Order::SetPolicy { .. }
            | Order::RevokeInvitation { .. }
            | Order::InviteNode { .. },
        )
        | Ask::Offered { .. }
        | Ask::Place(_)
        | Ask::Demand { .. }
        | Ask::NameActor { .. }
        | Ask::UnnameActor { .. }
        | Ask::TenantUse => None,
    }
}

fn json<T: Serialize>(answer: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(answer).map_err(|error| Error::internal(format!("an answer has no JSON: {error}")))
}
