//! Meeting demands: where a slot goes, how many at a time, and whose turn it is.

use std::{cmp::Reverse, sync::Arc};

use rwasm_types::{LeaseId, NodeId, ResourceSet};

use crate::{
    Action, Core,
    class::{Aim, Class},
    cluster::NodeView,
    demand::{Wish, WishKey},
    filter::NO_GPU,
    group::GroupId,
    lease::{Entry, LeaseState},
    limit::{ASIDE_PER_GAIN, GANG_AGAIN_MS, LEASE_SLOTS_MAX, PACK_BELOW, PACK_LOOK_AT},
    share::Payer,
    tree::Want,
};

/// How far a wish was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// Nothing is left of it.
    All,
    /// As much as it may have before others had their turn.
    Part,
    /// There is no room for the rest.
    Blocked,
    /// There is room, but not on a node that its owner can use.
    Aside,
}

impl Core {
    /// Meets what can be met, in order, until nothing more can.
    pub(crate) fn settle(&mut self, out: &mut Vec<Action>) {
        loop {
            while let Some(place) = self.cluster.next_gain() {
                self.gained(place, out);
            }
            let Some((_, class)) = self.classes.turns.first().copied() else { return };
            let Some((_, at)) = self.classes.get(class).and_then(|class| class.queue.head()) else { return };
            let alone = self.classes.turns.len() == 1 && self.classes.get(class).is_some_and(|class| class.queue.len() == 1);
            let met = self.meet(at, if alone { u32::MAX } else { 1 }, out);
            self.conclude(at, met, out);
        }
    }

    /// What follows for a waiting wish from how far it was met.
    pub(crate) fn conclude(&mut self, at: u32, met: Met, out: &mut Vec<Action>) {
        match met {
            Met::All => drop(self.dequeue(at)),
            Met::Part => self.trim_holds(at, u32::MAX),
            Met::Blocked => {
                self.trim_holds(at, u32::MAX);
                let Some(class) = self.wishes.get(at).map(|wish| wish.class) else { return };
                self.block(class, at, out);
            }
            Met::Aside => {
                self.trim_holds(at, u32::MAX);
                self.set_aside(at);
            }
        }
    }

    /// There is no room for a class, as one of its wishes found out.
    fn block(&mut self, class: u32, at: u32, out: &mut Vec<Action>) {
        let now_ms = self.now_ms;
        if let Some(class) = self.classes.get_mut(class) {
            class.failed_ms = now_ms;
        }
        self.classes.set_blocked(class, true);
        self.refuse_if_infeasible(class, out);
        self.preempt(at, out);
    }

    /// A node has more to offer.
    fn gained(&mut self, place: u32, out: &mut Vec<Action>) {
        let Some(node) = self.cluster.get(place) else { return };
        for at in node.holds.iter().copied().collect::<Vec<u32>>() {
            self.try_held(at, place, out);
        }
        for class in self.classes.blocked.iter().copied().collect::<Vec<u32>>() {
            if self.may_unblock(class, place) {
                self.classes.set_blocked(class, false);
            }
        }
        if self.classes.with_aside.is_empty() {
            return;
        }
        let (Some(node), offer) = (self.cluster.get(place), self.cluster.tree.get(place)) else { return };
        let mut back = Vec::new();
        for class in self.classes.with_aside.iter().filter_map(|class| self.classes.get(*class)).filter(|class| class.may_fit(node, &offer))
        {
            let usable =
                class.aside.values().copied().filter(|at| self.wishes.get(*at).is_some_and(|wish| self.may_use(wish, class, place)));
            back.extend(usable.take(ASIDE_PER_GAIN));
        }
        back.into_iter().for_each(|at| self.take_back(at));
    }

    /// Whether a class for which there was no room is to be tried again, now that a node has more to offer.
    fn may_unblock(&mut self, class: u32, place: u32) -> bool {
        let now_ms = self.now_ms;
        let Some(node) = self.cluster.get(place) else { return false };
        let offer = self.cluster.tree.get(place);
        let Some(class) = self.classes.get_mut(class).filter(|class| class.may_fit(node, &offer)) else { return false };
        match class.key.aim {
            Aim::Bundle(..) => false,
            // What needs several places at once is not tried at each of them.
            Aim::Free | Aim::Group(_) if class.key.gang && now_ms < class.failed_ms + GANG_AGAIN_MS => {
                class.again = true;
                false
            }
            Aim::Free | Aim::Group(_) => true,
        }
    }

