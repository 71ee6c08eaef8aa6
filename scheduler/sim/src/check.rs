//! What must always hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use rwasm_core::{Action, LeaseState, TenantView};
use rwasm_types::{Code, GroupStrategy, NodeId, Quantity, ResourceSet, Tenant, api::GroupState};

use crate::{
    owner::TaskState,
    world::{World, id},
};

/// Which of the rules was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// More was given out on a node than it has.
    Oversold,
    /// The core's books do not agree with each other.
    Books,
    /// A task has two results.
    Doubled,
    /// A task has no result though all faults are over.
    LostOrStarved,
    /// A part of a gang or group was given out.
    TornGang,
    /// A tenant got less than its share.
    Unfair,
    /// A lease that its owner did not name went on.
    Unexpired,
    /// Something was granted on a node that is drained, or that the demand excludes.
    Misplaced,
    /// A demand was refused that some node could meet.
    WronglyRefused,
    /// Work that cannot run again was taken back while it ran.
    WronglyPreempted,
}

/// A rule that was broken, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// Virtual time.
    pub at_ms: u64,
    /// Which rule.
    pub kind: Kind,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}, {} ms: {:?}: {}\nrun it again: SEED={} cargo test -p rwasm-sim one_seed -- --nocapture",
            self.seed, self.at_ms, self.kind, self.what, self.seed
        )
    }
}

/// A tick may be so late after a lease ran out, and the sweep over owners needs some ticks.
const EXPIRY_SLACK_MS: u64 = 3_000;

type Found = Result<(), (Kind, String)>;

fn must(holds: bool, kind: Kind, what: impl FnOnce() -> String) -> Found {
    if holds { Ok(()) } else { Err((kind, what())) }
}

impl World {
    /// The core's books, and what they say of the nodes as they really are.
    pub(crate) fn check_books(&self) -> Found {
        let mut leased: BTreeMap<NodeId, ResourceSet> = BTreeMap::new();
        let mut held: BTreeMap<Tenant, ResourceSet> = BTreeMap::new();
        let mut soon = ResourceSet::default();
        for lease in self.core.leases().filter(|lease| lease.bundle.is_none()) {
            let amount = lease.shape.times(lease.slots);
            leased.entry(lease.node).or_default().give(&amount);
            held.entry(lease.tenant).or_default().give(&amount);
            if lease.state == LeaseState::Active {
                soon.give(&amount);
            }
        }
        for view in self.core.groups() {
            self.check_group(&view)?;
            for ((node, _), shape) in view.bundles.iter().zip(&view.group.bundles) {
                if let Some(node) = node {
                    leased.entry(*node).or_default().give(shape);
                    held.entry(view.group.tenant.clone()).or_default().give(shape);
                    soon.give(shape);
                }
            }
        }
        for node in self.core.nodes() {
            let leased = leased.get(&node.id).cloned().unwrap_or_default();
            must(same(&leased, &node.leased), Kind::Books, || {
                format!("node {} leases {leased}, and its books say {}", node.id, node.leased)
            })?;
        }
        let mut expected = ResourceSet::default();
        for TenantView { name, held: amount, soon, .. } in self.core.tenants() {
            let held = held.get(name).cloned().unwrap_or_default();
            must(same(&held, amount), Kind::Books, || format!("tenant {name} holds {held}, and its account says {amount}"))?;
            expected.give(soon);
        }
        self.core.nodes().for_each(|node| soon.give(&node.held_back));
        must(same(&soon, &expected), Kind::Books, || format!("{soon} will be held soon, and all accounts say {expected}"))
    }

    fn check_group(&self, view: &rwasm_core::GroupView) -> Found {
        let nodes: Vec<NodeId> = view.bundles.iter().filter_map(|(node, _)| *node).collect();
        let different = nodes.iter().collect::<BTreeSet<_>>().len();
        let all = view.bundles.len();
        let torn = match view.state {
            GroupState::Placed => nodes.len() != all,
            GroupState::Pending => !nodes.is_empty(),
            GroupState::Rescheduling => nodes.len() == all,
        };
        must(!torn, Kind::TornGang, || format!("{:?} is {:?} with bundles on {nodes:?}", view.id, view.state))?;
        let misplaced = match view.group.strategy {
            GroupStrategy::StrictPack => different > 1,
            GroupStrategy::StrictSpread => different < nodes.len(),
            GroupStrategy::Pack | GroupStrategy::Spread => false,
        };
        must(!misplaced, Kind::TornGang, || format!("{:?} with {:?} has bundles on {nodes:?}", view.id, view.group.strategy))
    }

