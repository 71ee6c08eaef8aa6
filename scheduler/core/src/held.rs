//! What runs although this life of the head did not grant it: tasks outlive their owner's process, and the head's. Owners say which leases they
//! have, nodes say what tasks of other owners hold there, and both come back one after the other, in any order.
//!
//! ```text
//! a node joins ────────▶ all that it holds has no lease ──▶ counted beside its leases
//! an owner tells ──────▶ so much of it has one           ──▶ counted as leased
//! an owner is lost ────▶ its leases end, what ran on them goes on for a while, without
//! a node's heartbeat ──▶ it holds less than that         ──▶ what has no lease only gets less
//! ```

use std::sync::Arc;

use rwasm_types::{Code, Error, LeaseId, NodeId, ResourceSet};

use crate::{
    Action, Core, Held,
    lease::{Entry, LeaseState},
    limit::{ABSENT_MS, LEASE_SLOTS_MAX},
    share::Holder,
};

pub(crate) fn over(id: LeaseId) -> Error {
    Error::new(Code::LEASE_OVER, format!("lease {id} is over: the head did not grant it, or was not told for too long that it is in use"))
        .with("lease", id)
}

impl Core {
    /// A node says what tasks of other owners hold there.
    pub(crate) fn node_holds(&mut self, node: NodeId, foreign: ResourceSet) {
        let Some(place) = self.cluster.place(node) else { return self.cluster.expect(node, foreign) };
        let Some(known) = self.cluster.get(place).filter(|node| node.unleased != ResourceSet::default()) else { return };
        // Once it has joined, new tasks come with a lease: what has none is no more than what leases do not explain.
        let unexplained = foreign.without(&self.leased_on(place));
        let left = known.unleased.without(&known.unleased.without(&unexplained));
        if left != known.unleased {
            self.cluster.relieve(place, |node| node.unleased = left);
        }
    }

    /// What leases on a node hold, out of bundles too.
    fn leased_on(&self, place: u32) -> ResourceSet {
        let mut leased = ResourceSet::default();
        let leases = self.cluster.get(place).into_iter().flat_map(|node| node.leases.keys());
        leases.filter_map(|(_, id)| self.leases.get(id.0)).for_each(|lease| leased.give(&lease.held()));
        leased
    }

    /// An owner says that it has a lease. One on a node that is not back yet waits for it a while.
    pub(crate) fn lease_held(&mut self, id: LeaseId, held: Held, out: &mut Vec<Action>) {
        if self.leases.get(id).is_some_and(|lease| lease.owner == held.owner) {
            return;
        }
        let owner = held.owner;
        let sensible = (1..=LEASE_SLOTS_MAX).contains(&held.slots) && self.leases.is_given(id) && self.cluster.place(owner).is_some();
        if !sensible || self.leases.get(id).is_some() || self.absent.get(&id).is_some_and(|(known, _)| known.owner != owner) {
            out.push(Action::Revoke { owner, lease: id, error: over(id) });
        } else if self.cluster.place(held.node).is_none() {
            let until_ms = self.now_ms + ABSENT_MS;
            self.absent.entry(id).or_insert((held, until_ms));
        } else {
            self.adopt(id, &held, out);
        }
    }

    /// Leases on a node that is back count there.
    pub(crate) fn settle_absent(&mut self, node: NodeId, out: &mut Vec<Action>) {
        for (id, (held, _)) in self.absent.extract_if(.., |_, (held, _)| held.node == node).collect::<Vec<_>>() {
            self.adopt(id, &held, out);
        }
    }

    /// Leases on nodes that did not come back are over.
    pub(crate) fn drop_absent(&mut self, out: &mut Vec<Action>) {
        let now_ms = self.now_ms;
        for (id, (held, _)) in self.absent.extract_if(.., |_, (_, until_ms)| *until_ms <= now_ms).collect::<Vec<_>>() {
            let error = Error::new(Code::NODE_LOST, format!("node {} did not come back", held.node)).with("node", held.node);
            out.push(Action::Revoke { owner: held.owner, lease: id, error });
        }
    }

    /// Takes a lease into the books, whether its node has room for it or not: what it stands for runs there.
    fn adopt(&mut self, id: LeaseId, held: &Held, out: &mut Vec<Action>) {
        let amount = held.shape.times(held.slots);
        let (Some(place), Some(owner_place)) = (self.cluster.place(held.node), self.cluster.place(held.owner)) else { return };
        let payer = self.accounts.open(&held.tenant, Holder::Job(held.job));
        let lease = Entry {
            owner: held.owner,
            owner_place,
            node: held.node,
            place,
            payer,
            shape: Arc::new(held.shape.clone()),
            slots: held.slots,
            priority: held.priority,
            retryable: held.retryable,
            named_ms: self.now_ms,
            state: LeaseState::Active,
            bundle: None,
        };
        self.charge(payer, &amount, true);
        self.enter_lease(id, lease, &amount);
        // So much of what runs there has a lease now.
        self.cluster.relieve(place, |node| node.unleased = node.unleased.without(&amount));
        if self.cluster.get(place).is_some_and(|node| node.draining) {
            self.retire(id, drained(held.node), out);
        }
    }
}

/// Why leases on a node are retired.
pub(crate) fn drained(node: NodeId) -> Error {
    Error::new(Code::NODE_DRAINED, format!("node {node} is being drained")).with("node", node)
}
