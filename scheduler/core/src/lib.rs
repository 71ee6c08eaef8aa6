//! The head's decisions: which owner gets slots on which node, for how long. No IO, no clock, no threads, no randomness, no hash order:
//! the same events at the same times give the same actions, byte for byte.
//!
//! ```text
//! nodes ── NodeJoined, Reported, Holds, Draining, Lost ▶┌──────┐
//! owners ─ Wanted, LeaseReturned, LeaseHeld ────────▶ │ Core │ ──▶ Action: Grant, Refuse, Retire, Revoke, GroupPlaced, …
//!          GroupWanted, GroupRemoved ───────────────▶ │      │
//! time ─── Tick ────────────────────────────────────▶ └──────┘
//!
//!  demand ─▶ class: what needs the same ─▶ queue: priority, tenant's share, job's share, arrival
//!                    │                         │
//!                 tree: which node has room ◀──┘ whose turn it is ──▶ lease
//! ```
//!
//! The head grants *leases*: so many slots of one shape on one node to one owner. Tasks then flow from the owner to that node and never
//! through the head. A node's own ledger is what admits tasks to run there, so a slot is never oversold even while the head's view of
//! a node is a heartbeat old; leases only decide who may ask.
//!
//! Nothing here looks at all nodes or all demands at each event: `tree` finds a node for a shape along one way from its root, demands
//! for which there was no room are not looked at again before a node that may have room for them has more to offer, and those that are
//! served next stand at the head of ordered sets.

mod class;
mod cluster;
mod demand;
mod explain;
mod filter;
mod group;
mod held;
mod lease;
pub mod limit;
mod place;
mod queue;
mod room;
mod share;
mod step;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use rwasm_types::{Error, JobId, LeaseId, Name, NodeId, Offer, Priority, ResourceSet, Tenant};

use self::{class::Classes, cluster::Cluster, demand::Wishes, group::Reserved, lease::Leases, share::Accounts};
pub use self::{
    cluster::NodeView,
    demand::{Demand, DemandKey, Waiting},
    explain::{Plan, Turned},
    group::{Group, GroupId, GroupView},
    lease::{Lease, LeaseState},
    share::TenantView,
};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node is there, or came back on a new stream, perhaps with another capacity; demands of its owner begin anew.
    NodeJoined {
        /// Which.
        node: NodeId,
        /// All it has.
        capacity: ResourceSet,
        /// Its labels.
        labels: BTreeMap<Name, String>,
        /// What guests may have there.
        offer: Offer,
    },
    /// A heartbeat.
    NodeReported {
        /// Which.
        node: NodeId,
        /// What its own owner's tasks hold there.
        local: ResourceSet,
        /// Leases that its owner still has; they begin anew. What it does not name for [`limit::LEASE_MS`] is over. What the head does not
        /// know is told by [`Event::LeaseHeld`].
        leases: Vec<LeaseId>,
    },
    /// What tasks of other owners hold on a node by its own word, said before it joins and with each heartbeat: tasks outlive their owner's
    /// process, and the head's.
    NodeHolds {
        /// Which.
        node: NodeId,
        /// How much.
        foreign: ResourceSet,
    },
    /// A node is gone, and whatever ran there.
    NodeLost {
        /// Which.
        node: NodeId,
    },
    /// A node takes no more work, or takes work again.
    NodeDraining {
        /// Which.
        node: NodeId,
        /// Whether it takes none.
        draining: bool,
    },
    /// An owner wants slots; it replaces what was wanted under the same key, and 0 slots withdraw it.
    Wanted {
        /// Which owner, which of its requests.
        key: DemandKey,
        /// What is wanted.
        demand: Demand,
    },
    /// An owner gives a lease back, or confirms that it was revoked.
    LeaseReturned {
        /// Who.
        owner: NodeId,
        /// Which.
        lease: LeaseId,
        /// Whether it could not reach the node; it gets others for [`limit::UNREACHABLE_MS`].
        unreachable: bool,
    },
    /// An owner has a lease that was granted in an earlier life of the head, or in one of its own. One that is known is left as it is.
    LeaseHeld {
        /// Which.
        lease: LeaseId,
        /// What it is.
        held: Held,
    },
    /// A placement group is wanted. One of the same number that is there stays as it is.
    GroupWanted {
        /// Which.
        id: GroupId,
        /// What is wanted.
        group: Group,
    },
    /// A placement group is not wanted any more.
    GroupRemoved {
        /// Which.
        id: GroupId,
    },
    /// How much a tenant gets in relation to others.
    TenantWeighed {
        /// Which.
        tenant: Tenant,
        /// From 1, the default, to [`Policy::WEIGHT_MAX`](rwasm_types::Policy::WEIGHT_MAX).
        weight: u32,
    },
    /// Time passed; to be told a few times a second.
    Tick,
}

/// A lease that the head did not know, by its owner's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who holds it.
    pub owner: NodeId,
    /// Where.
    pub node: NodeId,
    /// For which job.
    pub job: JobId,
    /// Of which tenant.
    pub tenant: Tenant,
    /// What one slot holds.
    pub shape: ResourceSet,
    /// How many.
    pub slots: u32,
    /// Of which priority.
    pub priority: Priority,
    /// Whether its work may be taken back while it runs.
    pub retryable: bool,
}

