//! The head's decisions: which owner gets slots on which node, for how long. No IO, no clock, no threads, no randomness, no hash order:
//! the same events at the same times give the same actions, byte for byte.
//!
//! ```text
//! nodes ── NodeJoined, Reported, Draining, Lost, Holds ─▶ ┌──────┐
//!                                                        │ Core │ ──▶ Action: Grant, Refuse, Revoke, Retire
//! owners ─ Wanted, LeaseReturned, LeaseHeld ───────────▶ └──────┘
//! ```
//!
//! The head grants *leases*: so many slots of one shape on one node to one owner. Tasks then flow from the owner to that node and never
//! through the head. A node's own ledger is what admits tasks to run there, so a slot is never oversold even while the head's view of
//! a node is a heartbeat old; leases only decide who may ask.

mod cluster;
mod demand;
mod lease;

use std::collections::{BTreeMap, BTreeSet};

use rwasm_types::{Code, Error, JobId, LeaseId, Needs, NodeId, Offer, Priority, ResourceSet, Tenant};

use self::{cluster::Cluster, demand::Demands, lease::Leases};
pub use self::{
    cluster::NodeView,
    demand::{Demand, DemandKey},
    lease::Lease,
};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node is there, or came back with another capacity.
    NodeJoined {
        /// Which.
        node: NodeId,
        /// All it has.
        capacity: ResourceSet,
        /// What guests may have there.
        offer: Offer,
    },
    /// A heartbeat.
    NodeReported {
        /// Which.
        node: NodeId,
        /// What its own owner's tasks hold there.
        local: ResourceSet,
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
    /// An owner gives a lease back.
    LeaseReturned {
        /// Which.
        lease: LeaseId,
        /// Whether it could not reach the node; it gets others until [`Event::TryUnreachable`].
        unreachable: bool,
    },
    /// An owner has a lease that was granted in an earlier life of the head, or in one of its own.
    LeaseHeld {
        /// Which.
        lease: LeaseId,
        /// What it is.
        held: Lease,
    },
    /// Time to try again what could not be reached.
    TryUnreachable,
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
    },
    /// Tell an owner that no node can ever meet its request as the cluster is now. The request stays and is met if a node joins that can.
    Refuse {
        /// Which request.
        key: DemandKey,
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
    /// Tell an owner to send nothing more on a lease, and to give it back when what it sent has ended.
    Retire {
        /// Who holds it.
        owner: NodeId,
        /// Which.
        lease: LeaseId,
        /// Why.
        error: Error,
    },
}

/// The state machine.
#[derive(Debug, Default)]
pub struct Core {
    cluster: Cluster,
    demands: Demands,
    leases: Leases,
    /// Owners and nodes that they could not reach.
    unreachable: BTreeSet<(NodeId, NodeId)>,
}

impl Core {
    /// An empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty cluster whose leases are numbered from one on. Owners keep leases of earlier lives of the head, so each life needs numbers of
    /// its own.
    pub fn numbering(first: LeaseId) -> Self {
        Self { leases: Leases::numbering(first), ..Self::default() }
    }

