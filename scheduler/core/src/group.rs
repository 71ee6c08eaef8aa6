//! Placement groups: bundles of resources that are reserved together, or not at all, before work is sent into them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rwasm_types::{
    Code, Error, GroupStrategy, LabelSelector, Name, Needs, NodeId, Placement, Priority, Quantity, ResourceSet, Result, Tenant,
    api::GroupState,
};

use crate::{
    Action, Core,
    class::{Aim, Class, ClassKey},
    demand::{Wish, WishKey},
    limit::{BUNDLES_MAX, GROUPS_PER_TENANT_MAX, PACK_BELOW, PACK_LOOK_AT},
    queue::Standing,
    share::{Holder, Payer},
    tree::Want,
};

/// Names a placement group, which is the cluster's and no owner's: a number that the head gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// A placement group as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What people call it.
    pub name: Name,
    /// Of which tenant.
    pub tenant: Tenant,
    /// Who goes first.
    pub priority: Priority,
    /// What each bundle reserves.
    pub bundles: Vec<ResourceSet>,
    /// How they are laid over nodes.
    pub strategy: GroupStrategy,
    /// Conditions that the node of every bundle has to meet.
    pub labels: Vec<LabelSelector>,
}

/// A group as others may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Which.
    pub id: GroupId,
    /// As it was asked for.
    pub group: Arc<Group>,
    /// Where it is.
    pub state: GroupState,
    /// The node of each bundle, and what leases have not taken of it.
    pub bundles: Vec<(Option<NodeId>, ResourceSet)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) place: Option<u32>,
    pub(crate) free: ResourceSet,
}

#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) group: Arc<Group>,
    pub(crate) payer: Payer,
    pub(crate) state: GroupState,
    pub(crate) bundles: Vec<Bundle>,
    /// Classes of demands that come out of it.
    pub(crate) classes: BTreeSet<u32>,
}

impl Reserved {
    /// What is to be placed, each with the bundles that it is for: all as one for [`GroupStrategy::StrictPack`].
    pub(crate) fn units(&self) -> Vec<(ResourceSet, Vec<usize>)> {
        let missing = self.bundles.iter().enumerate().filter(|(_, bundle)| bundle.place.is_none()).map(|(at, _)| at);
        if self.group.strategy == GroupStrategy::StrictPack {
            let missing: Vec<usize> = missing.collect();
            return vec![(sum(missing.iter().map(|at| &self.group.bundles[*at])), missing)];
        }
        let mut units: Vec<_> = missing.map(|at| (self.group.bundles[at].clone(), vec![at])).collect();
        // The largest first, for they are the hardest to place.
        units.sort_by_key(|(shape, _)| std::cmp::Reverse((shape.gpu, shape.cpu, shape.memory)));
        units
    }

    /// What a slot takes of a bundle. One that reserves no memory bounds none: what nodes have of it they watch themselves.
    pub(crate) fn drawn(&self, number: usize, held: &ResourceSet) -> ResourceSet {
        let bounds_memory = self.group.bundles.get(number).is_none_or(|bundle| bundle.memory > 0);
        ResourceSet { memory: if bounds_memory { held.memory } else { 0 }, ..held.clone() }
    }

    /// Why no bundle, or not the one that is meant, can ever hold a shape.
    pub(crate) fn too_small(&self, number: Option<u32>, shape: &ResourceSet) -> Option<Error> {
        let meant = |at: &usize| number.is_none_or(|only| only as usize == *at);
        let mut bundles = self.group.bundles.iter().enumerate().filter(|(at, _)| meant(at));
        let fits = bundles.any(|(at, bundle)| bundle.contains(&self.drawn(at, shape)));
        (!fits).then(|| {
            let message = match number {
                Some(number) => format!("bundle {number} of placement group {} does not have {shape}", self.group.name),
                None => format!("no bundle of placement group {} has {shape}", self.group.name),
            };
            Error::new(Code::INFEASIBLE, message).hint("ask for less, or create a group with larger bundles")
        })
    }

    /// Places of bundles that have one.
    pub(crate) fn places(&self) -> impl Iterator<Item = u32> {
        self.bundles.iter().filter_map(|bundle| bundle.place)
    }
}

/// The largest shape that fits wherever any of these fits.
fn least(shapes: &[ResourceSet]) -> ResourceSet {
    let least = |of: fn(&ResourceSet) -> Quantity| shapes.iter().map(of).min().unwrap_or_default();
    let memory = shapes.iter().map(|shape| shape.memory).min().unwrap_or_default();
    ResourceSet { cpu: least(|shape| shape.cpu), gpu: least(|shape| shape.gpu), memory, custom: BTreeMap::new() }
}

