//! What the head knows, and the one way in which it changes: an event goes into the core, and its actions go out to the nodes.

mod drain;
mod groups;
mod placing;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_auth::Edit;
use rwasm_core::Event;
use rwasm_journal::Journal;
use rwasm_runtime::{Scope, now_ms};
use rwasm_types::{
    Code, Error, Incarnation, LeaseId, Name, Needs, NodeId, Offer, ResourceSet, Result,
    api::{ClusterStatus, Drain, NodeRecord, PendingDemand, UnixMs},
    metrics::{Family, Kind},
};
use rwasm_wire::msg;
use tokio::sync::{mpsc, oneshot};

use self::{groups::Groups, placing::Scheduler};
use crate::{
    LOST_AFTER,
    access::Access,
    history::{History, HistoryOptions},
    invite::Invitations,
    numbers::{self, Admitted, Claim, Numbers},
    orders::Orders,
};

/// Lost nodes stay in lists for so long.
const SHOW_LOST_MS: u64 = 3_600_000;
/// The most nodes of a cluster.
const NODES_MAX: usize = 20_000;

/// Everything that the head's services share.
pub(crate) struct Shared {
    pub(crate) numbers: Numbers,
    pub(crate) orders: Orders,
    pub(crate) scope: Scope,
    /// What survives a restart.
    pub(crate) journal: Journal,
    /// Tenants, tokens and policies.
    pub(crate) access: Access,
    pub(crate) invitations: Invitations,
    /// The past of nodes, if it is kept.
    pub(crate) history: Option<History>,
    /// Held while the name of an actor changes.
    pub(crate) naming: tokio::sync::Mutex<()>,
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
    scheduler: Scheduler,
    nodes: BTreeMap<NodeId, Node>,
    questions: HashMap<u64, oneshot::Sender<Result<Bytes>>>,
    last_question: u64,
    /// Nodes that were told to take no more work.
    drains: BTreeMap<NodeId, Drain>,
    /// Addresses of machines that are or were nodes of this life of the head.
    addresses: BTreeSet<IpAddr>,
    groups: Groups,
    counts: Counts,
}

/// What the head counts, since it started.
#[derive(Debug, Default)]
struct Counts {
    nodes_lost: u64,
    granted: u64,
    refused: u64,
    revoked: u64,
    questions: u64,
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
    offer: Offer,
    /// Which of the node's streams is the current one.
    stream: u64,
    /// Whether it said that it is about to leave and takes no more work.
    leaving: bool,
}

impl Node {
    /// Whether users come in through it.
    fn has_gateway(&self) -> bool {
        self.record.head || self.record.gateway_address.is_some()
    }

    /// Takes what the node's clock showed; says so once if it is wrong.
    fn set_clock(&mut self, theirs: UnixMs, ours: UnixMs) {
        if theirs == 0 {
            return;
        }
        let was = self.record.clock_is_off();
        self.record.clock_ahead_ms = theirs.checked_signed_diff(ours).unwrap_or(i64::MAX);
        if self.record.clock_is_off() && !was {
            let ahead_ms = self.record.clock_ahead_ms;
            tracing::warn!(node = %self.record.id, ahead_ms, "a node's clock is not the head's; times that it tells are off by so much");
        }
    }

