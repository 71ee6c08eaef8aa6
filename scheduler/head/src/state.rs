//! What the head knows, and the one way in which it changes: an event goes into the core, and its actions go out to the nodes.

mod drain;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_core::{Action, Core, Demand, DemandKey, Event};
use rwasm_journal::Journal;
use rwasm_runtime::Scope;
use rwasm_types::{
    Code, Error, Incarnation, JobId, LeaseId, Name, NodeId, ResourceSet, Result, Tenant,
    api::{ClusterStatus, Drain, NodeRecord, PendingDemand, PlaceRequest, PlanRecord, PlannedNode, TurnedNode, UnixMs},
};
use rwasm_wire::{convert, msg};
use tokio::sync::{mpsc, oneshot};

use crate::{
    LOST_AFTER,
    numbers::{self, Admitted, Claim, Numbers},
    orders::Orders,
};

/// Lost nodes stay in lists for so long.
const SHOW_LOST_MS: u64 = 3_600_000;
/// The part of a lease's id that counts the leases of one life of the head.
const LEASE_ID_BITS: u32 = 36;
/// The most nodes of a cluster.
const NODES_MAX: usize = 20_000;

/// Everything that the head's services share.
pub(crate) struct Shared {
    pub(crate) numbers: Numbers,
    pub(crate) orders: Orders,
    pub(crate) scope: Scope,
    /// What survives a restart.
    pub(crate) journal: Journal,
    token: blake3::Hash,
    started_ms: UnixMs,
    state: Mutex<State>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("cluster", &self.numbers.cluster()).finish_non_exhaustive()
    }
}

struct State {
    /// When this life of the head began: the zero of the core's time.
    begun: Instant,
    core: Core,
    nodes: BTreeMap<NodeId, Node>,
    questions: HashMap<u64, oneshot::Sender<Result<Bytes>>>,
    last_question: u64,
    /// Nodes that were told to take no more work.
    drains: BTreeMap<NodeId, Drain>,
}

/// Messages to a node. They wait without limit of their own: what is sent answers what the node sent, or is rare.
pub(crate) type ToNode = mpsc::UnboundedSender<msg::HeadMessage>;

struct Node {
    record: NodeRecord,
    incarnation: Incarnation,
    data_address: String,
    sender: Option<ToNode>,
    heard: Instant,
    waiting: Vec<PendingDemand>,
    /// Which of the node's streams is the current one.
    stream: u64,
    /// Whether it said that it is about to leave and takes no more work.
    leaving: bool,
}

/// What a node says of itself when it joins.
pub(crate) struct Joining {
    pub(crate) node: Option<NodeId>,
    pub(crate) incarnation: Incarnation,
    pub(crate) name: Name,
    pub(crate) capacity: ResourceSet,
    pub(crate) labels: BTreeMap<Name, String>,
    pub(crate) data_address: String,
    pub(crate) gateway_address: String,
    /// Whether it runs in the head's own process.
    pub(crate) local: bool,
}

pub(crate) fn now_ms() -> UnixMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn message(message: msg::head_message::Message) -> msg::HeadMessage {
    msg::HeadMessage { message: Some(message) }
}

impl Shared {
    /// Begins another life of a head, with what its journal says.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or holds what is not understood.
    pub(crate) async fn new(journal: Journal, token: &str, scope: Scope) -> Result<Self> {
        let numbers = Numbers::begin(journal.clone()).await?;
        let state = State::new(numbers.incarnation(), drain::read(&journal)?);
        Ok(Self {
            orders: Orders::read(journal.clone())?,
            numbers,
            scope,
            journal,
            token: blake3::hash(token.as_bytes()),
            started_ms: now_ms(),
            state: Mutex::new(state),
        })
    }

