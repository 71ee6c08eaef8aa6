//! Copies of objects that other nodes own, for tasks of theirs that run here. A copy is pulled once for all tasks that need it at the same
//! time, straight from its owner, and stays for a while after the last of them, for the next.
//!
//! What holds an object is the task at its owner: a copy here holds nothing, and nobody counts on it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_objects::refs::not_found;
use rwasm_types::{Code, Error, NodeId, ObjectId, Result, Tenant};
use rwasm_wire::{convert, msg};
use tokio::sync::{Semaphore, watch};

use super::{Incoming, Objects, Value, beside::Taken};
use crate::node::Shared;

/// How long a copy stays that no task needs.
const LINGER: Duration = Duration::from_secs(10);
/// How often is looked for such copies.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Objects that are pulled at once; the others wait.
const PULLS_MAX: usize = 8;
/// How often a pull goes on after its connection broke, and the pause before.
const TRIES: u32 = 5;
const RETRY: Duration = Duration::from_millis(200);

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
    Coming(watch::Receiver<()>),
    Here {
        value: Value,
        _taken: Taken,
        needed_by: usize,
        idle_since: Instant,
    },
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
}

impl Drop for Needed {
    fn drop(&mut self) {
        let Some(objects) = self.objects.upgrade() else { return };
        let mut copies = objects.fetched.copies.lock();
        for id in &self.ids {
            if let Some(Fetching::Here { needed_by, idle_since, .. }) = copies.get_mut(id) {
                *needed_by = needed_by.saturating_sub(1);
                *idle_since = Instant::now();
            }
        }
    }
}

/// Where objects are pulled from.
pub(crate) struct Owner<'a> {
    pub(crate) node: NodeId,
    pub(crate) address: &'a str,
}

impl Fetched {
    pub(super) fn look(&self, tenant: &Tenant, id: ObjectId) -> Result<Value> {
        match self.copies.lock().get(&id) {
            Some(Fetching::Here { value, .. }) if value.meta.tenant == *tenant => Ok(value.clone()),
            _ => Err(not_found(id)),
        }
    }
}

