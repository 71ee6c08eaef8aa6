//! What owners and nodes do with the messages that reach them.

use rwasm_core::{Action, Demand, DemandKey, Event, Group, GroupId, Held};
use rwasm_types::{Code, Error, JobId, LeaseId, Name};

use crate::{
    host::Arrived,
    owner::{Call, LINGER_MS, Owned, Task, TaskState},
    scenario::Mutation,
    world::{Message, Peer, World, id},
};

impl World {
    pub(crate) fn node_hears(&mut self, node: usize, from: Peer, message: Message) {
        match message {
            Message::Rejoin => self.rejoin(node),
            Message::ToOwner(action) => self.owner_hears(node, action),
            Message::Send(task) => {
                self.hosts[node].queue.push_back(task);
                self.admit(node);
            }
            Message::HoldsNothing => {
                let Peer::Node(host) = from else { return };
                let leases = self.owners[node].leases.iter().filter(|(_, owned)| owned.node == host);
                for lease in leases.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.revoked(node, lease, &Error::new(Code::NODE_LOST, "it began anew"));
                }
            }
            Message::Cancel { owner, tasks } => {
                self.hosts[node].drop_tasks(|task| task.owner == owner && tasks.contains(&(task.task, task.attempt)));
                self.admit(node);
            }
            Message::Ended { lease, task, attempt } => {
                let owned = self.owners[node].leases.get_mut(&lease);
                if let Some(owned) = owned.filter(|owned| owned.sent.get(&task) == Some(&attempt)) {
                    owned.sent.remove(&task);
                    owned.idle_since_ms = self.now_ms;
                }
                self.publish(task, attempt);
                self.look(node);
            }
            Message::Join { .. } | Message::ToHead(_) => debug_assert!(false, "{from:?} said to a node what is for the head"),
        }
    }

    /// The stream to the head is new: the node joins, and says what it has and wants, for the head may have forgotten it.
    fn rejoin(&mut self, node: usize) {
        let head = self.head();
        if std::mem::take(&mut self.hosts[node].down) {
            for owner in (0..self.owners.len()).filter(|owner| *owner != node) {
                self.send(Peer::Node(node), Peer::Node(owner), Message::HoldsNothing);
            }
        }
        let (life, foreign) = (self.hosts[node].life, self.hosts[node].foreign());
        self.send(Peer::Node(node), head, Message::Join { life, foreign });
        for event in self.weights() {
            self.tell_head(node, event);
        }
        let leases: Vec<(LeaseId, Held)> =
            self.owners[node].leases.iter().filter_map(|(id, owned)| Some((*id, self.held(node, owned)?))).collect();
        for (lease, held) in leases {
            self.tell_head(node, Event::LeaseHeld { lease, held });
        }
        self.owners[node].calls.iter_mut().for_each(|call| call.asked = 0);
        self.look(node);
    }

    fn held(&self, owner: usize, owned: &Owned) -> Option<Held> {
        let call = &self.owners[owner].calls[owned.call?];
        Some(Held {
            owner: id(owner),
            node: id(owned.node),
            job: call.job,
            tenant: call.tenant.clone(),
            shape: call.plan.shape.clone(),
            slots: owned.slots,
            priority: call.priority,
            retryable: call.retryable,
        })
    }

    fn owner_hears(&mut self, node: usize, action: Action) {
        match action {
            Action::Grant { key, lease, node: on, slots, bundle } => {
                let call = self.owners[node].call_of(key.request).filter(|_| bundle.is_none());
                if let Some(call) = call {
                    let call = &mut self.owners[node].calls[call];
                    call.asked = call.asked.saturating_sub(slots);
                }
                let (on, now_ms) = (on.get() as usize - 1, self.now_ms);
                self.owners[node].leases.entry(lease).or_insert_with(|| Owned {
                    node: on,
                    call,
                    slots,
                    sent: Default::default(),
                    retired: false,
                    idle_since_ms: now_ms,
                });
                self.look(node);
            }
            Action::Refuse { key, error } if error.code() == Code::INFEASIBLE => {
                let Some(at) = self.owners[node].call_of(key.request) else { return };
                let call = &mut self.owners[node].calls[at];
                call.refused = true;
                for task in std::mem::take(&mut call.waiting) {
                    self.tasks[task].state = TaskState::Failed;
                }
                call.asked = 0;
                let nothing = Demand::new(call.job, call.tenant.clone(), call.plan.shape.clone(), 0, call.priority);
                self.tell_head(node, Event::Wanted { key, demand: nothing });
            }
            // A limit, or a group that is gone.
            Action::Refuse { .. } => {}
            Action::Retire { lease, .. } => {
                if let Some(owned) =
                    self.owners[node].leases.get_mut(&lease).filter(|_| self.scenario.mutation != Some(Mutation::DeafOwners))
                {
                    owned.retired = true;
                    self.look(node);
                }
            }
            Action::Revoke { lease, error, .. } => self.revoked(node, lease, &error),
            Action::GroupPlaced { group: placed, nodes } => {
                if self.groups.contains_key(&placed) {
                    self.owners[node].last_request += 1;
                    let request = self.owners[node].last_request;
                    let (group, job) = (self.group(placed.0 as usize), self.user_of(placed));
                    let mut demand = Demand::new(job, group.tenant, rwasm_types::ResourceSet::cpus(1), nodes.len() as u32, group.priority);
                    demand.bundle = Some((placed, None));
                    // Some of them are particular about which of the nodes they come from.
                    demand.placement.labels.extend("zone=a".parse().ok().filter(|_| placed.0 % 2 == 1));
                    self.tell_head(node, Event::Wanted { key: DemandKey { owner: id(node), request }, demand });
                }
            }
            Action::GroupRescheduling { .. } => {}
            // What is infeasible now is placed when it can be.
            Action::RefuseGroup { group, error } => {
                if error.code() != Code::INFEASIBLE {
                    self.groups.remove(&group);
                }
            }
        }
    }

    /// A lease is over: what was sent on it ends there and waits again, if it may.
    fn revoked(&mut self, node: usize, lease: LeaseId, error: &Error) {
        let owned = self.owners[node].drop_lease(lease);
        // The head may have been told meanwhile that it is held.
        self.tell_head(node, Event::LeaseReturned { owner: id(node), lease, unreachable: false });
        let Some((owned, call)) = owned.and_then(|owned| owned.call.map(|call| (owned, call))) else { return };
        let tasks: Vec<(usize, u32)> = owned.sent.iter().map(|(task, attempt)| (*task, *attempt)).collect();
        if !tasks.is_empty() && error.code() != Code::NODE_LOST {
            self.send(Peer::Node(node), Peer::Node(owned.node), Message::Cancel { owner: node, tasks: tasks.clone() });
        }
        for (task, attempt) in tasks {
            self.lost(node, call, task, attempt);
        }
        self.look(node);
    }

    /// What a node's own tasks did in its process is lost; what was sent elsewhere goes on under its leases, on which nothing more is sent.
    pub(crate) fn forget_own_runs(&mut self, node: usize) {
        self.owners[node].leases.retain(|_, owned| !owned.sent.is_empty());
        self.owners[node].leases.values_mut().for_each(|owned| owned.retired = true);
        let elsewhere: Vec<usize> = self.owners[node].leases.values().flat_map(|owned| owned.sent.keys().copied()).collect();
        for number in 0..self.tasks.len() {
            let task = &self.tasks[number];
            if task.owner == node && task.state == TaskState::Out && !elsewhere.contains(&number) {
                self.lost(node, task.call, number, task.attempt);
            }
        }
    }

    /// An attempt is lost: its task waits again, if it may.
    fn lost(&mut self, node: usize, call: usize, task: usize, attempt: u32) {
        let known = &mut self.tasks[task];
        if known.attempt != attempt || known.state != TaskState::Out || self.scenario.mutation == Some(Mutation::LostTasks) {
            return;
        }
        let call = &mut self.owners[node].calls[call];
        if call.retryable && !call.refused {
            (known.attempt, known.state) = (attempt + 1, TaskState::Waiting);
            call.waiting.push_back(task);
        } else {
            known.state = TaskState::Failed;
        }
    }

    pub(crate) fn begin_job(&mut self, number: usize) {
        let plan = self.scenario.jobs[number].clone();
        let node = plan.owner;
        if !self.hosts[node].alive {
            return;
        }
        let job = JobId { owner: id(node), session: number as u32 };
        for call in plan.calls {
            let at = self.owners[node].calls.len();
            let first = self.tasks.len();
            for _ in 0..call.tasks {
                let takes_ms = self.draw(call.task_ms.0, call.task_ms.1);
                self.tasks.push(Task { owner: node, call: at, attempt: 1, state: TaskState::Waiting, takes_ms, results: 0 });
            }
            let owner = &mut self.owners[node];
            owner.last_request += 1;
            owner.calls.push(Call {
                job,
                tenant: plan.tenant.clone(),
                priority: plan.priority,
                retryable: plan.retryable,
                waiting: (first..first + call.tasks as usize).collect(),
                plan: call,
                request: owner.last_request,
                asked: 0,
                refused: false,
            });
        }
        if self.is_awake(node) {
            self.look(node);
        }
    }

    /// An owner looks after its work: starts what fits at home, keeps its leases supplied, asks for what is missing, gives back what is idle.
    pub(crate) fn look(&mut self, node: usize) {
        for call in 0..self.owners[node].calls.len() {
            self.run_at_home(node, call);
        }
        for lease in self.owners[node].leases.keys().copied().collect::<Vec<_>>() {
            self.supply(node, lease);
        }
        self.give_back_idle(node);
        for at in 0..self.owners[node].calls.len() {
            let call = &mut self.owners[node].calls[at];
            let missing = (call.waiting.len() as u32).min(rwasm_core::limit::SLOTS_MAX);
            let changed = missing == 0 || call.asked == 0 || missing > call.asked * 2 || missing < call.asked / 2;
            if missing != call.asked && changed && (missing == 0 || !call.refused) {
                call.asked = missing;
                let mut demand = Demand::new(call.job, call.tenant.clone(), call.plan.shape.clone(), missing, call.priority);
                demand.placement = call.plan.placement.clone();
                demand.gang = call.plan.gang;
                demand.retryable = call.retryable;
                let key = DemandKey { owner: id(node), request: call.request };
                self.tell_head(node, Event::Wanted { key, demand });
            }
        }
    }

    fn run_at_home(&mut self, node: usize, at: usize) {
        let call = &self.owners[node].calls[at];
        if call.plan.gang || !call.plan.placement.allows(id(node), &self.hosts[node].labels) {
            return;
        }
        while let Some(task) = self.owners[node].calls[at].waiting.front().copied() {
            let shape = self.owners[node].calls[at].plan.shape.clone();
            let (attempt, takes_ms) = (self.tasks[task].attempt, self.tasks[task].takes_ms);
            let Ok((run, takes_ms)) = self.hosts[node].start(Arrived { owner: node, lease: None, task, attempt, shape, takes_ms }) else {
                return;
            };
            self.owners[node].calls[at].waiting.pop_front();
            self.tasks[task].state = TaskState::Out;
            self.finishes(node, run, takes_ms);
        }
    }

    fn supply(&mut self, node: usize, lease: LeaseId) {
        loop {
            let owner = &mut self.owners[node];
            let Some(owned) = owner.leases.get_mut(&lease).filter(|owned| !owned.retired && (owned.sent.len() as u32) < owned.slots) else {
                return;
            };
            let Some(call) = owned.call else { return };
            let call = &mut owner.calls[call];
            let Some(task) = call.waiting.pop_back() else { return };
            let known = &mut self.tasks[task];
            known.state = TaskState::Out;
            owned.sent.insert(task, known.attempt);
            let arrived = Arrived {
                owner: node,
                lease: Some(lease),
                task,
                attempt: known.attempt,
                shape: call.plan.shape.clone(),
                takes_ms: known.takes_ms,
            };
            let to = Peer::Node(owned.node);
            self.send(Peer::Node(node), to, Message::Send(arrived));
        }
    }

    fn give_back_idle(&mut self, node: usize) {
        let now_ms = self.now_ms;
        let deaf = self.scenario.mutation == Some(Mutation::DeafOwners);
        let is_over = |owned: &Owned| {
            owned.call.is_some() && owned.sent.is_empty() && (owned.retired || now_ms >= owned.idle_since_ms + LINGER_MS) && !deaf
        };
        let owner = &mut self.owners[node];
        let over: Vec<LeaseId> = owner.leases.iter().filter(|(_, owned)| is_over(owned)).map(|(id, _)| *id).collect();
        let waits = owner.leases.values().any(|owned| owned.call.is_some() && owned.sent.is_empty() && !is_over(owned));
        for lease in over {
            self.owners[node].leases.remove(&lease);
            self.tell_head(node, Event::LeaseReturned { owner: id(node), lease, unreachable: false });
        }
        if waits {
            self.after(LINGER_MS, node);
        }
    }

    /// The job that uses a group.
    pub(crate) fn user_of(&self, group: GroupId) -> JobId {
        JobId { owner: id(self.scenario.groups[group.0 as usize].owner), session: 1_000 + group.0 as u32 }
    }

    pub(crate) fn group(&self, number: usize) -> Group {
        let plan = &self.scenario.groups[number];
        Group {
            name: Name::lossy(&format!("group-{number}")),
            tenant: plan.tenant.clone(),
            priority: rwasm_types::Priority::default(),
            bundles: plan.bundles.clone(),
            strategy: plan.strategy,
            labels: Vec::new(),
        }
    }
}