    /// Tries to meet a wish for which room is made, with that room and no more.
    fn try_held(&mut self, at: u32, place: u32, out: &mut Vec<Action>) {
        let Some(wish) = self.wishes.get_mut(at) else { return };
        let (mut holds, before) = (std::mem::take(&mut wish.holds), wish.slots);
        for hold in &holds {
            self.cluster.change(hold.place, |node| node.held_back.take_saturating(&hold.amount));
        }
        let slots = holds.iter().map(|hold| hold.slots).sum();
        let met = self.meet(at, slots, out);
        for hold in &holds {
            self.cluster.change(hold.place, |node| node.held_back.give(&hold.amount));
        }
        // What was kept where something became free is used up first.
        holds.sort_by_key(|hold| hold.place == place);
        let Some(wish) = self.wishes.get_mut(at) else { return };
        wish.holds = holds;
        let granted = before - wish.slots;
        if met == Met::All {
            // The room that was kept is free for others, if anything is left of it.
            self.dequeue(at);
        } else {
            self.trim_holds(at, slots - granted);
        }
    }

    /// Meets a wish as far as there is room, up to so many slots.
    pub(crate) fn meet(&mut self, at: u32, quantum: u32, out: &mut Vec<Action>) -> Met {
        let Some(wish) = self.wishes.get(at) else { return Met::All };
        let at_class = wish.class;
        let Some(class) = self.classes.get(at_class) else { return Met::All };
        match (class.key.aim, class.key.gang) {
            (Aim::Group(key), _) => {
                if self.reserve(key, at_class, out) {
                    Met::All
                } else {
                    Met::Blocked
                }
            }
            (Aim::Bundle(key, number), _) => self.meet_from_bundles(at, key, number, out),
            (Aim::Free, true) => self.meet_gang(at, out),
            (Aim::Free, false) => self.meet_slots(at, quantum, out),
        }
    }

    fn meet_slots(&mut self, at: u32, quantum: u32, out: &mut Vec<Action>) -> Met {
        let mut left = quantum;
        while left > 0 {
            let Some(wish) = self.wishes.get(at).filter(|wish| wish.slots > 0) else { return Met::All };
            let Some(class) = self.classes.get(wish.class) else { return Met::All };
            let Some(place) = self.find(wish, class, |place| self.may_use(wish, class, place)) else {
                let elsewhere = self.find(wish, class, |place| self.admits(class, place)).is_some();
                return if elsewhere { Met::Aside } else { Met::Blocked };
            };
            let slots = self.portion(wish, class, place).min(left);
            self.hand_out(at, place, slots, None, out);
            left -= slots;
        }
        match self.wishes.get(at) {
            Some(wish) if wish.slots > 0 => Met::Part,
            _ => Met::All,
        }
    }

    /// All slots of a gang at once, or none.
    fn meet_gang(&mut self, at: u32, out: &mut Vec<Action>) -> Met {
        let mut taken: Vec<(u32, u32)> = Vec::new();
        let Some(wish) = self.wishes.get(at) else { return Met::All };
        let Some(class) = self.classes.get(wish.class) else { return Met::All };
        let (shape, mut left) = (Arc::clone(&class.shape), wish.slots);
        while left > 0 {
            let (Some(wish), Some(class)) = (self.wishes.get(at), self.wishes.get(at).and_then(|wish| self.classes.get(wish.class))) else {
                break;
            };
            let Some(place) = self.find(wish, class, |place| self.may_use(wish, class, place)) else { break };
            let slots = self.portion(wish, class, place).min(left);
            self.cluster.change(place, |node| node.leased.give(&shape.times(slots)));
            taken.push((place, slots));
            left -= slots;
        }
        for (place, slots) in taken.iter().rev() {
            self.cluster.change(*place, |node| node.leased.take_saturating(&shape.times(*slots)));
        }
        if left > 0 {
            return Met::Blocked;
        }
        for (place, slots) in taken {
            self.hand_out(at, place, slots, None, out);
        }
        Met::All
    }