    fn tell(&self, told: msg::head_message::Message) {
        if let Some(sender) = &self.sender {
            // A stream that just ended is about to be replaced.
            let _ = sender.send(message(told));
        }
    }
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
    pub(crate) offer: Offer,
    /// What tasks of other owners hold there already.
    pub(crate) foreign: ResourceSet,
    /// Where its stream comes from.
    pub(crate) peer: Option<IpAddr>,
    /// Whether it runs in the head's own process.
    pub(crate) local: bool,
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
    pub(crate) async fn new(
        journal: Journal,
        token: &str,
        history: Option<HistoryOptions>,
        invitations: Invitations,
        scope: Scope,
    ) -> Result<Self> {
        let numbers = Numbers::begin(journal.clone()).await?;
        let mut state = State::new(Scheduler::begin(&numbers), drain::read(&journal)?);
        let access = Access::read(&journal)?;
        state.weigh(&access.directory.read().tenants_edits());
        state.read_groups(&journal)?;
        let history = match history {
            Some(options) => Some(History::open(options, numbers.cluster()).await?),
            None => None,
        };
        Ok(Self {
            orders: Orders::read(journal.clone())?,
            numbers,
            history,
            naming: tokio::sync::Mutex::default(),
            scope,
            access,
            journal,
            invitations,
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
        let hint = "set RWASM_NODE_TOKEN to the cluster's node token, or start the node as the user who started the head";
        if given.is_some_and(|given| given.starts_with("rwu_")) {
            return Err(Error::new(Code::TOKEN_KIND, "this token is for users, and nodes join with another").hint(hint));
        }
        Err(Error::new(Code::TOKEN_REFUSED, "the node's token was not accepted").hint(hint))
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
        let Joining { node, incarnation, name, capacity, labels, data_address, gateway_address, offer, foreign, peer, local } = joining;
        offer.check()?;
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
            clock_ahead_ms: 0,
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
            offer: offer.clone(),
            stream,
            leaving: false,
        };
        // Under the lock, so that no change comes before or is missed.
        node.tell(msg::head_message::Message::Directory(self.access.whole(node.has_gateway())?));
        state.learn_addresses(&node, peer);
        state.nodes.insert(id, node);
        state.tell_members(id);
        state.step(Event::NodeHolds { node: id, foreign });
        state.name_relay(id);
        state.step(Event::NodeJoined { node: id, capacity, labels, offer });
        state.settle_drain(id);
        Ok((id, stream))
    }

    /// Lets changes of the directory take effect here, and tells the nodes.
    pub(crate) fn publish(&self, edits: Vec<Edit>) -> Result<()> {
        let mut state = self.state.lock();
        state.weigh(&edits);
        let (gateways, others) = (Access::news(&edits, true)?, Access::news(&edits, false)?);
        self.access.apply(edits);
        for node in state.nodes.values() {
            if let Some(news) = if node.has_gateway() { &gateways } else { &others } {
                node.tell(msg::head_message::Message::Directory(news.clone()));
            }
        }
        Ok(())
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
        node.set_clock(report.clock_ms, now_ms());
        if std::mem::replace(&mut node.leaving, report.leaving) != report.leaving {
            state.settle_drain(id);
        }
        let mut foreign = report.used.clone();
        // Both are of one moment, so what is its own is part of all.
        if foreign.take(&report.local) {
            state.step(Event::NodeHolds { node: id, foreign });
        }
        state.step(Event::NodeReported { node: id, local: report.local.clone(), leases: report.leases.clone() });
        Ok(())
    }

    /// When this life of the head began.
    pub(crate) fn started_ms(&self) -> UnixMs {
        self.started_ms
    }

    /// Nodes that are alive.
    pub(crate) fn nodes_live(&self) -> HashSet<NodeId> {
        self.state.lock().nodes.iter().filter(|(_, node)| node.record.alive).map(|(id, _)| *id).collect()
    }

    /// Since when a node is lost, if it is; nothing of a node that did not join in this life of the head, or was lost long ago.
    pub(crate) fn lost_ms(&self, id: NodeId) -> Option<Option<UnixMs>> {
        self.state.lock().nodes.get(&id).map(|node| node.record.lost_ms)
    }

    /// Counts nodes that were not heard from as lost; gives them.
    pub(crate) fn lose_silent_nodes(&self) -> Vec<NodeId> {
        let mut state = self.state.lock();
        let silent = |node: &Node| node.record.alive && node.heard.elapsed() > LOST_AFTER;
        let lost: Vec<NodeId> = state.nodes.iter().filter(|(_, node)| silent(node)).map(|(id, _)| *id).collect();
        for id in lost.iter().copied() {
            if let Some(node) = state.nodes.get_mut(&id) {
                tracing::warn!(node = %id, name = %node.record.name, "a node was lost");
                node.record.alive = false;
                node.record.lost_ms = Some(now_ms());
                node.sender = None;
                node.waiting.clear();
            }
            state.counts.nodes_lost += 1;
            state.step(Event::NodeLost { node: id });
        }
        if !lost.is_empty() {
            let told = msg::Members { lost: lost.iter().map(|id| id.get()).collect(), ..msg::Members::default() };
            state.nodes.values().for_each(|node| node.tell(msg::head_message::Message::Members(told.clone())));
        }
        let forget = now_ms().saturating_sub(SHOW_LOST_MS);
        state.nodes.retain(|_, node| node.record.lost_ms.is_none_or(|lost| lost > forget));
        lost
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

    /// Whether a node that is alive offers all of what a guest needs.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_OFFERED`], naming what is not to be had.
    pub(crate) fn offered(&self, needs: &Needs) -> Result<()> {
        let state = self.state.lock();
        let mut lacking = state.nodes.values().filter(|node| node.record.alive).map(|node| node.offer.lacks(needs));
        let (mut all_lack, mut some) = (None, false);
        for lacks in &mut lacking {
            let Some(lacks) = lacks else { return Ok(()) };
            some |= all_lack.as_ref().is_some_and(|known| *known != lacks);
            all_lack = Some(lacks);
        }
        let message = match all_lack {
            Some(lacks) if !some => format!("no node offers {lacks}"),
            _ => "no node offers all that is asked for together".to_owned(),
        };
        let hint = match (needs.volumes.is_empty(), needs.destinations.is_empty()) {
            (false, true) => "start one that does, with --volume NAME=DIR",
            (true, false) => "start one that does, with --allow-net HOST:PORT",
            _ => "start one that does, with --volume NAME=DIR and --allow-net HOST:PORT",
        };
        Err(Error::new(Code::NOT_OFFERED, message).hint(hint).with("refused_by", "node"))
    }

    /// What the head counts and measures.
    pub(crate) fn families(&self) -> Vec<Family> {
        let state = self.state.lock();
        let alive = state.nodes.values().filter(|node| node.record.alive).count() as f64;
        let waiting: u64 = state.nodes.values().flat_map(|node| &node.waiting).map(|waiting| waiting.tasks).sum();
        let Counts { nodes_lost, granted, refused, revoked, questions } = state.counts;
        let nodes = [("alive", alive), ("lost", state.nodes.len() as f64 - alive)];
        let leases = [("granted", granted as f64), ("refused", refused as f64), ("revoked", revoked as f64)];
        vec![
            Family::labelled(Kind::Gauge, "rwasm_cluster_nodes", "Nodes of the cluster; lost ones for an hour.", "state", nodes),
            Family::counter("rwasm_cluster_nodes_lost_total", "Nodes that were lost.", nodes_lost as f64),
            Family::gauge("rwasm_cluster_tasks_waiting", "Tasks that wait anywhere for a slot, as nodes last said.", waiting as f64),
            Family::labelled(Kind::Counter, "rwasm_leases_total", "Requests of owners for slots elsewhere, by answer.", "answer", leases),
            Family::counter("rwasm_head_questions_total", "Questions that the head passed on to nodes.", questions as f64),
        ]
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
        state.counts.questions += 1;
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
    /// The node's clock; 0 if it does not say.
    pub(crate) clock_ms: UnixMs,
}

impl State {
    fn new(scheduler: Scheduler, drains: BTreeMap<NodeId, Drain>) -> Self {
        let (nodes, questions, addresses) = (BTreeMap::new(), HashMap::new(), BTreeSet::new());
        Self { scheduler, nodes, questions, last_question: 0, drains, addresses, groups: Groups::default(), counts: Counts::default() }
    }

    /// Tells a node that joins which addresses are the cluster's own, and the others which are new.
    fn learn_addresses(&mut self, joined: &Node, peer: Option<IpAddr>) {
        let told = [&joined.record.data_address, &joined.record.gateway_address];
        let told = told.into_iter().flatten().filter_map(|address| address.parse::<SocketAddr>().ok()).map(|address| address.ip());
        let new: Vec<IpAddr> =
            told.chain(peer).map(|address| address.to_canonical()).filter(|address| !self.addresses.contains(address)).collect();
        let addresses = |added: &mut dyn Iterator<Item = &IpAddr>| {
            msg::head_message::Message::Addresses(msg::Addresses { added: added.map(ToString::to_string).collect() })
        };
        if !new.is_empty() {
            self.nodes.values().for_each(|node| node.tell(addresses(&mut new.iter())));
            self.addresses.extend(&new);
        }
        joined.tell(addresses(&mut self.addresses.iter()));
    }

    /// Tells a node that joined who is there and who was lost, and the others that it has come.
    fn tell_members(&self, joined: NodeId) {
        let member = |(id, node): (&NodeId, &Node)| msg::Member {
            node: id.get(),
            incarnation: node.incarnation.0,
            data_address: node.data_address.clone(),
        };
        let there: Vec<msg::Member> = self.nodes.iter().filter(|(_, node)| node.record.alive).map(member).collect();
        let came = msg::Members { there: there.iter().filter(|known| known.node == joined.get()).cloned().collect(), ..Default::default() };
        let lost = self.nodes.iter().filter(|(_, node)| !node.record.alive).map(|(id, _)| id.get()).collect();
        let whole = msg::Members { whole: true, there, lost };
        for (id, node) in &self.nodes {
            node.tell(msg::head_message::Message::Members(if *id == joined { whole.clone() } else { came.clone() }));
        }
    }

    /// Tells a node that joined who passes connections on, and all others if that is the node itself.
    fn name_relay(&self, joined: NodeId) {
        let gateway = |node: &Node| node.record.gateway_address.clone().filter(|_| node.record.alive);
        let Some((relay, address)) = self.nodes.iter().find_map(|(id, node)| Some((*id, gateway(node)?))) else { return };
        let told = msg::head_message::Message::Relay(msg::RelayAddress { node: relay.get(), address });
        let to = self.nodes.iter().filter(|(id, _)| **id == joined || relay == joined);
        to.for_each(|(_, node)| node.tell(told.clone()));
    }
}
