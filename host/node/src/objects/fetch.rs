//! Objects of other nodes that are here: for tasks of theirs that run here, and for drivers and tasks of this node.
//!
//! ```text
//! needed ─▶ coming ─▶ here, used ◀─▶ here, idle ─▶ gone, when those who know of the copy need it no more
//! ```
//!
//! A copy is pulled once for all who need it at the same time. Its owner is told of it, and so is the owner of the task that it is for: they
//! send others here for it, and have it dropped when nobody holds the object any more. One that nobody has used for a while, or whose room is
//! wanted, is offered to them; it goes when the bytes are elsewhere, too.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_objects::{
    Fetched as Found, Pin,
    refs::{Directory, State, not_found},
};
use rwasm_runtime::aside;
use rwasm_types::{Error, NodeId, ObjectId, Result, Tenant};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Coming, Objects, Owner, Stored, Value, args::named, beside::Taken, put::ROOM_WITHIN};
use crate::node::Shared;

/// How long a copy stays that nobody uses.
const LINGER: Duration = Duration::from_secs(60);
/// How often is looked for such copies.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Objects that are pulled at once; the others wait.
const PULLS_MAX: usize = 8;

/// The copies of a node.
pub(super) struct Fetched {
    copies: Mutex<HashMap<ObjectId, Fetching>>,
    pulls: Semaphore,
}

impl Default for Fetched {
    fn default() -> Self {
        Self { copies: Mutex::default(), pulls: Semaphore::new(PULLS_MAX) }
    }
}

enum Fetching {
    /// Somebody pulls it; whoever else needs it waits.
    Coming(Arc<Coming>),
    Here(Here),
}

struct Here {
    value: Value,
    _taken: Option<Taken>,
    used_by: usize,
    idle_since: Instant,
    /// The directory gave it up: it goes with the last who uses it.
    given_up: bool,
}

/// Copies that a task needs, as long as this is held. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Copies(#[expect(dead_code, reason = "held, and dropped at the end")] Option<Arc<Needed>>);

impl std::fmt::Debug for Copies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Copies").finish_non_exhaustive()
    }
}

struct Needed {
    objects: Weak<Objects>,
    ids: Vec<ObjectId>,
    /// What is this node's own, and stays in memory as long as it is needed.
    pins: Vec<Pin>,
}

impl Drop for Needed {
    fn drop(&mut self) {
        let Some(objects) = self.objects.upgrade() else { return };
        let gone: Vec<Fetching> = {
            let mut copies = objects.fetched.copies.lock();
            let unused = |id: &ObjectId| {
                let Entry::Occupied(mut entry) = copies.entry(*id) else { return None };
                let Fetching::Here(here) = entry.get_mut() else { return None };
                here.used_by = here.used_by.saturating_sub(1);
                here.idle_since = Instant::now();
                // What is this node's own stays in the store, as if it had been made here.
                let goes = here.given_up || id.task.owner == objects.node;
                (goes && here.used_by == 0).then(|| entry.remove())
            };
            self.ids.iter().filter_map(unused).collect()
        };
        // Memory may be unmapped, which takes its time.
        drop(gone);
    }
}

impl Fetched {
    /// Waits until one more object may be pulled.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        self.pulls.acquire().await.map_err(|_closed| Error::internal("nothing more is pulled"))
    }

    /// Whether there is such a copy, or one on its way.
    pub(super) fn has(&self, id: ObjectId) -> bool {
        self.copies.lock().contains_key(&id)
    }

    /// The value of a copy.
    pub(super) fn look(&self, tenant: &Tenant, id: ObjectId) -> Option<Value> {
        match self.copies.lock().get(&id) {
            Some(Fetching::Here(here)) if here.value.meta.tenant == *tenant => Some(here.value.clone()),
            _ => None,
        }
    }

    /// An object that is on its way here.
    pub(super) fn coming(&self, tenant: &Tenant, id: ObjectId) -> Option<Arc<Coming>> {
        match self.copies.lock().get(&id) {
            Some(Fetching::Coming(coming)) if coming.tenant() == tenant => Some(Arc::clone(coming)),
            _ => None,
        }
    }

    /// The directory has no use for a copy any more; called under its lock. Whether it is one of these, with what is to be dropped after.
    pub(super) fn give_up(&self, id: ObjectId) -> (bool, Option<impl Sized + use<>>) {
        let mut copies = self.copies.lock();
        let Entry::Occupied(mut entry) = copies.entry(id) else { return (false, None) };
        match entry.get_mut() {
            Fetching::Coming(_) => (true, None),
            Fetching::Here(here) if here.used_by > 0 => {
                here.given_up = true;
                (true, None)
            }
            Fetching::Here(_) => (true, Some(entry.remove())),
        }
    }
}

