//! The service that nodes join.

use std::{collections::BTreeMap, sync::Arc};

use rwasm_core::{Claim, Demand, DemandKey, Event};
use rwasm_runtime::OnEnd;
use rwasm_types::{Code, Error, LeaseId, Name, NodeId, Priority, Result, Tenant, api::PendingDemand};
use rwasm_wire::{Caller, HeadService, Inbound, Outbound, accept_hello, convert, msg};
use tokio::sync::mpsc;

use crate::{
    HEARTBEAT, ask,
    state::{self, Report, Shared},
};

/// Messages to a node that may wait for the network.
const QUEUE: usize = 256;

/// The service.
pub(crate) struct Joining(pub(crate) Arc<Shared>);

impl HeadService for Joining {
    async fn join(&self, caller: Caller, mut inbound: Inbound<msg::NodeMessage>) -> Result<Outbound<Result<msg::HeadMessage>>> {
        let shared = &self.0;
        shared.check_token(caller.token.as_deref())?;
        let msg::node_message::Message::Hello(hello) = next(&mut inbound).await? else {
            return Err(convert::malformed("a node does not begin with a hello"));
        };
        let welcome = accept_hello(&hello, shared.numbers.cluster(), shared.numbers.incarnation(), None)?;
        let msg::node_message::Message::Register(register) = next(&mut inbound).await? else {
            return Err(convert::malformed("a node does not register"));
        };
        let (queue, waiting) = mpsc::unbounded_channel();
        let mut joining = joining(register, rwasm_types::Incarnation(hello.incarnation), caller.address.is_none())?;
        // A number is one of its cluster.
        joining.node = joining.node.filter(|_| !hello.cluster.is_empty());
        let again = joining.node.is_some();
        let joined = shared.join(joining, queue.clone()).await;
        let (sender, outbound) = Outbound::channel(QUEUE);
        let registered = msg::Registered {
            heartbeat_ns: convert::nanos(HEARTBEAT),
            result: Some(match &joined {
                Ok((node, _)) => msg::registered::Result::Node(node.get()),
                Err(error) => msg::registered::Result::Error(error.into()),
            }),
        };
        for first in [msg::head_message::Message::Welcome(welcome), msg::head_message::Message::Registered(registered)] {
            // The channel was made with room.
            let _ = sender.try_send(Ok(msg::HeadMessage { message: Some(first) }));
        }
        if let Ok((node, stream)) = joined {
            tracing::info!(%node, "a node joined");
            shared.remind_of_drain(node, again).await?;
            let shared = Arc::clone(shared);
            self.0.scope.spawn("node-stream", OnEnd::Continue, async move {
                let outcome = tokio::select! {
                    outcome = read(&shared, (node, stream), &mut inbound, &queue) => outcome,
                    () = write(waiting, &sender) => Ok(()),
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

async fn next(inbound: &mut Inbound<msg::NodeMessage>) -> Result<msg::node_message::Message> {
    let message = inbound.next().await?.ok_or_else(|| Error::new(Code::CONNECTION_LOST, "the node closed the connection"))?;
    convert::required(message.message, "a node's message")
}

fn joining(register: msg::Register, incarnation: rwasm_types::Incarnation, local: bool) -> Result<state::Joining> {
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
        local,
    })
}

async fn write(mut waiting: mpsc::UnboundedReceiver<msg::HeadMessage>, sender: &rwasm_wire::Sender<Result<msg::HeadMessage>>) {
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
) -> Result<()> {
    while let Some(message) = inbound.next().await? {
        shared.check_stream(node, stream)?;
        match convert::required(message.message, "a node's message")? {
            msg::node_message::Message::Report(report) => shared.report(node, &read_report(&report)?)?,
            msg::node_message::Message::LeaseRequest(request) => shared.step(wanted(node, &request)?),
            msg::node_message::Message::LeaseReturn(returned) => {
                shared.step(Event::LeaseReturned { owner: node, lease: LeaseId(returned.lease), unreachable: returned.unreachable });
            }
            msg::node_message::Message::LeaseClaim(claim) => shared.step(claimed(node, claim)?),
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
    })
}

fn wanted(owner: NodeId, request: &msg::LeaseRequest) -> Result<Event> {
    let key = DemandKey { owner, request: request.request };
    if request.slots == 0 {
        // A withdrawal needs no more than its number.
        let nothing = rwasm_types::ResourceSet::default();
        let job = rwasm_types::JobId { owner, session: 0 };
        return Ok(Event::Wanted { key, demand: Demand::new(job, Tenant::default(), nothing, 0, Priority::default()) });
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
    Ok(Event::Wanted { key, demand })
}

fn claimed(owner: NodeId, claim: msg::LeaseClaim) -> Result<Event> {
    let claim_of = Claim {
        owner,
        node: convert::node(claim.node)?,
        job: convert::job(&convert::required(claim.job, "a job")?)?,
        tenant: Tenant::new(&claim.tenant).map_err(convert::malformed)?,
        shape: convert::resources(&convert::required(claim.shape, "a shape")?)?,
        slots: claim.slots,
        priority: convert::priority(claim.priority)?,
        retryable: claim.retryable,
    };
    Ok(Event::LeaseClaimed { lease: LeaseId(claim.lease), claim: claim_of })
}
