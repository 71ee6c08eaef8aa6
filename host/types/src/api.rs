//! Questions and answers about a cluster's state: what the command line lists, what REST returns, what nodes tell the head.
//!
//! They travel as JSON. A newer version may add fields and cases; readers ignore fields that they do not know, and a case that they do
//! not know is a typed error.

mod actor;
mod node;
mod object;
mod place;
mod tenant;

use std::{collections::BTreeMap, ops::AddAssign};

use serde::{Deserialize, Serialize};

use crate::{
    ActorId, ActorName, ArtifactDigest, ArtifactName, Attempt, Code, DigestPrefix, Error, JobId, JobState, Name, Needs, NodeId, ObjectId,
    Policy, ResourceSet, Tag, TaskId, TaskOptions, TaskState, Tenant, TokenHash, TokenId,
    view::{JobPage, TaskPage},
};

pub use self::{
    actor::{ActorRecord, ActorState, NamedActor},
    node::{Drain, NodeRecord},
    object::{JobMemory, MemoryRecord, ObjectRecord, ObjectState, Tally},
    place::{BundleRecord, GroupRecord, GroupState, NewGroup, PlaceRequest, PlanRecord, PlannedNode, Reason, TurnedNode},
    tenant::{Invitation, InvitationRecord, NewToken, PolicyRecord, TenantDeleted, TenantRecord, TenantUse, TokenRecord},
};

/// Milliseconds since 1970, UTC.
pub type UnixMs = u64;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Query {
    /// The cluster at a glance; answered by [`ClusterStatus`].
    Status,
    /// Nodes; answered by [`Listing`] of [`NodeRecord`].
    Nodes,
    /// Jobs, newest first; answered by [`Listing`] of [`JobRecord`].
    Jobs {
        /// Only those in this state.
        #[serde(default)]
        state: Option<JobState>,
        /// How many at most.
        #[serde(default = "limit_default")]
        limit: usize,
        /// Which part of them.
        #[serde(default)]
        page: JobPage,
    },
    /// One job; answered by [`JobRecord`].
    Job {
        /// Which.
        job: JobId,
    },
    /// Tasks, newest first; answered by [`Listing`] of [`TaskRecord`].
    Tasks {
        /// Only those of this job.
        #[serde(default)]
        job: Option<JobId>,
        /// Only those in this state.
        #[serde(default)]
        state: Option<TaskState>,
        /// How many at most.
        #[serde(default = "limit_default")]
        limit: usize,
        /// Which part of them.
        #[serde(default)]
        page: TaskPage,
    },
    /// One task; answered by [`TaskRecord`].
    Task {
        /// Which.
        task: TaskId,
    },
    /// Why a task is where it is; answered by [`Reason`].
    Why {
        /// Which.
        task: TaskId,
    },
    /// What ran on which node between two times; answered by [`Listing`] of [`Span`](crate::view::Span), the longest first.
    Timeline {
        /// Only tasks of this job.
        #[serde(default)]
        job: Option<JobId>,
        /// The first moment.
        from_ms: UnixMs,
        /// The last moment.
        to_ms: UnixMs,
        /// How many at most.
        #[serde(default = "limit_default")]
        limit: usize,
    },
    /// Jobs and tasks by state; answered by [`Summary`](crate::view::Summary).
    Summary,
    /// Artifacts, newest first; answered by [`Listing`] of [`ArtifactRecord`].
    Artifacts {
        /// How many at most.
        #[serde(default = "limit_default")]
        limit: usize,
        /// Only those whose digest begins so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<DigestPrefix>,
    },
    /// One artifact; answered by [`ArtifactRecord`].
    Artifact {
        /// Which.
        artifact: ArtifactName,
    },
    /// Tags, in their order; answered by [`Listing`] of [`TagRecord`].
    Tags {
        /// How many at most.
        #[serde(default = "limit_default")]
        limit: usize,
    },
    /// Placement groups, by name; answered by [`Listing`] of [`GroupRecord`].
    Groups,
    /// Where a submit would go; answered by [`PlanRecord`]. Nothing is submitted.
    Plan {
        /// The artifact, which has to be stored.
        artifact: ArtifactDigest,
        /// The options of its tasks.
        options: Box<TaskOptions>,
        /// What they need of their node beside resources.
        #[serde(default)]
        needs: Needs,
        /// How many tasks.
        tasks: u64,
    },
    /// Tenants; answered by [`Listing`] of [`TenantRecord`].
    Tenants,
    /// Join tokens that still let nodes in; answered by [`Listing`] of [`InvitationRecord`].
    Invitations,
    /// Users' tokens; answered by [`Listing`] of [`TokenRecord`].
    Tokens {
        /// Only those of this tenant.
        #[serde(default)]
        tenant: Option<Tenant>,
    },
    /// What the tenant's guests may be granted; answered by [`PolicyRecord`].
    Policy,
    /// Objects, in the order of their ids; answered by [`Listing`] of [`ObjectRecord`].
    Objects {
        /// How many at most.
        #[serde(default = "limit_default")]
        limit: usize,
    },
    /// One object; answered by [`ObjectRecord`].
    Object {
        /// Which.
        object: ObjectId,
    },
    /// Actors that were not forgotten, newest first; answered by [`Listing`] of [`ActorRecord`].
    Actors {
        /// How many at most.
        #[serde(default = "limit_default")]
        limit: usize,
    },
    /// One actor; answered by [`ActorRecord`].
    Actor {
        /// Which.
        actor: ActorId,
    },
    /// Which actor has a name; answered by [`NamedActor`].
    NamedActor {
        /// The name.
        name: ActorName,
    },
    /// What the tenant's objects take; answered by [`Listing`] of [`MemoryRecord`].
    Memory,
}

