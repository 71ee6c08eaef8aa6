//! Conditions on nodes that the index knows: each gets a bit, a *mark*, that branches of the tree carry upwards, so that a search for
//! labels or custom resources passes over the nodes without them.

use std::collections::BTreeMap;

use rwasm_types::{LabelSelector, Name, Needs, Quantity};

use crate::cluster::NodeView;

/// The node has no graphics processor: work without one goes there first.
pub(crate) const NO_GPU: u64 = 1;

/// What a node must be, and what it must have free beside cpu, gpu and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Condition {
    pub(crate) labels: Vec<LabelSelector>,
    pub(crate) custom: BTreeMap<Name, Quantity>,
    pub(crate) needs: Needs,
}

impl Condition {
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.custom.is_empty() && self.needs.is_empty()
    }

    /// Whether a node is one that could meet it, were all of it free.
    pub(crate) fn suits(&self, node: &NodeView) -> bool {
        self.labels.iter().all(|selector| selector.matches(&node.labels)) && node.offer.lacks(&self.needs).is_none()
    }

    /// Whether a node that has so much free meets it.
    pub(crate) fn is_met(&self, node: &NodeView, free: &BTreeMap<Name, Quantity>) -> bool {
        self.suits(node) && self.custom.iter().all(|(name, amount)| free.get(name).is_some_and(|have| have >= amount))
    }
}

/// The conditions that have a bit. The first bit is [`NO_GPU`].
#[derive(Debug, Default)]
pub(crate) struct Filters {
    slots: Vec<(Condition, u32)>,
}

/// Bits beside [`NO_GPU`].
const SLOTS_MAX: usize = 63;

impl Filters {
    /// A bit for a condition, and whether it is new, so that nodes have to be marked. `None` if all bits are in use: the condition is
    /// then checked node by node.
    pub(crate) fn hold(&mut self, condition: &Condition) -> Option<(u64, bool)> {
        if let Some(at) = self.slots.iter().position(|(known, _)| known == condition) {
            self.slots[at].1 += 1;
            return Some((mark(at), false));
        }
        let entry = (condition.clone(), 1);
        if self.slots.len() < SLOTS_MAX {
            self.slots.push(entry);
            return Some((mark(self.slots.len() - 1), true));
        }
        let at = self.slots.iter().position(|(_, users)| *users == 0)?;
        self.slots[at] = entry;
        Some((mark(at), true))
    }

    /// A user of a bit is gone; the bit is given to another condition when one needs it.
    pub(crate) fn release(&mut self, bit: u64) {
        if let Some((_, users)) = self.slots.get_mut(bit.trailing_zeros() as usize - 1) {
            *users = users.saturating_sub(1);
        }
    }

    /// All marks of a node.
    pub(crate) fn marks(&self, node: &NodeView, free: &BTreeMap<Name, Quantity>) -> u64 {
        let met = self.slots.iter().enumerate().filter(|(_, (condition, _))| condition.is_met(node, free));
        met.fold(0, |marks, (at, _)| marks | mark(at))
    }

    pub(crate) fn any(&self) -> bool {
        !self.slots.is_empty()
    }
}

fn mark(at: usize) -> u64 {
    1 << (at + 1)
}
