//! What is said of actors: records, lists, and the order to end one.

use std::sync::Arc;

use rwasm_types::{
    ActorId, Code, Error, Result, TaskId, TaskState, Tenant,
    api::{ActorRecord, ActorState, Listing},
};
use rwasm_values::Role;

use crate::{
    node::Shared,
    owner::job::{Job, JobCall},
};

/// The error of an actor that is not there, or another tenant's.
fn no_actor(actor: ActorId) -> Error {
    Error::new(Code::NOT_FOUND, format!("there is no actor {actor}")).hint("`rwasm actor list` shows what there is").with("actor", actor)
}

impl Shared {
    /// An actor of this node: its job, the call that makes it, and what is said of it.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`]; another tenant's actor looks the same, and so does one whose job is not in memory any more.
    pub(crate) fn actor_parts(&self, tenant: &Tenant, actor: ActorId) -> Result<(Arc<Job>, Arc<JobCall>, ActorRecord)> {
        let job = self.job(tenant, actor.0.job()).map_err(|_| no_actor(actor))?;
        let call = job.task_call(actor.0.sequence).filter(|call| call.makes_actor()).ok_or_else(|| no_actor(actor))?;
        let record = self.actor_record(&job, &call, actor).ok_or_else(|| no_actor(actor))?;
        Ok((job, call, record))
    }

    fn actor_record(&self, job: &Job, call: &JobCall, id: ActorId) -> Option<ActorRecord> {
        let task = job.task(id.0.sequence)?;
        let (place, calls) = self.actors.place(id);
        let restarts = task.attempt.0.saturating_sub(1);
        let state = match task.state {
            TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled => ActorState::Dead,
            TaskState::Running if place.is_some() => ActorState::Alive,
            _ if restarts > 0 => ActorState::Restarting,
            _ => ActorState::Pending,
        };
        let error = match task.error {
            None if state == ActorState::Dead => Some(Error::new(Code::ACTOR_DIED, "it ended as it was told to")),
            error => error,
        };
        Some(ActorRecord {
            id,
            name: call.options.actor.name.clone(),
            tenant: job.tenant.clone(),
            job: job.id,
            detached: job.detached,
            class: match &call.export.role {
                Role::ActorCreate { resource } => resource.to_string(),
                _ => String::new(),
            },
            artifact: call.artifact,
            state,
            node: task.node.filter(|_| state != ActorState::Pending),
            restarts,
            calls,
            created_ms: task.queued_ms,
            ended_ms: task.ended_ms,
            error,
        })
    }

    /// Why a call waits that is not on its way.
    pub(crate) fn why_call_waits(&self, tenant: &Tenant, task: TaskId, actor: ActorId) -> String {
        match self.actor_parts(tenant, actor) {
            Ok((_, _, record)) if record.state == ActorState::Alive => format!("{task} is next to go to actor {actor}"),
            Ok((_, _, record)) => format!("{task} waits for actor {actor}, which is {}: `rwasm why {}` says why", record.state, actor.0),
            Err(_) => format!("{task} waits for actor {actor}"),
        }
    }

    /// A tenant's actors of this node, newest first.
    pub(crate) fn actor_list(&self, tenant: &Tenant, limit: usize) -> Listing<ActorRecord> {
        let mut jobs: Vec<Arc<Job>> = self.jobs.read().values().filter(|job| job.tenant == *tenant).map(Arc::clone).collect();
        jobs.retain(|job| job.calls().iter().any(|call| call.makes_actor()));
        jobs.sort_by_key(|job| std::cmp::Reverse(job.place()));
        let mut listing = Listing::default();
        for job in jobs {
            for (sequence, call) in job.made_actors() {
                listing.total += 1;
                if listing.rows.len() < limit {
                    listing.rows.extend(self.actor_record(&job, &call, ActorId(job.id.task(sequence))));
                }
            }
        }
        listing
    }

    /// Ends an actor: at once, or when it has worked off its calls.
    pub(crate) fn end_actor(&self, tenant: &Tenant, actor: ActorId, drain: bool) -> Result<ActorRecord> {
        let (job, call, record) = self.actor_parts(tenant, actor)?;
        if record.state == ActorState::Dead {
            return Ok(record);
        }
        let sequence = actor.0.sequence;
        if drain {
            self.retire(&job, sequence);
        } else {
            self.cancel(&job, Some(&[sequence]));
        }
        self.actor_record(&job, &call, actor).ok_or_else(|| no_actor(actor))
    }
}
