//! Actors in questions and answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::UnixMs;
use crate::{ActorId, ActorName, ArtifactDigest, Error, JobId, NodeId, Tenant};

/// Where an actor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActorState {
    /// It waits for a place, or is being made.
    Pending,
    /// It takes calls.
    Alive,
    /// It ended, and is being made anew.
    Restarting,
    /// It takes no calls any more.
    Dead,
}

impl fmt::Display for ActorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Alive => "alive",
            Self::Restarting => "restarting",
            Self::Dead => "dead",
        })
    }
}

/// An actor, as its owner knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorRecord {
    /// Its id.
    pub id: ActorId,
    /// Its name, if it has one.
    #[serde(default)]
    pub name: Option<ActorName>,
    /// Whose it is.
    pub tenant: Tenant,
    /// The job that made it.
    pub job: JobId,
    /// Whether it outlives the driver that made it.
    pub detached: bool,
    /// Its class: the resource that it is.
    pub class: String,
    /// The artifact that has its class.
    pub artifact: ArtifactDigest,
    /// Where it is in its life.
    pub state: ActorState,
    /// The node that it lives on.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// How often it was made anew.
    pub restarts: u32,
    /// Calls that wait or run.
    pub calls: u64,
    /// When it was submitted.
    pub created_ms: UnixMs,
    /// When it died.
    #[serde(default)]
    pub ended_ms: Option<UnixMs>,
    /// Why it died.
    #[serde(default)]
    pub error: Option<Error>,
}

/// An actor and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedActor {
    /// The name.
    pub name: ActorName,
    /// Who has it.
    pub actor: ActorId,
}
