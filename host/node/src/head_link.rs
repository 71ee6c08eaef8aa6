//! The node's stream to the head: joins, reports, asks, and comes back after the head was away.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_runtime::{OnEnd, now_ms};
use rwasm_types::{
    Code, Error, Incarnation, LeaseId, Name, NodeId, Offer, ResourceSet, Result, Tenant, TokenId,
    api::{Ask, Query},
};
use rwasm_wire::{Connector, HeadClient, Inbound, Outbound, Sender, convert, hello, msg, read_welcome, same_cluster};
use tokio::sync::{mpsc, oneshot};

use crate::{
    credential::{Issued, Proof},
    members::News,
    node::Shared,
    reach::RelayAddress,
};

/// The first and the longest pause between attempts to reach the head.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);
/// How long a node waits for the head's part of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a node waits for a certificate before it asks again.
const RENEW_AGAIN: Duration = Duration::from_secs(5);
/// Messages that may wait for the network.
const QUEUE: usize = 1024;

/// What a node is to the head.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) name: Name,
    pub(crate) capacity: ResourceSet,
    pub(crate) labels: BTreeMap<Name, String>,
    pub(crate) data_address: String,
    pub(crate) gateway_address: String,
    pub(crate) offer: Offer,
}

/// The node's side of the stream, for everyone in the node. While the head is away, what is sent is lost, and made up for when it is back.
pub(crate) struct HeadHandle {
    sender: Mutex<Option<mpsc::UnboundedSender<msg::NodeMessage>>>,
    proof: Proof,
    registration: Registration,
    questions: Mutex<HashMap<u64, oneshot::Sender<Result<bytes::Bytes>>>>,
    last_question: AtomicU64,
}

impl HeadHandle {
    pub(crate) fn new(proof: Proof, registration: Registration) -> Self {
        Self { sender: Mutex::default(), proof, registration, questions: Mutex::default(), last_question: AtomicU64::new(0) }
    }

    /// What this node proves with that it is itself.
    pub(crate) fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The node's labels.
    pub(crate) fn labels(&self) -> &BTreeMap<Name, String> {
        &self.registration.labels
    }

    pub(crate) fn data_address(&self) -> &str {
        &self.registration.data_address
    }

    /// Whether the head is there.
    pub(crate) fn is_there(&self) -> bool {
        self.sender.lock().is_some()
    }

    /// Sends a message, if the head is there.
    pub(crate) fn send(&self, message: msg::node_message::Message) {
        if let Some(sender) = &*self.sender.lock() {
            // A stream that just ended is about to be replaced.
            let _ = sender.send(msg::NodeMessage { message: Some(message) });
        }
    }

    /// Sends a heartbeat out of turn.
    pub(crate) fn report_now(&self, shared: &Shared) {
        self.send(msg::node_message::Message::Report(report(shared)));
    }

    /// Asks the head something for a tenant, on behalf of whoever was admitted by a token; without one, on the node's own. An order comes
    /// with the key that its driver drew.
    ///
    /// # Errors
    ///
    /// What the head says, or [`Code::DEADLINE`] if it says nothing.
    pub(crate) async fn ask(&self, tenant: &Tenant, token: Option<TokenId>, ask: &Ask, key: bytes::Bytes) -> Result<bytes::Bytes> {
        let number = self.last_question.fetch_add(1, Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        self.questions.lock().insert(number, answer);
        let json = serde_json::to_vec(ask).map_err(|error| Error::internal(format!("a question has no JSON: {error}")))?;
        let token = token.map(|token| token.to_string()).unwrap_or_default();
        let question = msg::Question { number, tenant: tenant.to_string(), ask: json.into(), key, token };
        self.send(msg::node_message::Message::Question(question));
        let outcome = tokio::time::timeout(ANSWER_WITHIN, answered).await;
        self.questions.lock().remove(&number);
        match outcome {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::new(Code::DEADLINE, "the head did not answer in time").hint("check that it runs")),
        }
    }

    fn answered(&self, answer: msg::Answer) {
        if let Some(waiting) = self.questions.lock().remove(&answer.number) {
            let result = match answer.result {
                Some(msg::answer::Result::Answer(bytes)) => Ok(bytes),
                Some(msg::answer::Result::Error(error)) => Err(convert::any_error(error)),
                None => Err(convert::malformed("an answer without an answer")),
            };
            let _ = waiting.send(result);
        }
    }
}

