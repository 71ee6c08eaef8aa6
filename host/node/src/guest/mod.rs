//! What an attempt of a guest reaches of the cluster: the objects that it was passed or makes, and the tasks that it starts.
//!
//! ```text
//! guest ── handle ──▶ Reach ─┬─ objects.rs ──▶ Objects           held by the attempt
//!                            └─ tasks.rs ────▶ children.rs ──▶ a job of this node for all that tasks of one job start here
//! ```

pub(crate) mod children;
mod objects;
mod tasks;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use rwasm_objects::refs::Holder;
use rwasm_types::{ArtifactDigest, Grants, JobId, ObjectId, Result, TaskId, TaskOptions, Tenant};

use crate::{
    executor::{Item, LoadedCall, Slot},
    node::Shared,
    objects::{Copies, Objects, named, names_objects},
};

use self::{objects::Held, tasks::Started};

/// What tasks have from the one that starts them.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The job that a driver opened.
    pub(crate) root: JobId,
    pub(crate) artifact: ArtifactDigest,
    /// What the submit asked for.
    pub(crate) grants: Grants,
    pub(crate) options: TaskOptions,
}

/// What one attempt reaches.
pub(crate) struct Reach {
    /// This one, for what it gives out.
    me: Weak<Self>,
    objects: Arc<Objects>,
    host: Weak<Shared>,
    origin: Arc<Origin>,
    tenant: Tenant,
    task: TaskId,
    depth: u32,
    holder: Holder,
    /// What its arguments name.
    passed: BTreeSet<ObjectId>,
    /// Copies of others' objects among them.
    _copies: Copies,
    /// What it holds now: one of each, so that the last handle lets go of it.
    held: Mutex<HashMap<ObjectId, Weak<Held>>>,
    slot: Arc<dyn Slot>,
    /// The tasks that it started.
    started: Mutex<Vec<Started>>,
}

impl Reach {
    /// What an attempt reaches that begins.
    ///
    /// # Errors
    ///
    /// If its arguments are no message.
    pub(crate) fn new(call: &LoadedCall, item: &Item, slot: Arc<dyn Slot>) -> Result<Arc<Self>> {
        let passed = if names_objects(&item.args) { named(&item.args)?.into_iter().collect() } else { BTreeSet::new() };
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            objects: Arc::clone(&call.objects),
            host: Weak::clone(&call.host),
            origin: Arc::clone(&call.origin),
            tenant: call.tenant.clone(),
            task: item.task,
            depth: item.depth,
            holder: Holder::Attempt(item.task, item.attempt),
            passed,
            _copies: item.copies.clone(),
            held: Mutex::default(),
            slot,
            started: Mutex::default(),
        }))
    }

    /// The attempt waits for something that other tasks do, which may have its slot until what is given is dropped: also where the wait is
    /// given up.
    fn lend_slot(&self) -> impl Drop {
        struct Lent<'a>(&'a dyn Slot);
        impl Drop for Lent<'_> {
            fn drop(&mut self) {
                self.0.resume();
            }
        }
        self.slot.block();
        Lent(&*self.slot)
    }
}