/// What a list shows where nothing else is asked for; Ray's default too.
fn limit_default() -> usize {
    100
}

/// The most rows of one answer.
pub const LIMIT_MAX: usize = 10_000;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// Cancel a job's tasks and end it; answered by its [`JobRecord`].
    StopJob {
        /// Which.
        job: JobId,
    },
    /// Have a node take no more work; what runs there may go on for so long, and is then ended and tried again elsewhere as its owner
    /// allows. Answered by its [`NodeRecord`].
    DrainNode {
        /// Which.
        node: NodeId,
        /// How long, in milliseconds.
        within_ms: u64,
    },
    /// Have a node take work again; answered by its [`NodeRecord`].
    UndrainNode {
        /// Which.
        node: NodeId,
    },
    /// Give an artifact a tag, which another may have had before; answered by its [`TagRecord`].
    TagArtifact {
        /// Which tag.
        tag: Tag,
        /// What it names from now on.
        artifact: ArtifactName,
    },
    /// Remove a tag, and not what it names; answered by its [`TagRecord`].
    Untag {
        /// Which.
        tag: Tag,
    },
    /// Remove an artifact and its machine code from all nodes; answered by [`Listing`] of [`RemovedArtifact`].
    RemoveArtifact {
        /// Which.
        artifact: DigestPrefix,
        /// Even if a tag names it or a job that has not ended uses it.
        #[serde(default)]
        force: bool,
    },
    /// Remove artifacts that no tag names and no job used for so long; answered by [`Listing`] of [`RemovedArtifact`].
    CollectArtifacts {
        /// How long, in milliseconds.
        unused_for_ms: u64,
        /// Say what would go, and remove nothing.
        #[serde(default)]
        dry_run: bool,
        /// What stays beside that; the head adds what has a tag.
        #[serde(default)]
        keep: Vec<ArtifactDigest>,
    },
    /// Create a placement group; answered by its [`GroupRecord`].
    CreateGroup(NewGroup),
    /// Remove a placement group, and end what runs in it; answered by its last [`GroupRecord`].
    RemoveGroup {
        /// Which.
        name: Name,
    },
    /// Create a tenant; answered by its [`TenantRecord`].
    CreateTenant {
        /// Its name.
        tenant: Tenant,
    },
    /// Delete a tenant with all it has; answered by [`TenantDeleted`].
    DeleteTenant {
        /// Which.
        tenant: Tenant,
        /// Also if it has work that runs or waits, which is stopped.
        #[serde(default)]
        force: bool,
    },
    /// Create a user's token; answered by its [`TokenRecord`].
    CreateToken(NewToken),
    /// Revoke a user's token; answered by its [`TokenRecord`].
    RevokeToken {
        /// Which.
        token: TokenId,
    },
    /// Set what a tenant's guests may be granted; answered by [`PolicyRecord`].
    SetPolicy {
        /// Whose.
        tenant: Tenant,
        /// The policy.
        policy: Policy,
    },
    /// Call a join token back; answered by [`InvitationRecord`].
    RevokeInvitation {
        /// The token's id.
        token: TokenId,
    },
    /// Let nodes join, with a token that whoever asks has drawn; answered by [`Invitation`].
    InviteNode {
        /// The token's id.
        id: TokenId,
        /// What is kept of it.
        hash: TokenHash,
        /// How long it is good for, in milliseconds.
        life_ms: u64,
        /// How many nodes it is good for.
        #[serde(default = "one")]
        nodes: u32,
    },
    /// End an actor: at once, or when all calls before have ended; answered by its [`ActorRecord`].
    EndActor {
        /// Which.
        actor: ActorId,
        /// Let it work off the calls that it has.
        #[serde(default)]
        drain: bool,
    },
    /// End the tenant's own hold of an object, which goes if nobody else holds it; answered by its [`ObjectRecord`].
    ReleaseObject {
        /// Which.
        object: ObjectId,
    },
}

