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
    fn room(&self, shape: &ResourceSet, unleased: Option<&Unleased>) -> u64 {
        if self.draining {
            return 0;
        }
        // The larger of both counts, for an owner may tell later of the lease that its tasks have.
        let beside = |others: &ResourceSet| {
            let mut free = self.capacity.clone();
            let fits = free.take(others) && free.take(&self.local);
            if fits { free.count_of(shape).unwrap_or(1) } else { 0 }
        };
        let by_leases = beside(&self.leased);
        unleased.map_or(by_leases, |unleased| by_leases.min(beside(&unleased.all())))
    }
}

/// What tasks without a known lease hold on a node.
#[derive(Debug, Default)]
struct Unleased {
    /// So much at most, by the node's last word that was lower than the one before.
    said: ResourceSet,
    /// What leases hold that were granted since it was first said.
    since: ResourceSet,
}

impl Unleased {
    fn all(&self) -> ResourceSet {
        let mut all = self.said.clone();
        all.give(&self.since);
        all
    }
}

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<NodeId, NodeView>,
    /// What tasks without a known lease hold on nodes at most: those that ran there when it joined, and those of owners that were lost.
    unleased: BTreeMap<NodeId, Unleased>,
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
    }

    /// Tasks of other owners hold so much on a node by its own word. Where it has joined, leases count what came since. Says whether anything
    /// changed.
    pub(crate) fn holds(&mut self, node: NodeId, foreign: ResourceSet) -> bool {
        let joins = !self.nodes.contains_key(&node);
        match self.unleased.get_mut(&node) {
            Some(known) if !foreign.contains(&known.said) => known.said = foreign,
            _ if joins => drop(self.unleased.insert(node, Unleased { said: foreign, ..Unleased::default() })),
            _ => return false,
        }
        if self.unleased.get(&node).is_some_and(|known| known.said == ResourceSet::default()) {
            // Leases count all there is.
            self.unleased.remove(&node);
        }
        true
    }

    /// An owner is gone, and what its lease held on a node may run on.
    pub(crate) fn left(&mut self, node: NodeId, held: &ResourceSet) {
        if self.nodes.contains_key(&node) {
            self.unleased.entry(node).or_default().said.give(held);
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

    /// A lease is granted.
    pub(crate) fn lease(&mut self, node: NodeId, held: &ResourceSet) {
        self.keep(node, held);
        if let Some(known) = self.unleased.get_mut(&node) {
            known.since.give(held);
        }
    }

    /// An owner tells of a lease from before this life of the head; the node's word counts what runs on it.
    pub(crate) fn keep(&mut self, node: NodeId, held: &ResourceSet) {
        if let Some(view) = self.nodes.get_mut(&node) {
            view.leased.give(held);
        }
    }

    pub(crate) fn unlease(&mut self, node: NodeId, held: &ResourceSet) {
        if let Some(view) = self.nodes.get_mut(&node) {
            let taken = view.leased.take(held);
            debug_assert!(taken, "a lease held more than its node had leased");
        }
        if let Some(known) = self.unleased.get_mut(&node) {
            // It was one or the other; a node that has less room than this says queues what it is sent.
            let _ = known.said.take(held) || known.since.take(held);
        }
    }

    /// The node with the most room for a shape, of those that may be used; the lowest number among equals.
    pub(crate) fn roomiest(&self, shape: &ResourceSet, usable: impl Fn(NodeId, &NodeView) -> bool) -> Option<(NodeId, u64)> {
        let usable = self.nodes.iter().filter(|(node, view)| usable(**node, view));
        let rooms = usable.map(|(node, view)| (*node, view.room(shape, self.unleased.get(node)))).filter(|(_, room)| *room > 0);
        rooms.max_by_key(|(node, room)| (*room, std::cmp::Reverse(*node)))
    }
}
