//! Running tasks for owners on other nodes: the answering side of a link.
//!
//! An owner's link has its own classes, and when it ends they end: their tasks run again elsewhere, or not, as their owner decides.

mod artifact;
mod taker;

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use rwasm_runtime::{OnEnd, aside};
use rwasm_types::{ArtifactDigest, Attempt, JobId, NodeId, Result, Tenant};
use rwasm_wire::{Caller, Inbound, Outbound, PeerService, accept_hello, convert, msg};

use self::taker::{LinkTaker, RunnerQueue};
use crate::{
    artifacts::{self, Hold},
    dispatch::ClassId,
    drain,
    executor::{Ended, Item},
    node::{CallRequest, Load, Shared, find_export},
};

/// The service that other nodes speak with.
pub(crate) struct Runner(pub(crate) Arc<Shared>);

impl PeerService for Runner {
    async fn link(&self, caller: Caller, mut inbound: Inbound<msg::OwnerMessage>) -> Result<Outbound<Result<msg::RunnerMessage>>> {
        let shared = &self.0;
        shared.head.proof().check(&caller, None)?;
        let first = convert::required(inbound.next().await?.and_then(|first| first.message), "a link's first message")?;
        let msg::owner_message::Message::Hello(hello) = first else { return Err(convert::malformed("a link does not begin with a hello")) };
        let owner = convert::node(hello.node)?;
        shared.head.proof().check(&caller, Some(owner))?;
        let welcome = accept_hello(&convert::required(hello.hello, "a hello")?, &shared.cluster, shared.incarnation, Some(shared.id))?;
        let (sender, outbound) = Outbound::channel(64);
        let welcome = msg::RunnerMessage { message: Some(msg::runner_message::Message::Welcome(welcome)) };
        // The channel was made with room.
        let _ = sender.try_send(Ok(welcome));
        let queue = Arc::new(RunnerQueue::new());
        let link = Arc::new(OwnerLink {
            owner,
            data_address: hello.data_address,
            shared: Arc::clone(shared),
            queue: Arc::clone(&queue),
            calls: Mutex::default(),
        });
        shared.scope.spawn("link-writer", OnEnd::Continue, taker::write(queue, sender));
        shared.scope.spawn("link-reader", OnEnd::Continue, async move {
            if let Err(error) = link.read(inbound).await {
                tracing::info!(owner = %link.owner, %error, "a link from an owner ended");
            }
            link.end();
        });
        Ok(outbound)
    }

    async fn fetch(&self, caller: Caller, request: msg::FetchRequest) -> Result<Outbound<Result<msg::ArtifactChunk>>> {
        let shared = &self.0;
        shared.head.proof().check(&caller, None)?;
        let tenant = Tenant::new(&request.tenant).map_err(convert::malformed)?;
        let digest = convert::digest(&request.digest)?;
        let bytes = aside(async { shared.artifacts.read(&tenant, digest) }).await?;
        Ok(artifacts::stream(&shared.scope, digest, bytes))
    }
}

/// One owner's link.
struct OwnerLink {
    owner: NodeId,
    /// Where artifacts are fetched from.
    data_address: String,
    shared: Arc<Shared>,
    queue: Arc<RunnerQueue>,
    calls: Mutex<HashMap<(u32, u32), RemoteCall>>,
}

/// A call of a session.
struct RemoteCall {
    class: ClassId,
    /// Its artifact stays as long as the call does.
    _artifact: Hold,
}

impl OwnerLink {
    async fn read(self: &Arc<Self>, mut inbound: Inbound<msg::OwnerMessage>) -> Result<()> {
        let mut draining = self.shared.draining.subscribe();
        loop {
            let message = tokio::select! {
                message = inbound.next() => match message? {
                    Some(message) => message,
                    None => return Ok(()),
                },
                _changed = draining.changed() => {
                    self.give_back_if_draining();
                    continue;
                }
            };
            match convert::required(message.message, "a link's message")? {
                msg::owner_message::Message::Define(define) => self.define(define)?,
                msg::owner_message::Message::Assign(assign) => self.assign(assign)?,
                msg::owner_message::Message::Cancel(cancel) => self.cancel(&cancel),
                msg::owner_message::Message::Forget(forget) => self.forget(forget.session),
                msg::owner_message::Message::Hello(_) => return Err(convert::malformed("a second hello")),
            }
        }
    }

    /// Tasks that wait here while the node takes no more work are their owner's again.
    fn give_back_if_draining(&self) {
        if !self.shared.draining.is_on() {
            return;
        }
        let calls: Vec<(u32, ClassId)> = self.calls.lock().iter().map(|((session, _), call)| (*session, call.class)).collect();
        for (session, class) in calls {
            let waiting = self.shared.dispatcher.lock().take_if(class, |_| true);
            let error = drain::given_back(self.shared.id);
            self.queue.ended(session, waiting.iter().map(|item| Ended::unrun(item, error.clone()).into_message()).collect());
        }
    }