    /// Checks a caller's token; comparing hashes takes the same time whatever they hold.
    pub(crate) fn check_token(&self, given: Option<&str>) -> Result<()> {
        if given.is_some_and(|given| blake3::hash(given.as_bytes()) == self.token) {
            return Ok(());
        }
        Err(Error::new(Code::TOKEN_REFUSED, "the token was not accepted").hint("set RWASM_TOKEN to the cluster's token"))
    }

    pub(crate) fn nodes_alive(&self) -> usize {
        self.state.lock().nodes.values().filter(|node| node.record.alive).count()
    }

    /// Takes an event and tells the nodes what follows.
    pub(crate) fn step(&self, event: Event) {
        self.state.lock().step(event);
    }

    /// Takes a node in. One that was here before keeps its number. Its number is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`] with too many nodes; [`Code::STALE_INCARNATION`] if a later life of the node has joined; what the journal says.
    pub(crate) async fn join(&self, joining: Joining, sender: ToNode) -> Result<(NodeId, u64)> {
        let Joining { node, incarnation, name, capacity, labels, data_address, gateway_address, local } = joining;
        if node.is_none() && self.nodes_alive() >= NODES_MAX {
            return Err(Error::new(Code::LIMIT, format!("the cluster has {NODES_MAX} nodes, which is the limit")));
        }
        let Admitted { node: id, joined_ms } = self.numbers.admit(Claim { node, incarnation, name: name.clone() }).await?;
        let mut state = self.state.lock();
        match state.nodes.get(&id).map(|known| known.incarnation) {
            // It came while this one was written down.
            Some(known) if known > incarnation => return Err(numbers::stale(id, incarnation, known)),
            // What the earlier life held ended with it.
            Some(known) if known < incarnation => state.step(Event::NodeLost { node: id }),
            _ => {}
        }
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let record = NodeRecord {
            id,
            name,
            alive: true,
            head: local,
            data_address: text(&data_address),
            gateway_address: text(&gateway_address),
            capacity: capacity.clone(),
            used: ResourceSet::default(),
            labels: labels.clone(),
            tasks_queued: 0,
            tasks_running: 0,
            memory_bytes: 0,
            joined_ms,
            lost_ms: None,
            drain: state.drains.get(&id).copied(),
        };
        let stream = state.nodes.get(&id).map_or(1, |node| node.stream + 1);
        let node = Node {
            record,
            incarnation,
            data_address,
            sender: Some(sender),
            heard: Instant::now(),
            waiting: Vec::new(),
            stream,
            leaving: false,
        };
        state.nodes.insert(id, node);
        state.step(Event::NodeJoined { node: id, capacity, labels });
        state.settle_drain(id);
        Ok((id, stream))
    }

    /// A node's stream ended; it has a moment to come back.
    pub(crate) fn stream_ended(&self, node: NodeId, stream: u64) {
        if let Some(node) = self.state.lock().nodes.get_mut(&node).filter(|node| node.stream == stream) {
            node.sender = None;
        }
    }

    /// Makes sure that a stream is still its node's own.
    ///
    /// # Errors
    ///
    /// [`Code::CONNECTION_LOST`] if the node, or a later life of it, has opened another.
    pub(crate) fn check_stream(&self, id: NodeId, stream: u64) -> Result<()> {
        if self.state.lock().nodes.get(&id).is_some_and(|node| node.stream == stream) {
            return Ok(());
        }
        Err(Error::new(Code::CONNECTION_LOST, format!("node {id} has opened another stream")))
    }

    /// A heartbeat.
    ///
    /// # Errors
    ///
    /// [`Code::NODE_LOST`] if the node was given up, as one that was paused is: what it held is not its own any more, and it has to join
    /// again.
    pub(crate) fn report(&self, id: NodeId, report: &Report) -> Result<()> {
        let mut state = self.state.lock();
        let Some(node) = state.nodes.get_mut(&id).filter(|node| node.record.alive) else {
            return Err(Error::new(Code::NODE_LOST, format!("node {id} was silent for too long and was given up")));
        };
        node.heard = Instant::now();
        node.record.used = report.used.clone();
        node.record.tasks_queued = report.tasks_queued;
        node.record.tasks_running = report.tasks_running;
        node.record.memory_bytes = report.memory_bytes;
        node.waiting.clone_from(&report.waiting);
        if std::mem::replace(&mut node.leaving, report.leaving) != report.leaving {
            state.settle_drain(id);
        }
        state.step(Event::NodeReported { node: id, local: report.local.clone(), leases: report.leases.clone() });
        Ok(())
    }

