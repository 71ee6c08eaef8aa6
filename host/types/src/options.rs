//! How a task is to be run: what it needs, how far it may go, how often it may be tried.

use serde::{Deserialize, Serialize};

use crate::{ActorName, Name, Placement, Quantity, ResourceSet, TaskLimits};

/// Who goes first where not all can: -100 to 100, larger first, 0 by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i8", into = "i8")]
pub struct Priority(i8);

/// A number that is no priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no priority: write a number from -{max} to {max}", max = Priority::MAX)]
pub struct PriorityOutOfRange(i8);

impl TryFrom<i8> for Priority {
    type Error = PriorityOutOfRange;

    fn try_from(number: i8) -> Result<Self, PriorityOutOfRange> {
        Self::new(number).ok_or(PriorityOutOfRange(number))
    }
}

impl From<Priority> for i8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

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
    /// Where it makes an actor: how the actor is found, and how many calls it takes.
    #[serde(skip_serializing_if = "ActorOptions::is_default")]
    pub actor: ActorOptions,
}

/// What is asked for of an actor beside what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActorOptions {
    /// The name by which others find it, one of a kind in its tenant.
    pub name: Option<ActorName>,
    /// Calls that may be under way or wait; more are refused.
    pub calls_max: u32,
}

impl ActorOptions {
    /// Calls that may wait where nothing else is said: enough for any batch, and little enough to hold in memory.
    pub const CALLS_DEFAULT: u32 = 100_000;

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for ActorOptions {
    fn default() -> Self {
        Self { name: None, calls_max: Self::CALLS_DEFAULT }
    }
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
            actor: ActorOptions::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_in_its_range_in_json_too() {
        for number in [-100, 0, 100] {
            let priority: Priority = serde_json::from_str(&number.to_string()).unwrap();
            assert_eq!((i32::from(priority.get()), serde_json::to_string(&priority).unwrap()), (number, number.to_string()));
        }
        for text in ["101", "127", "-101", "-128", "128", "1.5", "\"1\""] {
            assert!(serde_json::from_str::<Priority>(text).is_err(), "{text}");
        }
    }
}
