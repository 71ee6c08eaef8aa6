//! Actors: tasks that stay. Making one is a task whose attempt, once the constructor has returned, keeps its instance and works off calls
//! of methods, until it is told to end, traps, or its job is over. So what is true of tasks is true of actors: where they go, what they
//! hold, that they survive their owner, how they end; and a restart is the next attempt.
//!
//! ```text
//! job ─ create ─▶ dispatcher or lease ─▶ executor: constructor ─▶ alive ─▶ Mailbox ◀─ call ◀─┬─ its owner's node: directly
//!                                                                  │                          └─ or over the owner's link
//!  owner: Owned { calls that wait, where it lives } ◀──────────────┘
//! ```
//!
//! Calls are tasks as well, of whichever job calls. They are numbered, written down and listed as others are, and wait at the owner of the
//! actor until it is alive, in the order in which they came.

mod calls;
mod list;
mod mailbox;
mod mind;
mod names;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use rwasm_types::{ActorId, Attempt, Code, Error, JobId, NodeId, Result, TaskOptions};
use rwasm_values::{ArtifactInfo, Export, Resource, Role, Type};
use tokio::sync::Notify;

pub(crate) use self::mailbox::{Delivery, Done, Mailbox};
use crate::{
    executor::Item,
    exports::find_export,
    owner::job::{Job, JobCall},
};

/// What happened to an actor, for [`crate::node::Shared::mind_actors`].
#[derive(Debug)]
pub(crate) enum Event {
    /// It takes calls, on this node.
    Alive(ActorId, Attempt, NodeId),
    /// An attempt of it ended for this reason, and another follows.
    Lost(ActorId, Attempt, Error),
    /// It is over, and why.
    Ended(ActorId, Error),
    /// Nothing of a job is left but its actors.
    OnlyActorsLeft(JobId),
}

/// All that a node knows of actors: those that live here, and those that its jobs made.
#[derive(Default)]
pub(crate) struct Actors {
    here: Mutex<HashMap<ActorId, Arc<Mailbox>>>,
    owned: Mutex<HashMap<ActorId, Arc<Mutex<Owned>>>>,
    events: Mutex<Vec<Event>>,
    told: Notify,
}

/// An actor of one of this node's jobs.
pub(crate) struct Owned {
    calls_max: u32,
    /// Calls that wait or run.
    calls: Arc<AtomicUsize>,
    /// Where it takes calls.
    place: Option<(NodeId, Attempt)>,
    /// The latest attempt that is known to have been lost.
    lost: Attempt,
    waiting: VecDeque<Waiting>,
    dead: Option<Error>,
}

/// A call that waits for its actor.
struct Waiting {
    job: Arc<Job>,
    call: Arc<JobCall>,
    item: Item,
}

/// A call's place among those that an actor may have; given back when the last copy of its item is gone.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<AtomicUsize>);

impl Ticket {
    fn new(calls: &Arc<AtomicUsize>) -> Arc<Self> {
        calls.fetch_add(1, Relaxed);
        Arc::new(Self(Arc::clone(calls)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Actors {
    /// Says what happened to an actor.
    pub(crate) fn tell(&self, event: Event) {
        self.events.lock().push(event);
        self.told.notify_one();
    }

    /// A job of this node makes an actor.
    pub(crate) fn own(&self, actor: ActorId, options: &TaskOptions) {
        let owned = Owned {
            calls_max: options.actor.calls_max,
            calls: Arc::default(),
            place: None,
            lost: Attempt(0),
            waiting: VecDeque::new(),
            dead: None,
        };
        self.owned.lock().insert(actor, Arc::new(Mutex::new(owned)));
    }

    fn owned(&self, actor: ActorId) -> Option<Arc<Mutex<Owned>>> {
        self.owned.lock().get(&actor).map(Arc::clone)
    }

    /// Where an actor of this node takes calls, and how many it has.
    pub(crate) fn place(&self, actor: ActorId) -> (Option<NodeId>, u64) {
        let Some(owned) = self.owned(actor) else { return (None, 0) };
        let owned = owned.lock();
        (owned.place.map(|(node, _)| node), owned.calls.load(Relaxed) as u64)
    }

    /// An actor lives here from now on.
    pub(crate) fn open(&self, actor: ActorId, mailbox: &Arc<Mailbox>) {
        self.here.lock().insert(actor, Arc::clone(mailbox));
    }

    /// It does not any more, unless another attempt of it does.
    pub(crate) fn close(&self, actor: ActorId, mailbox: &Arc<Mailbox>) {
        let mut here = self.here.lock();
        if here.get(&actor).is_some_and(|known| Arc::ptr_eq(known, mailbox)) {
            here.remove(&actor);
        }
    }

    /// An actor that lives here.
    pub(crate) fn here(&self, actor: ActorId) -> Option<Arc<Mailbox>> {
        self.here.lock().get(&actor).map(Arc::clone)
    }
}

/// A method of an artifact, as callers see it.
///
/// # Errors
///
/// [`Code::NO_SUCH_EXPORT`] if there is none, or [`Code::NOT_CALLABLE`] if it is none or passes what no call can.
pub(crate) fn find_method(info: &ArtifactInfo, name: &str) -> Result<(usize, Export)> {
    let (index, export) = find_export(info, name)?;
    if !matches!(export.role, Role::ActorMethod { .. }) {
        return Err(Error::new(Code::NOT_CALLABLE, format!("`{}` is no method of an actor", export.name)));
    }
    let handle = |ty: &Type| ty.any(&mut |ty| matches!(ty, Type::Own(Resource::Named(_)) | Type::Borrow(Resource::Named(_))));
    if export.signature.params.iter().map(|param| &param.ty).chain(&export.signature.result).any(handle) {
        let message = format!("`{}` passes handles of the actor's other resources, which do not leave the actor", export.name);
        return Err(Error::new(Code::NOT_CALLABLE, message).hint("give the class a method that does what is wanted of them"));
    }
    Ok((index, export))
}

/// The error of a call of an actor that takes none any more.
pub(crate) fn died(actor: ActorId, why: &Error) -> Error {
    Error::new(Code::ACTOR_DIED, format!("actor {actor} is dead: {}", why.message())).with("actor", actor).with("cause", why.code())
}

/// The error of a call that was under way, or waited, when its actor ended and begins anew.
pub(crate) fn restarted(actor: ActorId, why: &Error) -> Error {
    Error::new(Code::ACTOR_RESTARTED, format!("actor {actor} ended before the call did, and begins anew: {}", why.message()))
        .hint("call it again, if the call may be repeated; its state is new")
        .with("actor", actor)
        .with("cause", why.code())
}

fn busy(actor: ActorId, calls_max: u32) -> Error {
    Error::new(Code::ACTOR_BUSY, format!("actor {actor} has {calls_max} calls that wait or run, which is its limit"))
        .hint("take results before further calls, or make it with a larger limit")
        .with("actor", actor)
}