    /// Takes an event and says what follows from it.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::NodeJoined { node, capacity, offer } => {
                let held = self.leases.on(node).map(|(_, lease)| lease.held());
                self.cluster.join(node, (capacity, offer), held);
                self.demands.forget_refusals();
            }
            Event::NodeReported { node, local } => self.cluster.report(node, local),
            Event::NodeLost { node } => self.lose(node, &mut actions),
            Event::NodeDraining { node, draining } => {
                if self.cluster.drain(node, draining) && draining {
                    self.retire(node, &mut actions);
                }
            }
            Event::Wanted { key, demand } => self.demands.set(key, demand),
            Event::LeaseReturned { lease, unreachable } => {
                if let Some(lease) = self.leases.remove(lease) {
                    self.cluster.unlease(lease.node, &lease.held());
                    if unreachable {
                        self.unreachable.insert((lease.owner, lease.node));
                    }
                }
            }
            Event::NodeHolds { node, foreign } => {
                if !self.cluster.holds(node, foreign) {
                    return actions;
                }
            }
            Event::LeaseHeld { lease, held } => {
                if self.leases.keep(lease, &held) {
                    self.cluster.told(held.node, &held.held());
                }
            }
            Event::TryUnreachable => self.unreachable.clear(),
        }
        self.place(&mut actions);
        actions
    }

    /// What is known of the nodes, in the order of their numbers.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeView> {
        self.cluster.nodes()
    }

    /// What waits, in the order in which it is served.
    pub fn waiting(&self) -> impl Iterator<Item = (DemandKey, &Demand)> {
        self.demands.in_order()
    }

    /// Leases in force.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter()
    }

    fn lose(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        self.cluster.leave(node);
        // If it comes back, then perhaps at another address or on another network.
        self.unreachable.retain(|(owner, unreached)| *owner != node && *unreached != node);
        self.demands.remove_owner(node);
        for (id, lease) in self.leases.remove_node(node) {
            if lease.owner != node {
                let error = Error::new(Code::NODE_LOST, format!("node {node} was lost")).with("node", node);
                actions.push(Action::Revoke { owner: lease.owner, lease: id, error });
            }
            if lease.node != node {
                self.cluster.unlease(lease.node, &lease.held());
                // Its tasks go on there, for a while.
                self.cluster.left(lease.node, &lease.held());
            }
        }
    }

    fn retire(&self, node: NodeId, actions: &mut Vec<Action>) {
        for (id, lease) in self.leases.on(node) {
            let error = Error::new(Code::NODE_DRAINED, format!("node {node} is being drained")).with("node", node);
            actions.push(Action::Retire { owner: lease.owner, lease: id, error });
        }
    }

    /// Meets demands in their order as far as there is room: each goes to the node with the most room for its shape, so load spreads.
    fn place(&mut self, actions: &mut Vec<Action>) {
        for key in self.demands.keys_in_order() {
            while let Some(demand) = self.demands.get(key) {
                let usable = |node, view: &NodeView| self.may_use(key.owner, node) && view.offer.lacks(&demand.needs).is_none();
                let Some((node, room)) = self.cluster.roomiest(&demand.shape, usable) else { break };
                let slots = room.min(u64::from(demand.slots)) as u32;
                let lease =
                    Lease { owner: key.owner, node, job: demand.job, tenant: demand.tenant.clone(), shape: demand.shape.clone(), slots };
                self.cluster.lease(node, &lease.held());
                let lease = self.leases.insert(lease);
                self.demands.met(key, slots);
                actions.push(Action::Grant { key, lease, node, slots });
            }
            if let Some(error) = self.infeasible(key) {
                self.demands.refused(key);
                actions.push(Action::Refuse { key, error });
            }
        }
    }

    /// Whether an owner gets leases on a node: on others than itself, which needs none, if it can reach them.
    fn may_use(&self, owner: NodeId, node: NodeId) -> bool {
        node != owner && !self.unreachable.contains(&(owner, node))
    }

    /// Why no node, however idle, can meet a demand; `None` if one can, or if the owner was told already.
    fn infeasible(&self, key: DemandKey) -> Option<Error> {
        let demand = self.demands.get(key).filter(|demand| !demand.refused)?;
        let offers = || self.cluster.nodes().values().filter(|node| node.offer.lacks(&demand.needs).is_none());
        let feasible = offers().any(|node| node.capacity.contains(&demand.shape));
        (!feasible).then(|| {
            let of_those = if demand.needs.is_empty() { "" } else { " that offers what is asked for" };
            let message = format!("no node{of_those} has {}", demand.shape);
            Error::new(Code::INFEASIBLE, message).hint("ask for less, or add a node that has it; `rwasm status -v` shows what nodes have")
        })
    }
}

