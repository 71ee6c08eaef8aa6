//! Objects in questions and answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::UnixMs;
use crate::{Error, JobId, NodeId, ObjectId, Tenant};

/// Where an object is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectState {
    /// It is not there yet.
    Pending,
    /// It is sealed.
    Ready,
    /// It is gone, though somebody holds it.
    Lost,
}

impl fmt::Display for ObjectState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Lost => "lost",
        })
    }
}

/// An object, as its owner knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Its id.
    pub id: ObjectId,
    /// Whose it is.
    pub tenant: Tenant,
    /// Its type, as WIT on one line; empty as long as it is pending.
    #[serde(rename = "type")]
    pub ty: String,
    /// The hash of its type, in hexadecimal digits.
    #[serde(default)]
    pub type_hash: String,
    /// Bytes of its value.
    pub size_bytes: u64,
    /// Where it is in its life.
    pub state: ObjectState,
    /// Where copies of it are; none of a small one, which is in its owner's directory.
    pub nodes: Vec<NodeId>,
    /// Who holds it: `job j1-2`, `task t1-2-3`, `tenant`, …; of very many the first.
    pub held_by: Vec<String>,
    /// How many hold it.
    pub holders: u64,
    /// Until when its tenant holds it.
    #[serde(default)]
    pub kept_until_ms: Option<UnixMs>,
    /// Why it is lost.
    #[serde(default)]
    pub error: Option<Error>,
}

impl ObjectRecord {
    /// The most holders that a record names.
    pub const HELD_BY_MAX: usize = 16;
}

/// What a tenant's objects take of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRecord {
    /// Which node.
    pub node: NodeId,
    /// Whose.
    pub tenant: Tenant,
    /// Bytes of shared memory that objects of all tenants may take there.
    pub capacity_bytes: u64,
    /// Being written.
    pub creating: Tally,
    /// Sealed, in memory, and read by nobody.
    pub sealed: Tally,
    /// In memory and held there by readers.
    pub pinned: Tally,
    /// On disk alone.
    pub spilled: Tally,
    /// Small, in the directory of their owner.
    pub inline: Tally,
    /// By the job that holds them, of objects that this node owns; those that several jobs hold count for each.
    pub jobs: Vec<JobMemory>,
    /// Of objects that this node owns: those that no job holds, such as what `put` has stored.
    pub no_job: Tally,
}

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What objects that a job holds take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMemory {
    /// Which job.
    pub job: JobId,
    /// Its objects.
    pub held: Tally,
}
