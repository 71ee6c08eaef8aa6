//! The simulated world: time, messages and faults, and the head around the core.

use std::collections::BTreeMap;

use rwasm_core::{Action, Core, Demand, DemandKey, Event, GroupId};
use rwasm_types::{JobId, LeaseId, NodeId, Offer, ResourceSet, Tenant};

use crate::{
    check::{Kind, Violation},
    host::{Arrived, Host},
    owner::{Owner, Task, TaskState},
    rng::Rng,
    scenario::{Fault, Mutation, Scenario},
};

/// How often the head looks around and nodes report.
const TICK_MS: u64 = 250;
/// A node that the head did not hear from for so long is lost.
const LOST_AFTER_MS: u64 = 1_500;
/// The part of a lease's id that counts the leases of one life of the head.
const LEASE_ID_BITS: u32 = 20;
/// In large worlds the books are checked at one step in so many.
const CHECK_EVERY_NODES: usize = 64;
/// Jobs begin when all nodes have joined.
const BEGIN_MS: u64 = 1_500;
/// A run that takes more steps than this has lost itself.
const STEPS_MAX: u64 = 3_000_000;

/// Who sends or hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// The head, in one of its lives.
    Head(u64),
    Node(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Join {
        /// Which life of the node's process this is.
        life: u64,
        /// What tasks of other owners hold there.
        foreign: ResourceSet,
    },
    /// To the core, as it is.
    ToHead(Event),
    /// From the core, as it is.
    ToOwner(Action),
    /// The head does not know the node any more.
    Rejoin,
    Send(Arrived),
    /// A node that began anew holds nothing of what it was sent before.
    HoldsNothing,
    Cancel {
        owner: usize,
        tasks: Vec<(usize, u32)>,
    },
    Ended {
        lease: LeaseId,
        task: usize,
        attempt: u32,
    },
}

#[derive(Clone, Debug)]
enum Happening {
    Deliver {
        from: Peer,
        to: Peer,
        message: Box<Message>,
    },
    Tick,
    Heartbeat(usize),
    /// A run of a host ends.
    Finish {
        host: usize,
        run: u64,
    },
    /// A lease may have been idle for long.
    Look(usize),
    JobBegins(usize),
    GroupBegins(usize),
    GroupEnds(usize),
    Fault(Fault),
    DrainEnds(usize),
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A digest of all that happened, in order.
    pub digest: u64,
    /// Everything that happened, if it was asked for.
    pub trace: Vec<String>,
    /// Steps of the core.
    pub steps: u64,
    /// Leases that were granted.
    pub grants: u64,
    /// Tasks that have a result.
    pub done: u64,
    /// Virtual time at the end.
    pub end_ms: u64,
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) now_ms: u64,
    pub(crate) core: Core,
    pub(crate) hosts: Vec<Host>,
    pub(crate) owners: Vec<Owner>,
    pub(crate) tasks: Vec<Task>,
    /// What the head was last asked for, by key.
    pub(crate) demands: BTreeMap<DemandKey, Demand>,
    rng: Rng,
    agenda: BTreeMap<(u64, u64), Happening>,
    last_number: u64,
    /// Which life of the head this is.
    life: u64,
    /// Nodes that the head knows, and when it heard from them last.
    heard: BTreeMap<usize, u64>,
    /// The last life of each node that the head heard of; the head has that on disk.
    lives: BTreeMap<usize, u64>,
    /// Groups that the head has on disk.
    pub(crate) groups: BTreeMap<GroupId, usize>,
    /// When the last message of each stream arrives.
    streams: BTreeMap<(Peer, Peer), u64>,
    report: Report,
    tracing: bool,
    sums: BTreeMap<Tenant, u64>,
    sum_ticks: u64,
}

/// The id of the node at a place.
pub(crate) fn id(node: usize) -> NodeId {
    NodeId::new(node as u32 + 1).unwrap_or(NodeId::FIRST)
}

fn place(node: NodeId) -> usize {
    node.get() as usize - 1
}

