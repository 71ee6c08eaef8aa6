//! Objects at this node: the store that has their bytes, the directory that knows who holds them, and those who wait for them.
//!
//! ```text
//!  gateway ── put, get ──▶ Objects ──▶ Store        bytes in shared memory
//!  jobs ───── hold, end ─▶    │
//!                             └──────▶ Directory    who holds what; actions: delete, tell others
//! ```

mod args;
mod beside;
mod fetch;
mod list;
mod put;
mod send;
mod settle;
#[cfg(test)]
mod tests;
mod wait;

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
use rwasm_types::{Code, Error, JobId, NodeId, ObjectId, Result, TaskId, Tenant, api::UnixMs};
use rwasm_wire::CHUNK_BYTES;

use crate::sessions::Sessions;

pub(crate) use self::wait::FOREVER;
pub(crate) use self::{
    args::{inlined, named, names_objects},
    fetch::{Copies, Owner},
    put::Incoming,
    send::send,
    wait::Cancelled,
};
use self::{beside::Beside, fetch::Fetched, settle::Waiters, wait::Waiting};

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
    /// Copies of others' objects, for tasks of theirs that run here.
    fetched: Fetched,
    /// Tasks that hold something, so that the end of others costs nothing.
    holding: Mutex<HashSet<TaskId>>,
    /// How many there are, to be looked at without the lock.
    holding_count: AtomicU64,
    /// Tasks that wait for what their arguments name.
    waiting: Mutex<Waiting>,
    /// Those who wait for objects to be ready.
    waiters: Waiters,
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
    /// [`Code::NO_CAPACITY`] if the machine gives no thread.
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
            holding: Mutex::default(),
            holding_count: AtomicU64::new(0),
            waiting: Mutex::default(),
            waiters: Waiters::default(),
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
        let (result, actions) = {
            let mut directory = self.directory.lock();
            let result = work(&mut directory);
            (result, directory.take_actions())
        };
        for action in actions {
            match action {
                Action::Delete(object) => {
                    self.store.delete(object);
                }
                Action::Ready(object) | Action::Lost(object) => self.waiters.settled(object),
                Action::Send(..) | Action::Places(..) => {}
            }
        }
        result
    }

    /// Waits until an object of this node is ready, and gives its value.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`], [`Code::OBJECT_LOST`], or [`Code::OBJECT_DEADLINE`] if it is not ready within that time.
    pub(crate) async fn get(&self, tenant: &Tenant, id: ObjectId, within: Duration) -> Result<Value> {
        self.owns(id)?;
        let ready = async {
            loop {
                let waiter = self.waiters.wait_for([id]);
                if let Some(value) = self.look(tenant, id)? {
                    return Ok(value);
                }
                waiter.next().await;
            }
        };
        tokio::time::timeout(within, ready).await.unwrap_or_else(|_elapsed| Err(late(id, within)))
    }

    /// Says where to go with an object of another owner. A copy may be here for tasks of that owner; it is not there for anybody else.
    fn owns(&self, id: ObjectId) -> Result<()> {
        if id.task.owner == self.node {
            return Ok(());
        }
        Err(not_found(id)
            .hint(format!("it is known at node {owner}, where it was put: go through that node's gateway", owner = id.task.owner)))
    }

    /// The value of an object of this node, or of a copy for a task here, if it is ready.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`], or [`Code::OBJECT_LOST`].
    pub(crate) fn look(&self, tenant: &Tenant, id: ObjectId) -> Result<Option<Value>> {
        if id.task.owner != self.node {
            return self.fetched.look(tenant, id).map(Some);
        }
        let meta = match self.directory.lock().look(tenant, id) {
            None => return Err(not_found(id)),
            Some(State::Pending) => return Ok(None),
            Some(State::Lost(error)) => return Err(error.clone()),
            Some(State::Ready(meta)) => meta.clone(),
        };
        let bytes = match &meta.inline {
            Some(bytes) => Stored::Inline(bytes.clone()),
            None => Stored::Pinned(self.store.get(tenant, id).map_err(|error| not_found(id).context(error.message()))?),
        };
        Ok(Some(Value { meta, bytes }))
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

    /// Holds an object.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`].
    pub(crate) fn hold(&self, tenant: &Tenant, id: ObjectId, holder: Holder) -> Result<()> {
        self.with(|directory| directory.hold(tenant, id, holder))
    }

    /// Lets go of an object.
    pub(crate) fn release_held(&self, id: ObjectId, holder: Holder) {
        self.with(|directory| directory.release(id, holder));
    }

    /// A task holds all that its arguments name, until it has ended and [`Objects::let_go`] is said.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`] for the first that is not there; then it holds nothing.
    pub(crate) fn hold_for(&self, tenant: &Tenant, task: TaskId, objects: impl Iterator<Item = ObjectId>) -> Result<()> {
        let objects: Vec<ObjectId> = objects.collect();
        objects.iter().try_for_each(|id| self.owns(*id))?;
        let held = self.with(|directory| {
            let holder = Holder::Task(task);
            let held = objects.iter().try_for_each(|id| directory.hold(tenant, *id, holder));
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
    /// [`Code::NO_SUCH_OBJECT`].
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

fn late(id: ObjectId, within: Duration) -> Error {
    let message = format!("object {id} was not ready within {}", rwasm_types::format_duration(within));
    Error::new(Code::OBJECT_DEADLINE, message).hint("the task that makes it has not ended; `rwasm why` says why").with("object", id)
}