/// An open stream: what the head said of this node.
pub(crate) struct Joined {
    pub(crate) node: NodeId,
    pub(crate) cluster: String,
    /// Which life of the head it is.
    pub(crate) head: Incarnation,
    pub(crate) heartbeat: Duration,
    sender: Sender<msg::NodeMessage>,
    inbound: Inbound<msg::HeadMessage>,
}

/// Joins once. A node whose certificate has expired first has another issued, by its join token.
///
/// # Errors
///
/// [`Code::UNREACHABLE`] if nobody answers, or why the head does not take the node.
pub(crate) async fn join(
    connector: &Connector,
    proof: &Proof,
    cluster: &str,
    incarnation: Incarnation,
    node: Option<NodeId>,
    registration: &Registration,
    foreign: &ResourceSet,
) -> Result<Joined> {
    if proof.former().is_some() {
        let certified = register(connector, proof, cluster, incarnation, node, registration, foreign).await?;
        tracing::info!(node = %certified.node, "the certificate had expired; the join token got another for the same number");
    }
    register(connector, proof, cluster, incarnation, node, registration, foreign).await
}

async fn register(
    connector: &Connector,
    proof: &Proof,
    cluster: &str,
    incarnation: Incarnation,
    node: Option<NodeId>,
    registration: &Registration,
    foreign: &ResourceSet,
) -> Result<Joined> {
    let mut client = HeadClient::connect(&proof.to_head(connector)?, proof.token()).await?;
    let (sender, outbound) = Outbound::channel(QUEUE);
    let closed = |_| Error::new(Code::CONNECTION_LOST, "the head closed the connection");
    let message = |message| msg::NodeMessage { message: Some(message) };
    sender.send(message(msg::node_message::Message::Hello(hello(cluster, incarnation)))).await.map_err(closed)?;
    let register = msg::Register {
        node: node.map_or(0, NodeId::get),
        name: registration.name.to_string(),
        capacity: Some((&registration.capacity).into()),
        labels: registration.labels.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        data_address: registration.data_address.clone(),
        gateway_address: registration.gateway_address.clone(),
        offer: serde_json::to_vec(&registration.offer).map_err(|error| Error::internal(format!("an offer has no JSON: {error}")))?.into(),
        public_key: proof.public_key()?.into(),
        foreign: Some(foreign.into()),
        former_certificate: proof.former().map(|former| former.to_vec().into()).unwrap_or_default(),
    };
    sender.send(message(msg::node_message::Message::Register(register))).await.map_err(closed)?;
    let mut inbound = client.join(outbound).await?;
    let msg::head_message::Message::Welcome(welcome) = next(&mut inbound).await? else {
        return Err(convert::malformed("a head does not begin with a welcome"));
    };
    read_welcome(&welcome)?;
    same_cluster(cluster, &welcome.cluster)?;
    let msg::head_message::Message::Registered(registered) = next(&mut inbound).await? else {
        return Err(convert::malformed("a head does not answer a registration"));
    };
    let node = match convert::required(registered.result, "a registration's result")? {
        msg::registered::Result::Node(node) => convert::node(node)?,
        msg::registered::Result::Error(error) => return Err(convert::any_error(error)),
    };
    if let Some(certificate) = registered.certificate {
        proof.received(issued(certificate))?;
    }
    let head = Incarnation(welcome.incarnation);
    Ok(Joined { node, cluster: welcome.cluster, head, heartbeat: Duration::from_nanos(registered.heartbeat_ns), sender, inbound })
}

fn issued(certificate: msg::Certificate) -> Issued {
    Issued {
        chain: certificate.chain.iter().map(|der| der.to_vec()).collect(),
        authority: certificate.authority,
        life: Duration::from_nanos(certificate.life_ns),
    }
}

async fn next(inbound: &mut Inbound<msg::HeadMessage>) -> Result<msg::head_message::Message> {
    let message = inbound.next().await?.ok_or_else(|| Error::new(Code::CONNECTION_LOST, "the head closed the connection"))?;
    convert::required(message.message, "a head's message")
}

