//! Where work would go.

use serde::{Deserialize, Serialize};

use crate::{Error, Needs, NodeId, Placement, Priority, ResourceSet};

/// What the head has to know to say where tasks would go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRequest {
    /// The node that would own them.
    pub owner: NodeId,
    /// What one of them holds.
    pub shape: ResourceSet,
    /// How many.
    pub tasks: u64,
    /// Who goes first.
    pub priority: Priority,
    /// Where they may run.
    pub placement: Placement,
    /// What they need of their node beside resources.
    #[serde(default)]
    pub needs: Needs,
}

/// Where tasks would go if they were submitted now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// What one of them holds.
    pub shape: ResourceSet,
    /// Nodes and how many would run there at once, the gateway's own node first.
    pub placed: Vec<PlannedNode>,
    /// Tasks that would wait.
    pub waiting: u64,
    /// Why none can ever run, as the cluster is.
    #[serde(default)]
    pub infeasible: Option<Error>,
    /// Nodes that would run none, and why.
    pub turned: Vec<TurnedNode>,
}

/// A node that would run tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNode {
    /// Which.
    pub node: NodeId,
    /// How many at once.
    pub tasks: u64,
}

/// A node that would run no task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedNode {
    /// Which.
    pub node: NodeId,
    /// Why, as a clause.
    pub why: String,
}
