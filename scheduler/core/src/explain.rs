//! Answers to questions: why a demand waits, and where one would go. They may look at all nodes, for people ask them, not events.

use std::collections::BTreeMap;

use rwasm_types::{JobId, NodeId, ResourceSet, Tenant, api::GroupState, format_duration};

use crate::{
    Core, Demand, DemandKey, NodeView,
    class::{Aim, Class},
    demand::{Wish, WishKey},
    group::GroupId,
    lease::LeaseState,
    queue::Standing,
    share::Payer,
    step::class_key,
};

/// The most nodes that a plan turns down by name.
const TURNED_MAX: usize = 100;

/// Where a demand would go if it were asked for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes and how many slots each would get, the owner's own node first.
    pub placed: Vec<(NodeId, u32)>,
    /// Slots that would wait.
    pub waiting: u32,
    /// Why none of it can ever be met as the cluster is.
    pub infeasible: Option<rwasm_types::Error>,
    /// Why not elsewhere, for nodes that get nothing, up to a limit.
    pub turned: Vec<Turned>,
}

/// A node that gets nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turned {
    /// Which.
    pub node: NodeId,
    /// Why, as a clause that begins with what the node has or is.
    pub why: String,
}

impl Core {
    /// Why a demand waits, in one line that begins with `waits for`; `None` if it does not, or if no other node than its owner's own could
    /// ever meet it.
    /// Only its own tenant is told; jobs of others have no names in it.
    pub fn explain(&self, key: DemandKey, tenant: &Tenant) -> Option<String> {
        let wish = self.wishes.get(self.wishes.find(WishKey::Slots(key))?)?;
        let own = wish.payer().tenant;
        self.accounts.tenant(own).filter(|row| row.name == *tenant)?;
        let class = self.classes.get(wish.class)?;
        let conditions = conditions(class);
        let what = format!("waits for {}{conditions}", class.shape);
        if let Aim::Bundle(group, number) = class.key.aim {
            return Some(format!("{what}: {}", self.explain_bundles(class, group, number)));
        }
        let homes: Vec<&NodeView> = self.nodes().filter(|node| class.is_home(node)).collect();
        if homes.is_empty() {
            return Some(format!("{what}: no node has that, and it waits for one that does"));
        }
        if homes.iter().all(|node| node.id == key.owner) {
            return None;
        }
        if wish.aside {
            return Some(format!("{what}: the only nodes with room are its own and those that node {} could not reach", key.owner));
        }
        let kept = match wish.held_slots() {
            0 => String::new(),
            slots => format!("; room for {slots} is being made"),
        };
        let ahead = class.queue.in_order().take_while(|at| self.wishes.get(*at).is_some_and(|other| other.key != wish.key)).count();
        let ahead = if ahead > 0 { format!("; {ahead} requests like it go first") } else { String::new() };
        let gang = if class.key.gang { format!(" for all {} at once", wish.slots) } else { String::new() };
        Some(format!("{what}{gang}: {}{kept}{ahead}", self.explain_homes(&homes, class, own)))
    }