/// What the head is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell an owner that it may send tasks to a node.
    Grant {
        /// Which request is met, at least in part.
        key: DemandKey,
        /// The lease.
        lease: LeaseId,
        /// Where.
        node: NodeId,
        /// How many tasks of the shape at once.
        slots: u32,
        /// The bundle of the demand's placement group that they come out of.
        bundle: Option<u32>,
    },
    /// Tell an owner that no node can ever meet its request as the cluster is now, or that a limit was reached. The former stays and is
    /// met if a node joins that can; the latter does not. Nodes that were lost less than [`limit::ABSENT_MS`] ago count as if they were there.
    Refuse {
        /// Which request.
        key: DemandKey,
        /// Why.
        error: Error,
    },
    /// Tell an owner to send nothing more on a lease, and to give it back when what it sent has ended.
    Retire {
        /// Who holds it.
        owner: NodeId,
        /// Which.
        lease: LeaseId,
        /// Why.
        error: Error,
    },
    /// Tell an owner that a lease is over.
    Revoke {
        /// Who holds it.
        owner: NodeId,
        /// Which.
        lease: LeaseId,
        /// Why.
        error: Error,
    },
    /// All bundles of a group are reserved.
    GroupPlaced {
        /// Which.
        group: GroupId,
        /// The node of each bundle.
        nodes: Vec<NodeId>,
    },
    /// A group lost a node, and waits for another one.
    GroupRescheduling {
        /// Which.
        group: GroupId,
    },
    /// A group cannot be placed as the cluster is now; it stays and is placed if nodes join that can take it,
    /// unless the error says that a limit was reached or that it makes no sense.
    RefuseGroup {
        /// Which.
        group: GroupId,
        /// Why.
        error: Error,
    },
}

/// What goes into one lease: a demand's slots on one node, or out of one bundle.
type SameLease = (DemandKey, u32, Option<(GroupId, u32)>);

/// The state machine.
#[derive(Debug, Default)]
pub struct Core {
    now_ms: u64,
    cluster: Cluster,
    accounts: Accounts,
    classes: Classes,
    wishes: Wishes,
    leases: Leases,
    groups: BTreeMap<GroupId, Reserved>,
    /// Leases that owners have on nodes that are not back, and until when those are waited for.
    absent: BTreeMap<LeaseId, (Held, u64)>,
    /// Owners and nodes that they could not reach, and until when that is remembered.
    unreachable: BTreeMap<(NodeId, NodeId), u64>,
    /// Wishes for which room is kept.
    holders: BTreeSet<u32>,
    /// The gang or group for which room is kept; one at a time.
    gang_holder: Option<u32>,
    /// Leases granted in this step and their actions' places, so that slots for the same go into the same lease.
    step_leases: BTreeMap<SameLease, (LeaseId, usize)>,
    /// Where the next look for leases that were not named begins.
    sweep: u32,
    /// Until when nodes of an earlier life of the head are expected back, so that nothing is infeasible for the lack of one.
    patient_until_ms: u64,
}

impl Core {
    /// An empty cluster whose leases are numbered from one on. Owners keep leases of earlier lives of the head, so each life needs numbers of
    /// its own, above those of all before.
    pub fn numbering(first: LeaseId) -> Self {
        Self { leases: Leases::numbering(first), ..Self::default() }
    }

    /// As [`Core::numbering`], for a later life of a head, which begins at a time: its nodes are about to come back, one after the other, and
    /// what only some of them can meet waits for them for [`limit::ABSENT_MS`].
    pub fn resuming(first: LeaseId, now_ms: u64) -> Self {
        Self { now_ms, patient_until_ms: now_ms + limit::ABSENT_MS, ..Self::numbering(first) }
    }

    /// Takes an event at a time, in milliseconds that never go back, and says what follows from it.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.step_into(now_ms, event, &mut actions);
        actions
    }

    /// As [`Core::step`], adding to actions that are there.
    pub fn step_into(&mut self, now_ms: u64, event: Event, actions: &mut Vec<Action>) {
        self.now_ms = self.now_ms.max(now_ms);
        self.step_leases.clear();
        self.take(event, actions);
        self.settle(actions);
    }

    /// What is known of the nodes, in the order of their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeView> {
        self.cluster.iter().map(|(_, node)| node)
    }

    /// What waits, in the order of the keys.
    pub fn waiting(&self) -> impl Iterator<Item = Waiting> {
        self.wishes.iter().filter_map(|wish| {
            let demand::WishKey::Slots(key) = wish.key else { return None };
            let payer = wish.payer();
            Some(Waiting {
                key,
                job: self.accounts.job(payer.job)?,
                tenant: self.accounts.tenant(payer.tenant)?.name.clone(),
                shape: std::sync::Arc::clone(&self.classes.get(wish.class)?.shape),
                slots: wish.slots,
                priority: wish.standing.priority,
                since_ms: wish.since_ms,
                infeasible: wish.refused,
            })
        })
    }

    /// Leases in force, in the order of their ids.
    pub fn leases(&self) -> impl Iterator<Item = Lease> {
        self.leases.iter().filter_map(|(id, lease)| {
            Some(Lease {
                id,
                owner: lease.owner,
                node: lease.node,
                job: self.accounts.job(lease.payer.job)?,
                tenant: self.accounts.tenant(lease.payer.tenant)?.name.clone(),
                shape: std::sync::Arc::clone(&lease.shape),
                slots: lease.slots,
                priority: lease.priority,
                expires_ms: lease.named_ms + limit::LEASE_MS,
                state: lease.state,
                bundle: lease.bundle,
            })
        })
    }

    /// How many leases are in force.
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// What tenants hold, and which share of the cluster that is.
    pub fn tenants(&self) -> impl Iterator<Item = TenantView<'_>> {
        let millionths = |share: u64| u64::try_from(u128::from(share) * 1_000_000 / u128::from(share::WHOLE)).unwrap_or(u64::MAX);
        self.accounts.tenants().map(move |row| TenantView {
            name: &row.name,
            held: &row.account.held,
            soon: &row.account.soon,
            share: millionths(row.account.share),
        })
    }
}

#[cfg(test)]
mod tests;
