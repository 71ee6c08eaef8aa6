//! Objects that are not ready yet: those who wait for them, and results of tasks that become them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_objects::{
    may_wait,
    refs::{Holder, Meta, row_bytes},
};
use rwasm_runtime::{OnEnd, Scope};
use rwasm_types::{Error, ObjectId, Result, Tenant};
use rwasm_values::{
    Limits, Ref, Type,
    codec::{Payload, ResultView},
};
use tokio::sync::Notify;

use super::{Incoming, Objects};

/// Who waits for which objects.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<ObjectId, Vec<Arc<Settled>>>>);

/// What of that somebody waits for has come to be ready, or never will.
#[derive(Debug, Default)]
struct Settled {
    ids: Mutex<Vec<ObjectId>>,
    told: Notify,
}

/// A wait for some objects, until it is dropped.
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    ids: Vec<ObjectId>,
    settled: Arc<Settled>,
}

impl Waiters {
    /// Waits for objects from now on: what settles after this is heard.
    pub(super) fn wait_for(&self, ids: impl IntoIterator<Item = ObjectId>) -> Waiter<'_> {
        let (ids, settled): (Vec<ObjectId>, _) = (ids.into_iter().collect(), Arc::<Settled>::default());
        let mut waiters = self.0.lock();
        ids.iter().for_each(|id| waiters.entry(*id).or_default().push(Arc::clone(&settled)));
        drop(waiters);
        Waiter { waiters: self, ids, settled }
    }

    /// An object is ready, or never will be.
    pub(super) fn settled(&self, id: ObjectId) {
        let Some(told) = self.0.lock().remove(&id) else { return };
        for settled in told {
            settled.ids.lock().push(id);
            settled.told.notify_one();
        }
    }
}

impl Waiter<'_> {
    /// Waits until some of the objects have settled, and gives those.
    pub(super) async fn next(&self) -> Vec<ObjectId> {
        loop {
            let ids = std::mem::take(&mut *self.settled.ids.lock());
            if !ids.is_empty() {
                return ids;
            }
            self.settled.told.notified().await;
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiters = self.waiters.0.lock();
        for id in &self.ids {
            if let Some(waiting) = waiters.get_mut(id) {
                waiting.retain(|waiter| !Arc::ptr_eq(waiter, &self.settled));
                if waiting.is_empty() {
                    waiters.remove(id);
                }
            }
        }
    }
}

impl Objects {
    /// Waits until `count` of the objects are ready or never will be, but no longer than `within`; gives the positions of those that are. Where
    /// it has to wait, what `waits` gives is kept as long as it does.
    pub(crate) async fn settle<W>(
        &self,
        tenant: &Tenant,
        ids: &[ObjectId],
        count: usize,
        within: Option<Duration>,
        waits: impl FnOnce() -> W,
    ) -> Vec<u32> {
        let is_settled = |id: ObjectId| !matches!(self.look_at(tenant, id), Ok(false));
        let waiter = self.waiters.wait_for(ids.iter().copied().collect::<BTreeSet<_>>());
        let mut settled: BTreeSet<ObjectId> = ids.iter().copied().filter(|id| is_settled(*id)).collect();
        let positions = |settled: &BTreeSet<ObjectId>| -> Vec<u32> {
            (0..).zip(ids).filter(|(_, id)| settled.contains(id)).map(|(position, _)| position).collect()
        };
        let wanted = count.min(ids.len());
        let now = positions(&settled);
        if now.len() >= wanted || within == Some(Duration::ZERO) {
            return now;
        }
        let _waits = waits();
        let enough = async {
            // Counted anew only where more have settled than before.
            while settled.len() < wanted && positions(&settled).len() < wanted {
                settled.extend(waiter.next().await);
            }
        };
        match within {
            // The time being over is an answer, too.
            Some(within) => drop(tokio::time::timeout(within, enough).await),
            None => enough.await,
        }
        positions(&settled)
    }

    /// Whether an object is ready: one that is known here, or of which there is a copy for a task of another owner.
    fn look_at(&self, tenant: &Tenant, id: ObjectId) -> Result<bool> {
        match self.descriptor(tenant, id) {
            Ok(descriptor) => Ok(descriptor.is_some()),
            Err(_) => self.look(tenant, id).map(|value| value.is_some()),
        }
    }

    /// The result of a task is to become an object: until then it can be held and waited for.
    pub(crate) fn expect(&self, id: ObjectId, tenant: &Tenant, holder: Holder) {
        self.with(|directory| directory.expect(id, tenant, holder));
    }

    /// A task has ended: its result is an object from now on, if anybody still holds it; or it is when there is room for it.
    pub(crate) fn publish(&self, id: ObjectId, tenant: &Tenant, ty: Option<&Type>, result: Result<&Bytes, &Error>) {
        let published = result.map_err(Clone::clone).and_then(|message| match self.seal_result(id, tenant, ty, message) {
            Err(error) if may_wait(&error) => {
                self.late.add(Late { id, tenant: tenant.clone(), ty: ty.cloned(), message: message.clone() }, error)
            }
            sealed => sealed,
        });
        if let Err(error) = published {
            self.with(|directory| directory.fail(id, error));
        }
    }

