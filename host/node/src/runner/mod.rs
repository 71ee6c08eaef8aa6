//! Running tasks for owners on other nodes: the answering side of a link.
//!
//! An owner's tasks have classes of their own. Where its link breaks, what runs goes on and is kept for it, for a while; then it ends.

mod artifact;
mod kept;
mod owners;
mod queue;
mod taker;

use std::sync::Arc;

use rwasm_runtime::{OnEnd, aside};
use rwasm_types::{ActorId, Attempt, Error, Incarnation, JobId, Result, TaskId, Tenant};
use rwasm_wire::{Caller, Inbound, Outbound, PeerService, Sender, accept_hello, convert, msg};
use tokio::sync::oneshot;

pub(crate) use self::owners::Owners;
use self::{
    kept::Came,
    owners::{Attached, Keeping, Method},
    taker::CallTaker,
};
use crate::{
    actors::Delivery,
    artifacts,
    dispatch::ClassId,
    executor::{Ended, Item, Taker},
    node::{CallRequest, Shared},
    objects::names_objects,
};

/// The service that other nodes speak with.
pub(crate) struct Runner(pub(crate) Arc<Shared>);

impl PeerService for Runner {
    async fn link(&self, caller: Caller, mut inbound: Inbound<msg::OwnerMessage>) -> Result<Outbound<Result<msg::RunnerMessage>>> {
        let shared = &self.0;
        shared.head.proof().check(&caller, None)?;
        let first = convert::required(inbound.next().await?.and_then(|first| first.message), "a link's first message")?;
        let msg::owner_message::Message::Hello(hello) = first else { return Err(convert::malformed("a link does not begin with a hello")) };
        let (owner, greeting) = (convert::node(hello.node)?, convert::required(hello.hello, "a hello")?);
        shared.head.proof().check(&caller, Some(owner))?;
        let welcome = accept_hello(&greeting, &shared.cluster, shared.incarnation, Some(shared.id))?;
        let life = Incarnation(greeting.incarnation);
        let Attached { keeping, link, over, held } = shared.owners.attach(shared, owner, life, (hello.data_address, hello.resume))?;
        let (sender, outbound) = Outbound::channel(64);
        for first in [msg::runner_message::Message::Welcome(welcome), msg::runner_message::Message::Held(held)] {
            // The channel was made with room.
            let _ = sender.try_send(Ok(msg::RunnerMessage { message: Some(first) }));
        }
        shared.scope.spawn("link-writer", OnEnd::Continue, Arc::clone(&keeping.queue).write(link, sender.clone()));
        let link = OwnerLink { shared: Arc::clone(shared), keeping, number: link };
        shared.scope.spawn("link-reader", OnEnd::Continue, link.serve(inbound, over, sender));
        Ok(outbound)
    }

    async fn pull(&self, caller: Caller, request: msg::PullRequest) -> Result<Outbound<Result<msg::PullPart>>> {
        self.0.serve_pull(&caller, &request).await
    }

