//! An owner's side: its calls and their tasks, what it asked the head for, and the leases that it keeps supplied.

use std::collections::{BTreeMap, VecDeque};

use rwasm_types::{JobId, LeaseId, Priority, Tenant};

use crate::scenario::CallPlan;

/// A lease that is not needed is given back after so long.
pub(crate) const LINGER_MS: u64 = 200;

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskState {
    Waiting,
    /// On its way, running, or on its way back.
    Out,
    Done,
    /// Refused as infeasible, or lost without a retry.
    Failed,
    /// Its owner is gone.
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) owner: usize,
    pub(crate) call: usize,
    pub(crate) attempt: u32,
    pub(crate) state: TaskState,
    pub(crate) takes_ms: u64,
    /// How often its result was published.
    pub(crate) results: u32,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) job: JobId,
    pub(crate) tenant: Tenant,
    pub(crate) priority: Priority,
    pub(crate) retryable: bool,
    pub(crate) plan: CallPlan,
    pub(crate) waiting: VecDeque<usize>,
    pub(crate) request: u64,
    /// Slots that the head was asked for and has not granted.
    pub(crate) asked: u32,
    /// No node can run it.
    pub(crate) refused: bool,
}

#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) node: usize,
    /// `None` for one that only holds a group's bundle.
    pub(crate) call: Option<usize>,
    pub(crate) slots: u32,
    /// Tasks and attempts that were sent and have not ended.
    pub(crate) sent: BTreeMap<usize, u32>,
    pub(crate) retired: bool,
    pub(crate) idle_since_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Owner {
    pub(crate) calls: Vec<Call>,
    pub(crate) leases: BTreeMap<LeaseId, Owned>,
    pub(crate) last_request: u64,
}

impl Owner {
    /// The call that a request is for.
    pub(crate) fn call_of(&mut self, request: u64) -> Option<usize> {
        self.calls.iter().position(|call| call.request == request)
    }

    /// Tasks of a lease that is over go back to where they waited, or nowhere: the caller decides.
    pub(crate) fn drop_lease(&mut self, lease: LeaseId) -> Option<Owned> {
        self.leases.remove(&lease)
    }
}
