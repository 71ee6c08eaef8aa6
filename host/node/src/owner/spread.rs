//! Running an owner's tasks on other nodes: asks the head for leases where work waits, and keeps each lease's node supplied.
//!
//! What was sent is kept until its outcome comes, so that a lost node costs an attempt and no task. A lease that has nothing to do is
//! given back.

mod calls;
mod reclaim;

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_types::{ActorId, Attempt, Code, Error, JobId, LeaseId, NodeId, Result, SessionId};
use rwasm_wire::{convert, msg};

use super::{
    job::{Job, JobCall},
    link::Link,
};
use crate::{
    actors::Event,
    batch,
    dispatch::ClassId,
    drain,
    executor::{Ended, Item},
    node::{Shared, cancelled},
};

/// How often demand is looked at while work waits.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A lease that had nothing to do for so long is given back.
const LINGER: Duration = Duration::from_millis(200);
/// Work that this node gets through in so short a time is not sent away.
const WORTH_SENDING: Duration = Duration::from_millis(5);
/// How much work is on its way to a slot beside what runs there, so that it does not wait for the network.
const SUPPLY: Duration = Duration::from_millis(5);
/// The most tasks that a slot may have at once.
const SUPPLY_TASKS_MAX: u32 = 256;
/// The most slots that are asked for at once.
const SLOTS_MAX: usize = 65_536;

/// A task of this owner.
type Key = (SessionId, u64);

/// An owner's classes, wishes and leases.
#[derive(Default)]
pub(crate) struct Spread {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    classes: BTreeMap<ClassId, Class>,
    leases: HashMap<LeaseId, Lease>,
    links: HashMap<NodeId, Arc<Link>>,
    /// Calls of actors on other nodes.
    calls: HashMap<Key, calls::SentCall>,
    /// Attempts of an earlier life of this owner, on nodes that were not heard yet.
    awaited: HashMap<NodeId, HashMap<Key, reclaim::Awaited>>,
    last_request: u64,
}

struct Class {
    job: Arc<Job>,
    call: Arc<JobCall>,
    request: u64,
    /// Slots that the head was last asked for.
    asked: u32,
}

struct Lease {
    node: NodeId,
    class: ClassId,
    slots: u32,
    link: Arc<Link>,
    /// What was sent and has not ended, by sequence.
    sent: HashMap<u64, Item>,
    /// Those of it that make actors and said that these are alive.
    alive: HashSet<u64>,
    idle_since: Instant,
    /// Nothing more is sent on it: it is given back when what was sent has ended.
    retired: bool,
}

impl Spread {
    /// Makes a class known.
    pub(crate) fn add_class(&self, class: ClassId, job: &Arc<Job>, call: &Arc<JobCall>) {
        let mut state = self.state.lock();
        state.last_request += 1;
        let request = state.last_request;
        state.classes.insert(class, Class { job: Arc::clone(job), call: Arc::clone(call), request, asked: 0 });
    }

    /// Ends what a job's tasks do on other nodes; their outcomes say that they were cancelled.
    pub(crate) fn cancel(&self, job: &Arc<Job>, sequences: Option<&[u64]>) {
        let mut state = self.state.lock();
        state.cancel_awaited(job, sequences);
        state.cancel_sent_calls(job, sequences);
        for lease in state.leases.values() {
            if state.classes.get(&lease.class).is_none_or(|class| class.job.id != job.id) {
                continue;
            }
            let sent: Vec<u64> = match sequences {
                None => lease.sent.keys().copied().collect(),
                Some(wanted) => wanted.iter().copied().filter(|sequence| lease.sent.contains_key(sequence)).collect(),
            };
            if !sent.is_empty() {
                lease.link.send(msg::owner_message::Message::Cancel(msg::CancelRemote { session: job.id.session, sequences: sent }));
            }
        }
    }

    /// The head forgot what it was asked; it is asked again.
    pub(crate) fn forget_requests(&self) {
        self.state.lock().classes.values_mut().for_each(|class| class.asked = 0);
    }

    /// The number of the request that a class's tasks wait for at the head, if they do.
    pub(crate) fn request_of(&self, class: ClassId) -> Option<u64> {
        self.state.lock().classes.get(&class).filter(|class| class.asked > 0).map(|class| class.request)
    }

    /// Leases in use, for heartbeats.
    pub(crate) fn leases(&self) -> Vec<u64> {
        self.state.lock().leases.keys().map(|lease| lease.0).collect()
    }
}

