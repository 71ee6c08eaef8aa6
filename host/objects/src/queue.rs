//! Who waits for room, and in which order they get it.
//!
//! Those of one tenant are served in the order in which they asked. Between tenants the order holds as well, with one exception: whoever
//! asks for more than its tenant's fair share holds up no other tenant. So the small ones of others pass a tenant that wants everything, and
//! nobody who wants little is passed by.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    task::Waker,
};

use rwasm_types::{Error, ObjectId, Result, Tenant};

use crate::{
    arena::{Room, Short},
    pin::Sealed,
    state::{After, OBJECTS_MAX, Place, Restoring, State, pages},
};

/// The most that wait at once; further ones are told at once that the store is full.
pub(crate) const WAITING_MAX: usize = 65_536;

/// What somebody waits for.
pub(crate) enum Purpose {
    /// Room for a new object.
    Create(ObjectId),
    /// Room for an object that is on disk.
    Restore(u64),
    /// That somebody else brings back an object.
    Watch(u64),
}

/// What came of it.
pub(crate) enum Outcome {
    /// Room for the object of that key.
    Room(u64, Room),
    /// The object is there, and counts one more reader.
    Pinned(u64, Arc<Sealed>),
    /// Whoever brought it back gave up.
    Again,
    Failed(Error),
}

struct Waiter {
    tenant: Tenant,
    size: u64,
    purpose: Purpose,
    waker: Option<Waker>,
}

/// Everybody who waits, by the order in which they came.
#[derive(Default)]
pub(crate) struct Queue {
    waiters: BTreeMap<u64, Waiter>,
    settled: HashMap<u64, Outcome>,
    next: u64,
    /// Pages that somebody waits for because the node's memory is used up.
    pub(crate) capacity: Option<u64>,
    /// Pages that somebody waits for because the tenant's part is.
    pub(crate) quotas: BTreeMap<Tenant, u64>,
}

impl Queue {
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Whether what is there does not suffice for somebody.
    pub(crate) fn is_short(&self) -> bool {
        self.capacity.is_some() || !self.quotas.is_empty()
    }

    fn settle(&mut self, ticket: u64, outcome: Outcome, after: &mut After) {
        let Some(waiter) = self.waiters.remove(&ticket) else { return };
        self.settled.insert(ticket, outcome);
        after.wakes.extend(waiter.waker);
        after.settled = true;
    }
}

/// What a reader finds.
pub(crate) enum Look {
    Pinned(u64, Arc<Sealed>),
    Room(u64, Room),
    Queued(u64),
}

impl State {
    /// A place in the queue; it may be served before this returns.
    pub(crate) fn enqueue(&mut self, tenant: &Tenant, size: u64, purpose: Purpose, after: &mut After) -> Result<u64> {
        if self.queue.waiters.len() >= WAITING_MAX {
            return Err(self.lack(tenant, size, Short::Capacity));
        }
        self.queue.next += 1;
        let ticket = self.queue.next;
        let room = !matches!(purpose, Purpose::Watch(_));
        self.queue.waiters.insert(ticket, Waiter { tenant: tenant.clone(), size, purpose, waker: None });
        if room {
            self.serve(after);
        }
        Ok(ticket)
    }

    /// Takes what came of a place in the queue, or leaves who is to be woken then.
    pub(crate) fn claim(&mut self, ticket: u64, waker: Option<&Waker>) -> Option<Outcome> {
        let outcome = self.queue.settled.remove(&ticket);
        if outcome.is_none()
            && let Some(waiter) = self.queue.waiters.get_mut(&ticket)
        {
            waiter.waker = waker.cloned();
        }
        outcome
    }

    /// Gives a place in the queue up, with what came of it meanwhile.
    pub(crate) fn cancel(&mut self, ticket: u64, after: &mut After) {
        match self.queue.settled.remove(&ticket) {
            None | Some(Outcome::Again | Outcome::Failed(_)) => {}
            Some(Outcome::Pinned(key, sealed)) => {
                drop(sealed);
                self.unpin(key, after);
            }
            Some(Outcome::Room(key, room)) => self.return_room(key, room, after),
        }
        match self.queue.waiters.remove(&ticket).map(|waiter| waiter.purpose) {
            None => {}
            Some(Purpose::Create(_)) => self.freed = true,
            Some(Purpose::Restore(key)) => {
                self.end_restore(key, &Outcome::Again, after);
                self.freed = true;
            }
            Some(Purpose::Watch(key)) => self.change(key, |record| {
                if let Some(restoring) = &mut record.restoring {
                    restoring.watchers.retain(|watcher| *watcher != ticket);
                }
            }),
        }
    }

    /// Takes back room that was granted and not used.
    pub(crate) fn return_room(&mut self, key: u64, room: Room, after: &mut After) {
        if self.records.get(&key).is_some_and(|record| matches!(record.place, Place::Disk { .. })) {
            self.give_back(room, after);
            self.end_restore(key, &Outcome::Again, after);
        } else {
            self.abandon(key, room, after);
        }
    }

    /// The error of somebody who waited for too long, or who does not wait.
    pub(crate) fn expired(&self, tenant: &Tenant, size: u64) -> Error {
        let own = self.arena.held(tenant).touched + pages(size) > self.most.quota;
        self.lack(tenant, size, if own { Short::Quota } else { Short::Capacity })
    }

