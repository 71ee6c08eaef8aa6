//! What the head knows of the nodes, and the index over it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use rwasm_types::{LeaseId, Name, NodeId, Priority, Quantity, ResourceSet};

use crate::{
    filter::{Condition, Filters, NO_GPU},
    tree::{Offer, Tree},
};

/// A node as the head sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its number.
    pub id: NodeId,
    /// All it has.
    pub capacity: ResourceSet,
    /// Its labels.
    pub labels: BTreeMap<Name, String>,
    /// What guests may have there.
    pub offer: rwasm_types::Offer,
    /// What its own owner's tasks held at the last heartbeat.
    pub local: ResourceSet,
    /// What leases of other owners and bundles of placement groups hold.
    pub leased: ResourceSet,
    /// What tasks without a known lease hold there at most: those that ran there when it joined, and those of owners that were lost.
    pub unleased: ResourceSet,
    /// What is kept for demands for which room is made.
    pub held_back: ResourceSet,
    /// Whether it takes no more work.
    pub draining: bool,
    /// Leases on it, the first to go first, and whether they may be taken back at once.
    pub(crate) leases: BTreeMap<(Priority, Reverse<LeaseId>), bool>,
    /// Leases that its owner has elsewhere.
    pub(crate) owned: BTreeSet<LeaseId>,
    /// Demands for which room is made here.
    pub(crate) holds: BTreeSet<u32>,
    /// Demands that its owner has waiting.
    pub(crate) waiting: u32,
}

impl NodeView {
    /// What may be given out, were nothing held back.
    pub fn free(&self) -> ResourceSet {
        let mut free = self.capacity.clone();
        [&self.leased, &self.unleased, &self.local].into_iter().for_each(|held| free.take_saturating(held));
        free
    }

    /// What may be given out to anyone.
    pub fn offered(&self) -> ResourceSet {
        let mut free = self.free();
        free.take_saturating(&self.held_back);
        free
    }

    fn index(&self, filters: &Filters) -> Offer {
        if self.draining {
            return Offer::NONE;
        }
        let left = |capacity: u64, of: fn(&ResourceSet) -> u64| {
            [&self.leased, &self.unleased, &self.local, &self.held_back].into_iter().map(of).fold(capacity, u64::saturating_sub)
        };
        let cpu = left(self.capacity.cpu.parts(), |set| set.cpu.parts());
        let gpu = left(self.capacity.gpu.parts(), |set| set.gpu.parts());
        let memory = left(self.capacity.memory, |set| set.memory);
        let marks = if filters.any() { filters.marks(self, &self.offered().custom) } else { 0 };
        let used = used(self.capacity.cpu.parts(), cpu).max(used(self.capacity.gpu.parts(), gpu)).max(used(self.capacity.memory, memory));
        let victim = self.leases.iter().find(|(_, takeable)| **takeable);
        Offer {
            cpu,
            gpu,
            memory,
            marks: marks | if self.capacity.gpu.is_zero() { NO_GPU } else { 0 },
            used,
            victim: victim.map_or(Offer::NO_VICTIM, |((priority, _), _)| priority.get().into()),
        }
    }
}

/// How much of a resource is in use, of [`Offer::FULL`].
fn used(capacity: u64, free: u64) -> u32 {
    // So few bits that the product fits.
    let shift = 16u32.saturating_sub(capacity.leading_zeros());
    let used = ((capacity - free) >> shift) * u64::from(Offer::FULL);
    used.checked_div(capacity >> shift).unwrap_or(0) as u32
}

/// The nodes, by place: a small number that is used again when a node is gone.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    places: BTreeMap<NodeId, u32>,
    nodes: Vec<Option<NodeView>>,
    free_places: BTreeSet<u32>,
    filters: Filters,
    pub(crate) tree: Tree,
    /// All that the nodes have.
    pub(crate) total: ResourceSet,
    gpu_nodes: usize,
    /// What runs on nodes that are about to join.
    expected: BTreeMap<NodeId, ResourceSet>,
    /// Places that have more to offer than before, until they were looked at.
    gains: BTreeSet<u32>,
    /// Nodes that were lost a moment ago, and until when they are expected back.
    missed: BTreeMap<NodeId, (NodeView, u64)>,
}

impl Cluster {
    /// Whether some nodes have graphics processors and others have none.
    pub(crate) fn is_mixed(&self) -> bool {
        self.gpu_nodes > 0 && self.gpu_nodes < self.places.len()
    }

    pub(crate) fn place(&self, node: NodeId) -> Option<u32> {
        self.places.get(&node).copied()
    }

    pub(crate) fn get(&self, place: u32) -> Option<&NodeView> {
        self.nodes.get(place as usize)?.as_ref()
    }

    fn get_mut(&mut self, place: u32) -> Option<&mut NodeView> {
        self.nodes.get_mut(place as usize)?.as_mut()
    }

    pub(crate) fn find(&self, node: NodeId) -> Option<&NodeView> {
        self.get(self.place(node)?)
    }

