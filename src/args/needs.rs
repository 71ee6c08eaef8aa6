//! What a task holds while it runs, and where it may run.

use clap::Args;
use rwasm_types::{GroupRef, LabelSelector, NodeId, Priority, Quantity};

use super::{Resources, priority, resources};

/// What a task holds while it runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct NeedArgs {
    /// Cores that a task holds
    #[arg(long, value_name = "N", default_value = "1", help_heading = "What each task needs")]
    pub(crate) num_cpus: Quantity,
    /// Graphics processors that a task holds
    #[arg(long, value_name = "N", default_value = "0", help_heading = "What each task needs")]
    pub(crate) num_gpus: Quantity,
    /// Custom resources that a task holds, as JSON: '{"license": 1}'
    #[arg(long, value_name = "JSON", value_parser = resources, help_heading = "What each task needs")]
    pub(crate) resources: Option<Resources>,
    /// Tries after a node was lost; 3 for functions and 0 for commands by default
    #[arg(long, value_name = "N", help_heading = "What each task needs")]
    pub(crate) max_retries: Option<u32>,
    /// Who goes first, -100 to 100
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true, value_parser = priority, help_heading = "What each task needs")]
    pub(crate) priority: Priority,
    /// A condition on labels of the node, 'zone=a', 'zone!=a', 'zone in (a, b)', 'zone' or '!zone'; all that are given must hold
    #[arg(long, value_name = "CONDITION", help_heading = "What each task needs")]
    pub(crate) label: Vec<LabelSelector>,
    /// As --label, for nodes that are taken while one of them has room
    #[arg(long, value_name = "CONDITION", help_heading = "What each task needs")]
    pub(crate) prefer_label: Vec<LabelSelector>,
    /// A node that is taken while it has room
    #[arg(long, value_name = "NODE", help_heading = "What each task needs")]
    pub(crate) prefer_node: Option<NodeId>,
    /// The only node that may run it
    #[arg(long, value_name = "NODE", help_heading = "What each task needs")]
    pub(crate) node: Option<NodeId>,
    /// Spread tasks over nodes from the beginning; else nodes are filled to half first
    #[arg(long, help_heading = "What each task needs")]
    pub(crate) spread: bool,
    /// The placement group that it comes out of, or one of its bundles, as 'trainer:1'
    #[arg(long, value_name = "NAME[:BUNDLE]", help_heading = "What each task needs")]
    pub(crate) placement_group: Option<GroupRef>,
}