/// Runs a scenario to its end, or to the first violation.
///
/// # Errors
///
/// The violation, and what led to it.
pub fn run(scenario: Scenario, tracing: bool) -> Result<Report, Box<(Violation, Report)>> {
    let mut world = World::new(scenario, tracing);
    match world.run() {
        Ok(()) => Ok(world.report),
        Err((kind, what)) => {
            let violation = Violation { seed: world.scenario.seed, at_ms: world.now_ms, kind, what };
            Err(Box::new((violation, world.report)))
        }
    }
}

type Outcome = Result<(), (Kind, String)>;

impl World {
    fn new(scenario: Scenario, tracing: bool) -> Self {
        let hosts = scenario.nodes.iter().map(|(capacity, labels)| Host::new(capacity.clone(), labels.clone())).collect();
        let owners = scenario.nodes.iter().map(|_| Owner::default()).collect();
        let rng = Rng::new(scenario.seed.wrapping_add(1));
        let mut world = Self {
            scenario,
            now_ms: 0,
            core: Core::numbering(LeaseId(1)),
            hosts,
            owners,
            tasks: Vec::new(),
            demands: BTreeMap::new(),
            rng,
            agenda: BTreeMap::new(),
            last_number: 0,
            life: 1,
            heard: BTreeMap::new(),
            lives: BTreeMap::new(),
            groups: BTreeMap::new(),
            streams: BTreeMap::new(),
            report: Report::default(),
            tracing,
            sums: BTreeMap::new(),
            sum_ticks: 0,
        };
        world.plan();
        world
    }

    /// Writes what is known beforehand into the agenda.
    fn plan(&mut self) {
        for node in 0..self.hosts.len() {
            let at = self.rng.range(0, 300);
            self.at(at, Happening::Deliver { from: Peer::Head(0), to: Peer::Node(node), message: Box::new(Message::Rejoin) });
            self.at(at + TICK_MS, Happening::Heartbeat(node));
        }
        self.at(TICK_MS, Happening::Tick);
        for (number, job) in self.scenario.jobs.clone().iter().enumerate() {
            self.at(job.at_ms + BEGIN_MS, Happening::JobBegins(number));
        }
        for (number, group) in self.scenario.groups.clone().iter().enumerate() {
            self.at(group.at_ms + BEGIN_MS, Happening::GroupBegins(number));
            self.at(group.until_ms + BEGIN_MS, Happening::GroupEnds(number));
        }
        for (at, fault) in self.scenario.faults.clone() {
            self.at(at, Happening::Fault(fault));
        }
    }

    fn at(&mut self, at_ms: u64, happening: Happening) {
        self.last_number += 1;
        self.agenda.insert((at_ms.max(self.now_ms), self.last_number), happening);
    }

    pub(crate) fn after(&mut self, ms: u64, look: usize) {
        self.at(self.now_ms + ms, Happening::Look(look));
    }

    fn run(&mut self) -> Outcome {
        let mut steps = 0;
        while let Some(((at_ms, _), happening)) = self.agenda.pop_first() {
            self.now_ms = at_ms;
            steps += 1;
            if at_ms > self.scenario.end_ms() || steps > STEPS_MAX {
                break;
            }
            self.happen(happening)?;
            if at_ms > self.scenario.quiet_ms && !self.scenario.saturated && self.is_done() {
                return self.rest();
            }
        }
        self.report.end_ms = self.now_ms;
        if self.scenario.saturated {
            return self.check_shares(&self.sums, self.sum_ticks);
        }
        self.check_results(true)
    }