impl Objects {
    /// Removes copies that nobody has used for so long, or has those who know of them say whether they can go. Whether any went at once.
    pub(super) fn forget_fetched(&self, idle: Duration) -> bool {
        let mut spared = Vec::new();
        let gone: Vec<(ObjectId, Fetching)> = {
            // Both, so that nobody is told meanwhile that a copy is here.
            let directory = self.directory.lock();
            let mut copies = self.fetched.copies.lock();
            let goes = |id: &ObjectId, fetching: &mut Fetching| {
                let Fetching::Here(here) = fetching else { return false };
                let held = directory.copies(*id).any(|node| node == self.node);
                if here.used_by > 0 || here.idle_since.elapsed() < idle || held {
                    return false;
                }
                let kept = directory.is_kept(*id);
                if kept {
                    here.idle_since = Instant::now();
                    spared.push(*id);
                }
                !kept
            };
            let gone: Vec<(ObjectId, Fetching)> = copies.extract_if(goes).collect();
            // Each is held by its copy, so this takes no time.
            gone.iter().for_each(|(id, _)| {
                self.store.delete(*id);
            });
            gone
        };
        if !spared.is_empty() {
            self.with(|directory| spared.iter().for_each(|id| directory.spare(*id)));
        }
        !gone.is_empty()
    }

    /// Removes what is not needed any more, for as long as the node runs.
    pub(crate) async fn forget_idle(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let somebody_waits = self.store.usage().waiting > 0;
            self.forget_fetched(if somebody_waits { Duration::ZERO } else { LINGER });
        }
    }

    /// Has the bytes of an object of this node's store in memory, and keeps them there: they may be on disk, and others may have to make room
    /// first. What lies beside the store is always there.
    ///
    /// # Errors
    ///
    /// [`Code::STORE_FULL`](rwasm_types::Code::STORE_FULL) if no room came in time, or that the disk does not give it back.
    async fn bring(&self, tenant: &Tenant, id: ObjectId) -> Result<Option<Pin>> {
        if matches!(self.directory.lock().look(tenant, id), Some(State::Ready(meta)) if meta.inline.is_some()) {
            return Ok(None);
        }
        let mut fetching = self.store.fetch(tenant, id);
        let found = match tokio::time::timeout(ROOM_WITHIN, &mut fetching).await {
            Ok(found) => found?,
            Err(_elapsed) => return Err(fetching.expired()),
        };
        Ok(Some(match found {
            Found::Ready(pin) => pin,
            // As long as the disk takes.
            stored => aside(async { stored.into_pin() }).await?,
        }))
    }

    /// Keeps what a task's arguments name in memory for as long as it runs.
    ///
    /// # Errors
    ///
    /// As [`Objects::bring`].
    pub(crate) async fn bring_named(&self, tenant: &Tenant, args: &[u8]) -> Result<Vec<Pin>> {
        let mut pins = Vec::new();
        for id in named(args)? {
            pins.extend(self.bring_own(tenant, id).await?);
        }
        Ok(pins)
    }

    /// The same of one object, if it is in this node's store; what is here for others is held by their copy.
    pub(super) async fn bring_own(&self, tenant: &Tenant, id: ObjectId) -> Result<Option<Pin>> {
        if self.fetched.has(id) || !self.is_here(tenant, id) { Ok(None) } else { self.bring(tenant, id).await }
    }

    /// Tells those who need a copy that it is here: its owner, the owner of the task that it is for, and this node's own directory.
    fn register(&self, directory: &mut Directory, value: &Value, id: ObjectId, needed_by: NodeId) {
        if !matches!(value.bytes, Stored::Pinned(_)) {
            // What lies beside the store is wherever the object is known.
            return;
        }
        for node in [id.task.owner, needed_by] {
            if node != self.node {
                directory.copied(id, value.meta.clone(), node);
            }
        }
        if directory.look(&value.meta.tenant, id).is_some() {
            directory.copied(id, value.meta.clone(), self.node);
        }
    }

    /// An object came: it is used from now on.
    fn came(&self, id: ObjectId, (value, taken): (Value, Option<Taken>), needed_by: NodeId) {
        self.with(|directory| {
            self.register(directory, &value, id, needed_by);
            let here = Here { value, _taken: taken, used_by: 1, idle_since: Instant::now(), given_up: false };
            self.fetched.copies.lock().insert(id, Fetching::Here(here));
        });
    }

    /// A copy that is here is used for somebody else, too.
    fn used(&self, id: ObjectId, needed_by: NodeId) {
        self.with(|directory| {
            let value = match self.fetched.copies.lock().get(&id) {
                Some(Fetching::Here(here)) if !here.given_up => Some(here.value.clone()),
                _ => None,
            };
            if let Some(value) = value {
                self.register(directory, &value, id, needed_by);
            }
        });
    }
}

