//! Classes: demands that need exactly the same. What is learnt of one holds for all of them: where such a need fits at all, and that
//! there is no room for it at present.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use rwasm_types::{LabelSelector, Name, Needs, NodeId, Quantity, ResourceSet};

use crate::{
    cluster::{Cluster, NodeView, meets},
    filter::Condition,
    group::GroupId,
    limit::{CLASSES_KEPT, HOMES_MAX},
    queue::{Queue, Rank},
    tree::{Offer, Want},
};

/// Where the slots come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Aim {
    /// Out of what nodes have free.
    Free,
    /// Out of a placement group's bundles.
    Bundle(GroupId, Option<u32>),
    /// A group's bundles themselves.
    Group(GroupId),
}

/// All that decides where a demand fits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassKey {
    pub(crate) cpu: u64,
    pub(crate) gpu: u64,
    pub(crate) memory: u64,
    pub(crate) gang: bool,
    pub(crate) aim: Aim,
    pub(crate) node: Option<NodeId>,
    pub(crate) custom: BTreeMap<Name, Quantity>,
    pub(crate) labels: Vec<LabelSelector>,
    pub(crate) prefer: Vec<LabelSelector>,
    pub(crate) needs: Needs,
}

/// A condition and its mark in the index; without a mark it is checked node by node.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) condition: Condition,
    pub(crate) mark: u64,
}

impl Filter {
    fn new(condition: Condition, cluster: &mut Cluster) -> Self {
        let mark = cluster.hold_filter(&condition);
        Self { condition, mark }
    }

    /// Whether a node that the index found meets the condition.
    pub(crate) fn admits(&self, node: &NodeView) -> bool {
        self.mark != 0 || self.condition.is_empty() || meets(node, &self.condition)
    }
}

/// What is known of one kind of demand.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) key: ClassKey,
    pub(crate) shape: Arc<ResourceSet>,
    pub(crate) want: Want,
    pub(crate) hard: Filter,
    /// The hard conditions and the preferred ones together.
    pub(crate) prefer: Option<Filter>,
    pub(crate) queue: Queue,
    /// Demands that wait for a node that their owners can use, by arrival.
    pub(crate) aside: BTreeMap<u64, u32>,
    /// There is no room for it.
    pub(crate) blocked: bool,
    pub(crate) failed_ms: u64,
    /// Something became free that is to be looked at at the next tick.
    pub(crate) again: bool,
    /// Where its head stands among those of other classes.
    pub(crate) rank: Option<Rank>,
    /// Nodes that are large enough, some of which may be gone; `None` where nobody has looked yet.
    homes: Option<Vec<u32>>,
    /// Where the next search for room begins.
    pub(crate) cursor: u32,
}

impl Class {
    /// Whether a node that offers so much may have room.
    pub(crate) fn may_fit(&self, node: &NodeView, offer: &Offer) -> bool {
        self.want.fits(offer) && self.key.node.is_none_or(|only| only == node.id) && self.hard.admits(node)
    }

    /// Whether a node meets the hard conditions, whatever it has.
    pub(crate) fn suits(&self, node: &NodeView) -> bool {
        suits(node, self.key.node, &self.hard.condition)
    }

    /// Whether a node could ever have room.
    pub(crate) fn is_home(&self, node: &NodeView) -> bool {
        is_home(node, self.key.node, &self.shape, &self.hard.condition)
    }

    /// Nodes that could ever have room, some of them if there are many.
    pub(crate) fn homes(&mut self, cluster: &Cluster) -> &[u32] {
        if let Some(homes) = &mut self.homes {
            let (only, shape, condition) = (self.key.node, &self.shape, &self.hard.condition);
            let is_home = |place: &u32| cluster.get(*place).is_some_and(|node| is_home(node, only, shape, condition));
            // Those that are gone are dropped when they are met at the end; the others when somebody wants to use them.
            while homes.last().is_some_and(|place| !is_home(place)) {
                homes.pop();
            }
        }
        if self.homes.as_ref().is_none_or(Vec::is_empty) {
            let all = cluster.places_from(0).filter(|place| cluster.get(*place).is_some_and(|node| self.is_home(node)));
            let homes: Vec<u32> = all.take(HOMES_MAX).collect();
            self.homes = Some(homes);
        }
        self.homes.as_deref().unwrap_or_default()
    }