    fn seal_result(&self, id: ObjectId, tenant: &Tenant, ty: Option<&Type>, message: &Bytes) -> Result<()> {
        let Parts { descriptor, refs, stored } = parts(ty, message)?;
        let taken = self.take_beside(row_bytes(&descriptor, &refs), stored.len() as u64)?;
        let inline = if taken.inline {
            Some(Bytes::copy_from_slice(stored))
        } else {
            let mut writer = self.store.create(tenant, id, stored.len() as u64)?;
            writer.write(stored)?;
            writer.seal(*blake3::hash(&descriptor).as_bytes(), refs.clone())?;
            None
        };
        let meta = Meta { tenant: tenant.clone(), descriptor, size: stored.len() as u64, refs: refs.into(), inline };
        self.with(|directory| directory.seal(id, meta, self.node, None)).inspect_err(|_refused| {
            self.store.delete(id);
        })
    }

    /// Results that wait for room become objects when they have it, for as long as the node runs.
    pub(crate) async fn publish_late(self: Arc<Self>, scope: Scope) {
        loop {
            let late = std::mem::take(&mut *self.late.waiting.lock());
            for late in late {
                let objects = Arc::clone(&self);
                scope.spawn("late-result", OnEnd::Continue, async move {
                    let id = late.id;
                    if let Err(error) = objects.seal_late(&late).await {
                        objects.with(|directory| directory.fail(id, error));
                    }
                    objects.late.bytes.fetch_sub(late.message.len() as u64, Relaxed);
                });
            }
            self.late.came.notified().await;
        }
    }

    async fn seal_late(&self, late: &Late) -> Result<()> {
        let Late { id, tenant, ty, message } = late;
        let Parts { descriptor, refs, stored } = parts(ty.as_ref(), message)?;
        let mut incoming = Incoming::begin(self, tenant, *id, (descriptor, refs), stored.len() as u64).await?;
        incoming.write(stored)?;
        incoming.seal_checked(self, None).map(drop)
    }
}

/// Bytes of results that wait for room.
const LATE_BYTES_MAX: u64 = 256 << 20;

/// Results that wait for room in the store.
#[derive(Debug, Default)]
pub(super) struct LateResults {
    waiting: Mutex<Vec<Late>>,
    bytes: AtomicU64,
    came: Notify,
}

#[derive(Debug)]
struct Late {
    id: ObjectId,
    tenant: Tenant,
    ty: Option<Type>,
    message: Bytes,
}

impl LateResults {
    /// A result waits, unless too many do: then for the reason that it was not stored at once.
    fn add(&self, late: Late, error: Error) -> Result<()> {
        let bytes = late.message.len() as u64;
        if self.bytes.fetch_add(bytes, Relaxed) + bytes > LATE_BYTES_MAX {
            self.bytes.fetch_sub(bytes, Relaxed);
            return Err(error);
        }
        self.waiting.lock().push(late);
        self.came.notify_one();
        Ok(())
    }
}

/// What of a result's message becomes an object.
struct Parts<'a> {
    descriptor: Bytes,
    refs: Vec<ObjectId>,
    stored: &'a [u8],
}

fn parts<'a>(ty: Option<&Type>, message: &'a Bytes) -> Result<Parts<'a>> {
    let view = ResultView::parse(ty, message, &Limits { bytes: message.len(), ..Limits::default() })?;
    // A function without a result has succeeded, and that is all.
    let nothing = Type::Result(Arc::default());
    let stored = view.payload().map_or(&[0][..], |payload: Payload<'a>| payload.stored());
    let refs = view.refs().iter().filter_map(|entry| if let Ref::Object(id) = entry { Some(id) } else { None }).collect();
    Ok(Parts { descriptor: ty.unwrap_or(&nothing).encode().into(), refs, stored })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use rwasm_types::{NodeId, TaskId};

    use super::*;

    fn id(sequence: u64) -> ObjectId {
        TaskId { owner: NodeId::FIRST, session: 1, sequence }.object(0)
    }

    #[tokio::test]
    async fn what_settles_is_heard_by_those_who_wait_for_it() {
        let waiters = Waiters::default();
        let (both, second) = (waiters.wait_for([id(1), id(2)]), waiters.wait_for([id(2)]));
        waiters.settled(id(1));
        waiters.settled(id(3));
        assert_eq!(both.next().await, [id(1)]);
        let mut waits = pin!(second.next());
        assert!(futures_poll(&mut waits).is_none());
        waiters.settled(id(2));
        assert_eq!((both.next().await, waits.await), (vec![id(2)], vec![id(2)]));
        drop((both, waiters.wait_for([id(4)])));
        assert!(waiters.0.lock().is_empty(), "nothing is left of waits that are over");
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        match std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(ready) => Some(ready),
            std::task::Poll::Pending => None,
        }
    }
}