    async fn tell(&self, caller: Caller, inbound: Inbound<msg::Telling>) -> Result<Outbound<Result<msg::Told>>> {
        self.0.hear_directory(&caller, inbound).await
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

/// One link of an owner.
#[derive(Clone)]
struct OwnerLink {
    shared: Arc<Shared>,
    keeping: Arc<Keeping>,
    number: u64,
}

impl OwnerLink {
    /// Hears the owner until it leaves, or another link takes the place of this one.
    async fn serve(self, inbound: Inbound<msg::OwnerMessage>, over: oneshot::Receiver<Error>, sender: Sender<Result<msg::RunnerMessage>>) {
        let outcome = tokio::select! {
            biased;
            Ok(error) = over => Err(error),
            outcome = self.read(inbound) => outcome,
        };
        if let Err(error) = outcome {
            tracing::info!(owner = %self.keeping.owner, %error, "a link from an owner ended");
            // The owner may be gone, or read nothing; nobody waits for it.
            let _ = sender.try_send(Err(error));
        }
        Owners::detach(&self.shared, &self.keeping, self.number);
    }

    async fn read(&self, mut inbound: Inbound<msg::OwnerMessage>) -> Result<()> {
        let mut draining = self.shared.draining.subscribe();
        loop {
            let message = tokio::select! {
                message = inbound.next() => match message? {
                    Some(message) => message,
                    None => return Ok(()),
                },
                _changed = draining.changed() => {
                    self.keeping.give_back_if_draining(&self.shared);
                    continue;
                }
            };
            if !self.keeping.queue.is_current(self.number) {
                // What this link still says is not heard; it is told why.
                return Ok(());
            }
            match convert::required(message.message, "a link's message")? {
                msg::owner_message::Message::Define(define) => self.define(define)?,
                msg::owner_message::Message::Assign(assign) => self.assign(assign)?,
                msg::owner_message::Message::Cancel(cancel) => self.cancel(&cancel),
                msg::owner_message::Message::Forget(forget) => self.forget(forget.session),
                msg::owner_message::Message::Acknowledge(heard) => {
                    self.keeping.queue.acknowledge(self.number, heard.outputs, heard.outcomes);
                }
                msg::owner_message::Message::Retire(retire) => {
                    self.shared.retire_here(JobId { owner: self.keeping.owner, session: retire.session }, retire.sequence);
                }
                msg::owner_message::Message::Hello(_) => return Err(convert::malformed("a second hello")),
            }
        }
    }

    fn define(&self, define: msg::DefineRemote) -> Result<()> {
        if self.keeping.calls.lock().contains_key(&(define.session, define.number)) {
            // From a link before; some of it runs.
            return Ok(());
        }
        let call = convert::required(define.call, "a call")?;
        let tenant = Tenant::new(&define.tenant).map_err(convert::malformed)?;
        let request = CallRequest {
            artifact: convert::digest(&call.artifact)?,
            export: call.export,
            options: convert::options(&convert::required(call.options, "options")?)?,
            grants: convert::grants(convert::required(call.grants, "grants")?)?,
            actor: call.actor.as_ref().map(convert::actor).transpose()?,
        };
        let shape = convert::resources(&convert::required(define.shape, "a shape")?)?;
        let class = {
            let mut dispatcher = self.shared.dispatcher.lock();
            if request.actor.is_some() { dispatcher.name_class() } else { dispatcher.add_class(shape, request.options.priority, true) }
        };
        let job = JobId { owner: self.keeping.owner, session: define.session };
        let root = define.root.as_ref().map_or(Ok(job), convert::job)?;
        self.keeping.define(&self.shared, (define.session, define.number), (tenant, class, root), request);
        Ok(())
    }

    fn assign(&self, assign: msg::Assign) -> Result<()> {
        let (class, tenant, method) = self.class(assign.session, assign.call)?;
        let job = JobId { owner: self.keeping.owner, session: assign.session };
        let came = Came { call: assign.call, lease: assign.lease };
        self.keeping.queue.expect(assign.session, came, assign.tasks.iter().map(|task| (task.sequence, Attempt(task.attempt))));
        let items: Vec<Item> = assign
            .tasks
            .into_iter()
            .map(|task| Item { depth: task.depth, ..Item::new(job.task(task.sequence), Attempt(task.attempt), task.args) })
            .collect();
        if let Some(method) = method {
            self.call(&method, assign.session, &tenant, items);
            return Ok(());
        }
        let plain = if items.iter().any(|item| names_objects(&item.args)) { self.fetch_for(items, class, &tenant) } else { items };
        // A class that failed is gone; the owner has been told and sends these tasks elsewhere.
        let _ = self.shared.dispatcher.lock().enqueue(class, plain);
        self.keeping.give_back_if_draining(&self.shared);
        self.shared.pump();
        Ok(())
    }

    /// Passes calls on to an actor of this node, those that name objects once these are here.
    fn call(&self, method: &Arc<Method>, session: u32, tenant: &Tenant, items: Vec<Item>) {
        let (naming, plain): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| names_objects(&item.args));
        let taker: Arc<dyn Taker> = Arc::new(CallTaker { queue: Arc::clone(&self.keeping.queue), session });
        self.deliver(method, &taker, plain);
        for mut item in naming {
            let (link, method, taker, tenant) = (self.clone(), Arc::clone(method), Arc::clone(&taker), tenant.clone());
            let cancelled = self.shared.objects.waits(&item);
            self.shared.scope.spawn("fetch-objects", OnEnd::Continue, async move {
                match link.keeping.fetch_for_call(&link.shared, &tenant, &mut item, cancelled).await {
                    Ok(()) => link.deliver(&method, &taker, vec![item]),
                    Err(error) => taker.ended(vec![Ended::unrun(&item, error)]),
                }
            });
        }
    }

    fn deliver(&self, method: &Method, taker: &Arc<dyn Taker>, items: Vec<Item>) {
        let delivery = |item| Delivery { item, export: 0, limits: method.limits, taker: Arc::clone(taker) };
        self.shared.deliver_remote(method.actor, &method.export, items.into_iter().map(delivery).collect());
    }

    /// Has those tasks that name objects wait for them. Gives back the others.
    fn fetch_for(&self, items: Vec<Item>, class: ClassId, tenant: &Tenant) -> Vec<Item> {
        let (naming, plain): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| names_objects(&item.args));
        for item in naming {
            let (shared, keeping, tenant) = (Arc::clone(&self.shared), Arc::clone(&self.keeping), tenant.clone());
            // Before the next message is heard, which may cancel it.
            let cancelled = shared.objects.waits(&item);
            self.shared.scope.spawn("fetch-objects", OnEnd::Continue, async move {
                keeping.fetch(&shared, class, tenant, item, cancelled).await;
            });
        }
        plain
    }

