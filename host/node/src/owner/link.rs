//! A stream to another node that runs tasks for this owner.
//!
//! ```text
//! opening ─▶ up ◀─▶ broken ─▶ ended
//!    └──────────────────────────▲
//! ```
//!
//! Where a stream breaks that was up, it is dialled again for as long as attempts may be under way there: the other node keeps them. What was
//! not sent by then is this owner's again at once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_runtime::OnEnd;
use rwasm_types::{Attempt, Code, Error, JobId, NodeId, ObjectId, Result, Tenant};
use rwasm_wire::{Inbound, Outbound, PeerClient, Sender, convert, hello, msg, read_welcome};
use tokio::{sync::Notify, time::Instant};

use super::job::{Job, JobCall};
use crate::{
    logs::JobLog,
    node::Shared,
    objects::{named, names_objects},
};

/// How long attempts on a node that cannot be reached are waited for, before they count as lost. Longer than a node may pause between two
/// attempts to join a head that was away; where the head says earlier that the node is lost, that counts.
pub(crate) const RUNNER_GRACE: Duration = Duration::from_secs(15);
/// The first and the longest pause between attempts to reach a node again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// A stream, across the connections that it takes. Messages are queued without limit of their own: an owner never has more on the way than
/// its leases allow.
pub(crate) struct Link {
    node: NodeId,
    /// Where the node is; another place after it started anew.
    address: Mutex<String>,
    /// Told when that changed.
    moved: Notify,
    state: Mutex<State>,
    /// Told when there is something to send.
    waiting: Notify,
    /// Told when something arrived.
    arrived: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The other node has not answered yet.
    Opening,
    Up,
    /// It was up, and is dialled again.
    Broken,
    Ended,
}

struct State {
    phase: Phase,
    queue: VecDeque<msg::owner_message::Message>,
    /// Calls that the other node was told of on this connection.
    defined: HashSet<(u32, u16)>,
    /// Jobs that it may have something of from connections before.
    known: HashSet<u32>,
    heard: Heard,
    /// Logs that got output which is not acknowledged.
    written: HashMap<JobId, Arc<JobLog>>,
    /// Objects that results name which are not acknowledged: the other node holds them until they are, and from then on this one does.
    named: Vec<(Tenant, ObjectId)>,
}

/// What this life of the owner heard on the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    /// What the other node calls that which it keeps; none before it answered.
    keeping: Option<u64>,
    outputs: u64,
    outcomes: u64,
}

/// What is done with a link that broke.
enum Broke {
    /// It was up: attempts may be under way. With the tasks that were not sent, by session.
    Up(Vec<msg::Assign>),
    /// It was broken before.
    Again,
    /// Nobody ever answered.
    Never,
}

impl Link {
    /// Begins to open a stream; what is sent before it is open waits. If it cannot be opened, the node's leases are over.
    pub(crate) fn open(shared: &Arc<Shared>, node: NodeId, address: &str) -> Arc<Self> {
        let state = State {
            phase: Phase::Opening,
            queue: VecDeque::new(),
            defined: HashSet::new(),
            known: HashSet::new(),
            heard: Heard::default(),
            written: HashMap::new(),
            named: Vec::new(),
        };
        let link = Arc::new(Self {
            node,
            address: Mutex::new(address.to_owned()),
            moved: Notify::new(),
            state: Mutex::new(state),
            waiting: Notify::new(),
            arrived: Notify::new(),
        });
        shared.scope.spawn("peer-link", OnEnd::Continue, run(Arc::downgrade(shared), Arc::clone(&link)));
        link
    }

    /// Where it goes.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The node is known to be there: where it is dialled next, and at once if it is dialled elsewhere.
    pub(super) fn move_to(&self, address: &str) {
        let mut known = self.address.lock();
        if *known != address {
            address.clone_into(&mut known);
            self.moved.notify_one();
        }
    }

