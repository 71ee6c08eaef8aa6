//! Making room for what waits: leases are asked back, or taken back where their work can run again, and what becomes free is kept for
//! whoever it was freed for.
//!
//! ```text
//! a higher priority waits ─────────────────▶ leases of lower priority: revoked if retryable, else retired
//! 1 s, and somebody holds a larger share ──▶ retired, until the shares are even
//! 5 s, and the job has nothing ─────────────▶ retired, of whoever holds no smaller share: small ones do not starve large ones
//! ```

use std::collections::BTreeMap;

use rwasm_types::{Code, Error, GroupStrategy, LabelSelector, LeaseId, Needs, NodeId, ResourceSet};

use crate::{
    Action, Core,
    class::{Aim, Class},
    cluster::NodeView,
    demand::{Hold, Wish, WishKey},
    lease::{Entry, LeaseState},
    limit::{FAIR_AFTER_MS, HOLDS_MAX, HOMES_MAX, ROOM_LOOK_AT, ROOM_PER_TICK, STARVING_AFTER_MS},
    share::{Payer, Share},
};

/// Room is kept for so long; what could not be had by then is looked for elsewhere.
const HOLD_MS: u64 = 30_000;
/// Slots that are freed for one demand at one tick.
const ROOM_PER_WISH: usize = 16;

/// What could be had on a node.
struct Prospect {
    /// What would be free, without what is meant for the wish already.
    room: ResourceSet,
    /// Leases that would have to go, and whether at once.
    victims: Vec<(LeaseId, bool)>,
    /// Leases that could go beside those, the first to go last.
    more: Vec<(LeaseId, bool, ResourceSet)>,
    slots: u32,
    amount: ResourceSet,
}

impl Core {
    /// Makes room at once for a wish of higher priority than some lease.
    pub(crate) fn preempt(&mut self, at: u32, out: &mut Vec<Action>) {
        let lowest = self.cluster.tree.root().victim;
        if self.wishes.get(at).is_some_and(|wish| i16::from(wish.standing.priority.get()) > lowest) {
            self.make_room(at, HOLDS_MAX, out);
        }
    }

    /// Makes room for those that have waited long, in their order.
    pub(crate) fn make_room_for_waiting(&mut self, out: &mut Vec<Action>) {
        let stale: Vec<u32> =
            self.holders.iter().copied().filter(|at| self.wishes.get(*at).is_some_and(|wish| self.is_stale(wish))).collect();
        stale.into_iter().for_each(|at| self.release_holds(at));
        // No lease has to make way for what comes out of bundles: it waits for its group alone.
        let may_have_room = |class: &&Class| !matches!(class.key.aim, Aim::Bundle(..));
        let head = |class: &u32| Some((self.classes.get(*class).filter(may_have_room)?.queue.head()?.0, *class));
        let mut heads: Vec<_> = self.classes.blocked.iter().filter_map(head).collect();
        heads.sort_unstable();
        let mut left = ROOM_PER_TICK;
        for (_, class) in heads {
            let Some(class) = self.classes.get(class) else { continue };
            let waiting: Vec<u32> = class.queue.in_order().take(left).collect();
            left -= waiting.len();
            for at in waiting {
                // One by one, for each changes what is fair for the next.
                let _ = (0..ROOM_PER_WISH).find(|_| !self.make_room(at, 1, out));
            }
            if left == 0 {
                return;
            }
        }
    }

    fn is_stale(&self, wish: &Wish) -> bool {
        !wish.holds.is_empty() && self.now_ms >= wish.held_since_ms + HOLD_MS
    }

