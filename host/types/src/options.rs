//! How a task is to be run: what it needs, how far it may go, how often it may be tried.

use serde::{Deserialize, Serialize};

use crate::{Name, Placement, Quantity, ResourceSet, TaskLimits};

/// Who goes first where not all can: -100 to 100, larger first, 0 by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(i8);

impl Priority {
    /// The largest priority; the smallest is its negative.
    pub const MAX: i8 = 100;

    /// The priority of a number; `None` out of range.
    pub fn new(number: i8) -> Option<Self> {
        (-Self::MAX..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn get(self) -> i8 {
        self.0
    }
}

/// The options of a call, as a submit gives them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskOptions {
    /// What a running task holds. `memory` is what admission counts; 0 means the artifact's initial memory and a margin.
    pub resources: ResourceSet,
    /// Where each attempt ends.
    pub limits: TaskLimits,
    /// How often a task that was lost with its node is tried again; `None` is 3 for functions and 0 for commands, which have side effects.
    pub retries_max: Option<u32>,
    /// Who goes first.
    pub priority: Priority,
    /// Whether an instance may serve several tasks of this job; its state is then shared between them.
    pub reuse: bool,
    /// Where it may run.
    #[serde(skip_serializing_if = "Placement::is_anywhere")]
    pub placement: Placement,
    /// A name for people.
    pub name: Option<Name>,
}

impl TaskOptions {
    /// Retries where nothing else is said, for functions.
    pub const RETRIES_DEFAULT: u32 = 3;
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            resources: ResourceSet { cpu: Quantity::ONE, ..ResourceSet::default() },
            limits: TaskLimits::default(),
            retries_max: None,
            priority: Priority::default(),
            reuse: false,
            placement: Placement::default(),
            name: None,
        }
    }
}