fn one() -> u32 {
    1
}

/// What a driver asks of its gateway, and one process of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// A question.
    Query(Query),
    /// An order.
    Order(Order),
    /// Whether a node offers all of this, asked by gateways; answered by nothing.
    Offered {
        /// What a guest needs of its node.
        needs: Needs,
    },
    /// How much of the tenant's work has not ended, asked by the head alone; answered by [`TenantUse`].
    TenantUse,
    /// Give a name to an actor that is about to be made, unless another has it, asked by its owner; answered by [`NamedActor`].
    NameActor {
        /// The name.
        name: ActorName,
        /// The actor.
        actor: ActorId,
    },
    /// An actor that had a name is over, said by its owner; answered by nothing.
    UnnameActor {
        /// The name.
        name: ActorName,
        /// The actor.
        actor: ActorId,
    },
    /// The head's part of a plan, asked by gateways; answered by [`PlanRecord`].
    Place(PlaceRequest),
    /// Why an owner's request for slots waits at the head, asked by nodes; answered by [`Reason`], which is empty if it does not.
    Demand {
        /// Which owner.
        owner: NodeId,
        /// Which of its requests.
        request: u64,
    },
}

/// Rows, and what is known to be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// How many there are in all, where that is known; more than `rows` when the limit cut them.
    pub total: u64,
    /// What could not be asked, one line each; empty when the answer is whole.
    #[serde(default)]
    pub missing: Vec<String>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), total: 0, missing: Vec::new() }
    }
}

impl<T> Listing<T> {
    /// Adds another part of the same list.
    pub fn merge(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.total += other.total;
        self.missing.extend(other.missing);
    }
}

/// How many tasks are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Wait for their artifact.
    pub compiling: u64,
    /// Wait for a slot.
    pub queued: u64,
    /// Run.
    pub running: u64,
    /// Have a result.
    pub succeeded: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Were cancelled.
    pub cancelled: u64,
}

impl TaskCounts {
    /// All tasks.
    pub fn total(&self) -> u64 {
        self.compiling + self.queued + self.running + self.finished()
    }

    /// Tasks that do not change any more.
    pub fn finished(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    /// The count of a state.
    pub fn of(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Compiling => &mut self.compiling,
            TaskState::Queued => &mut self.queued,
            TaskState::Running => &mut self.running,
            TaskState::Succeeded => &mut self.succeeded,
            TaskState::Failed => &mut self.failed,
            TaskState::Cancelled => &mut self.cancelled,
        }
    }
}

