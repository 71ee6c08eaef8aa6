//! What owners want and have not been granted.

use std::{cmp::Reverse, collections::BTreeMap};

use rwasm_types::{JobId, Needs, NodeId, Priority, ResourceSet, Tenant};

/// Names a demand: an owner and the number it chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DemandKey {
    /// The owner.
    pub owner: NodeId,
    /// The owner's number for it.
    pub request: u64,
}

/// Slots that an owner wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// For which job.
    pub job: JobId,
    /// Of which tenant.
    pub tenant: Tenant,
    /// What one slot holds.
    pub shape: ResourceSet,
    /// What its tasks need of their node beside that.
    pub needs: Needs,
    /// How many are still wanted.
    pub slots: u32,
    /// Who goes first.
    pub priority: Priority,
    /// Whether the owner was told that it is infeasible.
    pub(crate) refused: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Demands {
    /// With the number of its arrival, which is kept when a demand is replaced, so that asking again loses no place.
    entries: BTreeMap<DemandKey, (u64, Demand)>,
    arrivals: u64,
}

impl Demands {
    pub(crate) fn set(&mut self, key: DemandKey, demand: Demand) {
        if demand.slots == 0 {
            self.entries.remove(&key);
            return;
        }
        self.arrivals += 1;
        let arrival = self.entries.get(&key).map_or(self.arrivals, |(arrival, _)| *arrival);
        let refused = self.entries.get(&key).is_some_and(|(_, old)| old.refused && old.shape == demand.shape && old.needs == demand.needs);
        self.entries.insert(key, (arrival, Demand { refused, ..demand }));
    }

    pub(crate) fn get(&self, key: DemandKey) -> Option<&Demand> {
        self.entries.get(&key).map(|(_, demand)| demand)
    }

    /// Takes granted slots off; a demand that is met is forgotten.
    pub(crate) fn met(&mut self, key: DemandKey, slots: u32) {
        if let Some((_, demand)) = self.entries.get_mut(&key) {
            demand.slots = demand.slots.saturating_sub(slots);
            if demand.slots == 0 {
                self.entries.remove(&key);
            }
        }
    }

    pub(crate) fn refused(&mut self, key: DemandKey) {
        if let Some((_, demand)) = self.entries.get_mut(&key) {
            demand.refused = true;
        }
    }

    pub(crate) fn forget_refusals(&mut self) {
        self.entries.values_mut().for_each(|(_, demand)| demand.refused = false);
    }

    pub(crate) fn remove_owner(&mut self, owner: NodeId) {
        self.entries.retain(|key, _| key.owner != owner);
    }

    /// Highest priority first, then by arrival.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (DemandKey, &Demand)> {
        let mut order: Vec<_> = self.entries.iter().collect();
        order.sort_by_key(|(key, (arrival, demand))| (Reverse(demand.priority), *arrival, **key));
        order.into_iter().map(|(key, (_, demand))| (*key, demand))
    }

    pub(crate) fn keys_in_order(&self) -> Vec<DemandKey> {
        self.in_order().map(|(key, _)| key).collect()
    }
}