    /// Whether a lease has to make way for a wish; if so, whether at once.
    fn gives_way(&self, wish: &Wish, shape: &ResourceSet, lease: &Entry) -> Option<bool> {
        if lease.state != LeaseState::Active || lease.bundle.is_some() || lease.priority > wish.standing.priority {
            return None;
        }
        if lease.priority < wish.standing.priority {
            return Some(lease.retryable);
        }
        let (payer, waited) = (wish.payer(), self.now_ms.saturating_sub(wish.since_ms));
        let same_job = lease.payer.job == payer.job;
        if waited < FAIR_AFTER_MS || same_job && *lease.shape == *shape {
            return None;
        }
        let (mine, theirs) = (self.accounts.shares_soon(payer), self.accounts.shares_soon(lease.payer));
        let (more, less) = (self.accounts.unit(payer, shape), self.accounts.unit(lease.payer, &lease.held()));
        let same_tenant = lease.payer.tenant == payer.tenant;
        // By more than what rounding makes of equal shares.
        let larger = |theirs: Share, less: Share, mine: Share, more: Share| theirs.saturating_sub(less) > mine + more + (more >> 8);
        let evens_out =
            if same_tenant { !same_job && larger(theirs.1, less.1, mine.1, more.1) } else { larger(theirs.0, less.0, mine.0, more.0) };
        let starving = waited >= STARVING_AFTER_MS && (same_job || mine.1 == 0 && (same_tenant || theirs.0 >= mine.0));
        (evens_out || starving).then_some(false)
    }

    /// Makes room for up to so many slots of a wish, as far as leases have to make way for it, and keeps it for the wish; a gang gets
    /// all of it or none. Says whether it found any.
    fn make_room(&mut self, at: u32, slots_max: usize, out: &mut Vec<Action>) -> bool {
        let Some(wish) = self.wishes.get(at) else { return false };
        let Some(class) = self.classes.get_mut(wish.class) else { return false };
        let (is_gang, aim, shape) = (class.key.gang, class.key.aim, std::sync::Arc::clone(&class.shape));
        // Two gangs that each hold a part of what both need would wait for each other for ever.
        if matches!(aim, Aim::Bundle(..)) || is_gang && (!wish.holds.is_empty() || self.gang_holder.is_some_and(|other| other != at)) {
            return false;
        }
        let units: Vec<(ResourceSet, u32)> = match aim {
            Aim::Group(key) => {
                let units = self.groups.get(&key).map(|group| group.units()).unwrap_or_default();
                units.into_iter().map(|(shape, bundles)| (shape, bundles.len() as u32)).collect()
            }
            Aim::Free | Aim::Bundle(..) => {
                let missing = wish.slots.saturating_sub(wish.held_slots()) as usize;
                let most = if is_gang { missing } else { missing.min(slots_max).min(HOLDS_MAX.saturating_sub(wish.holds.len())) };
                vec![((*shape).clone(), 1); most]
            }
        };
        let apart = match aim {
            Aim::Group(key) => self.groups.get(&key).is_some_and(|group| group.group.strategy == GroupStrategy::StrictSpread),
            Aim::Free | Aim::Bundle(..) => false,
        };
        if units.is_empty() {
            return false;
        }
        let homes = class.homes(&self.cluster).to_vec();
        let begin = class.cursor as usize % homes.len().max(1);
        let look_at = if is_gang { HOMES_MAX } else { ROOM_LOOK_AT };
        class.cursor = class.cursor.wrapping_add(look_at as u32 / 2);
        let candidates: Vec<u32> = homes[begin..].iter().chain(&homes[..begin]).copied().take(look_at).collect();
        let Some(prospects) = self.prospects(at, &shape, &units, &candidates, apart, is_gang) else { return false };
        for (place, prospect) in prospects {
            for (lease, at_once) in prospect.victims {
                self.take_back_lease(lease, at_once, out);
            }
            self.hold(at, Hold { place, amount: prospect.amount, slots: prospect.slots });
        }
        if is_gang {
            self.gang_holder = Some(at);
        }
        true
    }

