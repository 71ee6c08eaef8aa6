//! Names of actors at their owner: had before the actor is submitted, given back when it has ended.

use std::sync::Arc;

use bytes::Bytes;
use rwasm_runtime::OnEnd;
use rwasm_types::{
    ActorId, ActorName, Code, Error, JobId, Result, Tenant, TokenId,
    api::{ActorRecord, ActorState, Ask, JobRecord, NamedActor, Query},
};
use rwasm_wire::convert;
use serde::de::DeserializeOwned;

use crate::{
    node::{CallRequest, Shared},
    owner::job::Job,
};

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer).map_err(|error| convert::malformed(format_args!("an answer about a name is not understood: {error}")))
}

impl Shared {
    /// Has a name for an actor that is about to be submitted.
    ///
    /// # Errors
    ///
    /// [`Code::NAME_TAKEN`] with the field `actor` if another has it that is not known to be dead.
    async fn have_name(self: &Arc<Self>, tenant: &Tenant, token: Option<TokenId>, name: &ActorName, actor: ActorId) -> Result<()> {
        let mut holder = self.ask_for_name(tenant, name, actor).await?;
        if holder != actor && self.is_over(tenant, token, holder).await {
            // Its owner did not give the name back, because the head was away or the owner is.
            self.give_name_back(tenant, name, holder).await?;
            holder = self.ask_for_name(tenant, name, actor).await?;
        }
        if holder == actor {
            return Ok(());
        }
        let error = Error::new(Code::NAME_TAKEN, format!("actor {holder} is named {name}")).with("actor", holder);
        Err(error.hint("take another name, end that actor with `rwasm actor kill`, or use it with --get-if-exists"))
    }

    /// Has the name, if it has one, of the actor that a call is to make: the job's next task.
    ///
    /// # Errors
    ///
    /// As [`Shared::have_name`].
    pub(crate) async fn name_what_is_made(self: &Arc<Self>, job: &Job, token: Option<TokenId>, request: &CallRequest) -> Result<()> {
        let Some(name) = &request.options.actor.name else { return Ok(()) };
        if request.actor.is_some() {
            return Err(Error::new(Code::INVALID_ARGUMENT, "a call of an actor has no name"));
        }
        let (next, _, _) = job.arrived();
        self.have_name(&job.tenant, token, name, ActorId(job.id.task(next))).await
    }

    async fn ask_for_name(&self, tenant: &Tenant, name: &ActorName, actor: ActorId) -> Result<ActorId> {
        let ask = Ask::NameActor { name: name.clone(), actor };
        Ok(read::<NamedActor>(&self.head.ask(tenant, None, &ask, Bytes::new()).await?)?.actor)
    }

    async fn give_name_back(&self, tenant: &Tenant, name: &ActorName, actor: ActorId) -> Result<()> {
        let ask = Ask::UnnameActor { name: name.clone(), actor };
        self.head.ask(tenant, None, &ask, Bytes::new()).await.map(drop)
    }

    /// Whether an actor is known to be dead. Of one whose owner is not there, nothing is known.
    async fn is_over(self: &Arc<Self>, tenant: &Tenant, token: Option<TokenId>, actor: ActorId) -> bool {
        match self.answer(tenant, token, &Ask::Query(Query::Actor { actor }), Bytes::new()).await {
            Ok(answer) => read::<ActorRecord>(&answer).is_ok_and(|record| record.state == ActorState::Dead),
            // Its job may be about to submit it.
            Err(error) if error.code() == Code::NOT_FOUND => self.is_job_over(tenant, token, actor.0.job()).await,
            Err(_) => false,
        }
    }

    async fn is_job_over(self: &Arc<Self>, tenant: &Tenant, token: Option<TokenId>, job: JobId) -> bool {
        match self.answer(tenant, token, &Ask::Query(Query::Job { job }), Bytes::new()).await {
            Ok(answer) => read::<JobRecord>(&answer).is_ok_and(|record| record.state.is_final()),
            Err(error) => error.code() == Code::NOT_FOUND,
        }
    }

    /// An actor that had a name is over.
    pub(super) fn let_name_go(self: &Arc<Self>, actor: ActorId) {
        let Some(job) = self.jobs.read().get(&actor.0.job()).map(Arc::clone) else { return };
        let Some(name) = job.task_call(actor.0.sequence).and_then(|call| call.options.actor.name.clone()) else { return };
        let (shared, tenant) = (Arc::clone(self), job.tenant.clone());
        self.scope.spawn("unname-actor", OnEnd::Continue, async move {
            if let Err(error) = shared.give_name_back(&tenant, &name, actor).await {
                // Whoever wants the name finds that the actor is dead.
                tracing::warn!(%tenant, %name, %actor, %error, "an actor's name was not given back");
            }
        });
    }
}
