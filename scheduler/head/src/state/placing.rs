//! The core and the nodes: what happened goes in, what follows goes to the owners; and why something waits, and where it would go.

use std::time::Instant;

use rwasm_auth::Edit;
use rwasm_core::{Action, Core, Demand, DemandKey, Event};
use rwasm_types::{
    Incarnation, JobId, LeaseId, NodeId, Result, Tenant,
    api::{PlaceRequest, PlanRecord, PlannedNode, TurnedNode},
};
use rwasm_wire::msg;

use super::{Shared, State, message};
use crate::numbers::Numbers;

/// The core and its clock, which begins with this life of the head.
pub(super) struct Scheduler {
    pub(super) core: Core,
    begun: Instant,
}

impl Scheduler {
    /// The core of a head that begins. One that has lived before waits for its nodes before it says that something can never run.
    pub(super) fn begin(numbers: &Numbers) -> Self {
        let first = numbers.first_lease();
        let core = if numbers.incarnation() > Incarnation(1) { Core::resuming(first, 0) } else { Core::numbering(first) };
        Self { core, begun: Instant::now() }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.core.step(now_ms, event)
    }
}

impl State {
    pub(super) fn step(&mut self, event: Event) {
        let mut untold = self.act(event);
        while let Some((owner, lease)) = untold.pop() {
            untold.extend(self.act(Event::LeaseReturned { owner, lease, unreachable: false }));
        }
    }

    /// Takes an event and tells the nodes what follows. Gives the leases whose owners are away: they do not know of them, and ask again when
    /// they are back.
    fn act(&mut self, event: Event) -> Vec<(NodeId, LeaseId)> {
        let mut untold = Vec::new();
        for action in self.scheduler.step(event) {
            self.groups.hear(&action);
            let granted = if let Action::Grant { lease, .. } = action { Some(lease) } else { None };
            let Some((owner, sent)) = self.told(action) else { continue };
            let sender = self.nodes.get(&owner).and_then(|node| node.sender.as_ref());
            if sender.is_none_or(|sender| sender.send(message(sent)).is_err()) {
                untold.extend(granted.map(|lease| (owner, lease)));
            }
        }
        untold
    }

    /// Tenants get what their policies entitle them to, where there is not enough for all.
    pub(super) fn weigh(&mut self, edits: &[Edit]) {
        for edit in edits {
            let (tenant, weight) = match edit {
                Edit::Policy { tenant, policy } => (tenant, policy.weight.unwrap_or(1)),
                Edit::Tenant(entry) if entry.deleted_ms.is_some() => (&entry.name, 1),
                Edit::Tenant(_) | Edit::Token(_) | Edit::Forget { .. } => continue,
            };
            self.step(Event::TenantWeighed { tenant: tenant.clone(), weight });
        }
    }

    /// An owner wants slots, out of a placement group of its tenant if it says so.
    fn want(&mut self, key: DemandKey, mut demand: Demand) {
        let group = demand.placement.group.as_ref();
        demand.bundle = group.map(|group| (self.groups.find(&demand.tenant, group), group.bundle));
        self.step(Event::Wanted { key, demand });
    }

    /// Who is told what.
    fn told(&mut self, action: Action) -> Option<(NodeId, msg::head_message::Message)> {
        use msg::head_message::Message::{LeaseGrant, LeaseRefusal, LeaseRevoke};
        let over = |owner, lease: LeaseId, error: rwasm_types::Error, let_finish| {
            (owner, LeaseRevoke(msg::LeaseRevoke { lease: lease.0, reason: Some((&error).into()), let_finish }))
        };
        Some(match action {
            Action::Grant { key: DemandKey { owner, request }, lease, node, slots, bundle: _ } => {
                self.counts.granted += 1;
                let data_address = self.nodes.get(&node).map(|node| node.data_address.clone()).unwrap_or_default();
                tracing::debug!(%lease, %owner, %node, slots, "lease granted");
                (owner, LeaseGrant(msg::LeaseGrant { request, lease: lease.0, node: node.get(), data_address, slots }))
            }
            Action::Refuse { key: DemandKey { owner, request }, error } => {
                self.counts.refused += 1;
                (owner, LeaseRefusal(msg::LeaseRefusal { request, error: Some((&error).into()) }))
            }
            Action::Revoke { owner, lease, error } => {
                self.counts.revoked += 1;
                over(owner, lease, error, false)
            }
            Action::Retire { owner, lease, error } => over(owner, lease, error, true),
            Action::GroupPlaced { .. } | Action::GroupRescheduling { .. } | Action::RefuseGroup { .. } => return None,
        })
    }
}

impl Shared {
    /// An owner wants slots.
    pub(crate) fn want(&self, key: DemandKey, demand: Demand) {
        self.state.lock().want(key, demand);
    }

    /// Why an owner's request waits; empty if it does not, or is another tenant's.
    pub(crate) fn why(&self, owner: NodeId, request: u64, tenant: &Tenant) -> String {
        self.state.lock().scheduler.core.explain(DemandKey { owner, request }, tenant).unwrap_or_default()
    }

    /// Where tasks would go now.
    ///
    /// # Errors
    ///
    /// What the core says of the request.
    pub(crate) fn place(&self, place: &PlaceRequest, tenant: &Tenant) -> Result<PlanRecord> {
        let slots = u32::try_from(place.tasks).unwrap_or(u32::MAX).min(rwasm_core::limit::SLOTS_MAX);
        let job = JobId { owner: place.owner, session: 0 };
        let mut demand = Demand::new(job, tenant.clone(), place.shape.clone(), slots, place.priority);
        demand.placement = place.placement.clone();
        demand.needs = place.needs.clone();
        let plan = self.state.lock().scheduler.core.plan(place.owner, demand)?;
        Ok(PlanRecord {
            shape: place.shape.clone(),
            placed: plan.placed.into_iter().map(|(node, slots)| PlannedNode { node, tasks: slots.into() }).collect(),
            waiting: u64::from(plan.waiting) + (place.tasks - u64::from(slots)),
            infeasible: plan.infeasible,
            turned: plan.turned.into_iter().map(|turned| TurnedNode { node: turned.node, why: turned.why }).collect(),
        })
    }
}