    /// A call's class is there at once, so that its tasks can wait in it; the artifact may have to be fetched and compiled first.
    fn define(self: &Arc<Self>, define: msg::DefineRemote) -> Result<()> {
        let call = convert::required(define.call, "a call")?;
        let tenant = Tenant::new(&define.tenant).map_err(convert::malformed)?;
        let request = CallRequest {
            artifact: convert::digest(&call.artifact)?,
            export: call.export,
            options: convert::options(&convert::required(call.options, "options")?)?,
            grants: convert::grants(convert::required(call.grants, "grants")?)?,
        };
        let shape = convert::resources(&convert::required(define.shape, "a shape")?)?;
        let class = self.shared.dispatcher.lock().add_class(shape, request.options.priority, true);
        let hold = self.shared.artifacts.hold(&tenant, request.artifact);
        self.calls.lock().insert((define.session, define.number), RemoteCall { class, _artifact: hold });
        let link = Arc::clone(self);
        let (session, number) = (define.session, define.number);
        self.shared.scope.spawn("prepare-remote", OnEnd::Continue, async move {
            if let Err(error) = link.prepare(class, session, tenant, request).await {
                link.shared.drop_class(class);
                link.queue.failed(session, number, &error);
            }
        });
        Ok(())
    }

    async fn prepare(self: &Arc<Self>, class: ClassId, session: u32, tenant: Tenant, request: CallRequest) -> Result<()> {
        let CallRequest { artifact, export, options, grants } = request;
        self.have(&tenant, artifact).await?;
        let prepared = self.shared.prepared(&tenant, artifact).await?;
        if self.shared.use_artifact(&tenant, artifact).is_none() {
            self.shared.artifacts.set_info(&tenant, artifact, prepared.info())?;
        }
        let (export, _) = find_export(prepared.info(), &export)?;
        let grants = Arc::new(self.shared.resolve_grants(grants)?);
        let job = JobId { owner: self.owner, session };
        let taker = Arc::new(LinkTaker { queue: Arc::clone(&self.queue), class, session });
        self.shared.load(&Load { class, prepared, export, options, grants, tenant, job }, taker);
        self.shared.pump();
        Ok(())
    }

    /// Makes sure that an artifact is on this node.
    async fn have(&self, tenant: &Tenant, artifact: ArtifactDigest) -> Result<()> {
        if self.shared.artifacts.contains(tenant, artifact) {
            return Ok(());
        }
        artifact::fetch(&self.shared, self.owner, &self.data_address, tenant, artifact).await
    }

    fn assign(&self, assign: msg::Assign) -> Result<()> {
        let class = self.class(assign.session, assign.call)?;
        let job = JobId { owner: self.owner, session: assign.session };
        self.queue.expect(assign.session, assign.lease, assign.tasks.iter().map(|task| task.sequence));
        let items =
            assign.tasks.into_iter().map(|task| Item { task: job.task(task.sequence), attempt: Attempt(task.attempt), args: task.args });
        let items: Vec<Item> = items.collect();
        // A class that failed is gone; the owner has been told and sends these tasks elsewhere.
        let _ = self.shared.dispatcher.lock().enqueue(class, items);
        self.give_back_if_draining();
        self.shared.pump();
        Ok(())
    }

    fn class(&self, session: u32, call: u32) -> Result<ClassId> {
        self.calls.lock().get(&(session, call)).map(|call| call.class).ok_or_else(|| convert::malformed("a task's call was not defined"))
    }

    fn cancel(&self, cancel: &msg::CancelRemote) {
        let classes: Vec<ClassId> =
            self.calls.lock().iter().filter(|((session, _), _)| *session == cancel.session).map(|(_, call)| call.class).collect();
        let job = JobId { owner: self.owner, session: cancel.session };
        for class in classes {
            let waiting = self.shared.cancel_in_class(class, job, &cancel.sequences);
            self.queue
                .ended(cancel.session, waiting.iter().map(|item| Ended::unrun(item, crate::node::cancelled()).into_message()).collect());
        }
    }

    /// A job has ended: its classes are of no use any more.
    fn forget(&self, session: u32) {
        let classes: Vec<ClassId> = {
            let mut calls = self.calls.lock();
            let of_session = calls.extract_if(|(of, _), _| *of == session);
            of_session.map(|(_, call)| call.class).collect()
        };
        for class in classes {
            self.shared.drop_class(class);
        }
    }

    /// The owner is gone, and with it everyone who waits for its tasks.
    fn end(&self) {
        let classes: Vec<ClassId> = self.calls.lock().drain().map(|(_, call)| call.class).collect();
        self.queue.close();
        for class in classes {
            self.shared.drop_class(class);
        }
        self.shared.pump();
    }
}
