//! The service that nodes join.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use rwasm_core::{Demand, DemandKey, Event, Held};
use rwasm_runtime::OnEnd;
use rwasm_tls::JoinToken;
use rwasm_types::{Code, Error, LeaseId, Name, NodeId, Priority, Result, Tenant, api::PendingDemand};
use rwasm_wire::{Caller, HeadService, Inbound, Outbound, accept_hello, convert, msg};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::{
    HEARTBEAT, ask, history,
    state::{self, Report, Shared},
};

/// Messages to a node that may wait for the network.
const QUEUE: usize = 256;

type ToStream = rwasm_wire::Sender<Result<msg::HeadMessage>>;

/// The service.
pub(crate) struct Joining(pub(crate) Arc<Shared>);

impl HeadService for Joining {
    async fn join(&self, caller: Caller, mut inbound: Inbound<msg::NodeMessage>) -> Result<Outbound<Result<msg::HeadMessage>>> {
        let shared = &self.0;
        let proof = prove(shared, &caller)?;
        let msg::node_message::Message::Hello(hello) = next(&mut inbound).await? else {
            return Err(convert::malformed("a node does not begin with a hello"));
        };
        let welcome = accept_hello(&hello, shared.numbers.cluster(), shared.numbers.incarnation(), None)?;
        let msg::node_message::Message::Register(register) = next(&mut inbound).await? else {
            return Err(convert::malformed("a node does not register"));
        };
        let public_key = register.public_key.clone();
        if let Proof::Invited(token) = &proof
            && !register.former_certificate.is_empty()
        {
            let (node, certificate) = shared.invitations.issue_again(token, &register.former_certificate, &public_key).await?;
            return Ok(begin(welcome, registered(Ok(node), certificate)).1);
        }
        // Bounded by what is under way: a word on each of the node's leases and requests, an answer to each of its questions, questions that
        // somebody here waits for, orders of admins, one at a time. And a node that takes nothing falls silent, so the stream ends.
        let (queue, waiting) = mpsc::unbounded_channel();
        let mut joining = joining(register, rwasm_types::Incarnation(hello.incarnation), caller.address)?;
        // A number is one of its cluster.
        joining.node = joining.node.filter(|_| !hello.cluster.is_empty());
        shared.believe(&mut joining, proof).await?;
        let again = joining.node.is_some();
        let shipping = shared.history.as_ref().filter(|_| !joining.local);
        if let Some(history) = shipping {
            history.greet(joining.node, &queue);
        }
        let joined = shared.join(joining, queue.clone()).await;
        let certificate = match &joined {
            Ok((node, _)) if !public_key.is_empty() => shared.invitations.issue(*node, &public_key)?,
            _ => None,
        };
        let node = joined.as_ref().map(|(node, _)| *node);
        let (sender, outbound) = begin(welcome, registered(node, certificate));
        if let Ok((node, stream)) = joined {
            tracing::info!(%node, "a node joined");
            shared.remind_of_drain(node, again).await?;
            if let Err(error) = shared.owner_is_back(node).await {
                tracing::error!(%node, %error, "it cannot be noted that a node is back");
            }
            let ships = shipping.is_some();
            let shared = Arc::clone(shared);
            self.0.scope.spawn("node-stream", OnEnd::Continue, async move {
                let (history, pull) = history::Stream::new(node);
                let pull = async { if ships { pull.run(&shared, &queue).await } else { std::future::pending().await } };
                let outcome = tokio::select! {
                    outcome = read(&shared, (node, stream), &mut inbound, &queue, &history) => outcome,
                    () = write(waiting, &sender) => Ok(()),
                    () = pull => Ok(()),
                };
                if let Err(error) = outcome {
                    tracing::info!(%node, %error, "a node's stream ended");
                    let _ = sender.send(Err(error)).await;
                }
                shared.stream_ended(node, stream);
            });
        }
        Ok(outbound)
    }
}

fn registered(node: Result<NodeId, &Error>, certificate: Option<msg::Certificate>) -> msg::Registered {
    let result = match node {
        Ok(node) => msg::registered::Result::Node(node.get()),
        Err(error) => msg::registered::Result::Error(error.into()),
    };
    msg::Registered { certificate, heartbeat_ns: convert::nanos(HEARTBEAT), result: Some(result) }
}