/// A demand before it enters the core.
impl Demand {
    /// What an owner wants: slots of a shape, for a job of a tenant, on any node.
    pub fn new(job: JobId, tenant: Tenant, shape: ResourceSet, slots: u32, priority: Priority) -> Self {
        Self { job, tenant, shape, needs: Needs::default(), slots, priority, refused: false }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rwasm_types::{Access, Quantity};

    use super::*;

    fn node(number: u32) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn key(owner: u32, request: u64) -> DemandKey {
        DemandKey { owner: node(owner), request }
    }

    fn want(slots: u32) -> Demand {
        Demand::new(JobId { owner: node(1), session: 0 }, Tenant::default(), ResourceSet::cpus(1), slots, Priority::default())
    }

    fn joined(number: u32, cpus: u32) -> Event {
        Event::NodeJoined { node: node(number), capacity: ResourceSet::cpus(cpus), offer: Offer::default() }
    }

    #[test]
    fn load_spreads_over_other_nodes() {
        let mut core = Core::new();
        for event in [joined(1, 4), joined(2, 2), joined(3, 4)] {
            assert_eq!(core.step(event), []);
        }
        let actions = core.step(Event::Wanted { key: key(1, 7), demand: want(5) });
        let grants = actions.iter().map(|action| match action {
            Action::Grant { node, slots, .. } => (node.get(), *slots),
            other => panic!("{other:?}"),
        });
        assert_eq!(grants.collect::<Vec<_>>(), [(3, 4), (2, 1)]);
        assert_eq!(core.waiting().count(), 0);
    }

    #[test]
    fn a_node_that_comes_back_is_tried_again_by_whoever_could_not_reach_it() {
        let mut core = Core::new();
        core.step(joined(1, 1));
        core.step(joined(2, 1));
        let granted = core.step(Event::Wanted { key: key(1, 1), demand: want(1) });
        let [Action::Grant { lease, .. }] = &granted[..] else { panic!("{granted:?}") };
        core.step(Event::LeaseReturned { lease: *lease, unreachable: true });
        assert_eq!(core.step(Event::Wanted { key: key(1, 2), demand: want(1) }), []);
        core.step(Event::NodeLost { node: node(2) });
        assert!(matches!(&core.step(joined(2, 1))[..], [Action::Grant { slots: 1, .. }]));
    }

    #[test]
    fn a_lost_node_ends_its_leases_and_its_wishes() {
        let mut core = Core::new();
        core.step(joined(1, 1));
        core.step(joined(2, 1));
        let granted = core.step(Event::Wanted { key: key(1, 1), demand: want(3) });
        assert_eq!(granted.len(), 1);
        let revoked = core.step(Event::NodeLost { node: node(2) });
        assert!(matches!(&revoked[..], [Action::Revoke { owner, error, .. }] if owner.get() == 1 && error.code() == Code::NODE_LOST));
        // The rest of the wish is still there and is met by a node that joins later.
        assert!(matches!(&core.step(joined(3, 9))[..], [Action::Grant { slots: 2, .. }]));
        core.step(Event::NodeLost { node: node(1) });
        assert_eq!(core.leases().count(), 0);
    }

    fn holds(number: u32, cpus: u32) -> Event {
        Event::NodeHolds { node: node(number), foreign: ResourceSet::cpus(cpus) }
    }

    fn slots_of(actions: &[Action]) -> Vec<u32> {
        actions.iter().filter_map(|action| if let Action::Grant { slots, .. } = action { Some(*slots) } else { None }).collect()
    }

    #[test]
    fn what_ran_before_the_head_began_is_not_granted_again() {
        let mut core = Core::numbering(LeaseId(1_000));
        core.step(joined(1, 1));
        core.step(Event::Wanted { key: key(1, 1), demand: want(9) });
        core.step(holds(2, 3));
        let granted = core.step(joined(2, 4));
        assert!(matches!(granted[..], [Action::Grant { lease: LeaseId(1_000), slots: 1, .. }]), "{granted:?}");
        // Its owner tells of the lease of two of them, from the head's life before.
        let lease =
            Lease { owner: node(1), node: node(2), job: want(1).job, tenant: Tenant::default(), shape: ResourceSet::cpus(1), slots: 2 };
        let held = Event::LeaseHeld { lease: LeaseId(7), held: lease };
        assert_eq!(core.step(held.clone()), []);
        assert_eq!(core.step(held), [], "said twice");
        assert_eq!(core.nodes()[&node(2)].leased, ResourceSet::cpus(3));
        // The third has ended, which had no lease.
        assert_eq!(slots_of(&core.step(holds(2, 2))), [1]);
        assert_eq!(core.step(holds(2, 4)), []);
        assert_eq!(slots_of(&core.step(Event::LeaseReturned { lease: LeaseId(7), unreachable: false })), [2]);
    }

    #[test]
    fn what_a_lost_owner_left_counts_until_its_node_says_that_it_ended() {
        let mut core = Core::new();
        [joined(1, 1), joined(2, 2), joined(3, 1)].into_iter().for_each(|event| drop(core.step(event)));
        assert_eq!(slots_of(&core.step(Event::Wanted { key: key(3, 1), demand: want(2) })), [2]);
        core.step(Event::NodeLost { node: node(3) });
        assert_eq!(core.step(Event::Wanted { key: key(1, 1), demand: want(2) }), []);
        assert_eq!(core.step(holds(2, 2)), []);
        assert_eq!(slots_of(&core.step(holds(2, 1))), [1]);
        assert_eq!(core.step(holds(2, 2)), [], "one is on the new lease");
        core.step(Event::Wanted { key: key(1, 1), demand: want(5) });
        assert_eq!(slots_of(&core.step(holds(2, 1))), [1]);
    }

    #[test]
    fn what_no_node_has_is_refused_once_and_met_when_one_joins() {
        let mut core = Core::new();
        core.step(joined(1, 1));
        let gpu = ResourceSet { gpu: Quantity::ONE, ..ResourceSet::default() };
        let demand = Demand { shape: gpu.clone(), ..want(1) };
        let refused = core.step(Event::Wanted { key: key(1, 1), demand });
        assert!(
            matches!(&refused[..], [Action::Refuse { error, .. }] if error.code() == Code::INFEASIBLE && error.message() == "no node has gpu 1")
        );
        assert_eq!(core.step(Event::NodeReported { node: node(1), local: ResourceSet::default() }), []);
        let granted = core.step(Event::NodeJoined { node: node(2), capacity: gpu, offer: Offer::default() });
        assert!(matches!(&granted[..], [Action::Grant { .. }]));
    }

    #[test]
    fn an_unreachable_node_is_left_alone_for_a_while() {
        let mut core = Core::new();
        core.step(joined(1, 1));
        core.step(joined(2, 1));
        let granted = core.step(Event::Wanted { key: key(1, 1), demand: want(1) });
        let [Action::Grant { lease, .. }] = granted[..] else { panic!("{granted:?}") };
        assert_eq!(core.step(Event::LeaseReturned { lease, unreachable: true }), []);
        assert_eq!(core.step(Event::Wanted { key: key(1, 1), demand: want(1) }), []);
        assert!(matches!(&core.step(Event::TryUnreachable)[..], [Action::Grant { .. }]));
    }

    #[test]
    fn a_draining_node_gets_no_leases_and_keeps_those_it_has_until_they_are_returned() {
        let mut core = Core::new();
        core.step(joined(1, 1));
        core.step(joined(2, 2));
        let granted = core.step(Event::Wanted { key: key(1, 1), demand: want(1) });
        let [Action::Grant { lease, .. }] = granted[..] else { panic!("{granted:?}") };
        let drain = |draining| Event::NodeDraining { node: node(2), draining };
        let retired = core.step(drain(true));
        assert!(matches!(&retired[..], [Action::Retire { owner, lease: id, .. }] if owner.get() == 1 && *id == lease), "{retired:?}");
        assert_eq!(core.step(drain(true)), [], "said once");
        assert_eq!(core.step(Event::Wanted { key: key(1, 2), demand: want(1) }), [], "it waits: the node may be of use again");
        assert_eq!(core.leases().count(), 1);
        assert_eq!(core.step(Event::LeaseReturned { lease, unreachable: false }), []);
        assert!(matches!(&core.step(drain(false))[..], [Action::Grant { node, .. }] if node.get() == 2));
        assert_eq!(core.step(Event::NodeDraining { node: node(9), draining: true }), [], "a node that is not there");
    }

    #[test]
    fn only_nodes_that_offer_what_is_needed_are_chosen() {
        let mut core = Core::new();
        for event in [joined(1, 1), joined(2, 8)] {
            core.step(event);
        }
        let data = rwasm_types::Name::new("data").unwrap();
        let needs = Needs { volumes: [(data.clone(), Access::ReadOnly)].into(), ..Needs::default() };
        let refused = core.step(Event::Wanted { key: key(1, 1), demand: Demand { needs, ..want(1) } });
        assert!(
            matches!(&refused[..], [Action::Refuse { error, .. }] if error.message() == "no node that offers what is asked for has cpu 1")
        );
        let offer = Offer { volumes: [(data, Access::ReadOnly)].into(), ..Offer::default() };
        let granted = core.step(Event::NodeJoined { node: node(3), capacity: ResourceSet::cpus(1), offer });
        assert!(matches!(&granted[..], [Action::Grant { node, .. }] if node.get() == 3), "{granted:?}");
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            (1u32..5, 1u32..4).prop_map(|(number, cpus)| joined(number, cpus)),
            (1u32..5).prop_map(|number| Event::NodeLost { node: node(number) }),
            (1u32..5, 0u32..3).prop_map(|(number, cpus)| Event::NodeReported { node: node(number), local: ResourceSet::cpus(cpus) }),
            (1u32..5, 0u64..3, 0u32..6).prop_map(|(owner, request, slots)| Event::Wanted { key: key(owner, request), demand: want(slots) }),
            (prop_oneof![0u64..40, 1_000u64..1_040], any::<bool>())
                .prop_map(|(lease, unreachable)| Event::LeaseReturned { lease: LeaseId(lease), unreachable }),
            (1u32..5, any::<bool>()).prop_map(|(number, draining)| Event::NodeDraining { node: node(number), draining }),
            (1u32..5, 0u32..4).prop_map(|(number, cpus)| holds(number, cpus)),
            (1_000u64..1_040, 1u32..5, 1u32..5, 0u32..3).prop_map(|(lease, owner, on, slots)| Event::LeaseHeld {
                lease: LeaseId(lease),
                held: Lease {
                    owner: node(owner),
                    node: node(on),
                    job: want(1).job,
                    tenant: Tenant::default(),
                    shape: ResourceSet::cpus(1),
                    slots
                },
            }),
            Just(Event::TryUnreachable),
        ];
        proptest::collection::vec(event, 0..60)
    }

    proptest! {
        #[test]
        fn leases_never_exceed_a_node_and_runs_repeat(events in events()) {
            let mut core = Core::new();
            let mut again = Core::new();
            for event in events {
                let actions = core.step(event.clone());
                prop_assert_eq!(&actions, &again.step(event));
                let drained: Vec<NodeId> = core.nodes().iter().filter(|(_, view)| view.draining).map(|(id, _)| *id).collect();
                for (number, view) in core.nodes() {
                    let slots: u32 = core.leases().filter(|(_, lease)| lease.node == *number).map(|(_, lease)| lease.slots).sum();
                    prop_assert_eq!(&view.leased, &ResourceSet::cpus(slots));
                }
                for action in &actions {
                    if let Action::Grant { key, node, .. } = action {
                        prop_assert!(*node != key.owner && core.nodes().contains_key(node) && !drained.contains(node));
                    }
                }
            }
        }
    }
}