    /// What has to be freed where, so that so many units fit; of a gang all of them, or nothing.
    fn prospects(
        &self,
        at: u32,
        shape: &ResourceSet,
        units: &[(ResourceSet, u32)],
        candidates: &[u32],
        apart: bool,
        all: bool,
    ) -> Option<Vec<(u32, Prospect)>> {
        let wish = self.wishes.get(at)?;
        let class = self.classes.get(wish.class)?;
        let mut found: BTreeMap<u32, Prospect> = BTreeMap::new();
        let (mut next, mut last_unit, mut placed) = (0, None, 0);
        for (unit, slots) in units {
            // What was too small for a unit is too small for the next one of the same size.
            if last_unit.is_some_and(|last| last != unit) {
                next = 0;
            }
            last_unit = Some(unit);
            while let Some(place) = candidates.get(next).copied() {
                let Some(node) = self.cluster.get(place).filter(|node| class.is_home(node)) else {
                    next += 1;
                    continue;
                };
                let excluded = apart && (found.get(&place).is_some_and(|prospect| prospect.slots > 0) || self.hosts(wish, place));
                let usable = matches!(class.key.aim, Aim::Group(_)) || wish.owner != Some(place) && self.reaches(wish, node.id);
                let prospect = found.entry(place).or_insert_with(|| self.prospect(wish, shape, place));
                if !excluded && usable && prospect.fit(unit, *slots) {
                    placed += 1;
                    break;
                }
                next += 1;
            }
        }
        found.retain(|_, prospect| prospect.slots > 0);
        let enough = if all { placed == units.len() } else { placed > 0 };
        // Where nothing has to go there is room already, and none to be made.
        (enough && found.values().any(|prospect| !prospect.victims.is_empty())).then(|| found.into_iter().collect())
    }

    fn hosts(&self, wish: &Wish, place: u32) -> bool {
        let WishKey::Group(key) = wish.key else { return false };
        self.groups.get(&key).is_some_and(|group| group.places().any(|of| of == place))
    }

    fn prospect(&self, wish: &Wish, shape: &ResourceSet, place: u32) -> Prospect {
        let node = self.cluster.get(place);
        let leases = node.into_iter().flat_map(|node| node.leases.keys());
        let may_go = leases.filter_map(|(_, id)| {
            let lease = self.leases.get(id.0)?;
            Some((id.0, self.gives_way(wish, shape, lease)?, lease.held()))
        });
        let mut more: Vec<_> = may_go.collect();
        more.reverse();
        let room = node.map(|node| node.offered()).unwrap_or_default();
        Prospect { room, victims: Vec::new(), more, slots: 0, amount: ResourceSet::default() }
    }

    /// Tells an owner that a lease is to come back: at once, or when its work has ended.
    fn take_back_lease(&mut self, id: LeaseId, at_once: bool, out: &mut Vec<Action>) {
        if !at_once {
            return self.retire(id, Error::new(Code::LEASE_OVER, "others wait who hold less, or who go first"), out);
        }
        if let Some(owner) = self.set_on_its_way(id, LeaseState::Revoked) {
            self.leases.await_return(id, self.now_ms);
            let error = Error::new(Code::PREEMPTED, "the slots went to work of a higher priority").with("lease", id);
            out.push(Action::Revoke { owner, lease: id, error });
        }
    }

    /// Tells an owner to send nothing more on a lease.
    pub(crate) fn retire(&mut self, id: LeaseId, error: Error, out: &mut Vec<Action>) {
        if let Some(owner) = self.set_on_its_way(id, LeaseState::Retired) {
            out.push(Action::Retire { owner, lease: id, error: error.with("lease", id) });
        }
    }

    /// Writes down that a lease in use is on its way back.
    fn set_on_its_way(&mut self, id: LeaseId, state: LeaseState) -> Option<NodeId> {
        let lease = self.leases.get_mut(id).filter(|lease| lease.state == LeaseState::Active)?;
        lease.state = state;
        let (owner, place, held, payer, bundle) = (lease.owner, lease.place, lease.held(), lease.payer, lease.bundle);
        let key = (lease.priority, std::cmp::Reverse(id));
        self.cluster.change(place, |node| {
            node.leases.insert(key, false);
        });
        // What comes out of a bundle was charged with its group.
        if bundle.is_none() {
            self.accounts.expect(payer, &held, false);
        }
        Some(owner)
    }

    fn hold(&mut self, at: u32, hold: Hold) {
        let now_ms = self.now_ms;
        let Some(wish) = self.wishes.get_mut(at) else { return };
        if wish.holds.is_empty() {
            wish.held_since_ms = now_ms;
        }
        let (payer, place, amount) = (wish.payer(), hold.place, hold.amount.clone());
        wish.holds.push(hold);
        self.cluster.change(place, |node| {
            node.held_back.give(&amount);
            node.holds.insert(at);
        });
        self.accounts.expect(payer, &amount, true);
        self.holders.insert(at);
    }