    /// What keeps the nodes busy that are large enough.
    fn explain_homes(&self, homes: &[&NodeView], class: &Class, tenant: u32) -> String {
        let mut slots_of: BTreeMap<Option<JobId>, u32> = BTreeMap::new();
        let (mut leased, mut next_ms, mut returning) = (0, u64::MAX, 0);
        for node in homes {
            let leases: Vec<_> = node.leases.keys().filter_map(|(_, id)| self.leases.get(id.0)).collect();
            leased += usize::from(!leases.is_empty());
            for lease in leases {
                let job = self.accounts.job(lease.payer.job).filter(|_| lease.payer.tenant == tenant);
                *slots_of.entry(job).or_default() += lease.slots;
                returning += usize::from(lease.state != LeaseState::Active);
                next_ms = next_ms.min(lease.named_ms + crate::limit::LEASE_MS);
            }
        }
        let count = homes.len();
        let have = if count == 1 { format!("node {} alone has it", homes[0].id) } else { format!("{count} nodes have it") };
        if homes.iter().all(|node| node.draining) {
            return if count == 1 { format!("{have}, and is being drained") } else { format!("{have}, and all are being drained") };
        }
        let with_room = homes.iter().filter(|node| !node.draining && node.offered().contains(&class.shape)).count();
        if with_room > 0 {
            return format!("{have}, {with_room} of them with room; it is next");
        }
        let name = |job: &Option<JobId>| job.map_or_else(|| "other tenants".to_owned(), |job| format!("job {job}"));
        let by = match slots_of.len() {
            0 => return format!("{have}, busy with {} own work or kept for others", if count == 1 { "its" } else { "their" }),
            1 => slots_of.keys().map(name).collect(),
            jobs => {
                let largest = slots_of.iter().max_by_key(|(job, slots)| (**slots, std::cmp::Reverse(**job)));
                format!("{jobs} jobs, most to {}", largest.map(|(job, _)| name(job)).unwrap_or_default())
            }
        };
        let which = match (count, leased) {
            (1, _) => String::new(),
            (2, 2) => "both ".to_owned(),
            (all, leased) if all == leased => "all ".to_owned(),
            (_, leased) => format!("{leased} of them "),
        };
        let left = std::time::Duration::from_millis(next_ms.saturating_sub(self.now_ms));
        let returning = if returning > 0 { format!(", {returning} of the leases on their way back") } else { String::new() };
        format!("{have}, {which}leased to {by} until given back, or for {} if not renewed{returning}", format_duration(left))
    }

    fn explain_bundles(&self, class: &Class, group: GroupId, number: Option<u32>) -> String {
        let Some(reserved) = self.groups.get(&group) else { return "its placement group is gone".to_owned() };
        let name = &reserved.group.name;
        let meant = reserved.bundles.iter().zip(0u32..).filter(|(_, at)| number.is_none_or(|only| only == *at));
        let mut suited = meant.filter_map(|(bundle, _)| self.cluster.get(bundle.place?)).filter(|node| class.suits(node)).peekable();
        if reserved.state == GroupState::Placed && suited.peek().is_none() {
            let which = number.map_or_else(|| "no bundle".to_owned(), |number| format!("bundle {number}"));
            let is = if number.is_some() { "is not" } else { "is" };
            return format!("{which} of placement group {name} {is} on such a node");
        }
        if reserved.state == GroupState::Placed && suited.all(|node| node.draining) {
            return format!("the nodes that placement group {name} has for it are being drained");
        }
        match (reserved.state, number) {
            (GroupState::Placed, Some(number)) => format!("bundle {number} of placement group {name} is in use"),
            (GroupState::Placed, None) => format!("all bundles of placement group {name} are in use"),
            (GroupState::Rescheduling, _) => format!("placement group {name} lost a node and waits for another one"),
            (GroupState::Pending, _) => format!("placement group {name} waits for its nodes"),
        }
    }

    /// Where a demand of an owner would go now, and why not elsewhere. Nothing is granted, and nothing changes for others.
    pub fn plan(&mut self, owner: NodeId, demand: Demand) -> rwasm_types::Result<Plan> {
        let demand = demand.checked()?;
        let at = self.classes.of(class_key(&demand, Aim::Free), &mut self.cluster);
        let mut plan = Plan { waiting: demand.slots, ..Plan::default() };
        plan.infeasible = self.why_never(at);
        self.try_out(owner, &demand, at, &mut plan);
        if let Some(class) = self.classes.get(at) {
            let unused = self.nodes().filter(|node| plan.placed.iter().all(|(used, _)| *used != node.id));
            let turned = unused.take(TURNED_MAX).map(|node| Turned { node: node.id, why: why_not(node, class) });
            plan.turned = turned.collect();
        }
        Ok(plan)
    }

