//! What each event changes, before what waits is looked at again.

use std::{cmp::Reverse, collections::BTreeMap};

use rwasm_types::{Code, Error, LeaseId, Name, NodeId, Offer, Policy, ResourceSet};

use crate::{
    Action, Core, Demand, DemandKey, Event,
    class::{Aim, ClassKey},
    demand::{Wish, WishKey},
    group::GroupId,
    held::{drained, over},
    lease::LeaseState,
    limit::{ABSENT_MS, CLASSES_MAX, DEMANDS_PER_OWNER_MAX, LEASE_MS, UNREACHABLE_MS, WAITING_MAX},
    place::Met,
    queue::Standing,
    share::Holder,
};

/// Nodes whose owners' leases are looked through at a tick.
const SWEEP: usize = 512;

impl Core {
    pub(crate) fn take(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::NodeJoined { node, capacity, labels, offer } => self.join(node, (capacity, labels, offer), out),
            Event::NodeReported { node, local, leases } => self.report(node, local, &leases),
            Event::NodeHolds { node, foreign } => self.node_holds(node, foreign),
            Event::NodeLost { node } => self.lose(node, out),
            Event::NodeDraining { node, draining } => self.drain(node, draining, out),
            Event::Wanted { key, demand } => self.want(key, demand, out),
            Event::LeaseReturned { owner, lease, unreachable } => self.give_back(owner, lease, unreachable),
            Event::LeaseHeld { lease, held } => self.lease_held(lease, held, out),
            Event::GroupWanted { id, group } => self.want_group(id, group, out),
            Event::GroupRemoved { id } => self.remove_group(id, out),
            Event::TenantWeighed { tenant, weight } => {
                self.accounts.weigh(&tenant, weight.clamp(1, Policy::WEIGHT_MAX));
                self.reshare_all();
            }
            Event::Tick => self.tick(out),
        }
    }

    fn join(&mut self, id: NodeId, node: (ResourceSet, BTreeMap<Name, String>, Offer), out: &mut Vec<Action>) {
        // Its stream is a new one: what it still wants it says again, and what it does not say is not wanted any more.
        for at in self.wishes.of_owner(id) {
            self.dequeue(at);
        }
        let again = self.cluster.place(id).is_some();
        let place = self.cluster.join(id, node);
        if again {
            self.wake_groups_on(place);
        }
        if let Some(node) = self.cluster.get(place) {
            self.classes.iter_mut().for_each(|class| class.joined(place, node));
        }
        self.rescale();
        self.settle_absent(id, out);
    }

    fn report(&mut self, node: NodeId, local: ResourceSet, leases: &[LeaseId]) {
        let Some(place) = self.cluster.place(node) else { return };
        for id in leases {
            if let Some(lease) = self.leases.get_mut(*id).filter(|lease| lease.owner == node) {
                lease.named_ms = self.now_ms;
            }
        }
        self.cluster.report(place, local);
    }

    fn drain(&mut self, id: NodeId, draining: bool, out: &mut Vec<Action>) {
        let Some(place) = self.cluster.place(id) else { return };
        self.cluster.relieve(place, |node| node.draining = draining);
        if !draining {
            self.wake_groups_on(place);
        }
        let leases = self.cluster.get(place).filter(|node| node.draining).into_iter().flat_map(|node| node.leases.keys());
        for lease in leases.map(|(_, lease)| lease.0).collect::<Vec<LeaseId>>() {
            self.retire(lease, drained(id), out);
        }
    }

    fn lose(&mut self, id: NodeId, out: &mut Vec<Action>) {
        let Some(place) = self.cluster.place(id) else { return };
        for at in self.wishes.of_owner(id) {
            self.dequeue(at);
        }
        let Some(node) = self.cluster.get(place) else { return };
        let owned: Vec<LeaseId> = node.owned.iter().copied().collect();
        let on_it: Vec<LeaseId> = node.leases.keys().map(|(_, id)| id.0).collect();
        owned.into_iter().for_each(|lease| self.leave_lease(lease));
        for lease in on_it {
            let Some(owner) = self.leases.get(lease).map(|lease| lease.owner) else { continue };
            let error = Error::new(Code::NODE_LOST, format!("node {id} was lost")).with("node", id);
            out.push(Action::Revoke { owner, lease, error });
            self.end_lease(lease);
        }
        self.absent.retain(|_, (held, _)| held.owner != id);
        self.lose_holds(place);
        self.cluster.leave(id, self.now_ms + ABSENT_MS);
        self.lose_bundles(place, out);
        self.unreachable.retain(|(owner, node), _| *owner != id && *node != id);
        self.rescale();
    }

    fn want(&mut self, key: DemandKey, demand: Demand, out: &mut Vec<Action>) {
        let old = self.wishes.find(WishKey::Slots(key)).and_then(|at| self.dequeue(at));
        let Some(owner) = self.cluster.place(key.owner).filter(|_| demand.slots > 0) else { return };
        let demand = match demand.checked() {
            Ok(demand) => demand,
            Err(error) => return out.push(Action::Refuse { key, error }),
        };
        if let Some(error) = self.full(owner) {
            return out.push(Action::Refuse { key, error });
        }
        let aim = match demand.bundle {
            None => Aim::Free,
            Some((group, number)) => match self.groups.get(&group) {
                Some(reserved) if number.is_none_or(|number| (number as usize) < reserved.bundles.len()) => {
                    if let Some(error) = reserved.too_small(number, &demand.shape) {
                        return out.push(Action::Refuse { key, error });
                    }
                    Aim::Bundle(group, number)
                }
                _ => {
                    let error = Error::new(Code::NOT_FOUND, "there is no such placement group, or it has fewer bundles");
                    let error = error.hint("`rwasm placement-group list` shows what there is");
                    return out.push(Action::Refuse { key, error });
                }
            },
        };
        let class = self.classes.of(class_key(&demand, aim), &mut self.cluster);
        if let Aim::Bundle(group, _) = aim
            && let Some(group) = self.groups.get_mut(&group)
        {
            group.classes.insert(class);
        }
        let payer = self.accounts.open(&demand.tenant, Holder::Job(demand.job));
        // Asking again loses no place.
        let known = old.filter(|old| old.payer() == payer && old.standing.priority == demand.priority);
        let (arrival, since_ms) =
            known.as_ref().map_or_else(|| (self.wishes.next_arrival(), self.now_ms), |old| (old.standing.arrival, old.since_ms));
        let refused = known.is_some_and(|old| old.refused && old.class == class);
        let wish = Wish {
            key: WishKey::Slots(key),
            owner: Some(owner),
            standing: Standing { priority: demand.priority, payer, arrival },
            class,
            since_ms,
            slots: demand.slots,
            retryable: demand.retryable,
            spread: demand.placement.strategy == rwasm_types::Strategy::Spread,
            first: demand.placement.prefer_node.into_iter().chain(demand.near.iter().map(|(node, _)| *node)).collect(),
            refused,
            aside: false,
            holds: Vec::new(),
            held_since_ms: 0,
        };
        self.enqueue(wish, out);
    }

    /// Why an owner's demand cannot wait.
    fn full(&self, owner: u32) -> Option<Error> {
        let own = self.cluster.get(owner).filter(|node| node.waiting as usize >= DEMANDS_PER_OWNER_MAX);
        let message = match (own, self.is_full()) {
            (Some(own), _) => format!("node {} has {DEMANDS_PER_OWNER_MAX} requests waiting, which is the limit", own.id),
            (None, true) => "too many requests of too many kinds wait at the head".to_owned(),
            (None, false) => return None,
        };
        Some(Error::new(Code::QUEUE_FULL, message).hint("ask again when some of them were met"))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.wishes.len() >= WAITING_MAX || self.classes.busy() >= CLASSES_MAX
    }

    /// Meets a wish at once if nobody else's turn it is and there is room; else it waits.
    pub(crate) fn enqueue(&mut self, wish: Wish, out: &mut Vec<Action>) {
        let class = wish.class;
        let at = self.wishes.insert(wish);
        let is_blocked = self.classes.get(class).is_some_and(|class| class.blocked);
        let met = if is_blocked || !self.classes.turns.is_empty() { Met::Part } else { self.meet(at, u32::MAX, out) };
        if met == Met::All {
            if let Some(wish) = self.wishes.remove(at) {
                self.accounts.close(wish.payer());
            }
            return;
        }
        self.wishes.name(at);
        if let Some(owner) = self.wishes.get(at).and_then(|wish| wish.owner) {
            self.cluster.waits(owner, 1);
        }
        self.line_up(at);
        match met {
            Met::Blocked | Met::Aside => self.conclude(at, met, out),
            Met::Part | Met::All if is_blocked => {
                self.refuse_if_infeasible(class, out);
                if self.classes.get(class).and_then(|class| class.queue.head()).is_some_and(|(_, head)| head == at) {
                    self.preempt(at, out);
                }
            }
            Met::Part | Met::All => {}
        }
    }

    /// Puts a wish into its class's queue.
    fn line_up(&mut self, at: u32) {
        let Some(wish) = self.wishes.get(at) else { return };
        let (class, standing, payer) = (wish.class, wish.standing, wish.payer());
        let shares = self.accounts.shares(payer);
        if self.classes.get(class).is_some_and(|class| class.is_idle()) {
            self.classes.became_busy();
        }
        if let Some(class) = self.classes.get_mut(class) {
            class.queue.insert(standing, shares, at);
        }
        self.accounts.waits(payer.tenant, class, true);
        self.classes.rank(class);
    }

    /// Takes a wish out of its class's queue, or from where it was set aside.
    fn step_out(&mut self, at: u32) {
        let Some(wish) = self.wishes.get(at) else { return };
        let (class, standing, aside) = (wish.class, wish.standing, wish.aside);
        if aside {
            if let Some(known) = self.classes.get_mut(class) {
                known.aside.remove(&standing.arrival);
                if known.aside.is_empty() {
                    self.classes.with_aside.remove(&class);
                }
            }
            return;
        }
        if let Some(class) = self.classes.get_mut(class) {
            class.queue.remove(standing);
        }
        self.accounts.waits(standing.payer.tenant, class, false);
        self.classes.rank(class);
    }

    /// Ends a wish that waits.
    pub(crate) fn dequeue(&mut self, at: u32) -> Option<Wish> {
        self.release_holds(at);
        let class = self.wishes.get(at)?.class;
        self.step_out(at);
        if self.classes.get(class).is_some_and(|class| class.is_idle()) {
            self.classes.became_idle(class);
        }
        let wish = self.wishes.remove(at)?;
        self.wishes.unname(wish.key);
        if let Some(owner) = wish.owner {
            self.cluster.waits(owner, -1);
        }
        self.accounts.close(wish.payer());
        Some(wish)
    }

    /// A wish waits for a node that its owner can use; others of its class go on.
    pub(crate) fn set_aside(&mut self, at: u32) {
        self.step_out(at);
        let Some(wish) = self.wishes.get_mut(at) else { return };
        wish.aside = true;
        let (class, arrival) = (wish.class, wish.standing.arrival);
        if let Some(known) = self.classes.get_mut(class) {
            known.aside.insert(arrival, at);
            self.classes.with_aside.insert(class);
        }
    }

    /// A wish that was set aside stands in its queue again.
    pub(crate) fn take_back(&mut self, at: u32) {
        self.step_out(at);
        let Some(wish) = self.wishes.get_mut(at) else { return };
        wish.aside = false;
        let class = wish.class;
        if self.classes.get(class).is_some_and(|class| class.is_idle()) {
            // It was busy with this one; it is counted again as it stands in line.
            self.classes.became_idle(class);
        }
        self.line_up(at);
    }

    fn give_back(&mut self, owner: NodeId, id: LeaseId, unreachable: bool) {
        self.absent.retain(|known, (held, _)| *known != id || held.owner != owner);
        let Some(lease) = self.leases.get(id).filter(|lease| lease.owner == owner) else { return };
        if unreachable {
            self.unreachable.insert((lease.owner, lease.node), self.now_ms + UNREACHABLE_MS);
        }
        self.end_lease(id);
    }

    /// A lease is over: its slots are free.
    pub(crate) fn end_lease(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.remove(id) else { return };
        let held = lease.held();
        self.cluster.relieve(lease.place, |node| {
            if lease.bundle.is_none() {
                node.leased.take_saturating(&held);
            }
            node.leases.remove(&(lease.priority, Reverse(id)));
        });
        self.cluster.own(lease.owner_place, id, false);
        match lease.bundle {
            None => {
                if lease.state != LeaseState::Active {
                    self.accounts.expect(lease.payer, &held, true);
                }
                self.charge(lease.payer, &held, false);
            }
            Some((key, number)) => {
                if let Some(group) = self.groups.get_mut(&key) {
                    let drawn = group.drawn(number as usize, &held);
                    let bundle = group.bundles.get_mut(number as usize).filter(|bundle| bundle.place == Some(lease.place));
                    if let Some(bundle) = bundle {
                        bundle.free.give(&drawn);
                    }
                }
                self.wake_group(key);
            }
        }
        self.accounts.close(lease.payer);
    }

    /// A lease is over because its owner is gone; what ran on it goes on for a while.
    fn leave_lease(&mut self, id: LeaseId) {
        let Some((place, held)) = self.leases.get(id).map(|lease| (lease.place, lease.held())) else { return };
        self.cluster.change(place, |node| node.unleased.give(&held));
        self.end_lease(id);
    }

    fn tick(&mut self, out: &mut Vec<Action>) {
        while let Some(id) = self.leases.next_overdue(self.now_ms) {
            self.end_lease(id);
        }
        self.end_unnamed(out);
        self.drop_absent(out);
        let now_ms = self.now_ms;
        let before = self.unreachable.len();
        self.unreachable.retain(|_, until_ms| *until_ms > now_ms);
        if self.unreachable.len() < before {
            let aside: Vec<u32> = self
                .classes
                .with_aside
                .iter()
                .filter_map(|class| self.classes.get(*class))
                .flat_map(|class| class.aside.values().copied())
                .collect();
            aside.into_iter().for_each(|at| self.take_back(at));
            for id in self.groups.keys().copied().collect::<Vec<GroupId>>() {
                self.wake_group(id);
            }
        }
        for class in self.classes.blocked.iter().copied().collect::<Vec<u32>>() {
            if self.classes.get_mut(class).is_some_and(|class| std::mem::take(&mut class.again)) {
                self.classes.set_blocked(class, false);
            }
        }
        self.settle(out);
        self.lose_patience(out);
        self.make_room_for_waiting(out);
    }

    /// Ends leases that their owners have not named for too long, of some owners at a time.
    fn end_unnamed(&mut self, out: &mut Vec<Action>) {
        let places: Vec<u32> = self.cluster.places_from(self.sweep).take(SWEEP).collect();
        self.sweep = places.last().map_or(0, |last| last + 1);
        for place in places {
            let Some(node) = self.cluster.get(place) else { continue };
            let unnamed = |id: &LeaseId| self.leases.get(*id).is_some_and(|lease| self.now_ms >= lease.named_ms + LEASE_MS);
            let owner = node.id;
            for id in node.owned.iter().copied().filter(unnamed).collect::<Vec<LeaseId>>() {
                out.push(Action::Revoke { owner, lease: id, error: over(id) });
                self.end_lease(id);
            }
        }
    }

    /// The cluster grew or shrank: shares are parts of it.
    fn rescale(&mut self) {
        if self.accounts.rescale(&self.cluster.total) {
            self.reshare_all();
        }
    }

    fn reshare_all(&mut self) {
        let busy: Vec<u32> = self.accounts.tenants().flat_map(|tenant| tenant.waiting.keys().copied()).collect();
        for at in busy {
            if let Some(class) = self.classes.get_mut(at) {
                class.queue.reshare_all(|payer| self.accounts.shares(payer));
            }
            self.classes.rank(at);
        }
    }
}

/// All that decides where a demand fits.
pub(crate) fn class_key(demand: &Demand, aim: Aim) -> ClassKey {
    let Demand { shape, placement, .. } = demand;
    ClassKey {
        cpu: shape.cpu.parts(),
        gpu: shape.gpu.parts(),
        memory: shape.memory,
        gang: demand.gang && aim == Aim::Free,
        aim,
        node: placement.node,
        custom: shape.custom.clone(),
        labels: placement.labels.clone(),
        prefer: placement.prefer_labels.clone(),
        needs: demand.needs.clone(),
    }
}