fn sum<'a>(shapes: impl IntoIterator<Item = &'a ResourceSet>) -> ResourceSet {
    let mut sum = ResourceSet::default();
    shapes.into_iter().for_each(|shape| sum.give(shape));
    sum
}

impl Group {
    /// Within limits, before it is written down.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`] and [`Code::INVALID_ARGUMENT`], saying what is wrong.
    pub fn checked(mut self) -> Result<Self> {
        if self.bundles.is_empty() || self.bundles.len() > BUNDLES_MAX {
            return Err(Error::new(Code::LIMIT, format!("a placement group has 1 to {BUNDLES_MAX} bundles, not {}", self.bundles.len())));
        }
        self.bundles = self.bundles.into_iter().map(ResourceSet::checked).collect::<Result<_>>()?;
        if self.bundles.iter().any(|bundle| *bundle == ResourceSet::default()) {
            return Err(Error::new(Code::INVALID_ARGUMENT, "a bundle of a placement group reserves nothing"));
        }
        self.labels = Placement { labels: self.labels, ..Placement::default() }.checked()?.labels;
        Ok(self)
    }

    fn class(&self, key: GroupId) -> ClassKey {
        let least = if self.strategy == GroupStrategy::StrictPack { sum(&self.bundles) } else { least(&self.bundles) };
        ClassKey {
            cpu: least.cpu.parts(),
            gpu: least.gpu.parts(),
            memory: least.memory,
            gang: true,
            aim: Aim::Group(key),
            node: None,
            custom: least.custom,
            labels: self.labels.clone(),
            prefer: Vec::new(),
            needs: Needs::default(),
        }
    }
}

impl Core {
    /// A group is wanted.
    pub(crate) fn want_group(&mut self, key: GroupId, group: Group, out: &mut Vec<Action>) {
        if self.groups.contains_key(&key) {
            return;
        }
        let of_tenant = self.groups.values().filter(|known| known.group.tenant == group.tenant).count();
        let full = (of_tenant >= GROUPS_PER_TENANT_MAX || self.is_full()).then(|| {
            Error::new(Code::QUEUE_FULL, "too many placement groups wait or are reserved").hint("remove those that are not needed")
        });
        let group = match full.map_or_else(|| group.checked(), Err) {
            Ok(group) => group,
            Err(error) => return out.push(Action::RefuseGroup { group: key, error }),
        };
        let payer = self.accounts.open(&group.tenant, Holder::Group(key));
        let bundles = vec![Bundle { place: None, free: ResourceSet::default() }; group.bundles.len()];
        let (group, state) = (Arc::new(group), GroupState::Pending);
        self.groups.insert(key, Reserved { group, payer, state, bundles, classes: BTreeSet::new() });
        self.place_group(key, out);
    }

    /// Lets a group wait for nodes for the bundles that have none.
    fn place_group(&mut self, key: GroupId, out: &mut Vec<Action>) {
        let Some(reserved) = self.groups.get(&key) else { return };
        let (group, payer) = (Arc::clone(&reserved.group), reserved.payer);
        let slots = reserved.bundles.iter().filter(|bundle| bundle.place.is_none()).count() as u32;
        if let Some(at) = self.wishes.find(WishKey::Group(key)) {
            if let Some(wish) = self.wishes.get_mut(at) {
                wish.slots = slots;
            }
            return;
        }
        let class = self.classes.of(group.class(key), &mut self.cluster);
        self.accounts.reopen(payer);
        let standing = Standing { priority: group.priority, payer, arrival: self.wishes.next_arrival() };
        let wish = Wish {
            key: WishKey::Group(key),
            owner: None,
            standing,
            class,
            since_ms: self.now_ms,
            slots,
            retryable: false,
            spread: false,
            first: Vec::new(),
            refused: false,
            aside: false,
            holds: Vec::new(),
            held_since_ms: 0,
        };
        self.enqueue(wish, out);
    }