impl State {
    /// The link to a node; opens one if there is none.
    fn link_to(&mut self, shared: &Arc<Shared>, node: NodeId, address: &str) -> Arc<Link> {
        match self.links.get(&node).filter(|link| !link.has_ended()) {
            Some(link) => {
                link.move_to(address);
                Arc::clone(link)
            }
            None => {
                let link = Link::open(shared, node, address);
                self.links.insert(node, Arc::clone(&link));
                link
            }
        }
    }
}

impl Shared {
    /// Watches for work that does not fit here, for as long as the node runs.
    pub(crate) async fn spread_work(self: Arc<Self>) {
        loop {
            let busy = self.spread_once();
            if busy {
                let _ = tokio::time::timeout(LOOK_EVERY, self.surplus.notified()).await;
            } else {
                self.surplus.notified().await;
            }
        }
    }

    /// Looks at all classes and leases once; says whether there is anything to look after.
    fn spread_once(self: &Arc<Self>) -> bool {
        self.forget_ended_jobs();
        let busy = self.ask_for_leases();
        let leases: Vec<LeaseId> = self.spread.state.lock().leases.keys().copied().collect();
        leases.iter().for_each(|lease| self.supply(*lease));
        self.return_idle_leases();
        busy || !leases.is_empty()
    }

    fn forget_ended_jobs(&self) {
        let ended: Vec<(ClassId, u32)> = {
            let state = self.spread.state.lock();
            let over = state.classes.iter().filter(|(_, class)| class.job.has_ended());
            over.map(|(id, class)| (*id, class.job.id.session)).collect()
        };
        for (class, session) in ended {
            let links: Vec<Arc<Link>> = {
                let mut state = self.spread.state.lock();
                if let Some(Class { request, asked: 1.., .. }) = state.classes.remove(&class) {
                    self.head.send(msg::node_message::Message::LeaseRequest(msg::LeaseRequest { request, ..Default::default() }));
                }
                state.links.values().map(Arc::clone).collect()
            };
            links.iter().for_each(|link| link.forget(session));
            self.dispatcher.lock().remove_class(class);
        }
    }

    /// Tells the head what is wanted, where that changed.
    fn ask_for_leases(&self) -> bool {
        let mut busy = false;
        let mut requests = Vec::new();
        let mut state = self.spread.state.lock();
        for (id, class) in &mut state.classes {
            let ready = matches!(&*class.call.ready.read(), Some(Ok(())));
            let (queued, mean, slots_here) = {
                let dispatcher = self.dispatcher.lock();
                let shape = &class.call.shape;
                let here = class.call.granted.is_some() && dispatcher.may_run_here(*id);
                let slots_here = if here { dispatcher.slots(shape) } else { 0 };
                (dispatcher.queued_in(*id), dispatcher.mean(*id), slots_here)
            };
            busy |= queued > 0;
            let soon_done =
                mean.is_some_and(|mean| mean * u32::try_from(queued / slots_here.max(1) as usize).unwrap_or(u32::MAX) < WORTH_SENDING);
            // Tasks so short that several go to a slot at once need fewer slots.
            let together = mean.map_or(1, |mean| (SUPPLY.as_nanos() / mean.as_nanos().max(1)).clamp(1, SUPPLY_TASKS_MAX.into()) as usize);
            let waits_for_nothing_here = slots_here == 0;
            let wanted = if !ready || (soon_done && !waits_for_nothing_here) { 0 } else { queued.div_ceil(together).min(SLOTS_MAX) } as u32;
            if wanted != class.asked && (wanted == 0 || class.asked == 0 || wanted > class.asked * 2 || wanted < class.asked / 2) {
                class.asked = wanted;
                requests.push(class.lease_request(wanted));
            }
        }
        drop(state);
        requests.into_iter().for_each(|request| self.head.send(msg::node_message::Message::LeaseRequest(request)));
        busy
    }

