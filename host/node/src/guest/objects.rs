//! An attempt's objects.
//!
//! ```text
//!                    hold                           Outcome::held
//! guest ── handle ────────▶ Attempt(task, attempt) ──────────────▶ until the task's owner has heard, and holds it itself
//! ```
//!
//! What a guest makes belongs to the node that it runs on, whoever owns its task: what is used and dropped on the way is never spoken of
//! outside of it.

use std::{
    collections::hash_map::Entry,
    fmt,
    sync::{Arc, Weak},
};

use rwasm_engine::objects::{self as guest, Draft, Info, Region, Sealed, Waits};
use rwasm_objects::refs::not_found;
use rwasm_types::{Error, ObjectId, Result};
use rwasm_values::Type;

use super::Reach;
use crate::objects::{FOREVER, Incoming, Stored, Value};

impl Reach {
    /// Holds an object, or finds that it is held.
    pub(super) fn hold(&self, id: ObjectId) -> Result<Arc<Held>> {
        self.hold_by(id, || {
            // What others own, the task holds at its owner, and there is a copy of it here.
            if id.task.owner == self.objects.node { self.objects.hold(&self.tenant, id, self.holder) } else { Ok(()) }
        })
    }

    /// The same, where `begin` begins the hold.
    pub(super) fn hold_by(&self, id: ObjectId, begin: impl FnOnce() -> Result<()>) -> Result<Arc<Held>> {
        let reach = self.me.upgrade().ok_or_else(|| Error::internal("an attempt that is over holds something"))?;
        let mut held = self.held.lock();
        let begun = || Arc::new(Held { reach, id });
        match held.entry(id) {
            Entry::Occupied(mut known) => {
                if let Some(held) = known.get().upgrade() {
                    return Ok(held);
                }
                // The last handle is being dropped. It finds that its hold has passed on to this one.
                begin()?;
                let renewed = begun();
                known.insert(Arc::downgrade(&renewed));
                Ok(renewed)
            }
            Entry::Vacant(place) => {
                begin()?;
                let begun = begun();
                place.insert(Arc::downgrade(&begun));
                Ok(begun)
            }
        }
    }
}

impl guest::Objects for Reach {
    fn open(&self, id: ObjectId) -> Result<Arc<dyn guest::Object>> {
        if !self.passed.contains(&id) {
            return Err(not_found(id));
        }
        Ok(self.hold(id)?)
    }

    fn create<'a>(&'a self, ty: &'a Type, size: u64) -> Waits<'a, Box<dyn Draft>> {
        Box::pin(async move {
            let reach = self.me.upgrade().ok_or_else(|| Error::internal("an attempt that is over makes something"))?;
            let id = self.objects.next_id()?;
            let incoming = Incoming::begin(&self.objects, &self.tenant, id, (ty.encode().into(), Vec::new()), size).await?;
            Ok(Box::new(Making { reach, incoming }) as Box<dyn Draft>)
        })
    }
}

/// An object that an attempt holds.
pub(super) struct Held {
    reach: Arc<Reach>,
    id: ObjectId,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id, f)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Reach { objects, holder, held, .. } = &*self.reach;
        let mut held = held.lock();
        if held.get(&self.id).is_some_and(|known| std::ptr::eq(Weak::as_ptr(known), self)) {
            held.remove(&self.id);
            objects.release_held(self.id, *holder);
        }
    }
}

impl Held {
    async fn value(&self) -> Result<Value> {
        let Reach { objects, tenant, host, .. } = &*self.reach;
        if let Ok(Some(value)) = objects.look(tenant, self.id) {
            return Ok(value);
        }
        // Of a task that has not ended, or of another node, which has to say what it is and to send its bytes.
        let host = host.upgrade().ok_or_else(|| not_found(self.id))?;
        let _lent = self.reach.lend_slot();
        host.value(tenant, self.id, FOREVER).await
    }
}

impl guest::Object for Held {
    fn id(&self) -> ObjectId {
        self.id
    }

    fn info(&self) -> Waits<'_, Info> {
        Box::pin(async move {
            let value = self.value().await?;
            Ok(Info { size: value.meta.size, value_type: Type::decode(&value.meta.descriptor)? })
        })
    }

    fn refs(&self) -> Waits<'_, Vec<Arc<dyn guest::Object>>> {
        Box::pin(async move {
            let value = self.value().await?;
            value.meta.refs.iter().map(|id| Ok(self.reach.hold(*id)? as Arc<dyn guest::Object>)).collect()
        })
    }

    fn bytes(&self) -> Waits<'_, Arc<dyn Sealed>> {
        Box::pin(async move { Ok(Arc::new(self.value().await?) as Arc<dyn Sealed>) })
    }
}

impl Sealed for Value {
    fn bytes(&self) -> &[u8] {
        Self::bytes(self)
    }

    fn region(&self) -> Option<Region<'_>> {
        match &self.bytes {
            Stored::Inline(_) => None,
            Stored::Pinned(pin) => Some(pin.region()),
        }
    }
}

/// A value that a guest writes.
struct Making {
    reach: Arc<Reach>,
    incoming: Incoming,
}

impl Draft for Making {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.incoming.write(bytes)
    }

    fn bytes(&mut self) -> &[u8] {
        self.incoming.so_far()
    }

    fn seal(self: Box<Self>) -> Waits<'static, Arc<dyn guest::Object>> {
        Box::pin(async move {
            let Self { reach, incoming } = *self;
            // The engine has looked through it.
            let id = incoming.seal_checked(&reach.objects, Some(reach.holder))?;
            // Two holds by the same holder are one.
            Ok(reach.hold(id)? as Arc<dyn guest::Object>)
        })
    }
}