    /// The ledgers of the nodes themselves.
    pub(crate) fn check_hosts(&self) -> Found {
        for (at, host) in self.hosts.iter().enumerate() {
            let mut used = host.free.clone();
            host.running.values().for_each(|run| used.give(&run.shape));
            must(same(&used, &host.capacity), Kind::Oversold, || format!("host {at} has {} and runs {used}", host.capacity))?;
        }
        Ok(())
    }

    /// Leases that nobody named for too long.
    pub(crate) fn check_expiry(&self) -> Found {
        let late = self.core.leases().find(|lease| self.now_ms > lease.expires_ms + EXPIRY_SLACK_MS);
        must(late.is_none(), Kind::Unexpired, || format!("{late:?}"))
    }

    /// What one step of the core decided.
    pub(crate) fn check_actions(&self, actions: &[Action]) -> Found {
        let mut granted: BTreeMap<_, u32> = BTreeMap::new();
        for action in actions {
            match action {
                Action::Grant { key, node, slots, bundle, .. } => {
                    *granted.entry(*key).or_default() += slots;
                    let known = self.core.nodes().find(|known| known.id == *node);
                    must(known.is_some(), Kind::Books, || format!("{action:?} on a node that is not there"))?;
                    let allowed = known
                        .zip(self.demands.get(key))
                        .is_none_or(|(node, demand)| !node.draining && demand.placement.allows(node.id, &node.labels));
                    must(allowed, Kind::Misplaced, || format!("{action:?} on a node that takes no such work"))?;
                    let shape = self.demands.get(key).map(|demand| demand.shape.clone()).unwrap_or_default();
                    // What a group reserved is its own, whatever owners tell of later.
                    if bundle.is_none() {
                        self.check_room(*node, &shape)?;
                    }
                }
                Action::Refuse { key, error } if error.code() == Code::INFEASIBLE => {
                    let waiting = self.core.waiting().find(|waiting| waiting.key == *key);
                    if let Some((waiting, demand)) = waiting.zip(self.demands.get(key)) {
                        // Also those that the head cannot hear at present: they are on their way back.
                        let fits =
                            self.hosts.iter().enumerate().filter(|(_, host)| host.alive).any(|(node, host)| {
                                host.capacity.contains(&waiting.shape) && demand.placement.allows(id(node), &host.labels)
                            });
                        must(!fits || demand.gang, Kind::WronglyRefused, || format!("{action:?}"))?;
                    }
                }
                Action::Revoke { lease, error, .. } if error.code() == Code::PREEMPTED => {
                    let retryable = self.core.leases().find(|known| known.id == *lease).map(|known| known.job);
                    let retryable = retryable.is_none_or(|job| self.is_retryable(job));
                    must(retryable, Kind::WronglyPreempted, || format!("{action:?}"))?;
                }
                _ => {}
            }
        }
        for (key, slots) in granted {
            let gang = self.demands.get(&key).filter(|demand| demand.gang);
            must(gang.is_none_or(|gang| gang.slots == slots), Kind::TornGang, || format!("{slots} slots for {key:?}: {gang:?}"))?;
        }
        Ok(())
    }

    /// A node on which something was just granted: leases, and what runs there without one, are no more than it has. Owners may tell of more
    /// than that, of what was granted in another life; it is not granted again.
    fn check_room(&self, node: NodeId, shape: &ResourceSet) -> Found {
        let Some(view) = self.core.nodes().find(|known| known.id == node) else { return Ok(()) };
        let mut all = view.leased.clone();
        all.give(&view.unleased);
        // Of what the grant asks for, for the rest it did not have to look at.
        let asked = |amount: Quantity, of: Quantity| if of.is_zero() { Quantity::ZERO } else { amount };
        (all.cpu, all.gpu) = (asked(all.cpu, shape.cpu), asked(all.gpu, shape.gpu));
        all.custom.retain(|name, _| shape.custom.contains_key(name));
        let real = &self.hosts[node.get() as usize - 1].capacity;
        must(real.contains(&all), Kind::Oversold, || format!("node {node} has {real}, and leases and others' tasks hold {all}"))
    }

