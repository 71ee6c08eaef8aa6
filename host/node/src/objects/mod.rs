//! Objects at this node: the store that has their bytes, the directory that knows who holds them, and those who wait for them.
//!
//! ```text
//!  gateway ── put, get ──▶ Objects ──▶ Store        bytes in shared memory
//!  jobs ───── hold, end ─▶    │  │
//!                             │  └──▶ Directory    who holds what; actions: delete, tell others ──▶ tell ──▶ other nodes' directories
//!                             └─────▶ Fetched      copies of what others own ◀── pull ◀── serve, of other nodes
//! ```

mod args;
mod beside;
mod borrow;
mod fetch;
mod list;
mod pull;
mod put;
mod send;
mod serve;
mod settle;
mod spill;
mod tell;
#[cfg(test)]
mod tests;
mod wait;
mod words;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rwasm_objects::{
    Keeper, Pin, Store,
    refs::{Action, Directory, Holder, Meta, State, not_found},
};
use rwasm_runtime::{aside, now_ms};
use rwasm_types::{JobId, NodeId, ObjectId, Result, TaskId, Tenant, api::UnixMs};
use rwasm_wire::CHUNK_BYTES;

use crate::sessions::Sessions;

pub use self::spill::{SpillOptions, SpillTo};
pub(crate) use self::wait::FOREVER;
pub(crate) use self::{
    args::{inlined, named, names_objects},
    fetch::Copies,
    pull::Owner,
    put::Incoming,
    send::send,
    wait::Cancelled,
};
use self::{
    beside::Beside,
    fetch::Fetched,
    pull::Coming,
    serve::Serving,
    settle::{LateResults, Waiters},
    tell::Tell,
    wait::Waiting,
};

/// All objects of a node. It is shared by all its parts.
pub(crate) struct Objects {
    pub(crate) node: NodeId,
    pub(crate) store: Store,
    /// Moves objects together where others wait for the room between them.
    _keeper: Keeper,
    directory: Mutex<Directory>,
    /// Numbers for what is put here.
    sessions: Arc<Mutex<Sessions>>,
    next: Mutex<Option<TaskId>>,
    /// What is taken beside the store.
    beside: Beside,
    /// Copies of what others own.
    fetched: Fetched,
    /// What is said to other directories, and heard of them.
    tell: Tell,
    /// What is sent to other nodes.
    serving: Serving,
    /// How many drivers have held something for as long as it took.
    drivers: AtomicU64,
    /// Tasks that hold something, so that the end of others costs nothing.
    holding: Mutex<HashSet<TaskId>>,
    /// How many there are, to be looked at without the lock.
    holding_count: AtomicU64,
    /// Tasks that wait for what their arguments name.
    waiting: Mutex<Waiting>,
    /// Those who wait for objects to be ready.
    waiters: Waiters,
    /// Results of tasks that wait for room.
    late: LateResults,
    /// Told when the end of a tenant's hold comes sooner than before.
    ends: tokio::sync::Notify,
}

/// An object's value, as long as this is held.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) meta: Meta,
    pub(crate) bytes: Stored,
}

/// Where the bytes of a value are.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Inline(bytes::Bytes),
    Pinned(Pin),
}

impl Value {
    /// The stored form.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Stored::Inline(bytes) => bytes,
            Stored::Pinned(pin) => pin,
        }
    }

    /// BLAKE3 of the stored form.
    pub(crate) async fn checksum(&self) -> [u8; 32] {
        match &self.bytes {
            Stored::Inline(bytes) => *blake3::hash(bytes).as_bytes(),
            // That of a large one takes a while the first time.
            Stored::Pinned(pin) if pin.len() > CHUNK_BYTES => aside(async { pin.checksum().0 }).await,
            Stored::Pinned(pin) => pin.checksum().0,
        }
    }
}