    /// In the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &NodeView)> {
        self.places.values().filter_map(|place| Some((*place, self.get(*place)?)))
    }

    /// Places of nodes from one on, each once.
    pub(crate) fn places_from(&self, start: u32) -> impl Iterator<Item = u32> {
        let count = self.nodes.len() as u32;
        (start.min(count)..count).chain(0..start.min(count)).filter(|place| self.nodes[*place as usize].is_some())
    }

    /// A node that is not there yet says what runs there.
    pub(crate) fn expect(&mut self, id: NodeId, foreign: ResourceSet) {
        self.expected.insert(id, foreign);
    }

    /// Takes a node in, or its new capacity, labels and offer.
    pub(crate) fn join(&mut self, id: NodeId, (capacity, labels, offer): (ResourceSet, BTreeMap<Name, String>, rwasm_types::Offer)) -> u32 {
        self.missed.remove(&id);
        self.total.give(&capacity);
        self.gpu_nodes += usize::from(!capacity.gpu.is_zero());
        if let Some(place) = self.place(id) {
            if let Some(node) = self.get_mut(place) {
                let old = std::mem::replace(&mut node.capacity, capacity);
                (node.labels, node.offer) = (labels, offer);
                self.total.take_saturating(&old);
                self.gpu_nodes -= usize::from(!old.gpu.is_zero());
            }
            self.refresh(place);
            self.gains.insert(place);
            return place;
        }
        let place = self.free_places.pop_first().unwrap_or(self.nodes.len() as u32);
        let node = NodeView {
            id,
            capacity,
            labels,
            offer,
            unleased: self.expected.remove(&id).unwrap_or_default(),
            local: ResourceSet::default(),
            leased: ResourceSet::default(),
            held_back: ResourceSet::default(),
            draining: false,
            leases: BTreeMap::new(),
            owned: BTreeSet::new(),
            holds: BTreeSet::new(),
            waiting: 0,
        };
        if place as usize == self.nodes.len() {
            self.nodes.push(Some(node))
        } else {
            self.nodes[place as usize] = Some(node)
        }
        self.places.insert(id, place);
        self.refresh(place);
        self.gains.insert(place);
        place
    }

    /// A node is lost; it is expected back until then.
    pub(crate) fn leave(&mut self, id: NodeId, until_ms: u64) {
        let Some(place) = self.places.remove(&id) else { return };
        let Some(node) = self.nodes[place as usize].take() else { return };
        self.free_places.insert(place);
        self.gains.remove(&place);
        self.tree.set(place, Offer::NONE);
        self.total.take_saturating(&node.capacity);
        self.gpu_nodes -= usize::from(!node.capacity.gpu.is_zero());
        self.missed.insert(id, (node, until_ms));
    }

    /// Nodes that were lost a moment ago.
    pub(crate) fn missed(&self) -> impl Iterator<Item = &NodeView> {
        self.missed.values().map(|(node, _)| node)
    }

    /// Nodes that did not come back in time are expected no more; says whether there were any.
    pub(crate) fn miss_no_more(&mut self, now_ms: u64) -> bool {
        let before = self.missed.len();
        self.missed.retain(|_, (_, until_ms)| *until_ms > now_ms);
        self.missed.len() < before
    }

    /// A heartbeat.
    pub(crate) fn report(&mut self, place: u32, local: ResourceSet) {
        let Some(node) = self.get_mut(place).filter(|node| node.local != local) else { return };
        let less = !local.contains(&node.local);
        node.local = local;
        self.refresh(place);
        if less {
            self.gains.insert(place);
        }
    }

    fn refresh(&mut self, place: u32) {
        if let Some(node) = self.get(place) {
            let offer = node.index(&self.filters);
            self.tree.set(place, offer);
        }
    }

    /// Changes a node and says in the index what it offers now.
    pub(crate) fn change(&mut self, place: u32, change: impl FnOnce(&mut NodeView)) {
        if let Some(node) = self.get_mut(place) {
            change(node);
            self.refresh(place);
        }
    }

    /// As [`Cluster::change`], for one that may leave the node with more to offer.
    pub(crate) fn relieve(&mut self, place: u32, change: impl FnOnce(&mut NodeView)) {
        self.change(place, change);
        self.gains.insert(place);
    }

    /// A place that has more to offer than when it was last looked at.
    pub(crate) fn next_gain(&mut self) -> Option<u32> {
        self.gains.pop_first()
    }

    /// A node's owner has a lease elsewhere, or has it no more.
    pub(crate) fn own(&mut self, place: u32, lease: LeaseId, has: bool) {
        if let Some(node) = self.get_mut(place) {
            if has {
                node.owned.insert(lease)
            } else {
                node.owned.remove(&lease)
            };
        }
    }

    /// A node's owner has so many demands waiting, more or less than before.
    pub(crate) fn waits(&mut self, place: u32, by: i32) {
        if let Some(node) = self.get_mut(place) {
            node.waiting = node.waiting.saturating_add_signed(by);
        }
    }

    /// Keeps a condition in the index; 0 where there is none, or no room for it.
    pub(crate) fn hold_filter(&mut self, condition: &Condition) -> u64 {
        if condition.is_empty() {
            return 0;
        }
        match self.filters.hold(condition) {
            Some((bit, is_new)) => {
                if is_new {
                    (0..self.nodes.len() as u32).for_each(|place| self.refresh(place));
                }
                bit
            }
            None => 0,
        }
    }

    pub(crate) fn release_filter(&mut self, bit: u64) {
        if bit != 0 {
            self.filters.release(bit);
        }
    }
}

/// Whether a node has a custom resource left; used where the index does not know a condition.
pub(crate) fn meets(node: &NodeView, condition: &Condition) -> bool {
    let free: BTreeMap<Name, Quantity> = if condition.custom.is_empty() { BTreeMap::new() } else { node.offered().custom };
    condition.is_met(node, &free)
}