    /// A group is not wanted any more: what it reserves is free, and its leases are over.
    pub(crate) fn remove_group(&mut self, key: GroupId, out: &mut Vec<Action>) {
        if let Some(at) = self.wishes.find(WishKey::Group(key)) {
            self.dequeue(at);
        }
        let classes = self.classes_of_group(key);
        let Some(reserved) = self.groups.remove(&key) else { return };
        let gone = Error::new(Code::GROUP_REMOVED, format!("placement group {} was removed", reserved.group.name));
        let of_group = self.leases.iter().filter(|(_, lease)| lease.bundle.is_some_and(|(group, _)| group == key));
        let leases: Vec<_> = of_group.map(|(id, lease)| (id, lease.owner)).collect();
        for (id, owner) in leases {
            out.push(Action::Revoke { owner, lease: id, error: gone.clone() });
            self.end_lease(id);
        }
        for (bundle, shape) in reserved.bundles.iter().zip(&reserved.group.bundles) {
            if let Some(place) = bundle.place {
                self.cluster.relieve(place, |node| node.leased.take_saturating(shape));
                self.charge(reserved.payer, shape, false);
            }
        }
        for class in classes {
            let waiting: Vec<u32> = self.classes.get(class).map(|class| class.queue.iter().collect()).unwrap_or_default();
            for at in waiting {
                if let Some(WishKey::Slots(key)) = self.dequeue(at).map(|wish| wish.key) {
                    out.push(Action::Refuse { key, error: gone.clone() });
                }
            }
        }
        self.accounts.close(reserved.payer);
    }

    /// Reserves all bundles that have no node, or none. Says whether it did.
    pub(crate) fn reserve(&mut self, key: GroupId, class: u32, out: &mut Vec<Action>) -> bool {
        let Some(reserved) = self.groups.get(&key) else { return true };
        let (strategy, units) = (reserved.group.strategy, reserved.units());
        let mut used: BTreeSet<u32> = reserved.places().collect();
        let mut taken: Vec<(u32, ResourceSet, Vec<usize>)> = Vec::new();
        for (shape, bundles) in units {
            let Some(place) = self.place_for_bundle(class, &shape, strategy, &used) else { break };
            self.cluster.change(place, |node| node.leased.give(&shape));
            used.insert(place);
            taken.push((place, shape, bundles));
        }
        let placed: usize = taken.iter().map(|(_, _, bundles)| bundles.len()).sum();
        let Some(reserved) = self.groups.get_mut(&key) else { return true };
        if placed < reserved.bundles.iter().filter(|bundle| bundle.place.is_none()).count() {
            // In the order in which they were taken off, so that the index is as it was.
            for (place, shape, _) in taken.iter().rev() {
                self.cluster.change(*place, |node| node.leased.take_saturating(shape));
            }
            return false;
        }
        let payer = reserved.payer;
        for (place, _, bundles) in &taken {
            for at in bundles {
                reserved.bundles[*at] = Bundle { place: Some(*place), free: reserved.group.bundles[*at].clone() };
            }
        }
        reserved.state = GroupState::Placed;
        let nodes: Vec<NodeId> = reserved.places().filter_map(|place| self.cluster.get(place)).map(|node| node.id).collect();
        taken.iter().for_each(|(_, shape, _)| self.charge(payer, shape, true));
        out.push(Action::GroupPlaced { group: key, nodes });
        self.wake_group(key);
        true
    }

    /// Where a bundle goes, of the nodes that have room.
    fn place_for_bundle(&self, class: u32, shape: &ResourceSet, strategy: GroupStrategy, used: &BTreeSet<u32>) -> Option<u32> {
        let class = self.classes.get(class)?;
        let want = Want { cpu: shape.cpu.parts(), gpu: shape.gpu.parts(), memory: shape.memory, marks: class.want.marks };
        let fits = |place: u32| {
            let node = self.cluster.get(place);
            node.is_some_and(|node| class.hard.admits(node) && (shape.custom.is_empty() || node.offered().contains(shape)))
        };
        let tree = &self.cluster.tree;
        let again = || used.iter().copied().find(|place| want.fits(&tree.get(*place)) && fits(*place));
        let fresh = |place: u32| !used.contains(&place) && fits(place);
        match strategy {
            GroupStrategy::Pack => again().or_else(|| tree.packed(&want, u32::MAX, PACK_LOOK_AT, fits)),
            GroupStrategy::StrictPack => tree.packed(&want, PACK_BELOW, PACK_LOOK_AT, fits).or_else(|| tree.emptiest(&want, fits)),
            GroupStrategy::Spread => tree.emptiest(&want, fresh).or_else(again),
            GroupStrategy::StrictSpread => tree.emptiest(&want, fresh),
        }
    }