    /// A node joined, or has another capacity.
    pub(crate) fn joined(&mut self, place: u32, node: &NodeView) {
        let is_home = self.is_home(node);
        if let Some(homes) = self.homes.as_mut().filter(|homes| is_home && homes.len() < HOMES_MAX && !homes.contains(&place)) {
            homes.push(place);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.len() == 0 && self.aside.is_empty()
    }
}

fn is_home(node: &NodeView, only: Option<NodeId>, shape: &ResourceSet, condition: &Condition) -> bool {
    suits(node, only, condition) && node.capacity.contains(shape)
}

fn suits(node: &NodeView, only: Option<NodeId>, condition: &Condition) -> bool {
    only.is_none_or(|only| only == node.id) && condition.suits(node)
}

/// All classes.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    rows: Vec<Option<Class>>,
    free: Vec<u32>,
    of: BTreeMap<ClassKey, u32>,
    /// Those in which nothing waits, in the order in which they are forgotten; some may have become busy again.
    idle: VecDeque<u32>,
    busy: usize,
    /// Heads of the classes that are not blocked: whose turn it is.
    pub(crate) turns: BTreeSet<(Rank, u32)>,
    /// Classes in which something waits and for which there is no room.
    pub(crate) blocked: BTreeSet<u32>,
    /// Classes in which something is set aside.
    pub(crate) with_aside: BTreeSet<u32>,
}

impl Classes {
    /// Classes in which something waits.
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Class> {
        self.rows.get(at as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Class> {
        self.rows.get_mut(at as usize)?.as_mut()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Class> {
        self.rows.iter_mut().flatten()
    }

    /// The class of a key.
    pub(crate) fn of(&mut self, key: ClassKey, cluster: &mut Cluster) -> u32 {
        if let Some(at) = self.of.get(&key) {
            return *at;
        }
        self.forget_idle(cluster);
        let hard = Condition { labels: key.labels.clone(), custom: key.custom.clone(), needs: key.needs.clone() };
        let prefer = (!key.prefer.is_empty()).then(|| {
            let labels = hard.labels.iter().chain(&key.prefer).cloned().collect();
            Filter::new(Condition { labels, ..hard.clone() }, cluster)
        });
        let hard = Filter::new(hard, cluster);
        let amount = |parts| Quantity::from_parts(parts).unwrap_or_default();
        let shape = ResourceSet { cpu: amount(key.cpu), gpu: amount(key.gpu), memory: key.memory, custom: key.custom.clone() };
        let class = Class {
            want: Want { cpu: key.cpu, gpu: key.gpu, memory: key.memory, marks: hard.mark },
            shape: Arc::new(shape),
            key: key.clone(),
            hard,
            prefer,
            queue: Queue::default(),
            aside: BTreeMap::new(),
            blocked: false,
            failed_ms: 0,
            again: false,
            rank: None,
            homes: None,
            cursor: 0,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.rows[at as usize] = Some(class);
                at
            }
            None => {
                self.rows.push(Some(class));
                (self.rows.len() - 1) as u32
            }
        };
        self.of.insert(key, at);
        self.idle.push_back(at);
        at
    }

    fn forget_idle(&mut self, cluster: &mut Cluster) {
        while self.idle.len() > CLASSES_KEPT {
            let Some(at) = self.idle.pop_front() else { return };
            let Some(class) = self.rows[at as usize].take_if(|class| class.is_idle()) else { continue };
            cluster.release_filter(class.hard.mark);
            cluster.release_filter(class.prefer.map_or(0, |prefer| prefer.mark));
            self.of.remove(&class.key);
            self.free.push(at);
        }
    }

    /// Something begins to wait in a class in which nothing did.
    pub(crate) fn became_busy(&mut self) {
        self.busy += 1;
    }

    /// Nothing waits in a class any more.
    pub(crate) fn became_idle(&mut self, at: u32) {
        self.busy -= 1;
        self.set_blocked(at, false);
        if !self.idle.contains(&at) {
            self.idle.push_back(at);
        }
    }

    pub(crate) fn set_blocked(&mut self, at: u32, blocked: bool) {
        let Some(class) = self.get_mut(at) else { return };
        class.blocked = blocked;
        if blocked {
            self.blocked.insert(at)
        } else {
            self.blocked.remove(&at)
        };
        self.rank(at);
    }

    /// Looks again at where a class's head stands.
    pub(crate) fn rank(&mut self, at: u32) {
        let Some(class) = self.rows.get_mut(at as usize).and_then(Option::as_mut) else { return };
        let rank = if class.blocked { None } else { class.queue.head().map(|(rank, _)| rank) };
        if rank != class.rank {
            if let Some(old) = class.rank {
                self.turns.remove(&(old, at));
            }
            if let Some(new) = rank {
                self.turns.insert((new, at));
            }
            class.rank = rank;
        }
    }
}