    /// Grants what can be granted, in the order of the queue, and notes what is short.
    pub(crate) fn serve(&mut self, after: &mut After) {
        self.freed = false;
        self.queue.capacity = None;
        self.queue.quotas.clear();
        let mut blocked = BTreeSet::new();
        let mut last = 0;
        while let Some((ticket, waiter)) = self.queue.waiters.range(last + 1..).next() {
            let ticket = *ticket;
            last = ticket;
            if matches!(waiter.purpose, Purpose::Watch(_)) || blocked.contains(&waiter.tenant) {
                continue;
            }
            let (tenant, size) = (waiter.tenant.clone(), waiter.size);
            match self.grant(ticket, &tenant, size, after) {
                Ok(()) => {}
                Err(Short::Quota) => {
                    self.queue.quotas.insert(tenant.clone(), pages(size));
                    blocked.insert(tenant);
                }
                Err(Short::Capacity) => {
                    self.queue.capacity.get_or_insert_with(|| pages(size));
                    let share = self.most.capacity / self.tenants().max(1) as u64;
                    if self.arena.held(&tenant).live + pages(size) <= share {
                        break;
                    }
                    blocked.insert(tenant);
                }
                Err(short @ Short::Kernel(_)) => {
                    let error = self.lack(&tenant, size, short);
                    self.fail(ticket, error, after);
                }
            }
        }
    }

    fn grant(&mut self, ticket: u64, tenant: &Tenant, size: u64, after: &mut After) -> Result<(), Short> {
        let outcome = match self.queue.waiters.get(&ticket).map(|waiter| &waiter.purpose) {
            Some(Purpose::Create(id)) => {
                let id = *id;
                if let Err(error) = self.admits(id, size) {
                    Outcome::Failed(error)
                } else if self.records.len() >= OBJECTS_MAX {
                    return Err(Short::Capacity);
                } else {
                    let room = self.take(tenant, size, after)?;
                    Outcome::Room(self.begin(tenant, id, size), room)
                }
            }
            Some(Purpose::Restore(key)) => {
                let key = *key;
                let room = self.take(tenant, size, after)?;
                self.change(key, |record| record.restoring.get_or_insert_default().reading = true);
                Outcome::Room(key, room)
            }
            None | Some(Purpose::Watch(_)) => return Ok(()),
        };
        self.queue.settle(ticket, outcome, after);
        Ok(())
    }

    fn fail(&mut self, ticket: u64, error: Error, after: &mut After) {
        if let Some(Purpose::Restore(key)) = self.queue.waiters.get(&ticket).map(|waiter| &waiter.purpose) {
            let key = *key;
            self.end_restore(key, &Outcome::Failed(error.clone()), after);
        }
        self.queue.settle(ticket, Outcome::Failed(error), after);
    }

    /// What a reader finds of a tenant's object: its bytes, room to bring them back to, or a place in the queue.
    pub(crate) fn look(&mut self, tenant: &Tenant, id: ObjectId, after: &mut After) -> Result<Look> {
        let (key, record) = self.find(tenant, id)?;
        let size = record.size;
        if let Some(sealed) = self.pin(key) {
            return Ok(Look::Pinned(key, sealed));
        }
        if self.records.get(&key).is_some_and(|record| record.restoring.is_some()) {
            let ticket = self.enqueue(tenant, size, Purpose::Watch(key), after)?;
            self.change(key, |record| record.restoring.get_or_insert_default().watchers.push(ticket));
            return Ok(Look::Queued(ticket));
        }
        self.change(key, |record| record.restoring = Some(Restoring::default()));
        let ticket = self.enqueue(tenant, size, Purpose::Restore(key), after).inspect_err(|_| {
            self.change(key, |record| record.restoring = None);
        })?;
        match self.queue.settled.remove(&ticket) {
            Some(Outcome::Room(key, room)) => Ok(Look::Room(key, room)),
            Some(Outcome::Failed(error)) => Err(error),
            Some(Outcome::Pinned(..) | Outcome::Again) | None => Ok(Look::Queued(ticket)),
        }
    }

    /// Tells those that wait for an object to come back what came of it.
    pub(crate) fn end_restore(&mut self, key: u64, outcome: &Outcome, after: &mut After) {
        let mut watchers = Vec::new();
        self.change(key, |record| watchers = record.restoring.take().map(|restoring| restoring.watchers).unwrap_or_default());
        for ticket in watchers {
            let outcome = match outcome {
                Outcome::Failed(error) => Outcome::Failed(error.clone()),
                Outcome::Pinned(..) => self.pin(key).map_or(Outcome::Again, |sealed| Outcome::Pinned(key, sealed)),
                Outcome::Room(..) | Outcome::Again => Outcome::Again,
            };
            self.queue.settle(ticket, outcome, after);
        }
        self.drop_if_unused(key, after);
    }

    /// Whether an object is on its way from disk at this moment.
    pub(crate) fn is_read(&self, tenant: &Tenant, id: ObjectId) -> bool {
        self.find(tenant, id).is_ok_and(|(_, record)| record.restoring.as_ref().is_some_and(|restoring| restoring.reading))
    }
}