    /// The head granted a lease.
    pub(crate) fn granted(self: &Arc<Self>, grant: &msg::LeaseGrant) -> Result<()> {
        let (lease, node) = (LeaseId(grant.lease), convert::node(grant.node)?);
        {
            let mut state = self.spread.state.lock();
            let class = state.classes.iter_mut().find(|(_, class)| class.request == grant.request);
            let Some((class, entry)) = class else {
                drop(state);
                self.give_back(lease, false);
                return Ok(());
            };
            let class = *class;
            entry.asked = entry.asked.saturating_sub(grant.slots);
            if let Some(broken) = state.links.get(&node).filter(|link| !link.has_ended() && !link.takes_tasks()) {
                broken.move_to(&grant.data_address);
                drop(state);
                self.give_back(lease, true);
                return Ok(());
            }
            let link = state.link_to(self, node, &grant.data_address);
            state.leases.insert(
                lease,
                Lease {
                    node,
                    class,
                    slots: grant.slots,
                    link,
                    sent: HashMap::new(),
                    alive: HashSet::new(),
                    idle_since: Instant::now(),
                    retired: false,
                },
            );
        }
        self.supply(lease);
        self.surplus.notify_one();
        Ok(())
    }

    /// Opens a link to a node, if there is none.
    fn link_to(self: &Arc<Self>, node: NodeId, address: &str) {
        self.spread.state.lock().link_to(self, node, address);
    }

    /// The head cannot meet a request: nothing of that shape can ever run, here or elsewhere.
    pub(crate) fn refused(&self, request: u64, error: &Error) {
        if error.code() == Code::QUEUE_FULL {
            // It is asked for again when something else was met, or the next time somebody looks.
            self.spread.state.lock().classes.values_mut().filter(|class| class.request == request).for_each(|class| class.asked = 0);
            return;
        }
        let class = self.spread.state.lock().classes.iter().find(|(_, class)| class.request == request).map(|(id, _)| *id);
        if let Some(class) = class {
            self.fail_class(class, error);
        }
    }

    /// A class can never run: what waits of it ends, and so does what is still submitted.
    fn fail_class(&self, id: ClassId, error: &Error) {
        let class = self.spread.state.lock().classes.get(&id).map(|class| (Arc::clone(&class.job), Arc::clone(&class.call)));
        if let Some((job, call)) = class {
            *call.ready.write() = Some(Err(error.clone()));
            let waiting = self.dispatcher.lock().remove_class(id);
            self.end(&job, waiting, error);
        }
    }

    /// Nothing more is sent on a lease, and it is given back when all that was has ended.
    pub(crate) fn retired(&self, lease: LeaseId) {
        if let Some(lease) = self.spread.state.lock().leases.get_mut(&lease) {
            lease.retired = true;
        }
        self.surplus.notify_one();
    }

    /// A lease is over, and whatever was sent on it lost; a task may have begun only where its node had answered.
    pub(crate) fn revoked(&self, lease: LeaseId, error: &Error, begun: bool) {
        let lost = {
            let mut state = self.spread.state.lock();
            let lost = state.leases.remove(&lease);
            lost.and_then(|lease| state.classes.get(&lease.class).map(|class| (Arc::clone(&class.job), lease)))
        };
        if let Some((job, lease)) = lost {
            let sent: Vec<Item> = lease.sent.into_values().collect();
            if begun && !sent.is_empty() {
                // Where its node is there after all, nobody waits for them any more.
                let sequences = sent.iter().map(|item| item.task.sequence).collect();
                lease.link.send(msg::owner_message::Message::Cancel(msg::CancelRemote { session: job.id.session, sequences }));
            }
            if error.code() == Code::GROUP_REMOVED {
                // No other lease can come out of the group, so nothing of its work is tried again.
                self.end(&job, sent, error);
                self.fail_class(lease.class, error);
                return;
            }
            let again: Vec<Item> = if begun {
                sent.into_iter().filter_map(|item| job.lost(item, error)).collect()
            } else {
                job.requeued(&sent);
                sent
            };
            let orphans = self.dispatcher.lock().put_back(lease.class, again).err().unwrap_or_default();
            self.end(&job, orphans, &cancelled());
            self.pump();
        }
    }

    /// A link could not be opened, or not again in time: its node's leases are over.
    pub(crate) fn link_lost(self: &Arc<Self>, link: &Arc<Link>, error: &Error, welcomed: bool) {
        let node = link.node();
        let (leases, calls): (Vec<LeaseId>, Vec<calls::SentCall>) = {
            let mut state = self.spread.state.lock();
            if state.links.get(&node).is_some_and(|known| Arc::ptr_eq(known, link)) {
                state.links.remove(&node);
            }
            let leases = state.leases.iter().filter(|(_, lease)| Arc::ptr_eq(&lease.link, link)).map(|(id, _)| *id).collect();
            (leases, state.calls.extract_if(|_, sent| sent.node == node).map(|(_, sent)| sent).collect())
        };
        calls.into_iter().for_each(|sent| self.lose_call(sent, error));
        for lease in leases {
            self.give_back(lease, !welcomed);
            self.revoked(lease, error, welcomed);
        }
    }