    /// Places slots as they would be placed, and takes them off again.
    fn try_out(&mut self, owner: NodeId, demand: &Demand, class: u32, plan: &mut Plan) {
        let own = self.cluster.place(owner);
        let standing = Standing { priority: demand.priority, payer: Payer { tenant: u32::MAX, job: u32::MAX }, arrival: 0 };
        let mut wish = Wish {
            key: WishKey::Slots(DemandKey { owner, request: 0 }),
            owner: own,
            standing,
            class,
            since_ms: self.now_ms,
            slots: demand.slots,
            retryable: demand.retryable,
            spread: demand.placement.strategy == rwasm_types::Strategy::Spread,
            first: demand.placement.prefer_node.into_iter().chain(demand.near.iter().map(|(node, _)| *node)).collect(),
            refused: false,
            aside: false,
            holds: Vec::new(),
            held_since_ms: 0,
        };
        let mut taken: Vec<(u32, ResourceSet)> = Vec::new();
        let mut slots_on: BTreeMap<u32, u32> = BTreeMap::new();
        while wish.slots > 0 {
            let Some(known) = self.classes.get(class) else { break };
            // The owner's own node needs no lease and comes first.
            let at_home =
                own.filter(|place| self.cluster.get(*place).is_some_and(|node| known.may_fit(node, &self.cluster.tree.get(*place))));
            let elsewhere = || self.find(&wish, known, |place| self.may_use(&wish, known, place));
            let Some(place) = at_home.or_else(elsewhere) else { break };
            let slots = self.portion(&wish, known, place);
            let held = known.shape.times(slots);
            self.cluster.change(place, |node| node.leased.give(&held));
            taken.push((place, held));
            *slots_on.entry(place).or_default() += slots;
            wish.slots -= slots;
        }
        for (place, held) in taken.into_iter().rev() {
            self.cluster.change(place, |node| node.leased.take_saturating(&held));
        }
        plan.waiting = wish.slots;
        if wish.slots > 0 && demand.gang {
            plan.waiting = demand.slots;
            return;
        }
        let mut placed: Vec<(u32, u32)> = slots_on.into_iter().collect();
        placed.sort_by_key(|(place, _)| (Some(*place) != own, *place));
        plan.placed = placed.into_iter().filter_map(|(place, slots)| Some((self.cluster.get(place)?.id, slots))).collect();
    }
}

/// Hard conditions of a class, as part of a sentence.
fn conditions(class: &Class) -> String {
    let node = class.key.node.map(|node| format!("on node {node}"));
    let labels = class.key.labels.iter().map(|selector| format!("where {selector}"));
    let offers = (!class.key.needs.is_empty()).then(|| "where all is offered that is asked for".to_owned());
    let all: Vec<String> = node.into_iter().chain(labels).chain(offers).collect();
    if all.is_empty() { String::new() } else { format!(" {}", all.join(" and ")) }
}

/// Why a node gets nothing of a class.
fn why_not(node: &NodeView, class: &Class) -> String {
    if class.key.node.is_some_and(|only| only != node.id) {
        return "another node was asked for".to_owned();
    }
    if let Some(selector) = class.key.labels.iter().find(|selector| !selector.matches(&node.labels)) {
        return match node.labels.get(&selector.key) {
            Some(value) => format!("its label {} is `{value}`, asked for is {selector}", selector.key),
            None => format!("it has no label {}, asked for is {selector}", selector.key),
        };
    }
    if let Some(lacking) = node.offer.lacks(&class.key.needs) {
        return format!("it does not offer {lacking}");
    }
    if !node.capacity.contains(&class.shape) {
        return format!("it is too small: it has {}", node.capacity);
    }
    if node.draining {
        return "it is being drained".to_owned();
    }
    let offered = node.offered();
    if offered.contains(&class.shape) {
        return "it has room and is not needed".to_owned();
    }
    let kept = if node.free().contains(&class.shape) { "; the rest is kept for others" } else { "" };
    format!("it is busy: {offered} free of {}{kept}", node.capacity)
}