impl Objects {
    /// The objects of a node that begins: none.
    ///
    /// # Errors
    ///
    /// [`Code::NO_CAPACITY`](rwasm_types::Code::NO_CAPACITY) if the machine gives no thread.
    pub(crate) fn new(node: NodeId, store: Store, sessions: Arc<Mutex<Sessions>>) -> Result<Self> {
        let mut directory = Directory::new(node);
        // Nothing of an earlier life is left: objects lie in memory, and what other nodes have they have for their own jobs.
        directory.recovered();
        Ok(Self {
            node,
            _keeper: store.keep()?,
            sessions,
            next: Mutex::default(),
            beside: Beside::new(store.usage().capacity_bytes),
            store,
            directory: Mutex::new(directory),
            fetched: Fetched::default(),
            tell: Tell::default(),
            serving: Serving::default(),
            drivers: AtomicU64::new(0),
            holding: Mutex::default(),
            holding_count: AtomicU64::new(0),
            waiting: Mutex::default(),
            waiters: Waiters::default(),
            late: LateResults::default(),
            ends: tokio::sync::Notify::new(),
        })
    }

    /// The id of the next object that is put. Sessions are never given twice, so neither are these.
    ///
    /// # Errors
    ///
    /// If no numbers can be reserved on disk.
    pub(crate) fn next_id(&self) -> Result<ObjectId> {
        let mut next = self.next.lock();
        let task = match *next {
            Some(task) => task,
            None => TaskId { owner: self.node, session: self.sessions.lock().next()?, sequence: 0 },
        };
        *next = Some(TaskId { sequence: task.sequence + 1, ..task });
        Ok(task.object(0))
    }

    /// Does something with the directory, and what that has to be done.
    fn with<T>(&self, work: impl FnOnce(&mut Directory) -> T) -> T {
        self.with_then(work, || ())
    }

    /// The same, and something more under the same lock.
    fn with_then<T>(&self, work: impl FnOnce(&mut Directory) -> T, then: impl FnOnce()) -> T {
        let (mut settled, mut deleted, mut given_up) = (Vec::new(), Vec::new(), Vec::new());
        let result = {
            let mut directory = self.directory.lock();
            let result = work(&mut directory);
            // Under the lock, for what others are told, and which copies are here, is in the order of what the directory came to.
            for action in directory.take_actions() {
                match action {
                    Action::Delete(object) => match self.fetched.give_up(object) {
                        // Its memory is held until later, so this takes no time.
                        (true, copy) => {
                            self.store.delete(object);
                            given_up.extend(copy);
                        }
                        (false, _) => deleted.push(object),
                    },
                    Action::Send(node, message) => self.tell.send(node, message),
                    Action::Ready(object) | Action::Lost(object) => settled.push(object),
                    // Whoever pulls asks its owner, who knows better by then.
                    Action::Places(..) => {}
                }
            }
            then();
            result
        };
        for object in deleted {
            self.store.delete(object);
        }
        drop(given_up);
        settled.into_iter().for_each(|object| self.waiters.settled(object));
        result
    }

    /// The value of an object whose bytes are here, if it is ready.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`](rwasm_types::Code::NO_SUCH_OBJECT), or [`Code::OBJECT_LOST`](rwasm_types::Code::OBJECT_LOST).
    pub(crate) fn look(&self, tenant: &Tenant, id: ObjectId) -> Result<Option<Value>> {
        let meta = match self.directory.lock().look(tenant, id) {
            // A copy for a task of another owner, which alone knows of it.
            None => return self.fetched.look(tenant, id).map(Some).ok_or_else(|| not_found(id)),
            Some(State::Pending) => return Ok(None),
            Some(State::Lost(error)) => return Err(error.clone()),
            Some(State::Ready(meta)) => meta.clone(),
        };
        if let Some(bytes) = &meta.inline {
            return Ok(Some(Value { bytes: Stored::Inline(bytes.clone()), meta }));
        }
        if let Some(value) = self.fetched.look(tenant, id) {
            return Ok(Some(value));
        }
        let pin = self.store.get(tenant, id).map_err(|error| not_found(id).context(error.message()))?;
        Ok(Some(Value { meta, bytes: Stored::Pinned(pin) }))
    }

    /// Whether an object's bytes are here, and not as a copy that could go.
    fn is_here(&self, tenant: &Tenant, id: ObjectId) -> bool {
        let inline = matches!(self.directory.lock().look(tenant, id), Some(State::Ready(Meta { inline: Some(_), .. })));
        inline || (!self.fetched.has(id) && self.store.info(tenant, id).is_ok())
    }

