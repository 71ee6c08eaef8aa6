//! The owners that this node runs tasks for, and what happens to that where their links break.
//!
//! ```text
//!            link ───────────▶ there ◀─────────── link again, of the same life or a later one
//!                                │ breaks                   │
//!                                ▼                          │
//!                              away: what runs goes on, what waits is let go ──── grace over ─▶ ended, as if it had never been
//! ```
//!
//! An owner has one link: a new one ends the one before. Links of an earlier life than the last that was heard of are refused.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rwasm_runtime::{OnEnd, random_bytes};
use rwasm_types::{ActorId, ArtifactDigest, Code, Error, Incarnation, JobId, NodeId, Result, TaskLimits, Tenant};
use rwasm_values::Role;
use rwasm_wire::msg;
use tokio::sync::oneshot;

use super::{artifact, queue::Queue, taker::RemoteTaker};
use crate::{
    artifacts::Hold,
    dispatch::ClassId,
    drain,
    executor::{Ended, Item},
    guest::Origin,
    node::{CallRequest, Load, Shared, find_export},
    objects::{Cancelled, Owner, named},
};

/// How long what an owner left is kept for it: more than a daemon needs to start anew, to read what it had written down, and to be joined by
/// its nodes.
pub(crate) const OWNER_GRACE: Duration = Duration::from_secs(60);

/// The owners that a node has heard of; as many as there are nodes.
#[derive(Default)]
pub(crate) struct Owners {
    known: Mutex<HashMap<NodeId, Known>>,
}

struct Known {
    /// The latest life that was heard of.
    life: Incarnation,
    keeping: Option<Arc<Keeping>>,
    /// The number of its newest link.
    link: u64,
    /// Tells that link that it is over; absent while the owner is away.
    over: Option<oneshot::Sender<Error>>,
}

/// A link that an owner has opened.
pub(super) struct Attached {
    pub(super) keeping: Arc<Keeping>,
    pub(super) link: u64,
    /// Why the link is over, once another has taken its place.
    pub(super) over: oneshot::Receiver<Error>,
    /// What the owner is told first.
    pub(super) held: msg::HeldAttempts,
}

/// Whether a life of an owner may open a link.
///
/// # Errors
///
/// [`Code::STALE_INCARNATION`] if a later one was heard of.
fn admit(owner: NodeId, life: Incarnation, latest: Incarnation) -> Result<()> {
    if life >= latest {
        return Ok(());
    }
    let message = format!("life {life} of node {owner} has ended: life {latest} took its place");
    Err(Error::new(Code::STALE_INCARNATION, message).hint("start this one with a state directory of its own").with("node", owner))
}

impl Owners {
    /// An owner opens a link.
    ///
    /// # Errors
    ///
    /// [`Code::STALE_INCARNATION`] if a later life of it has opened one.
    pub(super) fn attach(
        &self,
        shared: &Arc<Shared>,
        owner: NodeId,
        life: Incarnation,
        hello: (String, Option<msg::LinkResume>),
    ) -> Result<Attached> {
        let (data_address, resume) = hello;
        let (told, over) = oneshot::channel();
        let drawn = u64::from_le_bytes(random_bytes().map_err(|error| Error::new(Code::IO, format!("no random number: {error}")))?);
        let (keeping, link, before) = {
            let mut known = self.known.lock();
            let known = match known.entry(owner) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(Known { life, keeping: None, link: 0, over: None }),
            };
            admit(owner, life, known.life)?;
            let error = match life > known.life {
                true => admit(owner, known.life, life).err(),
                false => Some(Error::new(Code::CONNECTION_LOST, format!("node {owner} has opened another link"))),
            };
            known.life = life;
            known.link += 1;
            let keeping = known.keeping.get_or_insert_with(|| Arc::new(Keeping::new(owner, drawn)));
            (Arc::clone(keeping), known.link, known.over.replace(told).zip(error))
        };
        if let Some((before, error)) = before {
            // It may have ended by itself.
            let _ = before.send(error);
            keeping.broke(shared, link - 1);
        }
        *keeping.data_address.lock() = data_address;
        let heard = resume.filter(|resume| resume.keeping == keeping.number).map(|resume| (resume.outputs, resume.outcomes));
        let held = keeping.attach(shared, link, heard);
        Ok(Attached { keeping, link, over, held })
    }

    /// A link ended: if it was its owner's newest, what the owner has here is kept for a while.
    pub(super) fn detach(shared: &Arc<Shared>, keeping: &Arc<Keeping>, link: u64) {
        let owner = keeping.owner;
        {
            let mut known = shared.owners.known.lock();
            let Some(known) = known.get_mut(&owner).filter(|known| known.link == link) else { return };
            known.over = None;
        }
        keeping.broke(shared, link);
        if keeping.queue.is_empty() {
            Self::end(shared, keeping, link);
            return;
        }
        let (attempts, _) = keeping.queue.counts();
        tracing::warn!(%owner, attempts, grace = ?OWNER_GRACE, "an owner is away; its attempts are kept for it");
        let (waiting, keeping) = (Arc::clone(shared), Arc::clone(keeping));
        shared.scope.spawn("owner-grace", OnEnd::Continue, async move {
            tokio::time::sleep(OWNER_GRACE).await;
            Self::end(&waiting, &keeping, link);
        });
    }

    /// Ends what an owner left, if it has not come back since the link.
    fn end(shared: &Shared, keeping: &Keeping, link: u64) {
        {
            let mut known = shared.owners.known.lock();
            let Some(known) = known.get_mut(&keeping.owner).filter(|known| known.link == link && known.over.is_none()) else { return };
            known.keeping = None;
        }
        let (attempts, given_up) = keeping.queue.counts();
        if attempts > 0 || given_up > 0 {
            tracing::warn!(owner = %keeping.owner, attempts, given_up, "an owner did not come back: its attempts are ended");
        }
        keeping.end(shared);
    }
}