    fn meet_from_bundles(&mut self, at: u32, key: GroupId, number: Option<u32>, out: &mut Vec<Action>) -> Met {
        loop {
            let Some(wish) = self.wishes.get(at).filter(|wish| wish.slots > 0) else { return Met::All };
            let Some(class) = self.classes.get(wish.class) else { return Met::All };
            let Some((place, slots, number)) = self.bundle_for(wish, class, key, number) else { return Met::Blocked };
            self.hand_out(at, place, slots, Some((key, number)), out);
        }
    }

    /// The bundle of a group for the next slots of a wish, with its place and how many slots it has for it.
    pub(crate) fn bundle_for(&self, wish: &Wish, class: &Class, key: GroupId, number: Option<u32>) -> Option<(u32, u32, u32)> {
        let group = self.groups.get(&key)?;
        let may_use = |node: &NodeView| !node.draining && class.suits(node) && self.reaches(wish, node.id);
        group.bundles.iter().zip(0u32..).filter(|(_, at)| number.is_none_or(|only| only == *at)).find_map(|(bundle, at)| {
            let place = bundle.place.filter(|place| self.cluster.get(*place).is_some_and(may_use))?;
            let room = bundle.free.count_of(&group.drawn(at as usize, &class.shape)).unwrap_or_else(|| u64::from(wish.slots));
            let slots = u32::try_from(room).unwrap_or(u32::MAX).min(wish.slots).min(LEASE_SLOTS_MAX);
            (slots > 0).then_some((place, slots, at))
        })
    }

    /// Whether a node is one for this kind of demand.
    fn admits(&self, class: &Class, place: u32) -> bool {
        self.cluster.get(place).is_some_and(|node| class.hard.admits(node))
    }

    /// Whether an owner gets leases on a node: on others than itself, which needs none, if it can reach them.
    pub(crate) fn may_use(&self, wish: &Wish, class: &Class, place: u32) -> bool {
        let reaches = |node| self.reaches(wish, node);
        wish.owner != Some(place) && self.cluster.get(place).is_some_and(|node| class.hard.admits(node) && reaches(node.id))
    }

    /// Whether a wish's owner can reach a node, as far as it said.
    pub(crate) fn reaches(&self, wish: &Wish, node: NodeId) -> bool {
        self.unreachable.is_empty() || wish.key.owner().is_none_or(|owner| !self.unreachable.contains_key(&(owner, node)))
    }

    /// The node for the next slot of a wish.
    pub(crate) fn find(&self, wish: &Wish, class: &Class, allowed: impl Fn(u32) -> bool) -> Option<u32> {
        let tree = &self.cluster.tree;
        let fits = |node: NodeId| self.cluster.place(node).filter(|place| class.want.fits(&tree.get(*place)) && allowed(*place));
        if let Some(only) = class.key.node {
            return fits(only);
        }
        if !class.want.fits(tree.root()) {
            return None;
        }
        if let Some(place) = wish.first.iter().find_map(|node| fits(*node)) {
            return Some(place);
        }
        let search = |want: &Want, allowed: &dyn Fn(u32) -> bool| {
            let packed = if wish.spread { None } else { tree.packed(want, PACK_BELOW, PACK_LOOK_AT, allowed) };
            packed.or_else(|| tree.emptiest(want, allowed))
        };
        if let Some(prefer) = &class.prefer {
            let preferred = |place: u32| self.cluster.get(place).is_some_and(|node| prefer.admits(node)) && allowed(place);
            if let Some(place) = search(&class.want.with(prefer.mark), &preferred) {
                return Some(place);
            }
        }
        if class.want.gpu == 0
            && self.cluster.is_mixed()
            && let Some(place) = search(&class.want.with(NO_GPU), &allowed)
        {
            return Some(place);
        }
        search(&class.want, &allowed)
    }

