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
    /// How many slots of a shape are free, where tasks without a known lease hold so much. A shape that asks for nothing is counted by nodes,
    /// one each.
    fn room(&self, shape: &ResourceSet, unleased: Option<&ResourceSet>) -> u64 {
        if self.draining {
            return 0;
        }
        let mut free = self.capacity.clone();
        let fits = free.take(&self.leased) && free.take(&self.local) && unleased.is_none_or(|unleased| free.take(unleased));
        if fits { free.count_of(shape).unwrap_or(1) } else { 0 }
    }
}

/// What is left of `all` without `part`, each resource by itself; nothing where that is more.
fn without(all: &ResourceSet, part: &ResourceSet) -> ResourceSet {
    let custom = all.custom.iter().map(|(name, amount)| {
        let part = part.custom.get(name).copied().unwrap_or_default();
        (name.clone(), amount.saturating_sub(part))
    });
    ResourceSet {
        cpu: all.cpu.saturating_sub(part.cpu),
        gpu: all.gpu.saturating_sub(part.gpu),
        memory: all.memory.saturating_sub(part.memory),
        custom: custom.collect(),
    }
}

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<NodeId, NodeView>,
    /// What tasks without a known lease hold on nodes at most: those that ran there when it joined, and those of owners that were lost.
    unleased: BTreeMap<NodeId, ResourceSet>,
}

impl Cluster {
    pub(crate) fn nodes(&self) -> &BTreeMap<NodeId, NodeView> {
        &self.nodes
    }

    /// A node is there; with what leases on it hold, which owners may have told of before.
    pub(crate) fn join(&mut self, node: NodeId, (capacity, offer): (ResourceSet, Offer), held: impl Iterator<Item = ResourceSet>) {
        let view = self.nodes.entry(node).or_default();
        (view.capacity, view.offer) = (capacity, offer);
        view.leased = ResourceSet::default();
        held.for_each(|held| view.leased.give(&held));
        if let Some(unleased) = self.unleased.get_mut(&node) {
            *unleased = without(unleased, &view.leased);
        }
    }

    /// Tasks of other owners hold so much on a node by its own word. Once it has joined, new ones come with a lease, so what has none only gets
    /// less: it is no more than what leases do not explain. Says whether anything changed.
    pub(crate) fn holds(&mut self, node: NodeId, foreign: ResourceSet) -> bool {
        let Some(view) = self.nodes.get(&node) else {
            self.unleased.insert(node, foreign);
            return true;
        };
        let Some(unleased) = self.unleased.get_mut(&node) else { return false };
        let gone = without(unleased, &without(&foreign, &view.leased));
        let left = without(unleased, &gone);
        let changes = left != *unleased;
        *unleased = left;
        changes
    }

    /// An owner tells of a lease: what its tasks hold has one.
    pub(crate) fn told(&mut self, node: NodeId, held: &ResourceSet) {
        if self.nodes.contains_key(&node)
            && let Some(unleased) = self.unleased.get_mut(&node)
        {
            *unleased = without(unleased, held);
        }
        self.lease(node, held);
    }

    /// An owner is gone, and what its lease held on a node may run on.
    pub(crate) fn left(&mut self, node: NodeId, held: &ResourceSet) {
        if self.nodes.contains_key(&node) {
            self.unleased.entry(node).or_default().give(held);
        }
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
        self.unleased.remove(&node);
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
        let rooms = usable.map(|(node, view)| (*node, view.room(shape, self.unleased.get(node)))).filter(|(_, room)| *room > 0);
        rooms.max_by_key(|(node, room)| (*room, std::cmp::Reverse(*node)))
    }
}