    /// Classes of demands that come out of a group. One that was forgotten counts no more: its number may be another need's by now.
    fn classes_of_group(&mut self, key: GroupId) -> Vec<u32> {
        let Some(reserved) = self.groups.get_mut(&key) else { return Vec::new() };
        let is_of_group = |class: &Class| matches!(class.key.aim, Aim::Bundle(of, _) if of == key);
        reserved.classes.retain(|class| self.classes.get(*class).is_some_and(is_of_group));
        reserved.classes.iter().copied().collect()
    }

    /// A group has more to give to the demands that come out of it.
    pub(crate) fn wake_group(&mut self, key: GroupId) {
        for class in self.classes_of_group(key) {
            if self.classes.blocked.contains(&class) {
                self.classes.set_blocked(class, false);
            }
        }
    }

    /// Groups that have a bundle on a node.
    fn groups_on(&self, place: u32) -> Vec<GroupId> {
        self.groups.iter().filter(|(_, group)| group.places().any(|of| of == place)).map(|(key, _)| *key).collect()
    }

    /// What comes out of bundles on a node may be used again: it takes work again, or has other labels or offers than before.
    pub(crate) fn wake_groups_on(&mut self, place: u32) {
        self.groups_on(place).into_iter().for_each(|key| self.wake_group(key));
    }

    /// Bundles on a node that was lost need another one.
    pub(crate) fn lose_bundles(&mut self, place: u32, out: &mut Vec<Action>) {
        for key in self.groups_on(place) {
            let Some(reserved) = self.groups.get_mut(&key) else { continue };
            let payer = reserved.payer;
            let mut lost = ResourceSet::default();
            for (bundle, shape) in reserved.bundles.iter_mut().zip(&reserved.group.bundles) {
                if bundle.place == Some(place) {
                    *bundle = Bundle { place: None, free: ResourceSet::default() };
                    lost.give(shape);
                }
            }
            reserved.state = GroupState::Rescheduling;
            self.charge(payer, &lost, false);
            out.push(Action::GroupRescheduling { group: key });
            self.place_group(key, out);
        }
    }

    /// Why a group that waits for nodes can never be placed as the cluster is. Nodes that are expected back count.
    pub fn group_infeasible(&self, key: GroupId) -> Option<Error> {
        let reserved = self.groups.get(&key).filter(|reserved| reserved.state != GroupState::Placed && !self.is_patient())?;
        let group = &reserved.group;
        let homes = || {
            let nodes = self.cluster.iter().map(|(_, node)| node).chain(self.cluster.missed());
            nodes.filter(|node| group.labels.iter().all(|selector| selector.matches(&node.labels)))
        };
        let mut shapes: Vec<ResourceSet> = reserved.units().into_iter().map(|(shape, _)| shape).collect();
        shapes.dedup();
        if let Some(shape) = shapes.iter().find(|shape| !homes().any(|node| node.capacity.contains(shape))) {
            let what = if group.strategy == GroupStrategy::StrictPack { "all bundles together" } else { "a bundle" };
            return Some(self.no_node(shape, &group.labels, &Needs::default()).context(what));
        }
        let (mut all, least) = (ResourceSet::default(), least(&group.bundles));
        homes().for_each(|node| all.give(&node.capacity));
        if !all.contains(&sum(&group.bundles)) {
            let message = format!("the bundles need {}, and all nodes together have {all}", sum(&group.bundles));
            return Some(Error::new(Code::INFEASIBLE, message).hint("ask for fewer or smaller bundles, or add nodes"));
        }
        let large_enough = homes().filter(|node| node.capacity.contains(&least)).count();
        (group.strategy == GroupStrategy::StrictSpread && large_enough < group.bundles.len()).then(|| {
            let message = format!("{} bundles need as many nodes, and {large_enough} are large enough", group.bundles.len());
            Error::new(Code::INFEASIBLE, message).hint("ask for fewer bundles, or add nodes")
        })
    }

    /// All groups, in the order of their keys.
    pub fn groups(&self) -> impl Iterator<Item = GroupView> {
        self.groups.keys().filter_map(|id| self.group(*id))
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> Option<GroupView> {
        let reserved = self.groups.get(&id)?;
        let node = |place: u32| self.cluster.get(place).map(|node| node.id);
        let bundles = reserved.bundles.iter().map(|bundle| (bundle.place.and_then(node), bundle.free.clone())).collect();
        Some(GroupView { id, group: Arc::clone(&reserved.group), state: reserved.state, bundles })
    }
}
