//! What owners want and have not been granted.

use std::{collections::BTreeMap, sync::Arc};

use rwasm_types::{Code, Error, JobId, Needs, NodeId, Placement, Priority, ResourceSet, Result, Tenant};

use crate::{
    group::GroupId,
    limit::{NEAR_MAX, SLOTS_MAX},
    queue::Standing,
    share::Payer,
};

/// Names a demand: an owner and the number it chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DemandKey {
    /// The owner.
    pub owner: NodeId,
    /// The owner's number for it.
    pub request: u64,
}

/// Slots that an owner wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// For which job.
    pub job: JobId,
    /// Of which tenant.
    pub tenant: Tenant,
    /// What one slot holds.
    pub shape: ResourceSet,
    /// What its tasks need of their node beside that.
    pub needs: Needs,
    /// How many are wanted, at most [`SLOTS_MAX`].
    pub slots: u32,
    /// All slots are wanted at once, or none: a gang.
    pub gang: bool,
    /// Who goes first.
    pub priority: Priority,
    /// Whether its work may be taken back while it runs, because it can run again.
    pub retryable: bool,
    /// Where it may run.
    pub placement: Placement,
    /// Nodes that have its artifact or its data, with how many bytes need not be moved; the first
    /// [`NEAR_MAX`] with the most bytes count.
    pub near: Vec<(NodeId, u64)>,
    /// The bundle of a placement group that its slots come out of; without a number, any of the group.
    pub bundle: Option<(GroupId, Option<u32>)>,
}

impl Demand {
    /// What an owner wants: slots of a shape, for a job of a tenant, anywhere.
    pub fn new(job: JobId, tenant: Tenant, shape: ResourceSet, slots: u32, priority: Priority) -> Self {
        let (needs, placement, near) = (Needs::default(), Placement::default(), Vec::new());
        Self { job, tenant, shape, needs, slots, gang: false, priority, retryable: false, placement, near, bundle: None }
    }

    /// Within limits, with what is near in order.
    pub(crate) fn checked(mut self) -> Result<Self> {
        if self.slots > SLOTS_MAX {
            return Err(Error::new(Code::LIMIT, format!("at most {SLOTS_MAX} slots can be asked for at once, not {}", self.slots)));
        }
        self.shape = self.shape.checked()?;
        self.placement = self.placement.checked()?;
        self.near.sort_by_key(|(node, bytes)| (std::cmp::Reverse(*bytes), *node));
        self.near.truncate(NEAR_MAX);
        Ok(self)
    }
}

/// Whose turn it is: a demand's or a group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WishKey {
    Slots(DemandKey),
    Group(GroupId),
}

impl WishKey {
    /// Whose it is; a group is nobody's.
    pub(crate) fn owner(self) -> Option<NodeId> {
        match self {
            Self::Slots(key) => Some(key.owner),
            Self::Group(_) => None,
        }
    }
}

/// Room that is kept on a node for a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) place: u32,
    pub(crate) amount: ResourceSet,
    pub(crate) slots: u32,
}

/// A demand, or a group that has to be placed, while it waits.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) key: WishKey,
    /// The owner's place in the cluster.
    pub(crate) owner: Option<u32>,
    pub(crate) standing: Standing,
    pub(crate) class: u32,
    pub(crate) since_ms: u64,
    /// Slots still wanted; bundles still without a node.
    pub(crate) slots: u32,
    pub(crate) retryable: bool,
    pub(crate) spread: bool,
    /// Nodes to try before all others, the best first.
    pub(crate) first: Vec<NodeId>,
    /// Whether its owner was told that it is infeasible.
    pub(crate) refused: bool,
    /// Whether it is set aside: there is room, but on nodes that its owner cannot use.
    pub(crate) aside: bool,
    pub(crate) holds: Vec<Hold>,
    pub(crate) held_since_ms: u64,
}

impl Wish {
    pub(crate) fn payer(&self) -> Payer {
        self.standing.payer
    }

    pub(crate) fn held_slots(&self) -> u32 {
        self.holds.iter().map(|hold| hold.slots).sum()
    }
}

/// All wishes that wait.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    rows: Vec<Option<Wish>>,
    free: Vec<u32>,
    of: BTreeMap<WishKey, u32>,
    arrivals: u64,
}

impl Wishes {
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    pub(crate) fn next_arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Takes in a wish that may be met at once; if it is not, [`Wishes::name`] follows.
    pub(crate) fn insert(&mut self, wish: Wish) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.rows[at as usize] = Some(wish);
                at
            }
            None => {
                self.rows.push(Some(wish));
                (self.rows.len() - 1) as u32
            }
        }
    }

    /// A wish waits and can be found by its key.
    pub(crate) fn name(&mut self, at: u32) {
        if let Some(key) = self.get(at).map(|wish| wish.key) {
            self.of.insert(key, at);
        }
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<Wish> {
        let wish = self.rows.get_mut(at as usize)?.take()?;
        self.free.push(at);
        Some(wish)
    }

    /// A wish cannot be found by its key any more.
    pub(crate) fn unname(&mut self, key: WishKey) {
        self.of.remove(&key);
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Wish> {
        self.rows.get(at as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Wish> {
        self.rows.get_mut(at as usize)?.as_mut()
    }

    pub(crate) fn find(&self, key: WishKey) -> Option<u32> {
        self.of.get(&key).copied()
    }

    /// In the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Wish> {
        self.of.values().filter_map(|at| self.get(*at))
    }

    /// What an owner has waiting.
    pub(crate) fn of_owner(&self, owner: NodeId) -> Vec<u32> {
        let first = DemandKey { owner, request: 0 };
        let last = DemandKey { owner, request: u64::MAX };
        self.of.range(WishKey::Slots(first)..=WishKey::Slots(last)).map(|(_, at)| *at).collect()
    }
}

/// A demand that waits, as others may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub key: DemandKey,
    /// For which job.
    pub job: JobId,
    /// Of which tenant.
    pub tenant: Tenant,
    /// What one slot holds.
    pub shape: Arc<ResourceSet>,
    /// How many are still wanted.
    pub slots: u32,
    /// Who goes first.
    pub priority: Priority,
    /// Since when.
    pub since_ms: u64,
    /// Whether no node can meet it as the cluster is.
    pub infeasible: bool,
}