/// Keeps the stream open for as long as the node runs. Returns if another process has this node's number by now.
pub(crate) async fn stay(shared: Weak<Shared>, connector: Connector, first: Joined) {
    let mut head = first.head;
    let mut joined = Some(first);
    let mut pause = RETRY_FIRST;
    let mut refused = None;
    loop {
        if let Some(joined) = joined.take() {
            pause = RETRY_FIRST;
            let outcome = converse(&shared, joined).await;
            let Some(shared) = shared.upgrade() else { return };
            *shared.head.sender.lock() = None;
            let cause = outcome.err().map_or_else(|| "it closed the connection".to_owned(), |error| error.message().to_owned());
            tracing::warn!(%cause, "the head is away");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LONGEST);
        let Some(shared) = shared.upgrade() else { return };
        let (foreign, proof, registration) = (shared.foreign(), shared.head.proof(), &shared.head.registration);
        match join(&connector, proof, &shared.cluster, shared.incarnation, Some(shared.id), registration, &foreign).await {
            Ok(again) if again.head < head => {
                tracing::error!(life = %again.head, last = %head, "an earlier life of the head answered, from a copy; it is left alone");
            }
            Ok(again) if again.node == shared.id => {
                tracing::info!(life = %again.head, "the head is back");
                head = again.head;
                refused = None;
                joined = Some(again);
            }
            Ok(again) => tracing::error!(node = %again.node, "the head answered with another node's number"),
            Err(error) if error.code() == Code::STALE_INCARNATION => {
                tracing::error!(%error, "this node ends");
                return;
            }
            Err(error) => {
                // Said once for each cause, not at every attempt.
                if refused != Some(error.code()) {
                    tracing::warn!(%error, "the head does not take this node back yet");
                    refused = Some(error.code());
                }
            }
        }
    }
}

