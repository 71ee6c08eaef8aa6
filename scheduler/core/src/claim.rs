//! After the head started anew: owners say which leases they hold, and nodes come back one after the other, in any order.

use std::sync::Arc;

use rwasm_types::{Code, Error, LeaseId, NodeId};

use crate::{
    Action, Claim, Core,
    lease::{Entry, LeaseState},
    limit::{CLAIM_MS, LEASE_SLOTS_MAX},
};

pub(crate) fn over(id: LeaseId) -> Error {
    Error::new(Code::LEASE_OVER, format!("lease {id} is over: the head does not know it, or was not told for too long that it is in use"))
        .with("lease", id)
}

impl Core {
    /// An owner says that it holds a lease of an earlier life of the head. One on a node that is not back yet waits for it a while.
    pub(crate) fn claim(&mut self, id: LeaseId, claim: Claim, out: &mut Vec<Action>) {
        if self.leases.get(id).is_some_and(|lease| lease.owner == claim.owner) {
            return;
        }
        let owner = claim.owner;
        let sensible = (1..=LEASE_SLOTS_MAX).contains(&claim.slots) && self.leases.is_earlier(id) && self.cluster.place(owner).is_some();
        if !sensible || self.leases.get(id).is_some() || self.claims.get(&id).is_some_and(|(known, _)| known.owner != owner) {
            out.push(Action::Revoke { owner, lease: id, error: over(id) });
        } else if self.cluster.place(claim.node).is_none() {
            let until_ms = self.now_ms + CLAIM_MS;
            self.claims.entry(id).or_insert((claim, until_ms));
        } else {
            self.adopt(id, &claim, out);
        }
    }

    /// Claims on a node that is back are taken over.
    pub(crate) fn settle_claims(&mut self, node: NodeId, out: &mut Vec<Action>) {
        for (id, (claim, _)) in self.claims.extract_if(.., |_, (claim, _)| claim.node == node).collect::<Vec<_>>() {
            self.adopt(id, &claim, out);
        }
    }

    /// Claims on nodes that did not come back, or of owners that are gone, are given up.
    pub(crate) fn drop_claims(&mut self, out: &mut Vec<Action>) {
        let now_ms = self.now_ms;
        for (id, (claim, _)) in self.claims.extract_if(.., |_, (_, until_ms)| *until_ms <= now_ms).collect::<Vec<_>>() {
            out.push(Action::Revoke { owner: claim.owner, lease: id, error: over(id) });
        }
    }

    fn adopt(&mut self, id: LeaseId, claim: &Claim, out: &mut Vec<Action>) {
        let held = claim.shape.times(claim.slots);
        let place = self.cluster.place(claim.node);
        let fits = place.and_then(|place| self.cluster.get(place)).is_some_and(|node| node.unleased().contains(&held));
        let (Some(place), Some(owner_place), true) = (place, self.cluster.place(claim.owner), fits) else {
            out.push(Action::Revoke { owner: claim.owner, lease: id, error: over(id) });
            return;
        };
        let payer = self.accounts.open(&claim.tenant, claim.job);
        let lease = Entry {
            owner: claim.owner,
            owner_place,
            node: claim.node,
            place,
            payer,
            shape: Arc::new(claim.shape.clone()),
            slots: claim.slots,
            priority: claim.priority,
            retryable: claim.retryable,
            named_ms: self.now_ms,
            state: LeaseState::Active,
            bundle: None,
        };
        self.charge(payer, &held, true);
        self.enter_lease(id, lease, &held);
    }
}