    /// A call's class, whose it is, and what it is called on if it is a method.
    fn class(&self, session: u32, call: u32) -> Result<(ClassId, Tenant, Option<Arc<Method>>)> {
        let calls = self.keeping.calls.lock();
        calls
            .get(&(session, call))
            .map(|call| (call.class, call.tenant.clone(), call.method.clone()))
            .ok_or_else(|| convert::malformed("a task's call was not defined"))
    }

    fn cancel(&self, cancel: &msg::CancelRemote) {
        let job = JobId { owner: self.keeping.owner, session: cancel.session };
        self.shared.objects.cancel_waiting(job, (!cancel.sequences.is_empty()).then_some(&*cancel.sequences));
        let (classes, actors): (Vec<ClassId>, Vec<Option<ActorId>>) = {
            let calls = self.keeping.calls.lock();
            let of_session = calls.iter().filter(|((session, _), _)| *session == cancel.session);
            of_session.map(|(_, call)| (call.class, call.method.as_ref().map(|method| method.actor))).unzip()
        };
        for mailbox in actors.into_iter().flatten().filter_map(|actor| self.shared.actors.here(actor)) {
            let wanted = |task: TaskId| task.job() == job && (cancel.sequences.is_empty() || cancel.sequences.contains(&task.sequence));
            self.shared.cancel_in_mailbox(&mailbox, wanted);
        }
        for class in classes {
            let waiting = self.shared.cancel_in_class(class, job, &cancel.sequences);
            self.keeping.let_go(cancel.session, &waiting, &crate::node::cancelled());
        }
    }

    /// A job has ended: its classes are of no use any more.
    fn forget(&self, session: u32) {
        let classes: Vec<ClassId> = {
            let mut calls = self.keeping.calls.lock();
            let of_session = calls.extract_if(|(of, _), _| *of == session);
            of_session.map(|(_, call)| call.class).collect()
        };
        for class in classes {
            self.shared.drop_class(class);
        }
        self.keeping.queue.forget(session);
        self.shared.job_over(JobId { owner: self.keeping.owner, session });
    }
}