    /// Whether tasks can be sent.
    pub(crate) fn takes_tasks(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Opening | Phase::Up)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().phase == Phase::Ended
    }

    /// Sends what is of use whether or not the stream breaks before.
    pub(crate) fn send(&self, message: msg::owner_message::Message) {
        {
            let mut state = self.state.lock();
            if state.phase == Phase::Ended {
                // Its leases are revoked; nothing waits for what was not sent.
                return;
            }
            state.queue.push_back(message);
        }
        self.waiting.notify_one();
    }

    /// Sends tasks of a call, after the call itself where the other node does not know it. Says whether they are on their way.
    pub(crate) fn assign(&self, job: &Job, call: &JobCall, tasks: Vec<msg::Assign>) -> bool {
        {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Opening | Phase::Up) {
                return false;
            }
            if state.defined.insert((job.id.session, call.number)) {
                state.queue.push_back(msg::owner_message::Message::Define(define(job, call)));
            }
            state.queue.extend(tasks.into_iter().map(msg::owner_message::Message::Assign));
        }
        self.waiting.notify_one();
        true
    }

    /// Has the other node forget the calls of a job that has ended.
    pub(crate) fn forget(&self, session: u32) {
        let known = {
            let mut state = self.state.lock();
            let before = state.defined.len();
            state.defined.retain(|(of, _)| *of != session);
            state.known.remove(&session) || state.defined.len() < before
        };
        if known {
            self.send(msg::owner_message::Message::Forget(msg::ForgetSession { session }));
        }
    }

    /// The other node has something of a job, from a link before.
    pub(super) fn knows(&self, session: u32) {
        self.state.lock().known.insert(session);
    }

    /// The connection is gone, or could not be made.
    fn broke(&self) -> Broke {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Up => state.phase = Phase::Broken,
            Phase::Broken | Phase::Ended => return Broke::Again,
            Phase::Opening => {
                state.phase = Phase::Ended;
                return Broke::Never;
            }
        }
        let defined: Vec<u32> = state.defined.drain().map(|(session, _)| session).collect();
        state.known.extend(defined);
        let mut unsent = Vec::new();
        for message in std::mem::take(&mut state.queue) {
            match message {
                msg::owner_message::Message::Assign(assign) => unsent.push(assign),
                msg::owner_message::Message::Define(_) => {}
                other => state.queue.push_back(other),
            }
        }
        Broke::Up(unsent)
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        state.queue.clear();
    }
}

fn define(job: &Job, call: &JobCall) -> msg::DefineRemote {
    msg::DefineRemote {
        session: job.id.session,
        number: call.number.into(),
        tenant: job.tenant.to_string(),
        shape: Some((&call.shape).into()),
        root: (job.root() != job.id).then(|| job.root().into()),
        call: Some(msg::Call {
            artifact: Bytes::copy_from_slice(&call.artifact.0),
            export: if call.export.role == rwasm_values::Role::Command { String::new() } else { call.export.name.to_string() },
            options: Some((&call.options).into()),
            grants: Some((&call.grants).into()),
            actor: call.actor.map(Into::into),
        }),
    }
}

/// Keeps the stream up for as long as there is reason to.
async fn run(shared: Weak<Shared>, link: Arc<Link>) {
    let mut pause = RETRY_FIRST;
    let mut over = None;
    loop {
        let outcome = converse(&shared, &link).await;
        let Some(shared) = shared.upgrade() else { return };
        let error = match outcome {
            Ok(()) => Error::new(Code::CONNECTION_LOST, "it closed the connection"),
            Err(error) => error,
        };
        if error.code() == Code::STALE_INCARNATION {
            tracing::error!(%error, "this node ends");
            shared.scope.spawn("superseded", OnEnd::ShutDown, async {});
            return;
        }
        let lost = || {
            let message = format!("node {} was lost: {}", link.node, error.message());
            Error::new(Code::NODE_LOST, message).with("node", link.node)
        };
        match link.broke() {
            Broke::Never => {
                tracing::warn!(node = %link.node, %error, "a node cannot be reached");
                shared.link_lost(&link, &lost(), false);
                return;
            }
            Broke::Up(unsent) => {
                tracing::warn!(node = %link.node, %error, "the link to a node broke; it is dialled again");
                (pause, over) = (RETRY_FIRST, Some(Instant::now() + RUNNER_GRACE));
                shared.link_broke(&link, unsent);
            }
            Broke::Again => {}
        }
        if over.is_none_or(|over| Instant::now() >= over) || !shared.has_work_on(link.node) {
            link.end();
            shared.link_lost(&link, &lost(), true);
            return;
        }
        drop(shared);
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_LONGEST),
            () = link.moved.notified() => pause = RETRY_FIRST,
        }
    }
}