    /// Counts nodes that were not heard from as lost.
    pub(crate) fn lose_silent_nodes(&self) {
        let mut state = self.state.lock();
        let silent = |node: &Node| node.record.alive && node.heard.elapsed() > LOST_AFTER;
        let lost: Vec<NodeId> = state.nodes.iter().filter(|(_, node)| silent(node)).map(|(id, _)| *id).collect();
        for id in lost {
            if let Some(node) = state.nodes.get_mut(&id) {
                tracing::warn!(node = %id, name = %node.record.name, "a node was lost");
                node.record.alive = false;
                node.record.lost_ms = Some(now_ms());
                node.sender = None;
                node.waiting.clear();
            }
            state.step(Event::NodeLost { node: id });
        }
        let forget = now_ms().saturating_sub(SHOW_LOST_MS);
        state.nodes.retain(|_, node| node.record.lost_ms.is_none_or(|lost| lost > forget));
    }

    /// Nodes, lost ones of the last hour included.
    pub(crate) fn node_records(&self) -> Vec<NodeRecord> {
        self.state.lock().nodes.values().map(|node| node.record.clone()).collect()
    }

    /// The cluster at a glance, without jobs.
    pub(crate) fn status(&self) -> ClusterStatus {
        let state = self.state.lock();
        let mut pending: Vec<PendingDemand> = Vec::new();
        for waiting in state.nodes.values().flat_map(|node| &node.waiting) {
            match pending.iter_mut().find(|known| known.shape == waiting.shape) {
                Some(known) => known.tasks += waiting.tasks,
                None => pending.push(waiting.clone()),
            }
        }
        ClusterStatus {
            cluster: self.numbers.cluster().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            now_ms: now_ms(),
            nodes: state.nodes.values().map(|node| node.record.clone()).collect(),
            pending,
            jobs: BTreeMap::new(),
        }
    }

    /// Why an owner's request waits; empty if it does not, or is another tenant's.
    pub(crate) fn why(&self, owner: NodeId, request: u64, tenant: &str) -> String {
        self.state.lock().core.explain(DemandKey { owner, request }, tenant).unwrap_or_default()
    }

    /// Where tasks would go now.
    ///
    /// # Errors
    ///
    /// What the core says of the request.
    pub(crate) fn plan(&self, place: &PlaceRequest, tenant: &str) -> Result<PlanRecord> {
        let tenant = Tenant::new(tenant).map_err(convert::malformed)?;
        let slots = u32::try_from(place.tasks).unwrap_or(u32::MAX).min(rwasm_core::limit::SLOTS_MAX);
        let job = JobId { owner: place.owner, session: 0 };
        let mut demand = Demand::new(job, tenant, place.shape.clone(), slots, place.priority);
        demand.placement = place.placement.clone();
        let plan = self.state.lock().core.plan(place.owner, demand)?;
        Ok(PlanRecord {
            shape: place.shape.clone(),
            placed: plan.placed.into_iter().map(|(node, slots)| PlannedNode { node, tasks: slots.into() }).collect(),
            waiting: u64::from(plan.waiting) + (place.tasks - u64::from(slots)),
            infeasible: plan.infeasible,
            turned: plan.turned.into_iter().map(|turned| TurnedNode { node: turned.node, why: turned.why }).collect(),
        })
    }