impl Objects {
    /// Removes copies that no task has needed for so long; says whether there were any.
    pub(super) fn forget_fetched(&self, idle: Duration) -> bool {
        let gone: Vec<ObjectId> = {
            let mut copies = self.fetched.copies.lock();
            let old =
                |fetching: &Fetching| matches!(fetching, Fetching::Here { needed_by: 0, idle_since, .. } if idle_since.elapsed() >= idle);
            copies.extract_if(|_, fetching| old(fetching)).map(|(id, _)| id).collect()
        };
        for id in &gone {
            self.store.delete(*id);
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
}

impl Shared {
    /// Has copies of an owner's objects here, for a task.
    ///
    /// # Errors
    ///
    /// What the owner says of one, or why it cannot be had.
    pub(crate) async fn fetch(self: &Arc<Self>, tenant: &Tenant, owner: &Owner<'_>, ids: Vec<ObjectId>) -> Result<Copies> {
        let mut needed = Needed { objects: Arc::downgrade(&self.objects), ids: Vec::with_capacity(ids.len()) };
        for id in ids {
            // A copy of this node's own object is where it was.
            if id.task.owner != self.id {
                self.fetch_one(tenant, owner, id).await?;
                needed.ids.push(id);
            }
        }
        Ok(Copies(Some(Arc::new(needed))))
    }

    async fn fetch_one(self: &Arc<Self>, tenant: &Tenant, owner: &Owner<'_>, id: ObjectId) -> Result<()> {
        let fetched = &self.objects.fetched;
        let _done = loop {
            let mut coming = match fetched.copies.lock().entry(id) {
                Entry::Occupied(mut entry) => match entry.get_mut() {
                    Fetching::Here { value, .. } if value.meta.tenant != *tenant => return Err(not_found(id)),
                    Fetching::Here { needed_by, .. } => {
                        *needed_by += 1;
                        return Ok(());
                    }
                    Fetching::Coming(coming) => coming.clone(),
                },
                Entry::Vacant(entry) => {
                    let (done, coming) = watch::channel(());
                    entry.insert(Fetching::Coming(coming));
                    break Done { objects: Arc::clone(&self.objects), id, done };
                }
            };
            // Ends with whoever pulls it, well or not.
            let _ = coming.changed().await;
        };
        let (value, _taken) = self.pull(tenant, owner, id).await?;
        fetched.copies.lock().insert(id, Fetching::Here { value, _taken, needed_by: 1, idle_since: Instant::now() });
        Ok(())
    }

    /// Pulls an object from its owner. Where the connection breaks, it goes on from there.
    async fn pull(self: &Arc<Self>, tenant: &Tenant, owner: &Owner<'_>, id: ObjectId) -> Result<(Value, Taken)> {
        let _turn = self.objects.fetched.pulls.acquire().await.map_err(|_closed| Error::internal("nothing more is pulled"))?;
        let mut so_far: Option<(Incoming, msg::ObjectHead)> = None;
        let mut tries = TRIES;
        loop {
            let broken = match self.pull_on(tenant, owner, id, &mut so_far).await {
                Ok(()) => break,
                Err(error) => error,
            };
            let may_pass = matches!(broken.code(), Code::CONNECTION_LOST | Code::UNREACHABLE | Code::DEADLINE);
            if !may_pass || tries == 0 {
                return Err(broken);
            }
            tries -= 1;
            tracing::debug!(%tenant, object = %id, from = %owner.node, error = %broken, "a pull broke; it goes on");
            tokio::time::sleep(RETRY).await;
        }
        let (incoming, head) = so_far.ok_or_else(|| not_found(id))?;
        let (value, taken) = incoming.checked(&self.objects).await?;
        if value.checksum().await[..] != head.checksum[..] {
            self.objects.store.delete(id);
            return Err(Error::new(Code::OBJECT_DAMAGED, format!("the bytes of object {id} that came are not those that were sealed")));
        }
        tracing::debug!(%tenant, object = %id, from = %owner.node, bytes = value.meta.size, "pulled an object");
        Ok((value, taken))
    }

    async fn pull_on(
        self: &Arc<Self>,
        tenant: &Tenant,
        owner: &Owner<'_>,
        id: ObjectId,
        so_far: &mut Option<(Incoming, msg::ObjectHead)>,
    ) -> Result<()> {
        let mut peer = self.peer(owner.node, owner.address).await?;
        let offset = so_far.as_ref().map_or(0, |(incoming, _)| incoming.written());
        let mut parts = peer.pull(tenant, id, offset).await?;
        let mut first = true;
        while let Some(part) = parts.next().await? {
            if first {
                let head = convert::required(part.head, "an object's head")?;
                match so_far {
                    None => {
                        let refs = head.refs.iter().map(|id| convert::object(id)).collect::<Result<Vec<_>>>()?;
                        let described = (head.descriptor.clone(), refs);
                        *so_far = Some((Incoming::begin(&self.objects, tenant, id, described, head.size).await?, head));
                    }
                    Some((_, known)) if *known == head => {}
                    Some(_) => return Err(convert::malformed("an object is another than it was")),
                }
                first = false;
            }
            if let Some((incoming, _)) = so_far {
                incoming.write(&part.data)?;
            }
        }
        match so_far {
            Some((incoming, head)) if incoming.written() == head.size => Ok(()),
            _ => Err(Error::new(Code::CONNECTION_LOST, format!("not all of object {id} came"))),
        }
    }
}

/// Tells those who wait for a pull that it is over; what did not come is not coming any more.
struct Done {
    objects: Arc<Objects>,
    id: ObjectId,
    done: watch::Sender<()>,
}

impl Drop for Done {
    fn drop(&mut self) {
        let mut copies = self.objects.fetched.copies.lock();
        if matches!(copies.get(&self.id), Some(Fetching::Coming(_))) {
            copies.remove(&self.id);
        }
        drop(copies);
        self.done.send_replace(());
    }
}