async fn converse(shared: &Weak<Shared>, link: &Arc<Link>) -> Result<()> {
    let gone = || Error::new(Code::CONNECTION_LOST, "this node is shutting down");
    let before = settle(shared, link).await.ok_or_else(gone)?;
    let (mut client, first) = {
        let shared = shared.upgrade().ok_or_else(gone)?;
        let hello = msg::LinkHello {
            hello: Some(hello(&shared.cluster, shared.incarnation)),
            node: shared.id.get(),
            data_address: shared.head.data_address().to_owned(),
            resume: before.keeping.map(|keeping| msg::LinkResume { keeping, outputs: before.outputs, outcomes: before.outcomes }),
        };
        (dial(&shared, link).await?, hello)
    };
    let (sender, outbound) = Outbound::channel(16);
    let first = msg::OwnerMessage { message: Some(msg::owner_message::Message::Hello(first)) };
    sender.send(first).await.map_err(|_closed| gone())?;
    let mut inbound = client.link(outbound).await?;
    let msg::runner_message::Message::Welcome(welcome) = next(&mut inbound).await? else {
        return Err(convert::malformed("a link does not begin with a welcome"));
    };
    read_welcome(&welcome)?;
    let msg::runner_message::Message::Held(held) = next(&mut inbound).await? else {
        return Err(convert::malformed("a node does not say what it has"));
    };
    let first = {
        let shared = shared.upgrade().ok_or_else(gone)?;
        let keeping = held.keeping;
        let first = shared.held(link, held, before.keeping)?;
        let mut state = link.state.lock();
        if before.keeping != Some(keeping) {
            state.heard = Heard { keeping: Some(keeping), ..Heard::default() };
        }
        state.phase = Phase::Up;
        first
    };
    // Before what was queued meanwhile, which may be later attempts of the same tasks.
    for message in first {
        sender.send(msg::OwnerMessage { message: Some(message) }).await.map_err(|_closed| gone())?;
    }
    tokio::select! {
        () = send(link, &sender) => Ok(()),
        () = acknowledge(shared, link, &sender) => Ok(()),
        outcome = receive(shared, link, &mut inbound) => outcome,
    }
}

/// Connects to the node where it is, also if it is elsewhere by the time somebody would have answered.
async fn dial(shared: &Arc<Shared>, link: &Link) -> Result<PeerClient> {
    loop {
        let address = link.address.lock().clone();
        tokio::select! {
            client = shared.peer(link.node, &address) => return client,
            () = link.moved.notified() => {}
        }
    }
}

async fn next(inbound: &mut Inbound<msg::RunnerMessage>) -> Result<msg::runner_message::Message> {
    let message = inbound.next().await?.ok_or_else(|| Error::new(Code::CONNECTION_LOST, "it closed the connection"))?;
    convert::required(message.message, "a link's message")
}

/// Sends what is queued, until the connection is gone.
async fn send(link: &Link, sender: &Sender<msg::OwnerMessage>) {
    loop {
        // Taken only when there is room for it: what is still queued when the connection breaks has not been sent.
        let Ok(room) = sender.reserve().await else { return };
        let message = link.state.lock().queue.pop_front();
        match message {
            Some(message) => room.send(msg::OwnerMessage { message: Some(message) }),
            None => {
                drop(room);
                link.waiting.notified().await;
            }
        }
    }
}