/// What a node has of one owner, across its links.
pub(super) struct Keeping {
    /// Drawn, so that the owner knows it again.
    number: u64,
    pub(super) owner: NodeId,
    pub(super) queue: Arc<Queue>,
    /// Where artifacts are fetched from.
    data_address: Mutex<String>,
    pub(super) calls: Mutex<HashMap<(u32, u32), RemoteCall>>,
}

/// A call of a session.
pub(super) struct RemoteCall {
    pub(super) class: ClassId,
    pub(super) tenant: Tenant,
    /// Of a method: what it is called on, which method, and with what limits.
    pub(super) method: Option<Arc<Method>>,
    /// Its artifact stays as long as the call does.
    _artifact: Hold,
}

/// A method that is called on an actor of this node.
pub(super) struct Method {
    pub(super) actor: ActorId,
    pub(super) export: String,
    pub(super) limits: TaskLimits,
}

impl Keeping {
    fn new(owner: NodeId, number: u64) -> Self {
        let queue = Arc::new(Queue::new());
        Self { number, owner, queue, data_address: Mutex::default(), calls: Mutex::default() }
    }

    /// The owner is there; what it is told first.
    fn attach(&self, shared: &Shared, link: u64, heard: Option<(u64, u64)>) -> msg::HeldAttempts {
        let (gave_up, held) = self.queue.attach(link, heard);
        let groups = held.into_iter().map(|((session, came), attempts)| msg::HeldGroup {
            session,
            call: came.call,
            lease: came.lease,
            slots: self.slots(shared, session, came.call, attempts.len()),
            sequences: attempts.iter().map(|(sequence, _)| *sequence).collect(),
            attempts: attempts.iter().map(|(_, attempt)| attempt.0).collect(),
        });
        msg::HeldAttempts { keeping: self.number, groups: groups.collect(), gave_up }
    }

    /// How many slots so many attempts of a call hold at most.
    fn slots(&self, shared: &Shared, session: u32, call: u32, attempts: usize) -> u32 {
        let class = self.calls.lock().get(&(session, call)).map(|call| call.class);
        let runs = class.map_or(0, |class| shared.dispatcher.lock().runs_of(class).len());
        u32::try_from(runs.min(attempts)).unwrap_or(u32::MAX)
    }

    /// The link broke: what runs goes on, what waits is the owner's again.
    fn broke(&self, shared: &Shared, link: u64) {
        if !self.queue.broke(link) {
            return;
        }
        let calls: Vec<((u32, u32), ClassId)> = self.calls.lock().iter().map(|(call, known)| (*call, known.class)).collect();
        for ((session, number), class) in calls {
            let (waiting, idle) = {
                let mut dispatcher = shared.dispatcher.lock();
                (dispatcher.take_if(class, |_| true), dispatcher.runs_of(class).is_empty())
            };
            self.let_go(session, &waiting, &drain::let_go(shared.id));
            if idle {
                // The owner defines it again if it needs it.
                self.calls.lock().remove(&(session, number));
                shared.drop_class(class);
            }
        }
    }

    /// Nobody waits any more for what runs.
    fn end(&self, shared: &Shared) {
        let calls: Vec<((u32, u32), RemoteCall)> = self.calls.lock().drain().collect();
        let sessions: BTreeSet<u32> = calls.iter().map(|((session, _), _)| *session).collect();
        let classes: Vec<ClassId> = calls.iter().map(|(_, call)| call.class).collect();
        self.queue.close();
        sessions.into_iter().for_each(|session| shared.job_over(JobId { owner: self.owner, session }));
        for class in classes {
            shared.drop_class(class);
        }
        shared.pump();
    }

