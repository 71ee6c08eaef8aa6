//! Where work would go, what is reserved for it, and why it waits.

use serde::{Deserialize, Serialize};

use super::UnixMs;
use crate::{Error, GroupStrategy, LabelSelector, Name, Needs, NodeId, Placement, Priority, ResourceSet, Tenant};

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

/// A placement group that is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewGroup {
    /// What it is called; one of a name at a time.
    pub name: Name,
    /// What each bundle reserves.
    pub bundles: Vec<ResourceSet>,
    /// How they are laid over nodes.
    #[serde(default)]
    pub strategy: GroupStrategy,
    /// Conditions that the node of every bundle has to meet.
    #[serde(default)]
    pub labels: Vec<LabelSelector>,
    /// Who goes first.
    #[serde(default)]
    pub priority: Priority,
    /// Whether it waits for nodes where the cluster as it is could never hold it.
    #[serde(default)]
    pub wait: bool,
}

/// Where a placement group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupState {
    /// It has never had its bundles.
    Pending,
    /// All its bundles are reserved.
    Placed,
    /// It lost a node, and waits for another one for the bundles that were there.
    Rescheduling,
}

impl std::fmt::Display for GroupState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Placed => "placed",
            Self::Rescheduling => "rescheduling",
        })
    }
}

/// A placement group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// What it is called.
    pub name: Name,
    /// Whose it is.
    pub tenant: Tenant,
    /// Where it is.
    pub state: GroupState,
    /// How its bundles are laid over nodes.
    pub strategy: GroupStrategy,
    /// Conditions that the node of every bundle has to meet.
    pub labels: Vec<LabelSelector>,
    /// Who goes first.
    pub priority: Priority,
    /// Its bundles, in the order in which they were asked for.
    pub bundles: Vec<BundleRecord>,
    /// When it was created.
    pub created_ms: UnixMs,
    /// Why it cannot be placed as the cluster is.
    #[serde(default)]
    pub infeasible: Option<Error>,
}

/// A bundle of a placement group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRecord {
    /// What it reserves.
    pub reserves: ResourceSet,
    /// Where; `None` while it waits for a node.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// What no work has taken of it.
    pub free: ResourceSet,
}

/// Why something is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// One line.
    pub why: String,
}