    /// Gives a lease back to the head; `unreachable` asks for others than its node for a while.
    pub(crate) fn give_back(&self, lease: LeaseId, unreachable: bool) {
        self.head.send(msg::node_message::Message::LeaseReturn(msg::LeaseReturn { lease: lease.0, unreachable }));
    }

    /// Sends a lease's node as many tasks as it should have.
    fn supply(&self, lease: LeaseId) {
        let (class, room) = {
            let state = self.spread.state.lock();
            let Some(lease) = state.leases.get(&lease).filter(|lease| !lease.retired && lease.link.takes_tasks()) else { return };
            let mean = self.dispatcher.lock().mean(lease.class);
            let stays = state.classes.get(&lease.class).is_some_and(|class| class.call.makes_actor());
            let ahead = mean
                .filter(|_| !stays)
                .map_or(1, |mean| (SUPPLY.as_nanos() / mean.as_nanos().max(1)).clamp(1, SUPPLY_TASKS_MAX.into()) as u32);
            (lease.class, (lease.slots.saturating_mul(ahead) as usize).saturating_sub(lease.sent.len()))
        };
        let items = self.dispatcher.lock().take(class, room);
        if items.is_empty() {
            return;
        }
        let mut state = self.spread.state.lock();
        let State { classes, leases, .. } = &mut *state;
        let (Some(entry), Some(known)) = (classes.get(&class), leases.get_mut(&lease)) else {
            drop(state);
            // The lease was revoked in between; the next look finds the tasks where they were.
            let _ = self.dispatcher.lock().put_back(class, items);
            return;
        };
        entry.job.running(&items, known.node);
        let tasks = items.iter().map(|item| msg::AssignedTask {
            sequence: item.task.sequence,
            attempt: item.attempt.0,
            args: item.args.clone(),
            depth: item.depth,
        });
        let assign = |tasks| msg::Assign { lease: lease.0, session: entry.job.id.session, call: entry.call.number.into(), tasks };
        let messages = batch::split(tasks.collect(), |task| 32 + task.args.len()).into_iter().map(assign).collect();
        if known.link.assign(&entry.job, &entry.call, messages) {
            known.sent.extend(items.into_iter().map(|item| (item.task.sequence, item)));
            return;
        }
        let job = Arc::clone(&entry.job);
        drop(state);
        // The link broke in between.
        job.requeued(&items);
        let orphans = self.dispatcher.lock().put_back(class, items).err().unwrap_or_default();
        self.end(&job, orphans, &cancelled());
    }

    /// Outcomes of tasks that ran on a lease.
    pub(crate) fn outcomes(&self, outcomes: msg::RemoteOutcomes) -> Result<()> {
        if outcomes.lease == calls::NO_LEASE {
            self.call_outcomes(outcomes);
            return Ok(());
        }
        let lease = LeaseId(outcomes.lease);
        let (job, class, ended, given_back, took) = {
            let mut state = self.spread.state.lock();
            let State { classes, leases, .. } = &mut *state;
            let Some(known) = leases.get_mut(&lease) else { return Ok(()) };
            let Some(class) = classes.get(&known.class) else { return Ok(()) };
            let mut ended = Vec::with_capacity(outcomes.outcomes.len());
            let (mut took, mut given_back) = (Duration::ZERO, Vec::new());
            for outcome in outcomes.outcomes {
                let attempt = Attempt(outcome.attempt);
                // An outcome of an attempt that was given up is of no interest.
                if let Entry::Occupied(sent) = known.sent.entry(outcome.sequence)
                    && sent.get().attempt == attempt
                {
                    if outcome.alive {
                        known.alive.insert(outcome.sequence);
                        self.actors.tell(Event::Alive(ActorId(sent.get().task), attempt, known.node));
                        continue;
                    }
                    let item = sent.remove();
                    let was_alive = known.alive.remove(&outcome.sequence);
                    let end = ended_elsewhere(class.job.id, outcome);
                    if let Err(error) = &end.result
                        && (drain::is_given_back(error) || was_alive && class.call.is_made_again(attempt, error))
                    {
                        given_back.push((item, error.clone()));
                        continue;
                    }
                    took += end.wall;
                    ended.push(end);
                }
            }
            // A node that takes no more work gives back whatever else comes, until the head has heard of it and retires the lease.
            known.retired |= given_back.iter().any(|(_, error)| error.code() == Code::NODE_DRAINED);
            known.idle_since = Instant::now();
            let id = known.class;
            self.dispatcher.lock().observe(id, ended.len(), took);
            (Arc::clone(&class.job), id, ended, given_back, took)
        };
        if !given_back.is_empty() {
            self.take_back(&job, class, given_back);
        }
        tracing::trace!(%lease, outcomes = ended.len(), ?took, "outcomes from elsewhere");
        let pressure = job.end(ended);
        self.relieve(&job, pressure);
        self.supply(lease);
        Ok(())
    }