    /// Nodes that can be asked something now.
    pub(crate) fn nodes_reachable(&self) -> Vec<NodeId> {
        self.state.lock().nodes.iter().filter(|(_, node)| node.sender.is_some()).map(|(id, _)| *id).collect()
    }

    /// Asks a node something; the answer comes through the receiver. `None` if the node is away.
    pub(crate) fn question(&self, node: NodeId, tenant: &str, ask: Bytes) -> Option<oneshot::Receiver<Result<Bytes>>> {
        let mut state = self.state.lock();
        state.last_question += 1;
        let number = state.last_question;
        let sender = state.nodes.get(&node)?.sender.clone()?;
        let (answer, answered) = oneshot::channel();
        let question = msg::Question { number, tenant: tenant.to_owned(), ask, ..msg::Question::default() };
        sender.send(message(msg::head_message::Message::Question(question))).ok()?;
        // Those that nobody waits for any more are dropped here, so that the table stays as small as what is under way.
        state.questions.retain(|_, waiting| !waiting.is_closed());
        state.questions.insert(number, answer);
        Some(answered)
    }

    /// A node answered.
    pub(crate) fn answered(&self, number: u64, answer: Result<Bytes>) {
        if let Some(waiting) = self.state.lock().questions.remove(&number) {
            // Whoever asked may have given up.
            let _ = waiting.send(answer);
        }
    }
}

/// A heartbeat, read.
pub(crate) struct Report {
    pub(crate) local: ResourceSet,
    pub(crate) used: ResourceSet,
    /// Leases that its owner has.
    pub(crate) leases: Vec<LeaseId>,
    pub(crate) tasks_queued: u64,
    pub(crate) tasks_running: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) waiting: Vec<PendingDemand>,
    pub(crate) leaving: bool,
}

impl State {
    fn new(incarnation: Incarnation, drains: BTreeMap<NodeId, Drain>) -> Self {
        Self {
            begun: Instant::now(),
            // Leases of this life get ids above those of all earlier ones.
            core: Core::new(incarnation.0 << LEASE_ID_BITS),
            nodes: BTreeMap::new(),
            questions: HashMap::new(),
            last_question: 0,
            drains,
        }
    }

    fn step(&mut self, event: Event) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        for action in self.core.step(now_ms, event) {
            let (owner, sent) = match action {
                Action::Grant { key: DemandKey { owner, request }, lease, node, slots, bundle: _ } => {
                    let data_address = self.nodes.get(&node).map(|node| node.data_address.clone()).unwrap_or_default();
                    let grant = msg::LeaseGrant { request, lease: lease.0, node: node.get(), data_address, slots };
                    tracing::debug!(%lease, %owner, %node, slots, "lease granted");
                    (owner, msg::head_message::Message::LeaseGrant(grant))
                }
                Action::Refuse { key: DemandKey { owner, request }, error } => {
                    let refusal = msg::LeaseRefusal { request, error: Some((&error).into()) };
                    (owner, msg::head_message::Message::LeaseRefusal(refusal))
                }
                Action::Revoke { owner, lease, error } => {
                    let revoke = msg::LeaseRevoke { lease: lease.0, reason: Some((&error).into()), let_finish: false };
                    (owner, msg::head_message::Message::LeaseRevoke(revoke))
                }
                Action::Retire { owner, lease, error } => {
                    let revoke = msg::LeaseRevoke { lease: lease.0, reason: Some((&error).into()), let_finish: true };
                    (owner, msg::head_message::Message::LeaseRevoke(revoke))
                }
                // No message asks for placement groups, so nobody is to be told of them.
                Action::GroupPlaced { .. } | Action::GroupRescheduling { .. } | Action::RefuseGroup { .. } => continue,
            };
            // An owner that is away asks again when it is back.
            if let Some(sender) = self.nodes.get(&owner).and_then(|node| node.sender.as_ref()) {
                let _ = sender.send(message(sent));
            }
        }
    }
}
