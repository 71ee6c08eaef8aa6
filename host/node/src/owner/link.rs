//! A stream to another node that runs tasks for this owner.

use std::{
    collections::HashSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_runtime::OnEnd;
use rwasm_types::{Attempt, Code, Error, JobId, NodeId, Result};
use rwasm_wire::{Inbound, Outbound, convert, hello, msg, read_welcome};
use tokio::sync::mpsc;

use super::job::{Job, JobCall};
use crate::node::Shared;

/// One open stream. Messages are queued without limit of their own: an owner never has more on the way than its leases allow.
pub(crate) struct Link {
    node: NodeId,
    queue: mpsc::UnboundedSender<msg::OwnerMessage>,
    open: AtomicBool,
    /// Whether the other node ever answered, so that it can have begun what was sent.
    welcomed: AtomicBool,
    /// Calls that the other node knows.
    defined: Mutex<HashSet<(u32, u16)>>,
}

impl Link {
    /// Begins to open a stream; what is sent before it is open waits. If it cannot be opened or breaks, the node's leases are over.
    pub(crate) fn open(shared: &Arc<Shared>, node: NodeId, address: &str) -> Arc<Self> {
        let (queue, waiting) = mpsc::unbounded_channel();
        let link = Arc::new(Self { node, queue, open: AtomicBool::new(true), welcomed: AtomicBool::new(false), defined: Mutex::default() });
        let task = run(Arc::downgrade(shared), Arc::clone(&link), address.to_owned(), waiting);
        shared.scope.spawn("peer-link", OnEnd::Continue, task);
        link
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    pub(crate) fn send(&self, message: msg::owner_message::Message) {
        // A closed link's leases are revoked; nothing waits for what was not sent.
        let _ = self.queue.send(msg::OwnerMessage { message: Some(message) });
    }

    /// Has the other node forget the calls of a job that has ended.
    pub(crate) fn forget(&self, session: u32) {
        let known = {
            let mut defined = self.defined.lock();
            let before = defined.len();
            defined.retain(|(of, _)| *of != session);
            defined.len() < before
        };
        if known {
            self.send(msg::owner_message::Message::Forget(msg::ForgetSession { session }));
        }
    }

    /// Makes a call known to the other node, once.
    pub(crate) fn define(&self, job: &Job, call: &JobCall) {
        if self.defined.lock().insert((job.id.session, call.number)) {
            self.send(msg::owner_message::Message::Define(msg::DefineRemote {
                session: job.id.session,
                number: call.number.into(),
                tenant: job.tenant.to_string(),
                shape: Some((&call.shape).into()),
                call: Some(msg::Call {
                    artifact: Bytes::copy_from_slice(&call.artifact.0),
                    export: if call.export.role == rwasm_values::Role::Command { String::new() } else { call.export.name.to_string() },
                    options: Some((&call.options).into()),
                    grants: Some((&call.grants).into()),
                }),
            }));
        }
    }
}

async fn run(shared: Weak<Shared>, link: Arc<Link>, address: String, mut waiting: mpsc::UnboundedReceiver<msg::OwnerMessage>) {
    let outcome = converse(&shared, &link, &address, &mut waiting).await;
    link.open.store(false, Relaxed);
    let Some(shared) = shared.upgrade() else { return };
    let cause = match outcome {
        Ok(()) => "it closed the connection".to_owned(),
        Err(error) => error.message().to_owned(),
    };
    tracing::warn!(node = %link.node, %cause, "the link to a node ended");
    let error = Error::new(Code::NODE_LOST, format!("node {} was lost: {cause}", link.node)).with("node", link.node);
    shared.link_lost(link.node, &error, link.welcomed.load(Relaxed));
}

async fn converse(
    shared: &Weak<Shared>,
    link: &Link,
    address: &str,
    waiting: &mut mpsc::UnboundedReceiver<msg::OwnerMessage>,
) -> Result<()> {
    let gone = || Error::new(Code::CONNECTION_LOST, "this node is shutting down");
    let (mut client, first) = {
        let shared = shared.upgrade().ok_or_else(gone)?;
        let hello = msg::LinkHello {
            hello: Some(hello(&shared.cluster, shared.incarnation)),
            node: shared.id.get(),
            data_address: shared.head.data_address().to_owned(),
        };
        (shared.peer(link.node, address).await?, hello)
    };
    let (sender, outbound) = Outbound::channel(16);
    let first = msg::OwnerMessage { message: Some(msg::owner_message::Message::Hello(first)) };
    sender.send(first).await.map_err(|_closed| gone())?;
    let mut inbound = client.link(outbound).await?;
    match inbound.next().await? {
        Some(msg::RunnerMessage { message: Some(msg::runner_message::Message::Welcome(welcome)) }) => {
            read_welcome(&welcome)?;
            link.welcomed.store(true, Relaxed);
        }
        _ => return Err(convert::malformed("a link does not begin with a welcome")),
    }
    let send = async {
        while let Some(message) = waiting.recv().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = send => Ok(()),
        outcome = receive(shared, link, &mut inbound) => outcome,
    }
}

async fn receive(shared: &Weak<Shared>, link: &Link, inbound: &mut Inbound<msg::RunnerMessage>) -> Result<()> {
    while let Some(message) = inbound.next().await? {
        let Some(shared) = shared.upgrade() else { return Ok(()) };
        match convert::required(message.message, "a link's message")? {
            msg::runner_message::Message::Outcomes(outcomes) => shared.outcomes(outcomes)?,
            msg::runner_message::Message::Outputs(outputs) => write_outputs(&shared, outputs).await?,
            msg::runner_message::Message::DefineFailed(failed) => {
                let error = convert::any_error(convert::required(failed.error, "an error")?);
                shared.define_failed(link.node, failed.session, failed.number, &error);
            }
            msg::runner_message::Message::Welcome(_) => return Err(convert::malformed("a second welcome")),
        }
    }
    Ok(())
}

/// Writes what tasks wrote elsewhere to their job's log; a slow disk here slows the other node down through the stream.
async fn write_outputs(shared: &Shared, outputs: msg::RemoteOutputs) -> Result<()> {
    let id = JobId { owner: shared.id, session: outputs.session };
    let job = shared.jobs.read().get(&id).map(Arc::clone);
    let Some(job) = job else { return Ok(()) };
    for output in outputs.outputs {
        job.log.room().await;
        job.log.write(output.sequence, Attempt(output.attempt), convert::stream(output.stream)?, &output.bytes);
    }
    Ok(())
}
