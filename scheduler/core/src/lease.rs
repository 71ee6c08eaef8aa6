//! Leases in force.

use std::collections::BTreeMap;

use rwasm_types::{JobId, LeaseId, NodeId, Quantity, ResourceSet, Tenant};

/// So many slots of one shape on one node, for one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who may send tasks.
    pub owner: NodeId,
    /// Where to.
    pub node: NodeId,
    /// For which job.
    pub job: JobId,
    /// Of which tenant.
    pub tenant: Tenant,
    /// What one slot holds.
    pub shape: ResourceSet,
    /// How many tasks at once.
    pub slots: u32,
}

impl Lease {
    /// What all slots together hold.
    pub(crate) fn held(&self) -> ResourceSet {
        let times = |amount: Quantity| Quantity::from_parts(amount.parts().saturating_mul(self.slots.into())).unwrap_or_default();
        ResourceSet {
            cpu: times(self.shape.cpu),
            gpu: times(self.shape.gpu),
            memory: self.shape.memory.saturating_mul(self.slots.into()),
            custom: self.shape.custom.iter().map(|(name, amount)| (name.clone(), times(*amount))).collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Leases {
    entries: BTreeMap<LeaseId, Lease>,
    last: u64,
}

impl Leases {
    pub(crate) fn numbering(first: LeaseId) -> Self {
        Self { last: first.0.saturating_sub(1), ..Self::default() }
    }

    /// Adds a lease that its owner has; says whether it was not known.
    pub(crate) fn keep(&mut self, id: LeaseId, lease: &Lease) -> bool {
        let new = !self.entries.contains_key(&id);
        if new {
            self.entries.insert(id, lease.clone());
        }
        new
    }

    pub(crate) fn insert(&mut self, lease: Lease) -> LeaseId {
        self.last += 1;
        let id = LeaseId(self.last);
        self.entries.insert(id, lease);
        id
    }

    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        self.entries.remove(&id)
    }

    /// Removes all leases on a node or of its owner.
    pub(crate) fn remove_node(&mut self, node: NodeId) -> Vec<(LeaseId, Lease)> {
        self.entries.extract_if(.., |_, lease| lease.node == node || lease.owner == node).collect()
    }

    /// Leases on a node.
    pub(crate) fn on(&self, node: NodeId) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.iter().filter(move |(_, lease)| lease.node == node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.entries.iter().map(|(id, lease)| (*id, lease))
    }
}