async fn converse(shared: &Weak<Shared>, joined: Joined) -> Result<()> {
    let Joined { heartbeat, sender, mut inbound, .. } = joined;
    // Bounded by what is under way: a request of each class, a return of each lease, a question of each caller, an answer to each question and
    // a batch for each demand of the head's. Heartbeats come from below, when nothing is held up; where the past is written is said at
    // intervals. And a head that takes nothing does not answer the transport's probes either, so the stream ends.
    let (queue, mut waiting) = mpsc::unbounded_channel();
    {
        let Some(shared) = shared.upgrade() else { return Ok(()) };
        *shared.head.sender.lock() = Some(queue);
        shared.spread.forget_requests();
        shared.tell_leases();
        shared.surplus.notify_one();
        shared.head.report_now(&shared);
        shared.say_written();
    }
    let mut ticks = tokio::time::interval(heartbeat.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked_to_renew = None;
    loop {
        tokio::select! {
            message = waiting.recv() => {
                let Some(message) = message else { return Ok(()) };
                if sender.send(message).await.is_err() {
                    return Ok(());
                }
            }
            message = next(&mut inbound) => {
                let Some(shared) = shared.upgrade() else { return Ok(()) };
                heard(&shared, message?)?;
            }
            _ = ticks.tick() => {
                let Some(shared) = shared.upgrade() else { return Ok(()) };
                shared.head.report_now(&shared);
                let due = shared.head.proof().renew_in().is_some_and(|renew_in| renew_in.is_zero());
                if due && asked_to_renew.is_none_or(|asked: Instant| asked.elapsed() > RENEW_AGAIN) {
                    asked_to_renew = Some(Instant::now());
                    let public_key = shared.head.proof().public_key()?.into();
                    shared.head.send(msg::node_message::Message::Renew(msg::Renew { public_key }));
                }
            }
        }
    }
}

fn heard(shared: &Arc<Shared>, message: msg::head_message::Message) -> Result<()> {
    match message {
        msg::head_message::Message::LeaseGrant(grant) => shared.granted(&grant)?,
        msg::head_message::Message::LeaseRefusal(refusal) => {
            let error = convert::any_error(convert::required(refusal.error, "a refusal's error")?);
            shared.refused(refusal.request, &error);
        }
        msg::head_message::Message::LeaseRevoke(revoke) => {
            let error = convert::any_error(convert::required(revoke.reason, "a reason")?);
            if revoke.let_finish {
                tracing::info!(lease = revoke.lease, %error, "a lease is retired");
                shared.retired(LeaseId(revoke.lease));
            } else {
                shared.revoked(LeaseId(revoke.lease), &error, true);
                // The head may have been told meanwhile that it is held.
                shared.give_back(LeaseId(revoke.lease), false);
            }
        }
        msg::head_message::Message::Question(question) => answer(shared, question)?,
        msg::head_message::Message::HistoryWanted(wanted) => shared.history_wanted(&wanted)?,
        msg::head_message::Message::Answer(answer) => shared.head.answered(answer),
        msg::head_message::Message::Addresses(told) => {
            // What is no address is a name, and what that leads to is the name server's word.
            shared.engine.reserved().add(told.added.iter().filter_map(|address| address.parse().ok()));
        }
        msg::head_message::Message::Directory(word) => shared.purge(&shared.access.hear(&word)?),
        msg::head_message::Message::Members(told) => {
            let News { there, lost } = shared.members.hear(&told, Instant::now())?;
            there.into_iter().for_each(|(node, life)| shared.objects.node_lives(node, life));
            shared.members_lost(&lost);
        }
        msg::head_message::Message::Relay(relay) => {
            shared.reach.heard_of(RelayAddress { node: convert::node(relay.node)?, address: relay.address });
        }
        msg::head_message::Message::Certificate(certificate) => {
            // What cannot be kept on disk is asked for again.
            match shared.head.proof().received(issued(certificate)) {
                Ok(()) => tracing::info!("this node's certificate was renewed"),
                Err(error) => tracing::error!(%error, "this node's new certificate cannot be used"),
            }
        }
        msg::head_message::Message::Welcome(_) | msg::head_message::Message::Registered(_) => {
            return Err(convert::malformed("a second welcome"));
        }
    }
    Ok(())
}

/// Answers what the head asks of this node alone.
fn answer(shared: &Arc<Shared>, question: msg::Question) -> Result<()> {
    let tenant = Tenant::new(&question.tenant).map_err(convert::malformed)?;
    match serde_json::from_slice(&question.ask) {
        // The answer is partly the head's own, which comes on this same stream.
        Ok(Ask::Query(Query::Why { task })) => {
            let answering = Arc::clone(shared);
            shared.scope.spawn("why", OnEnd::Continue, async move {
                let result = answering.answer_why(&tenant, task).await;
                send_answer(&answering, question.number, result);
            });
        }
        // What takes longer than a node may be silent does not hold up what comes behind it: not on this stream, nor in this thread.
        Ok(ask @ Ask::Query(_)) => {
            let answering = Arc::clone(shared);
            shared.scope.spawn("answer", OnEnd::Continue, async move {
                let result = answering.answer_aside(&tenant, &ask).await;
                send_answer(&answering, question.number, result);
            });
        }
        Ok(ask) => send_answer(shared, question.number, shared.answer_here(&tenant, &ask)),
        Err(error) => {
            let error = convert::malformed(format_args!("a question is not understood: {error}"));
            send_answer(shared, question.number, Err(error));
        }
    }
    Ok(())
}

fn send_answer(shared: &Shared, number: u64, result: Result<Vec<u8>>) {
    let result = match result {
        Ok(answer) => msg::answer::Result::Answer(answer.into()),
        Err(error) => msg::answer::Result::Error((&error).into()),
    };
    shared.head.send(msg::node_message::Message::Answer(msg::Answer { number, result: Some(result) }));
}

impl Shared {
    /// What tasks of other owners hold here.
    fn foreign(&self) -> ResourceSet {
        let dispatcher = self.dispatcher.lock();
        let mut foreign = dispatcher.used();
        // What is this node's own is part of all.
        let _ = foreign.take(&dispatcher.used_locally());
        foreign
    }
}

/// What changes all the time.
fn report(shared: &Shared) -> msg::Report {
    let leases = shared.spread.leases();
    let dispatcher = shared.dispatcher.lock();
    let (used, local) = (dispatcher.used(), dispatcher.used_locally());
    let waiting = dispatcher.waiting().map(|(shape, tasks)| msg::Waiting { shape: Some(shape.into()), tasks: tasks as u64 }).collect();
    msg::Report {
        local: Some((&local).into()),
        tasks_queued: dispatcher.queued() as u64,
        tasks_running: dispatcher.running() as u64,
        leases,
        memory_bytes: resident_bytes(),
        waiting,
        used: Some((&used).into()),
        leaving: shared.draining.is_leaving(),
        clock_ms: now_ms(),
    }
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