    /// All work is done: what is on its way arrives, and nothing must be left.
    fn rest(&mut self) -> Outcome {
        let until_ms = self.now_ms + 20_000;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= until_ms) {
            let ((at_ms, _), happening) = entry.remove_entry();
            self.now_ms = at_ms;
            self.happen(happening)?;
        }
        self.report.end_ms = self.now_ms;
        self.report.done = self.tasks.iter().filter(|task| task.results > 0).count() as u64;
        self.check_results(true)?;
        self.check_rest()
    }

    fn is_done(&self) -> bool {
        let begun = self.scenario.jobs.iter().all(|job| job.at_ms + BEGIN_MS < self.now_ms);
        begun && self.tasks.iter().all(|task| !matches!(task.state, TaskState::Waiting | TaskState::Out))
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:>7} {}", self.now_ms, line());
        for byte in line.bytes() {
            self.report.digest = (self.report.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.tracing {
            self.report.trace.push(line);
        }
    }

    /// Sends a message: it takes its time, and sometimes arrives twice.
    pub(crate) fn send(&mut self, from: Peer, to: Peer, message: Message) {
        let (low, high) = self.scenario.delay_ms;
        let copies = if self.scenario.twice_in > 0 && self.rng.one_in(self.scenario.twice_in) { 2 } else { 1 };
        for _ in 0..copies {
            let mut at_ms = self.now_ms + self.rng.range(low, high);
            let between_nodes = matches!((from, to), (Peer::Node(_), Peer::Node(_)));
            if !(self.scenario.overtaking && between_nodes) {
                let last = self.streams.entry((from, to)).or_default();
                at_ms = at_ms.max(*last);
                *last = at_ms;
            }
            self.at(at_ms, Happening::Deliver { from, to, message: Box::new(message.clone()) });
        }
    }

    pub(crate) fn tell_head(&mut self, node: usize, event: Event) {
        self.send(Peer::Node(node), Peer::Head(self.life), Message::ToHead(event));
    }

    fn happen(&mut self, happening: Happening) -> Outcome {
        match happening {
            Happening::Deliver { from, to, message } => self.deliver(from, to, *message),
            Happening::Tick => self.tick(),
            Happening::Heartbeat(node) => {
                self.heartbeat(node);
                Ok(())
            }
            Happening::Finish { host, run } => {
                self.finish(host, run);
                Ok(())
            }
            Happening::Look(node) => {
                if self.is_awake(node) {
                    self.look(node);
                }
                Ok(())
            }
            Happening::JobBegins(number) => {
                self.begin_job(number);
                Ok(())
            }
            Happening::GroupBegins(number) => {
                let id = GroupId(number as u64);
                self.groups.insert(id, number);
                self.step(Event::GroupWanted { id, group: self.group(number) })
            }
            Happening::GroupEnds(number) => {
                let id = GroupId(number as u64);
                self.groups.remove(&id);
                self.step(Event::GroupRemoved { id })
            }
            Happening::Fault(fault) => self.fault(fault),
            Happening::DrainEnds(node) if self.heard.contains_key(&node) => {
                self.step(Event::NodeDraining { node: id(node), draining: false })
            }
            Happening::DrainEnds(_) => Ok(()),
        }
    }

    pub(crate) fn is_awake(&self, node: usize) -> bool {
        self.hosts[node].alive && self.hosts[node].paused_until_ms <= self.now_ms
    }

    fn deliver(&mut self, from: Peer, to: Peer, message: Message) -> Outcome {
        match to {
            // What was meant for an earlier life of the head is lost with its stream.
            Peer::Head(life) if life != self.life => Ok(()),
            Peer::Head(_) => {
                let Peer::Node(node) = from else { return Ok(()) };
                self.head_hears(node, message)
            }
            Peer::Node(node) if !self.hosts[node].alive => Ok(()),
            // What ran or was on its way there is gone with its process; what others have for it they keep.
            Peer::Node(node) if self.hosts[node].down && !matches!(message, Message::Rejoin | Message::Ended { .. }) => Ok(()),
            Peer::Node(node) if !self.is_awake(node) => {
                let until_ms = self.hosts[node].paused_until_ms;
                self.at(until_ms, Happening::Deliver { from, to, message: Box::new(message) });
                Ok(())
            }
            Peer::Node(node) => {
                self.node_hears(node, from, message);
                Ok(())
            }
        }
    }

    fn head_hears(&mut self, node: usize, message: Message) -> Outcome {
        if let Message::Join { life, foreign } = message {
            let known = self.lives.insert(node, life);
            if known.is_some_and(|known| known < life) && self.heard.contains_key(&node) {
                self.step(Event::NodeLost { node: id(node) })?;
            }
            self.heard.insert(node, self.now_ms);
            self.step(Event::NodeHolds { node: id(node), foreign })?;
            let (mut capacity, labels) = self.scenario.nodes[node].clone();
            if self.scenario.mutation == Some(Mutation::OversoldNodes) {
                capacity = capacity.times(2);
            }
            return self.step(Event::NodeJoined { node: id(node), capacity, labels, offer: Offer::default() });
        }
        if !self.heard.contains_key(&node) {
            self.send(Peer::Head(self.life), Peer::Node(node), Message::Rejoin);
            return Ok(());
        }
        self.heard.insert(node, self.now_ms);
        match message {
            Message::ToHead(event) => self.step(event),
            _ => Ok(()),
        }
    }

    /// A step of the core, and what it says on its way to whom it concerns.
    fn step(&mut self, event: Event) -> Outcome {
        let now_ms = if self.scenario.mutation == Some(Mutation::StoppedClock) { 0 } else { self.now_ms };
        self.note(|| format!("{event:?}"));
        if let Event::Wanted { key, demand } = &event {
            self.demands.insert(*key, demand.clone());
        }
        let mut actions = self.core.step(now_ms, event);
        self.report.steps += 1;
        for action in &actions {
            self.note(|| format!("    {action:?}"));
        }
        if self.scenario.mutation == Some(Mutation::BrokenGangs) {
            self.break_gangs(&mut actions);
        }
        self.check_actions(&actions)?;
        if self.hosts.len() < CHECK_EVERY_NODES || self.report.steps.is_multiple_of(500) {
            self.check_books()?;
        }
        for action in actions {
            let owner = match &action {
                Action::Grant { key, .. } | Action::Refuse { key, .. } => key.owner,
                Action::Retire { owner, .. } | Action::Revoke { owner, .. } => *owner,
                Action::GroupPlaced { group, .. } | Action::GroupRescheduling { group } | Action::RefuseGroup { group, .. } => {
                    id(self.scenario.groups[group.0 as usize].owner)
                }
            };
            self.report.grants += u64::from(matches!(action, Action::Grant { .. }));
            self.send(Peer::Head(self.life), Peer::Node(place(owner)), Message::ToOwner(action));
        }
        Ok(())
    }

    fn break_gangs(&self, actions: &mut Vec<Action>) {
        let is_gang =
            |action: &Action| matches!(action, Action::Grant { key, .. } if self.demands.get(key).is_some_and(|demand| demand.gang));
        if actions.iter().filter(|action| is_gang(action)).count() > 1 {
            actions.remove(actions.iter().position(is_gang).unwrap_or_default());
        }
    }

    fn tick(&mut self) -> Outcome {
        self.at(self.now_ms + TICK_MS, Happening::Tick);
        let silent = self.heard.iter().filter(|(_, heard)| self.now_ms > **heard + LOST_AFTER_MS);
        for node in silent.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.heard.remove(&node);
            self.step(Event::NodeLost { node: id(node) })?;
        }
        self.step(Event::Tick)?;
        self.check_expiry()?;
        self.check_hosts()?;
        self.check_results(false)?;
        if self.scenario.saturated && self.now_ms > 15_000 {
            for (tenant, slots) in self.active_slots() {
                *self.sums.entry(tenant).or_default() += slots;
            }
            self.sum_ticks += 1;
        }
        Ok(())
    }

    fn heartbeat(&mut self, node: usize) {
        if !self.hosts[node].alive {
            return;
        }
        self.at(self.now_ms + TICK_MS, Happening::Heartbeat(node));
        if self.is_awake(node) {
            let leases = self.owners[node].leases.keys().copied().collect();
            let local = self.hosts[node].local();
            self.tell_head(node, Event::NodeHolds { node: id(node), foreign: self.hosts[node].foreign() });
            self.tell_head(node, Event::NodeReported { node: id(node), local, leases });
            self.look(node);
        }
    }

    fn fault(&mut self, fault: Fault) -> Outcome {
        self.note(|| format!("{fault:?}"));
        match fault {
            Fault::Crash(node) => self.crash(node),
            Fault::Pause(node, ms) => {
                let until_ms = self.now_ms + ms;
                self.hosts[node].paused_until_ms = until_ms;
            }
            Fault::Restart(node, ms) => self.restart(node, ms),
            Fault::Drain(node, ms) => {
                self.at(self.now_ms + ms, Happening::DrainEnds(node));
                if self.heard.contains_key(&node) {
                    return self.step(Event::NodeDraining { node: id(node), draining: true });
                }
            }
            Fault::HeadRestart => {
                self.life += 1;
                self.core = Core::resuming(LeaseId(self.life << LEASE_ID_BITS), self.now_ms);
                self.heard.clear();
                for (id, number) in self.groups.clone() {
                    self.step(Event::GroupWanted { id, group: self.group(number) })?;
                }
                for node in 0..self.hosts.len() {
                    let at_ms = self.now_ms + self.rng.range(10, 1_000);
                    self.at(
                        at_ms,
                        Happening::Deliver { from: Peer::Head(self.life), to: Peer::Node(node), message: Box::new(Message::Rejoin) },
                    );
                }
            }
        }
        Ok(())
    }

    /// A node's process ends, and another one begins after a while, which has what its log says: its jobs, and which attempts are elsewhere.
    fn restart(&mut self, node: usize, ms: u64) {
        if !self.hosts[node].alive || self.hosts[node].down {
            return;
        }
        let host = &mut self.hosts[node];
        (host.down, host.life, host.paused_until_ms) = (true, host.life + 1, self.now_ms + ms);
        host.drop_tasks(|_| true);
        self.forget_own_runs(node);
        let (until_ms, life) = (self.now_ms + ms, self.life);
        self.at(until_ms, Happening::Deliver { from: Peer::Head(life), to: Peer::Node(node), message: Box::new(Message::Rejoin) });
    }

    fn crash(&mut self, node: usize) {
        if !self.hosts[node].alive {
            return;
        }
        self.hosts[node].alive = false;
        self.hosts[node].drop_tasks(|_| true);
        for task in self.tasks.iter_mut().filter(|task| task.owner == node && !matches!(task.state, TaskState::Done | TaskState::Failed)) {
            task.state = TaskState::Gone;
        }
        // Its streams break, and what others ran for it ends.
        for host in &mut self.hosts {
            host.drop_tasks(|task| task.owner == node);
        }
        for host in 0..self.hosts.len() {
            self.admit(host);
        }
    }

    /// Starts what fits on a host.
    pub(crate) fn admit(&mut self, host: usize) {
        for (run, takes_ms) in self.hosts[host].admit() {
            self.finishes(host, run, takes_ms);
        }
    }

    pub(crate) fn finishes(&mut self, host: usize, run: u64, takes_ms: u64) {
        self.at(self.now_ms + takes_ms, Happening::Finish { host, run });
    }

    fn finish(&mut self, host: usize, run: u64) {
        if !self.is_awake(host) {
            let until_ms = self.hosts[host].paused_until_ms;
            if self.hosts[host].alive {
                self.at(until_ms, Happening::Finish { host, run });
            }
            return;
        }
        let Some(ended) = self.hosts[host].finish(run) else { return };
        match ended.lease {
            None => {
                self.publish(ended.task, ended.attempt);
                self.look(host);
            }
            Some(lease) => {
                let message = Message::Ended { lease, task: ended.task, attempt: ended.attempt };
                self.send(Peer::Node(host), Peer::Node(ended.owner), message);
            }
        }
        self.admit(host);
    }

    /// The first end of the newest attempt is a task's result.
    pub(crate) fn publish(&mut self, task: usize, attempt: u32) {
        let doubting = self.scenario.mutation != Some(Mutation::DoubledTasks);
        let known = &mut self.tasks[task];
        if doubting && (known.attempt != attempt || known.state != TaskState::Out) {
            return;
        }
        known.state = TaskState::Done;
        known.results += 1;
    }

    pub(crate) fn is_retryable(&self, job: JobId) -> bool {
        self.scenario.jobs.get(job.session as usize).is_none_or(|job| job.retryable)
    }

    pub(crate) fn draw(&mut self, low: u64, high: u64) -> u64 {
        self.rng.range(low, high)
    }

    pub(crate) fn weights(&self) -> Vec<Event> {
        let weigh = |(tenant, weight): &(Tenant, u32)| Event::TenantWeighed { tenant: tenant.clone(), weight: *weight };
        self.scenario.weights.iter().map(weigh).collect()
    }

    pub(crate) fn head(&self) -> Peer {
        Peer::Head(self.life)
    }
}