    fn unhold(&mut self, at: u32, payer: Payer, hold: &Hold) {
        self.cluster.relieve(hold.place, |node| {
            node.held_back.take_saturating(&hold.amount);
            node.holds.remove(&at);
        });
        self.accounts.expect(payer, &hold.amount, false);
    }

    /// Gives up what is kept beyond so many slots, and beyond what a wish still needs.
    pub(crate) fn trim_holds(&mut self, at: u32, slots_max: u32) {
        while let Some(wish) = self.wishes.get_mut(at).filter(|wish| wish.held_slots() > wish.slots.min(slots_max)) {
            let payer = wish.payer();
            let Some(hold) = wish.holds.pop() else { return };
            let shared = wish.holds.iter().any(|other| other.place == hold.place);
            self.unhold(at, payer, &hold);
            if shared {
                self.cluster.change(hold.place, |node| {
                    node.holds.insert(at);
                });
            }
        }
        if self.wishes.get(at).is_none_or(|wish| wish.holds.is_empty()) {
            self.holders.remove(&at);
        }
    }

    /// Gives up all that is kept for a wish.
    pub(crate) fn release_holds(&mut self, at: u32) {
        let Some(wish) = self.wishes.get_mut(at) else { return };
        let (payer, holds) = (wish.payer(), std::mem::take(&mut wish.holds));
        holds.iter().for_each(|hold| self.unhold(at, payer, hold));
        self.holders.remove(&at);
        self.gang_holder.take_if(|holder| *holder == at);
    }

    /// Gives up what was kept on a node that is gone.
    pub(crate) fn lose_holds(&mut self, place: u32) {
        for at in self.holders.iter().copied().collect::<Vec<u32>>() {
            let Some(wish) = self.wishes.get_mut(at).filter(|wish| wish.holds.iter().any(|hold| hold.place == place)) else { continue };
            let payer = wish.payer();
            let (lost, kept): (Vec<Hold>, Vec<Hold>) = std::mem::take(&mut wish.holds).into_iter().partition(|hold| hold.place == place);
            wish.holds = kept;
            lost.iter().for_each(|hold| self.accounts.expect(payer, &hold.amount, false));
            // What is left of a gang's room is of no use alone.
            if self.gang_holder == Some(at) {
                self.release_holds(at);
            }
            self.trim_holds(at, u32::MAX);
        }
    }

    /// Why no node can ever meet what a class asks for, as far as all of its wishes are concerned. As long as nodes are expected back, they count.
    pub(crate) fn why_never(&mut self, class: u32) -> Option<Error> {
        if self.is_patient() {
            return None;
        }
        let known = self.classes.get_mut(class)?;
        match known.key.aim {
            Aim::Bundle(..) => return None,
            Aim::Group(key) => return self.group_infeasible(key),
            Aim::Free => {}
        }
        if !known.homes(&self.cluster).is_empty() || self.cluster.missed().any(|node| known.is_home(node)) {
            return None;
        }
        let known = self.classes.get(class)?;
        let (shape, key) = (&known.shape, &known.key);
        Some(match key.node {
            Some(only) if self.cluster.find(only).is_none() => Error::new(Code::INFEASIBLE, format!("there is no node {only}")),
            Some(only) => self.no_node(shape, &key.labels, &key.needs).context(format_args!("node {only}")),
            None => self.no_node(shape, &key.labels, &key.needs),
        })
    }

    /// Tells the owners of a class's wishes that no node can ever meet them, if so.
    pub(crate) fn refuse_if_infeasible(&mut self, class: u32, out: &mut Vec<Action>) {
        let Some(error) = self.why_never(class) else { return self.refuse_large_gangs(class, out) };
        let waiting: Vec<u32> = self.classes.get(class).map(|class| class.queue.iter().collect()).unwrap_or_default();
        for at in waiting {
            let Some(wish) = self.wishes.get_mut(at).filter(|wish| !wish.refused) else { continue };
            wish.refused = true;
            let error = error.clone();
            out.push(match wish.key {
                WishKey::Slots(key) => Action::Refuse { key, error },
                WishKey::Group(group) => Action::RefuseGroup { group, error },
            });
        }
    }