/// What was heard, once all of it has settled: output is in its file, and what results name is held here.
async fn settle(shared: &Weak<Shared>, link: &Link) -> Option<Heard> {
    let (heard, written, named) = {
        let mut state = link.state.lock();
        (state.heard, std::mem::take(&mut state.written), state.named.clone())
    };
    for log in written.into_values() {
        log.settled().await;
    }
    if !named.is_empty() {
        let objects = Arc::clone(&shared.upgrade()?.objects);
        objects.answered(&named).await;
        // Only now, for who stops waiting halfway begins again.
        link.state.lock().named.drain(..named.len());
    }
    Some(heard)
}

/// Tells the other node what it need not keep: ends of attempts, which are written down when they arrive, and output that is in its file.
async fn acknowledge(shared: &Weak<Shared>, link: &Link, sender: &Sender<msg::OwnerMessage>) {
    loop {
        link.arrived.notified().await;
        let Some(heard) = settle(shared, link).await else { return };
        let said = msg::AcknowledgeRemote { outputs: heard.outputs, outcomes: heard.outcomes };
        let message = Some(msg::owner_message::Message::Acknowledge(said));
        if sender.send(msg::OwnerMessage { message }).await.is_err() {
            return;
        }
    }
}

async fn receive(shared: &Weak<Shared>, link: &Link, inbound: &mut Inbound<msg::RunnerMessage>) -> Result<()> {
    loop {
        let message = next(inbound).await?;
        let Some(shared) = shared.upgrade() else { return Ok(()) };
        match message {
            msg::runner_message::Message::Outcomes(outcomes) => {
                let number = outcomes.number;
                let named = named_in(&shared, &outcomes);
                shared.outcomes(outcomes)?;
                let mut state = link.state.lock();
                state.heard.outcomes = number;
                state.named.extend(named);
            }
            msg::runner_message::Message::Outputs(outputs) => {
                let number = outputs.number;
                let log = write_outputs(&shared, outputs).await?;
                let mut state = link.state.lock();
                state.heard.outputs = number;
                state.written.extend(log);
            }
            msg::runner_message::Message::DefineFailed(failed) => {
                let error = convert::any_error(convert::required(failed.error, "an error")?);
                shared.define_failed(link.node, failed.session, failed.number, &error);
            }
            msg::runner_message::Message::Welcome(_) | msg::runner_message::Message::Held(_) => {
                return Err(convert::malformed("a second welcome"));
            }
        }
        link.arrived.notify_one();
    }
}

/// The objects that results name.
fn named_in(shared: &Shared, outcomes: &msg::RemoteOutcomes) -> Vec<(Tenant, ObjectId)> {
    let results = outcomes.outcomes.iter().filter_map(|outcome| match &outcome.result {
        Some(msg::outcome::Result::Value(value)) if names_objects(value) => Some(named(value).unwrap_or_default()),
        _ => None,
    });
    let named: Vec<ObjectId> = results.flatten().collect();
    let id = JobId { owner: shared.id, session: outcomes.session };
    let job = if named.is_empty() { None } else { shared.jobs.read().get(&id).map(Arc::clone) };
    job.into_iter().flat_map(|job| named.iter().map(move |id| (job.tenant.clone(), *id))).collect()
}

/// Writes what tasks wrote elsewhere to their job's log; a slow disk here slows the other node down through the stream. Gives the log.
async fn write_outputs(shared: &Shared, outputs: msg::RemoteOutputs) -> Result<Option<(JobId, Arc<JobLog>)>> {
    let id = JobId { owner: shared.id, session: outputs.session };
    let job = shared.jobs.read().get(&id).map(Arc::clone);
    let Some(job) = job else { return Ok(None) };
    for output in outputs.outputs {
        let (attempt, stream) = (Attempt(output.attempt), convert::stream(output.stream)?);
        let bytes = job.log.unwritten(output.sequence, attempt, stream, output.offset, &output.bytes);
        if !bytes.is_empty() {
            job.log.room().await;
            job.log.write(output.sequence, attempt, stream, bytes);
        }
    }
    Ok(Some((id, Arc::clone(&job.log))))
}
