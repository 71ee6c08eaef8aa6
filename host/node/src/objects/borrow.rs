//! Objects that drivers and tasks of this node use, whoever owns them.
//!
//! Whoever uses one holds it here; if another node owns it, this node's directory borrows it there, and hears what it is or that it is not there.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rwasm_objects::refs::{Directory, Holder, Message, Meta, State, not_found, row_bytes};
use rwasm_types::{Code, Error, ObjectId, Result, Tenant, format_duration};

use super::{Objects, Owner, Value};
use crate::node::Shared;

/// How long a driver waits at least for what the owner of an object says of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often is looked whether somebody still holds what is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What somebody uses for a moment: held until this is dropped.
pub(crate) struct Holding {
    objects: Arc<Objects>,
    holder: Holder,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.objects.with(|directory| directory.release_all(self.holder));
    }
}

impl Objects {
    /// Has somebody hold an object.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`], or [`Code::STORE_FULL`] if so many are known here that there is no room for one more of another owner.
    pub(super) fn hold_in(&self, directory: &mut Directory, tenant: &Tenant, id: ObjectId, holder: Holder) -> Result<()> {
        if id.task.owner != self.node && directory.row(id).is_none() {
            let rows = row_bytes(&[], &[]).saturating_mul(directory.len() as u64 + 1);
            self.room_beside(directory, rows.saturating_sub(directory.bytes()))?;
        }
        directory.hold(tenant, id, holder)
    }

    /// What a directory lends may be too much: then it counts as gone, for this reason.
    pub(super) fn refuse_lent(&self, directory: &Directory, message: &Message) -> Option<(ObjectId, Message)> {
        let Message::Lent { object, number, meta, .. } = message else { return None };
        if directory.look(&meta.tenant, *object) != Some(&State::Pending) {
            return None;
        }
        let bytes = row_bytes(&meta.descriptor, &meta.refs) + meta.inline.as_ref().map_or(0, |inline| inline.len() as u64);
        let error = self.room_beside(directory, bytes).err()?;
        Some((*object, Message::Gone { object: *object, number: *number, error }))
    }

    /// Holds objects for as long as somebody uses them.
    ///
    /// # Errors
    ///
    /// As [`Objects::hold_in`]; then none is held.
    pub(crate) fn hold_while(self: &Arc<Self>, tenant: &Tenant, ids: &[ObjectId]) -> Result<Holding> {
        let holder = Holder::Driver(self.drivers.fetch_add(1, Relaxed));
        // Made first, so that what is held before one is refused is let go of.
        let holding = Holding { objects: Arc::clone(self), holder };
        self.with(|directory| ids.iter().try_for_each(|id| self.hold_in(directory, tenant, *id, holder)))?;
        Ok(holding)
    }

    /// Waits until an object that is held here is ready, and gives what it is.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`], [`Code::OBJECT_LOST`], or [`Code::OBJECT_DEADLINE`] if it is not ready within that time.
    pub(crate) async fn ready(&self, tenant: &Tenant, id: ObjectId, within: Duration) -> Result<Meta> {
        let foreign = id.task.owner != self.node;
        let within = if foreign { within.max(ANSWER_WITHIN) } else { within };
        let ready = async {
            loop {
                let waiter = self.waiters.wait_for([id]);
                match self.directory.lock().look(tenant, id) {
                    None => return Err(not_found(id)),
                    Some(State::Ready(meta)) => return Ok(meta.clone()),
                    Some(State::Lost(error)) => return Err(error.clone()),
                    Some(State::Pending) => {}
                }
                waiter.next().await;
            }
        };
        tokio::time::timeout(within, ready).await.unwrap_or_else(|_elapsed| Err(late(id, within, foreign)))
    }

    /// Waits until none of these objects is asked for any more: their owners have said what they are, or that they are gone, or nobody here
    /// holds them.
    pub(crate) async fn answered(&self, tenants: &[(Tenant, ObjectId)]) {
        for (tenant, id) in tenants {
            loop {
                let waiter = self.waiters.wait_for([*id]);
                if self.directory.lock().look(tenant, *id) != Some(&State::Pending) {
                    break;
                }
                // That nobody holds it any more is told to nobody.
                let _ = tokio::time::timeout(LOOK_EVERY, waiter.next()).await;
            }
        }
    }

    /// Whether this node decides about an object: it owns it, or has taken its owner's place.
    pub(crate) fn decides(&self, tenant: &Tenant, id: ObjectId) -> bool {
        self.directory.lock().row(id).is_some_and(|row| row.tenant == tenant && !row.borrowed)
    }
}

impl Shared {
    /// The value of an object, for a driver of this node: waits until it is ready, and gets its bytes from wherever they are.
    ///
    /// # Errors
    ///
    /// As [`Objects::ready`] and [`Shared::fetch`].
    pub(crate) async fn value(self: &Arc<Self>, tenant: &Tenant, id: ObjectId, within: Duration) -> Result<Value> {
        let _held = self.objects.hold_while(tenant, &[id])?;
        self.objects.ready(tenant, id, within).await?;
        let _copies = self.fetch(tenant, Owner { node: self.id, address: "" }, vec![id]).await?;
        self.objects.look(tenant, id)?.ok_or_else(|| not_found(id))
    }
}

fn late(id: ObjectId, within: Duration, foreign: bool) -> Error {
    let message = format!("object {id} was not ready within {}", format_duration(within));
    let hint = if foreign {
        format!("the task that makes it has not ended, or node {}, which owns it, does not answer", id.task.owner)
    } else {
        "the task that makes it has not ended; `rwasm why` says why".to_owned()
    };
    Error::new(Code::OBJECT_DEADLINE, message).hint(hint).with("object", id)
}