    /// The descriptor of an object's type, if it is ready.
    ///
    /// # Errors
    ///
    /// As [`Objects::look`].
    pub(crate) fn descriptor(&self, tenant: &Tenant, id: ObjectId) -> Result<Option<bytes::Bytes>> {
        match self.directory.lock().look(tenant, id) {
            None => Err(not_found(id)),
            Some(State::Pending) => Ok(None),
            Some(State::Lost(error)) => Err(error.clone()),
            Some(State::Ready(meta)) => Ok(Some(meta.descriptor.clone())),
        }
    }

    /// Holds an object. One of another owner is pending until that has answered.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`](rwasm_types::Code::NO_SUCH_OBJECT), or that there is no room to know of one more.
    pub(crate) fn hold(&self, tenant: &Tenant, id: ObjectId, holder: Holder) -> Result<()> {
        self.with(|directory| self.hold_in(directory, tenant, id, holder))
    }

    /// Lets go of an object.
    pub(crate) fn release_held(&self, id: ObjectId, holder: Holder) {
        self.with(|directory| directory.release(id, holder));
    }

    /// A task holds all that its arguments name, until it has ended and [`Objects::let_go`] is said.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`](rwasm_types::Code::NO_SUCH_OBJECT) for the first that is not there; then it holds nothing.
    pub(crate) fn hold_for(&self, tenant: &Tenant, task: TaskId, objects: impl Iterator<Item = ObjectId>) -> Result<()> {
        let objects: Vec<ObjectId> = objects.collect();
        let held = self.with(|directory| {
            let holder = Holder::Task(task);
            let held = objects.iter().try_for_each(|id| self.hold_in(directory, tenant, *id, holder));
            if held.is_err() {
                directory.release_all(holder);
            }
            held
        });
        if held.is_ok() && self.holding.lock().insert(task) {
            self.holding_count.fetch_add(1, Relaxed);
        }
        held
    }

    /// Tasks have ended: those of them that hold something, to be let go of by [`Objects::let_go`].
    pub(crate) fn tasks_ended(&self, tasks: impl Iterator<Item = TaskId>) -> Vec<TaskId> {
        if self.holding_count.load(Relaxed) == 0 {
            return Vec::new();
        }
        let mut holding = self.holding.lock();
        let ended: Vec<TaskId> = tasks.filter(|task| holding.remove(task)).collect();
        self.holding_count.fetch_sub(ended.len() as u64, Relaxed);
        ended
    }

    /// Lets go of what tasks that have ended held. Memory may be unmapped for that, which takes its time.
    pub(crate) fn let_go(&self, ended: &[TaskId]) {
        if !ended.is_empty() {
            self.with(|directory| ended.iter().for_each(|task| directory.release_all(Holder::Task(*task))));
        }
    }

    /// A job has ended. What its results name stays with its tenant for a while, so that somebody can still take it.
    pub(crate) fn job_ended(&self, job: JobId) {
        let until = now_ms().saturating_add(millis(RESULTS_KEPT));
        let kept = self.with(|directory| {
            directory.release_all(Holder::Job(job));
            directory.keep_results(job, until)
        });
        if kept {
            self.ends.notify_one();
        }
    }

    /// Has a tenant hold an object for some time from now.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`](rwasm_types::Code::NO_SUCH_OBJECT).
    pub(crate) fn keep(&self, tenant: &Tenant, id: ObjectId, within: Duration) -> Result<()> {
        let until = now_ms().saturating_add(millis(within));
        self.with(|directory| directory.keep_until(tenant, id, until))?;
        self.ends.notify_one();
        Ok(())
    }

    /// Ends tenants' holds when their time is over, for as long as the node runs.
    pub(crate) async fn expire(self: Arc<Self>) {
        loop {
            let next: Option<UnixMs> = self.directory.lock().next_end();
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep(Duration::from_millis(next.saturating_sub(now_ms())).min(LOOK_AT_LATEST)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => self.with(|directory| directory.expire(now_ms())),
                () = self.ends.notified() => {}
            }
        }
    }

    /// All that a deleted tenant has.
    pub(crate) fn purge(&self, tenant: &Tenant) {
        self.with(|directory| directory.purge(tenant));
    }
}

/// How long a tenant holds what results of a job name that has ended.
const RESULTS_KEPT: Duration = Duration::from_secs(3600);
/// The longest sleep until a hold ends; then it is looked at again, for clocks are set.
const LOOK_AT_LATEST: Duration = Duration::from_secs(60);

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