    /// How many slots of a wish a node gets at a time: packing, as many as fill it to where the next node is used; beyond that, and
    /// where work is spread, few, so that the nodes stay equally full.
    pub(crate) fn portion(&self, wish: &Wish, class: &Class, place: u32) -> u32 {
        let Some(node) = self.cluster.get(place).filter(|_| wish.slots > 1) else { return 1 };
        let Some(room) = node.offered().count_of(&class.shape) else { return wish.slots };
        let all = node.capacity.count_of(&class.shape).unwrap_or(room);
        let (half, used) = (all.div_ceil(2), all - room.min(all));
        let portion = match (wish.spread, half.saturating_sub(used)) {
            (true, _) => 1,
            (false, 0) => all / 8,
            (false, to_half) => to_half,
        };
        u32::try_from(portion.clamp(1, room.max(1))).unwrap_or(u32::MAX).min(wish.slots).min(LEASE_SLOTS_MAX)
    }

    /// Gives slots on a node to a wish, as a lease of its own or by making one of the same step larger.
    fn hand_out(&mut self, at: u32, place: u32, slots: u32, bundle: Option<(GroupId, u32)>, out: &mut Vec<Action>) {
        let Some(wish) = self.wishes.get_mut(at) else { return };
        let WishKey::Slots(key) = wish.key else { return };
        wish.slots -= slots;
        let Some(owner_place) = wish.owner else { return };
        let (payer, priority, retryable, more) = (wish.payer(), wish.standing.priority, wish.retryable, wish.slots > 0);
        let Some(shape) = self.classes.get(wish.class).map(|class| Arc::clone(&class.shape)) else { return };
        let Some(node) = self.cluster.get(place).map(|node| node.id) else { return };
        let many = (slots > 1).then(|| shape.times(slots));
        let held: &ResourceSet = many.as_ref().unwrap_or(&shape);
        match bundle {
            None => self.charge(payer, held, true),
            Some((group, number)) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    let drawn = group.drawn(number as usize, held);
                    if let Some(bundle) = group.bundles.get_mut(number as usize) {
                        bundle.free.take_saturating(&drawn);
                    }
                }
            }
        }
        if let Some((id, action)) = self.step_leases.get(&(key, place, bundle)).copied()
            && let Some(lease) = self.leases.get_mut(id).filter(|lease| lease.slots + slots <= LEASE_SLOTS_MAX)
        {
            lease.slots += slots;
            if let Some(Action::Grant { slots: granted, .. }) = out.get_mut(action) {
                *granted += slots;
            }
            if bundle.is_none() {
                self.cluster.change(place, |node| node.leased.give(held));
            }
            return;
        }
        let id = self.leases.next_id();
        if more {
            self.step_leases.insert((key, place, bundle), (id, out.len()));
        }
        out.push(Action::Grant { key, lease: id, node, slots, bundle: bundle.map(|(_, number)| number) });
        let (owner, named_ms, state) = (key.owner, self.now_ms, LeaseState::Active);
        self.accounts.reopen(payer);
        let entry_shape = Arc::clone(&shape);
        let lease =
            Entry { owner, owner_place, node, place, payer, shape: entry_shape, slots, priority, retryable, named_ms, state, bundle };
        self.enter_lease(id, lease, held);
    }

    /// Writes a lease into the books of its node and its owner.
    pub(crate) fn enter_lease(&mut self, id: LeaseId, lease: Entry, held: &ResourceSet) {
        let takeable = lease.retryable && lease.bundle.is_none();
        self.cluster.change(lease.place, |node| {
            if lease.bundle.is_none() {
                node.leased.give(held);
            }
            node.leases.insert((lease.priority, Reverse(id)), takeable);
        });
        self.cluster.own(lease.owner_place, id, true);
        self.leases.insert(id, lease);
    }

    /// Somebody holds more, or less: the turns of what waits change.
    pub(crate) fn charge(&mut self, payer: Payer, amount: &ResourceSet, more: bool) {
        self.accounts.charge(payer, amount, more);
        self.reshared(payer);
    }

    fn reshared(&mut self, payer: Payer) {
        let Some(tenant) = self.accounts.tenant(payer.tenant).filter(|tenant| !tenant.waiting.is_empty()) else { return };
        let shares = self.accounts.shares(payer);
        for at in tenant.waiting.keys().copied().collect::<Vec<u32>>() {
            if let Some(class) = self.classes.get_mut(at) {
                class.queue.reshare(payer, shares);
                self.classes.rank(at);
            }
        }
    }
}