    /// Results: one for each task, and in the end for all of them.
    pub(crate) fn check_results(&self, is_over: bool) -> Found {
        for (number, task) in self.tasks.iter().enumerate() {
            must(task.results <= 1, Kind::Doubled, || format!("task {number} has {} results", task.results))?;
            let ended = matches!(task.state, TaskState::Done | TaskState::Failed | TaskState::Gone);
            must(ended || !is_over, Kind::LostOrStarved, || {
                let call = &self.owners[task.owner].calls[task.call];
                let key = rwasm_core::DemandKey { owner: id(task.owner), request: call.request };
                let why = self.core.explain(key, &call.tenant).unwrap_or_default();
                format!("task {number} of node {} is {:?} at the end: {call:?} {why}", task.owner + 1, task.state)
            })?;
        }
        Ok(())
    }

    /// When nothing is left to do, nothing is held.
    pub(crate) fn check_rest(&self) -> Found {
        let waiting: Vec<_> = self.core.waiting().collect();
        must(waiting.is_empty(), Kind::Books, || format!("demands are left: {waiting:?}"))?;
        let leases: Vec<_> = self.core.leases().collect();
        must(leases.is_empty(), Kind::Books, || format!("leases are left: {leases:?}"))?;
        for node in self.core.nodes() {
            let rest = node.leased == ResourceSet::default() || zero(&node.leased);
            must(rest && zero(&node.held_back) && zero(&node.unleased), Kind::Books, || format!("something is kept on {node:?}"))?;
        }
        let tenants: Vec<_> = self.core.tenants().map(|tenant| tenant.name).collect();
        must(tenants.is_empty(), Kind::Books, || format!("accounts are left: {tenants:?}"))
    }

    /// Slots that each tenant's work has in the core's books.
    pub(crate) fn active_slots(&self) -> BTreeMap<Tenant, u64> {
        let mut slots = BTreeMap::new();
        for lease in self.core.leases().filter(|lease| lease.state != LeaseState::Revoked) {
            *slots.entry(lease.tenant).or_default() += u64::from(lease.slots);
        }
        slots
    }

    /// In a window in which all tenants had more work than room, each got what its weight entitles it to, within bounds: a fifth, and two
    /// slots, because leases change hands as a whole and only after a while.
    pub(crate) fn check_shares(&self, sums: &BTreeMap<Tenant, u64>, ticks: u64) -> Found {
        let total: u64 = self.scenario.nodes.iter().map(|(capacity, _)| capacity.cpu.floor()).sum();
        let weights: u64 = self.scenario.weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
        for (tenant, weight) in &self.scenario.weights {
            let entitled = total * u64::from(*weight) / weights;
            let got = sums.get(tenant).copied().unwrap_or(0) / ticks.max(1);
            must(got + 2 >= entitled * 4 / 5, Kind::Unfair, || {
                format!("tenant {tenant} of weight {weight} held {got} slots on average, and {entitled} of {total} are its share: {sums:?}")
            })?;
        }
        Ok(())
    }
}

/// Whether two amounts are equal, where no entry and zero are the same.
fn same(one: &ResourceSet, other: &ResourceSet) -> bool {
    one.contains(other) && other.contains(one) || {
        let custom =
            |set: &ResourceSet| set.custom.iter().filter(|(_, amount)| !amount.is_zero()).map(|(n, a)| (n.clone(), *a)).collect::<Vec<_>>();
        (one.cpu, one.gpu, one.memory) == (other.cpu, other.gpu, other.memory) && custom(one) == custom(other)
    }
}

fn zero(set: &ResourceSet) -> bool {
    (set.cpu, set.gpu, set.memory) == (Quantity::ZERO, Quantity::ZERO, 0) && set.custom.values().all(|amount| amount.is_zero())
}
