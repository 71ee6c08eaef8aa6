//! What an attempt that runs here reaches of the cluster's objects: what it was passed, and what it makes.
//!
//! ```text
//!                    hold                           Outcome::held
//! guest ── handle ────────▶ Attempt(task, attempt) ──────────────▶ until the task's owner has heard, and holds it itself
//! ```
//!
//! What a guest makes belongs to the node that it runs on, whoever owns its task: what is used and dropped on the way is never spoken of
//! outside of it.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use rwasm_engine::objects::{self as guest, Draft, Info, Region, Sealed, Waits};
use rwasm_objects::refs::{Holder, not_found};
use rwasm_types::{ObjectId, Result, Tenant};
use rwasm_values::Type;

use super::{Copies, FOREVER, Incoming, Objects, Stored, Value, named, names_objects};
use crate::executor::Item;

/// What an attempt of a task reaches.
pub(crate) struct GuestObjects(Arc<Reached>);

struct Reached {
    objects: Arc<Objects>,
    tenant: Tenant,
    holder: Holder,
    /// What its arguments name.
    passed: BTreeSet<ObjectId>,
    _copies: Copies,
    /// What it holds now: one of each, so that the last handle lets go of it.
    held: Mutex<HashMap<ObjectId, Weak<Held>>>,
}

impl GuestObjects {
    /// What an attempt reaches that begins.
    ///
    /// # Errors
    ///
    /// If its arguments are no message.
    pub(crate) fn new(objects: &Arc<Objects>, tenant: &Tenant, item: &Item) -> Result<Self> {
        let passed = if names_objects(&item.args) { named(&item.args)?.into_iter().collect() } else { BTreeSet::new() };
        Ok(Self(Arc::new(Reached {
            objects: Arc::clone(objects),
            tenant: tenant.clone(),
            holder: Holder::Attempt(item.task, item.attempt),
            passed,
            _copies: item.copies.clone(),
            held: Mutex::default(),
        })))
    }
}

impl Reached {
    /// Holds an object, or finds that it is held.
    fn hold(self: &Arc<Self>, id: ObjectId) -> Result<Arc<Held>> {
        let mut held = self.held.lock();
        match held.entry(id) {
            Entry::Occupied(mut known) => {
                if let Some(held) = known.get().upgrade() {
                    return Ok(held);
                }
                // The last handle is being dropped. It finds that its hold has passed on to this one.
                let (renewed, weak) = self.begin(id)?;
                known.insert(weak);
                Ok(renewed)
            }
            Entry::Vacant(new) => {
                let (begun, weak) = self.begin(id)?;
                new.insert(weak);
                Ok(begun)
            }
        }
    }

    fn begin(self: &Arc<Self>, id: ObjectId) -> Result<(Arc<Held>, Weak<Held>)> {
        // What others own, the task holds at its owner, and there is a copy of it here.
        if id.task.owner == self.objects.node {
            self.objects.hold(&self.tenant, id, self.holder)?;
        }
        let held = Arc::new(Held { reached: Arc::clone(self), id });
        let weak = Arc::downgrade(&held);
        Ok((held, weak))
    }
}

impl guest::Objects for GuestObjects {
    fn open(&self, id: ObjectId) -> Result<Arc<dyn guest::Object>> {
        if !self.0.passed.contains(&id) {
            return Err(not_found(id));
        }
        Ok(self.0.hold(id)?)
    }

    fn create<'a>(&'a self, ty: &'a Type, size: u64) -> Waits<'a, Box<dyn Draft>> {
        Box::pin(async move {
            let Reached { objects, tenant, .. } = &*self.0;
            let incoming = Incoming::begin(objects, tenant, objects.next_id()?, (ty.encode().into(), Vec::new()), size).await?;
            Ok(Box::new(Making { reached: Arc::clone(&self.0), incoming }) as Box<dyn Draft>)
        })
    }
}

/// An object that an attempt holds.
struct Held {
    reached: Arc<Reached>,
    id: ObjectId,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id, f)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Reached { objects, holder, held, .. } = &*self.reached;
        let mut held = held.lock();
        if held.get(&self.id).is_some_and(|known| std::ptr::eq(known.as_ptr(), self)) {
            held.remove(&self.id);
            objects.release_held(self.id, *holder);
        }
    }
}

impl Held {
    async fn value(&self) -> Result<Value> {
        let Reached { objects, tenant, .. } = &*self.reached;
        match objects.look(tenant, self.id)? {
            Some(value) => Ok(value),
            None => {
                objects.ready(tenant, self.id, FOREVER).await?;
                objects.look(tenant, self.id)?.ok_or_else(|| not_found(self.id))
            }
        }
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
    reached: Arc<Reached>,
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
            let Self { reached, incoming } = *self;
            // The engine has looked through it.
            let id = incoming.seal_checked(&reached.objects, reached.holder)?;
            let held = reached.hold(id);
            // Two holds by the same holder are one.
            Ok(held? as Arc<dyn guest::Object>)
        })
    }
}
