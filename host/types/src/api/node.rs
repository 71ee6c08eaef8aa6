//! What is told of a node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::UnixMs;
use crate::{Name, NodeId, ResourceSet};

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its number.
    pub id: NodeId,
    /// The name it was started with; the machine's by default.
    pub name: Name,
    /// Whether the head hears from it.
    pub alive: bool,
    /// Whether the head runs in the same process.
    pub head: bool,
    /// Where other nodes reach it.
    #[serde(default)]
    pub data_address: Option<String>,
    /// Where drivers reach it.
    #[serde(default)]
    pub gateway_address: Option<String>,
    /// All it has.
    pub capacity: ResourceSet,
    /// What running tasks hold, its own and those of leases.
    pub used: ResourceSet,
    /// Labels it was started with.
    #[serde(default)]
    pub labels: BTreeMap<Name, String>,
    /// Tasks that it owns and that wait.
    pub tasks_queued: u64,
    /// Tasks that run on it.
    pub tasks_running: u64,
    /// Resident memory of its daemon, in bytes.
    pub memory_bytes: u64,
    /// When it joined.
    pub joined_ms: UnixMs,
    /// When it was lost.
    #[serde(default)]
    pub lost_ms: Option<UnixMs>,
    /// How far its clock is ahead of the head's, in milliseconds; behind if negative. What the network takes is in it.
    #[serde(default)]
    pub clock_ahead_ms: i64,
    /// Set while it takes no more work.
    #[serde(default)]
    pub drain: Option<Drain>,
}

impl NodeRecord {
    /// How far clocks of one cluster may be apart before it is said, in milliseconds.
    pub const CLOCKS_APART_MS: u64 = 2_000;

    /// Whether its clock is so far from the head's that the times it tells mislead.
    pub fn clock_is_off(&self) -> bool {
        self.clock_ahead_ms.unsigned_abs() >= Self::CLOCKS_APART_MS
    }

    /// Where the node is, in one word: `alive`, `draining` while something still runs on it, `drained`, `lost`.
    pub fn state(&self) -> &'static str {
        match self.drain {
            _ if !self.alive => "lost",
            None => "alive",
            Some(_) if self.tasks_running > 0 => "draining",
            Some(_) => "drained",
        }
    }
}

/// Since when a node takes no more work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When that began.
    pub since_ms: UnixMs,
    /// When what still runs there is ended; absent where the node is about to leave and decides for itself.
    #[serde(default)]
    pub deadline_ms: Option<UnixMs>,
}
