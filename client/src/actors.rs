//! Actors: made by tasks that stay, called by tasks of any job.

use std::time::Duration;

use bytes::Bytes;
use rwasm_types::{
    ActorId, ActorName, ArtifactName, Code, Error, Grants, Result, TaskOptions,
    api::{ActorRecord, ActorState, NamedActor, Query},
};
use rwasm_values::{Export, ResourceName, Role};

use crate::{Artifact, Call, Client, Submitter};

/// How often an actor that is waited for is looked at: at first, and after a while.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_LONGEST: Duration = Duration::from_millis(100);

/// An actor: its id, and what can be called on it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Actor {
    id: ActorId,
    artifact: Artifact,
    class: ResourceName,
}

impl Actor {
    /// Its id.
    pub fn id(&self) -> ActorId {
        self.id
    }

    /// Its class: the resource that it is.
    pub fn class(&self) -> &ResourceName {
        &self.class
    }

    /// The artifact that has its class.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// A method by its name, as `increment` or `counter.increment`, with its type as callers see it.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_EXPORT`] with those that there are.
    pub fn method(&self, name: &str) -> Result<Export> {
        self.artifact.info().method(&self.class, name).map(outward)
    }
}

fn outward(export: &Export) -> Export {
    Export { name: export.name.clone(), signature: export.outward().into_owned(), role: export.role.clone() }
}

impl Artifact {
    /// The function of a name that makes an actor, with its type as callers see it, and the class of what it makes.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_CALLABLE`] if it makes none, or as [`rwasm_values::ArtifactInfo::resolve`].
    pub fn creator(&self, name: &str) -> Result<(Export, ResourceName)> {
        let export = self.info().resolve(name)?;
        match &export.role {
            Role::ActorCreate { resource } => Ok((outward(export), resource.clone())),
            _ => {
                let error = Error::new(Code::NOT_CALLABLE, format!("`{}` makes no actor", export.name));
                Err(error.hint("`rwasm inspect` lists what does, as actor-create"))
            }
        }
    }
}

impl Client {
    /// An actor that is there.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is none of that id, or it is another tenant's.
    pub async fn actor(&self, id: ActorId) -> Result<Actor> {
        let record: ActorRecord = self.query(&Query::Actor { actor: id }).await?;
        let artifact = self.stored(&ArtifactName::Digest(record.artifact.into())).await?;
        Ok(Actor { id, artifact, class: record.class.parse()? })
    }

    /// Waits until an actor is alive.
    ///
    /// # Errors
    ///
    /// Why it died, if it did before.
    pub async fn alive(&self, id: ActorId) -> Result<ActorRecord> {
        let mut pause = LOOK_FIRST;
        loop {
            let record: ActorRecord = self.query(&Query::Actor { actor: id }).await?;
            match record.state {
                ActorState::Alive => return Ok(record),
                ActorState::Dead => {
                    let gone = || Error::new(Code::ACTOR_DIED, format!("actor {id} ended before it was alive"));
                    return Err(record.error.unwrap_or_else(gone));
                }
                ActorState::Pending | ActorState::Restarting => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LOOK_LONGEST);
        }
    }

    /// The actor that has a name.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if none has it.
    pub async fn named(&self, name: &ActorName) -> Result<ActorId> {
        self.query::<NamedActor>(&Query::NamedActor { name: name.clone() }).await.map(|named| named.actor)
    }
}

impl Submitter {
    /// Says that tasks will make actors: by a function that does, with what each of them needs. An actor ends with its job, unless that is
    /// detached.
    ///
    /// # Errors
    ///
    /// Why it cannot be called, here or by the cluster.
    pub async fn define_actor(&self, artifact: &Artifact, creator: &str, options: &TaskOptions, grants: &Grants) -> Result<Call> {
        let (export, _) = artifact.creator(creator)?;
        self.define_call(artifact, export, options, grants, None).await
    }

    /// Makes actors, one for each of the encoded arguments. They can be called at once; calls wait until an actor is alive. The outcome of
    /// the task that makes one comes when the actor has ended.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_CALLABLE`] if the call makes no actor, or if the connection ends.
    pub async fn create_actors(&self, artifact: &Artifact, call: &Call, args: Vec<Bytes>) -> Result<Vec<Actor>> {
        let Role::ActorCreate { resource } = &call.export().role else {
            return Err(Error::new(Code::NOT_CALLABLE, format!("`{}` makes no actor", call.export().name)));
        };
        let numbers = self.submit(call, args).await?;
        let actor = |sequence| Actor { id: ActorId(self.id().task(sequence)), artifact: artifact.clone(), class: resource.clone() };
        Ok(numbers.map(actor).collect())
    }

    /// Says that tasks will be calls of a method on an actor. They run in the order in which this job submits them, calls of other methods on
    /// the same actor included.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_EXPORT`] if it has no such method; [`Code::ACTOR_DIED`] or [`Code::ACTOR_CLASS`] by the cluster.
    pub async fn define_method(&self, actor: &Actor, method: &str, options: &TaskOptions) -> Result<Call> {
        self.define_call(&actor.artifact, actor.method(method)?, options, &Grants::default(), Some(actor.id)).await
    }
}
