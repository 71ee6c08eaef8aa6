//! What the head knows of the nodes.

use std::collections::BTreeMap;

use rwasm_types::{NodeId, Offer, ResourceSet};

/// A node as the head sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// All it has.
    pub capacity: ResourceSet,
    /// What its own owner's tasks held at the last heartbeat.
    pub local: ResourceSet,
    /// What leases of other owners may hold.
    pub leased: ResourceSet,
    /// Whether it takes no more work.
    pub draining: bool,
    /// What guests may have there.
    pub offer: Offer,
}

impl NodeView {
    /// How many slots of a shape are free. A shape that asks for nothing is counted by nodes, one each.
    fn room(&self, shape: &ResourceSet) -> u64 {
        if self.draining {
            return 0;
        }
        let mut free = self.capacity.clone();
        let fits = free.take(&self.leased) && free.take(&self.local);
        if fits { free.count_of(shape).unwrap_or(1) } else { 0 }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<NodeId, NodeView>,
}

impl Cluster {
    pub(crate) fn nodes(&self) -> &BTreeMap<NodeId, NodeView> {
        &self.nodes
    }

    pub(crate) fn join(&mut self, node: NodeId, capacity: ResourceSet, offer: Offer) {
        let view = self.nodes.entry(node).or_default();
        (view.capacity, view.offer) = (capacity, offer);
    }

    pub(crate) fn report(&mut self, node: NodeId, local: ResourceSet) {
        if let Some(view) = self.nodes.get_mut(&node) {
            view.local = local;
        }
    }

    /// Sets whether a node takes no more work; says whether that is new.
    pub(crate) fn drain(&mut self, node: NodeId, draining: bool) -> bool {
        let Some(view) = self.nodes.get_mut(&node) else { return false };
        std::mem::replace(&mut view.draining, draining) != draining
    }

    pub(crate) fn leave(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    pub(crate) fn lease(&mut self, node: NodeId, held: &ResourceSet) {
        if let Some(view) = self.nodes.get_mut(&node) {
            view.leased.give(held);
        }
    }

    pub(crate) fn unlease(&mut self, node: NodeId, held: &ResourceSet) {
        if let Some(view) = self.nodes.get_mut(&node) {
            let taken = view.leased.take(held);
            debug_assert!(taken, "a lease held more than its node had leased");
        }
    }

    /// The node with the most room for a shape, of those that may be used; the lowest number among equals.
    pub(crate) fn roomiest(&self, shape: &ResourceSet, usable: impl Fn(NodeId, &NodeView) -> bool) -> Option<(NodeId, u64)> {
        let usable = self.nodes.iter().filter(|(node, view)| usable(**node, view));
        let rooms = usable.map(|(node, view)| (*node, view.room(shape))).filter(|(_, room)| *room > 0);
        rooms.max_by_key(|(node, room)| (*room, std::cmp::Reverse(*node)))
    }
}