    /// A node gave attempts back, because it is drained or its link broke: they wait again, as they were if they had not begun there.
    fn take_back(&self, job: &Job, class: ClassId, items: Vec<(Item, Error)>) {
        let again = items.into_iter().filter_map(|(item, error)| {
            if drain::had_begun(&error) {
                return job.lost(item, &error);
            }
            job.requeued(std::slice::from_ref(&item));
            Some(item)
        });
        let again: Vec<Item> = again.collect();
        let orphans = self.dispatcher.lock().put_back(class, again).err().unwrap_or_default();
        let pressure = job.end(orphans.iter().map(|item| Ended::unrun(item, cancelled())).collect());
        self.relieve(job, pressure);
        self.pump();
    }

    /// A node cannot run a call at all: its lease is given back, and the call fails where it would fail everywhere.
    pub(crate) fn define_failed(&self, node: NodeId, session: u32, number: u32, error: &Error) {
        let leases: Vec<LeaseId> = {
            let state = self.spread.state.lock();
            let of_call = |lease: &Lease| {
                let class = state.classes.get(&lease.class);
                lease.node == node && class.is_some_and(|class| class.job.id.session == session && u32::from(class.call.number) == number)
            };
            state.leases.iter().filter(|(_, lease)| of_call(lease)).map(|(id, _)| *id).collect()
        };
        let job = self.jobs.read().get(&JobId { owner: self.id, session }).map(Arc::clone);
        let tenant = job.as_ref().map(|job| tracing::field::display(&job.tenant));
        tracing::warn!(tenant, %node, session, %error, "a node cannot run a call");
        let error = Error::new(Code::NODE_LOST, format!("node {node} could not run it: {}", error.message()));
        for lease in leases {
            self.give_back(lease, true);
            self.revoked(lease, &error, true);
        }
    }

    fn return_idle_leases(&self) {
        let idle: Vec<LeaseId> = {
            let mut state = self.spread.state.lock();
            let over = |lease: &Lease| lease.sent.is_empty() && (lease.retired || lease.idle_since.elapsed() > LINGER);
            let idle: Vec<LeaseId> = state.leases.iter().filter(|(_, lease)| over(lease)).map(|(id, _)| *id).collect();
            idle.iter().for_each(|lease| drop(state.leases.remove(lease)));
            idle
        };
        idle.into_iter().for_each(|lease| self.give_back(lease, false));
    }
}

/// The end of an attempt, as another node tells it.
fn ended_elsewhere(job: JobId, outcome: msg::Outcome) -> Ended {
    Ended {
        task: job.task(outcome.sequence),
        attempt: Attempt(outcome.attempt),
        result: convert::read_outcome_result(outcome.result),
        // The node that ran it holds what the result names until it has heard that it arrived.
        held: Vec::new(),
        failed: outcome.failed.then(|| Error::new(Code::APPLICATION, "the function returned its error case")),
        cpu: Duration::from_nanos(outcome.cpu_ns),
        wall: Duration::from_nanos(outcome.wall_ns),
        memory_bytes: outcome.memory_bytes,
    }
}

impl Class {
    fn lease_request(&self, slots: u32) -> msg::LeaseRequest {
        let needs = self.call.grants.needs();
        // What is JSON on the command line is JSON here, so this cannot fail.
        let needs = if needs.is_empty() { Vec::new() } else { serde_json::to_vec(&needs).unwrap_or_default() };
        msg::LeaseRequest {
            request: self.request,
            job: Some(self.job.id.into()),
            tenant: self.job.tenant.to_string(),
            shape: Some((&self.call.shape).into()),
            slots,
            priority: self.call.options.priority.get().into(),
            retryable: self.call.retries_max > 0 && !self.call.makes_actor(),
            placement: Some((&self.call.options.placement).into()),
            needs: needs.into(),
        }
    }
}
