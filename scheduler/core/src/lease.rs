//! Leases in force.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rwasm_types::{JobId, LeaseId, NodeId, Priority, ResourceSet, Tenant};

use crate::{group::GroupId, limit::REVOKED_MS, share::Payer};

/// So many slots of one shape on one node, for one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which.
    pub id: LeaseId,
    /// Who may send tasks.
    pub owner: NodeId,
    /// Where to.
    pub node: NodeId,
    /// For which job.
    pub job: JobId,
    /// Of which tenant.
    pub tenant: Tenant,
    /// What one slot holds.
    pub shape: Arc<ResourceSet>,
    /// How many tasks at once.
    pub slots: u32,
    /// Of which priority.
    pub priority: Priority,
    /// When it is over, unless its owner names it again.
    pub expires_ms: u64,
    /// How far it is on its way back.
    pub state: LeaseState,
    /// The bundle that its slots come out of.
    pub bundle: Option<(GroupId, u32)>,
}

/// How far a lease is on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// In use.
    Active,
    /// Its owner was told to send nothing more and to give it back when what it sent has ended.
    Retired,
    /// Its owner was told that it is over; its slots are free when the owner confirms that, or at the latest after
    /// [`REVOKED_MS`].
    Revoked,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) owner: NodeId,
    pub(crate) owner_place: u32,
    pub(crate) node: NodeId,
    pub(crate) place: u32,
    pub(crate) payer: Payer,
    pub(crate) shape: Arc<ResourceSet>,
    pub(crate) slots: u32,
    pub(crate) priority: Priority,
    pub(crate) retryable: bool,
    /// When its owner named it last.
    pub(crate) named_ms: u64,
    pub(crate) state: LeaseState,
    pub(crate) bundle: Option<(GroupId, u32)>,
}

impl Entry {
    /// What all slots together hold.
    pub(crate) fn held(&self) -> ResourceSet {
        self.shape.times(self.slots)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Leases {
    entries: BTreeMap<LeaseId, Entry>,
    last: u64,
    /// Revoked leases that wait for their owners, in the order in which that is given up.
    revoked: VecDeque<(u64, LeaseId)>,
}

impl Leases {
    pub(crate) fn numbering(first: LeaseId) -> Self {
        Self { last: first.0.saturating_sub(1), ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn next_id(&mut self) -> LeaseId {
        self.last += 1;
        LeaseId(self.last)
    }

    /// Whether an id may have been given out, by this life of the head or an earlier one.
    pub(crate) fn is_given(&self, id: LeaseId) -> bool {
        id.0 <= self.last
    }

    pub(crate) fn insert(&mut self, id: LeaseId, entry: Entry) {
        self.entries.insert(id, entry);
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: LeaseId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Entry> {
        self.entries.remove(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LeaseId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// A lease was revoked, and its owner has some time to confirm.
    pub(crate) fn await_return(&mut self, id: LeaseId, now_ms: u64) {
        self.revoked.push_back((now_ms + REVOKED_MS, id));
    }

    /// A revoked lease whose owner had time enough.
    pub(crate) fn next_overdue(&mut self, now_ms: u64) -> Option<LeaseId> {
        let (due_ms, _) = *self.revoked.front()?;
        if due_ms > now_ms {
            return None;
        }
        self.revoked.pop_front().map(|(_, id)| id)
    }
}