impl AddAssign for TaskCounts {
    fn add_assign(&mut self, mut other: Self) {
        for state in TaskState::ALL {
            *self.of(state) += *other.of(state);
        }
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// What its submitter called it.
    pub name: String,
    /// Who pays.
    pub tenant: Tenant,
    /// Where it is.
    pub state: JobState,
    /// Its tasks by state.
    pub tasks: TaskCounts,
    /// Whether it outlives its driver.
    pub detached: bool,
    /// Of a job for what tasks have started on its node: the driver's job that those tasks belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// The artifacts it calls.
    pub artifacts: Vec<ArtifactDigest>,
    /// When it was opened.
    pub submitted_ms: UnixMs,
    /// When it ended.
    #[serde(default)]
    pub ended_ms: Option<UnixMs>,
    /// The first error of its tasks, or why it ended early.
    #[serde(default)]
    pub error: Option<Error>,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Its id.
    pub id: TaskId,
    /// Its job.
    pub job: JobId,
    /// Who pays.
    pub tenant: Tenant,
    /// The export it calls; `run` for a command.
    pub export: String,
    /// The artifact.
    pub artifact: ArtifactDigest,
    /// Where it is.
    pub state: TaskState,
    /// Which execution this is.
    pub attempt: Attempt,
    /// The node it runs or ran on.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// When its job was submitted.
    #[serde(default)]
    pub job_submitted_ms: UnixMs,
    /// When it was submitted.
    pub queued_ms: UnixMs,
    /// When it was given a slot.
    #[serde(default)]
    pub started_ms: Option<UnixMs>,
    /// When it ended.
    #[serde(default)]
    pub ended_ms: Option<UnixMs>,
    /// Processor time it used, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Error>,
}

/// An artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// Its digest.
    pub digest: ArtifactDigest,
    /// Who submitted it.
    pub tenant: Tenant,
    /// Its size as submitted, in bytes.
    pub size_bytes: u64,
    /// When it was stored.
    pub stored_ms: UnixMs,
    /// When it was last used: now, if it is in use.
    #[serde(default)]
    pub used_ms: UnixMs,
    /// Its machine code in a node's compile cache, in bytes; 0 if it is not compiled.
    #[serde(default)]
    pub code_bytes: u64,
    /// Where it is.
    #[serde(default)]
    pub nodes: Vec<NodeId>,
    /// Jobs that use it and have not ended.
    #[serde(default)]
    pub jobs: Vec<JobId>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The tag.
    pub tag: Tag,
    /// What it names.
    pub digest: ArtifactDigest,
    /// When it was set.
    pub set_ms: UnixMs,
    /// What it named before, in the answer to the order that moved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ArtifactDigest>,
}

/// What was removed of an artifact, on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedArtifact {
    /// Which artifact.
    pub digest: ArtifactDigest,
    /// Where.
    pub node: NodeId,
    /// Its size as submitted, in bytes.
    pub artifact_bytes: u64,
    /// Its machine code, in bytes. Nodes of one user on one machine share that, so that only one of them has removed it.
    pub code_bytes: u64,
}

/// The error of an artifact that is to be removed and is in use.
pub fn artifact_in_use(digest: ArtifactDigest, job: JobId, jobs: usize) -> Error {
    let others = if jobs > 1 { format!(" and {} others", jobs - 1) } else { String::new() };
    Error::new(Code::ARTIFACT_IN_USE, format!("artifact {} is used by job {job}{others}", digest.short()))
        .hint("wait for it with `rwasm job wait`, stop it with `rwasm job stop`, or remove the artifact all the same with --force")
        .with("job", job)
}

/// Tasks that wait for the same resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDemand {
    /// What one of them needs.
    pub shape: ResourceSet,
    /// How many wait.
    pub tasks: u64,
}

/// The cluster at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: String,
    /// The head's version.
    pub version: String,
    /// When the head started.
    pub started_ms: UnixMs,
    /// When this was answered.
    pub now_ms: UnixMs,
    /// Nodes, lost ones of the last hour included.
    pub nodes: Vec<NodeRecord>,
    /// What waits.
    pub pending: Vec<PendingDemand>,
    /// Jobs by state.
    pub jobs: BTreeMap<String, u64>,
}