impl Shared {
    /// Has the bytes of objects here, for a task or a driver of an owner that holds them.
    ///
    /// # Errors
    ///
    /// What those say who have one, or why it cannot be had.
    pub(crate) async fn fetch(self: &Arc<Self>, tenant: &Tenant, owner: Owner<'_>, ids: Vec<ObjectId>) -> Result<Copies> {
        let mut needed = Needed { objects: Arc::downgrade(&self.objects), ids: Vec::with_capacity(ids.len()), pins: Vec::new() };
        for id in ids {
            if self.objects.is_here(tenant, id) {
                // Where it was made, or told with what it is.
                needed.pins.extend(self.objects.bring(tenant, id).await?);
                continue;
            }
            self.fetch_one(tenant, owner, id).await?;
            needed.ids.push(id);
        }
        Ok(Copies(Some(Arc::new(needed))))
    }

    async fn fetch_one(self: &Arc<Self>, tenant: &Tenant, owner: Owner<'_>, id: ObjectId) -> Result<()> {
        let fetched = &self.objects.fetched;
        let done = loop {
            let coming = match fetched.copies.lock().entry(id) {
                Entry::Occupied(mut entry) => match entry.get_mut() {
                    Fetching::Here(here) if here.value.meta.tenant != *tenant => return Err(not_found(id)),
                    Fetching::Here(here) => {
                        here.used_by += 1;
                        None
                    }
                    Fetching::Coming(coming) => Some(Arc::clone(coming)),
                },
                Entry::Vacant(entry) => {
                    let coming = Arc::new(Coming::new(tenant));
                    entry.insert(Fetching::Coming(Arc::clone(&coming)));
                    break Done { objects: Arc::clone(&self.objects), id, coming };
                }
            };
            match coming {
                // Ends with whoever pulls it, well or not.
                Some(coming) => coming.ended().await,
                None => {
                    self.objects.used(id, owner.node);
                    return Ok(());
                }
            }
        };
        let came = self.pull(tenant, owner, id, &done.coming).await?;
        self.objects.came(id, came, owner.node);
        Ok(())
    }
}

/// Tells those who wait for a pull that it is over; what did not come is not coming any more.
struct Done {
    objects: Arc<Objects>,
    id: ObjectId,
    coming: Arc<Coming>,
}

impl Drop for Done {
    fn drop(&mut self) {
        let mut copies = self.objects.fetched.copies.lock();
        if matches!(copies.get(&self.id), Some(Fetching::Coming(_))) {
            copies.remove(&self.id);
        }
        drop(copies);
        self.coming.end();
    }
}