    /// Whether nodes of an earlier life of the head are expected back.
    pub(crate) fn is_patient(&self) -> bool {
        self.now_ms < self.patient_until_ms
    }

    /// Nodes that did not come back in time are expected no more: what only they could meet is refused.
    pub(crate) fn lose_patience(&mut self, out: &mut Vec<Action>) {
        let is_over = self.patient_until_ms > 0 && !self.is_patient();
        if is_over {
            self.patient_until_ms = 0;
        }
        if self.cluster.miss_no_more(self.now_ms) || is_over {
            for class in self.classes.blocked.iter().copied().collect::<Vec<u32>>() {
                self.refuse_if_infeasible(class, out);
            }
        }
    }

    /// Tells the owners of gangs that all nodes together, were they empty, could not take them.
    fn refuse_large_gangs(&mut self, class: u32, out: &mut Vec<Action>) {
        let Some(known) = self.classes.get(class).filter(|class| class.key.aim == Aim::Free && class.key.gang) else { return };
        if self.is_patient() {
            return;
        }
        let room = |node: &NodeView| if known.is_home(node) { node.capacity.count_of(&known.shape).unwrap_or(u64::MAX) } else { 0 };
        let all = self.cluster.iter().map(|(_, node)| node).chain(self.cluster.missed()).map(room).fold(0, u64::saturating_add);
        let too_large = |at: &u32| {
            self.wishes.get(*at).is_some_and(|wish| {
                // Its owner's own node needs no lease, and gets none.
                let own = wish.owner.and_then(|place| self.cluster.get(place)).map_or(0, room);
                !wish.refused && u64::from(wish.slots) > all.saturating_sub(own)
            })
        };
        let (shape, refused) = (known.shape.to_string(), known.queue.iter().filter(too_large).collect::<Vec<u32>>());
        for at in refused {
            let Some(wish) = self.wishes.get_mut(at) else { continue };
            wish.refused = true;
            let WishKey::Slots(key) = wish.key else { continue };
            let message = format!("all other nodes together do not have {} times {shape}", wish.slots);
            out.push(Action::Refuse { key, error: Error::new(Code::INFEASIBLE, message).hint("ask for fewer at once, or add nodes") });
        }
    }

    /// No node has a shape, or none of those with these labels, or that offer this.
    pub(crate) fn no_node(&self, shape: &ResourceSet, labels: &[LabelSelector], needs: &Needs) -> Error {
        let conditions: Vec<String> = labels.iter().map(ToString::to_string).collect();
        let matching = self.cluster.iter().any(|(_, node)| labels.iter().all(|selector| selector.matches(&node.labels)));
        let with = if labels.is_empty() { String::new() } else { format!(" with {}", conditions.join(", ")) };
        let offers = if needs.is_empty() { "" } else { " that offers what is asked for" };
        let message = if matching || labels.is_empty() {
            format!("no node{with}{offers} has {shape}")
        } else {
            format!("no node has the labels {}", conditions.join(", "))
        };
        Error::new(Code::INFEASIBLE, message).hint("ask for less, or add a node that has it; `rwasm status -v` shows what nodes have")
    }
}

impl Prospect {
    /// Finds room for one more unit, with as few victims as it takes.
    fn fit(&mut self, unit: &ResourceSet, slots: u32) -> bool {
        let before = (self.room.clone(), self.victims.len());
        let mut gone = Vec::new();
        while !self.room.contains(unit) {
            let Some(victim) = self.more.pop() else { break };
            self.room.give(&victim.2);
            self.victims.push((victim.0, victim.1));
            gone.push(victim);
        }
        if self.room.take(unit) {
            self.slots += slots;
            self.amount.give(unit);
            return true;
        }
        self.room = before.0;
        self.victims.truncate(before.1);
        self.more.extend(gone.into_iter().rev());
        false
    }
}