/// What a head says, from its first two messages on.
fn begin(welcome: msg::Welcome, registered: msg::Registered) -> (ToStream, Outbound<Result<msg::HeadMessage>>) {
    let (sender, outbound) = Outbound::channel(QUEUE);
    for first in [msg::head_message::Message::Welcome(welcome), msg::head_message::Message::Registered(registered)] {
        // The channel was made with room.
        let _ = sender.try_send(Ok(msg::HeadMessage { message: Some(first) }));
    }
    (sender, outbound)
}

async fn next(inbound: &mut Inbound<msg::NodeMessage>) -> Result<msg::node_message::Message> {
    let message = inbound.next().await?.ok_or_else(|| Error::new(Code::CONNECTION_LOST, "the node closed the connection"))?;
    convert::required(message.message, "a node's message")
}

fn joining(register: msg::Register, incarnation: rwasm_types::Incarnation, peer: Option<SocketAddr>) -> Result<state::Joining> {
    let mut labels = BTreeMap::new();
    for (key, value) in register.labels {
        labels.insert(Name::new(&key).map_err(convert::malformed)?, value);
    }
    Ok(state::Joining {
        node: NodeId::new(register.node),
        incarnation,
        name: Name::new(&register.name).map_err(convert::malformed)?,
        capacity: convert::resources(&convert::required(register.capacity, "a capacity")?)?,
        labels,
        data_address: register.data_address,
        gateway_address: register.gateway_address,
        offer: read_json(&register.offer, "an offer")?,
        foreign: register.foreign.as_ref().map(convert::resources).transpose()?.unwrap_or_default(),
        peer: peer.map(|peer| peer.ip()),
        local: peer.is_none(),
    })
}

/// With what a caller may join.
enum Proof {
    /// The token of a cluster without TLS, or of the head's own process.
    Shared,
    /// A certificate for this number.
    Node(NodeId),
    /// A join token, which was not looked at yet.
    Invited(JoinToken),
}

fn prove(shared: &Shared, caller: &Caller) -> Result<Proof> {
    if !caller.encrypted {
        return shared.check_token(caller.token.as_deref()).map(|()| Proof::Shared);
    }
    match (caller.node, caller.token.as_deref()) {
        (Some(node), _) => Ok(Proof::Node(node)),
        (None, Some(token)) if JoinToken::is_meant_by(token) => token.parse().map(Proof::Invited),
        (None, _) => Err(Error::new(Code::NODE_CREDENTIAL, "the node showed neither a join token nor a certificate")
            .hint("make a token with `rwasm token join`")),
    }
}

impl Shared {
    /// Compares what a node says of its number with what it proved, and uses its join token up.
    ///
    /// # Errors
    ///
    /// [`Code::NODE_IDENTITY`] if it proved to be another, and why a join token is not taken.
    async fn believe(&self, joining: &mut state::Joining, proof: Proof) -> Result<()> {
        match proof {
            Proof::Shared => {}
            Proof::Node(proven) => {
                if let Some(says) = joining.node.filter(|says| *says != proven) {
                    let message = format!("a node says that it is {says}, and its certificate that it is {proven}");
                    return Err(Error::new(Code::NODE_IDENTITY, message).hint("start each node with a state directory of its own"));
                }
                joining.node = Some(proven);
            }
            Proof::Invited(token) => {
                // A number belongs to whoever has its certificate, and this node has none.
                joining.node = None;
                self.invitations.redeem(&token).await?;
            }
        }
        Ok(())
    }
}