    /// A call's class is there at once, so that its tasks can wait in it; the artifact may have to be fetched and compiled first. A call that
    /// is known from a link before is the same.
    pub(super) fn define(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        (session, number): (u32, u32),
        (tenant, class, root): (Tenant, ClassId, JobId),
        request: CallRequest,
    ) {
        let hold = shared.artifacts.hold(&tenant, request.artifact);
        let method = request.actor.map(|actor| {
            let (export, limits) = (request.export.clone(), request.options.limits);
            Arc::new(Method { actor, export, limits })
        });
        let is_method = method.is_some();
        self.calls.lock().insert((session, number), RemoteCall { class, tenant: tenant.clone(), method, _artifact: hold });
        if is_method {
            // The actor has all that it takes.
            return;
        }
        let (keeping, scope, shared) = (Arc::clone(self), shared.scope.clone(), Arc::clone(shared));
        scope.spawn("prepare-remote", OnEnd::Continue, async move {
            if let Err(error) = keeping.prepare(&shared, class, (session, root, tenant), request).await {
                shared.drop_class(class);
                keeping.queue.failed(session, number, &error);
            }
        });
    }

    async fn prepare(
        &self,
        shared: &Arc<Shared>,
        class: ClassId,
        (session, root, tenant): (u32, JobId, Tenant),
        request: CallRequest,
    ) -> Result<()> {
        let CallRequest { artifact, export, options, grants, .. } = request;
        self.have(shared, &tenant, artifact).await?;
        let prepared = shared.prepared(&tenant, artifact).await?;
        if shared.use_artifact(&tenant, artifact).is_none() {
            shared.artifacts.set_info(&tenant, artifact, prepared.info())?;
        }
        let (export, made) = find_export(prepared.info(), &export)?;
        if matches!(made.role, Role::ActorCreate { .. }) {
            shared.dispatcher.lock().set_stays(class);
        }
        let origin = Arc::new(Origin { root, artifact, grants: grants.clone(), options });
        let grants = Arc::new(shared.resolve_grants(grants)?);
        let job = JobId { owner: self.owner, session };
        let taker = Arc::new(RemoteTaker { queue: Arc::clone(&self.queue), class, session });
        shared.load(&Load { class, prepared, export, grants, tenant, job, origin }, taker);
        shared.pump();
        Ok(())
    }

    /// Gets what a task's arguments name from its owner, and has the task wait for a slot.
    pub(super) async fn fetch(&self, shared: &Arc<Shared>, class: ClassId, tenant: Tenant, mut item: Item, cancelled: Cancelled) {
        let address = self.data_address.lock().clone();
        let owner = Owner { node: self.owner, address: &address };
        let fetched = async { shared.fetch(&tenant, owner, named(&item.args)?).await };
        let fetched = tokio::select! {
            fetched = fetched => fetched,
            _ = cancelled => Err(crate::node::cancelled()),
        };
        let session = item.task.session;
        let ready = fetched.map(|copies| item.copies = copies);
        if let Err((items, error)) = shared.queue_waited(class, item, ready) {
            self.let_go(session, &items, &error.unwrap_or_else(|| drain::let_go(shared.id)));
        }
        // The node may have begun to drain meanwhile, and nothing is begun there any more.
        self.give_back_if_draining(shared);
        shared.pump();
    }

    /// Gets what a call of an actor names from its owner.
    pub(super) async fn fetch_for_call(&self, shared: &Arc<Shared>, tenant: &Tenant, item: &mut Item, cancelled: Cancelled) -> Result<()> {
        let address = self.data_address.lock().clone();
        let owner = Owner { node: self.owner, address: &address };
        let fetched = async { shared.fetch(tenant, owner, named(&item.args)?).await };
        let fetched = tokio::select! {
            fetched = fetched => fetched,
            _ = cancelled => Err(crate::node::cancelled()),
        };
        shared.objects.end_wait(item)?;
        item.copies = fetched?;
        Ok(())
    }

    /// Tasks that wait here while the node takes no more work are their owner's again.
    pub(super) fn give_back_if_draining(&self, shared: &Shared) {
        if !shared.draining.is_on() {
            return;
        }
        let calls: Vec<(u32, ClassId)> = self.calls.lock().iter().map(|((session, _), call)| (*session, call.class)).collect();
        for (session, class) in calls {
            let waiting = shared.dispatcher.lock().take_if(class, |_| true);
            self.let_go(session, &waiting, &drain::given_back(shared.id));
        }
    }

    /// Tells the owner that attempts have ended without having begun.
    pub(super) fn let_go(&self, session: u32, items: &[Item], error: &Error) {
        self.queue.ended(session, items.iter().map(|item| Ended::unrun(item, error.clone()).into_message()).collect());
    }

    /// Makes sure that an artifact is on this node.
    async fn have(&self, shared: &Arc<Shared>, tenant: &Tenant, artifact: ArtifactDigest) -> Result<()> {
        if shared.artifacts.contains(tenant, artifact) {
            return Ok(());
        }
        let address = self.data_address.lock().clone();
        artifact::fetch(shared, self.owner, &address, tenant, artifact).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_life_than_the_last_is_fenced() {
        let lives = |life, latest| admit(NodeId::FIRST, Incarnation(life), Incarnation(latest)).map_err(|error| error.code());
        assert_eq!((lives(5, 5), lives(6, 5)), (Ok(()), Ok(())));
        assert_eq!(lives(4, 5), Err(Code::STALE_INCARNATION));
    }
}