async fn write(mut waiting: mpsc::UnboundedReceiver<msg::HeadMessage>, sender: &ToStream) {
    while let Some(message) = waiting.recv().await {
        if sender.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

async fn read(
    shared: &Arc<Shared>,
    (node, stream): (NodeId, u64),
    inbound: &mut Inbound<msg::NodeMessage>,
    queue: &state::ToNode,
    history: &history::Stream,
) -> Result<()> {
    while let Some(message) = inbound.next().await? {
        shared.check_stream(node, stream)?;
        match convert::required(message.message, "a node's message")? {
            msg::node_message::Message::Report(report) => shared.report(node, &read_report(&report)?)?,
            msg::node_message::Message::LeaseRequest(request) => {
                let (key, demand) = wanted(node, &request)?;
                shared.want(key, demand);
            }
            msg::node_message::Message::LeaseReturn(returned) => {
                shared.step(Event::LeaseReturned { owner: node, lease: LeaseId(returned.lease), unreachable: returned.unreachable });
            }
            msg::node_message::Message::LeaseHeld(held) => shared.step(lease_held(node, held)?),
            msg::node_message::Message::Question(question) => {
                let (shared, queue) = (Arc::clone(shared), queue.clone());
                shared.scope.clone().spawn("question", OnEnd::Continue, async move { ask::answer(&shared, question, queue).await });
            }
            msg::node_message::Message::Answer(answer) => {
                let result = match answer.result {
                    Some(msg::answer::Result::Answer(bytes)) => Ok(bytes),
                    Some(msg::answer::Result::Error(error)) => Err(convert::any_error(error)),
                    None => Err(convert::malformed("an answer without an answer")),
                };
                shared.answered(answer.number, result);
            }
            msg::node_message::Message::Renew(renew) => {
                let renewed = shared.invitations.issue(node, &renew.public_key)?;
                let renewed = renewed.ok_or_else(|| convert::malformed("a cluster without TLS renews no certificates"))?;
                // The stream may have ended by now.
                let _ = queue.send(msg::HeadMessage { message: Some(msg::head_message::Message::Certificate(renewed)) });
            }
            msg::node_message::Message::HistoryWritten(written) => history.written(shared, written)?,
            msg::node_message::Message::HistoryBatch(batch) => history.sent(batch)?,
            msg::node_message::Message::Hello(_) | msg::node_message::Message::Register(_) => {
                return Err(convert::malformed("a second registration"));
            }
        }
    }
    Ok(())
}

fn read_report(report: &msg::Report) -> Result<Report> {
    let resources = |part: &Option<msg::Resources>| convert::required(part.as_ref(), "resources").and_then(convert::resources);
    let waiting = |waiting: &msg::Waiting| Ok(PendingDemand { shape: resources(&waiting.shape)?, tasks: waiting.tasks });
    Ok(Report {
        local: resources(&report.local)?,
        used: resources(&report.used)?,
        leases: report.leases.iter().copied().map(LeaseId).collect(),
        tasks_queued: report.tasks_queued,
        tasks_running: report.tasks_running,
        memory_bytes: report.memory_bytes,
        waiting: report.waiting.iter().map(waiting).collect::<Result<_>>()?,
        leaving: report.leaving,
        clock_ms: report.clock_ms,
    })
}

fn lease_held(owner: NodeId, held: msg::LeaseHeld) -> Result<Event> {
    let lease = Held {
        owner,
        node: convert::node(held.node)?,
        job: convert::job(&convert::required(held.job, "a job")?)?,
        tenant: Tenant::new(&held.tenant).map_err(convert::malformed)?,
        shape: convert::resources(&convert::required(held.shape, "a shape")?)?,
        slots: held.slots,
        priority: convert::priority(held.priority)?,
        retryable: held.retryable,
    };
    Ok(Event::LeaseHeld { lease: LeaseId(held.lease), held: lease })
}

fn wanted(owner: NodeId, request: &msg::LeaseRequest) -> Result<(DemandKey, Demand)> {
    let key = DemandKey { owner, request: request.request };
    if request.slots == 0 {
        // A withdrawal needs no more than its number.
        let nothing = rwasm_types::ResourceSet::default();
        let job = rwasm_types::JobId { owner, session: 0 };
        return Ok((key, Demand::new(job, Tenant::default(), nothing, 0, Priority::default())));
    }
    let mut demand = Demand::new(
        convert::job(&convert::required(request.job, "a job")?)?,
        Tenant::new(&request.tenant).map_err(convert::malformed)?,
        convert::resources(&convert::required(request.shape.clone(), "a shape")?)?,
        request.slots,
        convert::priority(request.priority)?,
    );
    demand.retryable = request.retryable;
    demand.placement = convert::placement(request.placement.as_ref())?;
    demand.needs = read_json(&request.needs, "needs")?;
    Ok((key, demand))
}

/// A part that is JSON, and empty where there is nothing to say.
fn read_json<T: DeserializeOwned + Default>(json: &[u8], what: &str) -> Result<T> {
    if json.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(json).map_err(|error| convert::malformed(format_args!("{what} cannot be read: {error}")))
}
